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
  #isPromptTold = false;

  constructor(request: EngineRequest, limits: RequestLimits, channel: Channel<TokenEvent>) {
    this.id = request.id;
    this.channel = channel;
    this.first = new Request(request, limits);
    this.members = new Set([this.first]);
    const { beam } = request.params;
    this.search = beam && new BeamRun(this.first, beam, limits);
  }

  /** The other sequences, which begin once the first one has computed the prompt. */
  branchOut(): Request[] {
    const { bestOf } = this.first.params;
    const others = Array.from({ length: bestOf - 1 }, (_, i) => this.first.branch(i + 1));
    for (const other of others) this.members.add(other);
    return others;
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
