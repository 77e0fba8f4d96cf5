/** One producer, one consumer: an async iterable that can be pushed to, ended, failed and left. */

/**
 * An unbounded queue between one producer and one consumer.
 *
 * The producer calls {@linkcode push}, then {@linkcode close} or {@linkcode fail}. The consumer
 * iterates; when it leaves early (`break`, `return`, an exception) `onLeave` runs once.
 */
export class Channel<T> implements AsyncIterable<T> {
  #items: T[] = [];
  #head = 0;
  #done = false;
  #failed = false;
  #error: unknown;
  #wake: (() => void) | undefined;
  #onLeave: (() => void) | undefined;

  constructor(onLeave?: () => void) {
    this.#onLeave = onLeave;
  }

  /** Whether it was closed, failed or left: nothing that is pushed now would arrive. */
  get isClosed(): boolean {
    return this.#done;
  }

  /** Adds an item. Ignored once the channel is closed or left. */
  push(item: T): void {
    if (this.#done) return;
    this.#items.push(item);
    this.#wake?.();
  }

  /** Ends the iteration after the items pushed so far. */
  close(): void {
    this.#done = true;
    this.#wake?.();
  }

  /** Ends the iteration with an error after the items pushed so far. */
  fail(error: unknown): void {
    if (this.#done) return;
    this.#done = true;
    this.#failed = true;
    this.#error = error;
    this.#wake?.();
  }

  /** Iterates once; a second iteration would share the items. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, void> {
    let ended = false;
    try {
      while (true) {
        while (this.#head < this.#items.length) {
          const item = this.#items[this.#head++] as T;
          if (this.#head === this.#items.length) {
            this.#items = [];
            this.#head = 0;
          }
          yield item;
        }
        if (this.#done) break;
        await new Promise<void>((resolve) => this.#wake = resolve);
        this.#wake = undefined;
      }
      ended = true;
      if (this.#failed) throw this.#error;
    } finally {
      if (!ended) {
        this.#done = true;
        this.#items = [];
        this.#onLeave?.();
      }
    }
  }
}
