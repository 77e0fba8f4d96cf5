/**
 * A beam search among the engine's requests: each live beam is a sequence that is scheduled by
 * itself. A round is over when the rows of all of them are in, after one step or several. Then the
 * beams that go on get their next token, those that part get a sequence more, and those that were
 * left behind give their blocks back.
 */

import { invariant } from "../base/invariant.ts";
import {
  advanceSearch,
  type BeamRules,
  type BeamState,
  type BeamToken,
  type Continuation,
  type Hypothesis,
  SEARCH_START,
} from "../sampling/beam.ts";
import { continuationsOf, type SummarizedRow } from "../sampling/continuations.ts";
import type { BeamParams } from "../sampling/resolved_params.ts";
import type { Request, RequestLimits, TokenEvent } from "./request.ts";
import type { Scheduler } from "./scheduler.ts";

/** One search. */
export class BeamRun {
  readonly #rules: BeamRules;
  /** How many of the hypotheses are told. */
  readonly #toldCount: number;
  /** The model's own, which have no names as reasons to stop. */
  readonly #endTokenIds: readonly number[];
  #state: BeamState = SEARCH_START;
  /** The sequences of the state's live beams. */
  #live: readonly Request[];
  /** What may follow each of them, as far as the rows are in. */
  #continuations: (readonly Continuation[] | undefined)[] = [undefined];

  constructor(first: Request, beam: BeamParams, { maxTokens, endTokenIds }: RequestLimits) {
    const { n, ignoreEos, stopTokenIds } = first.params;
    this.#rules = {
      ...beam,
      maxTokens,
      endTokenIds: new Set(ignoreEos ? [] : [...endTokenIds, ...stopTokenIds]),
    };
    this.#toldCount = n;
    this.#endTokenIds = endTokenIds;
    this.#live = [first];
  }

  /** Takes in the row after a live beam. Whether that was the last one of the round. */
  offer(beam: Request, row: SummarizedRow): boolean {
    const place = this.#live.indexOf(beam);
    invariant(place >= 0 && this.#continuations[place] === undefined, "A beam has a row too many");
    this.#continuations[place] = continuationsOf(row, {
      ...this.#rules,
      sum: this.#state.live[place]!.sum,
      state: beam.sampling,
    });
    return this.#continuations.every((known) => known !== undefined);
  }

  /**
   * Ends a round: `members`, the sequences of the request, become the live beams of the next one.
   *
   * @returns What is told at the end of the search; undefined if it goes on.
   */
  advance(scheduler: Scheduler, members: Set<Request>): TokenEvent[] | undefined {
    const continuations = this.#continuations.map((known) => known ?? []);
    this.#state = advanceSearch(this.#state, continuations, this.#rules);
    const { live } = this.#state;
    if (live.length === 0) return this.#events();
    const parents = this.#live;
    for (const [place, beam] of parents.entries()) {
      if (live.some(({ parent }) => parent === place)) continue;
      scheduler.remove(beam);
      members.delete(beam);
    }
    // The best continuation of a beam goes on with its sequence; the others branch off.
    this.#live = live.map(({ parent }, rank) => {
      const beam = parents[parent]!;
      if (live.findIndex((other) => other.parent === parent) === rank) return beam;
      const branch = beam.branch(rank);
      scheduler.fork(beam, branch);
      members.add(branch);
      return branch;
    });
    for (const [rank, beam] of this.#live.entries()) {
      beam.index = rank;
      beam.append(live[rank]!.last!.tokenId);
      if (beam.state === "parked") scheduler.enqueue(beam);
    }
    this.#continuations = live.map(() => undefined);
    return undefined;
  }

  /** The best hypotheses, one after another. */
  #events(): TokenEvent[] {
    return this.#state.finished.slice(0, this.#toldCount).flatMap((hypothesis, index) =>
      tokensOf(hypothesis).map(({ tokenId, report }, place, { length }): TokenEvent => {
        const isLast = place === length - 1;
        const isStopToken = isLast && hypothesis.isEnded && !this.#endTokenIds.includes(tokenId);
        return {
          index,
          tokenId,
          logprobs: report &&
            [report.chosen, ...report.top.filter((other) => other.tokenId !== tokenId)],
          finishReason: isLast ? hypothesis.isEnded ? "stop" : "length" : null,
          stopReason: isStopToken ? tokenId : null,
        };
      })
    );
  }
}

function tokensOf({ last }: Hypothesis): BeamToken[] {
  const tokens: BeamToken[] = [];
  for (let token: BeamToken | null = last; token !== null; token = token.previous) {
    tokens.push(token);
  }
  return tokens.reverse();
}
