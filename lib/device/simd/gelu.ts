/** The exact GELU, element by element, in float64. */

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
  when,
} from "./assembler.ts";
import { GELU_LINEAR_FROM, GELU_P, GELU_Q } from "../gelu.ts";
import { f64x2 } from "./double_instructions.ts";
import { i32, v128 } from "./instructions.ts";
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
    const vectorEnd = scope.local("i32");
    const end = scope.local("i32");
    const low = new GeluOfTwo(scope);
    const high = new GeluOfTwo(scope);
    return [
      doWhile(
        rowCount,
        setI32(at, x),
        setI32(vectorEnd, i32.add(x, i32.shl(i32.shrU(columnCount, 2), 4))),
        setI32(end, i32.add(x, i32.shl(columnCount, 2))),
        when(i32.ne(at, vectorEnd), [
          doWhile(
            i32.ne(at, vectorEnd),
            set(values, v128.load(at)),
            low.begin(values),
            high.begin(permute(values, values, [2, 3, 2, 3])),
            // Side by side: the chains of one wait for themselves.
            GeluOfTwo.steps.map((step) => [low.step(step), high.step(step)]),
            set(values, permute(low.result, high.result, [0, 1, 4, 5])),
            v128.store(at, values),
            increment(at, 16),
          ),
        ]),
        // What is left of a width that is no multiple of 4, one element a time in lane 0.
        when(i32.ne(at, end), [
          doWhile(
            i32.ne(at, end),
            low.begin(v128.load32Zero(at)),
            GeluOfTwo.steps.map((step) => low.step(step)),
            set(values, low.result),
            v128.store32Lane(at, values, 0),
            increment(at, 4),
          ),
        ]),
        increment(x, xStride),
        increment(rowCount, -1),
      ),
    ];
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
