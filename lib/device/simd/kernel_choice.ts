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
 * later: a candidate runs at least that long before it counts.
 */
const WARM_MS = 8;
/** The least number of runs counts too, whatever else the machine does meanwhile. */
const WARM_RUNS = 200;

/** In turns, so that a disturbance hits all candidates. */
const ROUNDS = 9;
const RUNS_PER_ROUND = 8;

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
      const start = now();
      for (let run = 0; run < RUNS_PER_ROUND; run++) candidate.run();
      best[i] = Math.min(best[i] as number, now() - start);
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
  const start = now();
  let runs = 0;
  while (runs < WARM_RUNS || now() - start < WARM_MS) {
    candidate.run();
    runs++;
  }
}
