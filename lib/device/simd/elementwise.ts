/** Operations that treat each element by itself: add, add a bias, SiLU or GELU and multiply. */

import {
  type Body,
  type Expr,
  type FunctionRef,
  type FunctionScope,
  type Local,
  ModuleBuilder,
  set,
} from "./assembler.ts";
import { eachElement } from "./each_element.ts";
import { Exponential } from "./exponential.ts";
import { f32x4, v128 } from "./instructions.ts";

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

/** A kernel of two rows of operands, the second one possibly repeated. */
export function defineElementwise(
  module: ModuleBuilder,
  functionName: string,
  operation: (scope: FunctionScope) => Operation,
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
    const walks = [
      { row: x, stride: xStride, at: xAt },
      { row: y, stride: yStride, at: yAt },
    ] as const;
    return [
      setup,
      eachElement(scope, { walks, rowCount, columnCount }, ({ load, store }) => [
        set(xValues, load(xAt)),
        set(yValues, load(yAt)),
        compute(xValues, yValues),
        store(xAt, xValues),
      ]),
    ];
  });
}
