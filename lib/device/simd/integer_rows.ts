/** Rows of activations as integers (`activations.ts`): how they lie in scratch, and their kernel. */

import { ACTIVATION_MIN, activationRange, type ActivationType } from "../activations.ts";
import { QUANT_BLOCK, type QuantizedFormat } from "../block_formats.ts";
import {
  type Body,
  doWhile,
  type Expr,
  type FunctionScope,
  increment,
  type Local,
  ModuleBuilder,
  set,
  setI32,
} from "./assembler.ts";
import { f32x4, i16x8, i32, i32x4, i8x16, v128 } from "./instructions.ts";
import { permute, transpose } from "./lanes.ts";

/**
 * How integers are multiplied; the sums are the same, as integers have one sum however it is made.
 *
 * - "quads": four products of bytes are added to a sum of 32 bits; one instruction on processors
 *   that have it, three on others
 * - "pairs": two products of bytes, added up in 16 bits over a block; for weights of four bits only
 * - "words": bytes are widened to 16 bits
 */
export type IntegerDot = "quads" | "pairs" | "words";

/** What the activations of a matmul turn into. */
export interface IntegerCodes {
  /** How they are multiplied. */
  readonly dot: IntegerDot;
  /** The largest magnitude of a code. */
  readonly range: number;
  /** Bits of a code that are stored together. */
  readonly bits: 8 | 16;
  /** 2: a code of sixteen bits is stored as two bytes, the high ones of a block before the low ones. */
  readonly planes: 1 | 2;
  /** Bits by which the high byte counts more than the low one; 0: there is one plane. */
  readonly shift: 0 | 7 | 8;
  /** Added to the first bytes, so that none is negative. */
  readonly bias: 0 | 64;
}

/** How much room codes take. */
export type CodeSize = Pick<IntegerCodes, "bits" | "planes">;

/**
 * The codes for a weight of some format. Products of eight-bit weights are too large for "pairs":
 * where those are wanted, words do with one sum what two planes of bytes would need two for.
 */
export function integerCodes(
  format: QuantizedFormat,
  activations: Exclude<ActivationType, "f32">,
  wanted: IntegerDot,
): IntegerCodes {
  const range = activationRange(activations, format);
  const dot = format === "q8_0" && wanted === "pairs" ? "words" : wanted;
  if (dot === "words") return { dot, range, bits: 16, planes: 1, shift: 0, bias: 0 };
  if (format === "q8_0") return { dot, range, bits: 8, planes: 2, shift: 7, bias: 64 };
  const planes = activations === "i8" ? 1 : 2;
  return { dot, range, bits: 8, planes, shift: planes === 1 ? 0 : 8, bias: 0 };
}

/** Rows that lie side by side: one for the GEMV, four for a tile, which may leave some unused. */
export type RowWidth = 1 | 4;

/**
 * Where things are in a block of `width` rows by 32 k, in bytes from its start: the codes, plane by
 * plane, by groups of 4 k and in a group by rows; then a float32 or int32 of each row. Words are
 * in the order k 0, 2, 1, 3: as the even and the odd bytes of weights are widened.
 */
export interface RowBlock {
  readonly bytes: number;
  /** Bytes of the codes of one group: 4 k of each row. */
  readonly groupBytes: number;
  /** Bytes of the codes of one plane. */
  readonly planeBytes: number;
  /** The scale. */
  readonly scales: number;
  /** −8 · Σ codes: what makes the nibbles of q4_0 signed. */
  readonly offsets: number;
  /** Scale · Σ codes: what the minima of q4_1 are multiplied with. */
  readonly sums: number;
}

/** The layout for codes of some size. */
export function rowBlock({ bits, planes }: CodeSize, width: RowWidth): RowBlock {
  const groupBytes = 4 * width * bits / 8;
  const planeBytes = groupBytes * QUANT_BLOCK / 4;
  const scales = planes * planeBytes;
  return {
    bytes: scales + Math.max(16, 12 * width),
    groupBytes,
    planeBytes,
    scales,
    offsets: scales + 4 * width,
    sums: scales + 8 * width,
  };
}

/** Bytes of rows side by side. */
export function integerRowBytes(size: CodeSize, width: RowWidth, k: number): number {
  return k / QUANT_BLOCK * rowBlock(size, width).bytes;
}

/** (x, xStrideBytes, target, count): `count` times `rows` rows of x, one after another. */
export type QuantizeRows = (x: number, xStride: number, target: number, count: number) => void;

