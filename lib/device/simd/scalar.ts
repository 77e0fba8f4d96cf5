/** Operations of every element with one number: scale, and cap softly. */

import {
  type Body,
  type FunctionRef,
  type FunctionScope,
  type Local,
  ModuleBuilder,
  set,
} from "./assembler.ts";
import { eachElement } from "./each_element.ts";
import { f32x4 } from "./instructions.ts";
import { Softcap } from "./tanh.ts";

/** (x, xStrideBytes, rowCount, columnCount, number): x = f(x, number) element by element. */
export type ScalarOperation = (
  x: number,
  xStrideBytes: number,
  rowCount: number,
  columnCount: number,
  number: number,
) => void;

/** The kernels. */
export interface ScalarKernels {
  /** number · x */
  readonly scale: ScalarOperation;
  /** number · tanh(x / number) */
  readonly softcap: ScalarOperation;
}

/** Compiles them; no shape is baked in. */
export function compileScalarOperations(memory: WebAssembly.Memory): ScalarKernels {
  const module = new ModuleBuilder();
  const scale = defineScalarOperation(module, "scale", (scope, factor) => {
    const factors = scope.local("v128");
    return {
      setup: [set(factors, f32x4.splat(factor))],
      compute: (x) => [set(x, f32x4.mul(x, factors))],
    };
  });
  const softcap = defineScalarOperation(module, "softcap", (scope, cap) => {
    const operation = new Softcap(scope, cap);
    return { setup: operation.setup, compute: (x) => operation.apply(x) };
  });
  const linked = module.link(memory);
  return { scale: linked.get(scale), softcap: linked.get(softcap) };
}

/** What happens to four elements. */
interface Operation {
  readonly setup: Body;
  /** Changes x. */
  compute(x: Local<"v128">): Body;
}

function defineScalarOperation(
  module: ModuleBuilder,
  functionName: string,
  operation: (scope: FunctionScope, number: Local<"f32">) => Operation,
): FunctionRef {
  const params = ["i32", "i32", "i32", "i32", "f32"] as const;
  return module.define(functionName, params, "none", (
    scope,
    x,
    xStride,
    rowCount,
    columnCount,
    number,
  ) => {
    const { setup, compute } = operation(scope, number);
    const values = scope.local("v128");
    const at = scope.local("i32");
    const walks = [{ row: x, stride: xStride, at }] as const;
    return [
      setup,
      eachElement(scope, { walks, rowCount, columnCount }, ({ load, store }) => [
        set(values, load(at)),
        compute(values),
        store(at, values),
      ]),
    ];
  });
}
