/**
 * The step loop: admit, plan, pack, run, settle, and again while there is work.
 *
 * Arrivals and aborts are noted when they come and enter at the start of the next step, so nothing
 * changes under a step that is on the device (open_requests.ts). A loop starts with the first request
 * and ends with the last; between steps, other tasks get a turn.
 */

import { Channel } from "../base/channel.ts";
import { ClosedError, DeviceError, InvalidParameterError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import type { StepShape } from "../device/bucket.ts";
import { KV_BLOCK_SIZE } from "../device/kernel_table.ts";
import { windowChunkSize } from "../device/kv_window.ts";
import { checkForcedOutput } from "../sampling/forced.ts";
import { checkTokenIds } from "../sampling/vocabulary.ts";
import { checkPrompt, checkPromptLength, checkTokenTypes, outputRoom } from "./admission.ts";
import { pack } from "./batch.ts";
import { blockStats, type EngineStats } from "./engine_stats.ts";
import { Breather } from "./event_loop.ts";
import { blockCountOf, KvCache } from "./kv_cache.ts";
import { OpenRequests } from "./open_requests.ts";
import {
  type EnginePoolingRequest,
  type PoolingOutput,
  PoolingRequest,
} from "./pooling_request.ts";
import type { EngineRequest, TokenEvent } from "./request.ts";
import { RequestGroup } from "./request_group.ts";
import { RequestMetrics, type RequestStats } from "./request_metrics.ts";
import type { Rows, Runner } from "./runner.ts";
import { Scheduler } from "./scheduler.ts";
import { Settler } from "./settler.ts";

export type { EnginePoolingRequest, EngineRequest, TokenEvent };

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
  /** The clock of measurements, in milliseconds. Default: the real one. */
  readonly now?: () => number;
}

