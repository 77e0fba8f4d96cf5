/**
 * What a kernel backend offers: one function an operation, on plain addresses.
 *
 * There are two backends, the plain one (`kernels/`, through `pe/reference.ts`) and the fast one
 * (`simd/simd.ts`). Both follow the same reduction orders, and the contract suite runs both.
 *
 * Addresses are byte offsets into HBM, aligned to 16 bytes; strides are in elements of the type
 * that is addressed. Activations are float32, row-major, one row a token. A kernel works on the
 * rows, columns or units that its caller names and leaves everything else alone: splitting work
 * over processing elements is the caller's business and never changes a bit of the result.
 *
 * **Order of reduction.** Every output element is computed in one fixed order, whatever the batch,
 * the split or the kernel variant:
 * - matmul: four partial sums over k ≡ 0, 1, 2, 3 (mod 4), each in ascending k by fused
 *   multiply-add from +0, then ((s0 + s1) + s2) + s3. The weight is first expanded to float32
 *   exactly as its format defines it.
 * - matmul with integer activations: products are summed exactly within each block of 32 k, and one
 *   chain runs over the blocks, ascending, from +0. A block with weight scale d, activation scale a
 *   (`activations.ts`) and sum s of products of codes (of q · (n − 8) for q4_0) adds to it by fused
 *   multiply-add: total = s · (d · a) + total, s and d · a rounded to float32. For q4_1
 *   total = m · (a · Σq) + total follows, a · Σq rounded.
 * - attention: keys in tiles of {@linkcode KV_BLOCK_SIZE} cut by position; within a tile each score
 *   is one chain over d; tiles are folded in ascending order by the online softmax.
 * - norms: an order fixed by the width alone. The layer norm's two sums run in eight partial sums
 *   over i ≡ 0, 1, … 7 (mod 8), ascending from +0 without fused steps; with tⱼ = sⱼ + sⱼ₊₄ the sum
 *   is (t0 + t2) + (t1 + t3).
 * - sums of exponentials: by chunks of columns, as `base/row_summary.ts` defines them.
 */

import { CHUNK_COLUMNS, SUMMARY_TOP_COUNT } from "../base/row_summary.ts";
import type { ActivationType } from "./activations.ts";
import type { WeightFormat } from "./block_formats.ts";
import type { RouteArgs, RoutingShape } from "./routing.ts";

/** Tokens a KV block holds, and keys an attention tile holds. */
export const KV_BLOCK_SIZE = 16;

/** Rows of a unit of attention in which rows see the same keys. */
export const ATTENTION_ROWS = 4;

/** A weight matrix [n, k] in 8-column panels (`block_formats.ts`): n output columns over k inputs. */
export interface PanelWeight {
  /** Byte offset in HBM. */
  readonly address: number;
  /** How the weight is stored. */
  readonly format: WeightFormat;
  /** Outputs: rows of the checkpoint's [out, in] matrix. The last panel is padded with zeros. */
  readonly n: number;
  /** Inputs: columns of the checkpoint's matrix. A multiple of 8. */
  readonly k: number;
}

/** Which blocks a layer's keys and values are in: those that hold all tokens, or a window of them. */
export type KvPool = "global" | "window";

/** How keys and values are stored. */
export type KvDtype = "bf16" | "f32";

/**
 * One layer's part of the KV pool, in blocks of {@linkcode KV_BLOCK_SIZE} tokens.
 *
 * Keys: [block][kvHead][2][headDim][8]: two panels of 8 keys, d-major. Values:
 * [block][kvHead][16][headDim]. In bfloat16 each run of eight is stored in the order
 * 0, 4, 1, 5, 2, 6, 3, 7, as in weight panels. headDim is a multiple of 8.
 */
export interface KvCacheLayer {
  /** Address of the keys. */
  readonly keys: number;
  /** The activations, by id. */
  readonly values: number;
  /** How keys and values are stored. */
  readonly dtype: KvDtype;
  /** Heads of keys and values. */
  readonly kvHeads: number;
  /** Floats in a head. */
  readonly headDim: number;
}

/** Rows [rowStart, rowEnd). */
export interface RowRange {
  readonly rowStart: number;
  readonly rowEnd: number;
}

/** Columns [columnStart, columnEnd); both are multiples of 8, or columnEnd is the width. */
export interface ColumnRange {
  readonly columnStart: number;
  readonly columnEnd: number;
}

/** out[r] = weight row ids[r] as float32. ids: int32. */
export interface EmbedArgs extends RowRange {
  readonly weight: PanelWeight;
  readonly ids: number;
  readonly out: number;
  readonly outStride: number;
}

/** out[r] = x[indices[r]], `width` floats. indices: int32. */
export interface TakeRowsArgs extends RowRange {
  readonly x: number;
  readonly xStride: number;
  readonly indices: number;
  readonly width: number;
  readonly out: number;
  readonly outStride: number;
}

/**
 * For each row and each of its `groups` runs of `width` floats (run g starts at g · width):
 * out = x / sqrt(mean(x²) + epsilon) · weight. out may be x. weight: [width] float32.
 */
