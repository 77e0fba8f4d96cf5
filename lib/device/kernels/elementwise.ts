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

/** gate[row, c] = geluTanh(gate[row, c]) · up[row, c] */
export function geluTanhMultiply(gate: Matrix, up: Matrix): void {
  const [rows, width] = gate.shape as [number, number];
  for (let row = 0; row < rows; row++) {
    geluTanhMultiplyRow(gate.data, gate.index(row, 0), up.data, up.index(row, 0), width);
  }
}

/** x[row, c] = factor · x[row, c] */
export function scale(x: Matrix, factor: number): void {
  eachElement(x, (value) => value * factor);
}

/** x[row, c] = cap · tanh(x[row, c] / cap) */
export function softcap(x: Matrix, cap: number): void {
  eachElement(x, (value) => softcapOf(value, cap));
}

/** cap · tanh(x / cap), every step rounded to float32. */
export function softcapOf(x: number, cap: number): number {
  return Math.fround(cap * Math.fround(Math.tanh(Math.fround(x / cap))));
}

function eachElement(x: Matrix, change: (value: number) => number): void {
  const [rows, width] = x.shape as [number, number];
  for (let row = 0; row < rows; row++) {
    const at = x.index(row, 0);
    for (let i = at; i < at + width; i++) x.data[i] = change(x.data[i]!);
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

/**
 * geluTanh(z) = z/2 · (1 + tanh(u)) = z / (1 + e^(−2u)) with u = √(2/π) · (z + 0.044715 · z³): without
 * the tanh, there is no difference of nearly equal numbers far below zero.
 */
function geluTanhMultiplyRow(
  gate: Float32Array,
  gateAt: number,
  up: Float32Array,
  upAt: number,
  width: number,
): void {
  for (let i = 0; i < width; i++) {
    const z = gate[gateAt + i]!;
    const u = Math.sqrt(2 / Math.PI) * (z + 0.044715 * z * z * z);
    gate[gateAt + i] = Math.fround(z / (1 + Math.exp(-2 * u))) * up[upAt + i]!;
  }
}
