/** Layer normalisation: the definition of its order of sums. */

import type { Matrix, Vector } from "./ndarray.ts";

/** x[row] = (x[row] − mean) / sqrt(variance + epsilon) · weight + bias; the width is a multiple of 8. */
export function layerNorm(x: Matrix, weight: Vector, bias: Vector, epsilon: number): void {
  const [rows, width] = x.shape as [number, number];
  for (let row = 0; row < rows; row++) {
    const at = x.index(row, 0);
    normalizeRow(x.data.subarray(at, at + width), weight, bias, Math.fround(epsilon));
  }
}

function normalizeRow(x: Float32Array, weight: Vector, bias: Vector, epsilon: number): void {
  const mean = Math.fround(sumInEight(x) / x.length);
  const distances = x.map((value) => value - mean);
  const variance = Math.fround(sumInEight(distances.map((value) => value * value)) / x.length);
  const scale = Math.fround(1 / Math.fround(Math.sqrt(Math.fround(variance + epsilon))));
  distances.forEach((distance, i) => {
    const scaled = Math.fround(Math.fround(distance * scale) * weight.get(i));
    x[i] = scaled + bias.get(i);
  });
}

/** Eight sums over i ≡ 0, 1, … 7 (mod 8), ascending; then lane by lane of two halves, then crosswise. */
function sumInEight(values: Float32Array): number {
  const sums = new Float32Array(8);
  values.forEach((value, i) => sums[i % 8] = sums[i % 8]! + value);
  const lane = (j: number) => Math.fround(sums[j]! + sums[j + 4]!);
  return Math.fround(Math.fround(lane(0) + lane(2)) + Math.fround(lane(1) + lane(3)));
}
