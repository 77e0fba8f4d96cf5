/** Operations of every element with one number: scale, and cap softly. */

import {
  type Body,
  doWhile,
  type FunctionRef,
  increment,
  type Local,
  ModuleBuilder,
  set,
  setI32,
  when,
} from "./assembler.ts";
import { f32x4, i32, v128 } from "./instructions.ts";
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

type Scope = Parameters<Parameters<ModuleBuilder["define"]>[3]>[0];

function defineScalarOperation(
  module: ModuleBuilder,
  functionName: string,
  operation: (scope: Scope, number: Local<"f32">) => Operation,
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
    const vectorEnd = scope.local("i32");
    const end = scope.local("i32");
    return [
      setup,
      doWhile(
        rowCount,
        setI32(at, x),
        setI32(vectorEnd, i32.add(x, i32.shl(i32.shrU(columnCount, 2), 4))),
        setI32(end, i32.add(x, i32.shl(columnCount, 2))),
        when(i32.ne(at, vectorEnd), [
          doWhile(
            i32.ne(at, vectorEnd),
            set(values, v128.load(at)),
            compute(values),
            v128.store(at, values),
            increment(at, 16),
          ),
        ]),
        // What is left of a width that is no multiple of 4, one element a time in lane 0.
        when(i32.ne(at, end), [
          doWhile(
            i32.ne(at, end),
            set(values, v128.load32Zero(at)),
            compute(values),
            v128.store32Lane(at, values, 0),
            increment(at, 4),
          ),
        ]),
        increment(x, xStride),
        increment(rowCount, -1),
      ),
    ];
  });
}
