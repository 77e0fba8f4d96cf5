/** The processing elements' parts of a row's summary, put together. */

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
  const addresses = Array.from(
    { length: peCount },
    (_, pe) => parts.address + pe * parts.copyBytes + index * parts.stride * 4,
  );
  const integers = addresses.map((address) => new Int32Array(buffer, address, words));
  const floats = addresses.map((address) => new Float32Array(buffer, address, words));
  return {
    width,
    ...mergeLists(integers, floats),
    hasNaN: integers.some((part) => part[SUMMARY_PART.hasNaN] !== 0),
    logSumExp: need === SUMMARY_NEED.logprobs ? joinSums(buffer, addresses, width) : undefined,
  };
}

/** The largest of all lists; of equal values that of the earlier element, whose ids are lower. */
function mergeLists(
  integers: readonly Int32Array[],
  floats: readonly Float32Array[],
): Pick<RowSummary, "topIds" | "topLogits"> {
  const { topCount, topIds: idsAt, topLogits: logitsAt } = SUMMARY_PART;
  const counts = integers.map((part) => part[topCount]!);
  const places = counts.map(() => 0);
  const length = Math.min(SUMMARY_TOP_COUNT, counts.reduce((sum, count) => sum + count, 0));
  const topIds = new Int32Array(length);
  const topLogits = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    let best = -1;
    let bestLogit = -Infinity;
    for (let pe = 0; pe < counts.length; pe++) {
      if (places[pe]! === counts[pe]!) continue;
      const logit = floats[pe]![logitsAt + places[pe]!]!;
      if (logit > bestLogit) [best, bestLogit] = [pe, logit];
    }
    topIds[i] = integers[best]![idsAt + places[best]!]!;
    topLogits[i] = bestLogit;
    places[best]!++;
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
