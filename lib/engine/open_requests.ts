/**
 * The requests that have not ended: who enters with the next step, who leaves, and how each of them
 * learns that it is over.
 *
 * ```text
 * enter ─▶ arrivals ─ admit ─▶ scheduler ─ finish, fail ─▶ over
 *             └──────── abort ────┴─▶ over; its sequences leave with the next `admit`
 * ```
 *
 * What runs keeps its blocks until the next step begins, as the device may be writing to them; who
 * only waits leaves the queue at once, so that others have its place.
 */

import { ClosedError, InvalidParameterError, QueueFullError } from "../base/errors.ts";
import { PoolingRequest } from "./pooling_request.ts";
import { RequestGroup } from "./request_group.ts";
import type { RequestEnd, RequestMetrics } from "./request_metrics.ts";
import type { Scheduled } from "./scheduled.ts";
import type { Scheduler } from "./scheduler.ts";

/** A request of either kind. */
export type AnyRequest = RequestGroup | PoolingRequest;

/** After how long a refused request may try again. Nothing better is known: lengths are not. */
const RETRY_AFTER_SECONDS = 1;

/** The unfinished requests of one engine, by their ids. */
export class OpenRequests {
  readonly #scheduler: Scheduler;
  readonly #metrics: RequestMetrics;
  readonly #now: () => number;
  readonly #requests = new Map<string, AnyRequest>();
  /** What enters with the next step. */
  #arrivals: AnyRequest[] = [];
  /** Sequences that leave with the next step; none that waits. */
  #aborts = new Set<Scheduled>();

  constructor(
    { scheduler, metrics, now }: {
      readonly scheduler: Scheduler;
      readonly metrics: RequestMetrics;
      readonly now: () => number;
    },
  ) {
    this.#scheduler = scheduler;
    this.#metrics = metrics;
    this.#now = now;
  }

  /** Whether there is nobody to run for, and nobody whose blocks are to be freed. */
  get isIdle(): boolean {
    return this.#requests.size + this.#aborts.size === 0;
  }

  /** Requests that wait for their first step. */
  get arrivalCount(): number {
    return this.#arrivals.length;
  }

  /** @throws {InvalidParameterError} An unfinished request has the id. */
  checkId(id: string): void {
    if (!this.#requests.has(id)) return;
    throw new InvalidParameterError(
      "requestId",
      id,
      `Cannot use the request id "${id}": an unfinished request has it already`,
    );
  }

  /** @throws {QueueFullError} So many requests, or more, wait already. */
  checkRoom(maxWaitingRequests: number): void {
    const waitingCount = this.#scheduler.waitingRequestCount + this.arrivalCount;
    if (waitingCount < maxWaitingRequests) return;
    throw new QueueFullError(waitingCount, RETRY_AFTER_SECONDS);
  }

  /** Lets a request in at the next step. */
  enter(request: AnyRequest): void {
    this.#requests.set(request.id, request);
    this.#arrivals.push(request);
  }

  /** Arrivals and aborts enter here, and only here. */
  admit(): void {
    const arrivals = this.#arrivals;
    const aborts = this.#aborts;
    this.#arrivals = [];
    this.#aborts = new Set();
    for (const { members } of arrivals) {
      for (const sequence of members) this.#scheduler.enqueue(sequence);
    }
    for (const sequence of aborts) this.#scheduler.remove(sequence);
  }

  /**
   * The request of a sequence that has not ended; undefined when it was aborted, as its consumer may
   * leave while the device is busy. The id may be in use again then.
   */
  groupOf(sequence: Scheduled): AnyRequest | undefined {
    const group = this.#requests.get(sequence.id);
    const members: ReadonlySet<Scheduled> | undefined = group?.members;
    return members?.has(sequence) ? group : undefined;
  }

  /** A request is over, and has no sequence in the scheduler any more. */
  finish(group: AnyRequest, end: RequestEnd): void {
    this.#requests.delete(group.id);
    group.channel.close();
    this.#measureEnd(group, end);
  }

  /** Ends the request of an id, or one of its sequences; see `Engine.abort`. */
  abortId(id: string, index?: number): void {
    const request = this.#requests.get(id);
    if (request === undefined) return;
    if (index === undefined) return this.abort(request);
    const group = groupWithSequence(request, index);
    const sequence = group.drop(index);
    if (sequence !== undefined) {
      this.#leave(sequence);
      this.#metrics.sequenceEnd(sequence);
    }
    // Whoever ends sequences one by one has seen what was wanted of each, such as a stop string.
    if (group.isOver) this.abort(group, group.hasBranched ? "stop" : "abort");
  }

  /** Ends a request whose reader wants no more of it. */
  abort(group: AnyRequest, end: "stop" | "abort" = "abort"): void {
    if (this.#requests.get(group.id) !== group) return;
    const isNew = this.#arrivals.includes(group);
    if (isNew) this.#arrivals = this.#arrivals.filter((it) => it !== group);
    else for (const member of group.members) this.#leave(member);
    this.finish(group, end);
  }

  /** Ends a request by an error, now. One that was aborted is removed by the next step instead. */
  fail(
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
  failAll(error: unknown): void {
    for (const group of this.#requests.values()) {
      group.channel.fail(error);
      for (const member of group.members) this.#aborts.add(member);
      this.#measureEnd(group, endOf(error), error);
    }
    this.#requests.clear();
  }

  #leave(sequence: Scheduled): void {
    if (sequence.state === "waiting") this.#scheduler.remove(sequence);
    else this.#aborts.add(sequence);
  }

  #measureEnd(group: AnyRequest, end: RequestEnd, error?: unknown): void {
    const request = group instanceof RequestGroup ? group.first : group;
    this.#metrics.requestEnd(request, end, this.#now(), error);
  }
}

/** How a request ends that is failed with an error. */
function endOf(error: unknown): "abort" | "error" {
  return error instanceof ClosedError ? "abort" : "error";
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
