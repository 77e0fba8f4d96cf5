/** Workers that time kernels together, over one memory full of weights. */

import {
  packPanel,
  panelBytes,
  sourceRowBytes,
  weightBytes,
  type WeightFormat,
} from "../../lib/device/block_formats.ts";
import { f32ToBf16, f32ToF16 } from "../../lib/device/dtype.ts";
import { type Job, K_MAX, LAYOUT, type Outcome, ROWS_MAX, type Start, WORKERS_MAX } from "./job.ts";
import { MEETING_WORDS } from "./meeting.ts";
import { type Sample, summarize, type Timing } from "./quiet.ts";

/** The memory that pools work on, one after another. */
export class KernelMemory {
  readonly memory: WebAssembly.Memory = new WebAssembly.Memory({
    initial: LAYOUT.end / 65536,
    maximum: LAYOUT.end / 65536,
    shared: true,
  });
  #filled = "";

  constructor() {
    const x = new Float32Array(this.memory.buffer, LAYOUT.x, ROWS_MAX * K_MAX);
    for (let i = 0; i < x.length; i++) x[i] = Math.random() * 2 - 1;
  }

  /** Fills the memory with copies of one weight, one after another. */
  fill({ format, n, k }: Job["weight"]): void {
    const name = `${format} ${n} ${k}`;
    if (this.#filled === name) return;
    this.#filled = name;
    const bytes = weightBytes(format, n, k);
    const panel = panelBytes(format, k);
    for (let at = LAYOUT.weights; at < LAYOUT.weights + bytes; at += panel) {
      const target = new Uint8Array(this.memory.buffer, at, panel);
      packPanel(format, k, randomRows(format, 8, k), 8, target);
    }
    const all = new Uint8Array(this.memory.buffer);
    for (let at = LAYOUT.weights + bytes; at + bytes <= LAYOUT.end; at += bytes) {
      all.copyWithin(at, LAYOUT.weights, LAYOUT.weights + bytes);
    }
  }
}

/** Numbers as weights have them: around ±0.02, and scales to match. */
function randomRows(format: WeightFormat, rows: number, k: number): Uint8Array {
  const bytes = new Uint8Array(rows * sourceRowBytes(format, k));
  const view = new DataView(bytes.buffer);
  const draw = () => (Math.random() + Math.random() - 1) * 0.04;
  const blockBytes = format === "q8_0" ? 34 : format === "q4_0" ? 18 : 20;
  if (format === "f32") {
    for (let at = 0; at < bytes.length; at += 4) view.setFloat32(at, draw(), true);
  } else if (format === "bf16" || format === "f16") {
    const store = format === "bf16" ? f32ToBf16 : f32ToF16;
    for (let at = 0; at < bytes.length; at += 2) view.setUint16(at, store(draw()), true);
  } else {
    crypto.getRandomValues(bytes.subarray(0, Math.min(bytes.length, 65536)));
    for (let at = 0; at < bytes.length; at += blockBytes) {
      view.setUint16(at, f32ToF16(0.003 * (1 + Math.random())), true);
      if (format === "q4_1") view.setUint16(at + 2, f32ToF16(-0.03 * Math.random()), true);
    }
  }
  return bytes;
}

/** Workers that are all ready. */
export class KernelPool implements Disposable {
  readonly #memory: KernelMemory;
  readonly #workers: readonly Worker[];

  private constructor(memory: KernelMemory, workers: readonly Worker[]) {
    this.#memory = memory;
    this.#workers = workers;
  }

  /** Starts so many workers. */
  static async start(memory: KernelMemory, count: number): Promise<KernelPool> {
    if (count > WORKERS_MAX) throw new RangeError(`Cannot start ${count} workers`);
    const meeting = new SharedArrayBuffer(4 * MEETING_WORDS);
    const workers = Array.from(
      { length: count },
      () => new Worker(new URL("./worker.ts", import.meta.url), { type: "module" }),
    );
    await Promise.all(workers.map((worker, index) => {
      const start: Start = { kind: "start", memory: memory.memory, meeting, index, count };
      return ask(worker, start);
    }));
    return new KernelPool(memory, workers);
  }

  /** Times the runs of a job; a sample takes as long as the worker that took longest. */
  async time(job: Job): Promise<Timing[]> {
    this.#memory.fill(job.weight);
    const outcomes = await Promise.all(
      this.#workers.map((worker) => ask(worker, { kind: "work", job })),
    );
    const all = outcomes.map((outcome) => {
      if (outcome.kind !== "samples") throw new Error("A worker of the bench has no samples");
      return outcome.samples;
    });
    return job.runs.map((_, run) => {
      const [leader, ...others] = all.map((samples) => samples[run] as readonly Sample[]);
      return summarize((leader as readonly Sample[]).map((sample, i) => {
        const together = [sample, ...others.map((samples) => samples[i] as Sample)];
        return {
          ms: Math.max(...together.map(({ ms }) => ms)),
          slowness: Math.max(...together.map(({ slowness }) => slowness)),
        };
      }));
    });
  }

  [Symbol.dispose](): void {
    for (const worker of this.#workers) worker.terminate();
  }
}

/** Sends a message and waits for the outcome. */
function ask(worker: Worker, message: Start | { kind: "work"; job: Job }): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    worker.onerror = (event) => reject(new Error(event.message));
    worker.onmessage = ({ data }: MessageEvent<Outcome>) => {
      if (data.kind === "failed") reject(new Error(data.message));
      else resolve(data);
    };
    worker.postMessage(message);
  });
}
