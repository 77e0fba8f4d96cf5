/** Where workers wait for each other: they spin for a while, then sleep. */

const ARRIVED = 0;
const GENERATION = 1;
const GO_ON = 2;

/** Words that a meeting needs. */
export const MEETING_WORDS = 3;

const POLLS = 50_000;
const WAIT_MS = 100;
/** No run takes nearly as long: whoever is still missing has failed. */
const PATIENCE_MS = 60_000;

/** A barrier of a fixed number of workers. */
export class Meeting {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #count: number;

  constructor(buffer: SharedArrayBuffer, count: number) {
    this.#words = new Int32Array(buffer);
    this.#count = count;
  }

  /** Returns when all have arrived. */
  meet(): void {
    const words = this.#words;
    const generation = Atomics.load(words, GENERATION);
    if (Atomics.add(words, ARRIVED, 1) === this.#count - 1) {
      Atomics.store(words, ARRIVED, 0);
      Atomics.add(words, GENERATION, 1);
      Atomics.notify(words, GENERATION);
      return;
    }
    for (let poll = 0; poll < POLLS; poll++) {
      if (Atomics.load(words, GENERATION) !== generation) return;
    }
    const deadline = performance.now() + PATIENCE_MS;
    while (Atomics.load(words, GENERATION) === generation) {
      Atomics.wait(words, GENERATION, generation, WAIT_MS);
      if (performance.now() > deadline) throw new Error("Another worker of the bench is missing");
    }
  }

  /** One worker decides whether all go on; the others hear of it. */
  decide(goOn: boolean | undefined): boolean {
    if (goOn !== undefined) Atomics.store(this.#words, GO_ON, goOn ? 1 : 0);
    this.meet();
    return Atomics.load(this.#words, GO_ON) === 1;
  }
}
