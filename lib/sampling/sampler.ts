/**
 * From a row of logits to a token:
 *
 *  1. refuse a row that is not numbers                                     known_row.ts
 *  2. log-probabilities, if asked: of the row as the device gave it        logprobs.ts
 *  3. allowed tokens only                                                  adjust.ts
 *  4. bans: bad words; end and stop tokens while the output is short       bans.ts
 *  5. bias                                                                 adjust.ts
 *  6. logits processors                                                    adjust.ts
 *  7. penalties: on repetition, then on frequency, then on presence        penalties.ts
 *  8. greedy? take the largest, of equals the lowest id, and stop          candidates.ts
 *  9. temperature, min-p, top-k, top-p                                     filters.ts
 * 10. draw                                                                 mass.ts, here
 *
 * The row belongs to the device and is never written to. Everything is a function of the row and
 * the state; nothing depends on other requests.
 *
 * What keeps it cheap is that hardly any step looks at a whole row. The elements that computed a
 * row also found its largest logits and, where the mass of all tokens counts, summed its
 * exponentials by chunks of 1024 columns. Steps 3 to 7 are a short list of changed logits. The
 * largest of the changed row is then the first of the largest that is not in the list, or in the
 * list. A filter that keeps few tokens finds them among the largest, another one in a single pass
 * that collects what may stay. A draw from all tokens chooses a chunk by its mass and then reads
 * that chunk. Without a summary the same numbers come from the row, bit for bit: no choice depends
 * on which way was taken.
 */

import { InvalidLogitsError, InvalidParameterError } from "../base/errors.ts";
import type { RowSummary } from "../base/row_summary.ts";
import { adjust, bansInUse, materialize } from "./adjust.ts";
import { type Choice, collect, largest } from "./candidates.ts";
import { type Filtered, filterRow, filters } from "./filters.ts";
import { forcedToken } from "./forced.ts";
import { KnownRow } from "./known_row.ts";
import { knownLogprobs, logprobsOf, type TokenLogprob } from "./logprobs.ts";
import { drawFromMass, measureMass, weigh, type WeightScale } from "./mass.ts";
import { uniform } from "./random.ts";
import { SamplerScratch } from "./scratch.ts";
import { SamplingState } from "./state.ts";

export { SamplingState };

/** A chosen token. */
export interface Sample {
  readonly tokenId: number;
  /** The chosen token first; null unless `logprobs` was asked for. */
  readonly logprobs: TokenLogprob[] | null;
}

/** What makes a choice quicker and does not change it. */
export interface SampleHelp {
  /** What the device found out about the row. */
  readonly summary?: RowSummary | undefined;
  /** Memory to work in. */
  readonly scratch?: SamplerScratch;
}

/**
 * Chooses a token. The state does not change; `state.accept` counts the choice in.
 *
 * @throws {InvalidLogitsError} The row holds NaN or +Infinity, or nothing but −Infinity.
 * @throws {InvalidParameterError} What the request asks for leaves no token, or not the forced one;
 *   or a logits processor returned something else than a row.
 */
export function sample(row: Float32Array, state: SamplingState, help: SampleHelp = {}): Sample {
  const known = new KnownRow(row, help.summary);
  known.check();
  const scratch = help.scratch ?? new SamplerScratch();
  const adjusted = adjust(row, state, scratch);
  const tokenId = state.params.forcedTokenIds === null
    ? choose(
      { base: adjusted.base === row ? known : new KnownRow(adjusted.base), adjusted },
      state,
      scratch,
    )
    : forcedToken(adjusted, state);
  const { logprobs, logprobTokenIds } = state.params;
  if (logprobs === null) return { tokenId, logprobs };
  return {
    tokenId,
    logprobs: logprobTokenIds === null
      ? knownLogprobs(known, tokenId, logprobs)
      : logprobsOf(known.logits, [tokenId, ...logprobTokenIds.filter((id) => id !== tokenId)]),
  };
}

/**
 * The row after bans, bias, processors and penalties, as a beam search takes its log-softmax of it:
 * the row itself where nothing changes it, otherwise a row of its own.
 *
 * @throws {InvalidParameterError} A processor returned something else than a row, or the penalty on
 *   repetition brings a logit to +Infinity or NaN.
 * @throws {InvalidLogitsError} A processor left NaN or +Infinity.
 */
export function adjustRow(row: Float32Array, state: SamplingState): Float32Array {
  const adjusted = adjust(row, state);
  return adjusted.base === row && adjusted.ids.length === 0 && !adjusted.isList
    ? row
    : materialize(adjusted);
}

function choose(choice: Choice, state: SamplingState, scratch: SamplerScratch): number {
  const { params, scale } = state;
  const { id, logit: max } = largest(choice);
  if (max === -Infinity) throw nothingLeft(state);
  if (params.temperature === 0) return id;
  if (filters(params)) {
    const { minP, topK, topP } = params;
    const filtered = filterRow(choice, { minP, topK, topP, max, scale }, scratch);
    return drawFromCandidates(filtered, state, scratch);
  }
  if (choice.adjusted.isList) {
    const count = collect(choice, -Infinity, scratch);
    weigh(count, { max, scale }, scratch);
    return drawFromCandidates(
      { cut: { value: -Infinity, equalCount: Infinity }, count },
      state,
      scratch,
    );
  }
  return drawFromRow(choice, { max, scale }, state, scratch);
}

function drawFromRow(
  choice: Choice,
  weights: WeightScale,
  state: SamplingState,
  scratch: SamplerScratch,
): number {
  const mass = measureMass(choice, weights, scratch);
  const point = uniform(state.seed, state.outputCount) * mass;
  return drawFromMass(choice, { ...weights, point }, scratch);
}

/** Draws among the candidates that stay: inverts the cumulative distribution, in the order of ids. */
function drawFromCandidates(
  { cut, count }: Filtered,
  state: SamplingState,
  { ids, logits, weights }: SamplerScratch,
): number {
  const { value } = cut;
  let equalsLeft = cut.equalCount;
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const logit = logits[i]!;
    // Nobody can predict which stay: a product is quicker than a branch.
    if (logit !== value || equalsLeft-- <= 0) weights[i]! *= +(logit > value);
    sum += weights[i]!;
  }
  const point = uniform(state.seed, state.outputCount) * sum;
  sum = 0;
  let last = 0;
  for (let i = 0; i < count; i++) {
    sum += weights[i]!;
    if (sum > point) return ids[i]!;
    if (weights[i]! > 0) last = i;
  }
  // uniform() is below 1 by at least 2⁻⁵³: only a rounding can lead here.
  return ids[last]!;
}

/** Names what a request asks for where that leaves no token; else the row is to blame. */
export function nothingLeft(state: SamplingState): Error {
  const bans = bansInUse(state);
  const [first] = bans;
  const message = "Cannot choose a token: none is possible";
  return first === undefined
    ? new InvalidLogitsError(message)
    : new InvalidParameterError(first, undefined, `${message} with ${bans.join(", ")}`);
}
