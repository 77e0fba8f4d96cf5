/** The matmul with integer activations: rows are quantised into scratch, then multiplied. */

import { isQuantized, PANEL_COLUMNS, panelBytes, type QuantizedFormat } from "../block_formats.ts";
import type { ActivationType } from "../activations.ts";
import type { KernelLimits, MatmulArgs } from "../kernel_table.ts";
import type { Gemm } from "./gemm.ts";
import {
  compileIntegerGemm,
  INTEGER_TILE_ROWS_MAX,
  integerGemmScratchBytes,
} from "./integer_gemm.ts";
import { compileIntegerGemv, type IntegerGemv } from "./integer_gemv.ts";
import {
  type CodeSize,
  compileQuantizeRows,
  integerCodes,
  type IntegerDot,
  integerRowBytes,
  type QuantizeRows,
} from "./integer_rows.ts";
import { type Candidate, chooseFastest } from "./kernel_choice.ts";
import { type CompileCount, KernelCache } from "./kernel_cache.ts";
import { checkByteDot } from "./self_check.ts";
import { planTiles } from "./tile_plan.ts";
import { invariant } from "../../base/invariant.ts";

/** Quantised rows should stay in a second-level cache of one mebibyte next to the weights. */
const ROW_BYTES_WANTED = 480 * 1024;
/** Yet a panel should serve that many rows. */
const ROWS_MIN = 32;

/** What ways to multiply are timed on. */
const RACE = { format: "q4_0", activations: "i16", k: 256, panels: 8 } as const;

/** A matmul that this file can do. */
export type IntegerMatmulArgs = MatmulArgs & {
  readonly weight: { readonly format: QuantizedFormat };
  readonly activations: IntegerActivations;
};

/** Whether a matmul is one for this file. */
export function isIntegerMatmul(args: MatmulArgs): args is IntegerMatmulArgs {
  const { activations = "f32", weight: { format } } = args;
  if (activations === "f32") return false;
  if (!isQuantized(format)) invariant(false, `Integer activations meet a weight of ${format}`);
  return true;
}

type IntegerActivations = Exclude<ActivationType, "f32">;
type Key = [QuantizedFormat, IntegerActivations, number];

/** What a single row takes. */
interface RowKernels {
  readonly quantize: QuantizeRows;
  readonly gemv: IntegerGemv;
  readonly rowBytes: number;
}

/** Bytes of scratch that {@linkcode IntegerMatmul} needs. */
export function integerMatmulScratchBytes({ kMax }: KernelLimits): number {
  const k = Math.ceil(kMax / 32) * 32;
  const tilesMin = ROWS_MIN / INTEGER_TILE_ROWS_MAX;
  return integerGemmScratchBytes(k) +
    Math.max(ROW_BYTES_WANTED, tilesMin * integerRowBytes({ bits: 16, planes: 1 }, 4, k));
}

/** Multiplies with kernels that are compiled when a format, activations and k are first seen. */
export class IntegerMatmul {
  readonly #memory: WebAssembly.Memory;
  readonly #now: (() => number) | undefined;
  readonly #scratch: { readonly address: number; readonly sizeBytes: number };
  readonly #row: KernelCache<Key, RowKernels>;
  readonly #gemm: KernelCache<[...Key, smallRows: number], Gemm>;
  readonly #quantize: KernelCache<[...Key, rows: number], QuantizeRows>;
  #dot: IntegerDot | undefined;

