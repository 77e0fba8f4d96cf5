/** Log-probabilities of a row of logits: the chosen token's and the most likely ones'. */

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
