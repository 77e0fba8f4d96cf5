/** Rows by index: of a float32 matrix, and of an embedding that is stored as a weight in panels. */

import { PANEL_COLUMNS, panelBytes, unpackColumn } from "../block_formats.ts";
import type { Panels } from "./matmul.ts";
import type { IntVector, Matrix } from "./ndarray.ts";

/** out[row] = x[indices[row]] */
export function takeRows(out: Matrix, x: Matrix, indices: IntVector): void {
  const [rows, width] = out.shape as [number, number];
  for (let row = 0; row < rows; row++) {
    const from = x.index(indices.get(row), 0);
    const to = out.index(row, 0);
    for (let i = 0; i < width; i++) out.data[to + i] = x.data[from + i]!;
  }
}

/** out[row] = row ids[row] of the checkpoint's matrix: one column of one panel. */
export function embed(out: Matrix, weight: Panels, ids: IntVector): void {
  const [rows, k] = out.shape as [number, number];
  const size = panelBytes(weight.format, k);
  for (let row = 0; row < rows; row++) {
    const id = ids.get(row);
    const panel = Math.floor(id / PANEL_COLUMNS);
    const bytes = weight.bytes.subarray(panel * size, (panel + 1) * size);
    const target = out.data.subarray(out.index(row, 0));
    unpackColumn(weight.format, k, bytes, id % PANEL_COLUMNS, target, 1);
  }
}
