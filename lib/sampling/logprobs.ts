/** Log-probabilities of a row of logits: the chosen token's and the most likely ones'. */

import { logSumExp } from "../base/row_summary.ts";
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
 * The row must hold no NaN and at least one finite value (`sampler.ts` sees to it).
 */
export function tokenLogprobs(
  row: Float32Array,
  tokenId: number,
  topCount: number,
): TokenLogprob[] {
  const normalizer = logSumExp(row);
  const chosen = row[tokenId]!;
  const result = [{ tokenId, logprob: chosen - normalizer, rank: 1 + countAbove(row, chosen) }];
  const ids = topIds(row, topCount < 0 ? row.length : Math.min(topCount, row.length));
  let rank = 1;
  for (const [index, id] of ids.entries()) {
    if (index > 0 && row[id]! < row[ids[index - 1]!]!) rank = index + 1;
    if (id !== tokenId) result.push({ tokenId: id, logprob: row[id]! - normalizer, rank });
  }
  return result;
}

function countAbove(row: Float32Array, value: number): number {
  let count = 0;
  for (let id = 0; id < row.length; id++) if (row[id]! > value) count++;
  return count;
}