export interface RmsNormArgs extends RowRange {
  readonly x: number;
  readonly xStride: number;
  readonly weight: number;
  readonly epsilon: number;
  readonly width: number;
  readonly groups: number;
  readonly out: number;
  readonly outStride: number;
}

/**
 * x[r] = (x[r] − μ) · (1 / sqrt(v + epsilon)) · weight + bias, μ the mean of the row's `width`
 * floats and v that of (x − μ)², every step rounded to float32. The width is a multiple of 8.
 * weight, bias: [width] float32.
 */
export interface LayerNormArgs extends RowRange {
  readonly x: number;
  readonly xStride: number;
  readonly weight: number;
  readonly bias: number;
  readonly epsilon: number;
  readonly width: number;
}

/** out[r, c] = Σ x[r, k] · weight[c, k] for rows [0, rowCount) and panels [panelStart, panelEnd). */
export interface MatmulArgs {
  readonly x: number;
  readonly xStride: number;
  readonly rowCount: number;
  readonly weight: PanelWeight;
  readonly panelStart: number;
  readonly panelEnd: number;
  readonly out: number;
  /** At least n rounded up to 8: the padding columns of the last panel are written too (zeros). */
  readonly outStride: number;
  /** Integers, only where the weight is quantised, or float32. Default "f32". */
  readonly activations?: ActivationType;
}

/** x[r, c] += bias[c]. */
export interface AddBiasArgs extends ColumnRange {
  readonly x: number;
  readonly xStride: number;
  readonly bias: number;
  readonly rowCount: number;
}

/** x[r, c] += y[r, c]. */
export interface AddArgs extends ColumnRange {
  readonly x: number;
  readonly xStride: number;
  readonly y: number;
  readonly yStride: number;
  readonly rowCount: number;
}

/** gate[r, c] = silu(gate[r, c]) · up[r, c]. */
export interface SiluMultiplyArgs extends ColumnRange {
  readonly gate: number;
  readonly gateStride: number;
  readonly up: number;
  readonly upStride: number;
  readonly rowCount: number;
}

/** gate[r, c] = geluTanh(gate[r, c]) · up[r, c], geluTanh(z) = z / (1 + e^(−2u)), u = √(2/π) · (z + 0.044715 · z³). */
export type GeluTanhMultiplyArgs = SiluMultiplyArgs;

/**
 * gate[r, c] = (u + 1) · (g / (1 + e^(−1.702 · g))) with g = min(gate[r, c], limit) and u = up[r, c]
 * within ±limit: the last product is rounded after its operands. limit is a float32.
 */
export interface ClampedSwigluArgs extends SiluMultiplyArgs {
  readonly limit: number;
}

/**
 * out[r, c] = Σ weight · y[row, c] over the choices of token r by rank: the first product, then each
 * other one added, product and sum rounded one by one. `routing` is that of `rowCount` tokens.
 */
export interface SumExpertsArgs extends ColumnRange, RoutingShape {
  readonly y: number;
  readonly yStride: number;
  readonly routing: number;
  readonly rowCount: number;
  readonly out: number;
  readonly outStride: number;
}

/** x[r, c] = factor · x[r, c], factor a float32. */
export interface ScaleArgs extends ColumnRange {
  readonly x: number;
  readonly xStride: number;
  readonly rowCount: number;
  readonly factor: number;
}

/** x[r, c] = cap · tanh(x[r, c] / cap), cap a float32 above 0. */
export interface SoftcapArgs extends ColumnRange {
  readonly x: number;
  readonly xStride: number;
  readonly rowCount: number;
  readonly cap: number;
}

/** x[r, c] = gelu(x[r, c]), the exact one, as `gelu.ts` computes it in float64. */
export interface GeluArgs extends ColumnRange {
  readonly x: number;
  readonly xStride: number;
  readonly rowCount: number;
}

/**
 * Rotates pairs (i, i + rotaryDim/2) of the first rotaryDim floats of each head, in place.
 * table: [position][rotaryDim] float32, cosines then sines. positions: int32.
 */
export interface RopeArgs extends RowRange {
  readonly x: number;
  readonly xStride: number;
  readonly heads: number;
  readonly headDim: number;
  readonly rotaryDim: number;
  readonly positions: number;
  readonly table: number;
}

/** Stores k[r], v[r] (kvHeads · headDim floats) in slot slots[r] = block · 16 + offset. slots: int32. */
export interface WriteKvArgs extends RowRange {
  readonly k: number;
  readonly kStride: number;
  readonly v: number;
  readonly vStride: number;
  readonly slots: number;
  readonly cache: KvCacheLayer;
}

