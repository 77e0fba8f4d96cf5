/** Whether an output has begun to say the same again and again. */

import type { RepetitionDetection } from "./param_options.ts";

/**
 * Whether the last tokens are one pattern, `minCount` times over.
 *
 * @param tokenIds ends with the output
 * @param outputCount tokens of the output
 *
 * A pattern of length p is repeated where each token equals the one p before it, so only the run of
 * such equalities at the end has to be counted: p · (minCount − 1) of them.
 */
export function endsInRepetition(
  tokenIds: readonly number[],
  outputCount: number,
  { maxPatternSize, minPatternSize = 0, minCount }: RepetitionDetection,
): boolean {
  for (let size = Math.max(1, minPatternSize); size <= maxPatternSize; size++) {
    if (size * minCount > outputCount) return false; // longer patterns do not fit either
    if (equalRun(tokenIds, size, size * (minCount - 1))) return true;
  }
  return false;
}

/** Whether each of the last `count` tokens equals the one `distance` before it. */
function equalRun(tokenIds: readonly number[], distance: number, count: number): boolean {
  for (let at = tokenIds.length - 1; at >= tokenIds.length - count; at--) {
    if (tokenIds[at] !== tokenIds[at - distance]) return false;
  }
  return true;
}