  /** `integerDot`: by default what is right on this processor, and fastest by the clock `now`. */
  constructor(
    memory: WebAssembly.Memory,
    scratch: { readonly address: number; readonly sizeBytes: number },
    compiled: CompileCount,
    options: { readonly integerDot?: IntegerDot; readonly now?: () => number } = {},
  ) {
    this.#scratch = scratch;
    this.#memory = memory;
    this.#now = options.now;
    this.#dot = options.integerDot;
    this.#row = new KernelCache(compiled, (format, activations, k) => {
      const codes = this.#codes(format, activations);
      return {
        quantize: compileQuantizeRows(memory, codes, k, 1),
        gemv: compileIntegerGemv(memory, { format, codes, k }),
        rowBytes: integerRowBytes(codes, 1, k),
      };
    });
    this.#gemm = new KernelCache(compiled, (format, activations, k, smallRows) => {
      const shape = { format, codes: this.#codes(format, activations), k };
      const largeRows = Math.min(smallRows + 1, INTEGER_TILE_ROWS_MAX);
      return compileIntegerGemm(memory, shape, { smallRows, largeRows });
    });
    this.#quantize = new KernelCache(
      compiled,
      (format, activations, k, rows) =>
        compileQuantizeRows(memory, this.#codes(format, activations), k, rows),
    );
  }

  run(args: IntegerMatmulArgs): void {
    const { rowCount, weight: { format, k }, activations } = args;
    if (rowCount === 1) return this.#multiplyRow(args);
    const codes = this.#codes(format, activations);
    const rowsMax = this.#blockRowsMax(codes, k);
    const blockCount = Math.ceil(rowCount / rowsMax);
    for (let block = 0; block < blockCount; block++) {
      const rowStart = Math.floor(rowCount * block / blockCount);
      const rowEnd = Math.floor(rowCount * (block + 1) / blockCount);
      this.#multiplyBlock(args, codes, rowStart, rowEnd);
    }
  }

  #multiplyRow({ x, weight, activations, panelStart, panelEnd, out }: IntegerMatmulArgs): void {
    const { format, k } = weight;
    const row = this.#scratch.address;
    const { quantize, gemv, rowBytes } = this.#row.get(format, activations, k);
    this.#requireScratch(rowBytes, k);
    quantize(x, 0, row, 1);
    const panel = weight.address + panelStart * panelBytes(format, k);
    gemv(panel, row, out + 32 * panelStart, panelEnd - panelStart);
  }

  #multiplyBlock(
    args: IntegerMatmulArgs,
    codes: CodeSize,
    rowStart: number,
    rowEnd: number,
  ): void {
    const { activations, panelStart, panelEnd } = args;
    const { format, k, address } = args.weight;
    const { smallRows, large, small } = planTiles(rowEnd - rowStart, INTEGER_TILE_ROWS_MAX);
    const shared = this.#scratch.address;
    const rows = shared + integerGemmScratchBytes(k);
    const xStride = 4 * args.xStride;
    const outStride = 4 * args.outStride;
    const x = args.x + rowStart * xStride;
    const quantize = (tileRows: number): QuantizeRows =>
      this.#quantize.get(format, activations, k, tileRows);
    if (large > 0) quantize(smallRows + 1)(x, xStride, rows, large);
    const smallX = x + large * (smallRows + 1) * xStride;
    const smallTiles = rows + large * integerRowBytes(codes, 4, k);
    quantize(smallRows)(smallX, xStride, smallTiles, small);
    const panel = address + panelStart * panelBytes(format, k);
    const out = args.out + 32 * panelStart + rowStart * outStride;
    const gemm = this.#gemm.get(format, activations, k, smallRows);
    gemm(rows, panel, out, outStride, panelEnd - panelStart, large, small, shared);
  }

  #codes(format: QuantizedFormat, activations: IntegerActivations) {
    this.#dot ??= checkByteDot() ? this.#fasterDot() : "words";
    return integerCodes(format, activations, this.#dot);
  }

  /** What decides is whether the processor has an instruction for "quads", whatever the shape. */
  #fasterDot(): IntegerDot {
    return chooseFastest([this.#racer("pairs"), this.#racer("quads")], this.#now);
  }

  #racer<Name extends IntegerDot>(name: Name): Candidate<Name> {
    const { format, activations, k, panels } = RACE;
    const codes = integerCodes(format, activations, name);
    const gemv = compileIntegerGemv(this.#memory, { format, codes, k });
    const panel = this.#scratch.address;
    const row = panel + panels * panelBytes(format, k);
    const out = row + integerRowBytes(codes, 1, k);
    const sizeBytes = out + 4 * PANEL_COLUMNS * panels - panel;
    this.#requireScratch(sizeBytes, k);
    // Left-over bytes may be subnormal numbers, which the processor multiplies slowly.
    new Float32Array(this.#memory.buffer, panel, sizeBytes >> 2).fill(1);
    return { name, run: () => gemv(panel, row, out, panels) };
  }

  /** Rows that are quantised at once; they fill tiles of four, or nearly. */
  #blockRowsMax(codes: CodeSize, k: number): number {
    const tileBytes = integerRowBytes(codes, INTEGER_TILE_ROWS_MAX, k);
    const room = Math.floor((this.#scratch.sizeBytes - integerGemmScratchBytes(k)) / tileBytes);
    const tilesMin = ROWS_MIN / INTEGER_TILE_ROWS_MAX;
    const wanted = Math.max(Math.floor(ROW_BYTES_WANTED / tileBytes), tilesMin);
    const tiles = Math.min(room, wanted);
    this.#requireScratch(integerGemmScratchBytes(k) + tileBytes, k);
    return tiles * INTEGER_TILE_ROWS_MAX;
  }

  #requireScratch(bytes: number, k: number): void {
    const { sizeBytes } = this.#scratch;
    if (bytes > sizeBytes) {
      invariant(false, `A scratch of ${sizeBytes} bytes is too small for a matmul of k ${k}`);
    }
  }
}
