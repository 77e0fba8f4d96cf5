/** One worker of the kernel bench: all of them run the same job, each on its share of the panels. */

import { panelBytes, weightBytes } from "../../lib/device/block_formats.ts";
import { f32ToBf16 } from "../../lib/device/dtype.ts";
import type { AttentionArgs, KernelTable } from "../../lib/device/kernel_table.ts";
import { createSimdKernels } from "../../lib/device/simd/simd.ts";
import { type Job, LAYOUT, type Outcome, type Run, share, type Start, type Work } from "./job.ts";
import { compileCalibration, compilePeak, compileRead, type Loop, READ_STEP } from "./loops.ts";
import { Meeting } from "./meeting.ts";
import { isQuiet, QuietClock, type Sample } from "./quiet.ts";

interface Scope {
  onmessage: ((event: MessageEvent<Start | Work>) => void) | null;
  postMessage(outcome: Outcome): void;
}

/** SmolLM2-135M's heads. */
const HEADS = { heads: 9, kvHeads: 3, headDim: 64 } as const;

const WARM_UP_ROUNDS = 3;
const WARM_UP_MS = 60;

/** A worker that was started. */
class KernelWorker {
  readonly #start: Start;
  readonly #kernels: KernelTable;
  readonly #clock: QuietClock;
  readonly #meeting: Meeting;
  readonly #peak: Loop;
  readonly #read: (start: number, end: number) => number;

  constructor(start: Start) {
    const { memory, index } = start;
    this.#start = start;
    this.#kernels = createSimdKernels(memory, {
      address: LAYOUT.scratch + index * LAYOUT.scratchBytes,
      sizeBytes: LAYOUT.scratchBytes,
    });
    this.#clock = new QuietClock(compileCalibration(memory));
    this.#meeting = new Meeting(start.meeting, start.count);
    this.#peak = compilePeak(memory);
    this.#read = compileRead(memory);
  }

  /** Takes samples of all runs in turns until there are enough quiet ones, or no time is left. */
  work(job: Job): Sample[][] {
    const works = job.runs.map((run, turn) => this.#workOf(run, { ...job, turn }));
    warmUp(works);
    const samples = works.map((): Sample[] => []);
    const deadline = performance.now() + job.limitMs;
    const isLeader = this.#start.index === 0;
    const wantsMore = () =>
      performance.now() < deadline &&
      samples.some((list) => list.filter(isQuiet).length < job.wanted);
    while (this.#meeting.decide(isLeader ? wantsMore() : undefined)) {
      works.forEach((work, i) => {
        this.#meeting.meet();
        samples[i]!.push(this.#clock.sample(work));
      });
    }
    return samples;
  }

  #workOf(run: Run, job: Turn): () => void {
    const { index } = this.#start;
    switch (run.kind) {
      case "peak":
        return () => void this.#peak(run.iterations);
      case "read":
        return this.#calls(job, this.#start.count, (start, end) => void this.#read(start, end));
      case "multiply":
        return this.#multiply(run, job);
      case "attend": {
        const args = attention(this.#start.memory, run);
        return index === 0 ? () => this.#kernels.attention(args) : () => {};
      }
      default:
        return run satisfies never;
    }
  }

  #multiply(run: Run & { kind: "multiply" }, job: Turn): () => void {
    const { n, k, format } = job.weight;
    const size = panelBytes(format, k);
    // Every call gets the panels it multiplies with as a weight of its own.
    return this.#calls(job, run.workers, (start, end) => {
      this.#kernels.matmul({
        x: LAYOUT.x,
        xStride: k,
        rowCount: run.rowCount,
        weight: { address: start, format, n: Math.floor((end - start) / size) * 8, k },
        panelStart: 0,
        panelEnd: Math.floor((end - start) / size),
        // Workers write apart from each other.
        out: LAYOUT.out + this.#start.index * 4 * n,
        outStride: this.#start.count * n,
        activations: run.activations,
      });
    }, size);
  }

  /** A sample: this worker's share of the next calls' panels, in whole steps of `step` bytes. */
  #calls(
    { weight: { format, n, k }, isResident, callPanels, calls, runs, turn }: Turn,
    workers: number,
    call: (start: number, end: number) => void,
    step: number = READ_STEP,
  ): () => void {
    const size = panelBytes(format, k);
    const copies = isResident
      ? 1
      : Math.floor((LAYOUT.end - LAYOUT.weights) / weightBytes(format, n, k));
    const callCount = copies * Math.floor(n / 8 / callPanels);
    const [first, last] = share(callPanels, this.#start.index, workers);
    const length = Math.floor((last - first) * size / step) * step;
    if (length === 0) return () => {};
    // Where another run has just been, a cache has the weights; so each has a start of its own.
    let next = Math.floor(callCount * turn / runs.length);
    return () => {
      for (let i = 0; i < calls; i++) {
        const start = LAYOUT.weights + (next * callPanels + first) * size;
        call(start, start + length);
        next = (next + 1) % callCount;
      }
    };
  }
}

