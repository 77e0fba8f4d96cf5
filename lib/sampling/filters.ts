/**
 * Which tokens may be drawn: min-p, then top-k, then top-p, on logits times a scale (which is
 * 1 / temperature).
 *
 * All three keep the most likely tokens and drop the rest, so that what remains is described by
 * one number, the smallest logit that stays. No row is sorted as a whole: a guess at that number
 * says which tokens can stay at all, and if these turn out to be too few, the guess was too high
 * and a lower one takes its place. The answer does not depend on the guess.
 */

import { powerOfTwo } from "../base/row_summary.ts";
import { invariant } from "../base/invariant.ts";
import { type Choice, collect, topFloor } from "./candidates.ts";
import { measureMass, weigh, type WeightScale } from "./mass.ts";
import { BIN_COUNT, type SamplerScratch } from "./scratch.ts";
import { kthLargest } from "./top_values.ts";

/** The settings of the three filters. */
export interface FilterParams {
  /** 0: off. */
  readonly minP: number;
  /** 0: off. */
  readonly topK: number;
  /** 1: off. */
  readonly topP: number;
}

/** What stays: every logit above `value`, and of those equal to it the first `equalCount` ids. */
export interface Cut {
  readonly value: number;
  readonly equalCount: number;
}

/** Whether some filter is on. */
export function filters({ minP, topK, topP }: FilterParams): boolean {
  return minP > 0 || topK > 0 || topP < 1;
}

/** What is left of a row. */
export interface Filtered {
  readonly cut: Cut;
  /** All tokens that stay are among so many candidates in the scratch memory, with their weights. */
  readonly count: number;
}

/** Applies the filters in their order. At least one token stays. */
export function filterRow(
  choice: Choice,
  params: FilterParams & WeightScale,
  scratch: SamplerScratch,
): Filtered {
  const { base, adjusted } = choice;
  const topK = params.topK < base.logits.length ? params.topK : 0;
  const least = minPValue(params);
  // Top-p alone asks for a share of the whole row; the others leave less than that.
  const isShare = topK === 0 && params.minP === 0 && params.topP < 1 && !adjusted.isList;
  const whole = isShare ? measureMass(choice, params, scratch) : undefined;
  const options = { ...params, topK, least, whole };
  for (const floor of guesses(choice, options)) {
    const count = collect(choice, floor, scratch);
    const cut = cutCandidates(count, { ...options, floor }, scratch);
    if (cut !== undefined) return { cut, count };
  }
  const count = collect(choice, least, scratch);
  const cut = cutCandidates(count, { ...options, floor: undefined }, scratch);
  invariant(cut !== undefined, "Filters leave no token");
  return { cut, count };
}

/** p ≥ minP · pMax, written in logits: (logit − max) · scale ≥ log(minP). */
function minPValue({ max, scale, minP }: FilterParams & WeightScale): number {
  return minP === 0 ? -Infinity : max + Math.log(minP) / scale;
}

interface FilterOptions extends FilterParams, WeightScale {
  /** Where min-p cuts. */
  readonly least: number;
  /** The mass that top-p takes a share of, where that is the whole row's. */
  readonly whole: number | undefined;
}

/** Logits that all which stay may be above: first the one that costs nothing to try. */
function* guesses(choice: Choice, options: FilterOptions): Generator<number> {
  const { least, topK, whole } = options;
  // Min-p says itself where it cuts.
  if (choice.adjusted.isList || (topK === 0 && whole === undefined)) return;
  const top = topFloor(choice);
  if (top !== undefined && top > least) yield top;
  if (choice.base.top?.isWhole === true) return;
  const guess = guessFloor(choice, options);
  if (guess > least && guess < (top ?? Infinity)) yield guess;
}

/** Every so manieth logit is looked at to guess: a prime, as vocabularies have their patterns. */
const SAMPLE_STEP = 7;
const GUESS_BINS = 1024;
/** Bins for a difference of 1 between logits. */
const GUESS_BINS_PER_LOGIT = 16;

