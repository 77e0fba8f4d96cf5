/** The processing elements' parts of a row's summary, put together. */

import { invariant } from "../base/invariant.ts";
import {
  CHUNK_COLUMNS,
  type ChunkSum,
  joinChunks,
  type RowSummary,
  SUMMARY_NEED,
  SUMMARY_TOP_COUNT,
} from "../base/row_summary.ts";
import type { Operand } from "./compiler/wire.ts";
import { SUMMARY_PART, summaryChunkStart, summaryPartWords } from "./kernel_table.ts";

/** Which row's summary, of what, and how it was asked for. */
export interface JoinOptions {
  /** Index of the row among the outputs. */
  readonly index: number;
  /** Logits in the row. */
  readonly width: number;
  /** Processing elements that each hold a part. */
  readonly peCount: number;
  /** The row's `SUMMARY_NEED`. */
  readonly need: number | undefined;
}

/**
 * Merges the lists of the elements and adds up the sums of the chunks, in their order.
 *
 * The host does it, for the few rows that it looks at: a merge by one of the elements would cost
 * all of them a barrier, which takes longer.
 */
export function joinSummary(
  buffer: ArrayBufferLike,
  parts: Operand,
  { index, width, peCount, need }: JoinOptions,
): RowSummary | undefined {
  if (need === undefined || need === SUMMARY_NEED.nothing) return undefined;
  const words = summaryPartWords(width);
  const addresses: number[] = [];
  let list: List | undefined;
  let hasNaN = false;
  for (let pe = 0; pe < peCount; pe++) {
    const address = parts.address + pe * parts.copyBytes + index * parts.stride * 4;
    addresses.push(address);
    const integers = new Int32Array(buffer, address, words);
    const count = integers[SUMMARY_PART.topCount]!;
    const topIds = integers.subarray(SUMMARY_PART.topIds, SUMMARY_PART.topIds + count);
    const topLogits = new Float32Array(buffer, address + 4 * SUMMARY_PART.topLogits, count);
    list = list === undefined ? { topIds, topLogits } : merge(list, { topIds, topLogits });
    if (integers[SUMMARY_PART.hasNaN] !== 0) hasNaN = true;
  }
  invariant(list !== undefined, "A summary has no parts");
  const isCopy = peCount > 1;
  return {
    width,
    topIds: isCopy ? list.topIds : list.topIds.slice(),
    topLogits: isCopy ? list.topLogits : list.topLogits.slice(),
    hasNaN,
    logSumExp: need === SUMMARY_NEED.logprobs ? joinSums(buffer, addresses, width) : undefined,
  };
}

type List = Pick<RowSummary, "topIds" | "topLogits">;

/** The largest of both lists; of equal values that of the first, whose ids are lower. */
function merge(first: List, second: List): List {
  const a = first.topLogits;
  const b = second.topLogits;
  const length = Math.min(SUMMARY_TOP_COUNT, a.length + b.length);
  const topIds = new Int32Array(length);
  const topLogits = new Float32Array(length);
  let i = 0;
  let j = 0;
  for (let at = 0; at < length; at++) {
    const takesFirst = j === b.length || (i < a.length && a[i]! >= b[j]!);
    topLogits[at] = takesFirst ? a[i]! : b[j]!;
    topIds[at] = takesFirst ? first.topIds[i++]! : second.topIds[j++]!;
  }
  return { topIds, topLogits };
}

/** Chunk c of n is in the part of the element whose share of the chunks it is in. */
function joinSums(buffer: ArrayBufferLike, addresses: readonly number[], width: number): number {
  const chunkCount = Math.ceil(width / CHUNK_COLUMNS);
  const chunks: ChunkSum[] = [];
  for (const [pe, address] of addresses.entries()) {
    const end = summaryChunkStart(pe + 1, addresses.length, chunkCount);
    const view = new DataView(buffer, address);
    for (let chunk = chunks.length; chunk < end; chunk++) {
      const at = 4 * (SUMMARY_PART.chunks + chunk * SUMMARY_PART.chunkWords);
      chunks.push({ sum: view.getFloat64(at, true), max: view.getFloat32(at + 8, true) });
    }
  }
  return joinChunks(chunks);
}
