/** Log-probabilities of a row of logits: the chosen token's and the most likely ones'. */

import { logSumExp } from "../base/row_summary.ts";
import { KnownRow } from "./known_row.ts";
import { topIds } from "./top_values.ts";

/** The log-probability of one token at one position. */
export interface TokenLogprob {
  readonly tokenId: number;
  /** Natural logarithm; −Infinity for a token that cannot be. */
  readonly logprob: number;
  /** One more than the number of tokens that are strictly more likely. */
  readonly rank: number;
}

/**
 * The chosen token first, then the `topCount` most likely, descending, of equals the lower id
 * first; the chosen one is not repeated. `topCount` −1 is the whole vocabulary.
 *
 * @throws {InvalidLogitsError} The row holds NaN or +Infinity, or nothing but −Infinity.
 */
export function tokenLogprobs(
  row: Float32Array,
  tokenId: number,
  topCount: number,
): TokenLogprob[] {
  const known = new KnownRow(row);
  known.check();
  return knownLogprobs(known, tokenId, topCount);
}

/** {@linkcode tokenLogprobs} of a row of which something is known. */
export function knownLogprobs(row: KnownRow, tokenId: number, topCount: number): TokenLogprob[] {
  const { logits } = row;
  const normalizer = row.logSumExp();
  const chosen = logits[tokenId]!;
  const result = [{ tokenId, logprob: chosen - normalizer, rank: 1 + countAbove(row, chosen) }];
  const ids = mostLikely(row, topCount < 0 ? logits.length : Math.min(topCount, logits.length));
  let rank = 1;
  for (let index = 0; index < ids.length; index++) {
    const id = ids[index]!;
    if (index > 0 && logits[id]! < logits[ids[index - 1]!]!) rank = index + 1;
    if (id !== tokenId) result.push({ tokenId: id, logprob: logits[id]! - normalizer, rank });
  }
  return result;
}

/** The entries of some tokens of a row, in their order. */
export function logprobsOf(row: Float32Array, tokenIds: readonly number[]): TokenLogprob[] {
  return [...rowLogprobs(row, tokenIds, 0).chosen];
}

/** What `tokenLogprobs` gives for several tokens of one row, the likely ones only once. */
export function rowLogprobs(
  row: Float32Array,
  tokenIds: readonly number[],
  topCount: number,
): { readonly chosen: readonly TokenLogprob[]; readonly top: readonly TokenLogprob[] } {
  const normalizer = logSumExp(row);
  const entry = (tokenId: number, above: number): TokenLogprob => ({
    tokenId,
    logprob: row[tokenId]! - normalizer,
    rank: 1 + above,
  });
  const aboveCounts = countsAbove(row, tokenIds);
  const ids = topIds(row, Math.min(topCount, row.length));
  let above = 0;
  return {
    chosen: tokenIds.map((id, index) => entry(id, aboveCounts[index]!)),
    top: ids.map((id, index) => {
      if (index > 0 && row[id]! < row[ids[index - 1]!]!) above = index;
      return entry(id, above);
    }),
  };
}

/** How many values of the row are above each of some tokens' values, in one pass. */
function countsAbove(row: Float32Array, tokenIds: readonly number[]): number[] {
  const values = Float32Array.from(tokenIds, (id) => row[id]!).sort();
  const lowest = values[0]!;
  // passed[i]: values of the row that are above exactly i of the sorted ones.
  const passed = new Int32Array(values.length + 1);
  for (let id = 0; id < row.length; id++) {
    if (row[id]! > lowest) passed[firstNotBelow(values, row[id]!)]!++;
  }
  for (let i = values.length - 1; i >= 0; i--) passed[i]! += passed[i + 1]!;
  return tokenIds.map((id) => passed[firstNotBelow(values, row[id]!) + 1]!);
}

/** The first index of an ascending list whose value is not below `value`. */
function firstNotBelow(ascending: Float32Array, value: number): number {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ascending[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

function mostLikely({ top, logits }: KnownRow, count: number): ArrayLike<number> {
  return top !== undefined && count <= top.ids.length
    ? top.ids.subarray(0, count)
    : topIds(logits, count);
}

function countAbove({ top, logits }: KnownRow, value: number): number {
  let count = 0;
  if (top !== undefined && (top.isWhole || value >= top.logits[top.logits.length - 1]!)) {
    while (count < top.logits.length && top.logits[count]! > value) count++;
    return count;
  }
  for (let id = 0; id < logits.length; id++) if (logits[id]! > value) count++;
  return count;
}
