/** How weights lie in HBM: panels of eight output columns, and the block formats inside them. */

import { bf16ToF32, f16ToF32 } from "./dtype.ts";
import {
  groupedBlockBytes,
  type GroupedFormat,
  groupedPanelValue,
  groupedRowValue,
  isGrouped,
  packGrouped,
} from "./grouped_blocks.ts";

/**
 * The formats a weight panel can have.
 *
 * A weight [n, k] is cut into ceil(n / 8) panels of 8 rows of the checkpoint, "columns" here since
 * they are columns of the product. The last panel is filled up with zero weights. Inside, k-major:
 *
 * ```text
 * f32         [k][8] float32
 * bf16, f16   [k][8] u16, in column order 0 4 1 5 2 6 3 7: of four little-endian u32 lanes the
 *             low halves are columns 0-3, the high halves 4-7
 * q8_0        a block of 32 k:  8 f16 scales d, in that same order             16 bytes
 *                               8 groups of 4 k, [8 columns][4 k] int8 each   256 bytes
 * q4_0        a block of 32 k:  8 f16 scales d                                 16 bytes
 *                               8 groups of 4 k, 16 bytes each                128 bytes
 * q4_1        a block of 32 k:  8 f16 scales d, 8 f16 minima m                 32 bytes
 *                               8 groups as in q4_0                           128 bytes
 * group g:    byte 4·L + u is k = 4·g + u: low nibble column L, high nibble column L + 4
 * ```
 *
 * Values: q8_0 is d·q, q4_0 is d·(q − 8), q4_1 is d·q + m rounded once to float32.
 *
 * These are the four layouts there are: of 32, 16, 8 and 4 bits a code. The other formats
 * (`grouped_blocks.ts`) have the codes of the last two under a header of float32.
 */
export type WeightFormat =
  | "f32"
  | "bf16"
  | "f16"
  | QuantizedFormat
  | GroupedFormat;

/** The formats that integer activations are for: blocks of integer codes under float16 scales. */
export type QuantizedFormat = "q8_0" | "q4_0" | "q4_1";

/** Columns (checkpoint rows) of one panel. */
export const PANEL_COLUMNS = 8;

/** Elements along k of one quantised block. */
export const QUANT_BLOCK = 32;

/** How much of a row and of a panel is stored together. */
interface FormatShape {
  /** Elements along k that are stored together. */
  readonly elements: number;
  /** Bytes of that many elements of one checkpoint row. */
  readonly sourceBytes: number;
  /** Bytes of that many k of a panel. */
  readonly panelBytes: number;
}

function groupedShape(format: GroupedFormat): FormatShape {
  return { elements: QUANT_BLOCK, ...groupedBlockBytes(format) };
}

const SHAPES: Readonly<Record<WeightFormat, FormatShape>> = {
  f32: { elements: 1, sourceBytes: 4, panelBytes: 32 },
  bf16: { elements: 1, sourceBytes: 2, panelBytes: 16 },
  f16: { elements: 1, sourceBytes: 2, panelBytes: 16 },
  q8_0: { elements: QUANT_BLOCK, sourceBytes: 34, panelBytes: 272 },
  q4_0: { elements: QUANT_BLOCK, sourceBytes: 18, panelBytes: 144 },
  q4_1: { elements: QUANT_BLOCK, sourceBytes: 20, panelBytes: 160 },
  i8: groupedShape("i8"),
  i8_16: groupedShape("i8_16"),
  i8_1: groupedShape("i8_1"),
  e4m3: groupedShape("e4m3"),
  e5m2: groupedShape("e5m2"),
  i4: groupedShape("i4"),
  u4_1: groupedShape("u4_1"),
  e2m1: groupedShape("e2m1"),
  e2m1_16: groupedShape("e2m1_16"),
};

/** All formats. */
export const WEIGHT_FORMATS: readonly WeightFormat[] = Object.keys(SHAPES) as WeightFormat[];

