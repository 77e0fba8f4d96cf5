/** The weight formats whose codes lie in groups under float32 scales: what the other formats become. */

import { e4m3ToF32, e5m2ToF32, fusedMultiplyAdd } from "./dtype.ts";

/**
 * They share two layouts, one of a byte and one of four bits a code. Of a checkpoint row a block of
 * 32 k is
 *
 * ```text
 * scales   float32, one, or two where a group has 16 k
 * offset   float32, if there is one
 * codes    32 bytes, or 16 bytes: low nibbles are k 0–15, high nibbles k 16–31
 * ```
 *
 * In a panel each of those numbers becomes a vector of eight float32, in column order, and codes
 * come in 8 groups of 4 k as in q8_0 and q4_0 (`block_formats.ts`). A value is code · scale, or
 * code · scale + offset, rounded once. What a code is:
 *
 * - i8, i8_16, i8_1: a signed byte
 * - e4m3, e5m2: a float of eight bits, as FP8 checkpoints have them
 * - i4: n − 8; u4_1: n; for a nibble n
 * - e2m1, e2m1_16: twice the float of four bits, an integer −12…12
 */
export type GroupedFormat =
  | "i8"
  | "i8_16"
  | "i8_1"
  | "e4m3"
  | "e5m2"
  | "i4"
  | "u4_1"
  | "e2m1"
  | "e2m1_16";

/** What tells one of these formats from another. */
export interface GroupedShape {
  readonly bits: 4 | 8;
  /** k under one scale. */
  readonly groupK: 16 | 32;
  readonly hasOffset: boolean;
  /** The number that each code stands for, 256 or 16 of them; all are exact float32. */
  readonly values: Readonly<Float32Array>;
  /** The code of zero. */
  readonly zero: number;
}

/** k of a block. */
const BLOCK_K = 32;
const COLUMNS = 8;

const BYTES = Int8Array.from({ length: 256 }, (_, code) => code);
const E2M1 = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/** The formats. */
export const GROUPED: Readonly<Record<GroupedFormat, GroupedShape>> = {
  i8: bytes({ groupK: 32 }),
  i8_16: bytes({ groupK: 16 }),
  i8_1: bytes({ groupK: 32, hasOffset: true }),
  e4m3: bytes({ groupK: 32, meaning: e4m3ToF32 }),
  e5m2: bytes({ groupK: 32, meaning: e5m2ToF32 }),
  i4: nibbles({ groupK: 32, meaning: (code) => code - 8, zero: 8 }),
  u4_1: nibbles({ groupK: 32, meaning: (code) => code, hasOffset: true }),
  e2m1: nibbles({ groupK: 32, meaning: (code) => E2M1[code]! }),
  e2m1_16: nibbles({ groupK: 16, meaning: (code) => E2M1[code]! }),
};

function bytes({ groupK, hasOffset = false, meaning = (code) => BYTES[code]! }: {
  readonly groupK: 16 | 32;
  readonly hasOffset?: boolean;
  readonly meaning?: (code: number) => number;
}): GroupedShape {
  const values = Float32Array.from({ length: 256 }, (_, code) => meaning(code));
  return { bits: 8, groupK, hasOffset, values, zero: 0 };
}

function nibbles({ groupK, meaning, hasOffset = false, zero = 0 }: {
  readonly groupK: 16 | 32;
  readonly meaning: (code: number) => number;
  readonly hasOffset?: boolean;
  readonly zero?: number;
}): GroupedShape {
  const values = Float32Array.from({ length: 16 }, (_, code) => meaning(code));
  return { bits: 4, groupK, hasOffset, values, zero };
}

/** Whether a format is one of them. */
export function isGrouped(format: string): format is GroupedFormat {
  return Object.hasOwn(GROUPED, format);
}

/** Float32 numbers before the codes of a column's block. */
export function headerWords({ groupK, hasOffset }: GroupedShape): number {
  return BLOCK_K / groupK + (hasOffset ? 1 : 0);
}

/** Bytes of a block of one row, and of the eight columns of a panel. */
export function groupedBlockBytes(
  format: GroupedFormat,
): { readonly sourceBytes: number; readonly panelBytes: number } {
  const shape = GROUPED[format];
  const sourceBytes = 4 * headerWords(shape) + BLOCK_K * shape.bits / 8;
  return { sourceBytes, panelBytes: COLUMNS * sourceBytes };
}

