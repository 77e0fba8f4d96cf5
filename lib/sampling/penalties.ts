/** The penalties on tokens that were there before, one logit at a time. */

import type { SamplingState } from "./state.ts";

/**
 * The logit of a token of `state.penalizedIds` after the penalties, each rounded to float32 as in a
 * row: on repetition, on frequency, on presence.
 *
 * A token has its repetition penalty once, however often it is in prompt and output; those on
 * frequency and presence do not look at the prompt.
 */
export function penalize(logit: number, tokenId: number, state: SamplingState): number {
  const { repetitionPenalty, frequencyPenalty, presencePenalty } = state.params;
  let value = logit;
  if (repetitionPenalty !== 1) {
    value = Math.fround(value > 0 ? value / repetitionPenalty : value * repetitionPenalty);
  }
  if (frequencyPenalty === 0 && presencePenalty === 0) return value;
  const count = state.outputCountOf(tokenId);
  if (count === 0) return value;
  value = Math.fround(value - frequencyPenalty * count);
  return Math.fround(value - presencePenalty);
}
