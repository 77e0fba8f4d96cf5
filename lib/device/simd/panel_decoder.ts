/**
 * Code that turns the weights of a panel into float32 lanes, one decoder a format.
 *
 * A decoder works in steps of a few k. Within a step the caller asks for the k-th eight weights and
 * gets two vectors: columns 0–3 and columns 4–7. Every value of {@linkcode createDecoder} is the one
 * its format defines, bit for bit, infinities and NaN of float16 included; the others say where
 * they differ.
 */

import { type Body, type Expr, type FunctionScope, type Local, set } from "./assembler.ts";
import { QUANT_BLOCK, type WeightFormat } from "../block_formats.ts";
import type { PanelDecoder } from "./decoder.ts";
import { createGroupedDecoder, isFloat8 } from "./grouped_decoder.ts";
import { HALF_BITS, HALF_FACTOR, HalfExpander, mayHaveNotFinite } from "./half_expander.ts";
import { f32x4, i16x8, i32x4, i8x16, v128 } from "./instructions.ts";

/** k of a step where the format does not say: any k is a multiple of it. */
const STEP_K = 8;

/**
 * The decoder of a format; its locals belong to `scope`. Every value has its exact bits. A step of
 * the formats that are not in blocks has `stepK` k.
 */
export function createDecoder(
  format: WeightFormat,
  scope: FunctionScope,
  stepK: number = STEP_K,
): PanelDecoder {
  switch (format) {
    case "f32":
      return decodeF32(stepK);
    case "bf16":
      return decodeBf16(scope, stepK);
    case "f16":
      return decodeF16(scope, stepK);
    case "q8_0":
      return decodeQ8(scope);
    case "q4_0":
      return decodeQ4Symmetric(scope);
    case "q4_1":
      return decodeQ4Affine(scope);
    default:
      return createGroupedDecoder(format, scope, "exact");
  }
}

/** A faster decoder, where there is one, that may raise a doubt; else the exact one. */
export function createFastDecoder(
  format: WeightFormat,
  scope: FunctionScope,
  stepK: number = STEP_K,
): PanelDecoder {
  if (format === "f16") return decodeFiniteF16(scope, stepK);
  return isFloat8(format)
    ? createGroupedDecoder(format, scope, "finite")
    : createDecoder(format, scope, stepK);
}

/**
 * A fast decoder for sums that start at +0: it may also give +0 for a weight of −0, which such a
 * sum cannot tell apart, and NaN for an infinite weight under an infinite scale. Where it has a
 * factor, it is for the activations to make up for it.
 */
export function createSumDecoder(
  format: WeightFormat,
  scope: FunctionScope,
  stepK: number = STEP_K,
): PanelDecoder {
  switch (format) {
    case "q4_0":
      return decodeQ4Sum(scope);
    case "f16":
      return decodeSmallF16(scope, stepK);
    default:
      return createFastDecoder(format, scope, stepK);
  }
}

/** Whether the fast decoder of a format may raise a doubt. */
export function mayDoubt(format: WeightFormat): boolean {
  return format === "f16" || isFloat8(format);
}

const NOTHING: Body = [];

/** k of a group of codes, one byte each in every lane. */
const GROUP_K = 4;

/** The k of a block in classes 0 and 1 (mod 4), or 2 and 3. */
function classPair(pair: 0 | 1): number[] {
  return ascending(QUANT_BLOCK).filter((i) => i % 4 >> 1 === pair);
}

/** 0, 1, 2, … */
function ascending(stepK: number): number[] {
  return Array.from({ length: stepK }, (_, i) => i);
}

function decodeF32(stepK: number): PanelDecoder {
  return {
    stepK,
    stepBytes: stepK * 32,
    order: ascending(stepK),
    setup: NOTHING,
    begin: () => NOTHING,
    weights: (step, i) => ({
      prepare: NOTHING,
      low: v128.load(step, 32 * i),
      high: v128.load(step, 32 * i + 16),
    }),
  };
}

/** A bfloat16 is the upper half of its float32. */
function decodeBf16(scope: FunctionScope, stepK: number): PanelDecoder {
  const mask = scope.local("v128");
  const both = scope.local("v128");
  return {
    stepK,
    stepBytes: stepK * 16,
    order: ascending(stepK),
    setup: [set(mask, v128.constI32(0xffff0000))],
    begin: () => NOTHING,
    weights: (step, i) => ({
      prepare: [set(both, v128.load(step, 16 * i))],
      low: i32x4.shl(both, 16),
      high: v128.and(both, mask),
    }),
  };
}

