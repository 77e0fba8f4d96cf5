/** The host's handle on its processing elements: worker threads, or one inline for tests. */

import { DeviceError } from "../../base/errors.ts";
import { invariant } from "../../base/invariant.ts";
import type { Wire } from "../compiler/wire.ts";
import type { Hbm } from "../memory.ts";
import { KernelTrace, type TraceEntry } from "../trace.ts";
import { type BackendName, createKernels, type ElementKernels, type Scratch } from "./backend.ts";
import { COMMAND, CommandQueue, FAULT } from "./command_queue.ts";
import { Executor, type StepCounts } from "./executor.ts";
import { firstBadValue, packMailboxBytes, writePackJob } from "./pack_mailbox.ts";
import { type PackJob, packRows } from "./pack_rows.ts";
import { type KernelFamily, Refusals } from "./refusals.ts";
import type { WorkerStart } from "./worker.ts";

/** The option by which tests make a device's kernels wrong. */
export const SPOIL_KERNELS: unique symbol = Symbol("spoilKernels");

export { divideScratch, numericsClass, scratchBytes } from "./backend.ts";
export type { KernelFamily };

/** A group of processing elements that run the same wire together. */
export interface PeGroup {
  readonly count: number;
  /** Makes a wire known; the number it has from now on. */
  load(wire: Wire): Promise<number>;
  run(wireNumber: number, counts: StepCounts): Promise<void>;
  /** Packs rows into panels; the first value that the panels' format cannot hold, if any. */
  pack(job: PackJob): Promise<number | undefined>;
  trace(): Promise<TraceEntry[]>;
  /** Checks all kernels that were used so far once more. */
  recheck(): Promise<void>;
  /** Fast kernels that were found wrong, and who computes in their place: `matmul.bf16: …`. */
  readonly refusals: Refusals;
  /** For tests: makes an element go wrong at its next run. */
  injectFault(peIndex: number, fault: keyof typeof FAULT): void;
  close(): Promise<void>;
}

/** One element on the calling thread: the plain twin of {@linkcode ThreadedPes}. */
export class InlinePe implements PeGroup {
  readonly count = 1;
  readonly refusals: Refusals = new Refusals();
  readonly #hbm: Hbm;
  readonly #kernels: ElementKernels;
  readonly #trace = new KernelTrace();
  readonly #executor: Executor;

