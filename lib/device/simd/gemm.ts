/**
 * Several rows of activations times a weight, in tiles of up to five rows and eight columns.
 *
 * A tile makes four passes, one for each class of k (mod 4), and adds up its partial sums in that
 * order: the same additions in the same order as the GEMV, so the same bits. For some panels at a
 * time the classes are the outer loop, then panels, and tiles the inner one, which keeps a quarter
 * of a panel in the first-level cache. The sums lie close together until the last class writes the
 * output: where rows are a multiple of 4096 bytes apart they share one set of that cache.
 *
 * Panels of blocks are expanded once a panel; the others are read as they are, float16 with the
 * exponents of its numbers 112 too small: activations come multiplied by 2^112.
 */

import {
  type Body,
  call,
  callFor,
  doWhile,
  type Expr,
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
import { createEightLoader } from "./eight_loader.ts";
import { CLASS_COUNT, defineExpand, EXPANDED_ROW_BYTES, expandedBytes } from "./expand.ts";
import { defineHalfSearch, HALF_FACTOR } from "./half_expander.ts";
import { f32x4, i32, v128 } from "./instructions.ts";
import { splatLane } from "./lanes.ts";
import { packedRowWidth, packedTileBytes } from "./pack.ts";

/**
 * (packed, panel, out, outStrideBytes, panelCount, largeTiles, smallTiles, expanded): first the
 * tiles of `smallRows + 1` rows, then those of `smallRows`. `expanded` is room for
 * {@linkcode gemmRoomBytes}, and there are at most {@linkcode GEMM_ROWS_MAX} rows. The result is 1
 * if the outputs may be wrong: there is an infinity or NaN among float16 weights.
 */
export type Gemm = (
  packed: number,
  panel: number,
  out: number,
  outStrideBytes: number,
  panelCount: number,
  largeTiles: number,
  smallTiles: number,
  expanded: number,
) => number;

/** What activations for the tiles of a format have to be multiplied with before. */
export function activationFactor(format: WeightFormat): number {
  return format === "f16" ? HALF_FACTOR : 1;
}

/** What a GEMM is compiled for besides format and k. */
export interface GemmTiles {
  readonly smallRows: number;
  /** smallRows, or one row more. */
  readonly largeRows: number;
}

/** Compiles the GEMM of one format and k for tiles of smallRows and, below five, one row more. */
export function compileGemm(
  memory: WebAssembly.Memory,
  format: WeightFormat,
  k: number,
  tiles: GemmTiles,
): Gemm {
  const module = new ModuleBuilder();
  const gemm = defineGemm(module, format, k, tiles);
  return module.link(memory).get(gemm);
}

type DirectType = "f32" | "bf16" | "f16";

/** Which panels the tiles read as they are, and which they read expanded to float32. */
function directType(format: WeightFormat): DirectType | undefined {
  return format === "f32" || format === "bf16" || format === "f16" ? format : undefined;
}

/** Where the weights of one class are: in a panel every fourth k, expanded one after another. */
function classDistances(
  direct: DirectType | undefined,
  k: number,
): { readonly classBytes: number; readonly stepBytes: number } {
  switch (direct) {
    case "f32":
      return { classBytes: 32, stepBytes: CLASS_COUNT * 32 };
    case "bf16":
    case "f16":
      return { classBytes: 16, stepBytes: CLASS_COUNT * 16 };
    case undefined:
      return { classBytes: expandedBytes(k / CLASS_COUNT), stepBytes: EXPANDED_ROW_BYTES };
  }
}

function defineGemm(
  module: ModuleBuilder,
  format: WeightFormat,
  k: number,
  { smallRows, largeRows }: GemmTiles,
): FunctionRef {
  const direct = directType(format);
  const expand = direct === undefined ? defineExpand(module, format, k) : undefined;
  const search = format === "f16" ? defineHalfSearch(module) : undefined;
  const small = defineTiles(module, direct, k, smallRows);
  const large = largeRows === smallRows ? undefined : defineTiles(module, direct, k, largeRows);
  const params = ["i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32"] as const;
  return module.define("gemm", params, "i32", (
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
    const smallPacked = scope.local("i32");
    const smallRowsAt = scope.local("i32");
    const group = scope.local("i32");
    const left = scope.local("i32");
    const panelsEnd = scope.local("i32");
    const isWrong = scope.local("i32");
    const weights = scope.local("i32");
    const outAt = scope.local("i32");
    const sumsAt = scope.local("i32");
    const panelSums = scope.local("i32");
    const groupMax = scope.local("i32");
    const groupPanels = direct === undefined ? 1 : groupPanelsMax(panelBytes(format, k));
    const { classBytes } = classDistances(direct, k);
    const classOf = (tiles: Expr<"i32">, rows: number, c: number) =>
      i32.add(tiles, c * (packedTileBytes(rows, k) / CLASS_COUNT));
    const runClass = (c: number): Body => {
      const smallSums = i32.add(sumsAt, i32.mul(largeTiles, largeRows * ROW_BYTES));
      const smallOut = i32.add(outAt, smallRowsAt);
      return [
        setI32(weights, i32.add(direct === undefined ? expanded : panel, c * classBytes)),
        setI32(outAt, out),
        setI32(sumsAt, i32.add(expanded, expandedBytes(k))),
        setI32(left, group),
        doWhile(
          left,
          large === undefined ? [] : when(largeTiles, [
            call(
              large,
              classOf(packed, largeRows, c),
              weights,
              sumsAt,
              outAt,
              outStride,
              largeTiles,
              c,
            ),
          ]),
          when(smallTiles, [
            call(
              small,
              classOf(smallPacked, smallRows, c),
              weights,
              smallSums,
              smallOut,
              outStride,
              smallTiles,
              c,
            ),
          ]),
          increment(weights, panelBytes(format, k)),
          increment(outAt, ROW_BYTES),
          increment(sumsAt, panelSums),
          increment(left, -1),
        ),
      ];
    };
    return [
      setI32(
        smallPacked,
        i32.add(packed, i32.mul(largeTiles, packedTileBytes(largeRows, k))),
      ),
      setI32(smallRowsAt, i32.mul(i32.mul(largeTiles, largeRows), outStride)),
      setI32(
        panelSums,
        i32.mul(
          i32.add(i32.mul(largeTiles, largeRows), i32.mul(smallTiles, smallRows)),
          ROW_BYTES,
        ),
      ),
      setI32(groupMax, i32.divU(SUMS_BYTES, panelSums)),
      when(i32.gtS(groupMax, groupPanels), [setI32(groupMax, groupPanels)]),
      doWhile(
        panelCount,
        setI32(group, panelCount),
        when(i32.gtS(group, groupMax), [setI32(group, groupMax)]),
        expand === undefined ? [] : call(expand, panel, expanded),
        setI32(panelsEnd, i32.add(panel, i32.mul(group, panelBytes(format, k)))),
        search === undefined
          ? []
          : setI32(isWrong, i32.or(isWrong, callFor(search, panel, panelsEnd))),
        Array.from({ length: CLASS_COUNT }, (_, c) => runClass(c)),
        setI32(panel, panelsEnd),
        increment(out, i32.mul(group, 4 * PANEL_COLUMNS)),
        increment(panelCount, i32.sub(0, group)),
      ),
      result(isWrong),
    ];
  });
}

/**
 * Panels that a class goes through before the next one. The first class reads them from memory, as
 * one stream: each start of a stream is a wait for memory. The others find them in a second-level
 * cache of a mebibyte, next to the packed activations.
 */
function groupPanelsMax(panelBytes: number): number {
  return Math.max(1, Math.floor(GROUP_BYTES / panelBytes));
}

const GROUP_BYTES = 192 * 1024;

/** Bytes of a row of one panel's output. */
const ROW_BYTES = 4 * PANEL_COLUMNS;

/** Room for the sums of one group of panels. */
const SUMS_BYTES = 64 * 1024;

/** Most rows of a call: the sums of one panel have to fit. */
export const GEMM_ROWS_MAX: number = SUMS_BYTES / ROW_BYTES;

/** Bytes for one expanded panel and the sums. */
export function gemmRoomBytes(k: number): number {
  return expandedBytes(k) + SUMS_BYTES;
}

/** k of one class that an iteration of a tile's loop covers. */
const UNROLL = 4;

/** (packed, weights, partial, out, outStride, tileCount, class) */
type TilesRef = FunctionRef<
  readonly ["i32", "i32", "i32", "i32", "i32", "i32", "i32"],
  "none"
>;

/**
 * One class of k for a run of tiles. `packed` and `weights` point at the class. The first class
 * writes its sums to `partial`, the others add theirs to what is there, and the last one writes the
 * total to the output.
 */
function defineTiles(
  module: ModuleBuilder,
  direct: DirectType | undefined,
  k: number,
  rows: number,
): TilesRef {
  const params = ["i32", "i32", "i32", "i32", "i32", "i32", "i32"] as const;
  return module.define(`tiles${rows}`, params, "none", (
    scope,
    packed,
    weights,
    partial,
    out,
    outStride,
    tileCount,
    c,
  ) => {
    const loader = createEightLoader(direct ?? "f32", scope);
    const { stepBytes } = classDistances(direct, k);
    const sums = scope.locals("v128", 2 * rows);
    const low = scope.local("v128");
    const high = scope.local("v128");
    const four = scope.local("v128");
    const activation = scope.local("v128");
    const packedAt = scope.local("i32");
    const weightsAt = scope.local("i32");
    const weightsEnd = scope.local("i32");
    const packedStep = 4 * packedRowWidth(rows);

    const multiplyRow = (row: number, value: Expr<"v128">): Body => {
      const [a, b] = [sums[2 * row] as Local<"v128">, sums[2 * row + 1] as Local<"v128">];
      return [
        set(activation, value),
        set(a, f32x4.relaxedMadd(activation, low, a)),
        set(b, f32x4.relaxedMadd(activation, high, b)),
      ];
    };
    const step = (u: number): Body => [
      loader.load(low, high, weightsAt, u * stepBytes),
      set(four, v128.load(packedAt, u * packedStep)),
      Array.from({ length: Math.min(rows, 4) }, (_, row) => multiplyRow(row, splatLane(four, row))),
      // The fifth row is one load, not one more vector: there is no register left for it.
      rows === 5 ? multiplyRow(4, v128.load32Splat(packedAt, u * packedStep + 16)) : [],
    ];
    const steps = (count: number): Body => Array.from({ length: count }, (_, u) => step(u));
    const classK = k / CLASS_COUNT;
    const rest = classK % UNROLL;
    const main = classK < UNROLL ? [] : [
      setI32(weightsEnd, i32.add(weights, (classK - rest) * stepBytes)),
      doWhile(
        i32.ne(weightsAt, weightsEnd),
        steps(UNROLL),
        increment(weightsAt, UNROLL * stepBytes),
        increment(packedAt, UNROLL * packedStep),
      ),
    ];
    const total = (i: number): Expr<"v128"> =>
      f32x4.add(v128.load(partial, 16 * i), sums[i] as Local<"v128">);
    const storePartial = (value: (i: number) => Expr<"v128">): Body =>
      sums.map((_, i) => v128.store(partial, value(i), 16 * i));
    const storeOut: Body = Array.from({ length: rows }, (_, row) => [
      [0, 1].map((half) => v128.store(out, total(2 * row + half), 16 * half)),
      increment(out, outStride),
    ]);
    return [
      loader.setup,
      doWhile(
        tileCount,
        sums.map((sum) => set(sum, v128.zero)),
        setI32(packedAt, packed),
        setI32(weightsAt, weights),
        main,
        steps(rest),
        when(
          i32.eq(c, CLASS_COUNT - 1),
          storeOut,
          [when(c, storePartial(total), storePartial((i) => sums[i] as Local<"v128">))],
        ),
        increment(partial, rows * ROW_BYTES),
        increment(packed, packedTileBytes(rows, k)),
        increment(tileCount, -1),
      ),
    ];
  });
}
