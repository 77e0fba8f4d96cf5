/** What is known of a row of logits without reading it, and the one definition of its log-sum-exp. */

/** Most pairs of a summary: 64, and a few more that show whether others are equal to the 64th. */
export const SUMMARY_TOP_COUNT = 72;

/** The largest logits of a row, and what log-probabilities need. */
export interface RowSummary {
  /** Logits in the row. */
  readonly width: number;
  /**
   * Ids of the largest logits above −Infinity, descending, of equal ones the lower id first: as
   * many as there are, at most {@linkcode SUMMARY_TOP_COUNT}.
   */
  readonly topIds: Int32Array;
  /** Their logits. */
  readonly topLogits: Float32Array;
  /** Whether the row holds NaN. */
  readonly hasNaN: boolean;
  /** {@linkcode logSumExp} of the row; undefined where it was not asked for. */
  readonly logSumExp: number | undefined;
}

/** How much of a row is summarised: nothing, the largest logits, or the log-sum-exp as well. */
export const SUMMARY_NEED = { nothing: 0, top: 1, logprobs: 2 } as const;

/** One of {@linkcode SUMMARY_NEED}. */
export type SummaryNeed = (typeof SUMMARY_NEED)[keyof typeof SUMMARY_NEED];

/** Columns whose exponentials are added up by themselves: sums do not depend on who adds them. */
export const CHUNK_COLUMNS = 1024;

/** Below it e^x counts as 0. */
export const EXP_SMALLEST = -708;

/** Added to a small number it leaves the nearest integer in the low bits of the mantissa. */
export const EXP_ROUNDER: number = 1.5 * 2 ** 52;

/** ln 2 in two parts: the first has so few bits that its product with an exponent is exact. */
export const EXP_LN2: { readonly high: number; readonly low: number } = {
  high: 0.693145751953125,
  low: 1.42860682030941723212e-6,
};

/** 1/11!, 1/10!, … 1/1!, 1/0!: on |r| ≤ ln 2 / 2 the rest of the series is below 1e-14. */
export const EXP_TAYLOR: readonly number[] = [
  39916800,
  3628800,
  362880,
  40320,
  5040,
  720,
  120,
  24,
  6,
  2,
  1,
  1,
].map((factorial) => 1 / factorial);

/** 2^0, 2^−1, … as far as numbers are normal. */
const POWERS: Float64Array = Float64Array.from({ length: 1023 }, (_, i) => 2 ** -i);

/**
 * e^x for x ≤ 0 in double precision, each operation rounded by itself: whoever follows these steps
 * gets the same bits, in JavaScript or in WebAssembly. Whether `Math.exp` would is up to the host.
 */
export function exponential(x: number): number {
  if (!(x >= EXP_SMALLEST)) return 0;
  const n = (x * Math.LOG2E + EXP_ROUNDER) - EXP_ROUNDER;
  const rest = (x - n * EXP_LN2.high) - n * EXP_LN2.low;
  let power = EXP_TAYLOR[0]!;
  for (let i = 1; i < 12; i++) power = power * rest + EXP_TAYLOR[i]!;
  return power * POWERS[-n]!;
}

/** The largest value of a chunk, and Σ exp(value − largest). */
export interface ChunkSum {
  readonly max: number;
  readonly sum: number;
}

/**
 * Adds up one chunk, columns [start, end) of `row`: four partial sums over columns ≡ 0, 1, 2, 3
 * (mod 4), each in ascending order, then (s0 + s2) + (s1 + s3). `start` is a multiple of 4.
 */
export function chunkSum(row: Float32Array, start: number, end: number): ChunkSum {
  let max = -Infinity;
  for (let i = start; i < end; i++) if (row[i]! > max) max = row[i]!;
  let [s0, s1, s2, s3] = [0, 0, 0, 0];
  const whole = end - (end - start) % 4;
  for (let i = start; i < whole; i += 4) {
    s0 += exponential(row[i]! - max);
    s1 += exponential(row[i + 1]! - max);
    s2 += exponential(row[i + 2]! - max);
    s3 += exponential(row[i + 3]! - max);
  }
  if (whole < end) s0 += exponential(row[whole]! - max);
  if (whole + 1 < end) s1 += exponential(row[whole + 1]! - max);
  if (whole + 2 < end) s2 += exponential(row[whole + 2]! - max);
  return { max, sum: (s0 + s2) + (s1 + s3) };
}

/** The log-sum-exp of a row from its chunks, which are added up in their order. */
export function joinChunks(chunks: readonly ChunkSum[]): number {
  let max = -Infinity;
  for (const chunk of chunks) if (chunk.max > max) max = chunk.max;
  let sum = 0;
  for (const chunk of chunks) sum += chunk.sum * exponential(chunk.max - max);
  return max + Math.log(sum);
}

/** log Σ exp(row), by chunks of {@linkcode CHUNK_COLUMNS} in double precision. */
export function logSumExp(row: Float32Array): number {
  const chunks: ChunkSum[] = [];
  for (let start = 0; start < row.length; start += CHUNK_COLUMNS) {
    chunks.push(chunkSum(row, start, Math.min(row.length, start + CHUNK_COLUMNS)));
  }
  return joinChunks(chunks);
}
