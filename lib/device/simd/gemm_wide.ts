/**
 * The GEMM in tiles of up to six rows and sixteen columns, for a V8 that joins neighbouring vectors.
 *
 * Under `--experimental-wasm-revectorize --no-wasm-bounds-checks` V8 makes one instruction of 256
 * bits of two that work on neighbouring 16 bytes. A tile of 6×16 then takes twelve such registers
 * for its sums, two for weights and one for an activation: all there are. Without the flags the
 * same code has twice as many vectors as registers and is slow, so timing decides
 * (`kernel_choice.ts`). It may: the sums are those of `gemm.ts`, in the same order.
 *
 * V8 starts from pairs of stores and follows their operands. That is why both panels of a tile are
 * expanded side by side, and why a pass that replaces the output and one that adds to it are
 * functions of their own: with both in one, the pairs of one branch are in the way of the other.
 */

import {
  type Body,
  call,
  doWhile,
  type FunctionRef,
  increment,
  type Local,
  ModuleBuilder,
  result,
  set,
  setI32,
  when,
} from "./assembler.ts";
import { PANEL_COLUMNS, panelBytes, type WeightFormat } from "../block_formats.ts";
import { CLASS_COUNT, defineExpand, EXPANDED_ROW_BYTES, expandedBytes } from "./expand.ts";
import type { Gemm } from "./gemm.ts";
import { f32x4, i32, v128 } from "./instructions.ts";
import { packedRowWidth, packedTileBytes } from "./pack.ts";

/** Most rows of a wide tile. */
export const WIDE_TILE_ROWS_MAX = 6;

/** Panels side by side in a wide tile. */
const PANELS = 2;

/** Bytes of one k of both expanded panels. */
const ROW_BYTES = PANELS * EXPANDED_ROW_BYTES;

/** Bytes of both expanded panels. */
export function wideExpandedBytes(k: number): number {
  return PANELS * expandedBytes(k);
}

/** k of one class that an iteration covers; k / 4 is a multiple of it, as k is one of 8. */
const UNROLL = 2;

/**
 * Compiles the wide GEMM of one format and k. It is called like the other one; `expanded` is room
 * for {@linkcode wideExpandedBytes}, and the tiles are packed with as many rows as these have.
 */
export function compileGemmWide(
  memory: WebAssembly.Memory,
  format: WeightFormat,
  k: number,
  tiles: { readonly smallRows: number; readonly largeRows: number },
): Gemm {
  const module = new ModuleBuilder();
  const gemm = defineGemmWide(module, format, k, tiles);
  return module.link(memory).get(gemm);
}

function defineGemmWide(
  module: ModuleBuilder,
  format: WeightFormat,
  k: number,
  { smallRows, largeRows }: { readonly smallRows: number; readonly largeRows: number },
): FunctionRef {
  const expand = defineExpand(module, format, k, ROW_BYTES);
  const define = (panels: number) => ({
    small: defineWideTiles(module, k, smallRows, panels),
    large: largeRows === smallRows ? undefined : defineWideTiles(module, k, largeRows, panels),
  });
  const pair = define(PANELS);
  const single = define(1);
  const params = ["i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32"] as const;
  return module.define("gemmWide", params, "i32", (
    scope,
    packed,
    panel,
    out,
    outStride,
    panelCount,
    largeTiles,
    smallTiles,
    expanded,
  ) => {
    const pairCount = scope.local("i32");
    const smallPacked = scope.local("i32");
    const smallOut = scope.local("i32");
    const panelSize = panelBytes(format, k);
    const multiply = ({ small, large }: ReturnType<typeof define>): Body =>
      Array.from({ length: CLASS_COUNT }, (_, c) => {
        const weights = i32.add(expanded, c * (wideExpandedBytes(k) / CLASS_COUNT));
        const pass = (tiles: WideTiles) => c === 0 ? tiles.replace : tiles.add;
        const largeAt = i32.add(packed, c * (packedTileBytes(largeRows, k) / CLASS_COUNT));
        const smallAt = i32.add(smallPacked, c * (packedTileBytes(smallRows, k) / CLASS_COUNT));
        return [
          large === undefined ? [] : when(largeTiles, [
            call(pass(large), largeAt, weights, out, outStride, largeTiles),
          ]),
          when(smallTiles, [call(pass(small), smallAt, weights, smallOut, outStride, smallTiles)]),
        ];
      });
    return [
      setI32(
        smallPacked,
        i32.add(packed, i32.mul(largeTiles, packedTileBytes(largeRows, k))),
      ),
      setI32(smallOut, i32.add(out, i32.mul(i32.mul(largeTiles, largeRows), outStride))),
      setI32(pairCount, i32.shrU(panelCount, 1)),
      when(pairCount, [
        doWhile(
          pairCount,
          call(expand, panel, expanded),
          call(expand, i32.add(panel, panelSize), i32.add(expanded, EXPANDED_ROW_BYTES)),
          multiply(pair),
          increment(panel, PANELS * panelSize),
          increment(out, PANELS * 4 * PANEL_COLUMNS),
          increment(smallOut, PANELS * 4 * PANEL_COLUMNS),
          increment(pairCount, -1),
        ),
      ]),
      when(i32.and(panelCount, 1), [call(expand, panel, expanded), multiply(single)]),
      result(i32.const(0)),
    ];
  });
}

