/** tanh of four floats, and the soft cap that is made of it, within a few units in the last place. */

import { type Body, type Expr, type FunctionScope, type Local, set } from "./assembler.ts";
import { Exponential } from "./exponential.ts";
import { f32x4, v128 } from "./instructions.ts";

/** Below it 1 − 2 / (e^2x + 1) would lose digits, and a polynomial takes over. */
const POLYNOMIAL_BELOW = 0.625;

/** tanh(x) = x + x³ · P(x²) there (the coefficients of Cephes), highest power first. */
const POLYNOMIAL: readonly number[] = [
  -5.70498872745e-3,
  2.06390887954e-2,
  -5.37397155531e-2,
  1.33314422036e-1,
  -3.33332819422e-1,
];

const SIGN = -(2 ** 31);

/** Emits x = cap · tanh(x / cap). */
export class Softcap {
  /** Once a function. */
  readonly setup: Body;
  readonly #cap: Local<"v128">;
  readonly #exponential: Exponential;
  readonly #ratio: Local<"v128">;
  readonly #square: Local<"v128">;
  readonly #power: Local<"v128">;
  readonly #small: Local<"v128">;

  constructor(scope: FunctionScope, cap: Expr<"f32">) {
    this.#exponential = new Exponential(scope);
    this.#cap = scope.local("v128");
    this.#ratio = scope.local("v128");
    this.#square = scope.local("v128");
    this.#power = scope.local("v128");
    this.#small = scope.local("v128");
    this.setup = [this.#exponential.setup, set(this.#cap, f32x4.splat(cap))];
  }

  /** Changes a local. */
  apply(x: Local<"v128">): Body {
    const ratio = this.#ratio;
    const square = this.#square;
    const power = this.#power;
    const small = this.#small;
    const one = v128.constF32(1);
    const size = v128.andNot(ratio, v128.constI32(SIGN));
    const large = f32x4.sub(one, f32x4.div(v128.constF32(2), f32x4.add(power, one)));
    return [
      set(ratio, f32x4.div(x, this.#cap)),
      set(square, f32x4.mul(ratio, ratio)),
      set(small, v128.constF32(POLYNOMIAL[0]!)),
      POLYNOMIAL.slice(1).map((c) =>
        set(small, f32x4.relaxedMadd(small, square, v128.constF32(c)))
      ),
      set(small, f32x4.relaxedMadd(f32x4.mul(ratio, square), small, ratio)),
      set(power, f32x4.pmin(f32x4.add(size, size), v128.constF32(Exponential.largest))),
      this.#exponential.apply(power, power),
      set(power, v128.or(large, v128.and(ratio, v128.constI32(SIGN)))),
      set(
        x,
        f32x4.mul(
          this.#cap,
          v128.bitselect(small, power, f32x4.lt(size, v128.constF32(POLYNOMIAL_BELOW))),
        ),
      ),
    ];
  }
}
