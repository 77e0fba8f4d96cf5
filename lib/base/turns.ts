/** Long work that lets others run in between. */

/** How long a turn lasts. */
const TURN_MS = 3;

/** Whether it is time to pause, and the pause: `if (turns.isOver) await turns.next();` */
export class Turns {
  #startedAt: number = performance.now();

  /** Whether this turn has lasted long enough. */
  get isOver(): boolean {
    return performance.now() - this.#startedAt > TURN_MS;
  }

  /** Lets the event loop come round once, and begins the next turn. */
  async next(): Promise<void> {
    await new Promise<void>((resolve) => setTimeout(resolve));
    this.#startedAt = performance.now();
  }
}
