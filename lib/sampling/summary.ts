/** What the choice of a token asks the device to find out about a row, besides its logits. */

import { drawNeed, SUMMARY_NEED, type SummaryNeed } from "../base/row_summary.ts";
import { filters } from "./filters.ts";
import type { SamplingState } from "./state.ts";

/**
 * The largest logits always help. Sums are needed for log-probabilities, and for a draw that
 * depends on the mass of the whole row: without filters, or with top-p alone.
 */
export function summaryNeed({ params, scale, allowedIds }: SamplingState): SummaryNeed {
  const { temperature, minP, topK, logprobs } = params;
  const chooses = temperature > 0 && params.forcedTokenIds === null;
  const dependsOnMass = !filters(params) || (minP === 0 && topK === 0);
  if (chooses && dependsOnMass && allowedIds === null) {
    return drawNeed(scale, { logprobs: logprobs !== null });
  }
  return logprobs === null ? SUMMARY_NEED.top : SUMMARY_NEED.logprobs;
}
