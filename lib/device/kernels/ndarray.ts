/** The gate to the `ndarray` package: strided views over the bytes of a memory. */

import ndarray from "ndarray";

/** What every view has: element [i, j, …] is data[offset + i · stride[0] + j · stride[1] + …]. */
interface View<Data> {
  readonly data: Data;
  readonly shape: readonly number[];
  readonly stride: readonly number[];
  readonly offset: number;
}

/** Float32, one axis. */
export interface Vector extends View<Float32Array> {
  index(i: number): number;
  get(i: number): number;
  set(i: number, value: number): number;
}

/** Float32, rows and columns. */
export interface Matrix extends View<Float32Array> {
  index(row: number, column: number): number;
  get(row: number, column: number): number;
  set(row: number, column: number, value: number): number;
}

/** Int32, one axis. */
export interface IntVector extends View<Int32Array> {
  index(i: number): number;
  get(i: number): number;
}

/** Float32 or raw bfloat16 bits, any number of axes. */
export interface Block extends View<Float32Array | Uint16Array> {
  index(...position: number[]): number;
  get(...position: number[]): number;
}

/** The package has no types of its own; this is the part of its one function that is used here. */
type CreateView = (
  data: Float32Array | Int32Array | Uint16Array,
  shape: readonly number[],
  stride: readonly number[],
  offset: number,
) => unknown;

const createView = ndarray as unknown as CreateView;

/** `length` float32 at a byte address, `stride` elements apart. */
export function vector(
  buffer: ArrayBufferLike,
  address: number,
  length: number,
  stride = 1,
): Vector {
  const data = new Float32Array(buffer, address, extent([length], [stride]));
  return createView(data, [length], [stride], 0) as Vector;
}

/** `rows` rows of `columns` float32, each row `rowStride` elements after the one before. */
export function matrix(
  buffer: ArrayBufferLike,
  address: number,
  shape: { readonly rows: number; readonly columns: number; readonly rowStride: number },
): Matrix {
  const sizes = [shape.rows, shape.columns];
  const strides = [shape.rowStride, 1];
  const data = new Float32Array(buffer, address, extent(sizes, strides));
  return createView(data, sizes, strides, 0) as Matrix;
}

/** `length` int32 at a byte address. */
export function intVector(buffer: ArrayBufferLike, address: number, length: number): IntVector {
  return createView(new Int32Array(buffer, address, length), [length], [1], 0) as IntVector;
}

/** A view of any rank over float32 values or bfloat16 bits. */
export function block(
  buffer: ArrayBufferLike,
  address: number,
  dtype: "f32" | "bf16",
  shape: readonly number[],
  stride: readonly number[],
): Block {
  const length = extent(shape, stride);
  const data = dtype === "f32"
    ? new Float32Array(buffer, address, length)
    : new Uint16Array(buffer, address, length);
  return createView(data, shape, stride, 0) as Block;
}

/** How many elements of `bytes` bytes there are from an address to the end of the memory. */
export function countToEnd(buffer: ArrayBufferLike, address: number, bytes: number): number {
  return Math.floor((buffer.byteLength - address) / bytes);
}

/** Elements from the first to the last one that a view reaches: a view cannot touch what is beyond. */
function extent(shape: readonly number[], stride: readonly number[]): number {
  if (shape.includes(0)) return 0;
  return shape.reduce((last, size, axis) => last + (size - 1) * stride[axis]!, 1);
}