/** Compiles the quantising of tiles of `rows` rows; one row is laid out for the GEMV. */
export function compileQuantizeRows(
  memory: WebAssembly.Memory,
  codes: IntegerCodes,
  k: number,
  rows: number,
): QuantizeRows {
  const module = new ModuleBuilder();
  const width = rows === 1 ? 1 : 4;
  const layout = rowBlock(codes, width);
  const quantize = module.define("quantizeRows", ["i32", "i32", "i32", "i32"], "none", (
    scope,
    x,
    xStride,
    target,
    count,
  ) => {
    const rowAt = scope.locals("i32", rows);
    const end = scope.local("i32");
    const quantizer = new BlockQuantizer(scope, codes);
    // A plane of a row takes two vectors of bytes, or four of words.
    const planeVectors = codes.bits / 4;
    const stored = Array.from(
      { length: width },
      () => scope.locals("v128", codes.planes * planeVectors),
    );
    const storePlane = (plane: number): Body => {
      const start = plane * planeVectors;
      const rows = stored.map((vectors) => vectors.slice(start, start + planeVectors));
      return storeCodes(scope, { target, offset: plane * layout.planeBytes }, rows, codes.bits);
    };
    const row = (i: number): Local<"i32"> => rowAt[i < rows ? i : 0] as Local<"i32">;
    return [
      quantizer.setup,
      doWhile(
        count,
        rowAt.map((at, i) => setI32(at, i === 0 ? x : i32.add(row(i - 1), xStride))),
        setI32(x, i32.add(row(rows - 1), xStride)),
        setI32(end, i32.add(row(0), 4 * k)),
        doWhile(
          i32.ne(row(0), end),
          rowAt.map((at, i) => [
            quantizer.quantize(at, stored[i] as Local<"v128">[]),
            v128.store32Lane(target, quantizer.scale, 0, layout.scales + 4 * i),
            v128.store32Lane(target, quantizer.offset, 0, layout.offsets + 4 * i),
            v128.store32Lane(target, quantizer.sum, 0, layout.sums + 4 * i),
          ]),
          Array.from({ length: codes.planes }, (_, plane) => storePlane(plane)),
          rowAt.map((at) => increment(at, 4 * QUANT_BLOCK)),
          increment(target, layout.bytes),
        ),
        increment(count, -1),
      ),
    ];
  });
  return module.link(memory).get(quantize);
}

/** Vectors of single rows, as groups of 4 k side by side. */
function storeCodes(
  scope: FunctionScope,
  { target, offset }: { readonly target: Local<"i32">; readonly offset: number },
  rows: readonly (readonly Local<"v128">[])[],
  bits: 8 | 16,
): Body {
  const [first] = rows as [readonly Local<"v128">[]];
  if (rows.length === 1) {
    return first.map((vector, i) => v128.store(target, vector, offset + 16 * i));
  }
  const column = (i: number) => rows.map((row) => row[i] as Local<"v128">);
  if (bits === 8) {
    const spare = scope.locals("v128", 4);
    return first.map((_, i) => [
      transpose(column(i), spare),
      column(i).map((vector, g) => v128.store(target, vector, offset + 64 * i + 16 * g)),
    ]);
  }
  // A vector of words holds two groups of its row.
  return first.map((_, i) => {
    const [a, b, c, d] = column(i) as [
      Local<"v128">,
      Local<"v128">,
      Local<"v128">,
      Local<"v128">,
    ];
    return [
      v128.store(target, permute(a, b, [0, 1, 4, 5]), offset + 64 * i),
      v128.store(target, permute(c, d, [0, 1, 4, 5]), offset + 64 * i + 16),
      v128.store(target, permute(a, b, [2, 3, 6, 7]), offset + 64 * i + 32),
      v128.store(target, permute(c, d, [2, 3, 6, 7]), offset + 64 * i + 48),
    ];
  });
}

const MAGNITUDE = 0x7fffffff;
const INFINITY_BITS = 0x7f800000;
const NAN_BITS = 0x7fc00000;
const MIN_BITS: number = new Int32Array(Float32Array.of(ACTIVATION_MIN).buffer)[0]!;

/** Of two groups of four words the even ones before the odd ones. */
function evenFirst(words: Local<"v128">): Expr<"v128"> {
  return i8x16.shuffle(words, words, [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]);
}

/** Emits the quantising of one block of one row. */
class BlockQuantizer {
  /** Constants into locals: once a function. */
  readonly setup: Body;
  /** After `quantize`: of the block, in all lanes. */
  readonly scale: Local<"v128">;
  readonly offset: Local<"v128">;
  readonly sum: Local<"v128">;
  readonly #codes: IntegerCodes;
  readonly #magnitude: Local<"v128">;
  readonly #ones: Local<"v128">;
  readonly #largest: Local<"v128">;
  readonly #finite: Local<"v128">;
  readonly #counted: Local<"v128">;
  readonly #factor: Local<"v128">;
  readonly #words: Local<"v128">[];

