/**
 * GGUF: the checked header of one file, and where its tensors lie.
 *
 * A file is a fixed part (magic, version, two counts), the metadata, the tensor descriptions, and
 * the tensors' bytes, one after another with padding between. Versions 2 and 3 differ in nothing
 * that matters here. Every length and count is held against the bytes that are left before
 * anything is allocated for it.
 */

import type { ByteSource } from "./byte_source.ts";
import { ByteCursor } from "./byte_cursor.ts";

/** One metadata value. A 64-bit integer that a number cannot hold is a bigint. */
export type GgufScalar = number | bigint | boolean | string;

/** One metadata value, or an array of them. */
export type GgufValue = GgufScalar | readonly GgufScalar[];

/** One tensor of a file. */
export interface GgufTensor {
  readonly name: string;
  /** As the format's documents spell it: "Q4_0", "BF16". */
  readonly type: string;
  /** Slowest dimension first, the reverse of the file's order: a matrix is [outputs, inputs]. */
  readonly shape: readonly number[];
  /** From the start of the file. */
  readonly position: number;
  readonly sizeBytes: number;
}

/** What a file says before its weights begin. */
export interface GgufHeader {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

interface TensorType {
  readonly name: string;
  readonly blockElements: number;
  readonly blockBytes: number;
}

const MAGIC = 0x46554747; // "GGUF", read as a little-endian number
const DEFAULT_ALIGNMENT = 32;
const KEY_LENGTH_MAX = 65_535; // the format's own limit
const NAME_LENGTH_MAX = 63; // likewise: "at most 64 bytes" with the closing zero
const DIMENSION_COUNT_MAX = 4;
/** Room for a whole tokenizer.json inside one string; the largest known has 33 MB. */
const STRING_SIZE_MAX_BYTES = 128 * 1024 * 1024;
/** Of all metadata together, which become objects several times as large. */
const METADATA_SIZE_MAX_BYTES = 512 * 1024 * 1024;
/** The largest vocabularies have 262,144 tokens and twice as many merges. */
const ARRAY_LENGTH_MAX = 16 * 1024 * 1024;
/** An empty key, a type and one byte. */
const METADATA_ENTRY_SIZE_MIN_BYTES = 8 + 4 + 1;
/** A name's length, a dimension count, one dimension, a type and an offset. */
const TENSOR_ENTRY_SIZE_MIN_BYTES = 8 + 4 + 8 + 4 + 8;

/** By the type id of the file. Ids that are missing were withdrawn, or mean formats not known here. */
const TENSOR_TYPES: ReadonlyMap<number, TensorType> = new Map(
  ([
    [0, "F32", 1, 4],
    [1, "F16", 1, 2],
    [2, "Q4_0", 32, 18],
    [3, "Q4_1", 32, 20],
    [6, "Q5_0", 32, 22],
    [7, "Q5_1", 32, 24],
    [8, "Q8_0", 32, 34],
    [9, "Q8_1", 32, 36],
    [10, "Q2_K", 256, 84],
    [11, "Q3_K", 256, 110],
    [12, "Q4_K", 256, 144],
    [13, "Q5_K", 256, 176],
    [14, "Q6_K", 256, 210],
    [15, "Q8_K", 256, 292],
    [16, "IQ2_XXS", 256, 66],
    [17, "IQ2_XS", 256, 74],
    [18, "IQ3_XXS", 256, 98],
    [19, "IQ1_S", 256, 50],
    [20, "IQ4_NL", 32, 18],
    [21, "IQ3_S", 256, 110],
    [22, "IQ2_S", 256, 82],
    [23, "IQ4_XS", 256, 136],
    [24, "I8", 1, 1],
    [25, "I16", 1, 2],
    [26, "I32", 1, 4],
    [27, "I64", 1, 8],
    [28, "F64", 1, 8],
    [29, "IQ1_M", 256, 56],
    [30, "BF16", 1, 2],
    [34, "TQ1_0", 256, 54],
    [35, "TQ2_0", 256, 66],
    [39, "MXFP4", 32, 17],
    [40, "NVFP4", 64, 36],
  ] as const).map((
    [id, name, blockElements, blockBytes],
  ) => [id, { name, blockElements, blockBytes }]),
);

const STRING_TYPE = 8;
const ARRAY_TYPE = 9;

/** Least bytes that a metadata value takes, by type id. */
const VALUE_SIZE_MIN_BYTES: ReadonlyMap<number, number> = new Map([
  [0, 1], // u8
  [1, 1], // i8
  [2, 2], // u16
  [3, 2], // i16
  [4, 4], // u32
  [5, 4], // i32
  [6, 4], // f32
  [7, 1], // bool
  [STRING_TYPE, 8],
  [ARRAY_TYPE, 12],
  [10, 8], // u64
  [11, 8], // i64
  [12, 8], // f64
]);

/** Reads and checks the header of `source`. Every mistake is a CheckpointError that names the file. */
export function readGgufHeader(source: ByteSource): GgufHeader {
  const cursor = new ByteCursor(source);
  checkVersion(cursor);
  const tensorCount = readCount(cursor, "tensors", TENSOR_ENTRY_SIZE_MIN_BYTES);
  const entryCount = readCount(cursor, "metadata entries", METADATA_ENTRY_SIZE_MIN_BYTES);
  const metadata = readMetadata(cursor, entryCount);
  const alignment = readAlignment(cursor, metadata);
  return { metadata, tensors: readTensors(cursor, tensorCount, alignment) };
}

function checkVersion(cursor: ByteCursor): void {
  if (cursor.sizeBytes < 24 || cursor.u32("the magic number") !== MAGIC) {
    cursor.fail('it is not a GGUF file, which begins with "GGUF"');
  }
  const version = cursor.u32("the version");
  if ((version & 0xffff) === 0) {
    cursor.fail("it is a big-endian GGUF file: only little-endian ones can be read");
  }
  if (version !== 2 && version !== 3) {
    cursor.fail(`it is of GGUF version ${version}: versions 2 and 3 can be read`);
  }
}

function readCount(cursor: ByteCursor, what: string, entrySizeMinBytes: number): number {
  const count = cursor.u64(`the number of ${what}`);
  if (count > cursor.remainingBytes / entrySizeMinBytes) {
    cursor.fail(`it claims ${count} ${what}, more than its ${cursor.sizeBytes} bytes can hold`);
  }
  return Number(count);
}

function readMetadata(cursor: ByteCursor, count: number): Map<string, GgufValue> {
  const metadata = new Map<string, GgufValue>();
  for (let index = 0; index < count; index++) {
    const key = cursor.string(`the key of metadata entry ${index}`, KEY_LENGTH_MAX);
    if (key === "" || key.includes("\0")) {
      cursor.fail(`the key of metadata entry ${index} must be a text without zero bytes`);
    }
    if (metadata.has(key)) cursor.fail(`the metadata key "${key}" appears twice`);
    const typeId = cursor.u32(`the type of "${key}"`);
    if (cursor.position > METADATA_SIZE_MAX_BYTES) {
      cursor.fail(`its metadata take more than ${METADATA_SIZE_MAX_BYTES} bytes, up to "${key}"`);
    }
    metadata.set(
      key,
      typeId === ARRAY_TYPE ? readArray(cursor, key) : readScalar(cursor, key, typeId),
    );
  }
  return metadata;
}

function readArray(cursor: ByteCursor, key: string): readonly GgufScalar[] {
  const itemType = cursor.u32(`the item type of "${key}"`);
  const count = cursor.u64(`the length of "${key}"`);
  if (itemType === ARRAY_TYPE) cursor.fail(`"${key}" is an array of arrays, which cannot be read`);
  const itemSizeMin = VALUE_SIZE_MIN_BYTES.get(itemType);
  if (itemSizeMin === undefined) cursor.fail(`"${key}" has items of unknown type ${itemType}`);
  if (count > ARRAY_LENGTH_MAX || count > cursor.remainingBytes / itemSizeMin) {
    cursor.fail(`"${key}" claims ${count} items, more than the file can hold`);
  }
  const items: GgufScalar[] = [];
  for (let index = 0; index < count; index++) items.push(readScalar(cursor, key, itemType));
  return items;
}

function readScalar(cursor: ByteCursor, key: string, typeId: number): GgufScalar {
  switch (typeId) {
    case 0:
      return cursor.u8(key);
    case 1:
      return cursor.u8(key) << 24 >> 24;
    case 2:
      return cursor.u16(key);
    case 3:
      return cursor.u16(key) << 16 >> 16;
    case 4:
      return cursor.u32(key);
    case 5:
      return cursor.u32(key) | 0;
    case 6:
      return cursor.f32(key);
    case 7:
      return readBool(cursor, key);
    case STRING_TYPE:
      return cursor.string(key, STRING_SIZE_MAX_BYTES);
    case 10:
      return cursor.u64(key);
    case 11:
      return cursor.i64(key);
    case 12:
      return cursor.f64(key);
    default:
      cursor.fail(`"${key}" is of unknown type ${typeId}`);
  }
}

function readBool(cursor: ByteCursor, key: string): boolean {
  const byte = cursor.u8(key);
  if (byte > 1) {
    cursor.fail(`"${key}" is a truth value, but holds ${byte} where 0 or 1 is expected`);
  }
  return byte === 1;
}

function readAlignment(cursor: ByteCursor, metadata: ReadonlyMap<string, GgufValue>): number {
  const alignment = metadata.get("general.alignment") ?? DEFAULT_ALIGNMENT;
  const isPowerOfTwo = typeof alignment === "number" && Number.isInteger(Math.log2(alignment));
  if (!isPowerOfTwo || alignment < 1 || alignment > 2 ** 31) {
    cursor.fail(`"general.alignment" is ${String(alignment)}: it must be a power of two`);
  }
  return alignment;
}

function readTensors(
  cursor: ByteCursor,
  count: number,
  alignment: number,
): ReadonlyMap<string, GgufTensor> {
  const described: (Omit<GgufTensor, "position"> & { offset: number | bigint })[] = [];
  for (let index = 0; index < count; index++) described.push(readTensor(cursor, index));

  // Offsets count from here. They may not jump: each is the padded end of the one before.
  const dataPosition = roundUp(cursor.position, alignment);
  const tensors = new Map<string, GgufTensor>();
  let expected = 0;
  for (const { offset, ...tensor } of described) {
    const what = `tensor "${tensor.name}"`;
    if (tensors.has(tensor.name)) cursor.fail(`${what} is described twice`);
    if (offset !== expected) {
      cursor.fail(`${what} begins at ${offset} of the data and should begin at ${expected}`);
    }
    const position = dataPosition + expected;
    if (position + tensor.sizeBytes > cursor.sizeBytes) {
      cursor.fail(
        `it is truncated: ${what} ends at byte ${position + tensor.sizeBytes}, ` +
          `but the file has ${cursor.sizeBytes}`,
      );
    }
    tensors.set(tensor.name, { ...tensor, position });
    expected = roundUp(expected + tensor.sizeBytes, alignment);
  }
  return tensors;
}

function readTensor(
  cursor: ByteCursor,
  index: number,
): Omit<GgufTensor, "position"> & { offset: number | bigint } {
  const name = cursor.string(`the name of tensor ${index}`, NAME_LENGTH_MAX);
  if (name === "" || name.includes("\0")) {
    cursor.fail(`the name of tensor ${index} must be a text without zero bytes`);
  }
  const what = `tensor "${name}"`;
  const dimensionCount = cursor.u32(what);
  if (dimensionCount < 1 || dimensionCount > DIMENSION_COUNT_MAX) {
    cursor.fail(
      `${what} has ${dimensionCount} dimensions: it must have 1 to ${DIMENSION_COUNT_MAX}`,
    );
  }
  const dimensions: number[] = [];
  let elementCount = 1n;
  for (let d = 0; d < dimensionCount; d++) {
    const size = cursor.u64(what);
    elementCount *= BigInt(size);
    // A file has at least a bit for each element, so more than this is a lie, and the sizes below
    // stay exact.
    if (elementCount < 1n || elementCount > BigInt(cursor.sizeBytes) * 8n) {
      cursor.fail(
        `${what} has dimension ${size}, which the file's ${cursor.sizeBytes} bytes rule out`,
      );
    }
    dimensions.push(Number(size));
  }
  const typeId = cursor.u32(what);
  const type = TENSOR_TYPES.get(typeId);
  if (type === undefined) cursor.fail(`${what} is of type ${typeId}, which is not known`);
  const offset = cursor.u64(what);
  const rowLength = dimensions[0] as number;
  if (rowLength % type.blockElements !== 0) {
    cursor.fail(
      `${what} has rows of ${rowLength} elements: ${type.name} needs a multiple of ${type.blockElements}`,
    );
  }
  return {
    name,
    type: type.name,
    shape: dimensions.toReversed(),
    sizeBytes: Number(elementCount) / type.blockElements * type.blockBytes,
    offset,
  };
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}
