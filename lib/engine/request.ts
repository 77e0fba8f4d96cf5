/**
 * One sequence's life: its tokens, how far they are computed, and why it ended. Most requests are
 * one sequence; several answers to a prompt, or the live beams of a search, are scheduled like
 * requests of their own (`request_group.ts` holds them together).
 *
 *     submit ──▶ waiting ──admit──▶ running ──last token──▶ finished
 *                 ▲   ▲                │ │
 *                 │   └──── preempt ───┘ └── preempt, while its search waits for other beams
 *                 │                            │
 *                 └── next round ── parked ◀───┘      abort, fail: from anywhere to finished
 */

import { invariant } from "../base/invariant.ts";
import type { TokenLogprob } from "../sampling/logprobs.ts";
import { endsInRepetition } from "../sampling/repetition.ts";
import type { ResolvedSamplingParams } from "../sampling/resolved_params.ts";
import { offsetSeed, randomSeed, type Seed } from "../sampling/random.ts";
import { SamplingState } from "../sampling/sampler.ts";
import { type RequestReport, RequestTimes } from "./request_metrics.ts";

/** What is asked of the engine: token ids in, token events out. */
export interface EngineRequest {
  /** Names the request to `abort`. No two unfinished requests share one. */
  readonly id: string;
  readonly promptTokenIds: readonly number[];
  readonly params: ResolvedSamplingParams;
  /** Lower runs earlier. Default 0. */
  readonly priority?: number;
  /** Cached blocks are shared only with requests of the same salt. Default: with those of none. */
  readonly cacheSalt?: string | undefined;
  /** Told how it went, when it has ended. Must not throw. */
  readonly onEnd?: ((report: RequestReport) => void) | undefined;
}

/** Why a sequence ended. The engine itself never sends "abort": an aborted channel just ends. */
export type TokenFinishReason = "stop" | "length" | "abort" | "repetition";

/** What a sequence says that was ended because it repeated itself. */
export type RepetitionStop = "repetition_detected";

/** One generated token. */
export interface TokenEvent {
  /** Which of the request's sequences it belongs to: 0 … `bestOf` − 1, of a beam search 0 … `n` − 1. */
  readonly index: number;
  readonly tokenId: number;
  /** The chosen token first, then the most likely ones; null unless `logprobs` was asked for. */
  readonly logprobs: readonly TokenLogprob[] | null;
  /** null: more tokens follow. */
  readonly finishReason: TokenFinishReason | null;
  /** What ended the sequence, where that was not the primary end token. */
  readonly stopReason: number | RepetitionStop | null;
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

/** `parked`: in no queue and without blocks; its row is known and it waits for its search. */
export type RequestState = "waiting" | "running" | "parked" | "finished";

/** How a sequence ended. */
export interface Finish {
  readonly reason: "stop" | "length" | "repetition";
  readonly stopReason: number | RepetitionStop | null;
}

/** What the engine settles before a request is born. */
export interface RequestLimits {
  /** The place in the order of arrival. */
  readonly arrival: number;
  /** When it came, in milliseconds. */
  readonly arrivedMs: number;
  /** `params.maxTokens`, or the room left. */
  readonly maxTokens: number;
  /** The model's end tokens, the primary one first. */
  readonly endTokenIds: readonly number[];
}

/** A sequence inside the engine. */
export class Request {
  /** Of the request; its sequences share it. */
  readonly id: string;
  readonly params: ResolvedSamplingParams;
  readonly priority: number;
  readonly cacheSalt: string | undefined;
  readonly onEnd: EngineRequest["onEnd"];
  /** The place in the order of arrival; its sequences share it. */
  readonly arrival: number;
  /** Its place among the sequences of its request; of a live beam its rank, which may change. */
  index: number;
  readonly promptLength: number;
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

  /** Of the request; its sequences share them. */
  readonly times: RequestTimes;
  /** When its latest token was chosen, in milliseconds; negative without one. */
  lastTokenMs = -1;

  /** Log-probabilities of prompt tokens 1, 2, … as far as they are known. */
  readonly promptLogprobs: TokenLogprob[][];
  readonly #source: EngineRequest;
  readonly #limits: RequestLimits;
  readonly #stopTokenIds: ReadonlySet<number>;
  readonly #minTokens: number;
  /** The seed of sequence 0. */
  readonly #seed: Seed;

  /** The first sequence of a request, or one that branches off another, with all it has so far. */
  constructor(
    request: EngineRequest,
    limits: RequestLimits,
    branch?: { readonly from: Request; readonly index: number },
  ) {
    this.id = request.id;
    this.params = request.params;
    this.priority = request.priority ?? 0;
    this.cacheSalt = request.cacheSalt;
    this.onEnd = request.onEnd;
    this.arrival = limits.arrival;
    this.index = branch?.index ?? 0;
    this.times = branch?.from.times ?? new RequestTimes(limits.arrivedMs);
    this.promptLength = request.promptTokenIds.length;
    this.#source = request;
    this.#limits = limits;
    // A limit that was cut to the room left can be below minTokens; the room wins.
    this.#minTokens = Math.min(request.params.minTokens, limits.maxTokens);
    this.#stopTokenIds = new Set([
      ...request.params.stopTokenIds,
      ...(request.params.ignoreEos ? [] : limits.endTokenIds.slice(1)),
    ]);
    this.#seed = branch === undefined ? request.params.seed ?? randomSeed() : branch.from.#seed;
    this.sampling = new SamplingState(
      { ...request.params, minTokens: this.#minTokens },
      offsetSeed(this.#seed, this.index),
      request.promptTokenIds,
      limits.endTokenIds,
    );
    this.promptLogprobs = branch?.from.promptLogprobs ?? [];
    this.cachedCount = branch?.from.cachedCount;
    this.tokenIds = [...(branch?.from.tokenIds ?? request.promptTokenIds)];
    for (let at = this.promptLength; at < this.tokenIds.length; at++) {
      this.sampling.accept(this.tokenIds[at]!);
    }
  }

  /** Another sequence of the same request, with the tokens that this one has now. */
  branch(index: number): Request {
    return new Request(this.#source, this.#limits, { from: this, index });
  }

  /** Most tokens it may generate. */
  get maxTokens(): number {
    return this.#limits.maxTokens;
  }

  get outputCount(): number {
    return this.tokenIds.length - this.promptLength;
  }

  /**
   * Tokens still to be computed before the next one can be chosen. None: it is known what could
   * follow, and the other beams of a search are waited for.
   */
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
    invariant(this.state !== "finished", "A token is appended to a sequence that has ended");
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
    const { repetitionDetection, forcedTokenIds } = this.params;
    if (repetitionDetection === null || forcedTokenIds !== null) return undefined;
    return endsInRepetition(this.tokenIds, this.outputCount, repetitionDetection)
      ? { reason: "repetition", stopReason: "repetition_detected" }
      : undefined;
  }
}

/** What decides the order. */
type InOrder = Pick<Request, "priority" | "arrival" | "index">;

/** Who goes first: the lower priority number, then the earlier arrival, then the lower index. */
export function compareRequests(a: InOrder, b: InOrder): number {
  return a.priority - b.priority || a.arrival - b.arrival || a.index - b.index;
}

/** Whether two sequences belong to one request. */
export function areSiblings(a: InOrder, b: InOrder): boolean {
  return a.arrival === b.arrival;
}
