/** The exact GELU, element by element, in float64. */

import {
  type Body,
  type Expr,
  type FunctionScope,
  type Local,
  ModuleBuilder,
  set,
} from "./assembler.ts";
import { GELU_LINEAR_FROM, GELU_P, GELU_Q } from "../gelu.ts";
import { f64x2 } from "./double_instructions.ts";
import { eachElement } from "./each_element.ts";
import { v128 } from "./instructions.ts";
import { permute } from "./lanes.ts";

/** (x, xStrideBytes, rowCount, columnCount) */
export type Gelu = (
  x: number,
  xStrideBytes: number,
  rowCount: number,
  columnCount: number,
) => void;

/** Compiles it; no shape is baked in. */
export function compileGelu(memory: WebAssembly.Memory): Gelu {
  const module = new ModuleBuilder();
  const params = ["i32", "i32", "i32", "i32"] as const;
  const gelu = module.define("gelu", params, "none", (scope, x, xStride, rowCount, columnCount) => {
    const values = scope.local("v128");
    const at = scope.local("i32");
    const low = new GeluOfTwo(scope);
    const high = new GeluOfTwo(scope);
    const walks = [{ row: x, stride: xStride, at }] as const;
    return eachElement(
      scope,
      { walks, rowCount, columnCount },
      ({ count, load, store }) =>
        count === 1
          ? [
            low.begin(load(at)),
            GeluOfTwo.steps.map((step) => low.step(step)),
            store(at, low.result),
          ]
          : [
            set(values, load(at)),
            low.begin(values),
            high.begin(permute(values, values, [2, 3, 2, 3])),
            // Side by side: the chains of one wait for themselves.
            GeluOfTwo.steps.map((step) => [low.step(step), high.step(step)]),
            store(at, permute(low.result, high.result, [0, 1, 4, 5])),
          ],
    );
  });
  return module.link(memory).get(gelu);
}

/** Two floats in a pair of doubles on their way through the formula. */
class GeluOfTwo {
  /** Horner's rule goes down the powers of both polynomials. */
  static readonly steps: readonly number[] = GELU_Q.keys().toArray().reverse();

  readonly #x: Local<"v128">;
  readonly #y: Local<"v128">;
  readonly #p: Local<"v128">;
  readonly #q: Local<"v128">;

  constructor(scope: FunctionScope) {
    [this.#x, this.#y, this.#p, this.#q] = scope.locals("v128", 4) as [
      Local<"v128">,
      Local<"v128">,
      Local<"v128">,
      Local<"v128">,
    ];
  }

  /** Takes the two low float lanes. */
  begin(values: Expr<"v128">): Body {
    return [
      set(this.#x, f64x2.promoteLow(values)),
      set(this.#y, f64x2.mul(this.#x, this.#x)),
    ];
  }

  step(power: number): Body {
    return [
      horner(this.#p, this.#y, GELU_P, power),
      horner(this.#q, this.#y, GELU_Q, power),
    ];
  }

  /** The two floats in the low lanes, zeros in the others. */
  get result(): Expr<"v128"> {
    const curved = f64x2.div(f64x2.mul(this.#y, this.#p), this.#q);
    const isLinear = f64x2.ge(this.#y, f64x2.const(GELU_LINEAR_FROM));
    const h = v128.bitselect(f64x2.abs(this.#x), curved, isLinear);
    return f64x2.demote(f64x2.mul(f64x2.const(0.5), f64x2.add(this.#x, h)));
  }
}

function horner(
  sum: Local<"v128">,
  y: Local<"v128">,
  coefficients: readonly number[],
  power: number,
): Body {
  const coefficient = coefficients[power];
  if (coefficient === undefined) return [];
  const isFirst = power === coefficients.length - 1;
  const constant = f64x2.const(coefficient);
  return [set(sum, isFirst ? constant : f64x2.add(f64x2.mul(sum, y), constant))];
}
