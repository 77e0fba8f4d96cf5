/**
 * Beam search by brute force, written down from its rules: every continuation is ranked, nothing is
 * left out early, and each sequence carries its own tokens.
 */

import { logSumExp } from "../../lib/base/row_summary.ts";
import type { EarlyStopping } from "../../lib/sampling/param_options.ts";

export interface ReferenceSearch {
  readonly width: number;
  readonly lengthPenalty: number;
  readonly earlyStopping: EarlyStopping;
  readonly endTokenIds: readonly number[];
  readonly maxTokens: number;
  /** The logits after the prompt and these generated tokens, bans and penalties applied. */
  readonly rowAfter: (generated: readonly number[]) => Float32Array;
  /** Gone through to the greatest length in any case. Default false. */
  readonly neverStops?: boolean;
  /** At the greatest length all live sequences are finished as well. Default false. */
  readonly finishesLive?: boolean;
}

export interface ReferenceHypothesis {
  readonly ids: readonly number[];
  readonly sum: number;
  readonly score: number;
  readonly isEnded: boolean;
}

interface Ranked {
  readonly ids: readonly number[];
  readonly sum: number;
  readonly parent: number;
  readonly isEnd: boolean;
}

/** Log-probabilities in float32. */
export function logSoftmax(row: Float32Array): Float32Array {
  const normalizer = logSumExp(row);
  return row.map((logit) => logit - normalizer);
}

/** All hypotheses the search keeps, best first. */
export function referenceBeamSearch(search: ReferenceSearch): ReferenceHypothesis[] {
  const { width, lengthPenalty, earlyStopping, endTokenIds, maxTokens } = search;
  const score = (sum: number, length: number) =>
    sum === 0 ? 0 : Math.fround(sum / length ** lengthPenalty);
  let live: readonly { readonly ids: readonly number[]; readonly sum: number }[] = [
    { ids: [], sum: 0 },
  ];
  let finished: ReferenceHypothesis[] = [];
  for (let length = 1; length <= maxTokens && live.length > 0; length++) {
    const ranking = live.flatMap(({ ids, sum }, parent) =>
      Array.from(logSoftmax(search.rowAfter(ids)), (logprob, id): Ranked => ({
        ids: [...ids, id],
        sum: Math.fround(sum + logprob),
        parent,
        isEnd: endTokenIds.includes(id),
      }))
    ).filter(({ sum }) => sum > -Infinity).sort((a, b) =>
      b.sum - a.sum || a.parent - b.parent || a.ids.at(-1)! - b.ids.at(-1)!
    );
    live = ranking.filter((it) => !it.isEnd).slice(0, width);
    const isLast = length === maxTokens;
    const hypotheses = ranking.filter((it, rank) =>
      (rank < width && (it.isEnd || isLast)) || (isLast && search.finishesLive && live.includes(it))
    ).map(({ ids, sum, isEnd }) => ({ ids, sum, score: score(sum, length), isEnded: isEnd }));
    finished = [...finished, ...hypotheses];
    while (finished.length > width) {
      // The worst goes; of equals the one that came last.
      const worst = Math.min(...finished.map((it) => it.score));
      finished.splice(finished.findLastIndex((it) => it.score === worst), 1);
    }
    if (finished.length < width || live.length === 0 || search.neverStops) continue;
    const worst = Math.min(...finished.map((it) => it.score));
    const best = live[0]!.sum;
    const bound = earlyStopping === "never" && lengthPenalty > 0 ? maxTokens : length;
    if (earlyStopping === true || score(best, bound) <= worst) break;
  }
  return finished
    .map((hypothesis, age) => ({ hypothesis, age }))
    .sort((a, b) => b.hypothesis.score - a.hypothesis.score || a.age - b.age)
    .map(({ hypothesis }) => hypothesis);
}
