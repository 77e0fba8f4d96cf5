/** A row of logits together with what is known of it without reading it. */

import { InvalidLogitsError } from "../base/errors.ts";
import {
  joinSums,
  type RowSummary,
  type RowSums,
  rowSums,
  SUMMARY_TOP_COUNT,
} from "../base/row_summary.ts";

/** The largest logits of a row, descending, of equal ones the lower id first. */
export interface TopLogits {
  readonly ids: Int32Array;
  readonly logits: Float32Array;
  /** Whether all tokens that are possible are among them. */
  readonly isWhole: boolean;
}

/**
 * Answers the same with a summary and without one; without, it reads the row, which takes longer.
 * Whoever uses it need not know which it was.
 */
export class KnownRow {
  readonly logits: Float32Array;
  /** Undefined where nobody looked for them. */
  readonly top: TopLogits | undefined;
  readonly #summary: RowSummary | undefined;

  constructor(logits: Float32Array, summary?: RowSummary) {
    this.logits = logits;
    this.#summary = summary;
    this.top = summary && {
      ids: summary.topIds,
      logits: summary.topLogits,
      isWhole: summary.topIds.length < SUMMARY_TOP_COUNT,
    };
  }

  /** @throws {InvalidLogitsError} The row holds NaN or +Infinity, or nothing but −Infinity. */
  check(): void {
    const summary = this.#summary;
    const isFine = summary !== undefined && !summary.hasNaN && summary.topIds.length > 0 &&
      summary.topLogits[0]! < Infinity;
    // What is wrong with a row is said by whoever reads it.
    if (!isFine) largestLogit(this.logits);
  }

  /** Σ exp(logits · scale), by chunks. */
  sums(scale: number): RowSums {
    const known = this.#summary?.sums;
    return known?.scale === scale ? known : rowSums(this.logits, scale);
  }

  /** log Σ exp(logits). */
  logSumExp(): number {
    return this.#summary?.logSumExp ?? joinSums(this.sums(1));
  }
}

/**
 * The largest value of a row.
 *
 * @throws {InvalidLogitsError} The row holds NaN or +Infinity, or nothing but −Infinity.
 */
export function largestLogit(row: Float32Array): number {
  let max = -Infinity;
  for (let id = 0; id < row.length; id++) {
    const value = row[id]!;
    if (!(value < Infinity)) {
      throw new InvalidLogitsError(`Cannot choose a token: the logit of token ${id} is ${value}`);
    }
    if (value > max) max = value;
  }
  if (max === -Infinity) {
    throw new InvalidLogitsError("Cannot choose a token: none is possible, all are at -Infinity");
  }
  return max;
}