/** (packed, weights, out, outStride, tileCount) */
type TilesRef = FunctionRef<readonly ["i32", "i32", "i32", "i32", "i32"], "none">;

/** One class of k for a run of tiles: its sums replace the output, or are added to it. */
interface WideTiles {
  readonly replace: TilesRef;
  readonly add: TilesRef;
}

function defineWideTiles(
  module: ModuleBuilder,
  k: number,
  rows: number,
  panels: number,
): WideTiles {
  return {
    replace: defineWidePass(module, k, { rows, panels, add: false }),
    add: defineWidePass(module, k, { rows, panels, add: true }),
  };
}

function defineWidePass(
  module: ModuleBuilder,
  k: number,
  { rows, panels, add }: {
    readonly rows: number;
    readonly panels: number;
    readonly add: boolean;
  },
): TilesRef {
  const params = ["i32", "i32", "i32", "i32", "i32"] as const;
  const functionName = `${add ? "add" : "replace"}${rows}x${panels}`;
  return module.define(functionName, params, "none", (
    scope,
    packed,
    weights,
    out,
    outStride,
    tileCount,
  ) => {
    const vectors = panels * PANEL_COLUMNS / 4;
    const sums = scope.locals("v128", rows * vectors);
    const loaded = scope.locals("v128", vectors);
    const activation = scope.local("v128");
    const packedAt = scope.local("i32");
    const weightsAt = scope.local("i32");
    const weightsEnd = scope.local("i32");
    const packedStep = 4 * packedRowWidth(rows);
    const sum = (row: number, i: number) => sums[row * vectors + i] as Local<"v128">;
    const step = (u: number): Body => [
      loaded.map((vector, i) => set(vector, v128.load(weightsAt, u * ROW_BYTES + 16 * i))),
      Array.from({ length: rows }, (_, row) => [
        set(activation, v128.load32Splat(packedAt, u * packedStep + 4 * row)),
        loaded.map((vector, i) =>
          set(sum(row, i), f32x4.relaxedMadd(activation, vector, sum(row, i)))
        ),
      ]),
    ];
    // All loads before all stores: V8 joins no loads that a store stands between.
    const store = (row: number): Body => [
      add
        ? loaded.map((vector, i) => set(vector, f32x4.add(v128.load(out, 16 * i), sum(row, i))))
        : [],
      loaded.map((vector, i) => v128.store(out, add ? vector : sum(row, i), 16 * i)),
      increment(out, outStride),
    ];
    return [
      setI32(weightsEnd, i32.add(weights, k / CLASS_COUNT * ROW_BYTES)),
      doWhile(
        tileCount,
        sums.map((each) => set(each, v128.zero)),
        setI32(packedAt, packed),
        setI32(weightsAt, weights),
        doWhile(
          i32.ne(weightsAt, weightsEnd),
          Array.from({ length: UNROLL }, (_, u) => step(u)),
          increment(weightsAt, UNROLL * ROW_BYTES),
          increment(packedAt, UNROLL * packedStep),
        ),
        Array.from({ length: rows }, (_, row) => store(row)),
        increment(packed, packedTileBytes(rows, k)),
        increment(tileCount, -1),
      ),
    ];
  });
}
