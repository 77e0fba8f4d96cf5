/** Fetch–execute: runs a wire's commands on one processing element's share of rows, columns or units. */

import { invariant } from "../../base/invariant.ts";
import type { Wire } from "../compiler/wire.ts";
import type { KernelTable } from "../kernel_table.ts";
import type { KernelTotal, KernelTrace } from "../trace.ts";
import { CommandBinder, type PeIdentity, type Run, type Work } from "./command_binder.ts";

/** How many rows of each domain the step really has. */
export interface StepCounts {
  readonly tokens: number;
  readonly outputs: number;
  readonly hidden: number;
}

/** A command with its arguments, and where its time is added up, by who computed it. */
interface Step {
  readonly rows: Work["rows"];
  readonly run: Run;
  readonly totals: Readonly<Record<KernelTable["backend"], KernelTotal>>;
}

/** Backend, operation and weight format: `simd.matmul.q4_1`. */
function kernelName(backend: string, command: Work): string {
  const name = `${backend}.${command.op}`;
  return "weight" in command && typeof command.weight === "object"
    ? `${name}.${command.weight.format}`
    : name;
}

/** A wire's commands. */
interface Program {
  readonly steps: readonly (Step | null)[];
  readonly choiceCount: number;
}

/** What one processing element runs. */
export class Executor {
  readonly #kernels: KernelTable;
  readonly #binder: CommandBinder;
  readonly #trace: KernelTrace;
  readonly #wires: Program[] = [];

  /** `memory` is the one that the kernels work in. */
  constructor(
    kernels: KernelTable,
    memory: WebAssembly.Memory,
    pe: PeIdentity,
    trace: KernelTrace,
  ) {
    this.#kernels = kernels;
    this.#binder = new CommandBinder(kernels, memory, pe);
    this.#trace = trace;
  }

  /** Makes a wire known; the number it has from now on. */
  load(wire: Wire): number {
    const steps = wire.commands.map((command): Step | null =>
      command.op === "barrier" ? null : {
        rows: command.rows,
        run: this.#binder.bind(command, wire),
        totals: {
          simd: this.#trace.total(kernelName("simd", command)),
          reference: this.#trace.total(kernelName("reference", command)),
        },
      }
    );
    return this.#wires.push({ steps, choiceCount: wire.choiceCount }) - 1;
  }

  /** Runs all commands of a wire; `barrier` returns when every processing element has arrived. */
  run(wireNumber: number, counts: StepCounts, barrier: () => void): void {
    const program = this.#wires[wireNumber];
    invariant(program !== undefined, `Wire ${wireNumber} was not loaded`);
    const rowCounts = { ...counts, choices: counts.tokens * program.choiceCount };
    let now = performance.now();
    for (const step of program.steps) {
      if (step === null) {
        barrier();
        now = performance.now();
        continue;
      }
      const { rows, run, totals } = step;
      const rowCount = rowCounts[rows];
      if (rowCount === 0) continue;
      const runCount = run(rowCount) ?? 1;
      const start = now;
      now = performance.now();
      const total = totals[this.#kernels.backend];
      total.count += runCount;
      total.totalMs += now - start;
    }
  }
}
