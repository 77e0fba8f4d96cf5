/** How many KV blocks a window of tokens touches. */

import { KV_BLOCK_SIZE } from "./kernel_table.ts";

/** Blocks that a window and `chunkSize` tokens, the first of which sees it, touch wherever they lie. */
export function windowRoom(window: number, chunkSize: number): number {
  return Math.floor((window - 1 + chunkSize + KV_BLOCK_SIZE - 2) / KV_BLOCK_SIZE) + 1;
}

/**
 * The longest chunk, at most `chunkSize`, for which `blockCount` blocks are room enough; below 1
 * where they do not even hold the window of one token.
 */
export function windowChunkSize(window: number, blockCount: number, chunkSize: number): number {
  return Math.min(chunkSize, KV_BLOCK_SIZE * (blockCount - 1) + 2 - window);
}