/** Elements along k that are stored together: 32 for formats in blocks, else 1. */
export function blockElements(format: WeightFormat): number {
  return SHAPES[format].elements;
}

/** Whether a format is in blocks: codes under scales. */
export function isBlocked(format: WeightFormat): format is QuantizedFormat | GroupedFormat {
  return SHAPES[format].elements === QUANT_BLOCK;
}

/** Whether integer activations can be multiplied with a format. */
export function isQuantized(format: WeightFormat): format is QuantizedFormat {
  return isBlocked(format) && !isGrouped(format);
}

/** Bytes of one checkpoint row of k elements. */
export function sourceRowBytes(format: WeightFormat, k: number): number {
  checkK(format, k);
  const { elements, sourceBytes } = SHAPES[format];
  return k / elements * sourceBytes;
}

/** Bytes of one panel over k elements; always a multiple of 16. */
export function panelBytes(format: WeightFormat, k: number): number {
  checkK(format, k);
  const shape = SHAPES[format];
  return k / shape.elements * shape.panelBytes;
}

/** Bytes of a whole weight [n, k] in panels. */
export function weightBytes(format: WeightFormat, n: number, k: number): number {
  return Math.ceil(n / PANEL_COLUMNS) * panelBytes(format, k);
}

/** The place that a column has in the order 0 4 1 5 2 6 3 7. */
function halfIndex(column: number): number {
  return column < 4 ? 2 * column : 2 * column - 7;
}

/**
 * Packs up to 8 checkpoint rows into one panel; missing rows become zero weights.
 *
 * @param source The rows one after another, {@linkcode sourceRowBytes} each, at any alignment.
 * @param rowCount 1 to 8.
 * @param target {@linkcode panelBytes} bytes, aligned to 16; may view shared memory.
 */
export function packPanel(
  format: WeightFormat,
  k: number,
  source: Uint8Array,
  rowCount: number,
  target: Uint8Array,
): void {
  const rowBytes = sourceRowBytes(format, k);
  checkPack(rowBytes * rowCount, source, rowCount, panelBytes(format, k), target);
  // The quantised blocks are 18, 20 and 34 bytes: even, so 16-bit reads are what they allow.
  const words = new Uint32Array(target.buffer, target.byteOffset, panelBytes(format, k) >> 2);
  switch (format) {
    case "f32":
      return packF32(k, words32(source, rowBytes * rowCount), rowCount, words);
    case "bf16":
    case "f16":
      return packHalf(k, words32(source, rowBytes * rowCount), rowCount, words);
    case "q8_0":
      return packQ8(k, words16(source, rowBytes * rowCount), rowCount, words);
    case "q4_0":
    case "q4_1":
      return packQ4(format, k, words16(source, rowBytes * rowCount), rowCount, words);
    default:
      format satisfies GroupedFormat;
      return packGrouped(format, k, words32(source, rowBytes * rowCount), rowCount, words);
  }
}

/** The values of a panel as [k][8] float32. */
export function unpackPanel(format: WeightFormat, k: number, panel: Uint8Array): Float32Array {
  const size = panelBytes(format, k);
  if (panel.length < size) {
    throw new RangeError(`Cannot unpack a panel of ${panel.length} bytes: it must have ${size}`);
  }
  const out = new Float32Array(k * PANEL_COLUMNS);
  for (let column = 0; column < PANEL_COLUMNS; column++) {
    unpackColumn(format, k, panel, column, out.subarray(column), PANEL_COLUMNS);
  }
  return out;
}

/** The values of one column of a panel: out[i · outStride] for i in [0, k). */
export function unpackColumn(
  format: WeightFormat,
  k: number,
  panel: Uint8Array,
  column: number,
  out: Float32Array,
  outStride: number,
): void {
  checkK(format, k);
  const view = new DataView(panel.buffer, panel.byteOffset, panel.byteLength);
  const half = 2 * halfIndex(column);
  const { elements, panelBytes: blockBytes } = SHAPES[format];
  for (let i = 0; i < k; i++) {
    const block = Math.floor(i / elements) * blockBytes;
    out[i * outStride] = unpackValue(format, view, block, i % elements, column, half);
  }
}

