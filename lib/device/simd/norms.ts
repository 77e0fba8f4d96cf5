/** Root-mean-square normalisation. */

import {
  type Body,
  doWhile,
  type FunctionRef,
  increment,
  ModuleBuilder,
  set,
  setI32,
} from "./assembler.ts";
import { f32, f32x4, i32, v128 } from "./instructions.ts";
import { sumLanes } from "./lanes.ts";

/** (x, xStrideBytes, weight, epsilon, groups, out, outStrideBytes, rowCount) */
export type RmsNorm = (
  x: number,
  xStrideBytes: number,
  weight: number,
  epsilon: number,
  groups: number,
  out: number,
  outStrideBytes: number,
  rowCount: number,
) => void;

/**
 * Compiles the norm of runs of `width` floats.
 *
 * Squares are summed in two vectors, lane i of them over elements i mod 8, what is beyond a
 * multiple of 4 into lane 0; then the vectors and the lanes are added up. That order depends on the
 * width alone.
 */
export function compileRmsNorm(memory: WebAssembly.Memory, width: number): RmsNorm {
  const module = new ModuleBuilder();
  const norm = defineRmsNorm(module, width);
  return module.link(memory).get(norm);
}

function defineRmsNorm(module: ModuleBuilder, width: number): FunctionRef {
  const params = ["i32", "i32", "i32", "f32", "i32", "i32", "i32", "i32"] as const;
  return module.define("rmsNorm", params, "none", (
    scope,
    x,
    xStride,
    weight,
    epsilon,
    groups,
    out,
    outStride,
    rowCount,
  ) => {
    const even = scope.local("v128");
    const odd = scope.local("v128");
    const values = scope.local("v128");
    const scale = scope.local("v128");
    const group = scope.local("i32");
    const xAt = scope.local("i32");
    const xEnd = scope.local("i32");
    const outAt = scope.local("i32");
    const weightAt = scope.local("i32");

    const tailStart = width - width % 8;
    const addSquare = (sum: typeof even, offset: number): Body => [
      set(values, v128.load(xAt, offset)),
      set(sum, f32x4.relaxedMadd(values, values, sum)),
    ];
    // After the loop xAt stands at the tail: at most one vector and three single floats.
    const tailVectors = width % 8 >= 4 ? 1 : 0;
    const tailFloats = Array.from({ length: width % 4 }, (_, i) => 16 * tailVectors + 4 * i);
    const addSquares: Body = [
      set(even, v128.zero),
      set(odd, v128.zero),
      tailStart === 0 ? [] : doWhile(
        i32.ne(xAt, xEnd),
        addSquare(even, 0),
        addSquare(odd, 16),
        increment(xAt, 32),
      ),
      tailVectors === 1 ? addSquare(even, 0) : [],
      tailFloats.map((offset) => [
        set(values, v128.load32Zero(xAt, offset)),
        set(odd, f32x4.relaxedMadd(values, values, odd)),
      ]),
    ];
    const scaled = (offset: number) => f32x4.mul(values, v128.load(weightAt, offset));
    const scaleVector = (offset: number): Body => [
      set(values, f32x4.mul(v128.load(xAt, offset), scale)),
      v128.store(outAt, scaled(offset), offset),
    ];
    const writeScaled: Body = [
      tailStart === 0 ? [] : doWhile(
        i32.ne(xAt, xEnd),
        scaleVector(0),
        scaleVector(16),
        increment(xAt, 32),
        increment(outAt, 32),
        increment(weightAt, 32),
      ),
      tailVectors === 1 ? scaleVector(0) : [],
      tailFloats.map((offset) =>
        f32.store(
          outAt,
          f32.mul(
            f32.mul(f32.load(xAt, offset), f32x4.extractLane(scale, 0)),
            f32.load(weightAt, offset),
          ),
          offset,
        )
      ),
    ];
    const mean = f32x4.div(even, v128.constF32(width));
    const groupBytes = i32.mul(group, 4 * width);
    return [
      doWhile(
        rowCount,
        setI32(group, 0),
        doWhile(
          i32.ne(group, groups),
          setI32(xAt, i32.add(x, groupBytes)),
          setI32(xEnd, i32.add(xAt, 4 * tailStart)),
          addSquares,
          set(even, f32x4.add(even, odd)),
          sumLanes(even),
          set(
            scale,
            f32x4.div(
              v128.constF32(1),
              f32x4.sqrt(f32x4.add(mean, f32x4.splat(epsilon))),
            ),
          ),
          setI32(xAt, i32.add(x, groupBytes)),
          setI32(outAt, i32.add(out, groupBytes)),
          setI32(weightAt, weight),
          writeScaled,
          increment(group, 1),
        ),
        increment(x, xStride),
        increment(out, outStride),
        increment(rowCount, -1),
      ),
    ];
  });
}
