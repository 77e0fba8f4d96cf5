/** Trying again: what may be gone the next time, how often, and after how long. */

import { pause } from "./hub_lock.ts";

/** A failure that may be gone at the next try. The message is the reason alone. */
export class TransientError extends Error {
  override name = "TransientError";
  /** What the hub asks for. */
  readonly retryAfterSeconds: number | undefined;
  /** Nothing was ever heard of the other side. */
  readonly isUnreachable: boolean;

  constructor(
    message: string,
    options: ErrorOptions & { retryAfterSeconds?: number | undefined; isUnreachable?: boolean } =
      {},
  ) {
    super(message, options);
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.isUnreachable = options.isUnreachable ?? false;
  }
}

/** How long things take. A test gives shorter times. */
export interface HubTimes {
  /** How long nothing may arrive before a connection counts as dead. */
  readonly stallMs: number;
  /** Before the second try; doubled for each one after it. */
  readonly backoffMs: number;
  /** How often a lock that somebody else has is tried. */
  readonly lockPollMs: number;
}

/** The times of the real world. */
export const HUB_TIMES: HubTimes = { stallMs: 30_000, backoffMs: 1000, lockPollMs: 200 };

const TRIES_MAX = 5;
/** Where not even a question gets through: mostly the machine is offline, and waiting is no help. */
const UNREACHABLE_TRIES_MAX = 2;
/** The hub counts requests in windows of five minutes. */
const RETRY_AFTER_MAX_SECONDS = 300;

/** What is tried, and with what. */
export interface Tries {
  readonly times: HubTimes;
  readonly signal: AbortSignal;
  /** Bytes so far: as long as they grow, tries do not count. Without it a question is asked. */
  readonly progress?: () => number;
}

/**
 * Calls `attempt` until it succeeds or has failed too often in a row. Only a `TransientError` is
 * tried again; the last one is thrown.
 */
export async function withTries<T>(
  attempt: () => Promise<T>,
  tries: Tries,
): Promise<T> {
  const { times, signal, progress = () => 0 } = tries;
  let best = progress();
  for (let failed = 0;;) {
    signal.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof TransientError)) throw error;
      if (progress() > best) failed = 0;
      best = Math.max(best, progress());
      failed++;
      const { retryAfterSeconds = 0, isUnreachable } = error;
      const isFirstWord = isUnreachable && tries.progress === undefined;
      const triesMax = isFirstWord ? UNREACHABLE_TRIES_MAX : TRIES_MAX;
      if (failed >= triesMax || retryAfterSeconds > RETRY_AFTER_MAX_SECONDS) throw error;
      // Half of it by chance, so that many machines that failed together do not return together.
      const backoffMs = times.backoffMs * 2 ** (failed - 1) * (0.5 + Math.random() / 2);
      await pause(Math.max(backoffMs, retryAfterSeconds * 1000), signal);
    }
  }
}
