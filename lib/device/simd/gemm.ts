/**
 * Several rows of activations times a weight, in tiles of up to five rows and eight columns.
 *
 * A tile makes four passes, one for each class of k (mod 4), and adds its partial sums to the
 * output in that order: the same additions in the same order as the GEMV, so the same bits. For
 * each panel the classes are the outer loop and the tiles the inner one, which keeps a quarter of
 * the panel in the first-level cache.
 *
 * Float32 panels are read as they are, and bfloat16 ones for a few rows; the others are expanded once
 * a panel.
 */

import {
  type Body,
  call,
  doWhile,
  type Expr,
  type FunctionRef,
  increment,
  type Local,
  ModuleBuilder,
  set,
  setI32,
  when,
} from "./assembler.ts";
import { PANEL_COLUMNS, panelBytes, type WeightFormat } from "../block_formats.ts";
import { createEightLoader } from "./eight_loader.ts";
import { CLASS_COUNT, defineExpand, EXPANDED_ROW_BYTES, expandedBytes } from "./expand.ts";
import { f32x4, i32, v128 } from "./instructions.ts";
import { splatLane } from "./lanes.ts";
import { packedRowWidth, packedTileBytes } from "./pack.ts";

/**
 * (packed, panel, out, outStrideBytes, panelCount, largeTiles, smallTiles, expanded): first the
 * tiles of `smallRows + 1` rows, then those of `smallRows`. `expanded` is room for one panel.
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
) => void;

/** What a GEMM is compiled for besides format and k. */
export interface GemmTiles {
  readonly smallRows: number;
  /** smallRows, or one row more. */
  readonly largeRows: number;
  /** Whether panels that could be read as they are get expanded all the same: see EXPAND_ROWS_MIN. */
  readonly expandsAll?: boolean;
}

/**
 * From so many rows on, expanding a bfloat16 panel once costs less than expanding its weights in
 * registers for every tile, which takes vector instructions that the multiply-adds would use.
 */
export const EXPAND_ROWS_MIN = 32;

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

/** Which panels the tiles read as they are, and which they read expanded to float32. */
function directType(format: WeightFormat, expandsAll: boolean): "f32" | "bf16" | undefined {
  if (format === "f32") return "f32";
  return format === "bf16" && !expandsAll ? "bf16" : undefined;
}

/** Where the weights of one class are: in a panel every fourth k, expanded one after another. */
function classDistances(
  direct: "f32" | "bf16" | undefined,
  k: number,
): { readonly classBytes: number; readonly stepBytes: number } {
  switch (direct) {
    case "f32":
      return { classBytes: 32, stepBytes: CLASS_COUNT * 32 };
    case "bf16":
      return { classBytes: 16, stepBytes: CLASS_COUNT * 16 };
    case undefined:
      return { classBytes: expandedBytes(k / CLASS_COUNT), stepBytes: EXPANDED_ROW_BYTES };
  }
}

