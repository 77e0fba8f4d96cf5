/** Fetch–execute: runs a wire's commands on one processing element's share of rows, columns or units. */

import { invariant } from "../../base/invariant.ts";
import { CHUNK_COLUMNS } from "../../base/row_summary.ts";
import type { Command, Operand, Wire } from "../compiler/wire.ts";
import { type KernelTable, summaryChunkStart } from "../kernel_table.ts";
import type { KernelTotal, KernelTrace } from "../trace.ts";

/** Which processing element this is, of how many. */
export interface PeIdentity {
  readonly index: number;
  readonly count: number;
}

/** How many rows of each domain the step really has. */
export interface StepCounts {
  readonly tokens: number;
  readonly outputs: number;
}

type Work = Exclude<Command, { op: "barrier" }>;

/** A command with where its time is added up, or null for a barrier. */
type Prepared = { readonly command: Work; readonly total: KernelTotal } | null;

/** Backend, operation and weight format: `simd.matmul.q4_1`. */
function kernelName(backend: string, command: Work): string {
  const name = `${backend}.${command.op}`;
  return "weight" in command && typeof command.weight === "object"
    ? `${name}.${command.weight.format}`
    : name;
}

/** What one processing element runs. */
export class Executor {
  readonly #kernels: KernelTable;
  readonly #pe: PeIdentity;
  readonly #trace: KernelTrace;
  readonly #wires: { readonly wire: Wire; readonly steps: readonly Prepared[] }[] = [];

  constructor(kernels: KernelTable, pe: PeIdentity, trace: KernelTrace) {
    this.#kernels = kernels;
    this.#pe = pe;
    this.#trace = trace;
  }

  /** Makes a wire known; the number it has from now on. */
  load(wire: Wire): number {
    const steps = wire.commands.map((command): Prepared =>
      command.op === "barrier"
        ? null
        : { command, total: this.#trace.total(kernelName(this.#kernels.backend, command)) }
    );
    return this.#wires.push({ wire, steps }) - 1;
  }

  /** Runs all commands of a wire; `barrier` returns when every processing element has arrived. */
  run(wireNumber: number, counts: StepCounts, barrier: () => void): void {
    const known = this.#wires[wireNumber];
    invariant(known !== undefined, `Wire ${wireNumber} was not loaded`);
    for (const step of known.steps) {
      if (step === null) {
        barrier();
        continue;
      }
      const { command, total } = step;
      const rowCount = command.rows === "tokens" ? counts.tokens : counts.outputs;
      if (rowCount === 0) continue;
      const start = performance.now();
      this.#execute(command, known.wire, rowCount);
      total.count++;
      total.totalMs += performance.now() - start;
    }
  }

  #at(operand: Operand): number {
    return operand.address + this.#pe.index * operand.copyBytes;
  }

  #rows(rowCount: number): { rowStart: number; rowEnd: number } {
    const { index, count } = this.#pe;
    return {
      rowStart: Math.floor((rowCount * index) / count),
      rowEnd: Math.floor((rowCount * (index + 1)) / count),
    };
  }

  #panels(width: number): { panelStart: number; panelEnd: number } {
    const { index, count } = this.#pe;
    const panelCount = Math.ceil(width / 8);
    return {
      panelStart: Math.floor((panelCount * index) / count),
      panelEnd: Math.floor((panelCount * (index + 1)) / count),
    };
  }

  #columns(width: number): { columnStart: number; columnEnd: number } {
    const { panelStart, panelEnd } = this.#panels(width);
    return {
      columnStart: Math.min(width, panelStart * 8),
      columnEnd: Math.min(width, panelEnd * 8),
    };
  }

  #execute(command: Work, wire: Wire, rowCount: number): void {
    const kernels = this.#kernels;
    switch (command.op) {
      case "embed":
        kernels.embed({
          weight: command.weight,
          ids: wire.inputs.tokenIds,
          out: this.#at(command.out),
          outStride: command.out.stride,
          ...this.#rows(rowCount),
        });
        return;
      case "takeRows":
        kernels.takeRows({
          x: this.#at(command.x),
          xStride: command.x.stride,
          indices: wire.inputs.outputRows,
          width: command.x.width,
          out: this.#at(command.out),
          outStride: command.out.stride,
          ...this.#rows(rowCount),
        });
        return;
      case "rmsNorm":
        kernels.rmsNorm({
          x: this.#at(command.x),
          xStride: command.x.stride,
          weight: command.weight,
          epsilon: command.epsilon,
          width: command.x.width / command.groups,
          groups: command.groups,
          out: this.#at(command.out),
          outStride: command.out.stride,
          ...(command.isPrivate ? { rowStart: 0, rowEnd: rowCount } : this.#rows(rowCount)),
        });
        return;
      case "matmul":
        kernels.matmul({
          x: this.#at(command.x),
          xStride: command.x.stride,
          rowCount,
          weight: command.weight,
          out: this.#at(command.out),
          outStride: command.out.stride,
          ...this.#panels(command.weight.n),
        });
        return;
      case "addBias":
        kernels.addBias({
          x: this.#at(command.x),
          xStride: command.x.stride,
          bias: command.bias,
          rowCount,
          ...this.#columns(command.x.width),
        });
        return;
      case "add":
        kernels.add({
          x: this.#at(command.x),
          xStride: command.x.stride,
          y: this.#at(command.y),
          yStride: command.y.stride,
          rowCount,
          ...this.#columns(command.x.width),
        });
        return;
      case "siluMultiply":
        kernels.siluMultiply({
          gate: this.#at(command.gate),
          gateStride: command.gate.stride,
          up: this.#at(command.up),
          upStride: command.up.stride,
          rowCount,
          ...this.#columns(command.gate.width),
        });
        return;
      case "rope":
        kernels.rope({
          x: this.#at(command.x),
          xStride: command.x.stride,
          heads: command.heads,
          headDim: command.x.width / command.heads,
          rotaryDim: command.rotaryDim,
          positions: wire.inputs.positions,
          table: command.table,
          ...this.#rows(rowCount),
        });
        return;
      case "writeKv":
        kernels.writeKv({
          k: this.#at(command.k),
          kStride: command.k.stride,
          v: this.#at(command.v),
          vStride: command.v.stride,
          slots: wire.inputs.slots,
          cache: command.cache,
          ...this.#rows(rowCount),
        });
        return;
      case "attention":
        kernels.attention({
          q: this.#at(command.q),
          qStride: command.q.stride,
          out: this.#at(command.out),
          outStride: command.out.stride,
          heads: command.heads,
          scale: command.scale,
          window: command.window,
          cache: command.cache,
          positions: wire.inputs.positions,
          sequences: wire.inputs.sequences,
          blockTables: wire.inputs.blockTables,
          blockTableStride: wire.inputs.blockTableStride,
          unitStart: this.#pe.index,
          unitEnd: rowCount * command.cache.kvHeads,
          unitStep: this.#pe.count,
        });
        return;
      case "summarizeRows": {
        const chunkCount = Math.ceil(command.x.width / CHUNK_COLUMNS);
        const { index, count } = this.#pe;
        kernels.summarizeRows({
          x: this.#at(command.x),
          xStride: command.x.stride,
          width: command.x.width,
          rowCount,
          chunkStart: summaryChunkStart(index, count, chunkCount),
          chunkEnd: summaryChunkStart(index + 1, count, chunkCount),
          needs: wire.inputs.summaryNeeds,
          out: this.#at(command.out),
          outStride: command.out.stride,
        });
        return;
      }
      default:
        command satisfies never;
    }
  }
}
