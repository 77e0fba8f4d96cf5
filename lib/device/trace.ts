/** What each processing element ran, how often and for how long. */

/** One kernel's totals on one processing element. */
export interface TraceEntry {
  /** Index of the processing element. */
  readonly pe: number;
  /** Backend, operation and weight format: `simd.matmul.q4_1`. */
  readonly kernel: string;
  /** How often. */
  readonly count: number;
  /** For how long in all, in milliseconds. */
  readonly totalMs: number;
}

/** One kernel's totals while they grow. */
export interface KernelTotal {
  readonly kernel: string;
  count: number;
  totalMs: number;
}

/** Adds up kernel runs. */
export class KernelTrace {
  readonly #totals = new Map<string, KernelTotal>();

  /** The totals of a kernel: look them up once, then add to them. */
  total(kernel: string): KernelTotal {
    let total = this.#totals.get(kernel);
    if (total === undefined) {
      total = { kernel, count: 0, totalMs: 0 };
      this.#totals.set(kernel, total);
    }
    return total;
  }

  /** The totals so far of the kernels that ran. */
  entries(pe: number): TraceEntry[] {
    return [...this.#totals.values()]
      .filter((total) => total.count > 0)
      .map((total) => ({ pe, ...total }));
  }
}
