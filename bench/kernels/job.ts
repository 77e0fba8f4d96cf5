/** What the workers of the kernel bench are told, and where things lie in the memory they share. */

import type { ActivationType } from "../../lib/device/activations.ts";
import type { WeightFormat } from "../../lib/device/block_formats.ts";
import type { Sample } from "./quiet.ts";

const MEBIBYTE = 1 << 20;

/** Most workers at once; each has scratch of its own. */
export const WORKERS_MAX = 8;
/** Most rows of activations. */
export const ROWS_MAX = 64;
/** Largest k. */
export const K_MAX = 1536;

/** Small operands lie low, weights above: far more of them than any cache holds. */
export const LAYOUT: Layout = {
  scratch: 0,
  scratchBytes: 4 * MEBIBYTE,
  x: 32 * MEBIBYTE,
  out: 34 * MEBIBYTE,
  tables: 50 * MEBIBYTE,
  kv: 52 * MEBIBYTE,
  weights: 64 * MEBIBYTE,
  end: (64 + 1024) * MEBIBYTE,
};

/** Addresses, and the bytes of each worker's scratch. */
interface Layout {
  readonly scratch: number;
  readonly scratchBytes: number;
  readonly x: number;
  readonly out: number;
  readonly tables: number;
  readonly kv: number;
  readonly weights: number;
  readonly end: number;
}

/** One thing to time. */
export type Run =
  /** The multiply-add loop, on every worker; as long as what it is held against, to be as disturbed. */
  | { readonly kind: "peak"; readonly iterations: number }
  /** Reads the weights of the products and does nothing else. */
  | { readonly kind: "read" }
  /** Multiplies; `workers` of them share the panels. */
  | {
    readonly kind: "multiply";
    readonly rowCount: number;
    readonly activations: ActivationType;
    readonly workers: number;
  }
  /** One layer's attention of SmolLM2-135M, all on the first worker. */
  | {
    readonly kind: "attend";
    readonly dtype: "bf16" | "f32";
    readonly context: number;
    readonly rowCount: number;
  };

/** Runs that take turns. */
export interface Job {
  readonly weight: { readonly format: WeightFormat; readonly n: number; readonly k: number };
  /** Whether it is one weight over and over, so that caches hold it, or one after another. */
  readonly isResident: boolean;
  /** Panels that one call multiplies with; divides those of a weight. */
  readonly callPanels: number;
  /** Calls of a sample: short samples are what can be quiet. */
  readonly calls: number;
  readonly runs: readonly Run[];
  /** Quiet samples wanted of each run, and the time after which there will be no more. */
  readonly wanted: number;
  readonly limitMs: number;
}

/** What a worker is sent first. */
export interface Start {
  readonly kind: "start";
  readonly memory: WebAssembly.Memory;
  /** The words that workers meet at. */
  readonly meeting: SharedArrayBuffer;
  readonly index: number;
  readonly count: number;
}

/** What it is sent from then on. */
export interface Work {
  readonly kind: "work";
  readonly job: Job;
}

/** What it answers: for each run its samples, or why there are none. */
export type Outcome =
  | { readonly kind: "ready" }
  | { readonly kind: "samples"; readonly samples: readonly (readonly Sample[])[] }
  | { readonly kind: "failed"; readonly message: string };

/** What a share of panels is for a worker: even halves, as the device cuts them. */
export function share(count: number, index: number, workers: number): [start: number, end: number] {
  if (index >= workers) return [0, 0];
  return [Math.floor(count * index / workers), Math.floor(count * (index + 1) / workers)];
}
