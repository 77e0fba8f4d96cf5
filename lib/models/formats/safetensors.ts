/**
 * safetensors: the checked header of one file, and where its tensors lie.
 *
 * A file is 8 bytes of header length, a JSON header, and the tensors' bytes, which must tile the
 * rest of the file without a gap. Nothing is allocated for a length that the file cannot hold.
 */

import { CheckpointError } from "../../base/errors.ts";
import type { ByteSource } from "./byte_source.ts";
import { type HeaderValue, parseHeaderJson } from "./header_json.ts";

/** One tensor of a file. */
export interface SafetensorsEntry {
  readonly name: string;
  /** As the header spells it: "BF16", "F8_E4M3". */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** From the start of the file. */
  readonly position: number;
  readonly sizeBytes: number;
}

/** The format's own limit, shared by its reference reader. */
export const HEADER_SIZE_MAX_BYTES = 100_000_000;
const TENSOR_COUNT_MAX = 1_000_000;
const NAME_LENGTH_MAX = 1024;
const RANK_MAX = 16;
/** The length of the header, before it. */
export const LENGTH_FIELD_BYTES = 8;

/** Every dtype of the format; most of them only so that a file which holds one can be checked. */
const BITS_PER_ELEMENT: ReadonlyMap<string, number> = new Map([
  ["F4", 4],
  ["F6_E2M3", 6],
  ["F6_E3M2", 6],
  ["BOOL", 8],
  ["U8", 8],
  ["I8", 8],
  ["F8_E5M2", 8],
  ["F8_E4M3", 8],
  ["F8_E8M0", 8],
  ["F8_E4M3FNUZ", 8],
  ["F8_E5M2FNUZ", 8],
  ["I16", 16],
  ["U16", 16],
  ["F16", 16],
  ["BF16", 16],
  ["I32", 32],
  ["U32", 32],
  ["F32", 32],
  ["C64", 64],
  ["F64", 64],
  ["I64", 64],
  ["U64", 64],
]);

/** Reads and checks the header of `source`. Every mistake is a CheckpointError that names the file. */
export function readSafetensorsHeader(source: ByteSource): ReadonlyMap<string, SafetensorsEntry> {
  const { text, dataPosition } = readHeaderText(source);
  let header: HeaderValue;
  try {
    header = parseHeaderJson(text);
  } catch (error) {
    fail(source, `its header is not valid: ${(error as Error).message}`, error);
  }
  if (!(header instanceof Map)) fail(source, "its header must be a JSON object");
  if (header.size > TENSOR_COUNT_MAX) {
    fail(
      source,
      `its header names ${header.size} tensors: at most ${TENSOR_COUNT_MAX} can be read`,
    );
  }

  const entries: SafetensorsEntry[] = [];
  for (const [name, value] of header) {
    if (name === "__metadata__") checkMetadata(source, value);
    else entries.push(readEntry(source, name, value, dataPosition));
  }
  checkTiling(source, entries, dataPosition);
  return new Map(entries.map((entry) => [entry.name, entry]));
}

function readHeaderText(source: ByteSource): { text: string; dataPosition: number } {
  if (source.sizeBytes < LENGTH_FIELD_BYTES) {
    fail(source, `it has ${source.sizeBytes} bytes, but starts with a header length of 8 bytes`);
  }
  const lengthField = new Uint8Array(LENGTH_FIELD_BYTES);
  source.readAt(0, lengthField);
  const claimed = new DataView(lengthField.buffer).getBigUint64(0, true);
  const available = source.sizeBytes - LENGTH_FIELD_BYTES;
  if (claimed > BigInt(HEADER_SIZE_MAX_BYTES)) {
    fail(source, `its header length ${claimed} is above the limit of ${HEADER_SIZE_MAX_BYTES}`);
  }
  if (claimed > BigInt(available)) {
    fail(source, `its header length ${claimed} is more than the ${available} bytes that follow`);
  }
  const bytes = new Uint8Array(Number(claimed));
  source.readAt(LENGTH_FIELD_BYTES, bytes);
  if (bytes[0] !== 0x7b) fail(source, 'its header must begin with "{"');
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return { text, dataPosition: LENGTH_FIELD_BYTES + bytes.byteLength };
  } catch (error) {
    fail(source, "its header is not valid UTF-8", error);
  }
}

