/** The scales of a quantised matrix: a small tensor in which a cell stands for a block of it. */

import { CheckpointError } from "../base/errors.ts";
import { e4m3ToF32 } from "../device/dtype.ts";
import type { FoundTensor } from "./expected_tensors.ts";
import { isPlainDtype, plainFloats } from "./plain_floats.ts";

/** Types that scales can have. As a byte, U8 or F8_E8M0, a scale is a power of two. */
const SCALE_DTYPES: ReadonlySet<string> = new Set([
  "F32",
  "F16",
  "BF16",
  "F8_E8M0",
  "U8",
  "F8_E4M3",
]);

/** Whether a file's type can be a scale's. */
export function isScaleDtype(dtype: string): boolean {
  return SCALE_DTYPES.has(dtype);
}

function decode(dtype: string, bytes: Uint8Array): Float32Array {
  if (isPlainDtype(dtype)) return plainFloats(dtype, bytes);
  if (dtype === "F8_E4M3") return Float32Array.from(bytes, e4m3ToF32);
  return Float32Array.from(bytes, (byte) => byte === 255 ? NaN : 2 ** (byte - 127));
}

/** Cells [rows, columns], each for `rowBlock` rows and `columnBlock` columns of the matrix. */
export interface GridShape {
  readonly rows: number;
  readonly columns: number;
  readonly rowBlock: number;
  readonly columnBlock: number;
}

/** Reads the cells of a range of rows at a time. */
export class ScaleGrid {
  readonly tensor: FoundTensor;
  readonly shape: GridShape;

  constructor(tensor: FoundTensor, shape: GridShape) {
    this.tensor = tensor;
    this.shape = shape;
  }

  /** The cells of rows [rowStart, rowEnd) of the matrix. */
  read(rowStart: number, rowEnd: number): (row: number, column: number) => number {
    const { columns, rowBlock, columnBlock } = this.shape;
    const { name, dtype, source, position, sizeBytes } = this.tensor;
    const first = Math.floor(rowStart / rowBlock);
    const count = Math.floor((rowEnd - 1) / rowBlock) + 1 - first;
    const rowBytes = sizeBytes / this.shape.rows;
    const bytes = new Uint8Array(count * rowBytes);
    source.readAt(position + first * rowBytes, bytes);
    const cells = decode(dtype, bytes);
    const bad = cells.find((cell) => !Number.isFinite(cell));
    if (bad !== undefined) {
      throw new CheckpointError(
        source.name,
        `Cannot use tensor "${name}" of "${source.name}": it holds ${bad}, ` +
          "and scales must be finite",
      );
    }
    return (row, column) =>
      cells[(Math.floor(row / rowBlock) - first) * columns + Math.floor(column / columnBlock)]!;
  }
}

/**
 * Zero points: like the scales a cell for a block, as signed bytes, or of 4 or 8 bits packed into
 * I32 along the rows, with 2^(bits − 1) added.
 */
export class ZeroPointGrid {
  readonly tensor: FoundTensor;
  readonly shape: GridShape;
  readonly #bits: 4 | 8;

  constructor(tensor: FoundTensor, shape: GridShape, bits: 4 | 8) {
    this.tensor = tensor;
    this.shape = shape;
    this.#bits = bits;
  }

  /** The zero points of rows [rowStart, rowEnd) of the matrix, whose rows have rows of cells each. */
  read(rowStart: number, rowEnd: number): (row: number, column: number) => number {
    const { columns, columnBlock } = this.shape;
    const { dtype, source, position } = this.tensor;
    const isPacked = dtype === "I32";
    const perWord = isPacked ? 32 / this.#bits : 1;
    const rowBytes = columns * (isPacked ? 4 : 1);
    const first = Math.floor(rowStart / perWord);
    const count = Math.floor((rowEnd - 1) / perWord) + 1 - first;
    const bytes = new Uint8Array(count * rowBytes);
    source.readAt(position + first * rowBytes, bytes);
    if (!isPacked) {
      const codes = new Int8Array(bytes.buffer);
      return (row, column) => codes[(row - first) * columns + Math.floor(column / columnBlock)]!;
    }
    const words = new Uint32Array(bytes.buffer);
    const [bits, half] = [this.#bits, 2 ** (this.#bits - 1)];
    return (row, column) => {
      const word = words[
        (Math.floor(row / perWord) - first) * columns + Math.floor(column / columnBlock)
      ]!;
      return (word >>> (bits * (row % perWord)) & (2 * half - 1)) - half;
    };
  }
}
