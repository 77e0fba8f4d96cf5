/** What each processing element ran, how often and for how long. */

/** One kernel's totals on one processing element. */
export interface TraceEntry {
  readonly pe: number;
  /** Backend, operation and weight format: `simd.matmul.q4_1`. */
  readonly kernel: string;
  readonly count: number;
  readonly totalMs: number;
}

/** Adds up kernel runs. */
export class KernelTrace {
  readonly #totals = new Map<string, { count: number; totalMs: number }>();

  add(kernel: string, elapsedMs: number): void {
    const total = this.#totals.get(kernel);
    if (total === undefined) {
      this.#totals.set(kernel, { count: 1, totalMs: elapsedMs });
      return;
    }
    total.count++;
    total.totalMs += elapsedMs;
  }

  /** The totals so far, in the order the kernels first ran. */
  entries(pe: number): TraceEntry[] {
    return [...this.#totals].map(([kernel, total]) => ({ pe, kernel, ...total }));
  }
}