  /** With a scratch in each bank. */
  constructor(
    hbm: Hbm,
    scratches: readonly Scratch[],
    options: Pick<PeOptions, "backend" | "spoiled">,
  ) {
    this.#hbm = hbm;
    const shared = { ...options, refusals: this.refusals.buffer };
    this.#kernels = createKernels(shared, hbm.memories, scratches);
    this.#executor = new Executor(
      this.#kernels.table,
      hbm.memories[0] as WebAssembly.Memory,
      { index: 0, count: 1 },
      this.#trace,
    );
  }

  load(wire: Wire): Promise<number> {
    return Promise.resolve(this.#executor.load(wire));
  }

  run(wireNumber: number, counts: StepCounts): Promise<void> {
    try {
      this.#executor.run(wireNumber, counts, () => {});
      return Promise.resolve();
    } catch (cause) {
      return Promise.reject(new DeviceError(`The processing element failed: ${cause}`, { cause }));
    }
  }

  pack(job: PackJob): Promise<number | undefined> {
    return Promise.resolve(packRows(this.#hbm.memories, job, { index: 0, count: 1 }));
  }

  trace(): Promise<TraceEntry[]> {
    return Promise.resolve(this.#trace.entries(0));
  }

  recheck(): Promise<void> {
    this.#kernels.recheck();
    return Promise.resolve();
  }

  injectFault(): void {
    invariant(false, "An element on the calling thread cannot go wrong by itself");
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/**
 * Threads that load their code while the host does something else. Whoever opens a device with them
 * has them; disposing ends those that nobody took.
 */
export class StartedThreads implements Disposable {
  readonly #workers: Worker[];

  /** Starts so many. */
  constructor(count: number) {
    this.#workers = Array.from({ length: count }, (_, peIndex) => createWorker(peIndex));
  }

  /** One of the threads; undefined when all are taken. */
  take(): Worker | undefined {
    return this.#workers.shift();
  }

  /** Ends the threads that are left. */
  [Symbol.dispose](): void {
    for (const worker of this.#workers.splice(0)) worker.terminate();
  }
}

function createWorker(peIndex: number): Worker {
  return new Worker(new URL("./worker.ts", import.meta.url), {
    type: "module",
    name: `pe${peIndex}`,
  });
}

/** How often the host looks whether a worker has died while it waits. */
const WATCH_MS = 500;
/** A loaded machine may have the workers' types checked first. */
const START_TIMEOUT_MS = 120_000;
const TRACE_BYTES = 65_536;

/** How elements are made. */
interface PeOptions {
  readonly backend: BackendName;
  /** For tests: kernels that are to be wrong. */
  readonly spoiled?: KernelFamily | undefined;
}

/** How the workers are started and watched. */
export interface ThreadedPesOptions extends PeOptions {
  /** One region an element and bank. */
  readonly scratches: readonly (readonly Scratch[])[];
  /** Threads to begin with. */
  readonly started?: StartedThreads | undefined;
  /** After how long without progress a command is given up. */
  readonly stallTimeoutMs: number;
}

/**
 * One worker thread an element.
 *
 * Workers that crash, leave or stall fail the command that runs. All of them are replaced before
 * the next one, and the new ones are told the wires that the old ones knew, under the same numbers.
 */
export class ThreadedPes implements PeGroup {
  readonly count: number;
  readonly refusals: Refusals = new Refusals();
  readonly #hbm: Hbm;
  readonly #options: ThreadedPesOptions;
  #queue: CommandQueue;
  #workers: Worker[] = [];
  readonly #wires: Wire[] = [];
  /** What is wrong with the workers; they are replaced before the next command. */
  #broken: string | undefined;
  /** Ends when the last command posted so far has: commands run one at a time. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(hbm: Hbm, options: ThreadedPesOptions) {
    this.count = options.scratches.length;
    this.#hbm = hbm;
    this.#options = options;
    this.#queue = new CommandQueue(this.count);
  }

  /**
   * Starts one worker for each element that has scratch and waits until all listen.
   *
   * @throws The signal's reason, if it fires meanwhile.
   */
  static async start(
    hbm: Hbm,
    options: ThreadedPesOptions,
    signal?: AbortSignal,
  ): Promise<ThreadedPes> {
    const pes = new ThreadedPes(hbm, options);
    await pes.#start(signal);
    return pes;
  }

  async load(wire: Wire): Promise<number> {
    await this.#command(() => this.#send(wire));
    return this.#wires.push(wire) - 1;
  }

  async run(wireNumber: number, counts: StepCounts): Promise<void> {
    const { tokens, outputs, hidden } = counts;
    await this.#command(() => this.#post(COMMAND.run, wireNumber, tokens, outputs, hidden));
  }

  async pack(job: PackJob): Promise<number | undefined> {
    const address = this.#hbm.allocate(packMailboxBytes(this.count), "a pack job");
    try {
      writePackJob(this.#hbm.buffer, address, job);
      await this.#command(() => this.#post(COMMAND.pack, address));
      return firstBadValue(this.#hbm.buffer, address, this.count);
    } finally {
      this.#hbm.free(address);
    }
  }

  async trace(): Promise<TraceEntry[]> {
    const address = this.#hbm.allocate(TRACE_BYTES * this.count, "the trace");
    try {
      await this.#command(() => this.#post(COMMAND.trace, address, TRACE_BYTES));
      const memory = new Uint8Array(this.#hbm.buffer);
      return Array.from({ length: this.count }, (_, pe): TraceEntry[] => {
        const start = address + pe * TRACE_BYTES;
        const length = new DataView(memory.buffer, start).getUint32(0, true);
        return JSON.parse(new TextDecoder().decode(memory.slice(start + 4, start + 4 + length)));
      }).flat();
    } finally {
      this.#hbm.free(address);
    }
  }

  async recheck(): Promise<void> {
    await this.#command(() => this.#post(COMMAND.recheck));
  }

  injectFault(peIndex: number, fault: keyof typeof FAULT): void {
    this.#queue.setFault(peIndex, FAULT[fault]);
  }

  async close(): Promise<void> {
    await this.#last;
    try {
      if (this.#broken === undefined) await this.#post(COMMAND.stop);
    } finally {
      this.#terminate();
    }
  }

  /** Runs one command after all others, on workers that listen. */
  #command<T>(post: () => Promise<T>): Promise<T> {
    const command = this.#last.then(async () => {
      if (this.#broken !== undefined) await this.#restart();
      return await post();
    });
    this.#last = command.catch(() => {});
    return command;
  }

  async #send(wire: Wire): Promise<void> {
    const bytes = new TextEncoder().encode(JSON.stringify(wire));
    const address = this.#hbm.allocate(
      bytes.length,
      "a wire on its way to the processing elements",
    );
    try {
      new Uint8Array(this.#hbm.buffer).set(bytes, address);
      await this.#post(COMMAND.loadWire, address, bytes.length);
    } catch (error) {
      // Some elements may know the wire and others not: their numbers would differ from now on.
      this.#break("a wire did not reach all of them");
      throw error;
    } finally {
      this.#hbm.free(address);
    }
  }

  async #post(kind: number, first = 0, second = 0, third = 0, fourth = 0): Promise<void> {
    const { stallTimeoutMs } = this.#options;
    const queue = this.#queue;
    const sequence = queue.post({ kind, arguments: [first, second, third, fourth] });
    let progress = queue.progress();
    let progressMs = performance.now();
    while (!await queue.waitDone(sequence, Math.min(WATCH_MS, stallTimeoutMs))) {
      const now = queue.progress();
      if (now !== progress) {
        progress = now;
        progressMs = performance.now();
      } else if (performance.now() - progressMs >= stallTimeoutMs) {
        this.#break(`no progress for ${stallTimeoutMs} ms`);
      }
      if (this.#broken !== undefined) {
        throw new DeviceError(`The processing elements failed: ${this.#broken}`);
      }
    }
    const failure = queue.failure();
    if (failure !== undefined) throw new DeviceError(`A processing element failed: ${failure}`);
  }

  async #start(signal?: AbortSignal): Promise<void> {
    this.#broken = undefined;
    this.#queue = new CommandQueue(this.count);
    this.#workers = this.#options.scratches.map((_, peIndex) => this.#startWorker(peIndex));
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (!await this.#queue.waitReady(WATCH_MS)) {
      if (signal?.aborted) {
        this.#terminate();
        throw signal.reason;
      }
      if (performance.now() > deadline) {
        this.#break(`they do not answer within ${START_TIMEOUT_MS / 1000} s`);
      }
      if (this.#broken !== undefined) {
        throw new DeviceError(`Cannot start the processing elements: ${this.#broken}`);
      }
    }
  }

  #startWorker(peIndex: number): Worker {
    const { backend, spoiled, scratches } = this.#options;
    const worker = this.#options.started?.take() ?? createWorker(peIndex);
    worker.onerror = (event) => {
      event.preventDefault();
      // One that was replaced already has nothing more to say.
      if (this.#workers.includes(worker)) this.#break(event.message);
    };
    const start: WorkerStart = {
      queue: this.#queue.buffer,
      memories: this.#hbm.memories,
      peIndex,
      peCount: this.count,
      kernels: { backend, spoiled, refusals: this.refusals.buffer },
      scratches: scratches[peIndex] as readonly Scratch[],
    };
    worker.postMessage(start);
    return worker;
  }

  async #restart(): Promise<void> {
    await this.#start();
    for (const wire of this.#wires) await this.#send(wire);
  }

  /** Gives the workers up, and wakes whoever waits for them. */
  #break(why: string): void {
    if (this.#broken !== undefined) return;
    this.#broken = why;
    this.#queue.abandon();
    this.#terminate();
    this.#queue.wakeHost();
  }

  #terminate(): void {
    for (const worker of this.#workers) worker.terminate();
    this.#workers = [];
  }
}
