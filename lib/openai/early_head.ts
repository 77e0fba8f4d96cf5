/**
 * When the head of an answer goes out.
 *
 * As long as an answer may still be refused it must wait, for a refusal is a status. But
 * `Deno.serve` (2.9) tells of a client that leaves before the head is out only where the request
 * was small. So an answer whose request waits in the engine, where nothing is refused any more, and
 * that takes long, sends its head first; from then on `cancel` of its body tells.
 */

/** How long an answer may take, once its prompts are queued, before its head goes out. */
const HEAD_DELAY_MS = 500;

/** Knows when all prompts of a request are queued. */
export class QueueWatch {
  readonly #queued: PromiseWithResolvers<void> = Promise.withResolvers();
  #missing: number;

  /** @param promptCount How many prompts will be told of. */
  constructor(promptCount: number) {
    this.#missing = promptCount;
  }

  /** One more prompt is queued: the `onQueued` of a call. */
  readonly onQueued = (): void => {
    if (--this.#missing === 0) this.#queued.resolve();
  };

  /**
   * Waits until it is time for the head.
   *
   * @param first What the answer begins with, or the whole of it.
   * @throws What `first` rejects with meanwhile.
   */
  async headTime(first: Promise<unknown>): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isSettled = false;
    const late = this.#queued.promise.then(() =>
      new Promise<void>((resolve) => {
        if (!isSettled) timer = setTimeout(resolve, HEAD_DELAY_MS);
      })
    );
    try {
      await Promise.race([first, late]);
    } finally {
      isSettled = true;
      clearTimeout(timer);
      first.catch(() => {}); // who reads the body is told of it
    }
  }
}
