/** Small arithmetic on samples, and how figures are written. */

/** The middle one; of an even count the upper of the two. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The value below which a share of the others lies. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const value = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  if (value === undefined) throw new RangeError("Cannot take the median of no values");
  return value;
}

/** Three significant digits: what a noisy machine can show. */
export function rounded(value: number): number {
  return Number(value.toPrecision(3));
}

/** 1.8 → "1.80", 0.9163 → "0.916", 512 → "512". */
export function written(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
