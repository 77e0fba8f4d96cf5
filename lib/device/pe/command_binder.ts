/**
 * A command and the arguments of its kernel: all that a step does not change is worked out once, as
 * most kernels are shorter than it takes to build their arguments.
 */

import { invariant } from "../../base/invariant.ts";
import { CHUNK_COLUMNS } from "../../base/row_summary.ts";
import { panelBytes } from "../block_formats.ts";
import type { Command, Operand, Wire } from "../compiler/wire.ts";
import {
  type AddArgs,
  type AddBiasArgs,
  ATTENTION_ROWS,
  type ClampedSwigluArgs,
  type EmbedArgs,
  type GeluArgs,
  type GeluTanhMultiplyArgs,
  type KernelTable,
  type LayerNormArgs,
  type MatmulArgs,
  type RmsNormArgs,
  type RopeArgs,
  type RowRange,
  type ScaleArgs,
  type SiluMultiplyArgs,
  type SoftcapArgs,
  type SumExpertsArgs,
  type SummarizeRowsArgs,
  summaryChunkStart,
  type TakeRowsArgs,
  type WriteKvArgs,
} from "../kernel_table.ts";
import { type RouteArgs, routingParts, type RoutingShape } from "../routing.ts";

/** Which processing element this is, of how many. */
export interface PeIdentity {
  readonly index: number;
  readonly count: number;
}

/** What is computed; barriers are waited for. */
export type Work = Exclude<Command, { op: "barrier" }>;

/** Runs one command on this element's share of a step's rows; how often, where that is not once. */
export type Run = (rowCount: number) => number | void;

/** The same data, while it is ours to write. */
type Writable<T> = { -readonly [Key in keyof T]: T[Key] };

/** The rows of a range before a step says how many there are. */
const NO_ROWS: RowRange = { rowStart: 0, rowEnd: 0 };

/** Rows [rowStart, rowEnd) belong to one expert. */
type OfExpert = (expert: number, rowStart: number, rowEnd: number) => void;

function shapeOf({ expertCount, choiceCount }: RoutingShape): RoutingShape {
  return { expertCount, choiceCount };
}

/** Where one of a step's inputs goes that the wire is sure to have. */
function inputAddress(wire: Wire, name: keyof Wire["inputs"]): number {
  const address = wire.inputs[name];
  invariant(address !== null, `The wire ${wire.key} has no ${name}`);
  return address;
}

/** Binds commands to the kernels of one processing element, and to its share of the work. */
export class CommandBinder {
  readonly #kernels: KernelTable;
  readonly #memory: WebAssembly.Memory;
  readonly #pe: PeIdentity;

  /** `memory` is the one that the kernels work in. */
  constructor(kernels: KernelTable, memory: WebAssembly.Memory, pe: PeIdentity) {
    this.#kernels = kernels;
    this.#memory = memory;
    this.#pe = pe;
  }

