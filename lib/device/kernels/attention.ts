/** Causal attention over paged keys and values: the definition of its tiles and their order. */

import { fusedMultiplyAdd } from "../dtype.ts";
import { softcapOf } from "./elementwise.ts";
import type { IntVector, Matrix, Vector } from "./ndarray.ts";
import { BLOCK_TOKENS, keyIndex, type KvCache, readKv, valueIndex } from "./write_kv.ts";

/** What a call of {@linkcode attention} works on. */
export interface AttentionViews {
  /** [rows][heads · headDim] */
  readonly out: Matrix;
  /** [rows][heads · headDim] */
  readonly q: Matrix;
  readonly cache: KvCache;
  /** Of each row: its position in its sequence. */
  readonly positions: IntVector;
  /** Of each row: which row of the block tables is its own. */
  readonly sequences: IntVector;
  /** Block ids, `blockTableStride` a sequence. */
  readonly blockTables: IntVector;
  readonly blockTableStride: number;
}

/**
 * Unit u = block · kvHeads + kvHead: the query heads of a block of rows that share one KV head.
 * There are `rowCount` rows, which the last block may not fill.
 */
export interface AttentionUnits {
  readonly unitStart: number;
  readonly unitEnd: number;
  readonly unitStep: number;
  readonly rowsPerUnit: number;
  readonly rowCount: number;
}

/** How queries meet keys. */
export interface AttentionRules {
  readonly heads: number;
  readonly scale: number;
  readonly window: number;
  /** 0: none. */
  readonly softcap: number;
  /** [heads] */
  readonly sinks: Vector | null;
}

/**
 * out = softmax(scale · q · keys) · values over positions max(0, p − window + 1) … p of the row's
 * sequence, p its position; window 0 is no window.
 *
 * Keys are taken in tiles of sixteen cut by position alone, so that a row's sums come in one order
 * whoever computes it. Slots outside the visible positions are not read.
 */
export function attention(
  views: AttentionViews,
  units: AttentionUnits,
  rules: AttentionRules,
): void {
  const { kvHeads } = views.cache;
  const { rowsPerUnit, rowCount } = units;
  const softmax = new OnlineSoftmax(views.cache.headDim);
  for (let unit = units.unitStart; unit < units.unitEnd; unit += units.unitStep) {
    const start = Math.floor(unit / kvHeads) * rowsPerUnit;
    for (let row = start; row < Math.min(rowCount, start + rowsPerUnit); row++) {
      attendRow(views, { row, kvHead: unit % kvHeads, softmax }, rules);
    }
  }
}

/** The query heads of one row that share one KV head. */
function attendRow(
  views: AttentionViews,
  { row, kvHead, softmax }: { row: number; kvHead: number; softmax: OnlineSoftmax },
  rules: AttentionRules,
): void {
  const { kvHeads, headDim } = views.cache;
  const group = rules.heads / kvHeads;
  const last = views.positions.get(row);
  const first = rules.window === 0 ? 0 : Math.max(0, last - rules.window + 1);
  const table = views.sequences.get(row) * views.blockTableStride;
  for (let head = kvHead * group; head < (kvHead + 1) * group; head++) {
    softmax.begin(rules.sinks?.get(head));
    for (let tile = Math.floor(first / BLOCK_TOKENS); tile * BLOCK_TOKENS <= last; tile++) {
      softmax.addTile(views.cache, {
        blockId: views.blockTables.get(table + tile),
        kvHead,
        tokenStart: Math.max(0, first - tile * BLOCK_TOKENS),
        tokenEnd: Math.min(BLOCK_TOKENS, last + 1 - tile * BLOCK_TOKENS),
        q: views.q.data,
        qAt: views.q.index(row, head * headDim),
        scale: rules.scale,
        softcap: rules.softcap,
      });
    }
    softmax.finish(views.out.data, views.out.index(row, head * headDim));
  }
}

/** The visible tokens [tokenStart, tokenEnd) of one block, and the query that looks at them. */
interface Tile {
  readonly blockId: number;
  readonly kvHead: number;
  readonly tokenStart: number;
  readonly tokenEnd: number;
  readonly q: Float32Array;
  readonly qAt: number;
  readonly scale: number;
  readonly softcap: number;
}

/**
 * Softmax-weighted sum of values, tile after tile: what was summed under an earlier maximum is
 * scaled down when a tile brings a larger one. Float32 throughout.
 */
class OnlineSoftmax {
  #largest = -Infinity;
  #total = 0;
  readonly #sum: Float32Array;
  readonly #weights: Float32Array = new Float32Array(BLOCK_TOKENS);

  constructor(headDim: number) {
    this.#sum = new Float32Array(headDim);
  }

  /** A sink is a score that came first, and has no value. */
  begin(sink: number | undefined): void {
    this.#largest = sink ?? -Infinity;
    this.#total = sink === undefined ? 0 : 1;
    this.#sum.fill(0);
  }

  addTile(cache: KvCache, tile: Tile): void {
    const weights = this.#weights;
    let largest = this.#largest;
    for (let token = tile.tokenStart; token < tile.tokenEnd; token++) {
      weights[token] = score(cache, tile, token);
      largest = Math.max(largest, weights[token]!);
    }
    const rescale = exp32(this.#largest - largest);
    this.#largest = largest;
    this.#total = Math.fround(this.#total * rescale);
    for (let token = tile.tokenStart; token < tile.tokenEnd; token++) {
      weights[token] = exp32(weights[token]! - largest);
      this.#total = Math.fround(this.#total + weights[token]!);
    }
    for (let d = 0; d < cache.headDim; d++) {
      let sum = Math.fround(this.#sum[d]! * rescale);
      for (let token = tile.tokenStart; token < tile.tokenEnd; token++) {
        const index = valueIndex(cache, tile.blockId, tile.kvHead, token, d);
        sum = fusedMultiplyAdd(weights[token]!, readKv(cache, cache.values, index), sum);
      }
      this.#sum[d] = sum;
    }
  }

  finish(out: Float32Array, outAt: number): void {
    for (let d = 0; d < this.#sum.length; d++) out[outAt + d] = this.#sum[d]! / this.#total;
  }
}

/** scale · (q · key), capped: one chain over d from +0. */
function score(cache: KvCache, tile: Tile, token: number): number {
  let sum = 0;
  for (let d = 0; d < cache.headDim; d++) {
    const index = keyIndex(cache, tile.blockId, tile.kvHead, token, d);
    sum = fusedMultiplyAdd(tile.q[tile.qAt + d]!, readKv(cache, cache.keys, index), sum);
  }
  const scaled = Math.fround(sum * tile.scale);
  return tile.softcap === 0 ? scaled : softcapOf(scaled, Math.fround(tile.softcap));
}

/** e^x of a float32, rounded to float32. */
function exp32(x: number): number {
  return Math.fround(Math.exp(Math.fround(x)));
}
