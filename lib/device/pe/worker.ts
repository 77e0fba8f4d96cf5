/** Worker-thread entry of one processing element: queue → executor, until told to stop. */

import type { Wire } from "../compiler/wire.ts";
import { KernelTrace } from "../trace.ts";
import { createKernels, type KernelOptions, type Scratch } from "./backend.ts";
import { COMMAND, CommandQueue, FAULT, InterruptedCommand } from "./command_queue.ts";
import { Executor } from "./executor.ts";
import { packRows } from "./pack_rows.ts";
import { readPackJob, writeBadValue } from "./pack_mailbox.ts";

/** The one message a worker ever receives. */
export interface WorkerStart {
  readonly queue: SharedArrayBuffer;
  /** The banks of HBM; commands speak of the first. */
  readonly memories: readonly WebAssembly.Memory[];
  readonly peIndex: number;
  readonly peCount: number;
  readonly kernels: KernelOptions;
  /** One in each bank. */
  readonly scratches: readonly Scratch[];
}

/** The part of the worker's global scope that is used here; the worker library types are not public. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<WorkerStart>) => void) | null;
  close(): void;
}

const scope = globalThis as unknown as WorkerScope;

/** Does what a test has asked for; true if the element is to leave without a word. */
function goWrong(queue: CommandQueue, peIndex: number): boolean {
  switch (queue.takeFault(peIndex)) {
    case FAULT.crash:
      throw new Error("The element crashes as it was asked to");
    case FAULT.stall:
      while (queue.peCount > 0); // for ever
      return true;
    case FAULT.exit:
      scope.close();
      return true;
    default:
      return false;
  }
}

function serve(start: WorkerStart): void {
  const { memories, peIndex, peCount } = start;
  const memory = memories[0] as WebAssembly.Memory;
  const queue = new CommandQueue(peCount, start.queue);
  const trace = new KernelTrace();
  const kernels = createKernels(start.kernels, memories, start.scratches);
  const executor = new Executor(kernels.table, memory, { index: peIndex, count: peCount }, trace);
  const bytesAt = (address: number, length: number) =>
    new Uint8Array(memory.buffer).subarray(address >>> 0, (address >>> 0) + length);

  let seen = queue.ready();
  while (true) {
    seen = queue.next(seen);
    const { kind, arguments: [first, second, third, fourth] } = queue.current();
    if (kind === COMMAND.run && goWrong(queue, peIndex)) return;
    try {
      switch (kind) {
        case COMMAND.run:
          executor.run(
            first,
            { tokens: second, outputs: third, hidden: fourth },
            () => queue.barrier(),
          );
          break;
        case COMMAND.loadWire:
          executor.load(
            JSON.parse(new TextDecoder().decode(bytesAt(first, second).slice())) as Wire,
          );
          break;
        case COMMAND.pack: {
          const pe = { index: peIndex, count: peCount };
          const job = readPackJob(memory.buffer, first >>> 0);
          writeBadValue(memory.buffer, first >>> 0, peIndex, packRows(memories, job, pe));
          break;
        }
        case COMMAND.recheck:
          kernels.recheck();
          break;
        case COMMAND.trace: {
          // Each element has `second` bytes: the length, then the JSON of its totals.
          const json = new TextEncoder().encode(JSON.stringify(trace.entries(peIndex)));
          const target = bytesAt((first >>> 0) + peIndex * second, second);
          new DataView(target.buffer, target.byteOffset).setUint32(0, json.length, true);
          target.set(json, 4);
          break;
        }
      }
    } catch (error) {
      if (!(error instanceof InterruptedCommand)) {
        queue.fail(
          peIndex,
          error instanceof Error ? `${error.name}: ${error.message}` : `${error}`,
        );
      }
    }
    queue.arrive(seen);
    if (kind === COMMAND.stop) break;
  }
  scope.close();
}

scope.onmessage = (event) => serve(event.data);
