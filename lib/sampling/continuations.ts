/**
 * From a row of logits to the continuations that a beam search may need of it. The row is adjusted
 * as it is for a draw; temperature and filters have no part in a search.
 */

import {
  logSumExp,
  type RowSummary,
  SUMMARY_NEED,
  SUMMARY_TOP_COUNT,
  type SummaryNeed,
} from "../base/row_summary.ts";
import type { BeamRules, Continuation, LogprobReport } from "./beam.ts";
import { rowLogprobs } from "./logprobs.ts";
import { largestLogit } from "./known_row.ts";
import { adjustRow, nothingLeft, type SamplingState } from "./sampler.ts";
import { kthLargest } from "./top_values.ts";

/** A row of logits, and what is known of it without reading it. */
export interface SummarizedRow {
  readonly row: Float32Array;
  readonly summary?: RowSummary | undefined;
}

/** A live sequence whose row it is. */
export interface Extension extends Pick<BeamRules, "width" | "endTokenIds"> {
  /** The sequence's sum before the row. */
  readonly sum: number;
  readonly state: SamplingState;
}

/** What a search needs of a row's summary: log-probabilities, unless the whole row is read anyway. */
export function beamSummaryNeed(state: SamplingState): SummaryNeed {
  return state.params.repetitionPenalty === 1 ? SUMMARY_NEED.logprobs : SUMMARY_NEED.nothing;
}

/**
 * The best `width` continuations without an end token, and the end tokens that come before the last
 * of those: descending by sum, of equals the smaller id first. Impossible tokens are not among
 * them, so there may be fewer.
 *
 * @throws {InvalidLogitsError} The row holds NaN or +Infinity, or leaves no token possible.
 * @throws {InvalidParameterError} What the request asks for leaves none.
 */
export function continuationsOf(
  { row, summary }: SummarizedRow,
  { sum, state, width, endTokenIds }: Extension,
): Continuation[] {
  if (summary === undefined || !isSound(summary)) largestLogit(row);
  const adjusted = adjustRow(row, state);
  if (adjusted !== row) {
    if (adjusted.every((logit) => logit === -Infinity)) throw nothingLeft(state);
    largestLogit(adjusted);
  }
  const known = adjusted === row ? summary : undefined;
  const normalizer = known?.logSumExp ?? logSumExp(adjusted);
  const toSum = (logit: number) => Math.fround(sum + Math.fround(logit - normalizer));
  // Among so many, `width` are no end tokens.
  const count = Math.min(width + endTokenIds.size, row.length);
  const best = (known && bestOfSummary(known, count, toSum)) ?? bestOfRow(adjusted, count, toSum);
  const needed = cutToNeeded(best, width, endTokenIds);
  const reports = reportsOf(row, needed, state);
  return needed.map(({ tokenId, sum }, i) => ({ tokenId, sum, report: reports?.[i] ?? null }));
}

type Candidate = Pick<Continuation, "tokenId" | "sum">;

function isSound({ hasNaN, topLogits }: RowSummary): boolean {
  return !hasNaN && topLogits.length > 0 && topLogits[0]! < Infinity;
}

/**
 * The `count` best. Different logits may have equal sums once these are rounded, and then the
 * smaller id counts: so whatever reaches the sum of the last logit takes part.
 */
function bestOfRow(
  row: Float32Array,
  count: number,
  toSum: (logit: number) => number,
): Candidate[] {
  const threshold = toSum(kthLargest(row, count));
  const above: Candidate[] = [];
  const equal: Candidate[] = [];
  for (let tokenId = 0; tokenId < row.length; tokenId++) {
    const sum = toSum(row[tokenId]!);
    if (sum > threshold) above.push({ tokenId, sum });
    else if (sum === threshold && sum > -Infinity && equal.length < count) {
      equal.push({ tokenId, sum });
    }
  }
  return above.sort(bySum).concat(equal.slice(0, count - above.length));
}

/** The same, where the summary holds all that may take part. */
function bestOfSummary(
  { topIds, topLogits }: RowSummary,
  count: number,
  toSum: (logit: number) => number,
): Candidate[] | undefined {
  const sums = Array.from(topLogits, toSum);
  const isWhole = topIds.length < SUMMARY_TOP_COUNT;
  if (!isWhole && !(count < sums.length && sums.at(-1)! < sums[count - 1]!)) return undefined;
  return sums.map((sum, place) => ({ tokenId: topIds[place]!, sum })).sort(bySum).slice(0, count);
}

function bySum(a: Candidate, b: Candidate): number {
  return b.sum - a.sum || a.tokenId - b.tokenId;
}

function cutToNeeded(
  best: readonly Candidate[],
  width: number,
  endTokenIds: ReadonlySet<number>,
): readonly Candidate[] {
  let goingOnCount = 0;
  for (const [place, { tokenId }] of best.entries()) {
    if (!endTokenIds.has(tokenId)) goingOnCount++;
    if (goingOnCount === width) return best.slice(0, place + 1);
  }
  return best;
}

/** Log-probabilities are told of the row as the device gave it, as with a draw. */
function reportsOf(
  row: Float32Array,
  candidates: readonly Candidate[],
  { params }: SamplingState,
): LogprobReport[] | undefined {
  if (params.logprobs === null) return undefined;
  const { chosen, top } = rowLogprobs(row, candidates.map((it) => it.tokenId), params.logprobs);
  return chosen.map((entry) => ({ chosen: entry, top }));
}
