/**
 * Which tokens may be drawn: min-p, then top-k, then top-p, on logits divided by a temperature.
 *
 * All three keep the most likely tokens and drop the rest, so that what remains is described by
 * one number, the smallest logit that stays. The row is read, never written, and never sorted as
 * a whole.
 */

import { kthLargest } from "./top_values.ts";

/** The settings of the three filters. */
export interface FilterParams {
  /** Greater than 0. */
  readonly temperature: number;
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

/** Applies the filters in their order. `max` is the row's largest value. At least one token stays. */
export function cutRow(row: Float32Array, max: number, params: FilterParams): Cut {
  let value = minPValue(max, params);
  if (params.topK > 0 && params.topK < row.length) {
    // Min-p keeps the most likely tokens too: the k-th largest of the row, if it stayed, is the
    // k-th largest of what stayed; ties with it stay.
    value = Math.max(value, kthLargest(row, params.topK));
  }
  const cut = { value, equalCount: Infinity };
  return params.topP < 1 ? topPCut(row, max, cut, params) : cut;
}

/** p ≥ minP · pMax, written in logits: (value − max) / temperature ≥ log(minP). */
function minPValue(max: number, { minP, temperature }: FilterParams): number {
  return minP === 0 ? -Infinity : max + temperature * Math.log(minP);
}

/** Bins of {@linkcode topPCut}, and how many make up a factor of e. */
const BIN_COUNT = 4096;
const BINS_PER_E = 64;

/**
 * The fewest most likely tokens whose mass reaches topP of the mass that is left; of equal ones
 * the lower ids stay. A histogram over the logits finds the bin in which the mass is reached; only
 * the values in that bin are sorted.
 */
function topPCut(
  row: Float32Array,
  max: number,
  cut: Cut,
  { temperature, topP }: FilterParams,
): Cut {
  const bins = new Float64Array(BIN_COUNT);
  for (let id = 0; id < row.length; id++) {
    const value = row[id]!;
    if (value < cut.value) continue;
    const depth = (max - value) / temperature;
    bins[binOf(depth)]! += Math.exp(-depth);
  }
  const mass = topP * bins.reduce((sum, binMass) => sum + binMass, 0);
  let sum = 0;
  let bin = 0;
  while (bin < BIN_COUNT - 1 && sum + bins[bin]! < mass) sum += bins[bin++]!;
  const inBin = row.filter((value) =>
    value >= cut.value && binOf((max - value) / temperature) === bin
  );
  let equalCount = 0;
  for (const [index, value] of inBin.sort().reverse().entries()) {
    equalCount = value === inBin[index - 1] ? equalCount + 1 : 1;
    sum += Math.exp((value - max) / temperature);
    if (sum >= mass) return { value, equalCount };
  }
  // Added up in another order, the bin may miss the mass by a rounding: all of it stays.
  return { value: inBin.at(-1) ?? cut.value, equalCount: Infinity };
}

/** Less likely tokens are in later bins; the last one takes all that are too unlikely to matter. */
function binOf(depth: number): number {
  return Math.min(Math.floor(depth * BINS_PER_E), BIN_COUNT - 1);
}
