/**
 * From one weight format to another: checkpoint rows are expanded to float32, exactly, and stored
 * again.
 *
 * Rows of a matrix follow each other without gaps and blocks never span two rows, so that nothing
 * here has to know where a row ends. Everything is little-endian, as checkpoints and HBM are.
 */

import { QUANT_BLOCK, sourceRowBytes, type WeightFormat } from "./block_formats.ts";
import { f32BitsToBf16 } from "./dtype.ts";
import { expandGrouped } from "./grouped_blocks.ts";

/**
 * Turns rows of one matrix into rows of another format, a few at a time.
 *
 * Holds the memory that it needs in between: `rowsAtOnce` rows of float32 and of the new format.
 */
export class RowConverter {
  readonly #from: WeightFormat;
  readonly #to: WeightFormat;
  readonly #values: Float32Array;
  readonly #stored: Uint8Array;
  readonly #rowBytes: number;
  readonly #k: number;
  #badValue: number | undefined;

  constructor(from: WeightFormat, to: WeightFormat, k: number, rowsAtOnce: number) {
    this.#from = from;
    this.#to = to;
    this.#k = k;
    this.#rowBytes = sourceRowBytes(to, k);
    this.#values = new Float32Array(rowsAtOnce * k);
    this.#stored = new Uint8Array(rowsAtOnce * this.#rowBytes);
  }

  /** The first value so far that the new format cannot hold, as {@linkcode storeValues} tells it. */
  get badValue(): number | undefined {
    return this.#badValue;
  }

