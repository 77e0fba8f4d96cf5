/** Operations that treat each element by itself: add, add a bias, SiLU or GELU and multiply. */

import {
  type Body,
  doWhile,
  type Expr,
  type FunctionRef,
  increment,
  type Local,
  ModuleBuilder,
  set,
  setI32,
  when,
} from "./assembler.ts";
import { Exponential } from "./exponential.ts";
import { f32x4, i32, v128 } from "./instructions.ts";

/** (x, xStrideBytes, y, yStrideBytes, rowCount, columnCount): x = f(x, y) element by element. */
export type Elementwise = (
  x: number,
  xStrideBytes: number,
  y: number,
  yStrideBytes: number,
  rowCount: number,
  columnCount: number,
) => void;

/** The elementwise kernels. A stride of 0 repeats a row of y. */
export interface ElementwiseKernels {
  /** x + y */
  readonly add: Elementwise;
  /** silu(x) · y */
  readonly siluMultiply: Elementwise;
  /** geluTanh(x) · y */
  readonly geluTanhMultiply: Elementwise;
}

/** −2u of geluTanh(z) = z / (1 + e^(−2u)) is z · (GELU_LINEAR + GELU_CUBIC · z²). */
const GELU_LINEAR = -2 * Math.sqrt(2 / Math.PI);
const GELU_CUBIC = 0.044715 * GELU_LINEAR;

/** Compiles them; no shape is baked in. */
export function compileElementwise(memory: WebAssembly.Memory): ElementwiseKernels {
  const module = new ModuleBuilder();
  const add = defineElementwise(module, "add", () => ({
    setup: [],
    compute: (x, y) => [set(x, f32x4.add(x, y))],
  }));
  const siluMultiply = defineElementwise(module, "siluMultiply", (scope) => {
    const exponential = new Exponential(scope);
    const power = scope.local("v128");
    return {
      setup: exponential.setup,
      compute: (x, y) => [
        set(power, f32x4.pmin(f32x4.neg(x), v128.constF32(Exponential.largest))),
        exponential.apply(power, power),
        set(x, f32x4.mul(f32x4.div(x, f32x4.add(power, v128.constF32(1))), y)),
      ],
    };
  });
  const geluTanhMultiply = defineElementwise(module, "geluTanhMultiply", (scope) => {
    const exponential = new Exponential(scope);
    const power = scope.local("v128");
    return {
      setup: exponential.setup,
      compute: (x, y) => [
        set(power, f32x4.mul(f32x4.mul(x, x), v128.constF32(GELU_CUBIC))),
        set(power, f32x4.mul(x, f32x4.add(power, v128.constF32(GELU_LINEAR)))),
        set(power, f32x4.pmin(power, v128.constF32(Exponential.largest))),
        exponential.apply(power, power),
        set(x, f32x4.mul(f32x4.div(x, f32x4.add(power, v128.constF32(1))), y)),
      ],
    };
  });
  const linked = module.link(memory);
  return {
    add: linked.get(add),
    siluMultiply: linked.get(siluMultiply),
    geluTanhMultiply: linked.get(geluTanhMultiply),
  };
}

/** What happens to four elements. */
interface Operation {
  readonly setup: Body;
  /** x = f(x, y) */
  compute(x: Local<"v128">, y: Expr<"v128">): Body;
}

type Scope = Parameters<Parameters<ModuleBuilder["define"]>[3]>[0];

/** A kernel of two rows of operands, the second one possibly repeated. */
export function defineElementwise(
  module: ModuleBuilder,
  functionName: string,
  operation: (scope: Scope) => Operation,
): FunctionRef {
  const params = ["i32", "i32", "i32", "i32", "i32", "i32"] as const;
  return module.define(functionName, params, "none", (
    scope,
    x,
    xStride,
    y,
    yStride,
    rowCount,
    columnCount,
  ) => {
    const { setup, compute } = operation(scope);
    const xValues = scope.local("v128");
    const yValues = scope.local("v128");
    const xAt = scope.local("i32");
    const yAt = scope.local("i32");
    const vectorEnd = scope.local("i32");
    const end = scope.local("i32");
    const vectorBytes = i32.shl(i32.shrU(columnCount, 2), 4);
    const advance = (bytes: number): Body => [increment(xAt, bytes), increment(yAt, bytes)];
    return [
      setup,
      doWhile(
        rowCount,
        setI32(xAt, x),
        setI32(yAt, y),
        setI32(vectorEnd, i32.add(x, vectorBytes)),
        setI32(end, i32.add(x, i32.shl(columnCount, 2))),
        when(i32.ne(xAt, vectorEnd), [
          doWhile(
            i32.ne(xAt, vectorEnd),
            set(xValues, v128.load(xAt)),
            set(yValues, v128.load(yAt)),
            compute(xValues, yValues),
            v128.store(xAt, xValues),
            advance(16),
          ),
        ]),
        // What is left of a width that is no multiple of 4, one element a time in lane 0.
        when(i32.ne(xAt, end), [
          doWhile(
            i32.ne(xAt, end),
            set(xValues, v128.load32Zero(xAt)),
            set(yValues, v128.load32Zero(yAt)),
            compute(xValues, yValues),
            v128.store32Lane(xAt, xValues, 0),
            advance(4),
          ),
        ]),
        increment(x, xStride),
        increment(y, yStride),
        increment(rowCount, -1),
      ),
    ];
  });
}