/** Rows → one panel, both as words; columns without a row become zeros. */
export function packGrouped(
  format: GroupedFormat,
  k: number,
  source: Uint32Array,
  rowCount: number,
  target: Uint32Array,
): void {
  const shape = GROUPED[format];
  const header = headerWords(shape);
  const blockWords = groupedBlockBytes(format).sourceBytes >> 2;
  const blocks = k / BLOCK_K;
  const padding = Math.imul(shape.zero, 0x11111111);
  if (rowCount < COLUMNS) target.fill(0, 0, blocks * blockWords * COLUMNS);
  for (let b = 0; b < blocks; b++) {
    const panel = b * blockWords * COLUMNS;
    const codes = panel + COLUMNS * header;
    for (let column = 0; column < rowCount; column++) {
      const row = (column * blocks + b) * blockWords;
      for (let h = 0; h < header; h++) target[panel + COLUMNS * h + column] = source[row + h]!;
      if (shape.bits === 8) {
        for (let g = 0; g < 8; g++) target[codes + 8 * g + column] = source[row + header + g]!;
      }
    }
    if (shape.bits === 4) {
      for (let lane = 0; lane < 4; lane++) {
        const low = (lane * blocks + b) * blockWords + header;
        const high = ((lane + 4) * blocks + b) * blockWords + header;
        for (let g = 0; g < 4; g++) {
          const a = lane < rowCount ? source[low + g]! : padding;
          const c = lane + 4 < rowCount ? source[high + g]! : padding;
          target[codes + 4 * g + lane] = (a & 0x0f0f0f0f) | ((c & 0x0f0f0f0f) << 4);
          target[codes + 4 * g + lane + 16] = ((a >>> 4) & 0x0f0f0f0f) | (c & 0xf0f0f0f0);
        }
      }
    }
  }
}

/** Element i of the block of a panel that begins at `block`. */
export function groupedPanelValue(
  format: GroupedFormat,
  view: DataView,
  block: number,
  i: number,
  column: number,
): number {
  const shape = GROUPED[format];
  const number = (which: number) => view.getFloat32(block + 4 * (COLUMNS * which + column), true);
  const codes = block + 4 * COLUMNS * headerWords(shape);
  let code: number;
  if (shape.bits === 8) {
    code = view.getUint8(codes + 32 * (i >> 2) + 4 * column + (i & 3));
  } else {
    const byte = view.getUint8(codes + 16 * (i >> 2) + 4 * (column & 3) + (i & 3));
    code = column < 4 ? byte & 15 : byte >> 4;
  }
  return groupedValue(shape, code, i, number);
}

/** Element i of the block of a row that begins at `block`. */
export function groupedRowValue(
  format: GroupedFormat,
  view: DataView,
  block: number,
  i: number,
): number {
  const shape = GROUPED[format];
  const codes = block + 4 * headerWords(shape);
  let code: number;
  if (shape.bits === 8) {
    code = view.getUint8(codes + i);
  } else {
    const byte = view.getUint8(codes + (i & 15));
    code = i < 16 ? byte & 15 : byte >> 4;
  }
  return groupedValue(shape, code, i, (which) => view.getFloat32(block + 4 * which, true));
}

/** `number` gives the numbers of the header. */
function groupedValue(
  shape: GroupedShape,
  code: number,
  i: number,
  number: (which: number) => number,
): number {
  const value = shape.values[code]!;
  const scale = number(Math.floor(i / shape.groupK));
  if (!shape.hasOffset) return Math.fround(value * scale);
  return fusedMultiplyAdd(value, scale, number(BLOCK_K / shape.groupK));
}

/**
 * Expands `values.length` elements of rows, as {@linkcode groupedRowValue} does one by one.
 */
export function expandGrouped(
  format: GroupedFormat,
  source: Uint8Array,
  values: Float32Array,
): void {
  const shape = GROUPED[format];
  const header = headerWords(shape);
  const { sourceBytes } = groupedBlockBytes(format);
  const view = new DataView(source.buffer, source.byteOffset, source.byteLength);
  const table = shape.values;
  for (let b = 0; b * BLOCK_K < values.length; b++) {
    const block = b * sourceBytes;
    const codes = block + 4 * header;
    const first = view.getFloat32(block, true);
    const second = shape.groupK === 16 ? view.getFloat32(block + 4, true) : first;
    const offset = shape.hasOffset ? view.getFloat32(codes - 4, true) : undefined;
    for (let i = 0; i < BLOCK_K; i++) {
      const byte = source[codes + (shape.bits === 8 ? i : i & 15)]!;
      const code = shape.bits === 8 ? byte : i < 16 ? byte & 15 : byte >> 4;
      const scale = i < 16 ? first : second;
      values[b * BLOCK_K + i] = offset === undefined
        ? table[code]! * scale
        : fusedMultiplyAdd(table[code]!, scale, offset);
    }
  }
}
