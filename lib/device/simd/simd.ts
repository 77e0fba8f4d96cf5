/** The fast kernel table: WebAssembly SIMD, compiled for the shapes that turn up. */

import type { WeightFormat } from "../block_formats.ts";
import type {
  AddArgs,
  AddBiasArgs,
  AttentionArgs,
  ClampedSwigluArgs,
  EmbedArgs,
  GeluArgs,
  GeluTanhMultiplyArgs,
  KernelLimits,
  KernelTable,
  KvDtype,
  LayerNormArgs,
  MatmulArgs,
  RmsNormArgs,
  RopeArgs,
  ScaleArgs,
  SiluMultiplyArgs,
  SoftcapArgs,
  SumExpertsArgs,
  SummarizeRowsArgs,
  TakeRowsArgs,
  WriteKvArgs,
} from "../kernel_table.ts";
import { type AttentionKernel, compileAttention } from "./attention.ts";
import { compileElementwise, type Elementwise, type ElementwiseKernels } from "./elementwise.ts";
import { compileClampedSwiglu, compileSumExperts, type SumExperts } from "./experts.ts";
import {
  compileEmbed,
  compileTakeRows,
  type Embed,
  embedScratchBytes,
  type TakeRows,
} from "./gather.ts";
import { compileGelu, type Gelu } from "./gelu.ts";
import { CompileCount, KernelCache } from "./kernel_cache.ts";
import { compileWriteKv, type WriteKv } from "./kv.ts";
import { compileLayerNorm, type LayerNorm } from "./layer_norm.ts";
import { Matmul, type MatmulOptions, matmulScratchBytes } from "./matmul.ts";
import { compileRmsNorm, type RmsNorm } from "./norms.ts";
import { compileRope, type Rope } from "./rope.ts";
import {
  compileRowAttention,
  type RowAttentionKernel,
  rowAttentionScratchBytes,
} from "./row_attention.ts";
import { compileScalarOperations, type ScalarKernels } from "./scalar.ts";
import { compileSummarizeRows, type SummarizeRows } from "./summarize_rows.ts";
import { route, type RouteArgs, routingParts } from "../routing.ts";
import { invariant } from "../../base/invariant.ts";
import { CHUNK_COLUMNS } from "../../base/row_summary.ts";

/** Memory of a table's own, where its kernels keep what they work on; aligned to 16. */
export interface SimdScratch {
  readonly address: number;
  readonly sizeBytes: number;
}

/** Bytes of scratch that suffice for shapes up to these limits. */
export function simdScratchBytes(limits: KernelLimits): number {
  return Math.max(
    matmulScratchBytes(limits),
    embedScratchBytes(limits.kMax),
    rowAttentionScratchBytes(limits.headDimMax),
  );
}

/**
 * Kernels over one memory. A thread makes its own table and gives it its own scratch.
 *
 * Arguments are trusted; what does not fit the scratch is refused when a kernel is compiled.
 */
export function createSimdKernels(
  memory: WebAssembly.Memory,
  scratch: SimdScratch,
  options: MatmulOptions = {},
): KernelTable {
  return new SimdKernels(memory, scratch, options);
}

class SimdKernels implements KernelTable {
  readonly backend = "simd";
  readonly #compiled = new CompileCount();
  readonly #memory: WebAssembly.Memory;
  readonly #scratch: SimdScratch;
  readonly #matmul: Matmul;
  readonly #elementwise: ElementwiseKernels;
  readonly #takeRows: TakeRows;
  readonly #summarizeRows: SummarizeRows;
  readonly #embed: KernelCache<[WeightFormat, number], Embed>;
  readonly #rmsNorm: KernelCache<[number], RmsNorm>;
  readonly #layerNorm: KernelCache<[number], LayerNorm>;
  /** Only encoders need it, so it is compiled when it is first called. */
  readonly #gelu: KernelCache<[], Gelu>;
  /** Few models need them. */
  readonly #scalar: KernelCache<[], ScalarKernels>;
  readonly #clampedSwiglu: KernelCache<[limit: number], Elementwise>;
  readonly #sumExperts: KernelCache<[], SumExperts>;
  readonly #rope: KernelCache<[number], Rope>;
  readonly #writeKv: KernelCache<[KvDtype, number], WriteKv>;
  readonly #attention: KernelCache<
    [dtype: KvDtype, headDim: number, group: number, isCapped: 0 | 1, hasSinks: 0 | 1],
    AttentionKernel
  >;
  readonly #rowAttention: KernelCache<[KvDtype, number, number], RowAttentionKernel>;

