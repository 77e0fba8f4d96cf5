/** Rotary position embedding in the rotate-half layout. */

import {
  type Body,
  doWhile,
  type Expr,
  type FunctionRef,
  increment,
  ModuleBuilder,
  set,
  setI32,
} from "./assembler.ts";
import { f32x4, i32, v128 } from "./instructions.ts";

/** (x, xStrideBytes, heads, headBytes, positions, table, rowCount) */
export type Rope = (
  x: number,
  xStrideBytes: number,
  heads: number,
  headBytes: number,
  positions: number,
  table: number,
  rowCount: number,
) => void;

/** Compiles the rotation of the first `rotaryDim` floats of each head. */
export function compileRope(memory: WebAssembly.Memory, rotaryDim: number): Rope {
  const module = new ModuleBuilder();
  const rope = defineRope(module, rotaryDim);
  return module.link(memory).get(rope);
}

function defineRope(module: ModuleBuilder, rotaryDim: number): FunctionRef {
  const half = rotaryDim / 2;
  const halfBytes = 4 * half;
  const params = ["i32", "i32", "i32", "i32", "i32", "i32", "i32"] as const;
  return module.define("rope", params, "none", (
    scope,
    x,
    xStride,
    heads,
    headBytes,
    positions,
    table,
    rowCount,
  ) => {
    const first = scope.local("v128");
    const second = scope.local("v128");
    const cosine = scope.local("v128");
    const sine = scope.local("v128");
    const head = scope.local("i32");
    const headsLeft = scope.local("i32");
    const angles = scope.local("i32");

    const rotate = (
      offset: number,
      load: (at: Expr<"i32">, offset: number) => Expr<"v128">,
      store: (value: typeof first, offset: number) => Body,
    ): Body => [
      set(first, load(head, offset)),
      set(second, load(head, offset + halfBytes)),
      set(cosine, load(angles, offset)),
      set(sine, load(angles, offset + halfBytes)),
      // `cosine` and `sine` become the rotated pair.
      set(cosine, f32x4.sub(f32x4.mul(first, cosine), f32x4.mul(second, sine))),
      store(cosine, offset),
      set(cosine, load(angles, offset)),
      set(sine, f32x4.add(f32x4.mul(second, cosine), f32x4.mul(first, sine))),
      store(sine, offset + halfBytes),
    ];
    const vectors = Array.from(
      { length: Math.floor(half / 4) },
      (_, i) => rotate(16 * i, v128.load, (value, offset) => [v128.store(head, value, offset)]),
    );
    const singles = Array.from({ length: half % 4 }, (_, i) =>
      rotate(
        4 * (half - half % 4 + i),
        v128.load32Zero,
        (value, offset) => [v128.store32Lane(head, value, 0, offset)],
      ));
    return [
      doWhile(
        rowCount,
        setI32(angles, i32.add(table, i32.mul(i32.load(positions), 4 * rotaryDim))),
        setI32(head, x),
        setI32(headsLeft, heads),
        doWhile(
          headsLeft,
          vectors,
          singles,
          increment(head, headBytes),
          increment(headsLeft, -1),
        ),
        increment(x, xStride),
        increment(positions, 4),
        increment(rowCount, -1),
      ),
    ];
  });
}
