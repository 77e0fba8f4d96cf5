/**
 * The filter for quiet samples.
 *
 * Other tenants of a shared machine slow a core down by up to two times within milliseconds, so a
 * sample counts only if a calibration loop before and after it ran at nearly its best speed ever.
 */

import { median } from "../report/figures.ts";
import type { Loop } from "./loops.ts";

const CALIBRATION_ITERATIONS = 3000;
const TOLERANCE = 1.08;
/** With fewer quiet samples than that, the quarter that was disturbed least counts instead. */
const QUIET_MIN = 5;

/** A time in ms, and how slow the core was around it: 1 is the best that was ever seen of it. */
export interface Sample {
  readonly ms: number;
  readonly slowness: number;
}

/** Whether nobody disturbed a sample. */
export function isQuiet({ slowness }: Sample): boolean {
  return slowness < TOLERANCE;
}

/** What samples come to. */
export interface Timing {
  /** Median of the quiet samples; of the least disturbed where there are too few quiet ones. */
  readonly ms: number;
  readonly quietCount: number;
  readonly count: number;
}

/** Watches one core. */
export class QuietClock {
  readonly #calibration: Loop;
  #best = Infinity;

  constructor(calibration: Loop) {
    this.#calibration = calibration;
  }

  /** How slow the core is right now, over the best that was ever seen; the better of two tries. */
  #slowness(): number {
    return Math.min(this.#calibrate(), this.#calibrate()) / this.#best;
  }

  #calibrate(): number {
    const start = performance.now();
    this.#calibration(CALIBRATION_ITERATIONS);
    const elapsed = performance.now() - start;
    this.#best = Math.min(this.#best, elapsed);
    return elapsed;
  }

  /** Times one call. */
  sample(run: () => void): Sample {
    const before = this.#slowness();
    const start = performance.now();
    run();
    const ms = performance.now() - start;
    return { ms, slowness: Math.max(before, this.#slowness()) };
  }

  /** The same of a call that answers later. */
  async sampleAsync(run: () => Promise<unknown>): Promise<Sample> {
    const before = this.#slowness();
    const start = performance.now();
    await run();
    const ms = performance.now() - start;
    return { ms, slowness: Math.max(before, this.#slowness()) };
  }
}

/** The median that counts. */
export function summarize(samples: readonly Sample[]): Timing {
  const quiet = samples.filter(isQuiet);
  const byDisturbance = samples.toSorted((a, b) => a.slowness - b.slowness);
  const quarter = Math.max(QUIET_MIN, Math.ceil(samples.length / 4));
  const used = quiet.length >= QUIET_MIN ? quiet : byDisturbance.slice(0, quarter);
  return {
    ms: median(used.map(({ ms }) => ms)),
    quietCount: quiet.length,
    count: samples.length,
  };
}