  constructor(memory: WebAssembly.Memory, scratch: SimdScratch, options: MatmulOptions) {
    this.#memory = memory;
    this.#scratch = scratch;
    this.#matmul = new Matmul(memory, scratch, this.#compiled, options);
    this.#elementwise = compileElementwise(memory);
    this.#takeRows = compileTakeRows(memory);
    this.#summarizeRows = compileSummarizeRows(memory);
    this.#rmsNorm = new KernelCache(this.#compiled, (width) => compileRmsNorm(memory, width));
    this.#layerNorm = new KernelCache(this.#compiled, (width) => compileLayerNorm(memory, width));
    this.#gelu = new KernelCache(this.#compiled, () => compileGelu(memory));
    this.#scalar = new KernelCache(this.#compiled, () => compileScalarOperations(memory));
    this.#clampedSwiglu = new KernelCache(
      this.#compiled,
      (limit) => compileClampedSwiglu(memory, limit),
    );
    this.#sumExperts = new KernelCache(this.#compiled, () => compileSumExperts(memory));
    this.#rope = new KernelCache(this.#compiled, (rotaryDim) => compileRope(memory, rotaryDim));
    this.#writeKv = new KernelCache(
      this.#compiled,
      (dtype, headDim) => compileWriteKv(memory, dtype, headDim),
    );
    this.#embed = new KernelCache(this.#compiled, (format, k) => {
      this.#requireScratch(embedScratchBytes(k), `an embedding of ${k} floats`);
      return compileEmbed(memory, format, k);
    });
    this.#attention = new KernelCache(
      this.#compiled,
      (dtype, headDim, group, isCapped, hasSinks) => {
        this.#requireScratch(rowAttentionScratchBytes(headDim), `heads of ${headDim} floats`);
        const rules = { isCapped: isCapped === 1, hasSinks: hasSinks === 1 };
        return compileAttention(memory, { dtype, headDim, group, ...rules });
      },
    );
    this.#rowAttention = new KernelCache(this.#compiled, (dtype, headDim, group) => {
      this.#requireScratch(rowAttentionScratchBytes(headDim), `heads of ${headDim} floats`);
      const rules = { isCapped: false, hasSinks: false };
      return compileRowAttention(memory, { dtype, headDim, group, ...rules });
    });
  }

  get compiledCount(): number {
    return this.#compiled.value;
  }

  embed({ weight, ids, out, outStride, rowStart, rowEnd }: EmbedArgs): void {
    if (rowStart >= rowEnd) return;
    this.#embed.get(weight.format, weight.k)(
      weight.address,
      ids + 4 * rowStart,
      out + 4 * rowStart * outStride,
      4 * outStride,
      rowEnd - rowStart,
      this.#scratch.address,
    );
  }

  takeRows(args: TakeRowsArgs): void {
    const { x, xStride, indices, width, out, outStride, rowStart, rowEnd } = args;
    if (rowStart >= rowEnd) return;
    this.#takeRows(
      x,
      4 * xStride,
      indices + 4 * rowStart,
      4 * width,
      out + 4 * rowStart * outStride,
      4 * outStride,
      rowEnd - rowStart,
    );
  }

  rmsNorm(args: RmsNormArgs): void {
    const { x, xStride, weight, epsilon, width, groups, out, outStride, rowStart, rowEnd } = args;
    if (rowStart >= rowEnd || groups <= 0) return;
    this.#rmsNorm.get(width)(
      x + 4 * rowStart * xStride,
      4 * xStride,
      weight,
      epsilon,
      groups,
      out + 4 * rowStart * outStride,
      4 * outStride,
      rowEnd - rowStart,
    );
  }

  layerNorm(args: LayerNormArgs): void {
    const { x, xStride, weight, bias, epsilon, width, rowStart, rowEnd } = args;
    if (rowStart >= rowEnd) return;
    this.#layerNorm.get(width)(
      x + 4 * rowStart * xStride,
      4 * xStride,
      weight,
      bias,
      epsilon,
      rowEnd - rowStart,
    );
  }

  matmul(args: MatmulArgs): void {
    this.#matmul.run(args);
  }

  addBias({ x, xStride, bias, rowCount, columnStart, columnEnd }: AddBiasArgs): void {
    if (rowCount <= 0 || columnStart >= columnEnd) return;
    this.#elementwise.add(
      x + 4 * columnStart,
      4 * xStride,
      bias + 4 * columnStart,
      0,
      rowCount,
      columnEnd - columnStart,
    );
  }

  add({ x, xStride, y, yStride, rowCount, columnStart, columnEnd }: AddArgs): void {
    if (rowCount <= 0 || columnStart >= columnEnd) return;
    this.#elementwise.add(
      x + 4 * columnStart,
      4 * xStride,
      y + 4 * columnStart,
      4 * yStride,
      rowCount,
      columnEnd - columnStart,
    );
  }

  siluMultiply(args: SiluMultiplyArgs): void {
    multiplyGated(this.#elementwise.siluMultiply, args);
  }

  geluTanhMultiply(args: GeluTanhMultiplyArgs): void {
    multiplyGated(this.#elementwise.geluTanhMultiply, args);
  }

  route(args: RouteArgs): void {
    route(this.#memory.buffer, args);
  }

  clampedSwiglu(args: ClampedSwigluArgs): void {
    multiplyGated(this.#clampedSwiglu.get(args.limit), args);
  }

  sumExperts(args: SumExpertsArgs): void {
    const { y, yStride, routing, rowCount, choiceCount, out, outStride } = args;
    const { columnStart, columnEnd } = args;
    if (rowCount <= 0 || columnStart >= columnEnd) return;
    const parts = routingParts(args, rowCount);
    this.#sumExperts.get()(
      y + 4 * columnStart,
      4 * yStride,
      routing + 4 * parts.weights,
      routing + 4 * parts.rows,
      choiceCount,
      out + 4 * columnStart,
      4 * outStride,
      rowCount,
      columnEnd - columnStart,
    );
  }

  scale({ x, xStride, rowCount, columnStart, columnEnd, factor }: ScaleArgs): void {
    if (rowCount <= 0 || columnStart >= columnEnd) return;
    const at = x + 4 * columnStart;
    this.#scalar.get().scale(at, 4 * xStride, rowCount, columnEnd - columnStart, factor);
  }

  softcap({ x, xStride, rowCount, columnStart, columnEnd, cap }: SoftcapArgs): void {
    if (rowCount <= 0 || columnStart >= columnEnd) return;
    const at = x + 4 * columnStart;
    this.#scalar.get().softcap(at, 4 * xStride, rowCount, columnEnd - columnStart, cap);
  }

  gelu({ x, xStride, rowCount, columnStart, columnEnd }: GeluArgs): void {
    if (rowCount <= 0 || columnStart >= columnEnd) return;
    this.#gelu.get()(x + 4 * columnStart, 4 * xStride, rowCount, columnEnd - columnStart);
  }

  rope(args: RopeArgs): void {
    const { x, xStride, heads, headDim, rotaryDim, positions, table, rowStart, rowEnd } = args;
    if (rowStart >= rowEnd || heads <= 0) return;
    this.#rope.get(rotaryDim)(
      x + 4 * rowStart * xStride,
      4 * xStride,
      heads,
      4 * headDim,
      positions + 4 * rowStart,
      table,
      rowEnd - rowStart,
    );
  }

  writeKv({ k, kStride, v, vStride, slots, cache, rowStart, rowEnd }: WriteKvArgs): void {
    if (rowStart >= rowEnd) return;
    this.#writeKv.get(cache.dtype, cache.headDim)(
      k + 4 * rowStart * kStride,
      4 * kStride,
      v + 4 * rowStart * vStride,
      4 * vStride,
      slots + 4 * rowStart,
      cache.keys,
      cache.values,
      cache.kvHeads,
      rowEnd - rowStart,
    );
  }

  attention(args: AttentionArgs): void {
    if (args.unitStart >= args.unitEnd) return;
    const { dtype, kvHeads, headDim, keys, values } = args.cache;
    const { rowBlocks, softcap = 0, sinks = null } = args;
    const group = args.heads / kvHeads;
    const kernel = rowBlocks === undefined
      ? this.#attention.get(dtype, headDim, group, softcap === 0 ? 0 : 1, sinks === null ? 0 : 1)
      : this.#rowAttention.get(dtype, headDim, group);
    kernel(
      args.q,
      4 * args.qStride,
      args.out,
      4 * args.outStride,
      keys,
      values,
      kvHeads,
      args.positions,
      args.sequences,
      args.blockTables,
      4 * args.blockTableStride,
      rowBlocks === undefined ? args.window : rowBlocks.rowCount,
      args.unitStart,
      args.unitEnd,
      args.unitStep,
      args.scale,
      this.#scratch.address,
      softcap,
      sinks ?? 0,
    );
  }

  summarizeRows(args: SummarizeRowsArgs): void {
    if (args.rowCount <= 0) return;
    const columnStart = args.chunkStart * CHUNK_COLUMNS;
    this.#summarizeRows(
      args.x,
      4 * args.xStride,
      args.rowCount,
      columnStart,
      Math.max(columnStart, Math.min(args.width, args.chunkEnd * CHUNK_COLUMNS)),
      args.needs,
      args.out,
      4 * args.outStride,
    );
  }

  #requireScratch(bytes: number, what: string): void {
    invariant(
      bytes <= this.#scratch.sizeBytes,
      `A scratch of ${this.#scratch.sizeBytes} bytes is too small for ${what}`,
    );
  }
}

/** gate = f(gate, up) on columns of both. */
function multiplyGated(kernel: Elementwise, args: SiluMultiplyArgs): void {
  const { gate, gateStride, up, upStride, rowCount, columnStart, columnEnd } = args;
  if (rowCount <= 0 || columnStart >= columnEnd) return;
  kernel(
    gate + 4 * columnStart,
    4 * gateStride,
    up + 4 * columnStart,
    4 * upStride,
    rowCount,
    columnEnd - columnStart,
  );
}