  constructor(scope: FunctionScope, codes: IntegerCodes) {
    this.#codes = codes;
    this.scale = scope.local("v128");
    this.offset = scope.local("v128");
    this.sum = scope.local("v128");
    this.#magnitude = scope.local("v128");
    this.#ones = scope.local("v128");
    this.#largest = scope.local("v128");
    this.#finite = scope.local("v128");
    this.#counted = scope.local("v128");
    this.#factor = scope.local("v128");
    this.#words = scope.locals("v128", 4);
    this.setup = [
      set(this.#magnitude, v128.constI32(MAGNITUDE)),
      set(this.#ones, v128.constI32(0x00010001)),
    ];
  }

  /** 32 floats at `x` into vectors of codes; sets the block's scale, offset and sum. */
  quantize(x: Expr<"i32">, targets: readonly Local<"v128">[]): Body {
    const words = this.#words;
    return [
      this.#measure(x),
      words.map((word, i) =>
        set(word, i16x8.narrowI32x4S(this.#code(x, 2 * i), this.#code(x, 2 * i + 1)))
      ),
      this.#addUp(),
      targets.map((target, i) =>
        set(target, this.#codes.bits === 16 ? evenFirst(words[i] as Local<"v128">) : this.#bytes(i))
      ),
    ];
  }

  /** The i-th vector of bytes: two of the first plane, then two of the second. */
  #bytes(i: number): Expr<"v128"> {
    const { bias } = this.#codes;
    const isFirst = i < 2;
    const [a, b] = [0, 1].map((j) => {
      const word = this.#words[2 * (i % 2) + j] as Local<"v128">;
      return isFirst ? this.#high(word) : this.#low(word);
    }) as [Expr<"v128">, Expr<"v128">];
    const bytes = i8x16.narrowI16x8S(a, b);
    return isFirst && bias > 0 ? i8x16.add(bytes, v128.constI32(0x01010101 * bias)) : bytes;
  }

  /** What of a code the first plane holds. */
  #high(word: Local<"v128">): Expr<"v128"> {
    switch (this.#codes.shift) {
      case 0:
        return word;
      case 7:
        return i16x8.shrS(word, 7);
      case 8: // rounded, since the low byte is signed
        return i16x8.shrS(i16x8.add(word, v128.constI32(0x00800080)), 8);
    }
  }

  /** What the high byte leaves: signed after a shift of 8, of seven bits after one of 7. */
  #low(word: Local<"v128">): Expr<"v128"> {
    return this.#codes.shift === 7
      ? v128.and(word, v128.constI32(0x007f007f))
      : i16x8.shrS(i16x8.shl(word, 8), 8);
  }

  /** The scale and its inverse. Magnitudes of floats are ordered as their bits are. */
  #measure(x: Expr<"i32">): Body {
    const largest = this.#largest;
    const { range } = this.#codes;
    const largestOf = (lanes: readonly [number, number, number, number]) =>
      set(largest, i32x4.maxU(largest, permute(largest, largest, lanes)));
    return [
      set(largest, v128.and(v128.load(x), this.#magnitude)),
      [1, 2, 3, 4, 5, 6, 7].map((i) =>
        set(largest, i32x4.maxU(largest, v128.and(v128.load(x, 16 * i), this.#magnitude)))
      ),
      largestOf([2, 3, 0, 1]),
      largestOf([1, 0, 3, 2]),
      set(this.#finite, i32x4.gtS(v128.constI32(INFINITY_BITS), largest)),
      set(
        this.#counted,
        v128.and(this.#finite, i32x4.gtS(largest, v128.constI32(MIN_BITS - 1))),
      ),
      set(
        this.#factor,
        v128.and(f32x4.div(v128.constF32(range), largest), this.#counted),
      ),
      set(
        this.scale,
        v128.or(
          v128.and(f32x4.div(largest, v128.constF32(range)), this.#counted),
          v128.andNot(v128.constI32(NAN_BITS), this.#finite),
        ),
      ),
    ];
  }

  /** Four codes. In a block that is not finite every number counts as zero. */
  #code(x: Expr<"i32">, i: number): Expr<"v128"> {
    const value = v128.and(v128.load(x, 16 * i), this.#finite);
    return i32x4.relaxedTruncF32x4S(f32x4.nearest(f32x4.mul(value, this.#factor)));
  }

  #addUp(): Body {
    const { sum, offset } = this;
    const pairs = this.#words.map((word) => i32x4.dotI16x8S(word, this.#ones));
    const [a, b, c, d] = pairs as [Expr<"v128">, Expr<"v128">, Expr<"v128">, Expr<"v128">];
    return [
      set(sum, i32x4.add(i32x4.add(a, b), i32x4.add(c, d))),
      set(sum, i32x4.add(sum, permute(sum, sum, [2, 3, 0, 1]))),
      set(sum, i32x4.add(sum, permute(sum, sum, [1, 0, 3, 2]))),
      set(offset, i32x4.sub(v128.zero, i32x4.shl(sum, 3))),
      set(sum, f32x4.mul(this.scale, f32x4.convertI32x4S(sum))),
    ];
  }
}
