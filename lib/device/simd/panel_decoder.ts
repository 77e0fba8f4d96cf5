/**
 * Code that turns the weights of a panel into float32 lanes, one decoder a format.
 *
 * A decoder works in steps of a few k. Within a step the caller asks for the k-th eight weights and
 * gets two vectors: columns 0–3 and columns 4–7. Every value is the one its format defines, bit for
 * bit, infinities and NaN of float16 included.
 */

import { type Body, type Expr, type FunctionScope, type Local, set } from "./assembler.ts";
import { QUANT_BLOCK, type WeightFormat } from "../block_formats.ts";
import { f32x4, i32x4, i8x16, v128 } from "./instructions.ts";

/** Eight weights of one k. */
export interface EightWeights {
  /** Runs before `low` and `high` are used. */
  readonly prepare: Body;
  /** Columns 0–3. */
  readonly low: Expr<"v128">;
  /** Columns 4–7. */
  readonly high: Expr<"v128">;
}

/** Emits the expansion of one format. */
export interface PanelDecoder {
  /** k covered by a step. */
  readonly stepK: number;
  /** Bytes of a step. */
  readonly stepBytes: number;
  /** Constants into locals: once a function. */
  readonly setup: Body;
  /** What a step needs before its weights: the block's scales. `step` points at the step. */
  begin(step: Expr<"i32">): Body;
  /** The weights of the i-th k of the step. */
  weights(step: Expr<"i32">, i: number): EightWeights;
}

/** The decoder of a format; its locals belong to `scope`. */
export function createDecoder(format: WeightFormat, scope: FunctionScope): PanelDecoder {
  switch (format) {
    case "f32":
      return decodeF32();
    case "bf16":
      return decodeBf16(scope);
    case "f16":
      return decodeF16(scope);
    case "q8_0":
      return decodeQ8(scope);
    case "q4_0":
      return decodeQ4Symmetric(scope);
    case "q4_1":
      return decodeQ4Affine(scope);
    default:
      return format satisfies never;
  }
}

const NOTHING: Body = [];

