/**
 * Several rows of integer activations times a quantised weight, in tiles of up to four rows.
 *
 * The integer sums of a tile's block are in registers, its float32 sums on the stack, where V8 puts
 * them: they are touched once a block. What is the same for all rows, the scales as float32 above
 * all, is worked out once a panel and kept in scratch beside the rows.
 */

import { PANEL_COLUMNS, panelBytes, QUANT_BLOCK, type QuantizedFormat } from "../block_formats.ts";
import {
  type Body,
  call,
  doWhile,
  type FunctionRef,
  increment,
  type Local,
  ModuleBuilder,
  set,
  setI32,
  when,
} from "./assembler.ts";
import type { Gemm } from "./gemm.ts";
import { HalfExpander } from "./half_expander.ts";
import { f32x4, i32, i32x4, v128 } from "./instructions.ts";
import {
  blockBytes,
  CodeLoader,
  createGroupDot,
  GROUPS,
  type Halves,
  halvesIn,
} from "./integer_dot.ts";
import { type IntegerCodes, integerRowBytes, rowBlock } from "./integer_rows.ts";
import { splatLane } from "./lanes.ts";

/** Most rows of a tile: eight integer sums, and what else a tile needs is six more vectors. */
export const INTEGER_TILE_ROWS_MAX = 4;

/** Bytes of what is kept of a block: scales, then minima or the codes' bias, of eight columns. */
const SHARED_BYTES = 64;

/** Room that the GEMM needs besides the rows: what is shared by the tiles, and their sums. */
export function integerGemmScratchBytes(k: number): number {
  return k / QUANT_BLOCK * SHARED_BYTES + INTEGER_TILE_ROWS_MAX * 4 * PANEL_COLUMNS;
}

/** What the functions of a module are made for. */
interface Shape {
  readonly format: QuantizedFormat;
  readonly codes: IntegerCodes;
  readonly k: number;
}

/**
 * Compiles the GEMM of one format and k for tiles of smallRows and largeRows. It is called as
 * `gemm.ts` says, with rows of integers; `expanded` is room for {@linkcode integerGemmScratchBytes}.
 */
export function compileIntegerGemm(
  memory: WebAssembly.Memory,
  shape: Shape,
  tiles: { readonly smallRows: number; readonly largeRows: number },
): Gemm {
  const module = new ModuleBuilder();
  const gemm = defineIntegerGemm(module, shape, tiles);
  return module.link(memory).get(gemm);
}

function defineIntegerGemm(
  module: ModuleBuilder,
  shape: Shape,
  { smallRows, largeRows }: { readonly smallRows: number; readonly largeRows: number },
): FunctionRef {
  const { format, codes, k } = shape;
  const share = defineShare(module, shape);
  const small = defineIntegerTiles(module, shape, smallRows);
  const large = largeRows === smallRows ? small : defineIntegerTiles(module, shape, largeRows);
  const tileBytes = integerRowBytes(codes, 4, k);
  const params = ["i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32"] as const;
  return module.define("integerGemm", params, "none", (
    _scope,
    rows,
    panel,
    out,
    outStride,
    panelCount,
    largeTiles,
    smallTiles,
    shared,
  ) => [
    doWhile(
      panelCount,
      call(share, panel, shared),
      when(largeTiles, [call(large, rows, panel, out, outStride, largeTiles, shared)]),
      when(smallTiles, [
        call(
          small,
          i32.add(rows, i32.mul(largeTiles, tileBytes)),
          panel,
          i32.add(out, i32.mul(i32.mul(largeTiles, largeRows), outStride)),
          outStride,
          smallTiles,
          shared,
        ),
      ]),
      increment(panel, panelBytes(format, k)),
      increment(out, 4 * PANEL_COLUMNS),
      increment(panelCount, -1),
    ),
  ]);
}

/** (panel, shared): what the tiles of a panel have in common, {@linkcode SHARED_BYTES} a block. */
function defineShare(
  module: ModuleBuilder,
  { format, codes, k }: Shape,
): FunctionRef<readonly ["i32", "i32"], "none"> {
  return module.define("share", ["i32", "i32"], "none", (scope, panel, shared) => {
    const halves = new HalfExpander(scope, 1);
    const loader = new CodeLoader(scope, format);
    const expanded = halvesIn(scope);
    const weights = halvesIn(scope);
    const end = scope.local("i32");
    const store = (offset: number): Body =>
      expanded.map((vector, half) => v128.store(shared, vector, offset + 16 * half));
    const minima: Body = [halves.expandScales(expanded, weights[0], panel, 16), store(32)];
    // −bias · Σ codes of a column: a bias takes part in every product.
    const biases: Body = [
      expanded.map((sum) => set(sum, v128.zero)),
      Array.from({ length: GROUPS }, (_, group) => [
        loader.load(weights, panel, group),
        expanded.map((sum, half) =>
          set(
            sum,
            i32x4.relaxedDotAdd(weights[half]!, v128.constI32(0x01010101 * codes.bias), sum),
          )
        ),
      ]),
      expanded.map((sum) => set(sum, i32x4.sub(v128.zero, sum))),
      store(32),
    ];
    return [
      halves.setup,
      loader.setup,
      setI32(end, i32.add(shared, k / QUANT_BLOCK * SHARED_BYTES)),
      doWhile(
        i32.ne(shared, end),
        halves.expandScales(expanded, weights[0], panel, 0),
        store(0),
        format === "q4_1" ? minima : [],
        codes.bias > 0 ? biases : [],
        increment(panel, blockBytes(format)),
        increment(shared, SHARED_BYTES),
      ),
    ];
  });
}

