/** An ONNX file with one MatMul and its weight, written without a library: a few protobuf fields. */

const VARINT = 0;
const BYTES = 2;
const FLOAT = 1;
const IR_VERSION = 8;
const OPSET = 13;

type Field = readonly [number: number, value: number | string | Uint8Array];

/** y[rows, n] = x[rows, k] · weight[k, n]. */
export function matmulModel(rows: number, k: number, n: number, weight: Float32Array): Uint8Array {
  const initializer = message(
    [1, k],
    [1, n],
    [2, FLOAT],
    [8, "w"],
    [9, new Uint8Array(weight.buffer, weight.byteOffset, weight.byteLength)],
  );
  const graph = message(
    [1, message([1, "x"], [1, "w"], [2, "y"], [4, "MatMul"])],
    [2, "product"],
    [5, initializer],
    [11, valueInfo("x", [rows, k])],
    [12, valueInfo("y", [rows, n])],
  );
  return message([1, IR_VERSION], [7, graph], [8, message([2, OPSET])]);
}

/** A float32 tensor's name and shape. */
function valueInfo(name: string, shape: readonly number[]): Uint8Array {
  const dimensions = message(...shape.map((size): Field => [1, message([1, size])]));
  return message([1, name], [2, message([1, message([1, FLOAT], [2, dimensions])])]);
}

/** Protobuf: each field is a key and a value, in the order given. */
function message(...fields: readonly Field[]): Uint8Array {
  const chunks = fields.flatMap(([number, value]): Uint8Array[] => {
    if (typeof value === "number") {
      return [Uint8Array.from([...varint(number * 8 + VARINT), ...varint(value)])];
    }
    const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value;
    return [Uint8Array.from([...varint(number * 8 + BYTES), ...varint(bytes.length)]), bytes];
  });
  const out = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}

/** Seven bits a byte, the lowest first. */
function varint(value: number): number[] {
  const bytes: number[] = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value & 127) | 128);
  return [...bytes, value];
}