function unpackValue(
  format: WeightFormat,
  view: DataView,
  block: number,
  i: number,
  column: number,
  half: number,
): number {
  switch (format) {
    case "f32":
      return view.getFloat32(block + 4 * column, true);
    case "bf16":
      return bf16ToF32(view.getUint16(block + half, true));
    case "f16":
      return f16ToF32(view.getUint16(block + half, true));
    case "q8_0":
      return f16ToF32(view.getUint16(block + half, true)) *
        panelByte(view, block + 16, i, column);
    case "q4_0":
      return f16ToF32(view.getUint16(block + half, true)) *
        (panelNibble(view, block + 16, i, column) - 8);
    case "q4_1": {
      const d = f16ToF32(view.getUint16(block + half, true));
      const m = f16ToF32(view.getUint16(block + 16 + half, true));
      return Math.fround(d * panelNibble(view, block + 32, i, column) + m);
    }
    default:
      return groupedPanelValue(format, view, block, i, column);
  }
}

/** One column's part of a quantised block: each value is scale · code, plus the minimum. */
export interface QuantizedColumn {
  readonly scale: number;
  /** undefined for formats without minima. */
  readonly minimum: number | undefined;
  /** One integer for each k of the block. */
  readonly codes: readonly number[];
}

/** Takes block `blockIndex` of one column out of a panel, without multiplying anything. */
export function unpackQuantized(
  format: QuantizedFormat,
  panel: Uint8Array,
  blockIndex: number,
  column: number,
): QuantizedColumn {
  const view = new DataView(panel.buffer, panel.byteOffset, panel.byteLength);
  const block = blockIndex * SHAPES[format].panelBytes;
  const half = 2 * halfIndex(column);
  const codeOf = (i: number): number => {
    switch (format) {
      case "q8_0":
        return panelByte(view, block + 16, i, column);
      case "q4_0":
        return panelNibble(view, block + 16, i, column) - 8;
      case "q4_1":
        return panelNibble(view, block + 32, i, column);
      default:
        return format satisfies never;
    }
  };
  return {
    scale: f16ToF32(view.getUint16(block + half, true)),
    minimum: format === "q4_1" ? f16ToF32(view.getUint16(block + 16 + half, true)) : undefined,
    codes: Array.from({ length: QUANT_BLOCK }, (_, i) => codeOf(i)),
  };
}

function panelByte(view: DataView, groups: number, i: number, column: number): number {
  return view.getInt8(groups + 32 * (i >> 2) + 4 * column + (i & 3));
}

function panelNibble(view: DataView, groups: number, i: number, column: number): number {
  const byte = view.getUint8(groups + 16 * (i >> 2) + 4 * (column & 3) + (i & 3));
  return column < 4 ? byte & 15 : byte >> 4;
}

/** The values of one checkpoint row, as its format defines them. */
export function decodeRow(format: WeightFormat, k: number, row: Uint8Array): Float32Array {
  const size = sourceRowBytes(format, k);
  if (row.length < size) {
    throw new RangeError(
      `Cannot decode a ${format} row of ${row.length} bytes: it must have ${size}`,
    );
  }
  const view = new DataView(row.buffer, row.byteOffset, row.byteLength);
  const { elements, sourceBytes } = SHAPES[format];
  const out = new Float32Array(k);
  for (let i = 0; i < k; i++) {
    const block = Math.floor(i / elements) * sourceBytes;
    out[i] = decodeValue(format, view, block, i % elements);
  }
  return out;
}