/**
 * Attention over paged keys and values. Unit u = row · kvHeads + kvHead computes the
 * heads / kvHeads query heads that share that KV head; units unitStart, unitStart + unitStep, …
 * below unitEnd are computed. Row r sees the keys at positions
 * max(0, p − window + 1) … p of its sequence, p = positions[r] (window 0: no window): of causal
 * attention p is the row's own position, of a row that sees all keys the last one. The key at
 * position t is in block blockTables[sequences[r] · blockTableStride + (t >> 4)].
 * positions, sequences, blockTables: int32. q and out: [row][heads · headDim].
 * out must not be q.
 *
 * A score is scale · (q · key), with a softcap c then c · tanh(score / c). `sinks` is the address of
 * [heads] float32: a score of each head that takes part in the softmax and has no value; it is
 * neither scaled nor capped. The online softmax begins with it: the maximum is the sink, the sum 1.
 *
 * With `rowBlocks`, unit u is one of {@linkcode ATTENTION_ROWS} rows instead, as far as there are
 * `rowCount`: u = block · kvHeads + kvHead. Those of them that follow each other and see the same
 * keys are computed together, to the same bits. There is no window, softcap or sink then.
 */
export interface AttentionArgs {
  readonly q: number;
  readonly qStride: number;
  readonly out: number;
  readonly outStride: number;
  readonly heads: number;
  readonly scale: number;
  readonly window: number;
  /** Default 0: none. */
  readonly softcap?: number;
  /** Default null: none. */
  readonly sinks?: number | null;
  readonly cache: KvCacheLayer;
  readonly positions: number;
  readonly sequences: number;
  readonly blockTables: number;
  readonly blockTableStride: number;
  readonly unitStart: number;
  readonly unitEnd: number;
  readonly unitStep: number;
  /** Default: units of one row. */
  readonly rowBlocks?: { readonly rowCount: number } | undefined;
}

/**
 * Where the parts of a partial summary lie, in 32-bit words from its start: how many pairs it has,
 * whether NaN was met (1 or 0), the logits and the ids of the pairs, and for each chunk of the row
 * its sum at the scale 1 and that at another scale: four words each, the sum as float64, then the
 * maximum. Only the element's own chunks are written, and only sums that are asked for.
 */
export const SUMMARY_PART: Readonly<
  Record<
    "topCount" | "hasNaN" | "topLogits" | "topIds" | "unitSums" | "scaledSums" | "chunkWords",
    number
  >
> = {
  topCount: 0,
  hasNaN: 1,
  topLogits: 4,
  topIds: 4 + SUMMARY_TOP_COUNT,
  unitSums: 4 + 2 * SUMMARY_TOP_COUNT,
  scaledSums: 8 + 2 * SUMMARY_TOP_COUNT,
  chunkWords: 8,
};

/** Words of a partial summary of a row of `width` logits. */
export function summaryPartWords(width: number): number {
  return SUMMARY_PART.unitSums + SUMMARY_PART.chunkWords * Math.ceil(width / CHUNK_COLUMNS);
}

/** The first chunk of an element's share; that of the element after it is where the share ends. */
export function summaryChunkStart(peIndex: number, peCount: number, chunkCount: number): number {
  return Math.floor((chunkCount * peIndex) / peCount);
}

/**
 * Partial summaries (`base/row_summary.ts`) of rows [0, rowCount) over the chunks
 * [chunkStart, chunkEnd) of their columns, one each {@linkcode SUMMARY_PART}, `outStride` words
 * apart. needs: int32 `SummaryNeed` of each row; where it is
 * `nothing`, nothing is written. Rows can be read up to a multiple of four floats.
 */
export interface SummarizeRowsArgs {
  readonly x: number;
  readonly xStride: number;
  readonly width: number;
  readonly rowCount: number;
  readonly chunkStart: number;
  readonly chunkEnd: number;
  readonly needs: number;
  readonly out: number;
  readonly outStride: number;
}

/** One backend: the same operations, whichever way they are computed. */
export interface KernelTable {
  /** Who computes; of a table that chooses between two, who computed last. */
  readonly backend: "reference" | "simd";
  /** How many kernels it has compiled so far: a call that raises it runs code that is new. */
  readonly compiledCount: number;
  embed(args: EmbedArgs): void;
  takeRows(args: TakeRowsArgs): void;
  rmsNorm(args: RmsNormArgs): void;
  layerNorm(args: LayerNormArgs): void;
  matmul(args: MatmulArgs): void;
  addBias(args: AddBiasArgs): void;
  add(args: AddArgs): void;
  siluMultiply(args: SiluMultiplyArgs): void;
  geluTanhMultiply(args: GeluTanhMultiplyArgs): void;
  scale(args: ScaleArgs): void;
  softcap(args: SoftcapArgs): void;
  gelu(args: GeluArgs): void;
  rope(args: RopeArgs): void;
  writeKv(args: WriteKvArgs): void;
  attention(args: AttentionArgs): void;
  summarizeRows(args: SummarizeRowsArgs): void;
  route(args: RouteArgs): void;
  clampedSwiglu(args: ClampedSwigluArgs): void;
  sumExperts(args: SumExpertsArgs): void;
}

/** The largest shapes a program uses: they size a processing element's scratch memory. */
export interface KernelLimits {
  /** Largest k of any matmul or embedding. */
  readonly kMax: number;
  /** Most floats in a head. */
  readonly headDimMax: number;
  /** Most query heads that share one KV head. */
  readonly headGroupMax: number;
}
