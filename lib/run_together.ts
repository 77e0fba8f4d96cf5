/** The requests of one call, run together: all are checked first, and only so many wait in the engine. */

import { traceOfOne, type TraceOptions } from "./tracing.ts";

/** What a call says of its requests. */
export interface CallOptions {
  readonly signal?: AbortSignal;
  readonly requestId?: string;
  readonly priority?: number;
  readonly cacheSalt?: string;
  readonly trace?: TraceOptions;
  readonly onQueued?: () => void;
}

/** Their names: one that is missing here would be a type error. */
export const CALL_OPTIONS: Readonly<Record<keyof CallOptions, true>> = {
  signal: true,
  requestId: true,
  priority: true,
  cacheSalt: true,
  trace: true,
  onQueued: true,
};

/** One item of a call. */
export interface RequestItem {
  readonly requestId: string;
  readonly priority: number;
  readonly signal: AbortSignal;
  readonly cacheSalt: string | undefined;
  readonly trace: TraceOptions | undefined;
}

/** What is done for each item of a call. */
export interface RequestWork<Prepared, Result> {
  /** Checks it and makes tokens of it. */
  prepare(index: number, item: RequestItem): Promise<Prepared>;
  /** Runs it in the engine. */
  run(prepared: Prepared, item: RequestItem, index: number): Promise<Result>;
}

/**
 * Prepares `count` items, runs them together, at most `maxInFlight` at once, and gives the results
 * in their order. The first failure ends the others; none of them is left when this returns.
 */
export async function runTogether<Prepared, Result>(
  count: number,
  options: CallOptions,
  maxInFlight: number,
  { prepare, run }: RequestWork<Prepared, Result>,
): Promise<Result[]> {
  const { signal, requestId = crypto.randomUUID(), priority = 0, cacheSalt, trace } = options;
  signal?.throwIfAborted();
  const failed = new AbortController();
  const either = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
  const items = Array.from({ length: count }, (_, index): RequestItem => {
    return {
      requestId: `${requestId}-${index}`,
      priority,
      signal: either,
      cacheSalt,
      trace: trace && traceOfOne(trace, index),
    };
  });
  // All are prepared at once, and run as they come: of a refused one nobody should hear late.
  const prepared = items.map((item, index) => prepare(index, item));
  const checked = Promise.all(prepared).then(
    () => options.onQueued?.(),
    (error) => failed.abort(error),
  );
  const results = new Array<Result>(count);
  let next = 0;
  const work = async () => {
    while (next < count) {
      either.throwIfAborted();
      const index = next++;
      const ready = await prepared[index] as Prepared;
      either.throwIfAborted();
      results[index] = await run(ready, items[index] as RequestItem, index);
    }
  };
  const workers = Array.from({ length: Math.min(count, maxInFlight) }, async () => {
    try {
      await work();
    } catch (error) {
      failed.abort(error);
      throw error;
    }
  });
  const settled = await Promise.allSettled(workers);
  await Promise.allSettled(prepared);
  await checked;
  const isFailed = settled.some(({ status }) => status === "rejected");
  if (isFailed) either.throwIfAborted();
  return results;
}

/** Runs one item that is not one of several: it has the call's own id. */
export async function runAlone<Prepared, Result>(
  options: CallOptions,
  { prepare, run }: RequestWork<Prepared, Result>,
): Promise<Result> {
  const { signal, requestId = crypto.randomUUID(), priority = 0, cacheSalt, trace } = options;
  signal?.throwIfAborted();
  const item: RequestItem = {
    requestId,
    priority,
    signal: signal ?? new AbortController().signal,
    cacheSalt,
    trace,
  };
  const prepared = await prepare(0, item);
  options.onQueued?.();
  return await run(prepared, item, 0);
}
