/** The exact GELU, element by element. */

import { GELU_LINEAR_FROM, GELU_P, GELU_Q } from "../gelu.ts";
import type { Matrix } from "./ndarray.ts";

/** x[row, c] = x · Φ(x) */
export function gelu(x: Matrix): void {
  const [rows, width] = x.shape as [number, number];
  for (let row = 0; row < rows; row++) {
    const at = x.index(row, 0);
    for (let i = at; i < at + width; i++) x.data[i] = geluOf(x.data[i]!);
  }
}

function geluOf(x: number): number {
  const y = x * x;
  const h = y >= GELU_LINEAR_FROM ? Math.abs(x) : y * polynomial(GELU_P, y) / polynomial(GELU_Q, y);
  return 0.5 * (x + h);
}

/** By Horner's rule. */
function polynomial(coefficients: readonly number[], y: number): number {
  let sum = coefficients.at(-1)!;
  for (let i = coefficients.length - 2; i >= 0; i--) sum = sum * y + coefficients[i]!;
  return sum;
}