function defineGemm(
  module: ModuleBuilder,
  format: WeightFormat,
  k: number,
  { smallRows, largeRows, expandsAll = false }: GemmTiles,
): FunctionRef {
  const direct = directType(format, expandsAll);
  const expand = direct === undefined ? defineExpand(module, format, k) : undefined;
  const small = defineTiles(module, direct, k, smallRows);
  const large = largeRows === smallRows ? undefined : defineTiles(module, direct, k, largeRows);
  const params = ["i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32"] as const;
  return module.define("gemm", params, "none", (
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
    const weights = scope.local("i32");
    const next = scope.local("i32");
    const smallPacked = scope.local("i32");
    const smallOut = scope.local("i32");
    const { classBytes } = classDistances(direct, k);
    const smallClassBytes = packedTileBytes(smallRows, k) / CLASS_COUNT;
    const largeClassBytes = packedTileBytes(largeRows, k) / CLASS_COUNT;
    const runClass = (c: number): Body => {
      const at = i32.add(weights, c * classBytes);
      const first = c === 0 ? 1 : 0;
      // A quarter of the next panel for each class; there is room for what comes of it where panels
      // that are read as they are do not get expanded.
      const ahead = [i32.add(next, c * (panelBytes(format, k) / CLASS_COUNT)), expanded] as const;
      const largeAt = i32.add(packed, c * largeClassBytes);
      const smallAt = i32.add(smallPacked, c * smallClassBytes);
      return [
        large === undefined ? [] : when(largeTiles, [
          call(large, largeAt, at, out, outStride, largeTiles, first, ...ahead),
        ]),
        when(smallTiles, [
          call(small, smallAt, at, smallOut, outStride, smallTiles, first, ...ahead),
        ]),
      ];
    };
    return [
      setI32(
        smallPacked,
        i32.add(packed, i32.mul(largeTiles, packedTileBytes(largeRows, k))),
      ),
      setI32(smallOut, i32.add(out, i32.mul(i32.mul(largeTiles, largeRows), outStride))),
      doWhile(
        panelCount,
        // The last panel has none after it that must be there.
        setI32(next, panel),
        when(i32.gtS(panelCount, 1), [increment(next, panelBytes(format, k))]),
        expand === undefined
          ? setI32(weights, panel)
          : [call(expand, panel, expanded), setI32(weights, expanded)],
        Array.from({ length: CLASS_COUNT }, (_, c) => runClass(c)),
        increment(panel, panelBytes(format, k)),
        increment(out, 4 * PANEL_COLUMNS),
        increment(smallOut, 4 * PANEL_COLUMNS),
        increment(panelCount, -1),
      ),
    ];
  });
}

/** k of one class that an iteration of a tile's loop covers. */
const UNROLL = 4;

/** (packed, weights, out, outStride, tileCount, first, ahead, sink) */
type TilesRef = FunctionRef<
  readonly ["i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32"],
  "none"
>;

/**
 * One class of k for a run of tiles. `packed` and `weights` point at the class; the sums replace the
 * output if `first`, else are added to it.
 *
 * A panel that is read as it is comes from memory while its first class is worked on, and waiting
 * for it would idle the multipliers for as long. So the first tile of each class reads a word of
 * every line of the panel after it, from `ahead` on, which has it in the cache when its turn comes;
 * `sink` gets a word that depends on them all, or V8 would leave out the reads.
 */
function defineTiles(
  module: ModuleBuilder,
  direct: "f32" | "bf16" | undefined,
  k: number,
  rows: number,
): TilesRef {
  const params = ["i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32"] as const;
  return module.define(`tiles${rows}`, params, "none", (
    scope,
    packed,
    weights,
    out,
    outStride,
    tileCount,
    first,
    ahead,
    sink,
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
    const readAhead = direct === undefined ? undefined : {
      word: scope.local("i32"),
      /** Bytes of the next panel for each turn of the loop; 0 after the first tile. */
      step: scope.local("i32"),
    };

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
        readAhead === undefined ? [] : [
          setI32(readAhead.word, i32.or(readAhead.word, i32.load(ahead))),
          increment(ahead, readAhead.step),
        ],
        steps(UNROLL),
        increment(weightsAt, UNROLL * stepBytes),
        increment(packedAt, UNROLL * packedStep),
      ),
    ];
    const storeRows = (value: (sum: Local<"v128">, offset: number) => Expr<"v128">): Body =>
      Array.from({ length: rows }, (_, row) => [
        [0, 1].map((half) =>
          v128.store(out, value(sums[2 * row + half] as Local<"v128">, 16 * half), 16 * half)
        ),
        increment(out, outStride),
      ]);
    return [
      loader.setup,
      readAhead === undefined ? [] : setI32(readAhead.step, UNROLL * stepBytes / CLASS_COUNT),
      doWhile(
        tileCount,
        sums.map((sum) => set(sum, v128.zero)),
        setI32(packedAt, packed),
        setI32(weightsAt, weights),
        main,
        steps(rest),
        when(
          first,
          storeRows((sum) => sum),
          storeRows((sum, offset) => f32x4.add(v128.load(out, offset), sum)),
        ),
        increment(packed, packedTileBytes(rows, k)),
        // Back to the last line that was read: one more may be outside the memory.
        readAhead === undefined
          ? []
          : [increment(ahead, i32.sub(0, readAhead.step)), setI32(readAhead.step, 0)],
        increment(tileCount, -1),
      ),
      readAhead === undefined ? [] : i32.store(sink, readAhead.word),
    ];
  });
}
