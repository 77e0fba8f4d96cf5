/** Decoders of the formats with float32 scales (`grouped_blocks.ts`): bytes, floats of eight bits, nibbles. */

import { type Body, type Expr, type FunctionScope, type Local, set } from "./assembler.ts";
import { GROUPED, type GroupedFormat, type GroupedShape, headerWords } from "../grouped_blocks.ts";
import { f32x4, i32x4, i8x16, v128 } from "./instructions.ts";
import type { PanelDecoder } from "./decoder.ts";

/** Formats whose codes are floats of eight bits. */
export function isFloat8(format: string): format is "e4m3" | "e5m2" {
  return format === "e4m3" || format === "e5m2";
}

/** k of a block, and of a group of codes. */
const BLOCK_K = 32;
const GROUP_K = 4;

/** A float of eight bits at the top of a lane, on its way to a float32. */
interface Float8 {
  /** How far down its exponent belongs; the sign follows as copies that `bits` cuts off. */
  readonly shift: number;
  readonly bits: number;
  /** The difference of the biases; it makes subnormals right as well. */
  readonly factor: number;
  /** The bits of a byte that are all set in numbers that are not finite. */
  readonly notFinite: number;
  /** What is set in those: everything for NaN, or only the exponent, as infinities have it. */
  readonly ones: number;
}

const FLOAT8: Readonly<Record<"e4m3" | "e5m2", Float8>> = {
  e4m3: {
    shift: 4,
    bits: 0x87f00000,
    factor: 2 ** 120,
    notFinite: 0x7f,
    ones: 0x7fffffff,
  },
  e5m2: {
    shift: 3,
    bits: 0x8fe00000,
    factor: 2 ** 112,
    notFinite: 0x7c,
    ones: 0x7f800000,
  },
};

/**
 * The decoder of a format. A "finite" one takes infinities and NaN of eight bits for finite
 * numbers and raises a doubt.
 */
export function createGroupedDecoder(
  format: GroupedFormat,
  scope: FunctionScope,
  kind: "exact" | "finite",
): PanelDecoder {
  const shape = GROUPED[format];
  const codes = shape.bits === 8 ? loadBytes(scope) : loadNibbles(scope, shape);
  const lanes = isFloat8(format)
    ? expandFloat8(scope, FLOAT8[format], kind)
    : { setup: [], gather: () => [], expand: byteOf };
  const scales = scope.locals("v128", 2) as Pair;
  const offsets = shape.hasOffset ? scope.locals("v128", 2) as Pair : undefined;
  const codesStart = 32 * headerWords(shape);
  const loadPair = (pair: Pair, step: Expr<"i32">, which: number): Body =>
    pair.map((half, h) => set(half, v128.load(step, 32 * which + 16 * h)));
  const weight = (i: number, half: 0 | 1): Expr<"v128"> => {
    const value = lanes.expand(codes.halves[half], i % GROUP_K);
    return offsets === undefined
      ? f32x4.mul(value, scales[half])
      : f32x4.relaxedMadd(value, scales[half], offsets[half]);
  };
  return {
    stepK: BLOCK_K,
    stepBytes: codesStart + BLOCK_K * shape.bits,
    order: Array.from({ length: BLOCK_K }, (_, i) => i),
    setup: [codes.setup, lanes.setup],
    begin: (step) => offsets === undefined ? [] : loadPair(offsets, step, BLOCK_K / shape.groupK),
    weights: (step, i) => ({
      prepare: [
        i % shape.groupK === 0 ? loadPair(scales, step, i / shape.groupK) : [],
        i % GROUP_K === 0
          ? [codes.load(step, codesStart, i / GROUP_K), lanes.gather(codes.halves)]
          : [],
      ],
      low: weight(i, 0),
      high: weight(i, 1),
    }),
    ...(lanes.doubt === undefined ? {} : { doubt: lanes.doubt }),
  };
}

/** A vector of columns 0–3 and one of columns 4–7. */
type Pair = [Local<"v128">, Local<"v128">];

