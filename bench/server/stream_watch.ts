/** Times the stretch in which a number of streams write side by side. */

import type { GenerationDelta } from "../../lib/outputs.ts";
import type { StreamAnswer } from "./protocol.ts";

/**
 * The stretch begins when every stream has its second token and ends when the first of them ends:
 * there, and only there, all decode together.
 */
export class StreamWatch {
  readonly #count: number;
  readonly #done: PromiseWithResolvers<StreamAnswer> = Promise.withResolvers();
  #underWay = 0;
  #ended = 0;
  #tokens = 0;
  #start: Moment | undefined;
  #result: StreamAnswer | undefined;

  constructor(count: number) {
    this.#count = count;
    this.#done.promise.catch(() => {}); // whoever waits for it is told all the same
  }

  /** What was measured, when all streams have ended; fails as soon as one of them does. */
  get done(): Promise<StreamAnswer> {
    return this.#done.promise;
  }

  /** One of the streams will not come, or not to its end. */
  fail(error: unknown): void {
    this.#done.reject(error);
  }

  /** Passes a stream on. */
  async *watch(
    deltas: AsyncIterable<GenerationDelta>,
  ): AsyncGenerator<GenerationDelta, void, void> {
    let tokens = 0;
    let isWhole = false;
    try {
      for await (const delta of deltas) {
        this.#tokens++;
        if (++tokens === 2 && ++this.#underWay === this.#count) {
          this.#tokens = 0;
          this.#start = now();
        }
        if (delta.finishReason !== null) this.#stop();
        yield delta;
      }
      isWhole = true;
    } catch (error) {
      this.fail(error);
      throw error;
    } finally {
      if (!isWhole) this.fail(new Error("The reader of a stream left before its end"));
    }
    if (++this.#ended < this.#count) return;
    if (this.#result === undefined) this.#done.reject(new Error("The streams did not overlap"));
    else this.#done.resolve(this.#result);
  }

  #stop(): void {
    if (this.#start === undefined || this.#result !== undefined) return;
    const end = now();
    const { ms, mainThreadMs } = this.#start;
    this.#result = {
      tokens: this.#tokens,
      ms: end.ms - ms,
      mainThreadMs: mainThreadMs === undefined || end.mainThreadMs === undefined
        ? undefined
        : end.mainThreadMs - mainThreadMs,
    };
  }
}

interface Moment {
  readonly ms: number;
  readonly mainThreadMs: number | undefined;
}

function now(): Moment {
  return { ms: performance.now(), mainThreadMs: mainThreadMs() };
}

/** Linux counts the nanoseconds of each thread; a process's first thread has its number. */
function mainThreadMs(): number | undefined {
  if (Deno.build.os !== "linux") return undefined;
  const [spent] = Deno.readTextFileSync(`/proc/self/task/${Deno.pid}/schedstat`).split(" ");
  return Number(spent) / 1e6;
}
