/**
 * GGUF's block types as the rows that weight panels are packed from (`device/grouped_blocks.ts`).
 *
 * Nothing is rounded that llama.cpp does not round. Its scales d · sc and minima dmin · mn are
 * products of a float16 and an integer of six or eight bits, exact in float32; five and six bits a
 * code become eight.
 */

import type { WeightFormat } from "../../device/block_formats.ts";
import { e4m3ToF32, f16ToF32 } from "../../device/dtype.ts";

/** One type: what it is repacked to, and how. */
export interface GgufBlockType {
  readonly format: WeightFormat;
  readonly blockElements: number;
  readonly blockBytes: number;
  /** Whole blocks of the type into whole blocks of the format. */
  repack(source: Uint8Array, target: Uint8Array): void;
}

/** The types that are not stored in a panel's own format, by the name that the format's documents have. */
export const GGUF_BLOCK_TYPES: ReadonlyMap<string, GgufBlockType> = new Map([
  ["Q5_0", { format: "q8_0", blockElements: 32, blockBytes: 22, repack: repackQ5 }],
  ["Q5_1", { format: "i8_1", blockElements: 32, blockBytes: 24, repack: repackQ5Affine }],
  ["Q4_K", { format: "u4_1", blockElements: 256, blockBytes: 144, repack: repackQ4K }],
  ["Q5_K", { format: "i8_1", blockElements: 256, blockBytes: 176, repack: repackQ5K }],
  ["Q6_K", { format: "i8_16", blockElements: 256, blockBytes: 210, repack: repackQ6K }],
  ["MXFP4", { format: "e2m1", blockElements: 32, blockBytes: 17, repack: repackMxfp4 }],
  ["NVFP4", { format: "e2m1_16", blockElements: 64, blockBytes: 36, repack: repackNvfp4 }],
]);

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** d · (q − 16): five bits become a signed byte. */
function repackQ5(source: Uint8Array, target: Uint8Array): void {
  const view = viewOf(source);
  for (let from = 0, to = 0; from < source.length; from += 22, to += 34) {
    target[to] = source[from]!;
    target[to + 1] = source[from + 1]!;
    const high = view.getUint32(from + 2, true);
    for (let j = 0; j < 16; j++) {
      const byte = source[from + 6 + j]!;
      target[to + 2 + j] = ((byte & 15) | ((high >>> j & 1) << 4)) - 16;
      target[to + 18 + j] = ((byte >> 4) | ((high >>> (j + 16) & 1) << 4)) - 16;
    }
  }
}

/** d · q + m. */
function repackQ5Affine(source: Uint8Array, target: Uint8Array): void {
  const view = viewOf(source);
  const out = viewOf(target);
  for (let from = 0, to = 0; from < source.length; from += 24, to += 40) {
    out.setFloat32(to, f16ToF32(view.getUint16(from, true)), true);
    out.setFloat32(to + 4, f16ToF32(view.getUint16(from + 2, true)), true);
    const high = view.getUint32(from + 4, true);
    for (let j = 0; j < 16; j++) {
      const byte = source[from + 8 + j]!;
      target[to + 8 + j] = (byte & 15) | ((high >>> j & 1) << 4);
      target[to + 24 + j] = (byte >> 4) | ((high >>> (j + 16) & 1) << 4);
    }
  }
}

/** The six-bit scale and minimum of the j-th 32 of a super-block, from its twelve bytes at `at`. */
function subScale(bytes: Uint8Array, at: number, j: number): number {
  return j < 4 ? bytes[at + j]! & 63 : (bytes[at + j + 4]! & 15) | ((bytes[at + j - 4]! >> 6) << 4);
}

function subMinimum(bytes: Uint8Array, at: number, j: number): number {
  return j < 4 ? bytes[at + j + 4]! & 63 : (bytes[at + j + 4]! >> 4) | ((bytes[at + j]! >> 6) << 4);
}

