/** What a decoder of weights offers to the kernels that multiply and gather (`panel_decoder.ts`). */

import type { Body, Expr } from "./assembler.ts";

/** Eight weights of one k. */
export interface EightWeights {
  /** Runs before `low` and `high` are used. */
  readonly prepare: Body;
  /** Columns 0–3. */
  readonly low: Expr<"v128">;
  /** Columns 4–7. */
  readonly high: Expr<"v128">;
}

/** Emits the expansion of one format. */
export interface PanelDecoder {
  /** k covered by a step. */
  readonly stepK: number;
  /** Bytes of a step. */
  readonly stepBytes: number;
  /** Constants into locals: once a function. */
  readonly setup: Body;
  /** What a step needs before its weights: the block's scales. `step` points at the step. */
  begin(step: Expr<"i32">): Body;
  /** The order in which the k of a step are best asked for: ascending within each class mod 4. */
  readonly order: readonly number[];
  /** The weights of the i-th k of the step. */
  weights(step: Expr<"i32">, i: number): EightWeights;
  /** Of a decoder that can be wrong about rare values: see `createFastDecoder`. */
  readonly doubt?: Doubt;
  /** The power of two that values come divided by; 1 if it is left out. */
  readonly factor?: number;
}

/** How a decoder tells that it was wrong. */
export interface Doubt {
  /** Before a panel. */
  readonly reset: Body;
  /** After it: not zero if it has to be done again with a decoder from `createDecoder`. */
  readonly found: Expr<"i32">;
}
