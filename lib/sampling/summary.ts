/**
 * From the summary of a row to a token: the answer that `sampler.ts` gives for the whole row, where
 * the largest logits are enough to know it.
 *
 * They are enough to take the largest and to sample among the `topK` largest, with end and stop
 * tokens banned or not. They are not where a penalty moves other logits up, where all tokens may be
 * drawn, or where logits beyond the summary may be equal to the last one that stays; then the whole
 * row is read.
 */

import {
  type RowSummary,
  SUMMARY_NEED,
  SUMMARY_TOP_COUNT,
  type SummaryNeed,
} from "../base/row_summary.ts";
import { cutRow } from "./filters.ts";
import type { TokenLogprob } from "./logprobs.ts";
import { isTooShort } from "./bans.ts";
import { drawIndex, type Sample, type SamplingState } from "./sampler.ts";

/** Largest `topK`, and most log-probabilities, that a summary is asked for. */
const COUNT_MAX = 64;

/** What the choice of the next token needs of a row's summary. */
export function summaryNeed({ params }: SamplingState): SummaryNeed {
  const { temperature, topK, repetitionPenalty, logprobs } = params;
  const isPlain = params.presencePenalty === 0 && params.frequencyPenalty === 0 &&
    params.logitBias.size === 0 && params.allowedTokenIds === null &&
    params.badTokenSequences.length === 0 && params.logitsProcessors.length === 0;
  if (!isPlain) return SUMMARY_NEED.nothing;
  const isLocal = temperature === 0 || (topK > 0 && topK <= COUNT_MAX);
  if (repetitionPenalty !== 1 || !isLocal) return SUMMARY_NEED.nothing;
  if (logprobs === null) return SUMMARY_NEED.top;
  return logprobs >= 0 && logprobs <= COUNT_MAX ? SUMMARY_NEED.logprobs : SUMMARY_NEED.nothing;
}

/** Chooses a token as `sample` would; undefined where only the whole row can tell. */
export function sampleSummary(summary: RowSummary, state: SamplingState): Sample | undefined {
  const { topIds, topLogits } = summary;
  const isValid = !summary.hasNaN && topIds.length > 0 && topLogits[0]! < Infinity;
  // What is wrong with a row is said by whoever reads it whole.
  if (!isValid || summaryNeed(state) === SUMMARY_NEED.nothing) return undefined;
  const { temperature, logprobs } = state.params;
  const tokenId = temperature === 0 ? greedy(summary, state) : drawTop(summary, state);
  if (tokenId === undefined) return undefined;
  if (logprobs === null) return { tokenId, logprobs };
  const entries = summaryLogprobs(summary, tokenId, logprobs);
  return entries && { tokenId, logprobs: entries };
}

/** Whether the summary names every possible token. */
function isWhole({ topIds }: RowSummary): boolean {
  return topIds.length < SUMMARY_TOP_COUNT;
}

function bannedIds(state: SamplingState): readonly number[] {
  return isTooShort(state) ? [...state.endTokenIds, ...state.params.stopTokenIds] : [];
}

function greedy({ topIds }: RowSummary, state: SamplingState): number | undefined {
  const banned = bannedIds(state);
  return topIds.find((id) => !banned.includes(id));
}

/** Draws among the `topK` largest and those that are equal to the last of them. */
function drawTop(summary: RowSummary, state: SamplingState): number | undefined {
  const { topIds, topLogits } = summary;
  const { topK } = state.params;
  const banned = bannedIds(state);
  // One number a candidate, which sorts by id and tells the place: sorting numbers is quick.
  const keys = new Float64Array(topIds.length);
  let count = 0;
  let max = -Infinity;
  let last = -Infinity;
  for (let place = 0; place < topIds.length; place++) {
    const logit = topLogits[place]!;
    if (count >= topK && logit < last) break;
    if (banned.length > 0 && banned.includes(topIds[place]!)) continue;
    if (count === 0) max = logit;
    if (count < topK) last = logit;
    keys[count++] = topIds[place]! * SUMMARY_TOP_COUNT + place;
  }
  if (count === 0) return undefined;
  // If the summary ends before the values below the k-th begin, more may be equal to it.
  const isEnough = count >= topK && topLogits[topLogits.length - 1]! < last;
  if (!isEnough && !isWhole(summary)) return undefined;
  // In the order of their ids, these stand for the row: the others would add nothing.
  const byId = keys.subarray(0, count).sort();
  const row = new Float32Array(count);
  for (let i = 0; i < count; i++) row[i] = topLogits[byId[i]! % SUMMARY_TOP_COUNT]!;
  const index = drawIndex(row, { max, cut: cutRow(row, max, state.params), state });
  return Math.floor(byId[index]! / SUMMARY_TOP_COUNT);
}

/** What `tokenLogprobs` gives for the whole row. */
function summaryLogprobs(
  { topIds, topLogits, logSumExp }: RowSummary,
  tokenId: number,
  topCount: number,
): TokenLogprob[] | undefined {
  if (logSumExp === undefined || topCount > topIds.length) return undefined;
  const entryAt = (place: number): TokenLogprob => {
    let above = place;
    while (above > 0 && topLogits[above - 1] === topLogits[place]) above--;
    return { tokenId: topIds[place]!, logprob: topLogits[place]! - logSumExp, rank: 1 + above };
  };
  const entries = [entryAt(topIds.indexOf(tokenId))];
  for (let place = 0; place < topCount; place++) {
    if (topIds[place] !== tokenId) entries.push(entryAt(place));
  }
  return entries;
}
