/** Clients that come and go side by side, and can be asked to wait outside. */

import { Random } from "./random.ts";
import { type Expected, visit, type VisitEnd } from "./visits.ts";

/** After so many faults the rest says nothing new; a server that is gone would add them by thousands. */
const FAULTS_MAX = 200;

/** How many visits ended how. */
export type VisitCounts = Record<VisitEnd, number>;

/** A number of clients at one server. */
export class Crew {
  readonly counts: VisitCounts = { verified: 0, refused: 0, left: 0 };
  /** What was not as it must be, in the order it happened. */
  readonly faults: string[] = [];
  readonly #visitOnce: (random: Random) => Promise<VisitEnd>;
  readonly #randoms: readonly Random[];

  constructor(
    { size, port, known, seed }: {
      readonly size: number;
      readonly port: number;
      readonly known: readonly Expected[];
      readonly seed: number;
    },
  ) {
    this.#randoms = Array.from({ length: size }, (_, at) => new Random(seed + at));
    this.#visitOnce = (random) => visit({ port, random, known });
  }

  /** Lets all visit the server until a moment of `performance.now()`; resolves when all are out. */
  async work(until: number): Promise<void> {
    await Promise.all(
      this.#randoms.map(async (random) => {
        while (performance.now() < until && this.faults.length < FAULTS_MAX) {
          try {
            this.counts[await this.#visitOnce(random)]++;
          } catch (error) {
            this.faults.push(error instanceof Error ? error.message : String(error));
          }
          // Now and then the house empties a little.
          if (random.next() < 0.1) {
            await new Promise((resolve) => setTimeout(resolve, random.integer(0, 1000)));
          }
        }
      }),
    );
  }
}
