/**
 * The step loop: admit, plan, pack, run, settle, and again while there is work.
 *
 * Arrivals and aborts are noted when they come and enter at the start of the next step, so nothing
 * changes under a step that is on the device. A loop starts with the first request and ends with
 * the last; between steps, other tasks get a turn.
 */

import { Channel } from "../base/channel.ts";
import {
  ClosedError,
  ContextLengthError,
  DeviceError,
  InvalidParameterError,
  QueueFullError,
} from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import type { StepShape } from "../device/bucket.ts";
import { KV_BLOCK_SIZE } from "../device/kernel_table.ts";
import { type TokenLogprob, tokenLogprobs } from "../sampling/logprobs.ts";
import { checkForcedOutput } from "../sampling/forced.ts";
import { type Sample, sample } from "../sampling/sampler.ts";
import { SamplerScratch } from "../sampling/scratch.ts";
import { checkTokenIds } from "../sampling/vocabulary.ts";
import { pack } from "./batch.ts";
import { Breather } from "./event_loop.ts";
import { KvCache } from "./kv_cache.ts";
import { type EngineRequest, type PromptEvent, Request, type TokenEvent } from "./request.ts";
import type { Rows, Runner } from "./runner.ts";
import { Scheduler, type Turn } from "./scheduler.ts";

export type { EngineRequest, PromptEvent, TokenEvent, TokenLogprob };

/** How the engine behaves. */
export interface EngineOptions {
  /** Reuse the KV blocks of shared prefixes. */
  readonly enablePrefixCaching: boolean;
  /** Requests that may wait; one more is refused. At least 1. */
  readonly maxWaitingRequests: number;
  /** The model's end tokens. The first is the primary one; the others name themselves as `stopReason`. */
  readonly endTokenIds: readonly number[];
  /** Most tokens of one prompt in one step. Default: as many as fit a step. */
  readonly prefillChunkSize?: number;
  /** Whether some bucket holds a step. Default: what the runner's limits allow. */
  readonly fits?: (step: StepShape) => boolean;
  /** Steps run by themselves while there is work. Default true; false leaves `step` to the caller. */
  readonly selfDriven?: boolean;
}

/** What the engine is doing and has done. */
export interface EngineStats {
  /** Requests that hold blocks. */
  readonly runningCount: number;
  /** Requests that wait: new and preempted ones. */
  readonly waitingCount: number;
  /** Blocks that running requests hold. */
  readonly usedBlockCount: number;
  /** Blocks that hold reusable prefixes and nothing else. */
  readonly cachedBlockCount: number;
  /** Blocks in the pool. */
  readonly blockCount: number;
  /** Prompt tokens that were looked for in the prefix cache, and those found there. */
  readonly prefixQueryTokens: number;
  /** Of those, tokens found. */
  readonly prefixHitTokens: number;
  /** Steps run. */
  readonly stepCount: number;
  /** Requests that lost their blocks and were sent back to the queue. */
  readonly preemptionCount: number;
  /** Prompt tokens of the requests admitted so far, and tokens generated. */
  readonly promptTokens: number;
  /** Tokens generated. */
  readonly generatedTokens: number;
}

/** After how long a refused request may try again. Nothing better is known: lengths are not. */
const RETRY_AFTER_SECONDS = 1;

/** Token ids in, token events out. */
export class Engine {
  readonly #runner: Runner;
  readonly #options: EngineOptions;
  readonly #kv: KvCache;
  readonly #scheduler: Scheduler;
  readonly #breather = new Breather();
  readonly #scratch = new SamplerScratch();
  /** Unfinished requests by id. */
  readonly #requests = new Map<string, Request>();
  /** What enters with the next step. */
  #arrivals: Request[] = [];
  #aborts = new Set<Request>();
  #arrivalCount = 0;
  #stepCount = 0;
  #generatedTokens = 0;
  #loop: Promise<void> | undefined;
  #step: Promise<boolean> | undefined;
  #closed = false;