/** From a sample of the row: below it there should be less than what may be dropped. */
function guessFloor({ base: { logits } }: Choice, options: FilterOptions): number {
  const { max, scale, topK, topP, whole } = options;
  const bins = new Int32Array(GUESS_BINS);
  for (let id = 0; id < logits.length; id += SAMPLE_STEP) {
    const depth = (max - logits[id]!) * GUESS_BINS_PER_LOGIT;
    bins[depth < 0 ? 0 : depth < GUESS_BINS ? depth | 0 : GUESS_BINS - 1]!++;
  }
  const floorOf = (bin: number): number => max - bin / GUESS_BINS_PER_LOGIT;
  if (whole === undefined) {
    const expected = topK / SAMPLE_STEP;
    const wanted = 1.2 * expected + 3 * Math.sqrt(expected) + 3;
    let count = 0;
    for (let bin = 0; bin < GUESS_BINS - 1; bin++) {
      count += bins[bin]!;
      if (count >= wanted) return floorOf(bin + 1);
    }
    return -Infinity;
  }
  const droppable = (1 - topP) * whole * 0.7 / SAMPLE_STEP;
  let mass = 0;
  for (let bin = GUESS_BINS - 1; bin >= 0; bin--) {
    mass += bins[bin]! * powerOfTwo(-bin / GUESS_BINS_PER_LOGIT * scale * Math.LOG2E);
    if (mass > droppable) return bin === GUESS_BINS - 1 ? -Infinity : floorOf(bin + 1);
  }
  return max;
}

interface CutOptions extends FilterOptions {
  /** All tokens at least this large are candidates; undefined: all that min-p leaves. */
  readonly floor: number | undefined;
}

/** Weighs the candidates and cuts; undefined if others than the candidates may stay. */
function cutCandidates(
  count: number,
  options: CutOptions,
  scratch: SamplerScratch,
): Cut | undefined {
  const { topK, least, floor, topP } = options;
  if (floor !== undefined && count < topK) return undefined;
  const logits = scratch.logits.subarray(0, count);
  // Min-p keeps the most likely tokens too: the k-th largest of the row, if it stayed, is the
  // k-th largest of what stayed; ties with it stay.
  const value = topK > 0 && count > topK ? Math.max(kthLargest(logits, topK), least) : least;
  weigh(count, { max: options.max, scale: options.scale, least: value }, scratch);
  return topP === 1 ? { value, equalCount: Infinity } : topPCut(logits, value, options, scratch);
}

/** Bins that make up a factor of e. */
const BINS_PER_E = 64;

/**
 * The fewest most likely tokens whose mass reaches topP of the mass that is left; of equal ones
 * the lower ids stay. A histogram over the logits finds the bin in which the mass is reached; only
 * the values in that bin are sorted. Undefined if that bin may hold more than the candidates.
 */
function topPCut(
  logits: Float32Array,
  least: number,
  { max, scale, topP, floor, whole }: CutOptions,
  { bins, weights }: SamplerScratch,
): Cut | undefined {
  const rate = scale * BINS_PER_E;
  bins.fill(0);
  for (let i = 0; i < logits.length; i++) {
    bins[binOf((max - logits[i]!) * rate)]! += weights[i]!;
  }
  const mass = topP * (whole ?? sumOf(bins));
  let sum = 0;
  let bin = 0;
  while (bin < BIN_COUNT - 1 && sum + bins[bin]! < mass) sum += bins[bin++]!;
  const isUnsure = whole !== undefined && floor !== undefined;
  if (isUnsure && bin >= binOf((max - floor) * rate)) return undefined;
  const end = bin === BIN_COUNT - 1 ? Infinity : bin + 1;
  const found: number[] = [];
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i]!;
    const depth = (max - logit) * rate;
    if (depth >= bin && depth < end && logit >= least) found.push(logit);
  }
  const inBin = Float32Array.from(found).sort().reverse();
  let equalCount = 0;
  for (const [index, logit] of inBin.entries()) {
    equalCount = logit === inBin[index - 1] ? equalCount + 1 : 1;
    sum += powerOfTwo((logit - max) * (scale * Math.LOG2E));
    if (sum >= mass) return { value: logit, equalCount };
  }
  // Added up in another order, the bin may miss the mass by a rounding: all of it stays.
  return { value: inBin.at(-1) ?? least, equalCount: Infinity };
}

function sumOf(values: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return sum;
}

/** Less likely tokens are in later bins; the last one takes all that are too unlikely to matter. */
function binOf(depth: number): number {
  return depth < BIN_COUNT ? depth | 0 : BIN_COUNT - 1;
}