  /** The rows in their new format; valid until the next call. */
  convert(source: Uint8Array, rowCount: number): Uint8Array {
    const values = this.#values.subarray(0, rowCount * this.#k);
    const stored = this.#stored.subarray(0, rowCount * this.#rowBytes);
    expandRows(this.#from, source, values);
    const bad = storeValues(this.#to, values, stored);
    this.#badValue ??= bad;
    return stored;
  }
}

/** Expands `values.length` elements of `source` exactly as their format defines them. */
export function expandRows(format: WeightFormat, source: Uint8Array, values: Float32Array): void {
  switch (format) {
    case "f32":
      new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
        .set(source.subarray(0, values.byteLength));
      return;
    case "bf16":
      return expandBf16(halves(source, values.length), values);
    case "f16":
      values.set(float16(halves(source, values.length)));
      return;
    case "q8_0":
      return expandQ8(source, values);
    case "q4_0":
    case "q4_1":
      return expandQ4(source, values, format === "q4_1");
    default:
      return expandGrouped(format, source, values);
  }
}

/**
 * Stores values in a format: rounded to nearest, ties to even, or in blocks by GGUF's reference
 * quantisers. float32 and what the format has are stored exactly.
 *
 * @returns The first value that the format cannot hold: beyond its largest, or in a quantised block
 * anything that is not finite. undefined if there is none.
 */
export function storeValues(
  format: WeightFormat,
  values: Float32Array,
  target: Uint8Array,
): number | undefined {
  switch (format) {
    case "f32":
      target.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      return undefined;
    case "bf16":
      return storeBf16(values, target);
    case "f16":
      return storeF16(values, target);
    case "q8_0":
      return storeQ8(values, target);
    case "q4_0":
      return storeQ4(values, target);
    default:
      throw new RangeError(`Cannot store values as "${format}": it is only read`);
  }
}

function expandBf16(source: Uint16Array, values: Float32Array): void {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) bits[i] = source[i]! << 16;
}

function expandQ8(source: Uint8Array, values: Float32Array): void {
  const scales = headHalves(source, 34, values.length / QUANT_BLOCK, 0);
  const codes = new Int8Array(source.buffer, source.byteOffset, source.length);
  for (let b = 0; b < scales.length; b++) {
    const d = scales[b]!;
    const at = b * QUANT_BLOCK;
    const from = b * 34 + 2;
    for (let i = 0; i < QUANT_BLOCK; i++) values[at + i] = d * codes[from + i]!;
  }
}

/** Low nibbles are elements 0–15 of a block, high nibbles 16–31. */
function expandQ4(source: Uint8Array, values: Float32Array, hasMinimum: boolean): void {
  const blockBytes = hasMinimum ? 20 : 18;
  const count = values.length / QUANT_BLOCK;
  const scales = headHalves(source, blockBytes, count, 0);
  const minima = hasMinimum ? headHalves(source, blockBytes, count, 2) : undefined;
  for (let b = 0; b < count; b++) {
    const d = scales[b]!;
    // d · q + m is exact in double and rounded once, by the store; −8 · d is a minimum as well.
    const m = minima === undefined ? -8 * d : minima[b]!;
    const at = b * QUANT_BLOCK;
    const from = b * blockBytes + blockBytes - 16;
    for (let i = 0; i < 16; i++) {
      const byte = source[from + i]!;
      values[at + i] = d * (byte & 15) + m;
      values[at + i + 16] = d * (byte >> 4) + m;
    }
  }
}

function storeBf16(values: Float32Array, target: Uint8Array): number | undefined {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(target.buffer, target.byteOffset, values.length);
  let bad: number | undefined;
  for (let i = 0; i < bits.length; i++) {
    const stored = f32BitsToBf16(bits[i]!);
    out[i] = stored;
    if ((stored & 0x7fff) === 0x7f80 && Number.isFinite(values[i])) bad ??= values[i];
  }
  return bad;
}

function storeF16(values: Float32Array, target: Uint8Array): number | undefined {
  const bits = new Uint16Array(target.buffer, target.byteOffset, values.length);
  float16(bits).set(values);
  let bad: number | undefined;
  for (let i = 0; i < bits.length; i++) {
    if ((bits[i]! & 0x7fff) === 0x7c00 && Number.isFinite(values[i])) bad ??= values[i];
  }
  return bad;
}

/**
 * Q8_0: d = max|x| / 127 in float32, stored as float16; codes are x · (1 / d) in float32 with d
 * before that rounding, to nearest, halves away from zero.
 */
function storeQ8(values: Float32Array, target: Uint8Array): number | undefined {
  const count = values.length / QUANT_BLOCK;
  const scales = new Float32Array(count);
  const codes = new Int8Array(target.buffer, target.byteOffset, target.length);
  let bad: number | undefined;
  for (let b = 0; b < count; b++) {
    const at = b * QUANT_BLOCK;
    const largest = largestMagnitude(values, at);
    const d = Math.fround(Math.abs(largest) / 127);
    const inverse = d === 0 ? 0 : Math.fround(1 / d);
    scales[b] = d;
    if (!(d <= HALF_MAX)) bad ??= largest;
    const to = b * 34 + 2;
    for (let i = 0; i < QUANT_BLOCK; i++) {
      const scaled = Math.fround(values[at + i]! * inverse);
      codes[to + i] = scaled < 0 ? scaled - 0.5 : scaled + 0.5; // the store cuts towards zero
    }
  }
  storeHeadHalves(target, 34, scales);
  return bad;
}

/**
 * Q4_0: d = x / −8 of the value of largest magnitude; codes are x · (1 / d) + 8.5 cut to an
 * integer, at most 15. The sum is not rounded to float32 in between, as where it is fused.
 */
function storeQ4(values: Float32Array, target: Uint8Array): number | undefined {
  const count = values.length / QUANT_BLOCK;
  const scales = new Float32Array(count);
  let bad: number | undefined;
  for (let b = 0; b < count; b++) {
    const at = b * QUANT_BLOCK;
    const largest = largestMagnitude(values, at);
    const d = Math.fround(largest / -8);
    const inverse = d === 0 ? 0 : Math.fround(1 / d);
    scales[b] = d;
    if (!(Math.abs(d) <= HALF_MAX)) bad ??= largest;
    const to = b * 18 + 2;
    for (let i = 0; i < 16; i++) {
      const low = Math.min(15, (values[at + i]! * inverse + 8.5) | 0);
      const high = Math.min(15, (values[at + i + 16]! * inverse + 8.5) | 0);
      target[to + i] = low | (high << 4);
    }
  }
  storeHeadHalves(target, 18, scales);
  return bad;
}

/** Beyond this a float32 becomes infinite as float16. */
const HALF_MAX = 65519.996;

/** The value of largest magnitude, the first of equals; the first that is not a number if there is one. */
function largestMagnitude(values: Float32Array, at: number): number {
  let largest = 0;
  let magnitude = 0;
  for (let i = at; i < at + QUANT_BLOCK; i++) {
    const value = values[i]!;
    const size = Math.abs(value);
    if (size <= magnitude) continue;
    if (size !== size) return value;
    largest = value;
    magnitude = size;
  }
  return largest;
}

/** The float16 that lies `offset` bytes into each block of `blockBytes`. */
function headHalves(
  source: Uint8Array,
  blockBytes: number,
  count: number,
  offset: number,
): Float32Array {
  const bits = new Uint16Array(count);
  for (let b = 0, at = offset; b < count; b++, at += blockBytes) {
    bits[b] = source[at]! | (source[at + 1]! << 8);
  }
  return Float32Array.from(float16(bits));
}

/** Writes a float16 at the start of each block of `blockBytes`. */
function storeHeadHalves(target: Uint8Array, blockBytes: number, values: Float32Array): void {
  const halves = Float16Array.from(values);
  const bits = new Uint8Array(halves.buffer);
  for (let b = 0, at = 0; b < halves.length; b++, at += blockBytes) {
    target[at] = bits[2 * b]!;
    target[at + 1] = bits[2 * b + 1]!;
  }
}

/** A view of `count` 16-bit elements; a copy where the alignment does not allow one. */
function halves(source: Uint8Array, count: number): Uint16Array {
  return source.byteOffset % 2 === 0
    ? new Uint16Array(source.buffer, source.byteOffset, count)
    : new Uint16Array(source.slice(0, 2 * count).buffer);
}

function float16(bits: Uint16Array): Float16Array {
  return new Float16Array(bits.buffer, bits.byteOffset, bits.length);
}
