/** The matmul of the kernel table: which kernel for how many rows, and how rows are cut into tiles. */

import { isBlocked, panelBytes, type WeightFormat } from "../block_formats.ts";
import type { KernelLimits, MatmulArgs } from "../kernel_table.ts";
import { activationFactor, compileGemm, type Gemm, GEMM_ROWS_MAX, gemmRoomBytes } from "./gemm.ts";
import { compileGemmWide, WIDE_TILE_ROWS_MAX, wideExpandedBytes } from "./gemm_wide.ts";
import { compileGemv, type Gemv } from "./gemv.ts";
import { IntegerMatmul, integerMatmulScratchBytes, isIntegerMatmul } from "./integer_matmul.ts";
import type { IntegerDot } from "./integer_rows.ts";
import { type Candidate, chooseFastest, type GemmName } from "./kernel_choice.ts";
import { type CompileCount, KernelCache } from "./kernel_cache.ts";
import { compilePack, type Pack, packedTileBytes, TILE_ROWS_MAX } from "./pack.ts";
import { planTiles } from "./tile_plan.ts";
import { invariant } from "../../base/invariant.ts";

/** Packed activations should stay in a second-level cache of one mebibyte next to the weights. */
const PACKED_BYTES_WANTED = 480 * 1024;
/** Yet a panel should serve that many rows once it is expanded. */
const PACKED_ROWS_MIN = 32;

/** A tile of three rows takes the room of four, and no plan has more than two of them. */
const TILE_ROWS_PADDING = 2;

/** Panels of that size stay in the cache while one row after another is multiplied with them. */
const CACHED_PANEL_BYTES = 256 * 1024;

/**
 * So few rows are multiplied one after another: their tile has too few sums side by side. Blocks
 * are expanded anew for each row, which soon costs more.
 */
const GEMV_ROWS_MAX = 3;
const GEMV_BLOCK_ROWS_MAX = 2;

/** From so many rows on the wide tiles, if they are the faster ones here, have at least four rows. */
const WIDE_ROWS_MIN = 16;

/** The shape that both kinds of tiles are timed on: whole tiles of either, all in scratch. */
const RACE = { rows: 30, k: 256, panels: 2 } as const;

/** Which of several kernels with the same bits are used: fixed by name, or found out here. */
export interface MatmulOptions {
  /** For many rows. Default: the faster one. */
  readonly gemm?: GemmName;
  /** For integer activations. Default: words if the processor gets bytes wrong, else the faster one. */
  readonly integerDot?: IntegerDot;
  /** The clock that they are timed by. */
  readonly now?: () => number;
}

/** Before the packed activations: what either kind of tiles needs besides. */
function expandedRoomBytes(k: number): number {
  return Math.max(wideExpandedBytes(k), gemmRoomBytes(k));
}

/** Bytes of scratch that {@linkcode Matmul} needs. */
export function matmulScratchBytes(limits: KernelLimits): number {
  const rowBytes = 4 * limits.kMax;
  return Math.max(
    expandedRoomBytes(limits.kMax) +
      Math.max(PACKED_BYTES_WANTED, (PACKED_ROWS_MIN + TILE_ROWS_PADDING) * rowBytes),
    integerMatmulScratchBytes(limits),
  );
}

/** Multiplies with kernels that are compiled when a format and k are first seen. */
export class Matmul {
  readonly #scratch: { readonly address: number; readonly sizeBytes: number };
  readonly #gemv: KernelCache<[WeightFormat, number], Gemv>;
  readonly #gemm: KernelCache<[WeightFormat, number, number], Gemm>;
  readonly #gemmWide: KernelCache<[WeightFormat, number, number], Gemm>;
  readonly #pack: KernelCache<[number, number, number], Pack>;
  readonly #integers: IntegerMatmul;
  readonly #memory: WebAssembly.Memory;
  readonly #now: (() => number) | undefined;
  #chosen: GemmName | undefined;