function decodeF32(): PanelDecoder {
  return {
    stepK: 8,
    stepBytes: 8 * 32,
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
function decodeBf16(scope: FunctionScope): PanelDecoder {
  const mask = scope.local("v128");
  const both = scope.local("v128");
  return {
    stepK: 8,
    stepBytes: 8 * 16,
    setup: [set(mask, v128.constI32(0xffff0000))],
    begin: () => NOTHING,
    weights: (step, i) => ({
      prepare: [set(both, v128.load(step, 16 * i))],
      low: i32x4.shl(both, 16),
      high: v128.and(both, mask),
    }),
  };
}

function decodeF16(scope: FunctionScope): PanelDecoder {
  const halves = new HalfExpander(scope, 1);
  const both = scope.local("v128");
  const low = scope.local("v128");
  const high = scope.local("v128");
  return {
    stepK: 8,
    stepBytes: 8 * 16,
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

/**
 * w = d · q. A byte moved to the top of its lane is q · 2^24 as an integer, in one instruction; the
 * scales carry the 2^−24. Both products are exact: 8 and 11 significant bits.
 */
function decodeQ8(scope: FunctionScope): PanelDecoder {
  const halves = new HalfExpander(scope, 2 ** -24);
  const scales = scope.locals("v128", 2) as [Local<"v128">, Local<"v128">];
  const lowBytes = scope.local("v128");
  const highBytes = scope.local("v128");
  const codes = scope.local("v128");
  const toTop = (first: number): Expr<"v128"> =>
    v128.constBytes([0, 1, 2, 3].flatMap((lane) => [0x80, 0x80, 0x80, first + lane]));
  return {
    stepK: QUANT_BLOCK,
    stepBytes: 16 + 8 * QUANT_BLOCK,
    setup: [halves.setup, set(lowBytes, toTop(0)), set(highBytes, toTop(4))],
    begin: (step) => halves.expandScales(scales, codes, step, 0),
    weights: (step, i) => ({
      prepare: [set(codes, v128.load64Zero(step, 16 + 8 * i))],
      low: f32x4.mul(f32x4.convertI32x4S(i8x16.relaxedSwizzle(codes, lowBytes)), scales[0]),
      high: f32x4.mul(f32x4.convertI32x4S(i8x16.relaxedSwizzle(codes, highBytes)), scales[1]),
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
  const halves = new HalfExpander(scope, 1);
  const scales = scope.locals("v128", 2) as [Local<"v128">, Local<"v128">];
  const minima = scope.locals("v128", 2) as [Local<"v128">, Local<"v128">];
  const mask = scope.local("v128");
  const group = scope.local("v128");
  const nibble = (bit: number): Expr<"v128"> =>
    bit === 28 ? i32x4.shrU(group, 28) : v128.and(bit === 0 ? group : i32x4.shrU(group, bit), mask);
  return {
    stepK: QUANT_BLOCK,
    stepBytes: 32 + 4 * QUANT_BLOCK,
    setup: [halves.setup, set(mask, v128.constI32(15))],
    begin: (step) => [
      halves.expandScales(scales, group, step, 0),
      halves.expandScales(minima, group, step, 16),
    ],
    weights: (step, i) => ({
      prepare: i % 4 === 0 ? [set(group, v128.load(step, 32 + 4 * i))] : NOTHING,
      low: f32x4.relaxedMadd(
        f32x4.convertI32x4S(nibble(8 * (i % 4))),
        scales[0],
        minima[0],
      ),
      high: f32x4.relaxedMadd(
        f32x4.convertI32x4S(nibble(8 * (i % 4) + 4)),
        scales[1],
        minima[1],
      ),
    }),
  };
}

/**
 * Float16 to float32, times a power of two, exactly.
 *
 * The sign goes to the top and the other fifteen bits right behind the five bits by which the
 * exponent of a float32 is wider; a multiplication by 2^112 then makes up for the difference of the
 * biases and normalises subnormals on the way. An exponent of all ones (infinity, NaN) has to stay
 * all ones and is set by hand.
 */
class HalfExpander {
  readonly setup: Body;
  readonly #bits: Local<"v128">;
  readonly #factor: Local<"v128">;
  readonly #exponent: Local<"v128">;
  readonly #infinity: Local<"v128">;

  constructor(scope: FunctionScope, scale: number) {
    this.#bits = scope.local("v128");
    this.#factor = scope.local("v128");
    this.#exponent = scope.local("v128");
    this.#infinity = scope.local("v128");
    this.setup = [
      set(this.#bits, v128.constI32(0x8fffe000)),
      set(this.#factor, v128.constF32(2 ** 112 * scale)),
      set(this.#exponent, v128.constI32(0x0f800000)),
      set(this.#infinity, v128.constI32(0x7f800000)),
    ];
  }

  /** target = the low halves of the lanes of `both`. */
  expandLow(target: Local<"v128">, both: Expr<"v128">): Body {
    return this.#expand(target, i32x4.shl(both, 16));
  }

  /** target = the high halves of the lanes of `both`. */
  expandHigh(target: Local<"v128">, both: Expr<"v128">): Body {
    return this.#expand(target, both);
  }

  /** Eight f16 at step + offset into two vectors; `spare` is overwritten. */
  expandScales(
    targets: readonly [Local<"v128">, Local<"v128">],
    spare: Local<"v128">,
    step: Expr<"i32">,
    offset: number,
  ): Body {
    return [
      set(spare, v128.load(step, offset)),
      this.expandLow(targets[0], spare),
      this.expandHigh(targets[1], spare),
    ];
  }

  #expand(target: Local<"v128">, top: Expr<"v128">): Body {
    const full = i32x4.eq(v128.and(target, this.#exponent), this.#exponent);
    return [
      set(target, v128.and(i32x4.shrS(top, 3), this.#bits)),
      set(
        target,
        v128.or(f32x4.mul(target, this.#factor), v128.and(full, this.#infinity)),
      ),
    ];
  }
}
