/**
 * Which of several kernels with the same bits is the fastest here, found by running them.
 *
 * Only speed may hang on it: the contract suite runs every candidate. A kernel that changes a bit
 * is chosen by an option, never by a clock.
 */

/** What a thread may choose from by timing. */
export type GemmName = "narrow" | "wide";

/** A kernel on some scratch; it takes microseconds. */
export interface Candidate<Name extends string> {
  readonly name: Name;
  run(): void;
}

/**
 * V8 first compiles in a hurry, notes what runs often, and has optimised code some milliseconds
 * later: usually two, 36 have been seen. Until then a kernel is several times as slow, and a clock
 * would choose whichever was optimised first. So a candidate runs until it is that much faster than
 * it began, and a little longer, as its functions follow one by one; code that somebody else has
 * run before begins optimised, so there is an end to it.
 */
const SPEED_UP = 1.7;
const SETTLE_MS = 8;
const WARM_MS_MAX = 60;
/** The best of so many batches is how a candidate begins: the very first may be disturbed. */
const BEGINNING = 3;
const RUNS_PER_BATCH = 8;

/** In turns, so that a disturbance hits all candidates. */
const ROUNDS = 9;

/** A later candidate has to be that much faster than the first: a tie has one answer. */
const ADVANTAGE = 0.9;

/** The fastest candidate by the best of several rounds; the first if none is clearly faster. */
export function chooseFastest<Name extends string>(
  candidates: readonly [Candidate<Name>, ...Candidate<Name>[]],
  now: () => number = () => performance.now(),
): Name {
  for (const candidate of candidates) warm(candidate, now);
  const best = candidates.map(() => Infinity);
  for (let round = 0; round < ROUNDS; round++) {
    candidates.forEach((candidate, i) => {
      best[i] = Math.min(best[i] as number, timeBatch(candidate, now));
    });
  }
  let chosen = 0;
  for (let i = 1; i < candidates.length; i++) {
    const bar = chosen === 0 ? (best[0] as number) * ADVANTAGE : best[chosen] as number;
    if ((best[i] as number) < bar) chosen = i;
  }
  return (candidates[chosen] as Candidate<Name>).name;
}

function warm(candidate: Candidate<string>, now: () => number): void {
  let end = now() + WARM_MS_MAX;
  let beginning = Infinity;
  for (let batch = 0; now() < end; batch++) {
    const ms = timeBatch(candidate, now);
    if (batch < BEGINNING) beginning = Math.min(beginning, ms);
    else if (ms * SPEED_UP < beginning) end = Math.min(end, now() + SETTLE_MS);
  }
}

function timeBatch(candidate: Candidate<string>, now: () => number): number {
  const start = now();
  for (let run = 0; run < RUNS_PER_BATCH; run++) candidate.run();
  return now() - start;
}
