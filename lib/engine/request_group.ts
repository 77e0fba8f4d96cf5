/** The sequences of one request: what they share, and what its reader is told of them. */

import type { Channel } from "../base/channel.ts";
import type { Sample } from "../sampling/sampler.ts";
import { BeamRun } from "./beam_run.ts";
import {
  type EngineRequest,
  type Finish,
  type PromptEvent,
  Request,
  type RequestLimits,
  type TokenEvent,
} from "./request.ts";

/** A request: one sequence until its prompt is computed. */
export class RequestGroup {
  readonly id: string;
  readonly channel: Channel<TokenEvent>;
  /** The sequence that computes the prompt. */
  readonly first: Request;
  /** The sequences that have not ended. */
  readonly members: Set<Request>;
  /** null: tokens are drawn one after another. */
  readonly search: BeamRun | null;
  /** Indices that were dropped before there was a sequence to end. */
  readonly #dropped = new Set<number>();
  #hasBranched = false;
  #isPromptTold = false;

  constructor(request: EngineRequest, limits: RequestLimits, channel: Channel<TokenEvent>) {
    this.id = request.id;
    this.channel = channel;
    this.first = new Request(request, limits);
    this.members = new Set([this.first]);
    const { beam } = request.params;
    this.search = beam && new BeamRun(this.first, beam, limits);
  }

  /** Whether the first sequence has computed the prompt, and the others have begun. */
  get hasBranched(): boolean {
    return this.#hasBranched;
  }

  /** Whether every sequence has ended, those included that were dropped before they began. */
  get isOver(): boolean {
    return this.members.size === 0 || this.#dropped.size === this.first.params.bestOf;
  }

  /**
   * The other sequences, which begin once the first one has computed the prompt. They are made
   * without those that were dropped; a dropped first one is no member any more.
   */
  branchOut(): Request[] {
    this.#hasBranched = true;
    const { bestOf } = this.first.params;
    const others = Array.from({ length: bestOf - 1 }, (_, i) => i + 1)
      .filter((index) => !this.#dropped.has(index))
      .map((index) => this.first.branch(index));
    for (const other of others) this.members.add(other);
    if (this.#dropped.has(0)) this.members.delete(this.first);
    return others;
  }

  /**
   * Ends one sequence early: nothing more is told of it.
   *
   * @returns The sequence, if it has begun and not ended. Before that there is only the first one,
   * which computes the prompt for the others, dropped or not.
   */
  drop(index: number): Request | undefined {
    if (!this.#hasBranched) {
      this.#dropped.add(index);
      return undefined;
    }
    const sequence = [...this.members].find((member) => member.index === index);
    if (sequence !== undefined) this.members.delete(sequence);
    return sequence;
  }

  /** Appends a token to a sequence and tells it. How the sequence ended, if that was its last one. */
  accept(sequence: Request, { tokenId, logprobs }: Sample): Finish | undefined {
    const finish = sequence.append(tokenId);
    const { reason = null, stopReason = null } = finish ?? {};
    this.tell({ index: sequence.index, tokenId, logprobs, finishReason: reason, stopReason });
    return finish;
  }

  /** Sends an event; the first one with what there is to say of the prompt. */
  tell(event: TokenEvent): void {
    this.channel.push(this.#isPromptTold ? event : { ...event, prompt: promptEvent(this.first) });
    this.#isPromptTold = true;
  }
}

function promptEvent({ cachedCount, params, promptLogprobs }: Request): PromptEvent {
  return {
    cachedTokens: cachedCount ?? 0,
    logprobs: params.promptLogprobs === null ? null : [null, ...promptLogprobs],
  };
}
