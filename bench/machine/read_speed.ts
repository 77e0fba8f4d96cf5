/** How fast this machine reads memory: the loop that every other figure is held against. */

import type { ReadRequest } from "./read_worker.ts";

/** Bytes each thread reads: well beyond any cache. */
const BYTES_PER_THREAD = 256 * 1024 * 1024;

/** Threads that read memory on demand; they sleep in between. */
export class ReadSpeed implements Disposable {
  readonly #workers: Worker[];

  private constructor(workers: Worker[]) {
    this.#workers = workers;
  }

  /** Starts the threads and touches their memory. */
  static async start(threads: number): Promise<ReadSpeed> {
    const workers = Array.from(
      { length: Math.max(1, threads) },
      () => new Worker(new URL("./read_worker.ts", import.meta.url), { type: "module" }),
    );
    const speed = new ReadSpeed(workers);
    await speed.#all({ bytes: BYTES_PER_THREAD });
    return speed;
  }

  /** Bytes a second of all threads together: the best of a few passes. */
  async measure(): Promise<number> {
    let best = 0;
    for (let i = 0; i < 3; i++) {
      const start = performance.now();
      await this.#all({ bytes: BYTES_PER_THREAD });
      const seconds = (performance.now() - start) / 1000;
      best = Math.max(best, (BYTES_PER_THREAD * this.#workers.length) / seconds);
    }
    return best;
  }

  async #all(request: ReadRequest): Promise<void> {
    await Promise.all(this.#workers.map((worker) =>
      new Promise<void>((resolve) => {
        worker.onmessage = () => resolve();
        worker.postMessage(request);
      })
    ));
  }

  [Symbol.dispose](): void {
    for (const worker of this.#workers) worker.terminate();
  }
}
