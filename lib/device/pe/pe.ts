/** The host's handle on its processing elements: worker threads, or one inline for tests. */

import { DeviceError } from "../../base/errors.ts";
import type { Wire } from "../compiler/wire.ts";
import type { Hbm } from "../memory.ts";
import { KernelTrace, type TraceEntry } from "../trace.ts";
import { type BackendName, createKernels, type Scratch } from "./backend.ts";
import { COMMAND, CommandQueue } from "./command_queue.ts";
import { Executor, type StepCounts } from "./executor.ts";
import type { WorkerStart } from "./worker.ts";

export { numericsClass, scratchBytes } from "./backend.ts";

/** A group of processing elements that run the same wire together. */
export interface PeGroup {
  readonly count: number;
  /** Makes a wire known; the number it has from now on. */
  load(wire: Wire): Promise<number>;
  run(wireNumber: number, counts: StepCounts): Promise<void>;
  trace(): Promise<TraceEntry[]>;
  close(): Promise<void>;
}

/** One element on the calling thread: the plain twin of {@linkcode ThreadedPes}. */
export class InlinePe implements PeGroup {
  readonly count = 1;
  readonly #trace = new KernelTrace();
  readonly #executor: Executor;

  constructor(backend: BackendName, hbm: Hbm, scratch: Scratch) {
    const kernels = createKernels(backend, hbm.memory, scratch);
    this.#executor = new Executor(kernels, { index: 0, count: 1 }, this.#trace);
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

  trace(): Promise<TraceEntry[]> {
    return Promise.resolve(this.#trace.entries(0));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** How often the host looks whether a worker has died while it waits. */
const WATCH_MS = 500;
const START_TIMEOUT_MS = 30_000;
const TRACE_BYTES = 65_536;

/** One worker thread an element. */
export class ThreadedPes implements PeGroup {
  readonly count: number;
  readonly #hbm: Hbm;
  readonly #queue: CommandQueue;
  readonly #workers: Worker[];
  #wireCount = 0;
  #crash: string | undefined;
  /** Ends when the last command posted so far has: commands run one at a time. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(backend: BackendName, hbm: Hbm, scratches: readonly Scratch[]) {
    this.count = scratches.length;
    this.#hbm = hbm;
    this.#queue = new CommandQueue(this.count);
    this.#workers = scratches.map((scratch, peIndex) => {
      const worker = new Worker(new URL("./worker.ts", import.meta.url), {
        type: "module",
        name: `pe${peIndex}`,
      });
      worker.onerror = (event) => {
        event.preventDefault();
        this.#crash ??= event.message;
      };
      const start: WorkerStart = {
        queue: this.#queue.buffer,
        memory: hbm.memory,
        peIndex,
        peCount: this.count,
        backend,
        scratch,
      };
      worker.postMessage(start);
      return worker;
    });
  }

  /** Starts one worker a scratch region and waits until all listen. */
  static async start(
    backend: BackendName,
    hbm: Hbm,
    scratches: readonly Scratch[],
  ): Promise<ThreadedPes> {
    const pes = new ThreadedPes(backend, hbm, scratches);
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (!await pes.#queue.waitReady(WATCH_MS)) {
      if (pes.#crash !== undefined || performance.now() > deadline) {
        pes.#terminate();
        throw new DeviceError(
          `Cannot start the processing elements: ${pes.#crash ?? "they do not answer"}`,
        );
      }
    }
    return pes;
  }

  async load(wire: Wire): Promise<number> {
    const bytes = new TextEncoder().encode(JSON.stringify(wire));
    const address = this.#hbm.allocate(
      bytes.length,
      "a wire on its way to the processing elements",
    );
    try {
      new Uint8Array(this.#hbm.buffer).set(bytes, address);
      await this.#command(COMMAND.loadWire, address, bytes.length);
    } finally {
      this.#hbm.free(address);
    }
    return this.#wireCount++;
  }

  async run(wireNumber: number, counts: StepCounts): Promise<void> {
    await this.#command(COMMAND.run, wireNumber, counts.tokens, counts.outputs);
  }

  async trace(): Promise<TraceEntry[]> {
    const address = this.#hbm.allocate(TRACE_BYTES * this.count, "the trace");
    try {
      await this.#command(COMMAND.trace, address, TRACE_BYTES);
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

  async close(): Promise<void> {
    if (this.#crash === undefined) await this.#command(COMMAND.stop);
    this.#terminate();
  }

  #command(kind: number, first = 0, second = 0, third = 0): Promise<void> {
    const command = this.#last.then(() => this.#post(kind, first, second, third));
    this.#last = command.catch(() => {});
    return command;
  }

  async #post(kind: number, first: number, second: number, third: number): Promise<void> {
    if (this.#crash !== undefined) {
      throw new DeviceError(`A processing element has crashed: ${this.#crash}`);
    }
    const sequence = this.#queue.post({ kind, arguments: [first, second, third] });
    while (!await this.#queue.waitDone(sequence, WATCH_MS)) {
      if (this.#crash !== undefined) {
        throw new DeviceError(`A processing element crashed: ${this.#crash}`);
      }
    }
    const failure = this.#queue.failure();
    if (failure !== undefined) throw new DeviceError(`A processing element failed: ${failure}`);
  }

  #terminate(): void {
    for (const worker of this.#workers) worker.terminate();
  }
}
