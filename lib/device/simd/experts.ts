/** What a mixture of experts needs besides matrix products: a clamped SwiGLU, and the sum of answers. */

import {
  type Body,
  doWhile,
  increment,
  type Local,
  ModuleBuilder,
  set,
  setI32,
  when,
} from "./assembler.ts";
import { Exponential } from "./exponential.ts";
import { defineElementwise, type Elementwise } from "./elementwise.ts";
import { f32x4, i32, v128 } from "./instructions.ts";

/** Of the sigmoid's argument. */
const SIGMOID_FACTOR = 1.702;

/** Compiles (u + 1) · g / (1 + e^(−1.702 · g)), g = min(x, limit), u = y within ±limit. */
export function compileClampedSwiglu(memory: WebAssembly.Memory, limit: number): Elementwise {
  const module = new ModuleBuilder();
  const swiglu = defineElementwise(module, "clampedSwiglu", (scope) => {
    const exponential = new Exponential(scope);
    const power = scope.local("v128");
    const up = scope.local("v128");
    // pmin and pmax give their first operand where one is NaN.
    return {
      setup: exponential.setup,
      compute: (x, y) => [
        set(x, f32x4.pmin(x, v128.constF32(limit))),
        set(up, f32x4.pmax(f32x4.pmin(y, v128.constF32(limit)), v128.constF32(-limit))),
        set(power, f32x4.mul(x, v128.constF32(-SIGMOID_FACTOR))),
        set(power, f32x4.pmin(power, v128.constF32(Exponential.largest))),
        exponential.apply(power, power),
        set(x, f32x4.div(x, f32x4.add(power, v128.constF32(1)))),
        set(x, f32x4.mul(f32x4.add(up, v128.constF32(1)), x)),
      ],
    };
  });
  return module.link(memory).get(swiglu);
}

/**
 * (y, yStrideBytes, weights, rows, choiceCount, out, outStrideBytes, rowCount, columnCount): each row
 * of out is the sum of choiceCount rows of y, named by `rows`, each times its weight; in that order,
 * product and sum rounded one by one.
 */
export type SumExperts = (
  y: number,
  yStrideBytes: number,
  weights: number,
  rows: number,
  choiceCount: number,
  out: number,
  outStrideBytes: number,
  rowCount: number,
  columnCount: number,
) => void;

/** Compiles it; no shape is baked in. */
export function compileSumExperts(memory: WebAssembly.Memory): SumExperts {
  const module = new ModuleBuilder();
  const params = ["i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32"] as const;
  const sumExperts = module.define("sumExperts", params, "none", (
    scope,
    y,
    yStride,
    weights,
    rows,
    choiceCount,
    out,
    outStride,
    rowCount,
    columnCount,
  ) => {
    const column = scope.local("i32");
    const vectorEnd = scope.local("i32");
    const end = scope.local("i32");
    const choice = scope.local("i32");
    const choiceEnd = scope.local("i32");
    const sum = scope.local("v128");
    const from = (): ReturnType<typeof i32.add> =>
      i32.add(
        i32.add(y, column),
        i32.mul(i32.load(i32.add(rows, choice)), yStride),
      );
    const weight = () => v128.load32Splat(i32.add(weights, choice));
    const sumUp = (
      load: (at: ReturnType<typeof i32.add>) => ReturnType<typeof v128.load>,
    ): Body => [
      setI32(choice, 0),
      set(sum, f32x4.mul(weight(), load(from()))),
      increment(choice, 4),
      when(i32.ne(choice, choiceEnd), [
        doWhile(
          i32.ne(choice, choiceEnd),
          set(sum, f32x4.add(sum, f32x4.mul(weight(), load(from())))),
          increment(choice, 4),
        ),
      ]),
    ];
    const at = (local: Local<"i32">) => i32.add(out, local);
    return [
      setI32(choiceEnd, i32.shl(choiceCount, 2)),
      setI32(vectorEnd, i32.shl(i32.shrU(columnCount, 2), 4)),
      setI32(end, i32.shl(columnCount, 2)),
      doWhile(
        rowCount,
        setI32(column, 0),
        when(i32.ne(column, vectorEnd), [
          doWhile(
            i32.ne(column, vectorEnd),
            sumUp((address) => v128.load(address)),
            v128.store(at(column), sum),
            increment(column, 16),
          ),
        ]),
        // What is left of a width that is no multiple of 4, one element a time in lane 0.
        when(i32.ne(column, end), [
          doWhile(
            i32.ne(column, end),
            sumUp((address) => v128.load32Zero(address)),
            v128.store32Lane(at(column), sum, 0),
            increment(column, 4),
          ),
        ]),
        increment(weights, choiceEnd),
        increment(rows, choiceEnd),
        increment(out, outStride),
        increment(rowCount, -1),
      ),
    ];
  });
  return module.link(memory).get(sumExperts);
}
