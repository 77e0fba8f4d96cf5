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
/** Fewer quiet samples than that, and the noisy ones are counted in. */
const QUIET_MIN = 5;

/** A time in ms, and whether nobody disturbed it. */
export interface Sample {
  readonly ms: number;
  readonly quiet: boolean;
}

/** What samples come to. */
export interface Timing {
  /** Median of the quiet samples; of all where there are too few quiet ones. */
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
  slowness(): number {
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
    const before = this.slowness();
    const start = performance.now();
    run();
    const ms = performance.now() - start;
    return { ms, quiet: Math.max(before, this.slowness()) < TOLERANCE };
  }

  /** The same of a call that answers later. */
  async sampleAsync(run: () => Promise<unknown>): Promise<Sample> {
    const before = this.slowness();
    const start = performance.now();
    await run();
    const ms = performance.now() - start;
    return { ms, quiet: Math.max(before, this.slowness()) < TOLERANCE };
  }
}

/** The median that counts. */
export function summarize(samples: readonly Sample[]): Timing {
  const quiet = samples.filter((sample) => sample.quiet);
  const used = quiet.length >= QUIET_MIN ? quiet : samples;
  return {
    ms: median(used.map(({ ms }) => ms)),
    quietCount: quiet.length,
    count: samples.length,
  };
}
