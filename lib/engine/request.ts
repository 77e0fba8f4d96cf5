/**
 * One request's life: its tokens, how far they are computed, and why it ended.
 *
 *     submit ──▶ waiting ──admit──▶ running ──last token──▶ finished
 *                   ▲                  │
 *                   └──── preempt ─────┘        abort, fail: from anywhere to finished
 */

import type { Channel } from "../base/channel.ts";
import { invariant } from "../base/invariant.ts";
import type { TokenLogprob } from "../sampling/logprobs.ts";
import type { ResolvedSamplingParams } from "../sampling/resolved_params.ts";
import { randomSeed } from "../sampling/random.ts";
import { SamplingState } from "../sampling/sampler.ts";

/** What is asked of the engine: token ids in, token events out. */
export interface EngineRequest {
  /** Names the request to `abort`. No two unfinished requests share one. */
  readonly id: string;
  readonly promptTokenIds: readonly number[];
  readonly params: ResolvedSamplingParams;
  /** Lower runs earlier. Default 0. */
  readonly priority?: number;
}

/** Why a sequence ended. The engine itself never sends "abort": an aborted channel just ends. */
export type TokenFinishReason = "stop" | "length" | "abort";

/** One generated token. */
export interface TokenEvent {
  /** Which of the request's sequences it belongs to: 0 … `bestOf` − 1, of a beam search 0 … `n` − 1. */
  readonly index: number;
  readonly tokenId: number;
  /** The chosen token first, then the most likely ones; null unless `logprobs` was asked for. */
  readonly logprobs: readonly TokenLogprob[] | null;
  /** null: more tokens follow. */
  readonly finishReason: TokenFinishReason | null;
  /** The token that ended the sequence, where that was not the primary end token. */
  readonly stopReason: number | null;
  /** What there is to say of the prompt. With the first event, and only there. */
  readonly prompt?: PromptEvent;
}

/** What the first event says of the prompt. */
export interface PromptEvent {
  /** Prompt tokens whose keys and values came from the prefix cache. */
  readonly cachedTokens: number;
  /** One entry a prompt token, the first null; null unless `promptLogprobs` was asked for. */
  readonly logprobs: readonly (readonly TokenLogprob[] | null)[] | null;
}

export type RequestState = "waiting" | "running" | "finished";

/** How a sequence ended. */
export interface Finish {
  readonly reason: "stop" | "length";
  readonly stopReason: number | null;
}

/** What the engine settles before a request is born. */
export interface RequestLimits {
  /** The place in the order of arrival. */
  readonly arrival: number;
  /** `params.maxTokens`, or the room left. */
  readonly maxTokens: number;
  /** The model's end tokens, the primary one first. */
  readonly endTokenIds: readonly number[];
}

/** A request inside the engine. */
export class Request {
  readonly id: string;
  readonly params: ResolvedSamplingParams;
  readonly priority: number;
  readonly arrival: number;
  readonly promptLength: number;
  readonly channel: Channel<TokenEvent>;
  readonly sampling: SamplingState;
  /** The prompt, then the output. */
  readonly tokenIds: number[];
  state: RequestState = "waiting";
  /** Tokens whose keys and values are in the block table. */
  computedCount = 0;
  /** Prompt tokens that the first admission found in the prefix cache; later ones do not count. */
  cachedCount: number | undefined;
  /** The step in which it last had a turn. */
  lastStep = -1;

  /** Log-probabilities of prompt tokens 1, 2, … as far as they are known. */
  readonly promptLogprobs: TokenLogprob[][] = [];
  readonly #limits: RequestLimits;
  readonly #stopTokenIds: ReadonlySet<number>;
  readonly #minTokens: number;

  constructor(request: EngineRequest, limits: RequestLimits, channel: Channel<TokenEvent>) {
    this.id = request.id;
    this.params = request.params;
    this.priority = request.priority ?? 0;
    this.arrival = limits.arrival;
    this.promptLength = request.promptTokenIds.length;
    this.channel = channel;
    this.tokenIds = [...request.promptTokenIds];
    this.#limits = limits;
    // A limit that was cut to the room left can be below minTokens; the room wins.
    this.#minTokens = Math.min(request.params.minTokens, limits.maxTokens);
    this.#stopTokenIds = new Set([
      ...request.params.stopTokenIds,
      ...(request.params.ignoreEos ? [] : limits.endTokenIds.slice(1)),
    ]);
    this.sampling = new SamplingState(
      { ...request.params, minTokens: this.#minTokens },
      request.params.seed ?? randomSeed(),
      request.promptTokenIds,
      limits.endTokenIds,
    );
  }

  get outputCount(): number {
    return this.tokenIds.length - this.promptLength;
  }

  /** Tokens still to be computed before the next one can be chosen. */
  get pendingCount(): number {
    return this.tokenIds.length - this.computedCount;
  }

  /**
   * The first position whose row of logits is still needed: everything before it may come from
   * the prefix cache. Usually that is the last token; with `promptLogprobs`, the first prompt token
   * whose successor's log-probability is not known yet.
   */
  get firstRowPosition(): number {
    const known = this.promptLogprobs.length;
    const wanted = this.params.promptLogprobs !== null && known < this.promptLength - 1;
    return wanted ? known : this.tokenIds.length - 1;
  }

  /** Appends a chosen token and says whether it ends the sequence. */
  append(tokenId: number): Finish | undefined {
    invariant(this.state === "running", "A token is appended to a request that does not run");
    this.tokenIds.push(tokenId);
    this.sampling.accept(tokenId);
    return this.#finish(tokenId);
  }

  /** The order of the checks decides what a token that meets several of them reports. */
  #finish(tokenId: number): Finish | undefined {
    if (this.outputCount < this.#minTokens) return undefined;
    if (tokenId === this.#limits.endTokenIds[0] && !this.params.ignoreEos) {
      return { reason: "stop", stopReason: null };
    }
    if (this.#stopTokenIds.has(tokenId)) return { reason: "stop", stopReason: tokenId };
    // All is said: the model would not be asked for more, and no end token is made up.
    if (this.outputCount === this.params.forcedTokenIds?.length) {
      return { reason: "stop", stopReason: null };
    }
    if (this.outputCount >= this.#limits.maxTokens) return { reason: "length", stopReason: null };
    return undefined;
  }
}

/** Who goes first: the lower priority number, then the earlier arrival. */
export function compareRequests(a: Request, b: Request): number {
  return a.priority - b.priority || a.arrival - b.arrival;
}
