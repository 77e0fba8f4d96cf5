/** Counts of measured values by size, in arrays that never grow: measuring costs no memory. */

import { invariant } from "./invariant.ts";

/** What a histogram held when it was asked. */
export interface HistogramSnapshot {
  /** Upper bounds of the buckets, ascending; a value equal to one belongs to its bucket. */
  readonly edges: readonly number[];
  /** Values by bucket, each counted once; one entry more than `edges`, for what exceeds the last. */
  readonly counts: readonly number[];
  /** Values in all. */
  readonly count: number;
  /** Their sum. */
  readonly sum: number;
}

/** Values that were measured, as counts between fixed edges. */
export class Histogram {
  readonly edges: readonly number[];
  /** A count a bucket, then one for what exceeds the last edge, then the sum of all values. */
  readonly #cells: Float64Array;

  constructor(edges: readonly number[]) {
    invariant(
      edges.every((edge, at) => at === 0 || edge > edges[at - 1]!),
      "The edges of a histogram do not ascend",
    );
    this.edges = edges;
    this.#cells = new Float64Array(edges.length + 2);
  }

  /** Takes a value in. */
  observe(value: number): void {
    const { edges } = this;
    let bucket = 0;
    while (bucket < edges.length && value > edges[bucket]!) bucket++;
    this.#cells[bucket]!++;
    this.#cells[edges.length + 1]! += value;
  }

  snapshot(): HistogramSnapshot {
    const counts = [...this.#cells.subarray(0, this.edges.length + 1)];
    return {
      edges: this.edges,
      counts,
      count: counts.reduce((total, count) => total + count, 0),
      sum: this.#cells[this.edges.length + 1]!,
    };
  }
}

/** 1, 2, 5, 10, 20, 50, … as far as they do not exceed `most`. */
export function oneTwoFive(most: number): number[] {
  const edges: number[] = [];
  for (let power = 1; power <= most; power *= 10) {
    edges.push(...[power, 2 * power, 5 * power].filter((edge) => edge <= most));
  }
  return edges;
}
