/** The penalties on tokens that were there before, one logit at a time. */

import type { ResolvedSamplingParams } from "./resolved_params.ts";

/**
 * The logit of a token that was seen after the penalties, each rounded to float32 as in a row: on
 * repetition, on frequency, on presence.
 *
 * A token has its repetition penalty once, however often it is in prompt and output; those on
 * frequency and presence do not look at the prompt.
 *
 * @param outputCount How often the output has the token.
 */
export function penalize(
  logit: number,
  outputCount: number,
  params: ResolvedSamplingParams,
): number {
  const { repetitionPenalty, frequencyPenalty, presencePenalty } = params;
  let value = logit;
  if (repetitionPenalty !== 1) {
    value = Math.fround(value > 0 ? value / repetitionPenalty : value * repetitionPenalty);
  }
  if (outputCount === 0) return value;
  value = Math.fround(value - frequencyPenalty * outputCount);
  return Math.fround(value - presencePenalty);
}
