/** Root-mean-square normalisation. */

import type { Matrix, Vector } from "./ndarray.ts";

/** out[row] = x[row] / sqrt(mean(x[row]²) + epsilon) · weight; out may be x. */
export function rmsNorm(out: Matrix, x: Matrix, weight: Vector, epsilon: number): void {
  const [rows, width] = x.shape as [number, number];
  for (let row = 0; row < rows; row++) {
    normalizeRow(
      out.data,
      out.index(row, 0),
      x.data,
      x.index(row, 0),
      weight.data,
      weight.index(0),
      width,
      epsilon,
    );
  }
}

function normalizeRow(
  out: Float32Array,
  outAt: number,
  x: Float32Array,
  xAt: number,
  weight: Float32Array,
  weightAt: number,
  width: number,
  epsilon: number,
): void {
  // In double, so that the definition does not depend on how wide someone's vectors are.
  let squares = 0;
  for (let i = 0; i < width; i++) squares += x[xAt + i]! * x[xAt + i]!;
  const scale = Math.fround(1 / Math.sqrt(squares / width + epsilon));
  for (let i = 0; i < width; i++) {
    out[outAt + i] = Math.fround(x[xAt + i]! * scale) * weight[weightAt + i]!;
  }
}