function decodeValue(format: WeightFormat, view: DataView, block: number, i: number): number {
  switch (format) {
    case "f32":
      return view.getFloat32(block, true);
    case "bf16":
      return bf16ToF32(view.getUint16(block, true));
    case "f16":
      return f16ToF32(view.getUint16(block, true));
    case "q8_0":
      return f16ToF32(view.getUint16(block, true)) * view.getInt8(block + 2 + i);
    case "q4_0":
      return f16ToF32(view.getUint16(block, true)) * (sourceNibble(view, block + 2, i) - 8);
    case "q4_1": {
      const d = f16ToF32(view.getUint16(block, true));
      const m = f16ToF32(view.getUint16(block + 2, true));
      // The sum is exact in double (11-bit mantissas, small exponents), so this rounds once.
      return Math.fround(d * sourceNibble(view, block + 4, i) + m);
    }
    default:
      return groupedRowValue(format, view, block, i);
  }
}

/** GGUF splits a block by halves: low nibbles are elements 0-15, high nibbles 16-31. */
function sourceNibble(view: DataView, codes: number, i: number): number {
  const byte = view.getUint8(codes + (i & 15));
  return i < 16 ? byte & 15 : byte >> 4;
}

function packF32(k: number, source: Uint32Array, rowCount: number, target: Uint32Array): void {
  if (rowCount < PANEL_COLUMNS) target.fill(0);
  for (let column = 0; column < rowCount; column++) {
    const row = column * k;
    for (let i = 0, at = column; i < k; i++, at += 8) target[at] = source[row + i]!;
  }
}

/** Four u32 a k: columns c and c + 4. Each source word holds the same column at k and k + 1. */
function packHalf(k: number, source: Uint32Array, rowCount: number, target: Uint32Array): void {
  const rowWords = k >> 1;
  for (let lane = 0; lane < 4; lane++) {
    if (lane + 4 < rowCount) {
      packHalfPair(source, lane * rowWords, (lane + 4) * rowWords, rowWords, target, lane);
    } else {
      packHalfSingle(source, lane < rowCount ? lane * rowWords : -1, rowWords, target, lane);
    }
  }
}

function packHalfPair(
  source: Uint32Array,
  lowRow: number,
  highRow: number,
  rowWords: number,
  target: Uint32Array,
  lane: number,
): void {
  for (let i = 0, at = lane; i < rowWords; i++, at += 8) {
    const low = source[lowRow + i]!;
    const high = source[highRow + i]!;
    target[at] = (low & 0xffff) | (high << 16);
    target[at + 4] = (low >>> 16) | (high & 0xffff0000);
  }
}

/** Columns 4-7 of this lane are padding; a negative row means that columns 0-3 are, too. */
function packHalfSingle(
  source: Uint32Array,
  row: number,
  rowWords: number,
  target: Uint32Array,
  lane: number,
): void {
  for (let i = 0, at = lane; i < rowWords; i++, at += 8) {
    const low = row < 0 ? 0 : source[row + i]!;
    target[at] = low & 0xffff;
    target[at + 4] = low >>> 16;
  }
}

/** `count` (1 or 2) rows of eight f16 taken from the head of each column's block. */
function packScales(
  source: Uint16Array,
  block: number,
  rowStep: number,
  rowCount: number,
  count: number,
  target: Uint32Array,
  at: number,
): void {
  for (let which = 0; which < count; which++) {
    for (let lane = 0; lane < 4; lane++) {
      const low = lane < rowCount ? source[block + which + lane * rowStep]! : 0;
      const high = lane + 4 < rowCount ? source[block + which + (lane + 4) * rowStep]! : 0;
      target[at + 4 * which + lane] = low | (high << 16);
    }
  }
}

/** A word holds four k of one column. Padding columns keep code 0 under a scale of 0. */
function packQ8(k: number, source: Uint16Array, rowCount: number, target: Uint32Array): void {
  const blocks = k / QUANT_BLOCK;
  const rowStep = blocks * 17;
  if (rowCount < PANEL_COLUMNS) target.fill(0);
  for (let b = 0; b < blocks; b++) {
    const panel = b * 68;
    packScales(source, b * 17, rowStep, rowCount, 1, target, panel);
    for (let column = 0; column < rowCount; column++) {
      const codes = b * 17 + 1 + column * rowStep;
      const words = panel + 4 + column;
      for (let g = 0; g < 8; g++) {
        target[words + 8 * g] = source[codes + 2 * g]! | (source[codes + 2 * g + 1]! << 16);
      }
    }
  }
}

