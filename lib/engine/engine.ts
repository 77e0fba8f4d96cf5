/** The step loop. */
import type { Channel } from "../base/channel.ts";
import type { EngineRequest, TokenEvent } from "./request.ts";
import type { Runner } from "./runner.ts";

export type { TokenLogprob } from "../sampling/logprobs.ts";
export type { EngineRequest, PromptEvent, TokenEvent } from "./request.ts";

/** How the engine behaves. */
export interface EngineOptions {
  /** Reuse the KV blocks of shared prefixes. */
  readonly enablePrefixCaching: boolean;
  /** Requests that may wait; one more is refused. At least 1. */
  readonly maxWaitingRequests: number;
  /** The model's end tokens. The first is the primary one; the others report themselves as `stopReason`. */
  readonly endTokenIds: readonly number[];
  /** Most tokens of one prompt in one step. Default: as many as fit a step. */
  readonly prefillChunkSize?: number;
  /** Steps run by themselves while there is work. Default true; false leaves `step` to the caller. */
  readonly selfDriven?: boolean;
}

/** What the engine is doing and has done. */
export interface EngineStats {
  /** Requests with blocks in the pool. */
  readonly runningCount: number;
  /** Requests that wait, preempted ones included. */
  readonly waitingCount: number;
  /** Blocks that running requests hold. */
  readonly usedBlockCount: number;
  /** Blocks that hold reusable prefixes and nothing else. */
  readonly cachedBlockCount: number;
  readonly blockCount: number;
  /** Prompt tokens that were looked up in the prefix cache, and found. */
  readonly prefixQueryTokens: number;
  readonly prefixHitTokens: number;
  readonly stepCount: number;
  readonly preemptionCount: number;
  /** Prompt tokens of the requests that were admitted, each counted once. */
  readonly promptTokens: number;
  readonly generatedTokens: number;
}

export declare class Engine {
  constructor(runner: Runner, options: EngineOptions);
  submit(request: EngineRequest): Channel<TokenEvent>;
  abort(id: string): void;
  step(): Promise<boolean>;
  stats(): EngineStats;
  close(): Promise<void>;
}
