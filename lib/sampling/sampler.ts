/**
 * From a row of logits to a token:
 *
 * 1. refuse a row that is not numbers
 * 2. log-probabilities, if asked: of the row as the device gave it   logprobs.ts
 * 3. min tokens: ban end and stop tokens while the output is short    penalties.ts
 * 4. repetition penalty over prompt and output                        penalties.ts
 * 5. greedy? take the largest, of equals the lowest id, and stop
 * 6. temperature, min-p, top-k, top-p                                 filters.ts
 * 7. draw                                                             random.ts
 *
 * Where the row's largest values are enough, `summary.ts` gives the same answer without the row.
 * The row belongs to the device and is never written to: steps 3 and 4 work on a copy, which is
 * made only where one of them has something to do. Everything is a function of the row and the
 * state; nothing depends on other requests.
 */

import { InvalidLogitsError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import { type Cut, cutRow } from "./filters.ts";
import { type TokenLogprob, tokenLogprobs } from "./logprobs.ts";
import type { ResolvedSamplingParams } from "./resolved_params.ts";
import { banTokens, penalizeRepetition } from "./penalties.ts";
import { uniform } from "./random.ts";

/** A chosen token. */
export interface Sample {
  readonly tokenId: number;
  /** The chosen token first; null unless `logprobs` was asked for. */
  readonly logprobs: TokenLogprob[] | null;
}

/** What the choice of a request's next token depends on, besides the logits. */
export class SamplingState {
  readonly params: ResolvedSamplingParams;
  readonly seed: number;
  /** Tokens that end the output: impossible before `minTokens`. */
  readonly endTokenIds: readonly number[];
  /** Tokens chosen so far; also the number of the next draw. */
  outputCount = 0;
  readonly #seenTokenIds: Set<number>;

  constructor(
    params: ResolvedSamplingParams,
    seed: number,
    promptTokenIds: readonly number[],
    endTokenIds: readonly number[],
  ) {
    this.params = params;
    this.seed = seed;
    this.endTokenIds = endTokenIds;
    // Only the repetition penalty asks what was seen.
    this.#seenTokenIds = new Set(params.repetitionPenalty === 1 ? [] : promptTokenIds);
  }

  /** Tokens of the prompt and the output; empty where no penalty asks for them. */
  get seenTokenIds(): ReadonlySet<number> {
    return this.#seenTokenIds;
  }

  /** Counts a chosen token in. */
  accept(tokenId: number): void {
    this.outputCount++;
    if (this.params.repetitionPenalty !== 1) this.#seenTokenIds.add(tokenId);
  }
}

/** Chooses a token. The state does not change; `state.accept` counts the choice in. */
export function sample(row: Float32Array, state: SamplingState): Sample {
  const { params } = state;
  const rowMax = largestLogit(row);
  const logits = adjustRow(row, state);
  const max = logits === row ? rowMax : largestLogit(logits);
  const tokenId = params.temperature === 0
    ? logits.indexOf(max)
    : drawIndex(logits, { max, cut: cutRow(logits, max, params), state });
  const logprobs = params.logprobs === null ? null : tokenLogprobs(row, tokenId, params.logprobs);
  return { tokenId, logprobs };
}

/**
 * The largest value of a row.
 *
 * @throws {InvalidLogitsError} The row holds NaN or +Infinity, or nothing but −Infinity.
 */
export function largestLogit(row: Float32Array): number {
  let max = -Infinity;
  for (let id = 0; id < row.length; id++) {
    const value = row[id]!;
    if (!(value < Infinity)) {
      throw new InvalidLogitsError(`Cannot choose a token: the logit of token ${id} is ${value}`);
    }
    if (value > max) max = value;
  }
  if (max === -Infinity) {
    throw new InvalidLogitsError("Cannot choose a token: none is possible, all are at -Infinity");
  }
  return max;
}

/** Whether the tokens that end the output are still banned. */
export function isTooShort({ outputCount, params }: SamplingState): boolean {
  return outputCount < params.minTokens;
}

/** The row after bans and penalties: a copy, or the row itself where they change nothing. */
export function adjustRow(row: Float32Array, state: SamplingState): Float32Array {
  const { params } = state;
  const tooShort = isTooShort(state);
  if (!tooShort && params.repetitionPenalty === 1) return row;
  const copy = row.slice();
  if (tooShort) {
    banTokens(copy, state.endTokenIds);
    banTokens(copy, params.stopTokenIds);
  }
  if (params.repetitionPenalty !== 1) {
    penalizeRepetition(copy, state.seenTokenIds, params.repetitionPenalty);
  }
  return copy;
}

/** Draws an index: inverts the cumulative distribution, added up in the order of the indices. */
export function drawIndex(
  row: Float32Array,
  { max, cut, state }: { max: number; cut: Cut; state: SamplingState },
): number {
  const { temperature } = state.params;
  const cumulative = new Float64Array(row.length);
  let equalsLeft = cut.equalCount;
  let sum = 0;
  for (let id = 0; id < row.length; id++) {
    const value = row[id]!;
    if (value > cut.value || (value === cut.value && equalsLeft-- > 0)) {
      sum += Math.exp((value - max) / temperature);
    }
    cumulative[id] = sum;
  }
  // uniform() is below 1 by at least 2⁻⁵³, so the target is below the sum even when rounded.
  return firstAbove(cumulative, uniform(state.seed, state.outputCount) * sum);
}

/** The first index whose value is above the target. A dropped token repeats the value before it. */
function firstAbove(ascending: Float64Array, target: number): number {
  let low = 0;
  let high = ascending.length - 1;
  invariant(ascending[high]! > target, "A draw falls behind the whole distribution");
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ascending[middle]! > target) high = middle;
    else low = middle + 1;
  }
  return low;
}
