/** What is known of a row of logits without reading it, and the one definition of its log-sum-exp. */

/** Most pairs of a summary: 64, and a few more that show whether others are equal to the 64th. */
export const SUMMARY_TOP_COUNT = 72;

/** The largest logits of a row, and sums of its exponentials. */
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
  /** {@linkcode rowSums} of the row at the scale that was asked for; undefined where none was. */
  readonly sums: RowSums | undefined;
}

/**
 * How much of a row is summarised: nothing, the largest logits, or sums at the scale 1 as well.
 * Further values: {@linkcode drawNeed}.
 */
export const SUMMARY_NEED = { nothing: 0, top: 1, logprobs: 2 } as const;

/** One of {@linkcode SUMMARY_NEED}, or a {@linkcode drawNeed}: a 32-bit integer. */
export type SummaryNeed = number;

/**
 * The need of a row that a token is drawn from: the largest logits and sums at `scale`, and those
 * at the scale 1 too where log-probabilities are asked for. It is the scale itself, the bits of a
 * positive float32, which are above all of {@linkcode SUMMARY_NEED}; negative it asks for both.
 */
export function drawNeed(scale: number, options: { logprobs: boolean }): SummaryNeed {
  if (scale === 1) return SUMMARY_NEED.logprobs;
  const cell = Float32Array.of(options.logprobs ? -scale : scale);
  return new Int32Array(cell.buffer)[0]!;
}

/** The scales of the sums that a need asks for: {@linkcode drawNeed} read backwards. */
export function scalesOf(need: SummaryNeed): { isUnit: boolean; scale: number | undefined } {
  const isUnit = need === SUMMARY_NEED.logprobs || need < 0;
  if (need === SUMMARY_NEED.nothing || need === SUMMARY_NEED.top) {
    return { isUnit, scale: undefined };
  }
  if (need === SUMMARY_NEED.logprobs) return { isUnit, scale: 1 };
  return { isUnit, scale: Math.abs(new Float32Array(Int32Array.of(need).buffer)[0]!) };
}

/** Columns whose exponentials are added up by themselves: sums do not depend on who adds them. */
export const CHUNK_COLUMNS = 1024;

/** Below it 2^x counts as 0. */
export const POWER_SMALLEST = -1021;

/** Added to a small number it leaves the nearest integer in the low bits of the mantissa. */
export const POWER_ROUNDER: number = 1.5 * 2 ** 52;

/**
 * 2^r on |r| ≤ 1/2 by powers of r, the highest first: the best fit with 1 at 0 (found by Remez
 * exchange), off by at most 2.6e-9 of the value.
 */
export const POWER_POLYNOMIAL: readonly number[] = [
  0.00015594678175653468,
  0.0013406643902314564,
  0.009617692972941202,
  0.05550310551014051,
  0.24022652782888188,
  0.6931472149680276,
  1,
];

const [C6, C5, C4, C3, C2, C1] = POWER_POLYNOMIAL as [
  number,
  number,
  number,
  number,
  number,
  number,
];

/** 2^0, 2^−1, … as far as numbers are normal. */
const POWERS: Float64Array = Float64Array.from({ length: 1023 }, (_, i) => 2 ** -i);

/**
 * 2^x for x ≤ 0, to 3e-9: float32 logits hold no more. Each operation is rounded to a double by
 * itself: whoever follows these steps gets the same bits, in JavaScript or in WebAssembly. Whether
 * `Math.exp` would is up to the host. 0 for NaN, and far down.
 */
export function powerOfTwo(x: number): number {
  if (!(x >= POWER_SMALLEST)) return 0;
  const n = (x + POWER_ROUNDER) - POWER_ROUNDER;
  const r = x - n;
  // Written out: a loop over the coefficients takes twice the time.
  return ((((((C6 * r + C5) * r + C4) * r + C3) * r + C2) * r + C1) * r + 1) * POWERS[-n | 0]!;
}

/** The largest value of a chunk, and Σ exp((value − largest) · scale). */
export interface ChunkSum {
  readonly max: number;
  readonly sum: number;
}

/** The {@linkcode ChunkSum} of all chunks of a row, in their order. */
export interface RowSums {
  /** What differences of logits are multiplied by. */
  readonly scale: number;
  /** The largest logits; −Infinity for a chunk of nothing else. */
  readonly maxima: Float64Array;
  /** Sums relative to them. */
  readonly sums: Float64Array;
}

/**
 * Adds up one chunk, columns [start, end) of `row`: four partial sums over columns ≡ 0, 1, 2, 3
 * (mod 4), each in ascending order, then (s0 + s2) + (s1 + s3). `start` is a multiple of 4.
 */
export function chunkSum(row: Float32Array, start: number, end: number, scale = 1): ChunkSum {
  let max = -Infinity;
  for (let i = start; i < end; i++) if (row[i]! > max) max = row[i]!;
  const rate = scale * Math.LOG2E;
  let [s0, s1, s2, s3] = [0, 0, 0, 0];
  const whole = end - (end - start) % 4;
  for (let i = start; i < whole; i += 4) {
    s0 += powerOfTwo((row[i]! - max) * rate);
    s1 += powerOfTwo((row[i + 1]! - max) * rate);
    s2 += powerOfTwo((row[i + 2]! - max) * rate);
    s3 += powerOfTwo((row[i + 3]! - max) * rate);
  }
  if (whole < end) s0 += powerOfTwo((row[whole]! - max) * rate);
  if (whole + 1 < end) s1 += powerOfTwo((row[whole + 1]! - max) * rate);
  if (whole + 2 < end) s2 += powerOfTwo((row[whole + 2]! - max) * rate);
  return { max, sum: (s0 + s2) + (s1 + s3) };
}

/** The sums of a row by chunks of {@linkcode CHUNK_COLUMNS}. */
export function rowSums(row: Float32Array, scale: number): RowSums {
  const count = Math.ceil(row.length / CHUNK_COLUMNS);
  const maxima = new Float64Array(count);
  const sums = new Float64Array(count);
  for (let chunk = 0; chunk < count; chunk++) {
    const start = chunk * CHUNK_COLUMNS;
    const end = Math.min(row.length, start + CHUNK_COLUMNS);
    ({ max: maxima[chunk], sum: sums[chunk] } = chunkSum(row, start, end, scale));
  }
  return { scale, maxima, sums };
}

/** The log-sum-exp of a row from its sums at the scale 1, which are added up in their order. */
export function joinSums({ maxima, sums }: RowSums): number {
  let max = -Infinity;
  for (const chunkMax of maxima) if (chunkMax > max) max = chunkMax;
  let sum = 0;
  for (let chunk = 0; chunk < sums.length; chunk++) {
    sum += sums[chunk]! * powerOfTwo((maxima[chunk]! - max) * Math.LOG2E);
  }
  return max + Math.log(sum);
}

/** log Σ exp(row), to 1e-8. */
export function logSumExp(row: Float32Array): number {
  return joinSums(rowSums(row, 1));
}