/** d · sc · q − dmin · mn, for each 32 of a super-block of 256. */
function repackQ4K(source: Uint8Array, target: Uint8Array): void {
  const view = viewOf(source);
  const out = viewOf(target);
  for (let from = 0, to = 0; from < source.length; from += 144) {
    const d = f16ToF32(view.getUint16(from, true));
    const dMin = f16ToF32(view.getUint16(from + 2, true));
    for (let j = 0; j < 8; j++, to += 24) {
      out.setFloat32(to, d * subScale(source, from + 4, j), true);
      out.setFloat32(to + 4, -dMin * subMinimum(source, from + 4, j), true);
      // 64 elements share 32 bytes: the first 32 are the low nibbles.
      const codes = from + 16 + 32 * (j >> 1);
      for (let i = 0; i < 16; i++) {
        const [low, high] = [source[codes + i]!, source[codes + 16 + i]!];
        target[to + 8 + i] = j % 2 === 0
          ? (low & 15) | ((high & 15) << 4)
          : (low >> 4) | (high & 0xf0);
      }
    }
  }
}

/** The same with a fifth bit, of all super-block's j-th 32 in bit j of 32 bytes. */
function repackQ5K(source: Uint8Array, target: Uint8Array): void {
  const view = viewOf(source);
  const out = viewOf(target);
  for (let from = 0, to = 0; from < source.length; from += 176) {
    const d = f16ToF32(view.getUint16(from, true));
    const dMin = f16ToF32(view.getUint16(from + 2, true));
    for (let j = 0; j < 8; j++, to += 40) {
      out.setFloat32(to, d * subScale(source, from + 4, j), true);
      out.setFloat32(to + 4, -dMin * subMinimum(source, from + 4, j), true);
      const codes = from + 48 + 32 * (j >> 1);
      for (let i = 0; i < 32; i++) {
        const byte = source[codes + i]!;
        const fifth = source[from + 16 + i]! >> j & 1;
        target[to + 8 + i] = (j % 2 === 0 ? byte & 15 : byte >> 4) | (fifth << 4);
      }
    }
  }
}

/** d · sc · (q − 32), a signed scale for each 16 of a super-block of 256; d comes last. */
function repackQ6K(source: Uint8Array, target: Uint8Array): void {
  const view = viewOf(source);
  const out = viewOf(target);
  for (let from = 0, to = 0; from < source.length; from += 210) {
    const d = f16ToF32(view.getUint16(from + 208, true));
    for (let j = 0; j < 8; j++, to += 40) {
      out.setFloat32(to, d * view.getInt8(from + 192 + 2 * j), true);
      out.setFloat32(to + 4, d * view.getInt8(from + 193 + 2 * j), true);
      // Each 128 elements: two runs of 32 in the low nibbles of 64 bytes, two in the high ones.
      const [half, quarter] = [j >> 2, j & 3];
      const low = from + 64 * half + 32 * (quarter & 1);
      const high = from + 128 + 32 * half;
      for (let i = 0; i < 32; i++) {
        const nibble = quarter < 2 ? source[low + i]! & 15 : source[low + i]! >> 4;
        target[to + 8 + i] = (nibble | ((source[high + i]! >> (2 * quarter) & 3) << 4)) - 32;
      }
    }
  }
}

/** Codes stand for twice their value, so the scale is half of 2^(e − 127). */
function repackMxfp4(source: Uint8Array, target: Uint8Array): void {
  const out = viewOf(target);
  for (let from = 0, to = 0; from < source.length; from += 17, to += 20) {
    out.setFloat32(to, 2 ** (source[from]! - 128), true);
    target.set(source.subarray(from + 1, from + 17), to + 4);
  }
}

/** Four runs of 16 with their own scale; the low nibbles of a run are its first eight. */
function repackNvfp4(source: Uint8Array, target: Uint8Array): void {
  const out = viewOf(target);
  for (let from = 0, to = 0; from < source.length; from += 36) {
    for (let pair = 0; pair < 2; pair++, to += 24) {
      for (let run = 0; run < 2; run++) {
        const scale = e4m3ToF32(source[from + 2 * pair + run]! & 0x7f) / 2;
        out.setFloat32(to + 4 * run, scale, true);
      }
      const first = from + 4 + 16 * pair;
      for (let i = 0; i < 8; i++) {
        const [a, b] = [source[first + i]!, source[first + 8 + i]!];
        target[to + 8 + i] = (a & 15) | ((b & 15) << 4);
        target[to + 16 + i] = (a >> 4) | (b & 0xf0);
      }
    }
  }
}