/** Emits the loads of a group: four bytes, one each k, in the lane of every column. */
interface CodeLoader {
  readonly setup: Body;
  readonly halves: Pair;
  load(step: Expr<"i32">, start: number, group: number): Body;
}

function loadBytes(scope: FunctionScope): CodeLoader {
  const halves = scope.locals("v128", 2) as Pair;
  return {
    setup: [],
    halves,
    load: (step, start, group) =>
      halves.map((half, h) => set(half, v128.load(step, start + 32 * group + 16 * h))),
  };
}

/** Nibbles become the signed bytes that they stand for, by a table if they are not those already. */
function loadNibbles(scope: FunctionScope, { values }: GroupedShape): CodeLoader {
  const halves = scope.locals("v128", 2) as Pair;
  const table = scope.local("v128");
  const mask = scope.local("v128");
  const isPlain = values.every((value, code) => value === code);
  const look = (nibbles: Expr<"v128">): Expr<"v128"> =>
    isPlain ? nibbles : i8x16.relaxedSwizzle(table, nibbles);
  return {
    setup: [
      set(mask, v128.constI32(0x0f0f0f0f)),
      isPlain ? [] : [set(table, v128.constBytes([...values].map((value) => value & 255)))],
    ],
    halves,
    load: (step, start, group) => [
      set(halves[1], v128.load(step, start + 16 * group)),
      set(halves[0], look(v128.and(halves[1], mask))),
      set(halves[1], look(v128.and(i32x4.shrU(halves[1], 4), mask))),
    ],
  };
}

/** Emits the float32 of a byte of each lane. */
interface LaneExpander {
  readonly setup: Body;
  /** Looks at all codes of a group. */
  gather(halves: Pair): Body;
  expand(codes: Expr<"v128">, u: number): Expr<"v128">;
  readonly doubt?: PanelDecoder["doubt"];
}

/** Byte u of each lane at its top. */
function atTop(codes: Expr<"v128">, u: number): Expr<"v128"> {
  return u === 3 ? codes : i32x4.shl(codes, 24 - 8 * u);
}

/** Byte u of each lane as a signed number. */
function byteOf(codes: Expr<"v128">, u: number): Expr<"v128"> {
  return f32x4.convertI32x4S(i32x4.shrS(atTop(codes, u), 24));
}

function expandFloat8(
  scope: FunctionScope,
  { shift, bits, factor, notFinite, ones }: Float8,
  kind: "exact" | "finite",
): LaneExpander {
  const bitMask = scope.local("v128");
  const factors = scope.local("v128");
  const finiteMask = scope.local("v128");
  const setup: Body = [
    set(bitMask, v128.constI32(bits)),
    set(factors, v128.constF32(factor)),
    set(finiteMask, v128.constI32(Math.imul(notFinite, 0x01010101))),
  ];
  const finite = (top: Expr<"v128">): Expr<"v128"> =>
    f32x4.mul(v128.and(i32x4.shrS(top, shift), bitMask), factors);
  if (kind === "finite") {
    const found = scope.local("v128");
    return {
      setup,
      gather: (halves) =>
        halves.map((half) =>
          set(found, v128.or(found, i8x16.eq(v128.and(half, finiteMask), finiteMask)))
        ),
      expand: (codes, u) => finite(atTop(codes, u)),
      doubt: { reset: [set(found, v128.zero)], found: v128.anyTrue(found) },
    };
  }
  const onesMask = scope.local("v128");
  const topMask = scope.local("v128");
  return {
    setup: [
      setup,
      set(onesMask, v128.constI32(ones)),
      set(topMask, v128.constI32(notFinite << 24)),
    ],
    gather: () => [],
    expand: (codes, u) => {
      const top = atTop(codes, u);
      const isFull = i32x4.eq(v128.and(top, topMask), topMask);
      return v128.or(finite(top), v128.and(isFull, onesMask));
    },
  };
}
