/** What a part of the bench is given, and what it is to return. */

import type { ModelFiles } from "../models/model_files.ts";
import type { Finding, PartFindings, Table } from "../report/results.ts";

/** How to measure. */
export interface PartOptions {
  /** Rounds in which what is compared takes turns. */
  readonly rounds: number;
  /** The model in every format. */
  readonly models: ModelFiles;
  /** Tells the reader how it goes. */
  readonly say: (text: string) => void;
}

/** One part. */
export type MeasurePart = (options: PartOptions) => Promise<PartFindings>;

/** What one of several measurements of a part finds. */
export interface Share {
  readonly findings: readonly Finding[];
  readonly tables: readonly Table[];
  readonly facts?: PartFindings["facts"];
}