function decodeF16(scope: FunctionScope, stepK: number): PanelDecoder {
  const halves = new HalfExpander(scope, 1);
  const both = scope.local("v128");
  const low = scope.local("v128");
  const high = scope.local("v128");
  return {
    stepK,
    stepBytes: stepK * 16,
    order: ascending(stepK),
    setup: halves.setup,
    begin: () => NOTHING,
    weights: (step, i) => ({
      prepare: [
        set(both, v128.load(step, 16 * i)),
        halves.expandLow(low, both),
        halves.expandHigh(high, both),
      ],
      low,
      high,
    }),
  };
}

/** Takes infinities and NaN for finite numbers, and says so: that spares half of the work. */
function decodeFiniteF16(scope: FunctionScope, stepK: number): PanelDecoder {
  const bits = scope.local("v128");
  const factor = scope.local("v128");
  const both = scope.local("v128");
  const largest = scope.local("v128");
  const expand = (top: Expr<"v128">): Expr<"v128"> =>
    f32x4.mul(v128.and(i32x4.shrS(top, 3), bits), factor);
  return {
    stepK,
    stepBytes: stepK * 16,
    order: ascending(stepK),
    setup: [set(bits, v128.constI32(HALF_BITS)), set(factor, v128.constF32(HALF_FACTOR))],
    begin: () => NOTHING,
    weights: (step, i) => ({
      prepare: [
        set(both, v128.load(step, 16 * i)),
        // Doubled, a half loses its sign.
        set(largest, i16x8.maxU(largest, i16x8.add(both, both))),
      ],
      low: expand(i32x4.shl(both, 16)),
      high: expand(both),
    }),
    doubt: {
      reset: [set(largest, v128.zero)],
      // 0xf800 is infinity doubled.
      found: v128.anyTrue(i16x8.gtU(largest, v128.constI32(0xf7fff7ff))),
    },
  };
}

/**
 * Leaves out the multiplication too: with the exponent's bits where they belong, but the bias of a
 * half, a number is 2^−112 of what it should be, subnormals included.
 *
 * Upper halves are moved by a shift, lower ones by a multiplication of integers, because either
 * alone would keep some vector units waiting for the others. To notice infinities and NaN, bits of
 * exponents are gathered: all of them are set then, and seldom otherwise.
 */
function decodeSmallF16(scope: FunctionScope, stepK: number): PanelDecoder {
  const bits = scope.local("v128");
  const toPlace = scope.local("v128");
  const both = scope.local("v128");
  const seen = scope.local("v128");
  return {
    stepK,
    stepBytes: stepK * 16,
    order: ascending(stepK),
    setup: [
      set(bits, v128.constI32(HALF_BITS)),
      // Lower halves times 2^13, upper ones times 0.
      set(toPlace, v128.constI32(1 << 13)),
    ],
    begin: () => NOTHING,
    weights: (step, i) => ({
      prepare: [set(both, v128.load(step, 16 * i)), set(seen, v128.or(seen, both))],
      low: v128.and(i32x4.dotI16x8S(both, toPlace), bits),
      high: v128.and(i32x4.shrS(both, 3), bits),
    }),
    doubt: {
      reset: [set(seen, v128.zero)],
      found: mayHaveNotFinite(seen),
    },
    factor: HALF_FACTOR,
  };
}

/**
 * w = d · q. A byte moved to the top of its lane is q · 2^24 as an integer, in one instruction; the
 * scales carry the 2^−24. Both products are exact: 8 and 11 significant bits. Two classes of k are
 * worked through before the other two, so that the swizzles of two are enough at a time.
 */
function decodeQ8(scope: FunctionScope): PanelDecoder {
  const halves = new HalfExpander(scope, 2 ** -24);
  const scales = scope.locals("v128", 2) as [Local<"v128">, Local<"v128">];
  const swizzles = scope.locals("v128", GROUP_K);
  const codes = scope.locals("v128", 2) as [Local<"v128">, Local<"v128">];
  const toTop = (u: number): Expr<"v128"> =>
    v128.constBytes([0, 1, 2, 3].flatMap((lane) => [0x80, 0x80, 0x80, 4 * lane + u]));
  const weight = (i: number, half: 0 | 1): Expr<"v128"> => {
    const top = i8x16.relaxedSwizzle(codes[half], swizzles[i % GROUP_K] as Local<"v128">);
    return f32x4.mul(f32x4.convertI32x4S(top), scales[half]);
  };
  return {
    stepK: QUANT_BLOCK,
    stepBytes: 16 + 8 * QUANT_BLOCK,
    order: [...classPair(0), ...classPair(1)],
    setup: [halves.setup, swizzles.map((swizzle, u) => set(swizzle, toTop(u)))],
    begin: (step) => halves.expandScales(scales, codes[0], step, 0),
    weights: (step, i) => ({
      // The first of a pair loads for both.
      prepare: i % 2 === 1
        ? NOTHING
        : codes.map((half, h) => set(half, v128.load(step, 16 + 32 * (i >> 2) + 16 * h))),
      low: weight(i, 0),
      high: weight(i, 1),
    }),
  };
}

