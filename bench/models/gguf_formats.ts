/**
 * One model in several weight formats: a GGUF file written again with its matrices in another
 * format, so that two engines can be given the very same bytes.
 *
 * Metadata is copied byte for byte. Vectors stay float32.
 */

import { sourceRowBytes, type WeightFormat } from "../../lib/device/block_formats.ts";
import { expandRows, RowConverter } from "../../lib/device/requantize.ts";
import { FileSource } from "../../lib/models/formats/byte_source.ts";
import { type GgufTensor, readGgufHeader } from "../../lib/models/formats/gguf.ts";
import { GGUF_QUANTIZERS } from "./gguf_quantizers.ts";

/** Formats that can be written, with the number that the file gives them. */
const TYPE_IDS = { f32: 0, bf16: 30, q8_0: 8, q4_0: 2 } as const;

/** A format that can be written, and that panels have. */
export type TargetFormat = keyof typeof TYPE_IDS;

/** Any format that can be written. */
export type WrittenFormat = TargetFormat | keyof typeof GGUF_QUANTIZERS;

/** What rows take a type whose blocks they do not fill, as llama.cpp's quantiser chooses. */
const NARROW_ROWS = { Q4_K: "Q5_0", Q5_K: "Q5_1", Q6_K: "q8_0" } as const;

function isQuantizer(format: WrittenFormat): format is keyof typeof GGUF_QUANTIZERS {
  return Object.hasOwn(GGUF_QUANTIZERS, format);
}

function typeId(format: WrittenFormat): number {
  return isQuantizer(format) ? GGUF_QUANTIZERS[format].typeId : TYPE_IDS[format];
}

function rowBytesOf(format: WrittenFormat, k: number): number {
  if (!isQuantizer(format)) return sourceRowBytes(format, k);
  const { blockElements, blockBytes } = GGUF_QUANTIZERS[format];
  return k / blockElements * blockBytes;
}

const FORMATS: Readonly<Record<string, WeightFormat>> = {
  F32: "f32",
  F16: "f16",
  BF16: "bf16",
  Q8_0: "q8_0",
  Q4_0: "q4_0",
  Q4_1: "q4_1",
};
const FILE_TYPE_IDS: Readonly<Record<string, number>> = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q4_1: 3,
  Q8_0: 8,
  BF16: 30,
};
const ALIGNMENT = 32;
/** Rows that are converted at a time. */
const ROWS_AT_ONCE = 64;

/** What becomes of a tensor: its own type, or the target's. */
function targetOf(tensor: GgufTensor, target: WrittenFormat): WrittenFormat | undefined {
  if (tensor.shape.length < 2) return undefined;
  // A 4-bit file keeps its embedding in 8 bits, as the shipped one and llama.cpp's quantiser do.
  const keepsEmbedding = target === "q4_0" || isQuantizer(target);
  if (keepsEmbedding && tensor.name === "token_embd.weight") return "q8_0";
  const isNarrow = (tensor.shape.at(-1) as number) % 256 !== 0;
  const narrow = (NARROW_ROWS as Partial<Record<WrittenFormat, WrittenFormat>>)[target];
  return isNarrow && narrow !== undefined ? narrow : target;
}

/** Writes `source` again with its matrices as `target`. The file appears when it is complete. */
export function convertGguf(source: string, target: WrittenFormat, destination: string): void {
  using file = new FileSource(source);
  const { tensors } = readGgufHeader(file);
  const list = [...tensors.values()];
  const part = `${destination}.${crypto.randomUUID()}.part`;
  try {
    using out = Deno.openSync(part, { write: true, createNew: true });
    const write = (bytes: Uint8Array) => {
      for (let at = 0; at < bytes.length;) at += out.writeSync(bytes.subarray(at));
    };
    const metadata = new Uint8Array(descriptionsStart(file, list));
    file.readAt(0, metadata);
    write(metadata);
    const descriptions = describe(list, target);
    write(descriptions);
    write(new Uint8Array(padding(metadata.length + descriptions.length)));
    for (const tensor of list) {
      const bytes = convertTensor(file, tensor, targetOf(tensor, target));
      write(bytes);
      write(new Uint8Array(padding(bytes.length)));
    }
  } catch (error) {
    Deno.removeSync(part);
    throw error;
  }
  Deno.renameSync(part, destination);
}

