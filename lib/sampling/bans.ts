/** Which tokens must not come next, whatever their logits. */

import type { SamplingState } from "./state.ts";

/** Whether the tokens that end the output are still banned. */
export function isTooShort({ outputCount, params }: SamplingState): boolean {
  return outputCount < params.minTokens;
}

/**
 * The ids that bad words and `minTokens` ban now, in no order, some perhaps twice. What is beyond
 * `allowedTokenIds` is not among them: it would be nearly all of the vocabulary.
 */
export function bannedIds(state: SamplingState): readonly number[] {
  const { badTokenSequences, stopTokenIds } = state.params;
  const tooShort = isTooShort(state);
  if (badTokenSequences.length === 0 && !tooShort) return NONE;
  const ids = tooShort ? [...state.endTokenIds, ...stopTokenIds] : [];
  for (const sequence of badTokenSequences) {
    if (endsWithStart(state.outputTokenIds, sequence)) ids.push(sequence.at(-1)!);
  }
  return ids;
}

/**
 * Whether an output, of which the first `length` tokens count, ends with all of a sequence but its
 * last token, which would complete it.
 */
export function endsWithStart(
  outputTokenIds: readonly number[],
  sequence: readonly number[],
  length: number = outputTokenIds.length,
): boolean {
  const start = length - (sequence.length - 1);
  if (start < 0) return false;
  for (let i = 0; i < sequence.length - 1; i++) {
    if (outputTokenIds[start + i] !== sequence[i]) return false;
  }
  return true;
}

const NONE: readonly number[] = Object.freeze([]);