/**
 * w = d · (q − 8). Flipping its top bit makes a nibble the signed number q − 8; at the top of its
 * lane it is (q − 8) · 2^28 as an integer, and the scales carry the 2^−28.
 */
function decodeQ4Symmetric(scope: FunctionScope): PanelDecoder {
  const halves = new HalfExpander(scope, 2 ** -28);
  const scales = scope.locals("v128", 2) as [Local<"v128">, Local<"v128">];
  const flip = scope.local("v128");
  const top = scope.local("v128");
  const group = scope.local("v128");
  const weight = (bit: number, scale: Expr<"v128">): Expr<"v128"> => {
    const shifted = bit === 28 ? group : i32x4.shl(group, 28 - bit);
    return f32x4.mul(f32x4.convertI32x4S(v128.and(shifted, top)), scale);
  };
  return {
    stepK: QUANT_BLOCK,
    stepBytes: 16 + 4 * QUANT_BLOCK,
    order: ascending(QUANT_BLOCK),
    setup: [
      halves.setup,
      set(flip, v128.constI32(0x88888888)),
      set(top, v128.constI32(0xf0000000)),
    ],
    begin: (step) => halves.expandScales(scales, group, step, 0),
    weights: (step, i) => ({
      prepare: i % 4 === 0 ? [set(group, v128.xor(v128.load(step, 16 + 4 * i), flip))] : NOTHING,
      low: weight(8 * (i % 4), scales[0]),
      high: weight(8 * (i % 4) + 4, scales[1]),
    }),
  };
}

/** w = d · q + m: the product is exact (4 and 11 bits), so that fused or not it rounds once. */
function decodeQ4Affine(scope: FunctionScope): PanelDecoder {
  const minima = scope.locals("v128", 2) as [Local<"v128">, Local<"v128">];
  return decodeNibbles(scope, 32, minima, (halves, _scales, spare, step) => [
    halves.expandScales(minima, spare, step, 16),
  ]);
}

/** w = d · q − 8 · d: both products and their sum are exact, so this is d · (q − 8). */
function decodeQ4Sum(scope: FunctionScope): PanelDecoder {
  const minima = scope.locals("v128", 2) as [Local<"v128">, Local<"v128">];
  return decodeNibbles(scope, 16, minima, (_halves, scales, spare) => [
    set(spare, v128.constF32(-8)),
    minima.map((minimum, half) => set(minimum, f32x4.mul(scales[half] as Local<"v128">, spare))),
  ]);
}

/**
 * w = d · q + minimum, with groups of nibbles from byte `header` of a block on.
 *
 * To bring byte u of each lane down, the group is loaded anew u bytes further on, which takes no
 * vector instruction as a shift would; upper nibbles stay where they are, 16 · q under scales of
 * d / 16. Only the block's last group is shifted: its loads would reach beyond the panel. Two
 * classes of k are worked through before the other two, because the accumulators of all four leave
 * too few registers for the rest.
 */
function decodeNibbles(
  scope: FunctionScope,
  header: number,
  minima: readonly [Local<"v128">, Local<"v128">],
  expandMinima: (
    halves: HalfExpander,
    scales: readonly [Local<"v128">, Local<"v128">],
    spare: Local<"v128">,
    step: Expr<"i32">,
  ) => Body,
): PanelDecoder {
  const halves = new HalfExpander(scope, 1);
  const scales = scope.locals("v128", 2) as [Local<"v128">, Local<"v128">];
  const lowMask = scope.local("v128");
  const highMask = scope.local("v128");
  const group = scope.local("v128");
  const loadByte = (step: Expr<"i32">, i: number): Expr<"v128"> => {
    const u = i % GROUP_K;
    const groupStart = header + 4 * (i - u);
    if (i < QUANT_BLOCK - GROUP_K || u === 0) return v128.load(step, groupStart + u);
    return i32x4.shrU(v128.load(step, groupStart), 8 * u);
  };
  const weight = (mask: Local<"v128">, half: 0 | 1): Expr<"v128"> =>
    f32x4.relaxedMadd(f32x4.convertI32x4S(v128.and(group, mask)), scales[half], minima[half]);
  return {
    stepK: QUANT_BLOCK,
    stepBytes: header + 4 * QUANT_BLOCK,
    order: [...classPair(0), ...classPair(1)],
    setup: [
      halves.setup,
      set(lowMask, v128.constI32(0x0f)),
      set(highMask, v128.constI32(0xf0)),
    ],
    begin: (step) => [
      halves.expandScales(scales, group, step, 0),
      expandMinima(halves, scales, group, step),
      set(scales[1], f32x4.mul(scales[1], v128.constF32(1 / 16))),
    ],
    weights: (step, i) => ({
      prepare: [set(group, loadByte(step, i))],
      low: weight(lowMask, 0),
      high: weight(highMask, 1),
    }),
  };
}