function checkMetadata(source: ByteSource, value: HeaderValue): void {
  if (!(value instanceof Map)) fail(source, '"__metadata__" must be an object');
  for (const [key, text] of value) {
    if (typeof text !== "string") {
      fail(source, `"__metadata__" must hold strings only, but ${quote(key)} is something else`);
    }
  }
}

function readEntry(
  source: ByteSource,
  name: string,
  value: HeaderValue,
  dataPosition: number,
): SafetensorsEntry {
  if (name.length === 0 || name.length > NAME_LENGTH_MAX) {
    fail(source, `the tensor name ${quote(name)} must have 1 to ${NAME_LENGTH_MAX} characters`);
  }
  // No model has them, and code that ever puts names into an object would be misled by them.
  if (name === "__proto__" || name === "constructor" || name.includes("\0")) {
    fail(source, `${quote(name)} is not a name that a tensor may have`);
  }
  const what = `tensor ${quote(name)}`;
  if (!(value instanceof Map)) fail(source, `${what} must be described by an object`);
  for (const key of value.keys()) {
    if (key !== "dtype" && key !== "shape" && key !== "data_offsets") {
      fail(source, `${what} has an unknown field ${quote(key)}`);
    }
  }

  const dtype = value.get("dtype");
  const bits = typeof dtype === "string" ? BITS_PER_ELEMENT.get(dtype) : undefined;
  if (typeof dtype !== "string" || bits === undefined) {
    fail(source, `${what} has the dtype ${show(dtype)}, which the format does not define`);
  }
  const shape = readIntegers(value.get("shape"));
  if (shape === undefined || shape.length > RANK_MAX) {
    fail(source, `${what}: "shape" must be a list of at most ${RANK_MAX} integers`);
  }
  const offsets = readIntegers(value.get("data_offsets"));
  const [begin, end] = offsets ?? [];
  if (offsets?.length !== 2 || begin === undefined || end === undefined || end < begin) {
    fail(source, `${what}: "data_offsets" must be [begin, end] with begin ≤ end`);
  }

  const sizeBits = shape.reduce((product, size) => product * BigInt(size), BigInt(bits));
  if (sizeBits !== BigInt(end - begin) * 8n) {
    fail(
      source,
      `${what}: ${dtype} [${shape}] takes ${sizeBits} bits, ` +
        `but its data_offsets [${begin}, ${end}] hold ${BigInt(end - begin) * 8n}`,
    );
  }
  return { name, dtype, shape, position: dataPosition + begin, sizeBytes: end - begin };
}

/** Each tensor begins where the one before it ends: no overlap, no hole, no trailing bytes. */
function checkTiling(
  source: ByteSource,
  entries: readonly SafetensorsEntry[],
  dataPosition: number,
): void {
  const end = (entry: SafetensorsEntry) => entry.position + entry.sizeBytes;
  const inFileOrder = entries.toSorted((a, b) => a.position - b.position || end(a) - end(b));
  let expected = dataPosition;
  let before = "the header";
  for (const entry of inFileOrder) {
    if (entry.position !== expected) {
      const how = entry.position < expected ? "overlaps" : "leaves a hole after";
      fail(
        source,
        `tensor ${quote(entry.name)} ${how} ${before}: its data begin at ` +
          `${entry.position - dataPosition} and should begin at ${expected - dataPosition}`,
      );
    }
    expected = end(entry);
    before = `tensor ${quote(entry.name)}`;
  }
  if (expected !== source.sizeBytes) {
    const how = expected > source.sizeBytes ? "is truncated" : "has trailing bytes";
    fail(
      source,
      `it ${how}: its header describes ${expected} bytes, but it has ${source.sizeBytes}`,
    );
  }
}

function readIntegers(value: HeaderValue | undefined): number[] | undefined {
  if (!Array.isArray(value)) return undefined;
  return value.every((item) => typeof item === "number") ? value as number[] : undefined;
}

function show(value: HeaderValue | undefined): string {
  return typeof value === "string" ? quote(value) : typeof value === "number" ? `${value}` : "none";
}

function quote(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}

function fail(source: ByteSource, what: string, cause?: unknown): never {
  throw new CheckpointError(source.name, `Cannot read "${source.name}": ${what}`, { cause });
}
