/** The paged store of keys and values: its layout as strides, and the kernel that writes into it. */

import { bf16ToF32, f32ToBf16 } from "../dtype.ts";
import { type Block, block, countToEnd, type IntVector, type Matrix } from "./ndarray.ts";

/** Tokens a block holds. */
export const BLOCK_TOKENS = 16;

/** One layer's keys and values as strided views. */
export interface KvCache {
  readonly dtype: "bf16" | "f32";
  readonly kvHeads: number;
  readonly headDim: number;
  /** [block][kvHead][panel 2][d][half 2][lane 4]: token t of a block is panel t >> 3, half t >> 2 & 1. */
  readonly keys: Block;
  /** [block][kvHead][token 16][run headDim/8][half 2][lane 4]: d is run d >> 3, half d >> 2 & 1. */
  readonly values: Block;
}

/**
 * Views over a pool that reaches as far as whole blocks fit into the memory.
 *
 * In bfloat16 eight neighbours lie in the order 0 4 1 5 2 6 3 7, in float32 as they are. Both are
 * two halves of four lanes; only the strides of half and lane differ.
 */
export function kvCache(
  buffer: ArrayBufferLike,
  shape: {
    readonly keys: number;
    readonly values: number;
    readonly dtype: "bf16" | "f32";
    readonly kvHeads: number;
    readonly headDim: number;
  },
): KvCache {
  const { dtype, kvHeads, headDim } = shape;
  const [half, lane] = dtype === "bf16" ? [1, 2] : [4, 1];
  const headSize = BLOCK_TOKENS * headDim;
  const blockSize = kvHeads * headSize;
  const blockBytes = blockSize * (dtype === "bf16" ? 2 : 4);
  const blocks = (address: number) => countToEnd(buffer, address, blockBytes);
  const keys = block(
    buffer,
    shape.keys,
    dtype,
    [blocks(shape.keys), kvHeads, 2, headDim, 2, 4],
    [blockSize, headSize, 8 * headDim, 8, half, lane],
  );
  const values = block(
    buffer,
    shape.values,
    dtype,
    [blocks(shape.values), kvHeads, BLOCK_TOKENS, headDim / 8, 2, 4],
    [blockSize, headSize, headDim, 8, half, lane],
  );
  return { dtype, kvHeads, headDim, keys, values };
}

/** Where element d of the key of one token is in `keys.data`. */
export function keyIndex(
  cache: KvCache,
  blockId: number,
  head: number,
  token: number,
  d: number,
): number {
  return cache.keys.index(blockId, head, token >> 3, d, (token >> 2) & 1, token & 3);
}

/** Where element d of the value of one token is in `values.data`. */
export function valueIndex(
  cache: KvCache,
  blockId: number,
  head: number,
  token: number,
  d: number,
): number {
  return cache.values.index(blockId, head, token, d >> 3, (d >> 2) & 1, d & 3);
}

/** One stored number as float32. */
export function readKv(cache: KvCache, view: Block, index: number): number {
  const stored = view.data[index]!;
  return cache.dtype === "bf16" ? bf16ToF32(stored) : stored;
}

/** Stores row r of k and v, kvHeads · headDim floats each, as token slots[r] = block · 16 + offset. */
export function writeKv(cache: KvCache, k: Matrix, v: Matrix, slots: IntVector): void {
  const rows = k.shape[0]!;
  for (let row = 0; row < rows; row++) {
    const slot = slots.get(row);
    const blockId = Math.floor(slot / BLOCK_TOKENS);
    const token = slot % BLOCK_TOKENS;
    for (let head = 0; head < cache.kvHeads; head++) {
      for (let d = 0; d < cache.headDim; d++) {
        const column = head * cache.headDim + d;
        cache.keys.data[keyIndex(cache, blockId, head, token, d)] = stored(
          cache,
          k.get(row, column),
        );
        cache.values.data[valueIndex(cache, blockId, head, token, d)] = stored(
          cache,
          v.get(row, column),
        );
      }
    }
  }
}

function stored(cache: KvCache, value: number): number {
  return cache.dtype === "bf16" ? f32ToBf16(value) : value;
}
