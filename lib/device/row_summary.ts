/** The processing elements' parts of a row's summary, put together. */

import { invariant } from "../base/invariant.ts";
import {
  CHUNK_COLUMNS,
  joinSums,
  type RowSummary,
  type RowSums,
  scalesOf,
  SUMMARY_NEED,
  SUMMARY_TOP_COUNT,
  type SummaryNeed,
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
  readonly need: SummaryNeed | undefined;
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
  const { isUnit, scale } = scalesOf(need);
  const sumsAt = (kind: "unitSums" | "scaledSums", scale: number) =>
    readSums(buffer, addresses, { kind, width, scale });
  const unit = isUnit ? sumsAt("unitSums", 1) : undefined;
  return {
    width,
    topIds: isCopy ? list.topIds : list.topIds.slice(),
    topLogits: isCopy ? list.topLogits : list.topLogits.slice(),
    hasNaN,
    logSumExp: unit && joinSums(unit),
    sums: scale === undefined ? undefined : scale === 1 ? unit : sumsAt("scaledSums", scale),
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
function readSums(
  buffer: ArrayBufferLike,
  addresses: readonly number[],
  options: { kind: "unitSums" | "scaledSums"; width: number; scale: number },
): RowSums {
  const chunkCount = Math.ceil(options.width / CHUNK_COLUMNS);
  const maxima = new Float64Array(chunkCount);
  const sums = new Float64Array(chunkCount);
  let chunk = 0;
  for (const [pe, address] of addresses.entries()) {
    const end = summaryChunkStart(pe + 1, addresses.length, chunkCount);
    const view = new DataView(buffer, address);
    for (; chunk < end; chunk++) {
      const at = 4 * (SUMMARY_PART[options.kind] + chunk * SUMMARY_PART.chunkWords);
      sums[chunk] = view.getFloat64(at, true);
      maxima[chunk] = view.getFloat32(at + 8, true);
    }
  }
  return { scale: options.scale, maxima, sums };
}