/** (rows, panel, out, outStride, tileCount, shared): one panel for a run of tiles. */
function defineIntegerTiles(
  module: ModuleBuilder,
  { format, codes, k }: Shape,
  rows: number,
): FunctionRef<readonly ["i32", "i32", "i32", "i32", "i32", "i32"], "none"> {
  const params = ["i32", "i32", "i32", "i32", "i32", "i32"] as const;
  return module.define(`integerTiles${rows}`, params, "none", (
    scope,
    rowsAt,
    panel,
    out,
    outStride,
    tileCount,
    shared,
  ) => {
    const blocks = k / QUANT_BLOCK;
    const layout = rowBlock(codes, 4);
    const loader = new CodeLoader(scope, format);
    const dot = createGroupDot(scope, format, codes);
    const sums = Array.from({ length: rows }, () => halvesIn(scope));
    // What the first of two planes has come to.
    const carried = codes.planes === 1 ? [] : sums.map(() => halvesIn(scope));
    const totals = Array.from({ length: rows }, () => halvesIn(scope));
    const weights = halvesIn(scope);
    const activations = scope.locals("v128", codes.bits / 8);
    const splat = scope.local("v128");
    const weightsAt = scope.local("i32");
    const sharedAt = scope.local("i32");
    const sharedEnd = scope.local("i32");

    const isOffset = format === "q4_0";
    const begin: Body = sums.map((pair) =>
      pair.map((sum, half) =>
        set(sum, codes.bias > 0 ? v128.load(sharedAt, 32 + 16 * half) : v128.zero)
      )
    );
    const carry: Body = carried.map((pair, row) =>
      pair.map((total, half) => {
        const sum = sums[row]![half]!;
        return [set(total, i32x4.shl(dot.total(sum), codes.shift)), set(sum, v128.zero)];
      })
    );
    const end: Body = [
      isOffset ? [set(activations[0]!, v128.load(rowsAt, layout.offsets))] : [],
      sums.map((pair, row) => [
        isOffset ? [set(splat, splatLane(activations[0]!, row))] : [],
        pair.map((sum, half) => [
          set(sum, dot.total(sum)),
          carried.length > 0 ? [set(sum, i32x4.add(sum, carried[row]![half]!))] : [],
          isOffset ? [set(sum, i32x4.add(sum, splat))] : [],
        ]),
      ]),
    ];
    const multiplyPlane = (plane: number): Body =>
      Array.from({ length: GROUPS }, (_, group) => multiplyGroup(group, plane));
    const multiplyGroup = (group: number, plane: number): Body => [
      loader.load(weights, weightsAt, group),
      activations.map((vector, i) =>
        set(
          vector,
          v128.load(rowsAt, plane * layout.planeBytes + group * layout.groupBytes + 16 * i),
        )
      ),
      dot.prepare(weights),
      sums.map((pair, row) => {
        const lane = row * codes.bits / 8;
        const vector = activations[lane >> 2] as Local<"v128">;
        return dot.add(pair, (part) => splatLane(vector, (lane & 3) + part));
      }),
    ];
    // Scales are in `weights`, those of the rows in the first vector of `activations`.
    const addProducts = (pair: Halves, row: number): Body => [
      set(splat, splatLane(activations[0]!, row)),
      totals[row]!.map((total, half) =>
        set(
          total,
          f32x4.relaxedMadd(
            f32x4.convertI32x4S(pair[half]!),
            f32x4.mul(weights[half]!, splat),
            total,
          ),
        )
      ),
    ];
    const addMinima = (_: Halves, row: number): Body => [
      set(splat, splatLane(activations[0]!, row)),
      totals[row]!.map((total, half) =>
        set(total, f32x4.relaxedMadd(weights[half]!, splat, total))
      ),
    ];
    const loadShared = (offset: number, rowOffset: number): Body => [
      weights.map((vector, half) => set(vector, v128.load(sharedAt, offset + 16 * half))),
      set(activations[0]!, v128.load(rowsAt, rowOffset)),
    ];
    return [
      loader.setup,
      dot.setup,
      setI32(sharedEnd, i32.add(shared, blocks * SHARED_BYTES)),
      doWhile(
        tileCount,
        totals.flat().map((total) => set(total, v128.zero)),
        setI32(weightsAt, panel),
        setI32(sharedAt, shared),
        doWhile(
          i32.ne(sharedAt, sharedEnd),
          begin,
          multiplyPlane(0),
          codes.planes === 1 ? [] : [carry, multiplyPlane(1)],
          end,
          loadShared(0, layout.scales),
          sums.map(addProducts),
          format === "q4_1" ? [loadShared(32, layout.sums), sums.map(addMinima)] : [],
          increment(weightsAt, blockBytes(format)),
          increment(sharedAt, SHARED_BYTES),
          increment(rowsAt, layout.bytes),
        ),
        totals.map((pair) => [
          pair.map((total, half) => v128.store(out, total, 16 * half)),
          increment(out, outStride),
        ]),
        increment(tileCount, -1),
      ),
    ];
  });
}
