/** Batch → device → rows: the engine's only hand on the device. */

import type { Batch } from "./batch.ts";

/** The logits of one step: float32 rows [vocabSize], valid until the next step runs. */
export interface Rows {
  readonly count: number;
  /** Row i belongs to `batch.outputRows[i]`. The caller must not write to it. */
  row(index: number): Float32Array;
}

/** What the engine may ask of device and model, and the limits it plans within. */
export interface Runner {
  /** KV blocks in the pool. Block ids are 0 … blockCount − 1. */
  readonly blockCount: number;
  /** Most sequences in one step. */
  readonly maxBatchSize: number;
  /** Most tokens in one step. */
  readonly maxTokensPerStep: number;
  /** Most rows of logits in one step. */
  readonly maxOutputRows: number;
  /** Longest context, prompt and output together. */
  readonly maxContextLength: number;
  /** Longest prompt. */
  readonly maxPromptLength: number;
  readonly vocabSize: number;
  run(batch: Batch): Promise<Rows>;
}
