/** Layer normalisation, in place. */

import {
  type Body,
  doWhile,
  increment,
  type Local,
  ModuleBuilder,
  set,
  setI32,
} from "./assembler.ts";
import { f32x4, i32, v128 } from "./instructions.ts";
import { sumLanes } from "./lanes.ts";

/** (x, xStrideBytes, weight, bias, epsilon, rowCount) */
export type LayerNorm = (
  x: number,
  xStrideBytes: number,
  weight: number,
  bias: number,
  epsilon: number,
  rowCount: number,
) => void;

/**
 * Compiles the norm of rows of `width` floats, a multiple of 8. Two vectors hold the eight partial
 * sums; nothing is fused, so that the bits are those of the plain kernel on every machine.
 */
export function compileLayerNorm(memory: WebAssembly.Memory, width: number): LayerNorm {
  const module = new ModuleBuilder();
  const params = ["i32", "i32", "i32", "i32", "f32", "i32"] as const;
  const norm = module.define("layerNorm", params, "none", (
    scope,
    x,
    xStride,
    weight,
    bias,
    epsilon,
    rowCount,
  ) => {
    const low = scope.local("v128");
    const high = scope.local("v128");
    const distance = scope.local("v128");
    const mean = scope.local("v128");
    const scale = scope.local("v128");
    const xAt = scope.local("i32");
    const xEnd = scope.local("i32");
    const weightAt = scope.local("i32");
    const biasAt = scope.local("i32");
    const size = v128.constF32(width);
    const overRow = (body: Body): Body => [
      setI32(xAt, x),
      doWhile(i32.ne(xAt, xEnd), body, increment(xAt, 32)),
    ];
    const addSquare = (sum: Local<"v128">, offset: number): Body => [
      set(distance, f32x4.sub(v128.load(xAt, offset), mean)),
      set(sum, f32x4.add(sum, f32x4.mul(distance, distance))),
    ];
    const write = (offset: number): Body => {
      const scaled = f32x4.mul(f32x4.sub(v128.load(xAt, offset), mean), scale);
      const weighted = f32x4.mul(scaled, v128.load(weightAt, offset));
      return [v128.store(xAt, f32x4.add(weighted, v128.load(biasAt, offset)), offset)];
    };
    const clear: Body = [set(low, v128.zero), set(high, v128.zero)];
    const join: Body = [set(low, f32x4.add(low, high)), sumLanes(low)];
    return [
      doWhile(
        rowCount,
        setI32(xEnd, i32.add(x, 4 * width)),
        clear,
        overRow([
          set(low, f32x4.add(low, v128.load(xAt))),
          set(high, f32x4.add(high, v128.load(xAt, 16))),
        ]),
        join,
        set(mean, f32x4.div(low, size)),
        clear,
        overRow([addSquare(low, 0), addSquare(high, 16)]),
        join,
        set(scale, f32x4.sqrt(f32x4.add(f32x4.div(low, size), f32x4.splat(epsilon)))),
        set(scale, f32x4.div(v128.constF32(1), scale)),
        setI32(weightAt, weight),
        setI32(biasAt, bias),
        overRow([write(0), write(16), increment(weightAt, 32), increment(biasAt, 32)]),
        increment(x, xStride),
        increment(rowCount, -1),
      ),
    ];
  });
  return module.link(memory).get(norm);
}
