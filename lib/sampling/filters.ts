/**
 * Which tokens may be drawn: min-p, then top-k, then top-p, on logits divided by a temperature.
 *
 * All three keep the most likely tokens and drop the rest, so that what remains is described by
 * one number, the smallest logit that stays. The row is read, never written, and never sorted
 * as a whole unless the distribution is flat.
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

/**
 * The fewest most likely tokens whose mass reaches topP of the mass that is left; of equal ones
 * the lower ids stay. Only the head of the distribution is sorted: first what is within a factor
 * e of the most likely token, then e², e⁴, … until there is enough.
 */
function topPCut(row: Float32Array, max: number, cut: Cut, params: FilterParams): Cut {
  const { temperature, topP } = params;
  let total = 0;
  for (let id = 0; id < row.length; id++) {
    const value = row[id]!;
    if (value >= cut.value) total += Math.exp((value - max) / temperature);
  }
  for (let depth = 1;; depth *= 2) {
    // Beyond exp(−745) everything is 0 in double precision.
    const bound = depth > 745 ? cut.value : Math.max(cut.value, max - depth * temperature);
    const head = valuesFrom(row, bound).sort();
    const found = massCut(head, { max, temperature, mass: topP * total });
    if (found !== undefined) return found;
    if (bound === cut.value) return cut; // rounding: the whole just misses its own share
  }
}

/** Walks down from the largest value of an ascending list until the mass is reached. */
function massCut(
  head: Float32Array,
  { max, temperature, mass }: { max: number; temperature: number; mass: number },
): Cut | undefined {
  let sum = 0;
  let equalCount = 0;
  for (let index = head.length - 1; index >= 0; index--) {
    const value = head[index]!;
    equalCount = value === head[index + 1] ? equalCount + 1 : 1;
    sum += Math.exp((value - max) / temperature);
    if (sum >= mass) return { value, equalCount };
  }
  return undefined;
}

function valuesFrom(row: Float32Array, bound: number): Float32Array {
  const values = new Float32Array(row.length);
  let count = 0;
  for (let id = 0; id < row.length; id++) {
    if (row[id]! >= bound) values[count++] = row[id]!;
  }
  return values.subarray(0, count);
}