  constructor(
    memory: WebAssembly.Memory,
    scratch: { readonly address: number; readonly sizeBytes: number },
    compiled: CompileCount,
    options: MatmulOptions = {},
  ) {
    this.#memory = memory;
    this.#now = options.now;
    this.#chosen = options.gemm;
    this.#scratch = scratch;
    this.#integers = new IntegerMatmul(memory, scratch, compiled, options);
    this.#gemv = new KernelCache(compiled, (format, k) => compileGemv(memory, format, k));
    this.#gemm = new KernelCache(compiled, (format, k, smallRows) => {
      const largeRows = Math.min(smallRows + 1, TILE_ROWS_MAX);
      return compileGemm(memory, format, k, { smallRows, largeRows });
    });
    this.#gemmWide = new KernelCache(compiled, (format, k, smallRows) => {
      const largeRows = Math.min(smallRows + 1, WIDE_TILE_ROWS_MAX);
      return compileGemmWide(memory, format, k, { smallRows, largeRows });
    });
    this.#pack = new KernelCache(
      compiled,
      (rows, k, factor) => compilePack(memory, rows, k, factor),
    );
  }

  run(args: MatmulArgs): void {
    const { rowCount, weight, panelStart, panelEnd } = args;
    const panelCount = panelEnd - panelStart;
    if (rowCount <= 0 || panelCount <= 0) return;
    if (isIntegerMatmul(args)) {
      this.#integers.run(args);
      return;
    }
    const panel = weight.address + panelStart * panelBytes(weight.format, weight.k);
    const out = args.out + panelStart * 32;
    if (rowCount === 1) {
      this.#gemv.get(weight.format, weight.k)(panel, args.x, out, panelCount);
      return;
    }
    if (rowCount <= (isBlocked(weight.format) ? GEMV_BLOCK_ROWS_MAX : GEMV_ROWS_MAX)) {
      this.#multiplyRows(args, { panel, panelCount, out });
      return;
    }
    const blockCount = Math.ceil(rowCount / this.#blockRowsMax(weight.k));
    for (let block = 0; block < blockCount; block++) {
      const rowStart = Math.floor(rowCount * block / blockCount);
      const rowEnd = Math.floor(rowCount * (block + 1) / blockCount);
      this.#multiplyBlock(args, { panel, panelCount, out, rowStart, rowEnd });
    }
  }

  /** Row by row, a cacheful of panels at a time. */
  #multiplyRows(
    args: MatmulArgs,
    panels: { readonly panel: number; readonly panelCount: number; readonly out: number },
  ): void {
    const { format, k } = args.weight;
    const gemv = this.#gemv.get(format, k);
    const size = panelBytes(format, k);
    const countMax = Math.max(1, Math.floor(CACHED_PANEL_BYTES / size));
    for (let start = 0; start < panels.panelCount; start += countMax) {
      const count = Math.min(countMax, panels.panelCount - start);
      for (let row = 0; row < args.rowCount; row++) {
        gemv(
          panels.panel + start * size,
          args.x + 4 * row * args.xStride,
          panels.out + 32 * start + 4 * row * args.outStride,
          count,
        );
      }
    }
  }

  #multiplyBlock(
    args: MatmulArgs,
    block: {
      readonly panel: number;
      readonly panelCount: number;
      readonly out: number;
      readonly rowStart: number;
      readonly rowEnd: number;
    },
  ): void {
    const { format, k } = args.weight;
    const rowCount = block.rowEnd - block.rowStart;
    const wide = rowCount >= WIDE_ROWS_MIN && this.#gemmForManyRows() === "wide";
    const rowsMax = wide ? WIDE_TILE_ROWS_MAX : TILE_ROWS_MAX;
    const { smallRows, large, small } = planTiles(rowCount, rowsMax);
    const gemm = wide
      ? this.#gemmWide.get(format, k, smallRows)
      : this.#gemm.get(format, k, smallRows);
    const factor = wide ? 1 : activationFactor(format);
    const expanded = this.#scratch.address;
    const packed = expanded + expandedRoomBytes(k);
    const xStride = 4 * args.xStride;
    const x = args.x + block.rowStart * xStride;
    const smallX = x + large * (smallRows + 1) * xStride;
    const smallPacked = packed + large * packedTileBytes(smallRows + 1, k);
    const { panel, panelCount } = block;
    const outStride = 4 * args.outStride;
    const out = block.out + block.rowStart * outStride;
    let isWrong = this.#pack.get(smallRows, k, factor)(smallX, xStride, smallPacked, small);
    if (large > 0) isWrong |= this.#pack.get(smallRows + 1, k, factor)(x, xStride, packed, large);
    isWrong ||= gemm(packed, panel, out, outStride, panelCount, large, small, expanded);
    // There are infinities or NaN of float16, or activations that the factor makes infinite.
    if (isWrong !== 0) this.#multiplyRows({ ...args, x, rowCount }, { panel, panelCount, out });
  }

  /**
   * Timed once, when many rows first turn up. What decides is how V8 compiles either kind of tile,
   * and that is much the same for every format and k.
   */
  #gemmForManyRows(): GemmName {
    this.#chosen ??= chooseFastest([this.#racer("narrow"), this.#racer("wide")], this.#now);
    return this.#chosen;
  }

  #racer(name: GemmName): Candidate<GemmName> {
    const { rows, k, panels } = RACE;
    const wide = name === "wide";
    const tileRows = wide ? WIDE_TILE_ROWS_MAX : TILE_ROWS_MAX;
    const compile = wide ? compileGemmWide : compileGemm;
    const gemm = compile(this.#memory, "f32", k, { smallRows: tileRows, largeRows: tileRows });
    const weight = this.#scratch.address;
    const expanded = weight + panels * panelBytes("f32", k);
    const packed = expanded + expandedRoomBytes(k);
    const out = packed + 4 * k * rows;
    const outStride = panels * 32;
    const sizeBytes = out + rows * outStride - weight;
    invariant(sizeBytes <= this.#scratch.sizeBytes, `A race needs ${sizeBytes} bytes of scratch`);
    // Left-over bytes may be subnormal numbers, which the processor multiplies slowly.
    new Float32Array(this.#memory.buffer, weight, sizeBytes >> 2).fill(1);
    const run = () => gemm(packed, weight, out, outStride, panels, 0, rows / tileRows, expanded);
    return { name, run };
  }

  #blockRowsMax(k: number): number {
    const rowBytes = 4 * k;
    const room = Math.floor((this.#scratch.sizeBytes - expandedRoomBytes(k)) / rowBytes);
    const wanted = Math.max(Math.floor(PACKED_BYTES_WANTED / rowBytes), PACKED_ROWS_MIN);
    const rows = Math.min(room - TILE_ROWS_PADDING, wanted, GEMM_ROWS_MAX);
    if (rows < TILE_ROWS_MAX) {
      const { sizeBytes } = this.#scratch;
      invariant(false, `A scratch of ${sizeBytes} bytes is too small for a matmul of k ${k}`);
    }
    return rows;
  }
}
