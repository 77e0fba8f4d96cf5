/**
 * Float32 → GGUF's block types, in the plainest way: scales from the extremes of each block. Those
 * who make such files search for better scales, so that their loss is smaller than this one.
 */

import { f16ToF32, f32ToF16 } from "../../lib/device/dtype.ts";

/** One type: its number in the file, its block, and how a block is written. */
export interface GgufQuantizer {
  readonly typeId: number;
  readonly blockElements: number;
  readonly blockBytes: number;
  store(x: Float32Array, block: Uint8Array): void;
}

/** By the type's name. */
export const GGUF_QUANTIZERS: Readonly<
  Record<"Q5_0" | "Q5_1" | "Q4_K" | "Q5_K" | "Q6_K" | "MXFP4", GgufQuantizer>
> = {
  Q5_0: { typeId: 6, blockElements: 32, blockBytes: 22, store: storeQ5 },
  Q5_1: { typeId: 7, blockElements: 32, blockBytes: 24, store: storeQ5Affine },
  Q4_K: { typeId: 12, blockElements: 256, blockBytes: 144, store: (x, b) => storeK(x, b, 4) },
  Q5_K: { typeId: 13, blockElements: 256, blockBytes: 176, store: (x, b) => storeK(x, b, 5) },
  Q6_K: { typeId: 14, blockElements: 256, blockBytes: 210, store: storeQ6K },
  MXFP4: { typeId: 39, blockElements: 32, blockBytes: 17, store: storeMxfp4 },
};

/** Stores a float16 and gives what it became. */
function putHalf(block: Uint8Array, at: number, value: number): number {
  const bits = f32ToF16(value);
  block[at] = bits & 255;
  block[at + 1] = bits >> 8;
  return f16ToF32(bits);
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, Math.round(value)));
}

/** The value of largest magnitude, with its sign. */
function largest(x: Float32Array): number {
  return x.reduce((most, value) => Math.abs(value) > Math.abs(most) ? value : most, 0);
}

function putFives(block: Uint8Array, at: number, codes: readonly number[]): void {
  let high = 0;
  for (let i = 0; i < 32; i++) high |= (codes[i]! >> 4) << i;
  new DataView(block.buffer, block.byteOffset).setUint32(at, high >>> 0, true);
  for (let i = 0; i < 16; i++) {
    block[at + 4 + i] = (codes[i]! & 15) | ((codes[i + 16]! & 15) << 4);
  }
}

function storeQ5(x: Float32Array, block: Uint8Array): void {
  const d = putHalf(block, 0, largest(x) / -16);
  putFives(block, 2, Array.from(x, (value) => d === 0 ? 16 : clamp(value / d + 16, 0, 31)));
}

function storeQ5Affine(x: Float32Array, block: Uint8Array): void {
  const low = Math.min(...x);
  const d = putHalf(block, 0, (Math.max(...x) - low) / 31);
  const m = putHalf(block, 2, low);
  putFives(block, 4, Array.from(x, (value) => d === 0 ? 0 : clamp((value - m) / d, 0, 31)));
}

/** Scales and minima of eight runs of 32, six bits each under one float16 for all. */
function storeK(x: Float32Array, block: Uint8Array, bits: 4 | 5): void {
  const top = 2 ** bits - 1;
  const runs = Array.from({ length: 8 }, (_, j) => x.subarray(32 * j, 32 * j + 32));
  const minima = runs.map((run) => Math.max(0, -Math.min(...run)));
  const scales = runs.map((run, j) => (Math.max(0, ...run) + minima[j]!) / top);
  const d = putHalf(block, 0, Math.max(...scales) / 63);
  const dMin = putHalf(block, 2, Math.max(...minima) / 63);
  const sc = scales.map((scale) => d === 0 ? 0 : clamp(scale / d, 0, 63));
  const mn = minima.map((minimum) => dMin === 0 ? 0 : clamp(minimum / dMin, 0, 63));
  for (let j = 0; j < 4; j++) {
    block[4 + j] = sc[j]! | ((sc[j + 4]! >> 4) << 6);
    block[8 + j] = mn[j]! | ((mn[j + 4]! >> 4) << 6);
    block[12 + j] = (sc[j + 4]! & 15) | ((mn[j + 4]! & 15) << 4);
  }
  const [high, low] = [16, bits === 4 ? 16 : 48];
  block.fill(0, 16);
  for (let i = 0; i < 256; i++) {
    const j = i >> 5;
    const [scale, minimum] = [d * sc[j]!, dMin * mn[j]!];
    const code = scale === 0 ? 0 : clamp((x[i]! + minimum) / scale, 0, top);
    block[low + 32 * (i >> 6) + (i & 31)]! |= (code & 15) << (j % 2 === 0 ? 0 : 4);
    if (bits === 5) block[high + (i & 31)]! |= (code >> 4) << j;
  }
}

/** A signed scale of eight bits for each 16. */
function storeQ6K(x: Float32Array, block: Uint8Array): void {
  const scales = Array.from(
    { length: 16 },
    (_, j) => largest(x.subarray(16 * j, 16 * j + 16)) / -32,
  );
  const d = putHalf(block, 208, largest(Float32Array.from(scales)) / -128);
  block.fill(0, 0, 192);
  for (let i = 0; i < 256; i++) {
    const scale = d === 0 ? 0 : clamp(scales[i >> 4]! / d, -128, 127);
    block[192 + (i >> 4)] = scale;
    const code = scale === 0 ? 32 : clamp(x[i]! / (d * scale) + 32, 0, 63);
    const [half, quarter, l] = [i >> 7, i >> 5 & 3, i & 31];
    block[64 * half + 32 * (quarter & 1) + l]! |= (code & 15) << (quarter < 2 ? 0 : 4);
    block[128 + 32 * half + l]! |= (code >> 4) << (2 * quarter);
  }
}

const E2M1 = [0, 1, 2, 3, 4, 6, 8, 12];

/** The power of two that keeps the largest value within 6. */
function storeMxfp4(x: Float32Array, block: Uint8Array): void {
  const most = Math.abs(largest(x));
  const e = most === 0 ? 0 : Math.floor(Math.log2(most)) - 2;
  block[0] = e + 127;
  const codeOf = (value: number): number => {
    const size = Math.abs(value) * 2 ** (1 - e);
    let best = 0;
    E2M1.forEach((each, code) => {
      if (Math.abs(each - size) < Math.abs(E2M1[best]! - size)) best = code;
    });
    return best | (value < 0 ? 8 : 0);
  };
  for (let i = 0; i < 16; i++) block[1 + i] = codeOf(x[i]!) | (codeOf(x[i + 16]!) << 4);
}
