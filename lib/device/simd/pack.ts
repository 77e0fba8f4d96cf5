/** Activations re-ordered for the GEMM tiles, so that a tile reads them as one ascending stream. */

import {
  type Body,
  doWhile,
  type FunctionRef,
  increment,
  type Local,
  ModuleBuilder,
  result,
  set,
  setI32,
} from "./assembler.ts";
import { CLASS_COUNT } from "./expand.ts";
import { f32x4, i32, v128 } from "./instructions.ts";
import { transpose } from "./lanes.ts";

/** Most rows of a tile: ten accumulators, and what else a tile needs is five more vectors. */
export const TILE_ROWS_MAX = 5;

/** Floats a tile of `rows` rows takes for each k: smaller tiles still read whole vectors. */
export function packedRowWidth(rows: number): number {
  return Math.max(4, rows);
}

/** Bytes of one packed tile: [4 classes][k / 4][packedRowWidth] float32. */
export function packedTileBytes(rows: number, k: number): number {
  return 4 * k * packedRowWidth(rows);
}

/**
 * (x, xStrideBytes, target, tileCount): rows of x, times the factor, into consecutive tiles. The
 * result is 1 if there is a factor and a product is infinite or NaN.
 */
export type Pack = (x: number, xStrideBytes: number, target: number, tileCount: number) => number;

/** Compiles the packing of tiles of `rows` rows. */
export function compilePack(
  memory: WebAssembly.Memory,
  rows: number,
  k: number,
  factor: number = 1,
): Pack {
  const module = new ModuleBuilder();
  const pack = definePack(module, rows, k, factor);
  return module.link(memory).get(pack);
}

function definePack(module: ModuleBuilder, rows: number, k: number, factor: number): FunctionRef {
  const width = packedRowWidth(rows);
  const classBytes = packedTileBytes(rows, k) / CLASS_COUNT;
  return module.define("pack", ["i32", "i32", "i32", "i32"], "i32", (
    scope,
    x,
    xStride,
    target,
    tileCount,
  ) => {
    const rowAt = scope.locals("i32", rows);
    const vectors = scope.locals("v128", 4);
    const spare = scope.locals("v128", 4);
    const extra = scope.local("v128");
    const targetAt = scope.local("i32");
    const targetEnd = scope.local("i32");
    // A tile of fewer than four rows repeats its first one in the lanes that no one reads.
    const row = (i: number): Local<"i32"> => rowAt[i < rows ? i : 0] as Local<"i32">;
    const factors = scope.local("v128");
    const notFinite = scope.local("v128");
    const load = (vector: Local<"v128">, at: Local<"i32">): Body =>
      factor === 1 ? [set(vector, v128.load(at))] : [
        set(vector, f32x4.mul(v128.load(at), factors)),
        // x − x is NaN for infinities and NaN, and 0 for all others.
        set(notFinite, f32x4.add(notFinite, f32x4.sub(vector, vector))),
      ];
    const loadFour: Body = vectors.map((vector, i) => load(vector, row(i)));
    const storeFour: Body = vectors.map((vector, c) =>
      v128.store(targetAt, vector, c * classBytes)
    );
    const moveExtra: Body = rowAt.slice(4).map((at, i) => [
      load(extra, at),
      [0, 1, 2, 3].map((c) => v128.store32Lane(targetAt, extra, c, c * classBytes + 16 + 4 * i)),
    ]);
    return [
      set(factors, v128.constF32(factor)),
      doWhile(
        tileCount,
        rowAt.map((at, i) =>
          setI32(at, i === 0 ? x : i32.add(rowAt[i - 1] as Local<"i32">, xStride))
        ),
        setI32(x, i32.add(row(rows - 1), xStride)),
        setI32(targetAt, target),
        setI32(targetEnd, i32.add(target, classBytes)),
        doWhile(
          i32.ne(targetAt, targetEnd),
          loadFour,
          transpose(vectors, spare),
          storeFour,
          moveExtra,
          rowAt.map((at) => increment(at, 16)),
          increment(targetAt, 4 * width),
        ),
        increment(target, packedTileBytes(rows, k)),
        increment(tileCount, -1),
      ),
      result(v128.anyTrue(f32x4.ne(notFinite, notFinite))),
    ];
  });
}
