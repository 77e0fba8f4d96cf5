/** The matrices of a stack: experts of a layer that lie in one tensor, [experts, rows, …]. */

import { sourceRowBytes, type WeightFormat } from "../device/block_formats.ts";
import {
  checkTensorShape,
  type ExpectedTensor,
  type FoundTensor,
  madeTensor,
  refuseTensor,
  type StoredTensor,
  storedTensor,
} from "./expected_tensors.ts";
import { type MadeRows, selectRows, type StoredPart } from "./made_rows.ts";
import { ScaleGrid } from "./scale_grid.ts";
import { ScaledRows } from "./scaled_rows.ts";

/** Which rows of which matrix of a stack: `first`, `first + stride`, … */
export interface StackedMatrix {
  /** The matrix: an index into the first dimension. */
  readonly index: number;
  /** Matrices of the stack. */
  readonly count: number;
  /** Rows of each: more than are wanted where two projections are one tensor. */
  readonly rows: number;
  /** Default 0. */
  readonly first?: number;
  /** Default 1; 2 where rows of two projections take turns. */
  readonly stride?: number;
}

/** Rows of a matrix of a tensor [count, rows, inputs], of any type that a matrix can have. */
export function stackedTensor(
  expected: ExpectedTensor,
  found: FoundTensor,
  place: StackedMatrix,
): StoredTensor {
  const [, k] = expected.shape as [number, number];
  const { count, rows, first = 0, stride = 1 } = place;
  checkTensorShape(found, [count, rows, k]);
  const matrix = { ...found, ...partOf(found, place), shape: [rows, k] };
  const whole = storedTensor({ name: expected.name, shape: [rows, k] }, matrix);
  if (rows === expected.shape[0]) return whole;
  const made = whole.made ?? plainRows(whole.format, matrix, sourceRowBytes(whole.format, k));
  return madeTensor(
    expected,
    matrix,
    selectRows(made, sourceRowBytes(made.format, k), { first, stride }),
  );
}

/**
 * The same where the stored matrices are [inputs, outputs], of F32, F16 or BF16: a row is every
 * `width`-th number.
 */
export function transposedTensor(
  expected: ExpectedTensor,
  found: FoundTensor,
  place: StackedMatrix,
): StoredTensor {
  const [, k] = expected.shape as [number, number];
  const { count, rows, first = 0, stride = 1 } = place;
  checkTensorShape(found, [count, k, rows]);
  const matrix = { ...found, ...partOf(found, place), shape: [rows, k] };
  const { format, made } = storedTensor({ name: expected.name, shape: [rows, k] }, matrix);
  if (made !== undefined || (format !== "f32" && format !== "f16" && format !== "bf16")) {
    refuseTensor(
      found,
      `it is of type ${found.dtype}: transposed matrices must be F32, F16 or BF16`,
    );
  }
  const columns = transposedRows(format, matrix, { k, width: rows });
  return madeTensor(expected, matrix, {
    ...columns,
    read: (rowStart, rowEnd, target) =>
      columns.readColumns(first + rowStart * stride, stride, rowEnd - rowStart, target),
  });
}

/**
 * A matrix of MXFP4 as GPT-OSS has it: `blocks` U8 [count, rows, inputs / 32, 16], neighbours in a
 * byte, and `scales` U8 [count, rows, inputs / 32], each 2^(e − 127).
 */
export function mxfp4Tensor(
  expected: ExpectedTensor,
  { blocks, scales }: { readonly blocks: FoundTensor; readonly scales: FoundTensor },
  place: StackedMatrix,
): StoredTensor {
  const [, k] = expected.shape as [number, number];
  const { index, count, rows, first = 0, stride = 1 } = place;
  const groups = k / 32;
  checkTensorShape(blocks, [count, rows, groups, 16]);
  checkTensorShape(scales, [count, rows, groups]);
  for (const tensor of [blocks, scales]) {
    const isByte = tensor.dtype === "U8" || (tensor === scales && tensor.dtype === "F8_E8M0");
    if (!isByte) refuseTensor(tensor, `it is of type ${tensor.dtype}: it must be U8`);
  }
  const grid = { rows: count * rows, columns: groups, rowBlock: 1, columnBlock: 32 };
  const stack = new ScaledRows({
    k,
    codes: {
      part: blocks,
      rowBytes: k / 2,
      bits: 4,
      flip: 0,
      format: "e2m1",
      scaleFactor: 0.5, // the format's codes stand for twice their value
    },
    scales: new ScaleGrid(scales, grid),
    zeroPoints: undefined,
    divisor: 1,
    addend: 0,
  });
  const rowBytes = sourceRowBytes(stack.format, k);
  const made = selectRows(stack, rowBytes, { first: index * rows + first, stride });
  return madeTensor(expected, blocks, {
    ...made,
    parts: [partOf(blocks, place), partOf(scales, place)],
  });
}

/** Where the bytes of a stack's matrix are. */
function partOf(
  { source, position, sizeBytes }: FoundTensor,
  { index, count }: StackedMatrix,
): StoredPart {
  const matrixBytes = sizeBytes / count;
  return { source, position: position + index * matrixBytes, sizeBytes: matrixBytes };
}

function plainRows(format: WeightFormat, part: FoundTensor, rowBytes: number): MadeRows {
  return {
    format,
    parts: [part],
    read: (rowStart, _rowEnd, target) =>
      part.source.readAt(part.position + rowStart * rowBytes, target),
  };
}

/** Numbers are read a run of columns at a time, for every input. */
function transposedRows(
  format: "f32" | "f16" | "bf16",
  part: FoundTensor,
  { k, width }: { readonly k: number; readonly width: number },
): MadeRows & {
  readColumns(first: number, stride: number, count: number, target: Uint8Array): void;
} {
  const size = format === "f32" ? 4 : 2;
  const readColumns = (first: number, stride: number, count: number, target: Uint8Array) => {
    if (count === 0) return;
    const run = new Uint8Array(((count - 1) * stride + 1) * size);
    for (let input = 0; input < k; input++) {
      part.source.readAt(part.position + (input * width + first) * size, run);
      for (let row = 0; row < count; row++) {
        const to = (row * k + input) * size;
        const from = row * stride * size;
        for (let byte = 0; byte < size; byte++) target[to + byte] = run[from + byte]!;
      }
    }
  };
  return {
    format,
    parts: [part],
    read: (rowStart, rowEnd, target) => readColumns(rowStart, 1, rowEnd - rowStart, target),
    readColumns,
  };
}
