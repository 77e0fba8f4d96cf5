/** The loops that kernels are held against: nothing but reads, nothing but multiply-adds. */

import {
  doWhile,
  type Expr,
  increment,
  type Local,
  ModuleBuilder,
  result,
  set,
} from "../../lib/device/simd/assembler.ts";
import { f32x4, i32, i32x4, v128 } from "../../lib/device/simd/instructions.ts";

/** Floating-point operations of one iteration of the peak loop. */
export const PEAK_FLOPS: number = 12 * 4 * 2;

/** The read loop goes in steps of so many bytes. */
export const READ_STEP = 256;

/** A loop of so many iterations. */
export type Loop = (iterations: number) => number;

/**
 * Keeps the whole front end busy, not only the multipliers: that is what someone else on the same
 * core takes away.
 */
export function compileCalibration(memory: WebAssembly.Memory): Loop {
  return compileLoop(memory, (sums, x, y, integers) =>
    sums.map((sum, i) => [
      set(sum, f32x4.relaxedMadd(x, y, sum)),
      increment(integers[i % 4]!, 3 * i + 1),
      i < 10 ? increment(integers[(i + 1) % 4]!, 5 * i + 1) : [],
    ]));
}

/** Two multiply-adds a cycle in 12 independent chains: the most that 128-bit vectors give. */
export function compilePeak(memory: WebAssembly.Memory): Loop {
  return compileLoop(
    memory,
    (sums, x, y) => sums.map((sum) => set(sum, f32x4.relaxedMadd(x, y, sum))),
  );
}

type LoopBody = (
  sums: Local<"v128">[],
  x: Local<"v128">,
  y: Local<"v128">,
  integers: Local<"i32">[],
) => Parameters<typeof doWhile>[1][];

function compileLoop(memory: WebAssembly.Memory, body: LoopBody): Loop {
  const module = new ModuleBuilder();
  const loop = module.define("loop", ["i32"], "f32", (scope, iterations) => {
    const sums = scope.locals("v128", 12);
    const [x, y] = scope.locals("v128", 2) as [Local<"v128">, Local<"v128">];
    const integers = scope.locals("i32", 4);
    const total = integers.reduce<Expr<"i32">>((sum, local) => i32.add(sum, local), i32.const(0));
    const sum = sums.reduce<Expr<"v128">>((a, b) => f32x4.add(a, b), i32x4.splat(total));
    return [
      set(x, v128.constF32(0.999)),
      set(y, v128.constF32(0.001)),
      doWhile(iterations, body(sums, x, y, integers), increment(iterations, -1)),
      result(f32x4.extractLane(sum, 0)),
    ];
  });
  return module.link(memory).get(loop);
}

/** Reads [start, end), a multiple of {@linkcode READ_STEP} bytes and not empty. */
export function compileRead(memory: WebAssembly.Memory): (start: number, end: number) => number {
  const module = new ModuleBuilder();
  const loop = module.define("read", ["i32", "i32"], "i32", (scope, start, end) => {
    const bits = scope.locals("v128", 8);
    const all = bits.reduce<Expr<"v128">>((a, b) => v128.or(a, b), v128.zero);
    return [
      doWhile(
        i32.ne(start, end),
        Array.from({ length: READ_STEP / 16 }, (_, i) => {
          const local = bits[i % 8]!;
          return set(local, v128.or(local, v128.load(start, 16 * i)));
        }),
        increment(start, READ_STEP),
      ),
      result(i32x4.extractLane(all, 0)),
    ];
  });
  return module.link(memory).get(loop);
}
