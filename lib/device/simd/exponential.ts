/** e^x of four floats, with a relative error of about one unit in the last place. */

import { type Body, type Expr, type FunctionScope, type Local, set } from "./assembler.ts";
import { f32x4, i32x4, v128 } from "./instructions.ts";

/** Below it e^x is no normal float any more, and 0 is given. */
const SMALLEST = -87.33;

/** Added to a small float it leaves the nearest integer in the low bits of the mantissa. */
const ROUNDER = 1.5 * 2 ** 23;

/** ln 2 in two parts: the first has so few bits that its product with an exponent is exact. */
const LN2_HIGH = 0.693359375;
const LN2_LOW = Math.LN2 - LN2_HIGH;

/** 1/7!, 1/6!, … 1/1!, 1/0!: on |r| ≤ ln 2 / 2 the rest of the series is below 6e-9. */
const TAYLOR: readonly number[] = [5040, 720, 120, 24, 6, 2, 1, 1].map((n) => 1 / n);

/**
 * Emits e^x = 2^n · e^r with n = round(x / ln 2) and a Taylor polynomial for e^r.
 *
 * Results are 0 from −87.33 down (−∞ included), +∞ from about 88.38 up to
 * {@linkcode Exponential.largest}, beyond which the caller has to clamp, and NaN for NaN.
 */
export class Exponential {
  /** The largest argument that is handled right. */
  static readonly largest = 89;

  /** Constants into locals: once a function. */
  readonly setup: Body;
  readonly #constants = new Map<number, Local<"v128">>();
  readonly #smallest: Local<"v128">;
  readonly #shifted: Local<"v128">;
  readonly #rest: Local<"v128">;
  readonly #power: Local<"v128">;

  constructor(scope: FunctionScope) {
    const setup: Body[] = [];
    const constant = (value: number): Local<"v128"> => {
      const local = scope.local("v128");
      setup.push([set(local, v128.constF32(value))]);
      return local;
    };
    for (const value of [1 / Math.LN2, ROUNDER, -LN2_HIGH, -LN2_LOW, ...TAYLOR]) {
      if (!this.#constants.has(value)) this.#constants.set(value, constant(value));
    }
    this.#smallest = constant(SMALLEST);
    this.#shifted = scope.local("v128");
    this.#rest = scope.local("v128");
    this.#power = scope.local("v128");
    this.setup = setup;
  }

  /** target = e^x; x is a local, and may be target. */
  apply(target: Local<"v128">, x: Local<"v128">): Body {
    const shifted = this.#shifted;
    const rest = this.#rest;
    const power = this.#power;
    const n = f32x4.sub(shifted, this.#constant(ROUNDER));
    return [
      set(shifted, f32x4.relaxedMadd(x, this.#constant(1 / Math.LN2), this.#constant(ROUNDER))),
      set(rest, f32x4.relaxedMadd(n, this.#constant(-LN2_HIGH), x)),
      set(rest, f32x4.relaxedMadd(n, this.#constant(-LN2_LOW), rest)),
      set(power, this.#constant(TAYLOR[0]!)),
      TAYLOR.slice(1).map((c) => set(power, f32x4.relaxedMadd(power, rest, this.#constant(c)))),
      // n goes from the mantissa's low bits to the exponent; the ROUNDER's own bits fall off.
      set(
        target,
        v128.andNot(
          f32x4.mul(power, i32x4.add(i32x4.shl(shifted, 23), this.#constant(1))),
          f32x4.lt(x, this.#smallest),
        ),
      ),
    ];
  }

  #constant(value: number): Expr<"v128"> {
    return this.#constants.get(value)!;
  }
}
