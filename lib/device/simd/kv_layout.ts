/** Where a token's keys and values are in the KV pool, in bytes. */

import { KV_BLOCK_SIZE, type KvDtype } from "../kernel_table.ts";

/** Keys of a key panel, values of a run. */
export const KV_RUN = 8;

/** The byte distances of one layer's pool. */
export interface KvLayout {
  readonly elementBytes: number;
  /** Eight elements: one d of a key panel, one run of a value row. */
  readonly runBytes: number;
  /** Eight keys, d-major. */
  readonly keyPanelBytes: number;
  /** One token's value. */
  readonly valueRowBytes: number;
  /** Keys, or values, of one KV head in one block. */
  readonly headBytes: number;
}

/** The layout of a dtype and head size. */
export function kvLayout(dtype: KvDtype, headDim: number): KvLayout {
  const elementBytes = dtype === "bf16" ? 2 : 4;
  const runBytes = KV_RUN * elementBytes;
  return {
    elementBytes,
    runBytes,
    keyPanelBytes: headDim * runBytes,
    valueRowBytes: headDim * elementBytes,
    headBytes: KV_BLOCK_SIZE * headDim * elementBytes,
  };
}