/** Where the descriptions of the tensors begin: what is before is metadata. */
function descriptionsStart(file: FileSource, list: readonly GgufTensor[]): number {
  const size = list.reduce((sum, tensor) => sum + descriptionBytes(tensor), 0);
  const first = list[0];
  if (first === undefined) throw new SyntaxError(`"${file.name}" holds no tensors`);
  const name = new TextEncoder().encode(first.name);
  // Up to 31 bytes of padding lie between the descriptions and the data.
  for (let pad = 0; pad < ALIGNMENT; pad++) {
    const start = first.position - pad - size;
    const found = new Uint8Array(8 + name.length);
    file.readAt(start, found);
    const length = new DataView(found.buffer).getBigUint64(0, true);
    if (length === BigInt(name.length) && name.every((byte, i) => byte === found[8 + i])) {
      return start;
    }
  }
  throw new SyntaxError(`"${file.name}" has no tensor descriptions before its data`);
}

function descriptionBytes({ name, shape }: GgufTensor): number {
  return 8 + new TextEncoder().encode(name).length + 4 + 8 * shape.length + 4 + 8;
}

function describe(list: readonly GgufTensor[], target: WrittenFormat): Uint8Array {
  const bytes = new Uint8Array(list.reduce((sum, tensor) => sum + descriptionBytes(tensor), 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  let offset = 0;
  for (const tensor of list) {
    const name = new TextEncoder().encode(tensor.name);
    view.setBigUint64(at, BigInt(name.length), true);
    bytes.set(name, at + 8);
    at += 8 + name.length;
    view.setUint32(at, tensor.shape.length, true);
    at += 4;
    for (const size of tensor.shape.toReversed()) {
      view.setBigUint64(at, BigInt(size), true);
      at += 8;
    }
    const format = targetOf(tensor, target);
    view.setUint32(at, format === undefined ? fileType(tensor) : typeId(format), true);
    view.setBigUint64(at + 4, BigInt(offset), true);
    at += 12;
    const size = format === undefined ? tensor.sizeBytes : convertedBytes(tensor, format);
    offset += size + padding(size);
  }
  return bytes;
}

function fileType(tensor: GgufTensor): number {
  const id = FILE_TYPE_IDS[tensor.type];
  if (id === undefined) {
    throw new TypeError(`Cannot copy tensor "${tensor.name}" of type ${tensor.type}`);
  }
  return id;
}

function convertedBytes({ shape }: GgufTensor, format: WrittenFormat): number {
  const k = shape.at(-1) as number;
  const rows = shape.slice(0, -1).reduce((a, b) => a * b, 1);
  return rows * rowBytesOf(format, k);
}

function convertTensor(
  file: FileSource,
  tensor: GgufTensor,
  target: WrittenFormat | undefined,
): Uint8Array {
  const bytes = new Uint8Array(tensor.sizeBytes);
  file.readAt(tensor.position, bytes);
  const format = FORMATS[tensor.type];
  if (target === undefined || format === target) return bytes;
  if (format === undefined) {
    throw new TypeError(
      `Cannot convert tensor "${tensor.name}" of type ${tensor.type}: it must be one of ` +
        Object.keys(FORMATS).join(", "),
    );
  }
  const k = tensor.shape.at(-1) as number;
  const rowCount = tensor.shape.slice(0, -1).reduce((a, b) => a * b, 1);
  if (isQuantizer(target)) return quantize(bytes, format, target, rowCount * k);
  const rowBytes = sourceRowBytes(format, k);
  const outBytes = sourceRowBytes(target, k);
  const out = new Uint8Array(rowCount * outBytes);
  const converter = new RowConverter(format, target, k, ROWS_AT_ONCE);
  for (let row = 0; row < rowCount; row += ROWS_AT_ONCE) {
    const count = Math.min(ROWS_AT_ONCE, rowCount - row);
    const source = bytes.subarray(row * rowBytes, (row + count) * rowBytes);
    out.set(converter.convert(source, count), row * outBytes);
  }
  if (converter.badValue !== undefined) {
    throw new RangeError(`Cannot store ${converter.badValue} of "${tensor.name}" as ${target}`);
  }
  return out;
}

function quantize(
  bytes: Uint8Array,
  format: WeightFormat,
  target: keyof typeof GGUF_QUANTIZERS,
  count: number,
): Uint8Array {
  const { blockElements, blockBytes, store } = GGUF_QUANTIZERS[target];
  const values = new Float32Array(count);
  expandRows(format, bytes, values);
  const out = new Uint8Array(count / blockElements * blockBytes);
  for (let b = 0; b * blockElements < count; b++) {
    store(
      values.subarray(b * blockElements, (b + 1) * blockElements),
      out.subarray(b * blockBytes, (b + 1) * blockBytes),
    );
  }
  return out;
}

function padding(size: number): number {
  return (ALIGNMENT - size % ALIGNMENT) % ALIGNMENT;
}
