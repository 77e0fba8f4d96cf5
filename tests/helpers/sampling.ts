/** What tests of the sampler share: states, rows, summaries, and the rules once more, naively. */

import {
  logSumExp,
  type RowSummary,
  rowSums,
  scalesOf,
  SUMMARY_TOP_COUNT,
} from "../../lib/base/row_summary.ts";
import { SamplingParams, type SamplingParamsOptions } from "../../lib/sampling/params.ts";
import { resolveSamplingParams, type TokenizedParams } from "../../lib/sampling/resolved_params.ts";
import { SamplingState } from "../../lib/sampling/sampler.ts";
import { summaryNeed } from "../../lib/sampling/summary.ts";
import { topIds } from "../../lib/sampling/top_values.ts";

/** A request and its history. */
export interface Situation {
  readonly options?: SamplingParamsOptions;
  readonly tokenized?: TokenizedParams;
  readonly prompt?: readonly number[];
  readonly output?: readonly number[];
  readonly endTokenIds?: readonly number[];
  readonly seed?: number;
}

/** The state of a request with that history. */
export function stateOf(situation: Situation): SamplingState {
  const { options = {}, tokenized = {}, prompt = [0], output = [], seed = 1 } = situation;
  const params = resolveSamplingParams(new SamplingParams(options), {}, tokenized);
  const state = new SamplingState(params, seed, prompt, situation.endTokenIds ?? []);
  for (const id of output) state.accept(id);
  return state;
}

/** A bell of logits; `levels` makes many of them equal. */
export function randomRow(
  random: () => number,
  length: number,
  levels: number = Infinity,
): Float32Array {
  return Float32Array.from({ length }, () => {
    const value = (random() + random() + random() - 1.5) * 6;
    return levels === Infinity ? value : Math.round(value * levels / 6) * 6 / levels;
  });
}

/** What the device would say of a row to a request: no more than it was asked. */
export function summaryOf(row: Float32Array, state: SamplingState): RowSummary | undefined {
  const need = summaryNeed(state);
  if (need === 0) return undefined;
  const ids = topIds(row, Math.min(SUMMARY_TOP_COUNT, row.length))
    .filter((id) => row[id]! > -Infinity);
  const { isUnit, scale } = scalesOf(need);
  return {
    width: row.length,
    topIds: Int32Array.from(ids),
    topLogits: Float32Array.from(ids, (id) => row[id]!),
    hasNaN: row.some(Number.isNaN),
    logSumExp: isUnit ? logSumExp(row) : undefined,
    sums: scale === undefined ? undefined : rowSums(row, scale),
  };
}

/** The row after steps 3 to 7, one loop over all tokens a step. */
export function naivelyAdjusted(row: Float32Array, situation: Situation): Float32Array {
  const { options = {}, tokenized = {}, prompt = [0], output = [] } = situation;
  let logits: Float32Array = row.slice();
  const ban = (isBanned: (id: number) => boolean) => {
    for (let id = 0; id < logits.length; id++) if (isBanned(id)) logits[id] = -Infinity;
  };
  if (options.allowedTokenIds !== undefined) {
    ban((id) => !options.allowedTokenIds!.includes(id));
  }
  for (const word of tokenized.badTokenSequences ?? []) {
    const start = word.slice(0, -1).join();
    const tail = word.length === 1 ? "" : output.slice(1 - word.length).join();
    if (tail === start && output.length >= word.length - 1) ban((id) => id === word.at(-1));
  }
  if (output.length < (options.minTokens ?? 0)) {
    ban((id) => (situation.endTokenIds ?? []).includes(id));
    ban((id) => (options.stopTokenIds ?? []).includes(id));
  }
  const biases = new Map(
    options.logitBias instanceof Map
      ? options.logitBias
      : Object.entries(options.logitBias ?? {}).map(([id, bias]) => [Number(id), bias]),
  );
  for (const [id, bias] of biases) logits[id] = logits[id]! + bias;
  for (const processor of options.logitsProcessors ?? []) {
    logits = processor(output, logits, prompt) ?? logits;
  }
  const penalty = options.repetitionPenalty ?? 1;
  for (const id of new Set([...prompt, ...output])) {
    logits[id] = logits[id]! > 0 ? logits[id]! / penalty : logits[id]! * penalty;
  }
  for (let id = 0; id < logits.length; id++) {
    const count = output.filter((other) => other === id).length;
    logits[id] = logits[id]! - count * (options.frequencyPenalty ?? 0);
    if (count > 0) logits[id] = logits[id]! - (options.presencePenalty ?? 0);
  }
  return logits;
}

/** The probabilities of all tokens: everything sorted, then dropped step by step. */
export function exactDistribution(row: Float32Array, situation: Situation): Float64Array {
  const params = resolveSamplingParams(new SamplingParams(situation.options));
  const { temperature, minP, topK, topP } = params;
  const logits = naivelyAdjusted(row, situation);
  const max = logits.reduce((largest, logit) => Math.max(largest, logit));
  let kept = Array.from(logits, (logit, id) => ({
    id,
    logit,
    mass: Math.exp((logit - max) * Math.fround(1 / temperature)),
  })).filter(({ mass }) => mass > 0).sort((a, b) => b.logit - a.logit || a.id - b.id);
  const total = () => kept.reduce((sum, { mass }) => sum + mass, 0);
  kept = kept.filter(({ mass }) => mass >= minP * (1 - 1e-12));
  if (topK > 0 && topK < kept.length) {
    const last = kept[topK - 1]!.logit;
    kept = kept.filter(({ logit }) => logit >= last);
  }
  if (topP < 1) {
    const limit = topP * total();
    let before = 0;
    kept = kept.filter(({ mass }) => {
      const stays = before < limit;
      before += mass;
      return stays;
    });
  }
  const sum = total();
  const result = new Float64Array(row.length);
  for (const { id, mass } of kept) result[id] = mass / sum;
  return result;
}
