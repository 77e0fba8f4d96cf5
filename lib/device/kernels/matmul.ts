/** The matrix product of activations and a weight in panels: the definition of its order of sums. */

import { PANEL_COLUMNS, panelBytes, unpackPanel, type WeightFormat } from "../block_formats.ts";
import { fusedMultiplyAdd } from "../dtype.ts";
import type { Matrix } from "./ndarray.ts";

/** The panels of one weight, one after another from the first byte on. */
export interface Panels {
  readonly format: WeightFormat;
  /** Elements along the sum. */
  readonly k: number;
  readonly bytes: Uint8Array;
}

/**
 * out[row, c] = Σ x[row, i] · weight[c, i] for all rows of x and the eight columns of each panel in
 * [panelStart, panelEnd). The padding columns of a last panel are columns like any other, of zeros.
 */
export function matmul(
  out: Matrix,
  x: Matrix,
  weight: Panels,
  range: { readonly panelStart: number; readonly panelEnd: number },
): void {
  const [rows, k] = x.shape as [number, number];
  const size = panelBytes(weight.format, k);
  for (let panel = range.panelStart; panel < range.panelEnd; panel++) {
    const bytes = weight.bytes.subarray(panel * size, (panel + 1) * size);
    const values = unpackPanel(weight.format, k, bytes);
    for (let row = 0; row < rows; row++) {
      multiplyRow(
        out.data,
        out.index(row, panel * PANEL_COLUMNS),
        x.data,
        x.index(row, 0),
        values,
        k,
      );
    }
  }
}

/** One row against one unpacked panel [k][8]. */
function multiplyRow(
  out: Float32Array,
  outAt: number,
  x: Float32Array,
  xAt: number,
  panel: Float32Array,
  k: number,
): void {
  for (let column = 0; column < PANEL_COLUMNS; column++) {
    const s0 = partialSum(x, xAt, panel, column, k, 0);
    const s1 = partialSum(x, xAt, panel, column, k, 1);
    const s2 = partialSum(x, xAt, panel, column, k, 2);
    const s3 = partialSum(x, xAt, panel, column, k, 3);
    out[outAt + column] = Math.fround(Math.fround(Math.fround(s0 + s1) + s2) + s3);
  }
}

/** Σ over i ≡ phase (mod 4), ascending, each term by one fused multiply-add. */
function partialSum(
  x: Float32Array,
  xAt: number,
  panel: Float32Array,
  column: number,
  k: number,
  phase: number,
): number {
  let sum = 0;
  for (let i = phase; i < k; i += 4) {
    sum = fusedMultiplyAdd(x[xAt + i]!, panel[i * PANEL_COLUMNS + column]!, sum);
  }
  return sum;
}