  /** What runs a command of a wire from now on. */
  bind(command: Work, wire: Wire): Run {
    const kernels = this.#kernels;
    switch (command.op) {
      case "embed":
        return this.#overRows({
          weight: command.weight,
          ids: inputAddress(wire, command.ids),
          out: this.#at(command.out),
          outStride: command.out.stride,
          ...NO_ROWS,
        }, (args: EmbedArgs) => kernels.embed(args));
      case "takeRows":
        return this.#overRows({
          x: this.#at(command.x),
          xStride: command.x.stride,
          indices: inputAddress(wire, command.rows === "hidden" ? "hiddenRows" : "outputRows"),
          width: command.x.width,
          out: this.#at(command.out),
          outStride: command.out.stride,
          ...NO_ROWS,
        }, (args: TakeRowsArgs) => kernels.takeRows(args));
      case "rmsNorm":
        return this.#bindRmsNorm(command);
      case "layerNorm":
        return this.#overRows({
          x: this.#at(command.x),
          xStride: command.x.stride,
          weight: command.weight,
          bias: command.bias,
          epsilon: command.epsilon,
          width: command.x.width,
          ...NO_ROWS,
        }, (args: LayerNormArgs) => kernels.layerNorm(args));
      case "matmul":
        return this.#overAll({
          x: this.#at(command.x),
          xStride: command.x.stride,
          rowCount: 0,
          weight: command.weight,
          activations: command.activations,
          out: this.#at(command.out),
          outStride: command.out.stride,
          ...this.#panels(command.weight.n),
        }, (args: MatmulArgs) => kernels.matmul(args));
      case "addBias":
        return this.#overAll({
          x: this.#at(command.x),
          xStride: command.x.stride,
          bias: command.bias,
          rowCount: 0,
          ...this.#columns(command.x.width),
        }, (args: AddBiasArgs) => kernels.addBias(args));
      case "add":
        return this.#overAll({
          x: this.#at(command.x),
          xStride: command.x.stride,
          y: this.#at(command.y),
          yStride: command.y.stride,
          rowCount: 0,
          ...this.#columns(command.x.width),
        }, (args: AddArgs) => kernels.add(args));
      case "siluMultiply":
        return this.#overAll({
          gate: this.#at(command.gate),
          gateStride: command.gate.stride,
          up: this.#at(command.up),
          upStride: command.up.stride,
          rowCount: 0,
          ...this.#columns(command.gate.width),
        }, (args: SiluMultiplyArgs) => kernels.siluMultiply(args));
      case "geluTanhMultiply":
        return this.#overAll({
          gate: this.#at(command.gate),
          gateStride: command.gate.stride,
          up: this.#at(command.up),
          upStride: command.up.stride,
          rowCount: 0,
          ...this.#columns(command.gate.width),
        }, (args: GeluTanhMultiplyArgs) => kernels.geluTanhMultiply(args));
      case "scale":
        return this.#overAll({
          x: this.#at(command.x),
          xStride: command.x.stride,
          factor: command.factor,
          rowCount: 0,
          ...this.#columns(command.x.width),
        }, (args: ScaleArgs) => kernels.scale(args));
      case "softcap":
        return this.#overAll({
          x: this.#at(command.x),
          xStride: command.x.stride,
          cap: command.cap,
          rowCount: 0,
          ...this.#columns(command.x.width),
        }, (args: SoftcapArgs) => kernels.softcap(args));
      case "gelu":
        return this.#overAll({
          x: this.#at(command.x),
          xStride: command.x.stride,
          rowCount: 0,
          ...this.#columns(command.x.width),
        }, (args: GeluArgs) => kernels.gelu(args));
      case "rope":
        return this.#overRows({
          x: this.#at(command.x),
          xStride: command.x.stride,
          heads: command.heads,
          headDim: command.x.width / command.heads,
          rotaryDim: command.rotaryDim,
          positions: wire.inputs.positions,
          table: command.table,
          ...NO_ROWS,
        }, (args: RopeArgs) => kernels.rope(args));
      case "writeKv":
        return this.#overRows({
          k: this.#at(command.k),
          kStride: command.k.stride,
          v: this.#at(command.v),
          vStride: command.v.stride,
          slots: inputAddress(wire, command.pool === "window" ? "windowSlots" : "slots"),
          cache: command.cache,
          ...NO_ROWS,
        }, (args: WriteKvArgs) => kernels.writeKv(args));
      case "attention":
        return this.#bindAttention(command, wire);
      case "summarizeRows":
        return this.#bindSummarizeRows(command, wire);
      case "route":
        return this.#bindRoute(command);
      case "takeChoices":
        return this.#bindTakeChoices(command);
      case "expertMatmul":
        return this.#bindExpertMatmul(command);
      case "addExpertBias":
        return this.#bindAddExpertBias(command);
      case "clampedSwiglu":
        return this.#overAll({
          gate: this.#at(command.gate),
          gateStride: command.gate.stride,
          up: this.#at(command.up),
          upStride: command.up.stride,
          limit: command.limit,
          rowCount: 0,
          ...this.#columns(command.gate.width),
        }, (args: ClampedSwigluArgs) => kernels.clampedSwiglu(args));
      case "sumExperts":
        return this.#overAll({
          ...shapeOf(command),
          y: this.#at(command.y),
          yStride: command.y.stride,
          routing: this.#at(command.routing),
          rowCount: 0,
          out: this.#at(command.out),
          outStride: command.out.stride,
          ...this.#columns(command.out.width),
        }, (args: SumExpertsArgs) => kernels.sumExperts(args));
      default:
        return command satisfies never;
    }
  }

  /** All tokens, whoever else routes them: the routing is this element's own. */
  #bindRoute(command: Work & { readonly op: "route" }): Run {
    return this.#overAll({
      ...shapeOf(command),
      logits: this.#at(command.logits),
      logitsStride: command.logits.stride,
      rowCount: 0,
      router: command.router,
      bias: command.bias,
      out: this.#at(command.out),
    }, (args: RouteArgs) => this.#kernels.route(args));
  }

  #bindTakeChoices(command: Work & { readonly op: "takeChoices" }): Run {
    const routing = this.#at(command.routing);
    const args = {
      x: this.#at(command.x),
      xStride: command.x.stride,
      indices: 0,
      width: command.x.width,
      out: this.#at(command.out),
      outStride: command.out.stride,
      ...NO_ROWS,
    };
    const run = this.#overRows(args, (given: TakeRowsArgs) => this.#kernels.takeRows(given));
    return (rowCount) => {
      args.indices = routing + 4 * routingParts(command, rowCount / command.choiceCount).tokens;
      run(rowCount);
    };
  }

  /** The matmul of each expert that was chosen, on the rows that chose it. */
  #bindExpertMatmul(command: Work & { readonly op: "expertMatmul" }): Run {
    const { weight, x, out } = command;
    const panels = this.#panels(weight.n);
    const expertBytes = (weight.n / 8) * panelBytes(weight.format, weight.k);
    const [from, to] = [this.#at(x), this.#at(out)];
    return this.#overExperts(command, (expert, rowStart, rowEnd) =>
      this.#kernels.matmul({
        x: from + 4 * rowStart * x.stride,
        xStride: x.stride,
        rowCount: rowEnd - rowStart,
        weight: { ...weight, address: weight.address + expert * expertBytes },
        activations: command.activations,
        out: to + 4 * rowStart * out.stride,
        outStride: out.stride,
        ...panels,
      }));
  }

  #bindAddExpertBias(command: Work & { readonly op: "addExpertBias" }): Run {
    const { x, bias } = command;
    const columns = this.#columns(x.width);
    const at = this.#at(x);
    return this.#overExperts(command, (expert, rowStart, rowEnd) =>
      this.#kernels.addBias({
        x: at + 4 * rowStart * x.stride,
        xStride: x.stride,
        bias: bias + 4 * expert * x.width,
        rowCount: rowEnd - rowStart,
        ...columns,
      }));
  }

  /** Runs something for each expert that has rows. */
  #overExperts(command: RoutingShape & { readonly routing: Operand }, run: OfExpert): Run {
    const { expertCount, choiceCount } = command;
    const routing = this.#at(command.routing);
    return (rowCount) => {
      const { starts } = routingParts(command, rowCount / choiceCount);
      const rows = new Int32Array(this.#memory.buffer, routing + 4 * starts, expertCount + 1);
      let runCount = 0;
      for (let expert = 0; expert < expertCount; expert++) {
        const [rowStart, rowEnd] = [rows[expert] as number, rows[expert + 1] as number];
        if (rowStart === rowEnd) continue;
        run(expert, rowStart, rowEnd);
        runCount++;
      }
      return runCount;
    };
  }

  #bindRmsNorm(command: Work & { readonly op: "rmsNorm" }): Run {
    const args = {
      x: this.#at(command.x),
      xStride: command.x.stride,
      weight: command.weight,
      epsilon: command.epsilon,
      width: command.x.width / command.groups,
      groups: command.groups,
      out: this.#at(command.out),
      outStride: command.out.stride,
      ...NO_ROWS,
    };
    const kernel = (args: RmsNormArgs) => this.#kernels.rmsNorm(args);
    if (!command.isPrivate) return this.#overRows(args, kernel);
    return (rowCount) => {
      args.rowEnd = rowCount;
      kernel(args);
    };
  }

  #bindAttention(command: Work & { readonly op: "attention" }, wire: Wire): Run {
    const { kvHeads } = command.cache;
    const args = {
      q: this.#at(command.q),
      qStride: command.q.stride,
      out: this.#at(command.out),
      outStride: command.out.stride,
      heads: command.heads,
      scale: command.scale,
      window: command.window,
      softcap: command.softcap,
      sinks: command.sinks,
      cache: command.cache,
      // A row sees the keys up to the position that is given here.
      positions: inputAddress(wire, command.sees === "all" ? "lastPositions" : "positions"),
      sequences: wire.inputs.sequences,
      blockTables: inputAddress(
        wire,
        command.pool === "window" ? "windowBlockTables" : "blockTables",
      ),
      blockTableStride: wire.inputs.blockTableStride,
      unitStart: this.#pe.index,
      unitEnd: 0,
      unitStep: this.#pe.count,
    };
    if (command.sees === "past") {
      return (rowCount) => {
        args.unitEnd = rowCount * kvHeads;
        this.#kernels.attention(args);
      };
    }
    const rowBlocks = { rowCount: 0 };
    const argsOfBlocks = { ...args, rowBlocks };
    return (rowCount) => {
      rowBlocks.rowCount = rowCount;
      argsOfBlocks.unitEnd = Math.ceil(rowCount / ATTENTION_ROWS) * kvHeads;
      this.#kernels.attention(argsOfBlocks);
    };
  }

  #bindSummarizeRows(command: Work & { readonly op: "summarizeRows" }, wire: Wire): Run {
    const { index, count } = this.#pe;
    const chunkCount = Math.ceil(command.x.width / CHUNK_COLUMNS);
    return this.#overAll({
      x: this.#at(command.x),
      xStride: command.x.stride,
      width: command.x.width,
      rowCount: 0,
      chunkStart: summaryChunkStart(index, count, chunkCount),
      chunkEnd: summaryChunkStart(index + 1, count, chunkCount),
      needs: wire.inputs.summaryNeeds,
      out: this.#at(command.out),
      outStride: command.out.stride,
    }, (args: SummarizeRowsArgs) => this.#kernels.summarizeRows(args));
  }

  #at(operand: Operand): number {
    return operand.address + this.#pe.index * operand.copyBytes;
  }

  /** A kernel on this element's run of the rows. */
  #overRows<Args extends RowRange>(
    args: Writable<Args>,
    kernel: (args: Args) => void,
  ): Run {
    const { index, count } = this.#pe;
    return (rowCount) => {
      args.rowStart = Math.floor((rowCount * index) / count);
      args.rowEnd = Math.floor((rowCount * (index + 1)) / count);
      kernel(args);
    };
  }

  /** A kernel on all rows of what its arguments say is this element's part. */
  #overAll<Args extends { readonly rowCount: number }>(
    args: Writable<Args>,
    kernel: (args: Args) => void,
  ): Run {
    return (rowCount) => {
      args.rowCount = rowCount;
      kernel(args);
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
}
