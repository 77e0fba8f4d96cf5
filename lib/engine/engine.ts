/**
 * The step loop: admit, plan, pack, run, settle, and again while there is work.
 *
 * Arrivals and aborts are noted when they come and enter at the start of the next step, so nothing
 * changes under a step that is on the device; only who waits may leave the queue at once. A loop starts with the first request and ends with
 * the last; between steps, other tasks get a turn.
 */

import { Channel } from "../base/channel.ts";
import { ClosedError, DeviceError, InvalidParameterError, QueueFullError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import type { StepShape } from "../device/bucket.ts";
import { KV_BLOCK_SIZE } from "../device/kernel_table.ts";
import { windowChunkSize } from "../device/kv_window.ts";
import { type TokenLogprob, tokenLogprobs } from "../sampling/logprobs.ts";
import { checkForcedOutput } from "../sampling/forced.ts";
import { type Sample, sample } from "../sampling/sampler.ts";
import { SamplerScratch } from "../sampling/scratch.ts";
import { checkTokenIds } from "../sampling/vocabulary.ts";
import type { SummarizedRow } from "../sampling/continuations.ts";
import { checkPrompt, checkPromptLength, checkTokenTypes, outputRoom } from "./admission.ts";
import { pack } from "./batch.ts";
import { Breather } from "./event_loop.ts";
import { blockCountOf, KvCache } from "./kv_cache.ts";
import {
  type EnginePoolingRequest,
  type PoolingOutput,
  PoolingRequest,
} from "./pooling_request.ts";
import type { EngineRequest, PromptEvent, Request, TokenEvent } from "./request.ts";
import { RequestGroup } from "./request_group.ts";
import {
  type RequestEnd,
  RequestMetrics,
  type RequestReport,
  type RequestStats,
} from "./request_metrics.ts";
import type { Rows, Runner } from "./runner.ts";
import type { Scheduled } from "./scheduled.ts";
import { Scheduler, type Turn } from "./scheduler.ts";

export type {
  EnginePoolingRequest,
  EngineRequest,
  PoolingOutput,
  PromptEvent,
  RequestReport,
  RequestStats,
  TokenEvent,
  TokenLogprob,
};

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

/** How full a pool of blocks is. */
export interface BlockStats {
  /** Blocks that running sequences hold, shared ones counted once. */
  readonly usedBlockCount: number;
  /** Blocks that hold reusable prefixes and nothing else. */
  readonly cachedBlockCount: number;
  /** Blocks in the pool. */
  readonly blockCount: number;
}

/** What the engine is doing and has done. */
export interface EngineStats {
  /** Sequences that hold blocks: a request for several answers is several of them. */
  readonly runningCount: number;
  /** Sequences that wait: new and preempted ones. */
  readonly waitingCount: number;
  /**
   * Blocks that running sequences hold, shared ones counted once. These and the next two are of the
   * layers that see everything; of the others where all layers have a window.
   */
  readonly usedBlockCount: number;
  /** Blocks that hold reusable prefixes and nothing else. */
  readonly cachedBlockCount: number;
  /** Blocks in the pool. */
  readonly blockCount: number;
  /** The same three of the layers with a window; null without such layers. */
  readonly windowBlocks: BlockStats | null;
  /** Tokens in a block. */
  readonly blockSize: number;
  /** Prompt tokens that were looked for in the prefix cache, and those found there. */
  readonly prefixQueryTokens: number;
  /** Of those, tokens found. */
  readonly prefixHitTokens: number;
  /** Steps run. */
  readonly stepCount: number;
  /** Sequences that lost their blocks and were sent back to the queue. */
  readonly preemptionCount: number;
  /** Prompt tokens of the requests admitted so far, and tokens generated. */
  readonly promptTokens: number;
  /** Tokens generated. */
  readonly generatedTokens: number;
}

/** After how long a refused request may try again. Nothing better is known: lengths are not. */
const RETRY_AFTER_SECONDS = 1;

/** A request of either kind. */
type AnyRequest = RequestGroup | PoolingRequest;

/** Token ids in; token events or hidden states out. */
export class Engine {
  readonly #runner: Runner;
  readonly #options: EngineOptions;
  readonly #kv: KvCache;
  readonly #scheduler: Scheduler;
  readonly #breather = new Breather();
  readonly #scratch = new SamplerScratch();
  readonly #metrics: RequestMetrics;
  readonly #now: () => number;
  /** Unfinished requests by id. */
  readonly #requests = new Map<string, AnyRequest>();
  /** What enters with the next step. */
  #arrivals: AnyRequest[] = [];
  /** Sequences that leave with the next step; none that waits. */
  #aborts = new Set<Scheduled>();
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
    this.#checkQueue();
    const channel = new Channel<TokenEvent>(() => this.#abort(born, "abort"));
    const born = new RequestGroup(request, {
      arrival: this.#arrivalCount++,
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
    this.#checkQueue();
    const { promise, resolve, reject } = Promise.withResolvers<PoolingOutput>();
    const limits = { arrival: this.#arrivalCount++, arrivedMs: this.#now() };
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
    const request = this.#requests.get(id);
    if (request === undefined) return;
    if (index === undefined) return this.#abort(request, "abort");
    const group = groupWithSequence(request, index);
    const sequence = group.drop(index);
    if (sequence !== undefined) {
      this.#leave(sequence);
      this.#metrics.sequenceEnd(sequence);
    }
    // Whoever ends sequences one by one has seen what was wanted of each, such as a stop string.
    if (group.isOver) this.#abort(group, group.hasBranched ? "stop" : "abort");
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
      waitingCount: this.#scheduler.waitingCount + this.#arrivals.length,
      ...blocks ?? blockStats(this.#kv),
      windowBlocks,
      blockSize: KV_BLOCK_SIZE,
      stepCount: this.#stepCount,
      generatedTokens: this.#generatedTokens,
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
      this.#metrics.step(plan.turns, this.#now());
      const batch = pack(plan);
      let rows: Rows;
      try {
        rows = await this.#breather.during(this.#runner.run(batch));
      } catch (error) {
        for (const turn of plan.turns) this.#fail(this.#groupOf(turn.request), error);
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
    for (const { members } of arrivals) {
      for (const sequence of members) this.#scheduler.enqueue(sequence);
    }
    for (const sequence of aborts) this.#scheduler.remove(sequence);
  }

  /** Takes the rows of one turn in. */
  async #settle(turn: Turn, rows: Rows): Promise<void> {
    const { request } = turn;
    const group = this.#groupOf(request);
    if (group === undefined) return;
    try {
      if (request instanceof PoolingRequest) await this.#pool(turn, request, rows);
      else await this.#generate(turn, { request, group: group as RequestGroup, rows });
    } catch (error) {
      // Whatever went wrong with one row is that request's alone. Its blocks may hold NaN as well.
      this.#fail(group, error, { forget: true });
    } finally {
      if (this.#breather.isDue) await this.#breather.pause();
    }
  }

  /** Rows of logits: log-probabilities of the prompt, and the next token. */
  async #generate(
    turn: Turn,
    { request, group, rows }: {
      readonly request: Request;
      readonly group: RequestGroup;
      readonly rows: Rows;
    },
  ): Promise<void> {
    const { rowPosition, rowEnd, rowIndex } = turn;
    for (let position = rowPosition; position < rowEnd; position++) {
      // The consumer may have left in a pause.
      if (this.#groupOf(request) !== group) return;
      const index = rowIndex + position - rowPosition;
      if (position === request.tokenIds.length - 1) {
        const known: SummarizedRow = {
          summary: rows.summary?.(index),
          get row() {
            return rows.row(index);
          },
        };
        return await (group.search === null
          ? this.#choose(turn, { group, request, known })
          : this.#search(turn, { group, request, known }));
      }
      const row = rows.row(index);
      request.promptLogprobs.push(
        tokenLogprobs(row, request.tokenIds[position + 1]!, request.params.promptLogprobs ?? 0),
      );
      if (this.#breather.isDue) await this.#breather.pause();
    }
    this.#commit(turn);
  }

  /** Rows of hidden states. */
  async #pool(turn: Turn, request: PoolingRequest, rows: Rows): Promise<void> {
    const { rowPosition, rowEnd, rowIndex } = turn;
    for (let position = rowPosition; position < rowEnd; position++) {
      if (this.#groupOf(request) === undefined) return; // aborted in a pause
      const row = rows.hidden?.(rowIndex + position - rowPosition);
      invariant(row !== undefined, "The runner gives no hidden states");
      request.take(row);
      if (this.#breather.isDue) await this.#breather.pause();
    }
    this.#commit(turn);
    if (!request.isComplete || this.#groupOf(request) === undefined) return;
    this.#requests.delete(request.id);
    this.#scheduler.remove(request);
    this.#metrics.requestEnd(request, "stop", this.#now());
    request.finish();
  }

  /**
   * The next token of a sequence. When that is the first one, the request's other sequences draw
   * theirs from the same row, and go on from the same blocks.
   */
  async #choose(turn: Turn, { group, request, known }: LastRow): Promise<void> {
    const chosen = choose(known, request, this.#scratch);
    this.#commit(turn);
    const others = group.hasBranched ? [] : group.branchOut();
    for (const other of others) this.#scheduler.fork(request, other);
    if (group.members.has(request)) this.#emit(group, request, chosen);
    else this.#scheduler.remove(request); // it was only here to compute the prompt
    for (const other of others) {
      if (this.#breather.isDue) await this.#breather.pause();
      if (this.#groupOf(other) !== group) continue; // aborted in a pause, or all of them were
      this.#emit(group, other, choose(known, other, this.#scratch));
    }
  }

  /** What may follow a beam; a token further, if the rows of all beams are in. */
  #search(turn: Turn, { group, request, known }: LastRow): void {
    const isComplete = group.search!.offer(request, known);
    this.#commit(turn);
    const events = isComplete ? group.search!.advance(this.#scheduler, group.members) : undefined;
    if (events === undefined) return;
    for (const event of events) group.tell(event);
    this.#generatedTokens += events.length;
    for (const beam of group.members) this.#scheduler.remove(beam);
    this.#metrics.searchEnd(group.first.times, answerLengths(events), this.#now());
    const best = events.find(({ finishReason }) => finishReason !== null);
    this.#finish(group, best?.finishReason ?? "length");
  }

  #commit({ request, start, count }: Turn): void {
    request.computedCount = start + count;
    this.#kv.commit(request);
  }

  #emit(group: RequestGroup, sequence: Request, chosen: Sample): void {
    this.#metrics.token(sequence, this.#now());
    const finish = group.accept(sequence, chosen);
    this.#generatedTokens++;
    if (finish === undefined) return;
    this.#scheduler.remove(sequence);
    group.members.delete(sequence);
    this.#metrics.sequenceEnd(sequence);
    if (group.members.size === 0) this.#finish(group, finish.reason);
  }

  /**
   * The request of a sequence that has not ended; undefined when it was aborted, as its consumer may
   * leave while the device is busy. The id may be in use again then.
   */
  #groupOf(sequence: Scheduled): AnyRequest | undefined {
    const group = this.#requests.get(sequence.id);
    const members: ReadonlySet<Scheduled> | undefined = group?.members;
    return members?.has(sequence) ? group : undefined;
  }

  #finish(group: AnyRequest, end: RequestEnd): void {
    this.#requests.delete(group.id);
    group.channel.close();
    this.#measureEnd(group, end);
  }

  #abort(group: AnyRequest, end: "stop" | "abort"): void {
    if (this.#requests.get(group.id) !== group) return;
    const isNew = this.#arrivals.includes(group);
    if (isNew) this.#arrivals = this.#arrivals.filter((it) => it !== group);
    else for (const member of group.members) this.#leave(member);
    this.#finish(group, end);
  }

  /** A sequence leaves: at once if it waits, so that others have its place, else before the next step. */
  #leave(sequence: Scheduled): void {
    if (sequence.state === "waiting") this.#scheduler.remove(sequence);
    else this.#aborts.add(sequence);
  }

  #measureEnd(group: AnyRequest, end: RequestEnd, error?: unknown): void {
    const request = group instanceof RequestGroup ? group.first : group;
    this.#metrics.requestEnd(request, end, this.#now(), error);
  }

  /** Ends a request, now. One that was aborted is removed by the next step instead. */
  #fail(
    group: AnyRequest | undefined,
    error: unknown,
    options: { forget?: boolean } = {},
  ): void {
    if (group === undefined || this.#requests.get(group.id) !== group) return;
    this.#requests.delete(group.id);
    group.channel.fail(error);
    this.#measureEnd(group, endOf(error), error);
    for (const member of group.members) this.#scheduler.remove(member, options);
    // Sequences of it that were aborted during this step share its blocks.
    for (const sequence of this.#aborts) {
      if (sequence.id !== group.id) continue;
      this.#scheduler.remove(sequence, options);
      this.#aborts.delete(sequence);
    }
  }

  /** Ends everything; the blocks are freed at the start of the next step, as one may be running. */
  #failAll(error: unknown): void {
    for (const group of this.#requests.values()) {
      group.channel.fail(error);
      for (const member of group.members) this.#aborts.add(member);
      this.#measureEnd(group, endOf(error), error);
    }
    this.#requests.clear();
  }

  /** Lets a request in at the next step. */
  #enter(request: AnyRequest): void {
    this.#requests.set(request.id, request);
    this.#arrivals.push(request);
    if (this.#options.selfDriven ?? true) this.#loop ??= this.#run();
  }

  #checkQueue(): void {
    const waitingCount = this.#scheduler.waitingRequestCount + this.#arrivals.length;
    if (waitingCount < this.#options.maxWaitingRequests) return;
    throw new QueueFullError(waitingCount, RETRY_AFTER_SECONDS);
  }

  /** Whether anything is taken, and under this id. */
  #checkTakes(id: string): void {
    if (this.#closed) throw new ClosedError("Cannot take a request: the engine was closed");
    if (!this.#requests.has(id)) return;
    throw new InvalidParameterError(
      "requestId",
      id,
      `Cannot use the request id "${id}": an unfinished request has it already`,
    );
  }
}

/** The longest chunk of a prompt that the pool of layers with a window has room for. */
function chunkSizeFor({ window: pool, maxContextLength }: Runner, chunkSize: number): number {
  if (pool === undefined || pool.blockCount >= blockCountOf(maxContextLength)) return chunkSize;
  const size = windowChunkSize(pool.window, pool.blockCount, chunkSize);
  invariant(size >= 1, `${pool.blockCount} blocks do not hold a window of ${pool.window} tokens`);
  return size;
}

/** The row that follows all tokens of a sequence. */
interface LastRow {
  readonly group: RequestGroup;
  readonly request: Request;
  readonly known: SummarizedRow;
}

function blockStats(
  pool: Pick<KvCache, "blockCount" | "availableCount" | "cachedCount">,
): BlockStats {
  return {
    usedBlockCount: pool.blockCount - pool.availableCount,
    cachedBlockCount: pool.cachedCount,
    blockCount: pool.blockCount,
  };
}

/** How a request ends that is failed with an error. */
function endOf(error: unknown): "abort" | "error" {
  return error instanceof ClosedError ? "abort" : "error";
}

/** The lengths of whole answers that are told one after another. */
function answerLengths(events: readonly TokenEvent[]): number[] {
  const lengths: number[] = [];
  for (const { index } of events) lengths[index] = (lengths[index] ?? 0) + 1;
  return lengths;
}

/** The request, if it has a sequence `index` that may end before the others. */
function groupWithSequence(request: AnyRequest, index: number): RequestGroup {
  const refuse = (rule: string): never => {
    throw new InvalidParameterError(
      "index",
      index,
      `Cannot abort sequence ${index} of the request "${request.id}": ${rule}`,
    );
  };
  if (request instanceof PoolingRequest) return refuse("it is for hidden states, abort all of it");
  if (request.search !== null) return refuse("it is a beam search, abort all of it");
  const { bestOf } = request.first.params;
  const isIndex = Number.isSafeInteger(index) && index >= 0 && index < bestOf;
  return isIndex ? request : refuse(`its sequences are 0 to ${bestOf - 1}`);
}

/** Draws from what is known of a row, or from the row. */
function choose(
  known: SummarizedRow,
  { sampling }: Request,
  scratch: SamplerScratch,
): Sample {
  return sample(known.row, sampling, { summary: known.summary, scratch });
}
