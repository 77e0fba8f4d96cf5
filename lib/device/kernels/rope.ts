/** Rotary position embedding in the rotate-half layout. */

import type { IntVector, Matrix } from "./ndarray.ts";

/**
 * Rotates the pairs (i, i + d/2), i < d/2, of the first d floats of every head, in place.
 *
 * @param x [rows][heads · headDim]
 * @param positions One a row of x; they choose the row of the table.
 * @param table [position][d]: d/2 cosines, then d/2 sines.
 */
export function rope(x: Matrix, headDim: number, positions: IntVector, table: Matrix): void {
  const [rows, width] = x.shape as [number, number];
  const half = table.shape[1]! / 2;
  for (let row = 0; row < rows; row++) {
    const cosines = table.index(positions.get(row), 0);
    for (let head = 0; head < width; head += headDim) {
      rotateHead(x.data, x.index(row, head), table.data, cosines, half);
    }
  }
}

function rotateHead(
  x: Float32Array,
  at: number,
  table: Float32Array,
  cosines: number,
  half: number,
): void {
  for (let i = 0; i < half; i++) {
    const first = x[at + i]!;
    const second = x[at + half + i]!;
    const cosine = table[cosines + i]!;
    const sine = table[cosines + half + i]!;
    x[at + i] = first * cosine - second * sine;
    x[at + half + i] = second * cosine + first * sine;
  }
}
