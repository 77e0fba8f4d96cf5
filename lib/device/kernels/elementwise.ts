/** Operations that treat each element by itself. */

import type { Matrix, Vector } from "./ndarray.ts";

/** x[row, c] += y[row, c] */
export function add(x: Matrix, y: Matrix): void {
  const [rows, width] = x.shape as [number, number];
  for (let row = 0; row < rows; row++) {
    addRow(x.data, x.index(row, 0), y.data, y.index(row, 0), width);
  }
}

/** x[row, c] += bias[c] */
export function addBias(x: Matrix, bias: Vector): void {
  const [rows, width] = x.shape as [number, number];
  for (let row = 0; row < rows; row++) {
    addRow(x.data, x.index(row, 0), bias.data, bias.index(0), width);
  }
}

/** gate[row, c] = silu(gate[row, c]) · up[row, c] */
export function siluMultiply(gate: Matrix, up: Matrix): void {
  const [rows, width] = gate.shape as [number, number];
  for (let row = 0; row < rows; row++) {
    siluMultiplyRow(gate.data, gate.index(row, 0), up.data, up.index(row, 0), width);
  }
}

function addRow(x: Float32Array, xAt: number, y: Float32Array, yAt: number, width: number): void {
  for (let i = 0; i < width; i++) x[xAt + i] = x[xAt + i]! + y[yAt + i]!;
}

/** silu(z) = z / (1 + e^−z): far below zero the exponential is infinite and the quotient −0. */
function siluMultiplyRow(
  gate: Float32Array,
  gateAt: number,
  up: Float32Array,
  upAt: number,
  width: number,
): void {
  for (let i = 0; i < width; i++) {
    const z = gate[gateAt + i]!;
    gate[gateAt + i] = Math.fround(z / (1 + Math.exp(-z))) * up[upAt + i]!;
  }
}