/** Token ids in; token events or hidden states out. */
export class Engine {
  readonly #runner: Runner;
  readonly #options: EngineOptions;
  readonly #kv: KvCache;
  readonly #scheduler: Scheduler;
  readonly #requests: OpenRequests;
  readonly #settler: Settler;
  readonly #metrics: RequestMetrics;
  readonly #breather = new Breather();
  readonly #now: () => number;
  #submittedCount = 0;
  #stepCount = 0;
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
    this.#metrics = new RequestMetrics(runner.maxContextLength);
    this.#now = options.now ?? (() => performance.now());
    const isEncoder = runner.isEncoder ?? false;
    const chunkSize = chunkSizeFor(
      runner,
      Math.min(options.prefillChunkSize ?? Infinity, runner.maxTokensPerStep),
    );
    this.#kv = new KvCache(runner.blockCount, {
      enablePrefixCaching: options.enablePrefixCaching && !isEncoder,
      window: runner.window && { ...runner.window, chunkSize },
    });
    this.#scheduler = new Scheduler(this.#kv, {
      maxBatchSize: runner.maxBatchSize,
      maxTokensPerStep: runner.maxTokensPerStep,
      maxOutputRows: runner.maxOutputRows,
      maxPromptLength: runner.maxPromptLength,
      prefillChunkSize: chunkSize,
      wholePrompts: isEncoder,
      fits: options.fits ?? (() => true),
    });
    const parts = { scheduler: this.#scheduler, metrics: this.#metrics, now: this.#now };
    this.#requests = new OpenRequests(parts);
    this.#settler = new Settler({
      ...parts,
      requests: this.#requests,
      kv: this.#kv,
      breather: this.#breather,
    });
  }

  /**
   * Queues a request. Its tokens come through the channel, those of several sequences in turns, and
   * of a beam search when it is over; leaving the channel aborts it.
   *
   * @throws {TypeError} The model gives no logits.
   * @throws {InvalidParameterError} An empty prompt, an id outside the vocabulary, a used request
   *   id, a forced output that other parameters forbid.
   * @throws {ContextLengthError} Prompt and output can never fit.
   * @throws {QueueFullError} Too many requests wait already.
   * @throws {ClosedError} The engine was closed.
   */
  submit(request: EngineRequest): Channel<TokenEvent> {
    if (!(this.#runner.isGenerative ?? true)) {
      throw new TypeError("Cannot generate tokens: the model has no language head");
    }
    this.#checkTakes(request.id);
    checkPrompt(request, this.#runner);
    checkTokenIds(request.params, this.#runner.vocabSize);
    checkForcedOutput(request.params, this.#options.endTokenIds);
    const maxTokens = outputRoom(request, this.#runner);
    this.#requests.checkRoom(this.#options.maxWaitingRequests);
    const channel = new Channel<TokenEvent>(() => this.#requests.abort(born));
    const born = new RequestGroup(request, {
      arrival: this.#submittedCount++,
      arrivedMs: this.#now(),
      maxTokens,
      endTokenIds: this.#options.endTokenIds,
    }, channel);
    this.#enter(born);
    return channel;
  }

  /**
   * Queues a request for hidden states, which come back when the last of them is computed. The
   * promise is rejected with an `AbortError` when the request is aborted.
   *
   * @throws {InvalidParameterError} An empty prompt, an id outside the vocabulary, a used request
   *   id, token types that do not fit.
   * @throws {ContextLengthError} The prompt can never fit.
   * @throws {QueueFullError} Too many requests wait already.
   * @throws {ClosedError} The engine was closed.
   */
  submitPooling(request: EnginePoolingRequest): Promise<PoolingOutput> {
    this.#checkTakes(request.id);
    checkPrompt(request, this.#runner);
    checkTokenTypes(request, this.#runner);
    checkPromptLength(request.promptTokenIds.length, this.#runner);
    this.#requests.checkRoom(this.#options.maxWaitingRequests);
    const { promise, resolve, reject } = Promise.withResolvers<PoolingOutput>();
    const limits = { arrival: this.#submittedCount++, arrivedMs: this.#now() };
    this.#enter(new PoolingRequest(request, limits, { resolve, reject }));
    return promise;
  }

  /**
   * Ends a request: its channel closes without a further event, or its promise is rejected. Unknown
   * ids are finished ones.
   *
   * With an `index`, ends that one of the request's sequences: no further event of it is sent, and
   * the channel closes when the others have ended too. One that has ended already is left as it is.
   * Who waits leaves the queue at once; blocks are freed at the start of the next step.
   *
   * @throws {InvalidParameterError} The request has no sequence `index`, or is a beam search, whose
   *   beams compete with each other and end together.
   */
  abort(id: string, index?: number): void {
    this.#requests.abortId(id, index);
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
    const { window } = this.#kv;
    const windowBlocks = window === undefined ? null : blockStats(window);
    const blocks = this.#runner.window?.isOnly ? windowBlocks : null;
    return {
      runningCount: this.#scheduler.runningCount,
      waitingCount: this.#scheduler.waitingCount + this.#requests.arrivalCount,
      ...blocks ?? blockStats(this.#kv),
      windowBlocks,
      blockSize: KV_BLOCK_SIZE,
      stepCount: this.#stepCount,
      generatedTokens: this.#settler.generatedTokens,
      ...this.#scheduler.counts,
    };
  }

  /** How long requests took, and how large they were. */
  requestStats(): RequestStats {
    return this.#metrics.stats();
  }

  /** Forgets all cached prefixes; false, and nothing done, while running requests hold blocks. */
  resetPrefixCache(): boolean {
    return this.#kv.resetPrefixes();
  }

  /** Fails every channel with a `ClosedError`; resolves when no step is running any more. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#requests.failAll(new ClosedError("The engine was closed before the request finished"));
    await Promise.allSettled([this.#loop, this.#step]);
    this.#requests.admit(); // without a loop, nobody else would free the blocks
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
    } while (!this.#requests.isIdle);
    this.#loop = undefined;
  }

  async #runStep(): Promise<boolean> {
    try {
      this.#requests.admit();
      const plan = this.#scheduler.plan();
      if (plan === undefined) return false;
      this.#stepCount++;
      this.#metrics.step(plan.turns, this.#now());
      const batch = pack(plan);
      let rows: Rows;
      try {
        rows = await this.#breather.during(this.#runner.run(batch));
      } catch (error) {
        for (const { request } of plan.turns) {
          this.#requests.fail(this.#requests.groupOf(request), error);
        }
        // Whoever failed may have left blocks half written: nobody should find any of them again.
        if (error instanceof DeviceError) this.#kv.dropPrefixes();
        return true;
      }
      for (const turn of plan.turns) await this.#settler.settle(turn, rows);
      return true;
    } catch (error) {
      this.#requests.failAll(error);
      throw error;
    }
  }

  /** Whether anything is taken, and under this id. */
  #checkTakes(id: string): void {
    if (this.#closed) throw new ClosedError("Cannot take a request: the engine was closed");
    this.#requests.checkId(id);
  }

  /** Lets a request in at the next step, and sees to it that there is one. */
  #enter(request: RequestGroup | PoolingRequest): void {
    this.#requests.enter(request);
    if (this.#options.selfDriven ?? true) this.#loop ??= this.#run();
  }
}

/** The longest chunk of a prompt that the pool of layers with a window has room for. */
function chunkSizeFor({ window: pool, maxContextLength }: Runner, chunkSize: number): number {
  if (pool === undefined || pool.blockCount >= blockCountOf(maxContextLength)) return chunkSize;
  const size = windowChunkSize(pool.window, pool.blockCount, chunkSize);
  invariant(size >= 1, `${pool.blockCount} blocks do not hold a window of ${pool.window} tokens`);
  return size;
}
