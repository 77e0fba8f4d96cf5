/** The values of GGUF's block types, straight from their definition: what repacking is held against. */

import { e4m3ToF32, f16ToF32 } from "../../lib/device/dtype.ts";
import type { Random } from "../device/kernel_contract.ts";

/** A type's number in the file, its block, and its values. */
export interface GgufReference {
  readonly typeId: number;
  readonly blockElements: number;
  readonly blockBytes: number;
  /** Offsets of the float16 of a block. */
  readonly halves: readonly number[];
  /** The values of one block. */
  decode(block: Uint8Array): number[];
}

const E2M1 = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

function half(block: Uint8Array, at: number): number {
  return f16ToF32(block[at]! | (block[at + 1]! << 8));
}

/** Scale and minimum of the j-th 32 of a super-block. */
function pair(q: Uint8Array, j: number): [number, number] {
  if (j < 4) return [q[j]! & 63, q[j + 4]! & 63];
  return [
    (q[j + 4]! & 15) | ((q[j - 4]! >> 6) << 4),
    (q[j + 4]! >> 4) | ((q[j]! >> 6) << 4),
  ];
}

/** One value of a K type: every operation is rounded to float32. */
function kValue(block: Uint8Array, j: number, q: number): number {
  const [sc, mn] = pair(block.subarray(4, 16), j);
  const product = Math.fround(Math.fround(half(block, 0) * sc) * q);
  return Math.fround(product - Math.fround(half(block, 2) * mn));
}

function fives(block: Uint8Array, at: number): number[] {
  const qh = new DataView(block.buffer, block.byteOffset).getUint32(at, true);
  return Array.from({ length: 32 }, (_, i) => {
    const byte = block[at + 4 + i % 16]!;
    return (i < 16 ? byte & 15 : byte >> 4) | ((qh >>> i & 1) << 4);
  });
}

/** By the types' names. */
export const GGUF_REFERENCES: Readonly<Record<string, GgufReference>> = {
  Q5_0: {
    typeId: 6,
    blockElements: 32,
    blockBytes: 22,
    halves: [0],
    decode: (block) => fives(block, 2).map((q) => Math.fround((q - 16) * half(block, 0))),
  },
  Q5_1: {
    typeId: 7,
    blockElements: 32,
    blockBytes: 24,
    halves: [0, 2],
    decode: (block) =>
      fives(block, 4).map((q) => Math.fround(Math.fround(q * half(block, 0)) + half(block, 2))),
  },
  Q4_K: {
    typeId: 12,
    blockElements: 256,
    blockBytes: 144,
    halves: [0, 2],
    decode: (block) =>
      Array.from({ length: 256 }, (_, i) => {
        const byte = block[16 + 32 * Math.floor(i / 64) + i % 32]!;
        return kValue(block, Math.floor(i / 32), i % 64 < 32 ? byte & 15 : byte >> 4);
      }),
  },
  Q5_K: {
    typeId: 13,
    blockElements: 256,
    blockBytes: 176,
    halves: [0, 2],
    decode: (block) =>
      Array.from({ length: 256 }, (_, i) => {
        const j = Math.floor(i / 32);
        const byte = block[48 + 32 * Math.floor(i / 64) + i % 32]!;
        const fifth = block[16 + i % 32]! >> j & 1;
        return kValue(block, j, (i % 64 < 32 ? byte & 15 : byte >> 4) + 16 * fifth);
      }),
  },
  Q6_K: {
    typeId: 14,
    blockElements: 256,
    blockBytes: 210,
    halves: [208],
    decode: (block) =>
      Array.from({ length: 256 }, (_, i) => {
        const [n, rest] = [Math.floor(i / 128), i % 128];
        const [quarter, l] = [Math.floor(rest / 32), rest % 32];
        const low = block[64 * n + l + (quarter % 2) * 32]!;
        const high = block[128 + 32 * n + l]! >> (2 * quarter) & 3;
        const q = ((quarter < 2 ? low & 15 : low >> 4) | (high << 4)) - 32;
        const scale = block[192 + 8 * n + Math.floor(l / 16) + 2 * quarter]! << 24 >> 24;
        return Math.fround(Math.fround(half(block, 208) * scale) * q);
      }),
  },
  MXFP4: {
    typeId: 39,
    blockElements: 32,
    blockBytes: 17,
    halves: [],
    decode: (block) =>
      Array.from({ length: 32 }, (_, i) => {
        const byte = block[1 + i % 16]!;
        return E2M1[i < 16 ? byte & 15 : byte >> 4]! * 2 ** (block[0]! - 128);
      }),
  },
  NVFP4: {
    typeId: 40,
    blockElements: 64,
    blockBytes: 36,
    halves: [],
    decode: (block) =>
      Array.from({ length: 64 }, (_, i) => {
        const [run, inRun] = [Math.floor(i / 16), i % 16];
        const byte = block[4 + 8 * run + inRun % 8]!;
        return E2M1[inRun < 8 ? byte & 15 : byte >> 4]! * e4m3ToF32(block[run]! & 127) / 2;
      }),
  },
};

/** The values of whole blocks, one after another. */
export function decodeGguf(type: string, bytes: Uint8Array): Float32Array {
  const { blockBytes, blockElements, decode } = GGUF_REFERENCES[type]!;
  const values = new Float32Array(bytes.length / blockBytes * blockElements);
  for (let b = 0; b * blockBytes < bytes.length; b++) {
    values.set(decode(bytes.subarray(b * blockBytes, (b + 1) * blockBytes)), b * blockElements);
  }
  return values;
}

/** Rows of random codes under scales that make values of about ±`size`. */
export function randomGguf(
  type: string,
  count: number,
  random: Random,
  size = 0.25,
): Uint8Array<ArrayBuffer> {
  const { blockBytes, blockElements, halves } = GGUF_REFERENCES[type]!;
  const bytes = Uint8Array.from(
    { length: count / blockElements * blockBytes },
    () => random.integer(0, 256),
  );
  const largest = { Q5_0: 16, Q5_1: 31, Q4_K: 63 * 15, Q5_K: 63 * 31, Q6_K: 127 * 32 }[type] ?? 1;
  for (let at = 0; at < bytes.length; at += blockBytes) {
    for (const [i, offset] of halves.entries()) {
      const divisor = i === 0 ? largest : type === "Q5_1" ? 1 : 63;
      const bits = Float16Array.of((random.float() - 0.3) * size / divisor);
      bytes.set(new Uint8Array(bits.buffer), at + offset);
    }
    if (type === "MXFP4") bytes[at] = random.integer(118, 125);
    if (type === "NVFP4") { for (let i = 0; i < 4; i++) bytes[at + i] = random.integer(0, 0x18); }
  }
  return bytes;
}
