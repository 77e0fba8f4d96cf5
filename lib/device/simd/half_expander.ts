/** Code that turns float16 into float32. */

import {
  type Body,
  doWhile,
  type Expr,
  type FunctionRef,
  type FunctionScope,
  increment,
  type Local,
  type ModuleBuilder,
  result,
  set,
  setI32,
  when,
} from "./assembler.ts";
import { f32x4, i16x8, i32, i32x4, v128 } from "./instructions.ts";

/** Where sign and magnitude of a float16 at the top of a lane are after a shift right by 3. */
export const HALF_BITS = 0x8fffe000;

/** The biases of the exponents differ by 127 − 15. */
export const HALF_FACTOR: number = 2 ** 112;

/**
 * 1 if gathered halves, which were joined by "or", may include an infinity or NaN: all bits of an
 * exponent are set then. Numbers of 2 and more among small ones look alike.
 */
export function mayHaveNotFinite(gathered: Expr<"v128">): Expr<"i32"> {
  return hasNotFinite(i16x8.add(gathered, gathered));
}

/** 1 if there is an infinity or NaN among eight halves that were doubled, and so lost their sign. */
function hasNotFinite(doubled: Expr<"v128">): Expr<"i32"> {
  // 0xf800 is infinity doubled.
  return v128.anyTrue(i16x8.gtU(doubled, v128.constI32(0xf7fff7ff)));
}

/** Bytes of a turn of the search: what eight k of a panel take. */
const SEARCH_STEP = 128;

/**
 * Defines search(start, end): 1 if a half from start to end is infinite or NaN. A quick look says
 * no most of the time, and a second one is for when it does not.
 */
export function defineHalfSearch(
  module: ModuleBuilder,
): FunctionRef<readonly ["i32", "i32"], "i32"> {
  return module.define("search", ["i32", "i32"], "i32", (scope, start, end) => {
    const at = scope.local("i32");
    const halves = scope.local("v128");
    const gathered = scope.local("v128");
    const largest = scope.local("v128");
    const forAll = (visit: Body): Body => [
      setI32(at, start),
      doWhile(
        i32.ne(at, end),
        Array.from({ length: SEARCH_STEP / 16 }, (_, i) => [
          set(halves, v128.load(at, 16 * i)),
          visit,
        ]),
        increment(at, SEARCH_STEP),
      ),
    ];
    return [
      forAll([set(gathered, v128.or(gathered, halves))]),
      when(
        mayHaveNotFinite(gathered),
        forAll([set(largest, i16x8.maxU(largest, i16x8.add(halves, halves)))]),
      ),
      result(hasNotFinite(largest)),
    ];
  });
}

/** Emits the expansion of the scales of eight columns. */
export interface ScaleExpander {
  /** Constants into locals: once a function. */
  readonly setup: Body;
  /** Eight f16 at step + offset into two vectors; `spare` is overwritten. */
  expandScales(
    targets: readonly [Local<"v128">, Local<"v128">],
    spare: Local<"v128">,
    step: Expr<"i32">,
    offset: number,
  ): Body;
}

/**
 * Takes infinities and NaN for finite numbers, which spares half of the work, and remembers whether
 * there were any.
 */
export class FiniteHalfExpander implements ScaleExpander {
  readonly setup: Body;
  /** Before what has to be done again if there is one. */
  readonly reset: Body;
  /** After it: not zero if there was one. */
  readonly found: Expr<"i32">;
  readonly #bits: Local<"v128">;
  readonly #factor: Local<"v128">;
  readonly #largest: Local<"v128">;

  constructor(scope: FunctionScope) {
    this.#bits = scope.local("v128");
    this.#factor = scope.local("v128");
    this.#largest = scope.local("v128");
    this.setup = [
      set(this.#bits, v128.constI32(HALF_BITS)),
      set(this.#factor, v128.constF32(HALF_FACTOR)),
    ];
    this.reset = [set(this.#largest, v128.zero)];
    this.found = hasNotFinite(this.#largest);
  }

  expandScales(
    targets: readonly [Local<"v128">, Local<"v128">],
    spare: Local<"v128">,
    step: Expr<"i32">,
    offset: number,
  ): Body {
    const expand = (top: Expr<"v128">): Expr<"v128"> =>
      f32x4.mul(v128.and(i32x4.shrS(top, 3), this.#bits), this.#factor);
    return [
      set(spare, v128.load(step, offset)),
      // Doubled, a half loses its sign.
      set(this.#largest, i16x8.maxU(this.#largest, i16x8.add(spare, spare))),
      set(targets[0], expand(i32x4.shl(spare, 16))),
      set(targets[1], expand(spare)),
    ];
  }
}

/**
 * Float16 to float32, times a power of two, exactly.
 *
 * The sign goes to the top and the other fifteen bits right behind the five bits by which the
 * exponent of a float32 is wider; a multiplication by 2^112 then makes up for the difference of the
 * biases and normalises subnormals on the way. An exponent of all ones (infinity, NaN) has to stay
 * all ones and is set by hand.
 */
export class HalfExpander implements ScaleExpander {
  /** Constants into locals: once a function. */
  readonly setup: Body;
  readonly #bits: Local<"v128">;
  readonly #factor: Local<"v128">;
  readonly #exponent: Local<"v128">;
  readonly #infinity: Local<"v128">;

  /** Results are multiplied by `scale`, a power of two. */
  constructor(scope: FunctionScope, scale: number) {
    this.#bits = scope.local("v128");
    this.#factor = scope.local("v128");
    this.#exponent = scope.local("v128");
    this.#infinity = scope.local("v128");
    this.setup = [
      set(this.#bits, v128.constI32(HALF_BITS)),
      set(this.#factor, v128.constF32(HALF_FACTOR * scale)),
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
