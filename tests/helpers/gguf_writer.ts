/** Writes GGUF files, valid ones unless the test asks for something else. */

import { concatBytes } from "./safetensors_writer.ts";

/** A metadata value with the type that it is written as. */
export type GgufEntry =
  | { readonly type: "u32" | "i32" | "f32" | "u64" | "bool"; readonly value: number | bigint }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "strings"; readonly value: readonly string[] }
  | { readonly type: "i32s" | "f32s"; readonly value: readonly number[] };

/** One tensor to write; `shape` is [outputs, inputs], which the file holds in reverse. */
export interface GgufPart {
  readonly name: string;
  readonly typeId: number;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** What a file may say that is not so. */
export interface GgufLies {
  readonly version?: number;
  readonly tensorCount?: bigint;
  readonly metadataCount?: bigint;
  /** By tensor name: the offset that is written in place of the right one. */
  readonly offsets?: Readonly<Record<string, bigint>>;
}

const ALIGNMENT = 32;
const TYPE_IDS = {
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  strings: 9,
  i32s: 9,
  f32s: 9,
  u64: 10,
};

/** A whole file of version 3. */
export function ggufBytes(
  metadata: readonly (readonly [key: string, entry: GgufEntry])[],
  tensors: readonly GgufPart[],
  lies: GgufLies = {},
): Uint8Array<ArrayBuffer> {
  const pieces: Uint8Array[] = [
    new TextEncoder().encode("GGUF"),
    u32(lies.version ?? 3),
    u64(lies.tensorCount ?? BigInt(tensors.length)),
    u64(lies.metadataCount ?? BigInt(metadata.length)),
  ];
  for (const [key, entry] of metadata) {
    pieces.push(text(key), u32(TYPE_IDS[entry.type]), value(entry));
  }
  let offset = 0;
  for (const { name, typeId, shape, bytes } of tensors) {
    pieces.push(text(name), u32(shape.length));
    for (const size of shape.toReversed()) pieces.push(u64(BigInt(size)));
    pieces.push(u32(typeId), u64(lies.offsets?.[name] ?? BigInt(offset)));
    offset += padded(bytes.byteLength);
  }
  const headerSize = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
  pieces.push(new Uint8Array(padded(headerSize) - headerSize));
  for (const { bytes } of tensors) {
    pieces.push(bytes, new Uint8Array(padded(bytes.byteLength) - bytes.byteLength));
  }
  return concatBytes(pieces);
}

function value(entry: GgufEntry): Uint8Array {
  switch (entry.type) {
    case "u32":
    case "i32":
      return u32(Number(entry.value));
    case "f32":
      return new Uint8Array(Float32Array.of(Number(entry.value)).buffer);
    case "bool":
      return Uint8Array.of(Number(entry.value));
    case "u64":
      return u64(BigInt(entry.value));
    case "string":
      return text(entry.value);
    case "strings":
      return concatBytes([
        u32(TYPE_IDS.string),
        u64(BigInt(entry.value.length)),
        ...entry.value.map(text),
      ]);
    case "i32s":
      return concatBytes([
        u32(TYPE_IDS.i32),
        u64(BigInt(entry.value.length)),
        ...entry.value.map(u32),
      ]);
    case "f32s":
      return concatBytes([
        u32(TYPE_IDS.f32),
        u64(BigInt(entry.value.length)),
        new Uint8Array(Float32Array.from(entry.value).buffer),
      ]);
    default:
      return entry satisfies never;
  }
}

function text(content: string): Uint8Array {
  const bytes = new TextEncoder().encode(content);
  return concatBytes([u64(BigInt(bytes.byteLength)), bytes]);
}

function u32(content: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, content, true);
  return bytes;
}

function u64(content: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, content, true);
  return bytes;
}

function padded(size: number): number {
  return Math.ceil(size / ALIGNMENT) * ALIGNMENT;
}
