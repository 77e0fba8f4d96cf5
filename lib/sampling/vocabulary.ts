/** Token ids among the parameters against the vocabulary of the model that they are for. */

import { refuse } from "./param_checks.ts";
import type { ResolvedSamplingParams } from "./resolved_params.ts";

/**
 * Refuses ids that the vocabulary does not have, where these would have an effect: an end token that
 * can never come does not disturb anyone.
 *
 * @throws {InvalidParameterError} Names the parameter.
 */
export function checkTokenIds(params: ResolvedSamplingParams, vocabSize: number): void {
  const { logitBias, allowedTokenIds, forcedTokenIds, logprobTokenIds } = params;
  const lists = [
    ["logitBias", logitBias.keys()],
    ["allowedTokenIds", allowedTokenIds ?? []],
    ["forcedOutput", forcedTokenIds ?? []],
    ["logprobTokenIds", logprobTokenIds ?? []],
  ] as const;
  for (const [field, ids] of lists) {
    for (const id of ids) {
      if (id < vocabSize) continue;
      refuse(field, id, `token id ${id} is out of vocabulary: ids are from 0 to ${vocabSize - 1}`);
    }
  }
}
