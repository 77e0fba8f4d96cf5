/** Rows of a quantised safetensors matrix: codes from one tensor, scales and zero points from others. */

import { CheckpointError } from "../base/errors.ts";
import type { WeightFormat } from "../device/block_formats.ts";
import { GROUPED, type GroupedFormat } from "../device/grouped_blocks.ts";
import type { MadeRows, StoredPart } from "./made_rows.ts";
import type { ScaleGrid, ZeroPointGrid } from "./scale_grid.ts";

/** How the codes of a matrix are stored, and what they are. */
export interface StoredCodes {
  readonly part: StoredPart;
  readonly rowBytes: number;
  /** Bits a code; nibbles are neighbours, low first. */
  readonly bits: 4 | 8;
  /** What is flipped in every byte to have the format's codes. */
  readonly flip: number;
  /** What codes become where all have a scale and none an offset. */
  readonly format: GroupedFormat;
  /** The same with an offset: undefined if it cannot have one. */
  readonly offsetFormat?: "i8_1" | "u4_1";
  /** A power of two that scales are multiplied with. */
  readonly scaleFactor?: number;
}

/** The parts of a matrix [rows, k]. */
export interface ScaledMatrix {
  readonly k: number;
  readonly codes: StoredCodes;
  /** undefined: the scale is 1. */
  readonly scales: ScaleGrid | undefined;
  readonly zeroPoints: ZeroPointGrid | undefined;
  /** One number that all scales are divided by. */
  readonly divisor: number;
  /** Added to the value of every code. */
  readonly addend: number;
}

const BLOCK_K = 32;

/** A value is (code + addend − zero point) · (scale / divisor), each operation rounded to float32. */
export class ScaledRows implements MadeRows {
  readonly format: WeightFormat;
  readonly parts: readonly StoredPart[];
  readonly #matrix: ScaledMatrix;

  constructor(matrix: ScaledMatrix) {
    const { codes, scales, zeroPoints } = matrix;
    this.#matrix = matrix;
    this.format = formatOf(matrix);
    this.parts = [
      codes.part,
      ...scales ? [scales.tensor] : [],
      ...zeroPoints ? [zeroPoints.tensor] : [],
    ];
  }