/** One word holds four k of columns L and L + 4; source nibbles are split by halves of the block. */
function packQ4(
  format: "q4_0" | "q4_1",
  k: number,
  source: Uint16Array,
  rowCount: number,
  target: Uint32Array,
): void {
  const scales = format === "q4_0" ? 1 : 2;
  // The code that stands for zero under a scale of 0, without making it a negative zero.
  const padding = format === "q4_0" ? 0x88888888 : 0;
  const blocks = k / QUANT_BLOCK;
  const blockHalves = 8 + scales;
  const rowStep = blocks * blockHalves;
  const panelWords = 32 + 4 * scales;
  for (let b = 0; b < blocks; b++) {
    const block = b * blockHalves;
    const panel = b * panelWords;
    packScales(source, block, rowStep, rowCount, scales, target, panel);
    const codes = block + scales;
    const groups = panel + 4 * scales;
    for (let lane = 0; lane < 4; lane++) {
      const lowRow = codes + lane * rowStep;
      const highRow = codes + (lane + 4) * rowStep;
      for (let g = 0; g < 4; g++) {
        const low = lane < rowCount
          ? source[lowRow + 2 * g]! | (source[lowRow + 2 * g + 1]! << 16)
          : padding;
        const high = lane + 4 < rowCount
          ? source[highRow + 2 * g]! | (source[highRow + 2 * g + 1]! << 16)
          : padding;
        target[groups + 4 * g + lane] = (low & 0x0f0f0f0f) | ((high & 0x0f0f0f0f) << 4);
        target[groups + 4 * g + lane + 16] = ((low >>> 4) & 0x0f0f0f0f) | (high & 0xf0f0f0f0);
      }
    }
  }
}

/** A 32-bit view of the first `size` bytes; a copy where the alignment does not allow one. */
function words32(source: Uint8Array, size: number): Uint32Array {
  return source.byteOffset % 4 === 0
    ? new Uint32Array(source.buffer, source.byteOffset, size >> 2)
    : new Uint32Array(source.slice(0, size).buffer);
}

function words16(source: Uint8Array, size: number): Uint16Array {
  return source.byteOffset % 2 === 0
    ? new Uint16Array(source.buffer, source.byteOffset, size >> 1)
    : new Uint16Array(source.slice(0, size).buffer);
}

function checkK(format: WeightFormat, k: number): void {
  const step = Math.max(PANEL_COLUMNS, SHAPES[format].elements);
  if (!Number.isInteger(k) || k < step || k % step !== 0) {
    throw new RangeError(
      `Cannot store rows of ${k} elements as ${format}: it must be a multiple of ${step}`,
    );
  }
}

function checkPack(
  sourceBytes: number,
  source: Uint8Array,
  rowCount: number,
  targetBytes: number,
  target: Uint8Array,
): void {
  if (!Number.isInteger(rowCount) || rowCount < 1 || rowCount > PANEL_COLUMNS) {
    throw new RangeError(`Cannot pack ${rowCount} rows into a panel: it must be 1 to 8`);
  }
  if (source.length < sourceBytes) {
    throw new RangeError(
      `Cannot pack ${rowCount} rows from ${source.length} bytes: there must be ${sourceBytes}`,
    );
  }
  if (target.length < targetBytes) {
    throw new RangeError(
      `Cannot pack a panel into ${target.length} bytes: there must be ${targetBytes}`,
    );
  }
  if (target.byteOffset % 16 !== 0) {
    throw new RangeError(
      `Cannot pack a panel at byte offset ${target.byteOffset}: it must be a multiple of 16`,
    );
  }
}
