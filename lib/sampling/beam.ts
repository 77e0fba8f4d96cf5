/**
 * Beam search, as plain data: the continuations of the live sequences in, who lives on and what is
 * finished out. Who computes the rows, and when, is not known here.
 *
 * One step, from length g − 1 to g, with w the width:
 *
 * 1. rank all continuations by their sum: of equals the one of the better-ranked live sequence
 *    first, then the smaller token id
 * 2. rank ≤ w and an end token: a hypothesis. Below rank w an end token is lost. At the greatest
 *    length every continuation of rank ≤ w is a hypothesis
 * 3. finished: the best w hypotheses by score, sum / g^lengthPenalty; of equals the older one first
 * 4. live: the best w continuations without an end token
 * 5. over, if g is the greatest length, or if `finished` is full and `earlyStopping` says so
 *
 * Sums and scores are rounded to float32, as where the rule comes from: so are equalities.
 */

import type { TokenLogprob } from "./logprobs.ts";
import type { EarlyStopping } from "./param_options.ts";

/** What a search goes by. */
export interface BeamRules {
  readonly width: number;
  /** The exponent of the length that a sum is divided by. */
  readonly lengthPenalty: number;
  readonly earlyStopping: EarlyStopping;
  readonly endTokenIds: ReadonlySet<number>;
  /** Most tokens of a hypothesis. At least 1. */
  readonly maxTokens: number;
}

/** One token more for a live sequence. */
export interface Continuation {
  readonly tokenId: number;
  /** Σ of the log-probabilities of all tokens generated, this one included; finite. */
  readonly sum: number;
  readonly report: LogprobReport | null;
}

/** What is told of a token's log-probability, where that was asked for. */
export interface LogprobReport {
  readonly chosen: TokenLogprob;
  /** The most likely tokens of the row; may hold the chosen one. All tokens of a row share it. */
  readonly top: readonly TokenLogprob[];
}

/** The last token of a sequence, and the way back to the first one: sequences share beginnings. */
export interface BeamToken {
  readonly previous: BeamToken | null;
  readonly tokenId: number;
  readonly report: LogprobReport | null;
}

/** A sequence that goes on. */
export interface LiveBeam {
  /** Its place among the live sequences of the step before. */
  readonly parent: number;
  readonly sum: number;
  /** null: no token yet. */
  readonly last: BeamToken | null;
}

/** A sequence that is finished; its score never changes. */
export interface Hypothesis {
  readonly score: number;
  readonly last: BeamToken;
  /** Whether its last token is an end token; otherwise it is as long as may be. */
  readonly isEnded: boolean;
}

/** A search between two steps. */
export interface BeamState {
  /** Tokens that each live sequence has. */
  readonly length: number;
  /** Best first. Empty once the search is over. */
  readonly live: readonly LiveBeam[];
  /** Best first, at most as many as the search is wide. */
  readonly finished: readonly Hypothesis[];
}

/** One empty sequence: the first step ranks its continuations, not those of copies. */
export const SEARCH_START: BeamState = {
  length: 0,
  live: [{ parent: 0, sum: 0, last: null }],
  finished: [],
};

/**
 * One token further.
 *
 * @param state Before the step; it does not change.
 * @param continuations Those of each live sequence, descending, of equal sums the smaller id first.
 * A sequence's best `width` without an end token, and the end tokens that come before the last of
 * those, are enough. At least one sequence has some.
 * @param rules The same for all steps of a search.
 */
export function advanceSearch(
  state: BeamState,
  continuations: readonly (readonly Continuation[])[],
  rules: BeamRules,
): BeamState {
  const { width, endTokenIds, maxTokens } = rules;
  const length = state.length + 1;
  const live: LiveBeam[] = [];
  const hypotheses: Hypothesis[] = [];
  let rank = 0;
  for (const { parent, tokenId, sum, report } of ranked(continuations)) {
    rank++;
    const isEnded = endTokenIds.has(tokenId);
    const last = { previous: state.live[parent]!.last, tokenId, report };
    if (rank <= width && (isEnded || length === maxTokens)) {
      hypotheses.push({ score: scoreOf(sum, length, rules), last, isEnded });
    }
    if (!isEnded) live.push({ parent, sum, last });
    if (live.length === width) break;
  }
  const finished = [...state.finished, ...hypotheses].sort(byScore).slice(0, width);
  const isOver = length === maxTokens ||
    (finished.length === width && mayStop(live, finished, length, rules));
  return { length, live: isOver ? [] : live, finished };
}

/** All continuations, best first: the lists are sorted already, so their heads are compared. */
function* ranked(
  lists: readonly (readonly Continuation[])[],
): Generator<Continuation & { readonly parent: number }, void, void> {
  const heads = new Int32Array(lists.length);
  while (true) {
    let parent = -1;
    let best = -Infinity;
    for (let index = 0; index < lists.length; index++) {
      const head = lists[index]![heads[index]!];
      if (head === undefined || head.sum <= best) continue;
      parent = index;
      best = head.sum;
    }
    if (parent < 0) return;
    yield { ...lists[parent]![heads[parent]!++]!, parent };
  }
}

/** A search without live sequences is over whatever the mode. */
function mayStop(
  live: readonly LiveBeam[],
  finished: readonly Hypothesis[],
  length: number,
  rules: BeamRules,
): boolean {
  const { earlyStopping, lengthPenalty, maxTokens } = rules;
  const best = live[0];
  if (best === undefined || earlyStopping === true) return true;
  const lengthAtBest = earlyStopping === "never" && lengthPenalty > 0 ? maxTokens : length;
  return scoreOf(best.sum, lengthAtBest, rules) <= finished.at(-1)!.score;
}

/** A sum of 0, which is certainty, scores 0 however far the power overflows. */
function scoreOf(sum: number, length: number, { lengthPenalty }: BeamRules): number {
  return sum === 0 ? 0 : Math.fround(sum / length ** lengthPenalty);
}

/** Descending. Sorting is stable: of equals the one that was there first stays first. */
function byScore(a: Hypothesis, b: Hypothesis): number {
  return a.score === b.score ? 0 : b.score > a.score ? 1 : -1;
}