/** A job as one of its runs sees it. */
type Turn = Job & { readonly turn: number };

/** Runs everything until the optimising compiler is through with it. */
function warmUp(works: readonly (() => void)[]): void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (let round = 0; round < WARM_UP_ROUNDS; round++) {
    const start = performance.now();
    while (performance.now() - start < WARM_UP_MS) works.forEach((work) => work());
    Atomics.wait(pause, 0, 0, WARM_UP_MS / 2);
  }
}

/** A cache of one sequence, its block table, and the last rows of it as queries. */
function attention(memory: WebAssembly.Memory, run: Run & { kind: "attend" }): AttentionArgs {
  const { heads, kvHeads, headDim } = HEADS;
  const { dtype, context, rowCount } = run;
  const blocks = context / 16;
  const words = blocks * kvHeads * 16 * headDim / (dtype === "bf16" ? 2 : 1);
  const pool = new Uint32Array(memory.buffer, LAYOUT.kv, 2 * words);
  const floats = new Float32Array(memory.buffer, LAYOUT.kv, 2 * words);
  for (let i = 0; i < pool.length; i++) {
    const value = Math.random() * 0.5;
    if (dtype === "bf16") pool[i] = f32ToBf16(value) * 65537;
    else floats[i] = value;
  }
  const tables = new Int32Array(memory.buffer, LAYOUT.tables, 2 * rowCount + blocks);
  for (let row = 0; row < rowCount; row++) tables[row] = context - rowCount + row;
  tables.fill(0, rowCount, 2 * rowCount);
  for (let block = 0; block < blocks; block++) tables[2 * rowCount + block] = block;
  return {
    q: LAYOUT.x,
    qStride: heads * headDim,
    out: LAYOUT.out,
    outStride: heads * headDim,
    heads,
    scale: 1 / Math.sqrt(headDim),
    window: 0,
    cache: { keys: LAYOUT.kv, values: LAYOUT.kv + 4 * words, dtype, kvHeads, headDim },
    positions: LAYOUT.tables,
    sequences: LAYOUT.tables + 4 * rowCount,
    blockTables: LAYOUT.tables + 8 * rowCount,
    blockTableStride: blocks,
    unitStart: 0,
    unitEnd: rowCount * kvHeads,
    unitStep: 1,
  };
}

const scope = globalThis as unknown as Scope;
let worker: KernelWorker | undefined;

scope.onmessage = ({ data }) => {
  try {
    if (data.kind === "start") {
      worker = new KernelWorker(data);
      scope.postMessage({ kind: "ready" });
    } else {
      if (worker === undefined) throw new Error("The worker was not started");
      scope.postMessage({ kind: "samples", samples: worker.work(data.job) });
    }
  } catch (error) {
    scope.postMessage({ kind: "failed", message: String(error) });
  }
};
