/** The turns of a plan, packed into the flat int32 arrays that one device step takes. */

import type { BucketKind } from "../device/bucket.ts";

/** One step's input: `tokenIds.length` rows, the tokens of all turns one after another. */
export interface Batch {
  /** `prefill`: every turn starts at position 0. `decode`: one token a turn. `append`: the rest. */
  readonly kind: BucketKind;
  /** [rows] */
  readonly tokenIds: Int32Array;
  /** [rows] position of the row's token in its sequence. */
  readonly positions: Int32Array;
  /** [rows] where the row's key and value go: block · 16 + offset. */
  readonly slots: Int32Array;
  /** [rows] index into `blockTables`. */
  readonly sequences: Int32Array;
  /** One a turn: the block ids of the sequence, as many as its context after this step needs. */
  readonly blockTables: readonly (readonly number[])[];
  /** Rows whose logits come back, ascending. May be empty. */
  readonly outputRows: Int32Array;
}