  read(rowStart: number, rowEnd: number, target: Uint8Array): void {
    if (rowEnd <= rowStart) return;
    const { codes, scales, zeroPoints, divisor, addend, k } = this.#matrix;
    const { source, position } = codes.part;
    const stored = new Uint8Array((rowEnd - rowStart) * codes.rowBytes);
    source.readAt(position + rowStart * codes.rowBytes, stored);
    const scaleAt = scales?.read(rowStart, rowEnd);
    const zeroAt = zeroPoints?.read(rowStart, rowEnd);
    const factor = codes.scaleFactor ?? 1;
    const cells: Cells = {
      scale: scaleAt === undefined
        ? () => 1 / divisor * factor
        : (row, column) => Math.fround(scaleAt(row, column) / divisor) * factor,
      shift: zeroAt === undefined ? () => addend : (row, column) => addend - zeroAt(row, column),
    };
    const view = new DataView(target.buffer, target.byteOffset, target.byteLength);
    const rowBytes = target.length / (rowEnd - rowStart);
    for (let row = rowStart; row < rowEnd; row++) {
      const from = (row - rowStart) * codes.rowBytes;
      const bytes = stored.subarray(from, from + codes.rowBytes);
      const to = (row - rowStart) * rowBytes;
      if (scales !== undefined) checkZeroScales(this.#matrix, scales, bytes, row, cells);
      if (this.format === "f32") writeFloats(codes, bytes, k, row, cells, view, to);
      else writeBlocks(this.format as GroupedFormat, codes, bytes, k, row, cells, view, target, to);
    }
  }
}

/** The scale at a place of the matrix, and what is added to a code before it is scaled. */
interface Cells {
  scale(row: number, column: number): number;
  shift(row: number, column: number): number;
}

/**
 * Panels' groups have 32 or 16 k. A matrix whose rows or scales do not keep to that is stored as
 * float32, and so is one whose zero points make offsets that float32 would have to round.
 */
function formatOf({ k, codes, scales, zeroPoints, addend, divisor }: ScaledMatrix): WeightFormat {
  const { groupK } = GROUPED[codes.format];
  const columnBlock = scales?.shape.columnBlock ?? k;
  if (k % BLOCK_K !== 0 || (columnBlock !== k && columnBlock % groupK !== 0)) return "f32";
  if (zeroPoints === undefined && addend === 0) return codes.format;
  const isShort = scales === undefined || scales.tensor.dtype === "BF16" ||
    scales.tensor.dtype === "F16";
  return isShort && divisor === 1 && codes.offsetFormat !== undefined ? codes.offsetFormat : "f32";
}

/**
 * A scale of zero may stand for zeros only: elsewhere it was lost, and so would the weights be. The
 * scales of NVFP4 are so short that small ones are rounded to zero.
 */
function checkZeroScales(
  { k, codes }: ScaledMatrix,
  { tensor, shape: { columnBlock } }: ScaleGrid,
  bytes: Uint8Array,
  row: number,
  cells: Cells,
): void {
  if (tensor.dtype === "F8_E4M3") return;
  const { values } = GROUPED[codes.format];
  for (let column = 0; column < k; column += columnBlock) {
    if (cells.scale(row, column) !== 0) continue;
    const end = Math.min(column + columnBlock, k);
    for (let i = column; i < end; i++) {
      if (values[codeAt(codes, bytes, i)]! + cells.shift(row, i) === 0) continue;
      throw new CheckpointError(
        tensor.source.name,
        `Cannot use tensor "${tensor.name}" of "${tensor.source.name}": the scale of row ${row}, ` +
          `column ${i} is 0, but the weight there is not`,
      );
    }
  }
}

function codeAt({ bits, flip }: StoredCodes, bytes: Uint8Array, i: number): number {
  const byte = bytes[bits === 8 ? i : i >> 1]! ^ flip;
  return bits === 8 ? byte : i % 2 === 0 ? byte & 15 : byte >> 4;
}

function writeBlocks(
  format: GroupedFormat,
  { bits, flip }: StoredCodes,
  bytes: Uint8Array,
  k: number,
  row: number,
  cells: Cells,
  view: DataView,
  target: Uint8Array,
  start: number,
): void {
  const { groupK, hasOffset, values } = GROUPED[format];
  let at = start;
  for (let column = 0; column < k; column += BLOCK_K) {
    for (let group = 0; group < BLOCK_K; group += groupK, at += 4) {
      view.setFloat32(at, cells.scale(row, column + group), true);
    }
    if (hasOffset) {
      // Codes of four bits with an offset count from 0, those without from −8.
      const shift = cells.shift(row, column) - (bits === 4 && values[0] === 0 ? 8 : 0);
      view.setFloat32(at, cells.scale(row, column) * shift, true);
      at += 4;
    }
    if (bits === 8) {
      for (let i = 0; i < BLOCK_K; i++) target[at + i] = bytes[column + i]! ^ flip;
      at += BLOCK_K;
      continue;
    }
    // Neighbours in a byte become k and k + 16.
    const first = column >> 1;
    for (let i = 0; i < 8; i++, at += 2) {
      const [low, high] = [bytes[first + i]! ^ flip, bytes[first + 8 + i]! ^ flip];
      target[at] = (low & 15) | ((high & 15) << 4);
      target[at + 1] = (low >> 4) | (high & 0xf0);
    }
  }
}

function writeFloats(
  codes: StoredCodes,
  bytes: Uint8Array,
  k: number,
  row: number,
  cells: Cells,
  view: DataView,
  start: number,
): void {
  const { values } = GROUPED[codes.format];
  for (let i = 0; i < k; i++) {
    const shifted = values[codeAt(codes, bytes, i)]! + cells.shift(row, i);
    view.setFloat32(start + 4 * i, shifted * cells.scale(row, i), true);
  }
}
