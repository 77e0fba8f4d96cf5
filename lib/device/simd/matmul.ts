/** The matmul of the kernel table: which kernel for how many rows, and how rows are cut into tiles. */

import { panelBytes, type WeightFormat } from "../block_formats.ts";
import type { KernelLimits, MatmulArgs } from "../kernel_table.ts";
import { expandedBytes } from "./expand.ts";
import { compileGemm, type Gemm } from "./gemm.ts";
import { compileGemv, type Gemv } from "./gemv.ts";
import { KernelCache } from "./kernel_cache.ts";
import { compilePack, type Pack, packedTileBytes, TILE_ROWS_MAX } from "./pack.ts";
import { invariant } from "../../base/invariant.ts";

/** Packed activations should stay in a second-level cache of one mebibyte next to the weights. */
const PACKED_BYTES_WANTED = 480 * 1024;
/** Yet a panel should serve that many rows once it is expanded. */
const PACKED_ROWS_MIN = 32;

/** A tile of three rows takes the room of four, and no plan has more than two of them. */
const TILE_ROWS_PADDING = 2;

/** Panels of that size stay in the cache while one row after another is multiplied with them. */
const CACHED_PANEL_BYTES = 256 * 1024;

/** So few rows are multiplied one after another: a tile of two has too few sums side by side. */
const GEMV_ROWS_MAX = 2;

/** Bytes of scratch that {@linkcode Matmul} needs. */
export function matmulScratchBytes(limits: KernelLimits): number {
  const rowBytes = 4 * limits.kMax;
  return expandedBytes(limits.kMax) +
    Math.max(PACKED_BYTES_WANTED, (PACKED_ROWS_MIN + TILE_ROWS_PADDING) * rowBytes);
}

/** `large` tiles of smallRows + 1 rows, then `small` tiles of smallRows. */
export interface TilePlan {
  readonly smallRows: number;
  readonly large: number;
  readonly small: number;
}

/** As few tiles as possible, and all nearly alike: from three rows on, none has less than three. */
export function planTiles(rowCount: number): TilePlan {
  const tiles = Math.ceil(rowCount / TILE_ROWS_MAX);
  const smallRows = Math.floor(rowCount / tiles);
  const large = rowCount - smallRows * tiles;
  return { smallRows, large, small: tiles - large };
}

/** Multiplies with kernels that are compiled when a format and k are first seen. */
export class Matmul {
  readonly #scratch: { readonly address: number; readonly sizeBytes: number };
  readonly #gemv: KernelCache<[WeightFormat, number], Gemv>;
  readonly #gemm: KernelCache<[WeightFormat, number, number], Gemm>;
  readonly #pack: KernelCache<[number, number], Pack>;

  constructor(
    memory: WebAssembly.Memory,
    scratch: { readonly address: number; readonly sizeBytes: number },
  ) {
    this.#scratch = scratch;
    this.#gemv = new KernelCache((format, k) => compileGemv(memory, format, k));
    this.#gemm = new KernelCache((format, k, smallRows) => {
      const largeRows = Math.min(smallRows + 1, TILE_ROWS_MAX);
      return compileGemm(memory, format, k, { smallRows, largeRows });
    });
    this.#pack = new KernelCache((rows, k) => compilePack(memory, rows, k));
  }

  run(args: MatmulArgs): void {
    const { rowCount, weight, panelStart, panelEnd } = args;
    const panelCount = panelEnd - panelStart;
    if (rowCount <= 0 || panelCount <= 0) return;
    const panel = weight.address + panelStart * panelBytes(weight.format, weight.k);
    const out = args.out + panelStart * 32;
    if (rowCount === 1) {
      this.#gemv.get(weight.format, weight.k)(panel, args.x, out, panelCount);
      return;
    }
    if (rowCount <= GEMV_ROWS_MAX) {
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
    const { smallRows, large, small } = planTiles(block.rowEnd - block.rowStart);
    const gemm = this.#gemm.get(format, k, smallRows);
    const expanded = this.#scratch.address;
    const packed = expanded + expandedBytes(k);
    const xStride = 4 * args.xStride;
    const x = args.x + block.rowStart * xStride;
    const smallX = x + large * (smallRows + 1) * xStride;
    const smallPacked = packed + large * packedTileBytes(smallRows + 1, k);
    if (large > 0) this.#pack.get(smallRows + 1, k)(x, xStride, packed, large);
    this.#pack.get(smallRows, k)(smallX, xStride, smallPacked, small);
    const outStride = 4 * args.outStride;
    const out = block.out + block.rowStart * outStride;
    gemm(packed, block.panel, out, outStride, block.panelCount, large, small, expanded);
  }

  #blockRowsMax(k: number): number {
    const rowBytes = 4 * k;
    const room = Math.floor((this.#scratch.sizeBytes - expandedBytes(k)) / rowBytes);
    const wanted = Math.max(Math.floor(PACKED_BYTES_WANTED / rowBytes), PACKED_ROWS_MIN);
    const rows = Math.min(room - TILE_ROWS_PADDING, wanted);
    if (rows < TILE_ROWS_MAX) {
      const { sizeBytes } = this.#scratch;
      invariant(false, `A scratch of ${sizeBytes} bytes is too small for a matmul of k ${k}`);
    }
    return rows;
  }
}
