/** Lets other tasks have their turn between pieces of long work. */

/** The share of the time that others are given, and the most at once. */
const SHARE = 0.05;
const PAUSE_MS_MAX = 0.3;
/** Work that goes on for longer than this should pause in between. */
const DUE_MS = 5;

/**
 * Pauses that cost little and still let sockets be served.
 *
 * A timer would cost a millisecond or two a step. One `setImmediate` costs microseconds but lets
 * only a small part of the pending work through, so a pause is a run of them, as long as a small
 * share of the work before it.
 */
export class Breather {
  #busySinceMs: number = performance.now();

  /** Whether there was no pause for a while. */
  get isDue(): boolean {
    return performance.now() - this.#busySinceMs > DUE_MS;
  }

  /**
   * Awaits something that may or may not keep this thread busy. Where the event loop went round
   * meanwhile, the others had their turn, and the time does not count as work.
   */
  async during<T>(work: Promise<T>): Promise<T> {
    let wentRound = false;
    const watch = setImmediate(() => wentRound = true);
    try {
      return await work;
    } finally {
      clearImmediate(watch);
      if (wentRound) this.#busySinceMs = performance.now();
    }
  }

  /** Gives the other tasks at least one turn. */
  async pause(): Promise<void> {
    const nowMs = performance.now();
    const endMs = nowMs + Math.min((nowMs - this.#busySinceMs) * SHARE, PAUSE_MS_MAX);
    do {
      await new Promise<void>((resolve) => setImmediate(resolve));
    } while (performance.now() < endMs);
    this.#busySinceMs = performance.now();
  }
}
