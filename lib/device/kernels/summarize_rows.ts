/** What a run of a row's columns holds: its largest values and its sums of exponentials. */

import {
  CHUNK_COLUMNS,
  type ChunkSum,
  chunkSum,
  scalesOf,
  SUMMARY_TOP_COUNT,
  type SummaryNeed,
} from "../../base/row_summary.ts";
import type { Matrix } from "./ndarray.ts";

/** What was found. */
export interface RowPart {
  /** Columns of the largest values above −Infinity, descending, of equal ones the lower first. */
  readonly ids: readonly number[];
  readonly hasNaN: boolean;
  /** One a chunk; empty where sums at the scale 1 were not asked for. */
  readonly unitSums: readonly ChunkSum[];
  /** The same for another scale. */
  readonly scaledSums: readonly ChunkSum[];
}

/** Looks at chunks [chunkStart, chunkEnd) of one row. */
export function summarizeRow(
  x: Matrix,
  row: number,
  options: {
    readonly chunkStart: number;
    readonly chunkEnd: number;
    readonly need: SummaryNeed;
  },
): RowPart {
  const width = x.shape[1]!;
  const start = options.chunkStart * CHUNK_COLUMNS;
  const end = Math.min(width, options.chunkEnd * CHUNK_COLUMNS);
  const values = x.data.subarray(x.index(row, 0), x.index(row, 0) + width);
  const ids: number[] = [];
  let hasNaN = false;
  for (let id = start; id < end; id++) {
    const value = values[id]!;
    if (Number.isNaN(value)) hasNaN = true;
    else if (value > -Infinity) ids.push(id);
  }
  ids.sort((a, b) => values[b]! - values[a]! || a - b);
  const { isUnit, scale } = scalesOf(options.need);
  const sumsAt = (scale: number) =>
    Array.from(
      { length: Math.ceil((end - start) / CHUNK_COLUMNS) },
      (_, i) => start + i * CHUNK_COLUMNS,
    ).map((from) => chunkSum(values, from, Math.min(end, from + CHUNK_COLUMNS), scale));
  return {
    ids: ids.slice(0, SUMMARY_TOP_COUNT),
    hasNaN,
    unitSums: isUnit ? sumsAt(1) : [],
    scaledSums: scale === undefined || scale === 1 ? [] : sumsAt(scale),
  };
}