  constructor(runner: Runner, options: EngineOptions) {
    if (!Number.isSafeInteger(options.maxWaitingRequests) || options.maxWaitingRequests < 1) {
      throw new InvalidParameterError(
        "maxWaitingRequests",
        options.maxWaitingRequests,
        `Cannot use maxWaitingRequests ${options.maxWaitingRequests}: it must be an integer and at least 1`,
      );
    }
    this.#runner = runner;
    this.#options = options;
    this.#kv = new KvCache(runner.blockCount, options);
    this.#scheduler = new Scheduler(this.#kv, {
      maxBatchSize: runner.maxBatchSize,
      maxTokensPerStep: runner.maxTokensPerStep,
      maxOutputRows: runner.maxOutputRows,
      maxPromptLength: runner.maxPromptLength,
      prefillChunkSize: options.prefillChunkSize ?? runner.maxTokensPerStep,
      fits: options.fits ?? (() => true),
    });
  }

  /**
   * Queues a request. Its tokens come through the channel; leaving the channel aborts it.
   *
   * @throws {InvalidParameterError} An empty prompt, an id outside the vocabulary, a used request
   *   id, a forced output that other parameters forbid.
   * @throws {ContextLengthError} Prompt and output can never fit.
   * @throws {QueueFullError} Too many requests wait already.
   * @throws {ClosedError} The engine was closed.
   */
  submit(request: EngineRequest): Channel<TokenEvent> {
    if (this.#closed) throw new ClosedError("Cannot take a request: the engine was closed");
    this.#checkPrompt(request);
    checkTokenIds(request.params, this.#runner.vocabSize);
    checkForcedOutput(request.params, this.#options.endTokenIds);
    const maxTokens = this.#outputRoom(request);
    const waitingCount = this.#scheduler.waitingCount + this.#arrivals.length;
    if (waitingCount >= this.#options.maxWaitingRequests) {
      throw new QueueFullError(waitingCount, RETRY_AFTER_SECONDS);
    }
    const channel = new Channel<TokenEvent>(() => this.#abort(born));
    const born = new Request(request, {
      arrival: this.#arrivalCount++,
      maxTokens,
      endTokenIds: this.#options.endTokenIds,
    }, channel);
    this.#requests.set(born.id, born);
    this.#arrivals.push(born);
    if (this.#options.selfDriven ?? true) this.#loop ??= this.#run();
    return channel;
  }

  /** Ends a request: its channel closes without a further event. Unknown ids are finished ones. */
  abort(id: string): void {
    const request = this.#requests.get(id);
    if (request !== undefined) this.#abort(request);
  }

  /**
   * One step, for those who drive the engine themselves.
   *
   * @returns Whether there was something to do.
   */
  step(): Promise<boolean> {
    invariant(this.#step === undefined, "A step begins while another one runs");
    this.#step = this.#runStep().finally(() => this.#step = undefined);
    return this.#step;
  }

  stats(): EngineStats {
    return {
      runningCount: this.#scheduler.runningCount,
      waitingCount: this.#scheduler.waitingCount + this.#arrivals.length,
      usedBlockCount: this.#kv.blockCount - this.#kv.availableCount,
      cachedBlockCount: this.#kv.cachedCount,
      blockCount: this.#kv.blockCount,
      stepCount: this.#stepCount,
      generatedTokens: this.#generatedTokens,
      ...this.#scheduler.counts,
    };
  }

  /** Fails every channel with a `ClosedError`; resolves when no step is running any more. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#failAll(new ClosedError("The engine was closed before the request finished"));
    await Promise.allSettled([this.#loop, this.#step]);
    this.#admit(); // without a loop, nobody else would free the blocks
  }

  /** Steps while there is work. */
  async #run(): Promise<void> {
    do {
      await this.#breather.pause();
      try {
        await this.step();
      } catch {
        // A bug in a step. Every channel has been failed with it, and the engine is empty again.
      }
    } while (this.#requests.size + this.#aborts.size > 0);
    this.#loop = undefined;
  }

  async #runStep(): Promise<boolean> {
    try {
      this.#admit();
      const plan = this.#scheduler.plan();
      if (plan === undefined) return false;
      this.#stepCount++;
      const batch = pack(plan);
      let rows: Rows;
      try {
        rows = await this.#breather.during(this.#runner.run(batch));
      } catch (error) {
        for (const turn of plan.turns) this.#fail(turn.request, error);
        // Whoever failed may have left blocks half written: nobody should find any of them again.
        if (error instanceof DeviceError) this.#kv.dropPrefixes();
        return true;
      }
      for (const turn of plan.turns) await this.#settle(turn, rows);
      return true;
    } catch (error) {
      this.#failAll(error);
      throw error;
    }
  }

  /** Arrivals and aborts enter here, and only here. */
  #admit(): void {
    const arrivals = this.#arrivals;
    const aborts = this.#aborts;
    this.#arrivals = [];
    this.#aborts = new Set();
    for (const request of arrivals) this.#scheduler.enqueue(request);
    for (const request of aborts) this.#scheduler.remove(request);
  }

  /** Takes the rows of one turn in: log-probabilities of the prompt, and the next token. */
  async #settle(turn: Turn, rows: Rows): Promise<void> {
    const { request, start, count, rowPosition, rowIndex } = turn;
    try {
      for (let position = rowPosition; position < start + count; position++) {
        // The consumer may have left while the device was busy, or in a pause.
        if (this.#aborts.has(request)) return;
        const index = rowIndex + position - rowPosition;
        if (position === request.tokenIds.length - 1) {
          const chosen = sample(rows.row(index), request.sampling, {
            summary: rows.summary?.(index),
            scratch: this.#scratch,
          });
          this.#commit(turn);
          this.#emit(request, chosen);
          return;
        }
        const row = rows.row(index);
        request.promptLogprobs.push(
          tokenLogprobs(row, request.tokenIds[position + 1]!, request.params.promptLogprobs ?? 0),
        );
        if (this.#breather.isDue) await this.#breather.pause();
      }
      this.#commit(turn);
    } catch (error) {
      // Whatever went wrong with one row is that request's alone. Its blocks may hold NaN as well.
      this.#fail(request, error, { forget: true });
    } finally {
      if (this.#breather.isDue) await this.#breather.pause();
    }
  }

  #commit({ request, start, count }: Turn): void {
    request.computedCount = start + count;
    this.#kv.commit(request);
  }

  #emit(request: Request, { tokenId, logprobs }: Sample): void {
    const isFirst = request.outputCount === 0;
    const finish = request.append(tokenId);
    this.#generatedTokens++;
    request.channel.push({
      index: 0,
      tokenId,
      logprobs,
      finishReason: finish?.reason ?? null,
      stopReason: finish?.stopReason ?? null,
      ...(isFirst ? { prompt: promptEvent(request) } : {}),
    });
    if (finish === undefined) return;
    this.#requests.delete(request.id);
    this.#scheduler.remove(request);
    request.channel.close();
  }

  #abort(request: Request): void {
    if (this.#requests.get(request.id) !== request) return;
    this.#requests.delete(request.id);
    this.#aborts.add(request);
    request.channel.close();
  }

  /** Ends a request that is in a queue, now. */
  #fail(request: Request, error: unknown, options: { forget?: boolean } = {}): void {
    if (this.#requests.get(request.id) !== request) return; // aborted: the next step removes it
    this.#requests.delete(request.id);
    request.channel.fail(error);
    this.#scheduler.remove(request, options);
  }

  /** Ends everything; the blocks are freed at the start of the next step, as one may be running. */
  #failAll(error: unknown): void {
    for (const request of this.#requests.values()) {
      request.channel.fail(error);
      this.#aborts.add(request);
    }
    this.#requests.clear();
  }

  #checkPrompt({ id, promptTokenIds, priority = 0 }: EngineRequest): void {
    if (this.#requests.has(id)) {
      throw new InvalidParameterError(
        "requestId",
        id,
        `Cannot use the request id "${id}": an unfinished request has it already`,
      );
    }
    if (!Number.isFinite(priority)) {
      throw new InvalidParameterError(
        "priority",
        priority,
        `Cannot use priority ${priority}: it must be a finite number`,
      );
    }
    if (promptTokenIds.length === 0) {
      throw new InvalidParameterError(
        "promptTokenIds",
        promptTokenIds,
        "Cannot run a prompt of no tokens: it must hold at least one",
      );
    }
    const { vocabSize } = this.#runner;
    for (const [index, tokenId] of promptTokenIds.entries()) {
      if (Number.isSafeInteger(tokenId) && tokenId >= 0 && tokenId < vocabSize) continue;
      throw new InvalidParameterError(
        "promptTokenIds",
        tokenId,
        `Cannot use token id ${tokenId}, number ${index} of the prompt, as it is out of vocabulary: ids are integers from 0 to ${
          vocabSize - 1
        }`,
      );
    }
  }

  /** Most tokens the request may generate. */
  #outputRoom({ promptTokenIds, params }: EngineRequest): number {
    const promptLength = promptTokenIds.length;
    const { maxPromptLength, maxContextLength, blockCount } = this.#runner;
    if (promptLength > maxPromptLength) {
      throw new ContextLengthError(
        promptLength,
        maxPromptLength,
        `Cannot run a prompt of ${promptLength} tokens as the model takes at most ${maxPromptLength}`,
      );
    }
    const limit = Math.min(maxContextLength, blockCount * KV_BLOCK_SIZE);
    const holder = limit < maxContextLength ? "the KV pool" : "the context";
    const wanted = params.cutMaxTokens ? 1 : params.maxTokens ?? 1;
    if (promptLength + wanted > limit) {
      throw new ContextLengthError(
        promptLength + wanted,
        limit,
        `Cannot run a prompt of ${promptLength} tokens and generate ${
          wanted === 1 ? "one more" : `${wanted} more`
        } as ${holder} holds at most ${limit}`,
      );
    }
    return Math.min(params.maxTokens ?? Infinity, limit - promptLength);
  }
}

function promptEvent({ cachedCount, params, promptLogprobs }: Request): PromptEvent {
  return {
    cachedTokens: cachedCount ?? 0,
    logprobs: params.promptLogprobs === null ? null : [null, ...promptLogprobs],
  };
}
