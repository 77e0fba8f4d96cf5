/** Rows of hidden states → one vector. */

import { invariant } from "../base/invariant.ts";

/** How the rows of a prompt become one; the names are those of sentence-transformers. */
export type PoolingMode = "cls" | "max" | "mean" | "mean_sqrt_len" | "weightedmean" | "lasttoken";

/** Which rows of a prompt are asked of the engine; "mean" is one row, made where the rows are. */
export type RowSelection = "first" | "last" | "mean" | "all";

/** One mode alone needs no more than one row; everything else needs all of them. */
export function rowsFor(modes: readonly PoolingMode[]): RowSelection {
  if (modes.length > 1) return "all";
  switch (modes[0]) {
    case "cls":
      return "first";
    case "lasttoken":
      return "last";
    case "mean":
      return "mean";
    default:
      return "all";
  }
}

/**
 * Pools the rows that {@linkcode rowsFor} asks for. The vectors of several modes are put one after
 * the other. Sums are kept in double precision and rounded once.
 */
export function pool(modes: readonly PoolingMode[], rows: readonly Float32Array[]): Float32Array {
  const [first] = rows;
  invariant(first !== undefined, "A prompt without rows is pooled");
  if (rowsFor(modes) !== "all") {
    invariant(rows.length === 1, "One row is pooled, and the engine gave several");
    return first;
  }
  const width = first.length;
  const pooled = new Float32Array(modes.length * width);
  for (const [i, mode] of modes.entries()) pooled.set(poolAll(mode, rows), i * width);
  return pooled;
}

function poolAll(mode: PoolingMode, rows: readonly Float32Array[]): Float32Array {
  const last = rows.length - 1;
  switch (mode) {
    case "cls":
      return rows[0] as Float32Array;
    case "lasttoken":
      return rows[last] as Float32Array;
    case "max":
      return largest(rows);
    case "mean":
      return weightedSum(rows, () => 1 / rows.length);
    case "mean_sqrt_len":
      return weightedSum(rows, () => 1 / Math.sqrt(rows.length));
    case "weightedmean": // weights 1, 2, 3 …
      return weightedSum(rows, (i) => (i + 1) / (rows.length * (rows.length + 1) / 2));
    default:
      return mode satisfies never;
  }
}

function weightedSum(
  rows: readonly Float32Array[],
  weightOf: (index: number) => number,
): Float32Array {
  const sum = new Float64Array(rows[0]?.length ?? 0);
  for (const [i, row] of rows.entries()) {
    const weight = weightOf(i);
    for (let column = 0; column < sum.length; column++) {
      sum[column] = (sum[column] as number) + weight * (row[column] as number);
    }
  }
  return Float32Array.from(sum);
}

function largest(rows: readonly Float32Array[]): Float32Array {
  const best = Float32Array.from(rows[0] as Float32Array);
  for (const row of rows) {
    for (let column = 0; column < best.length; column++) {
      best[column] = Math.max(best[column] as number, row[column] as number);
    }
  }
  return best;
}

/** The smallest length that a vector is divided by, as frameworks have it. */
const LENGTH_MIN = 1e-12;

/** x / max(‖x‖, 1e-12) */
export function normalized(vector: Float32Array): Float32Array {
  let squares = 0;
  for (const value of vector) squares += value * value;
  const length = Math.max(Math.sqrt(squares), LENGTH_MIN);
  return vector.map((value) => value / length);
}

/** The product of two vectors of equal length. */
export function dot(a: Float32Array, b: Float32Array): number {
  invariant(a.length === b.length, `Vectors of ${a.length} and ${b.length} numbers are multiplied`);
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}

/** The cosine of two normalised vectors. Rounding does not take it out of [−1, 1]. */
export function cosine(a: Float32Array, b: Float32Array): number {
  return Math.max(-1, Math.min(1, dot(a, b)));
}
