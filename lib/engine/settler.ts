/**
 * What a step's rows mean for each request that had a turn:
 *
 * ```text
 * hidden states ─▶ taken, until all are there
 * logits ─┬─▶ log-probabilities of the prompt
 *         └─▶ the row after the last token ─┬─▶ one token, or the first of several sequences
 *                                           └─▶ what may follow a beam
 * ```
 *
 * Rows can be many and vocabularies large, so there are pauses in between. In each of them a reader
 * may leave: what comes after a pause looks first whether the request is still there.
 */

import { invariant } from "../base/invariant.ts";
import type { SummarizedRow } from "../sampling/continuations.ts";
import { tokenLogprobs } from "../sampling/logprobs.ts";
import { type Sample, sample } from "../sampling/sampler.ts";
import { SamplerScratch } from "../sampling/scratch.ts";
import type { Breather } from "./event_loop.ts";
import type { KvCache } from "./kv_cache.ts";
import type { OpenRequests } from "./open_requests.ts";
import { PoolingRequest } from "./pooling_request.ts";
import type { Request, TokenEvent } from "./request.ts";
import type { RequestGroup } from "./request_group.ts";
import type { RequestMetrics } from "./request_metrics.ts";
import type { Rows } from "./runner.ts";
import type { Scheduler, Turn } from "./scheduler.ts";

/** The parts of the engine that change when a row is settled. */
export interface SettlerParts {
  readonly requests: OpenRequests;
  readonly scheduler: Scheduler;
  readonly kv: KvCache;
  readonly metrics: RequestMetrics;
  readonly breather: Breather;
  readonly now: () => number;
}

/** A sequence that generates, and the request that it is one of. */
interface Generating {
  readonly group: RequestGroup;
  readonly request: Request;
}

/** With the row that follows all its tokens. */
interface LastRow extends Generating {
  readonly known: SummarizedRow;
}

/** Takes in the rows of turns, one after another. */
export class Settler {
  readonly #requests: OpenRequests;
  readonly #scheduler: Scheduler;
  readonly #kv: KvCache;
  readonly #metrics: RequestMetrics;
  readonly #breather: Breather;
  readonly #now: () => number;
  readonly #scratch = new SamplerScratch();
  #generatedTokens = 0;

  constructor({ requests, scheduler, kv, metrics, breather, now }: SettlerParts) {
    this.#requests = requests;
    this.#scheduler = scheduler;
    this.#kv = kv;
    this.#metrics = metrics;
    this.#breather = breather;
    this.#now = now;
  }

  /** Tokens generated so far. */
  get generatedTokens(): number {
    return this.#generatedTokens;
  }

  /** Takes the rows of one turn in. */
  async settle(turn: Turn, rows: Rows): Promise<void> {
    const { request } = turn;
    const group = this.#requests.groupOf(request);
    if (group === undefined) return;
    try {
      if (request instanceof PoolingRequest) await this.#pool(turn, request, rows);
      else await this.#generate(turn, { request, group: group as RequestGroup }, rows);
    } catch (error) {
      // Whatever went wrong with one row is that request's alone. Its blocks may hold NaN as well.
      this.#requests.fail(group, error, { forget: true });
    } finally {
      if (this.#breather.isDue) await this.#breather.pause();
    }
  }

  /** Rows of hidden states. */
  async #pool(turn: Turn, request: PoolingRequest, rows: Rows): Promise<void> {
    const { rowPosition, rowEnd, rowIndex } = turn;
    for (let position = rowPosition; position < rowEnd; position++) {
      if (this.#requests.groupOf(request) === undefined) return;
      const row = rows.hidden?.(rowIndex + position - rowPosition);
      invariant(row !== undefined, "The runner gives no hidden states");
      request.take(row);
      if (this.#breather.isDue) await this.#breather.pause();
    }
    this.#commit(turn);
    if (!request.isComplete || this.#requests.groupOf(request) === undefined) return;
    this.#scheduler.remove(request);
    request.finish();
    this.#requests.finish(request, "stop");
  }

  /** Rows of logits: log-probabilities of the prompt, and the next token. */
  async #generate(turn: Turn, { request, group }: Generating, rows: Rows): Promise<void> {
    const { rowPosition, rowEnd, rowIndex } = turn;
    for (let position = rowPosition; position < rowEnd; position++) {
      if (this.#requests.groupOf(request) !== group) return;
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

  /**
   * The next token of a sequence. When that is the first one, the request's other sequences draw
   * theirs from the same row, and go on from the same blocks.
   */
  async #choose(turn: Turn, { group, request, known }: LastRow): Promise<void> {
    const chosen = this.#draw(request, known);
    this.#commit(turn);
    const others = group.hasBranched ? [] : group.branchOut();
    for (const other of others) this.#scheduler.fork(request, other);
    if (group.members.has(request)) this.#emit(group, request, chosen);
    else this.#scheduler.remove(request); // it was only here to compute the prompt
    for (const other of others) {
      if (this.#breather.isDue) await this.#breather.pause();
      if (this.#requests.groupOf(other) !== group) continue; // it was aborted, or all of them were
      this.#emit(group, other, this.#draw(other, known));
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
    this.#requests.finish(group, best?.finishReason ?? "length");
  }

  /** Draws from what is known of a row, or from the row. */
  #draw({ sampling }: Request, { row, summary }: SummarizedRow): Sample {
    return sample(row, sampling, { summary, scratch: this.#scratch });
  }

  #emit(group: RequestGroup, sequence: Request, chosen: Sample): void {
    this.#metrics.token(sequence, this.#now());
    const finish = group.accept(sequence, chosen);
    this.#generatedTokens++;
    if (finish === undefined) return;
    this.#scheduler.remove(sequence);
    group.members.delete(sequence);
    this.#metrics.sequenceEnd(sequence);
    if (group.members.size === 0) this.#requests.finish(group, finish.reason);
  }

  #commit({ request, start, count }: Turn): void {
    request.computedCount = start + count;
    this.#kv.commit(request);
  }
}

/** The lengths of whole answers that are told one after another. */
function answerLengths(events: readonly TokenEvent[]): number[] {
  const lengths: number[] = [];
  for (const { index } of events) lengths[index] = (lengths[index] ?? 0) + 1;
  return lengths;
}
