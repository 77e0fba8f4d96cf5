/**
 * Graph + bucket → wire, in passes from top to bottom:
 *
 * 1. partition   where the processing elements must meet            partition.ts
 * 2. place       lifetimes → offsets in the activation arena        place.ts
 * 3. emit        ops → commands with addresses, barriers in between
 */

import { activationsFor, type ActivationType } from "../activations.ts";
import type { Bucket } from "../bucket.ts";
import { KV_BLOCK_SIZE, type KvCacheLayer, type PanelWeight } from "../kernel_table.ts";
import type { Graph, ValueShape } from "./graph.ts";
import type { Op, ValueId } from "./ops.ts";
import type { RoutingShape } from "../routing.ts";
import { partition, type PhasedOp } from "./partition.ts";
import { alignUp, place, type Placement } from "./place.ts";
import type { Command, Operand, Wire, WireInputs } from "./wire.ts";

/** What the compiler must know of the machine: where things lie and how they are shared. */
export interface CompileTarget {
  readonly peCount: number;
  /** Most rows of logits a step may ask for. */
  readonly maxOutputRows: number;
  /** What the activations are where they meet a quantised weight. */
  readonly activations: ActivationType;
  matrix(name: string): PanelWeight;
  /** Address of a float32 vector or table. */
  address(name: string): number;
  kvLayer(index: number): KvCacheLayer;
  /** Address of an activation arena of at least this size. */
  arena(sizeBytes: number): number;
}

/** Names the wire of a graph for a bucket. */
export function wireKey(graph: Graph, bucket: Bucket): string {
  const { kind, batchSize, attentionSize, tokenCount } = bucket;
  return `${graph.name}/${kind}/${batchSize}x${attentionSize}/${tokenCount}`;
}

/** Offsets of the step's inputs from the start of the arena, and the bytes they take. */
function placeInputs(
  graph: Graph,
  bucket: Bucket,
  outputCount: number,
): { inputs: WireInputs; sizeBytes: number } {
  const blockTableStride = Math.ceil(bucket.attentionSize / KV_BLOCK_SIZE);
  let sizeBytes = 0;
  const take = (count: number): number => {
    const offset = sizeBytes;
    sizeBytes = alignUp(sizeBytes + count * 4);
    return offset;
  };
  const takeIf = (isRead: boolean) => isRead ? take(bucket.tokenCount) : null;
  const hasWindowPool = graph.kvLayers.some(({ pool }) => pool === "window");
  const some = (reads: (op: Op) => boolean) => graph.ops.some(reads);
  return {
    inputs: {
      tokenIds: take(bucket.tokenCount),
      positions: take(bucket.tokenCount),
      slots: take(bucket.tokenCount),
      sequences: take(bucket.tokenCount),
      outputRows: take(outputCount),
      summaryNeeds: take(outputCount),
      hiddenRows: takeIf(graph.hidden !== null),
      tokenTypes: takeIf(some((op) => op.op === "embed" && op.ids === "tokenTypes")),
      lastPositions: takeIf(some((op) => op.op === "attention" && op.sees === "all")),
      windowSlots: takeIf(hasWindowPool),
      blockTables: take(bucket.batchSize * blockTableStride),
      windowBlockTables: hasWindowPool ? take(bucket.batchSize * blockTableStride) : null,
      blockTableStride,
    },
    sizeBytes,
  };
}

function emit(op: Op, graph: Graph, target: CompileTarget, at: (id: number) => Operand): Command {
  const rowsOf = (id: number) => (graph.values[id] as ValueShape).rows;
  const choices = ({ routing, shape }: { routing: ValueId; shape: RoutingShape }) =>
    ({ rows: "choices", routing: at(routing), ...shape }) as const;
  const poolOf = (layer: number) => graph.kvLayers[layer]?.pool ?? "global";
  switch (op.op) {
    case "embed":
      return {
        op: "embed",
        rows: "tokens",
        ids: op.ids,
        weight: target.matrix(op.weight),
        out: at(op.out),
      };
    case "takeRows":
      return { op: "takeRows", rows: rowsOf(op.out), x: at(op.x), out: at(op.out) };
    case "rmsNorm": {
      const out = at(op.out);
      return {
        op: "rmsNorm",
        rows: rowsOf(op.x),
        x: at(op.x),
        weight: target.address(op.weight),
        epsilon: op.epsilon,
        groups: op.groups,
        isPrivate: out.copyBytes > 0,
        out,
      };
    }
    case "layerNorm":
      return {
        op: "layerNorm",
        rows: rowsOf(op.x),
        x: at(op.x),
        weight: target.address(op.weight),
        bias: target.address(op.bias),
        epsilon: op.epsilon,
      };
    case "matmul": {
      const weight = target.matrix(op.weight);
      return {
        op: "matmul",
        rows: rowsOf(op.x),
        x: at(op.x),
        weight,
        activations: activationsFor(weight.format, target.activations, op.isSensitive),
        out: at(op.out),
      };
    }
    case "addBias":
      return { op: "addBias", rows: rowsOf(op.x), x: at(op.x), bias: target.address(op.bias) };
    case "add":
      return { op: "add", rows: rowsOf(op.x), x: at(op.x), y: at(op.y) };
    case "siluMultiply":
    case "geluTanhMultiply":
      return { op: op.op, rows: rowsOf(op.gate), gate: at(op.gate), up: at(op.up) };
    case "scale":
      return { op: "scale", rows: rowsOf(op.x), x: at(op.x), factor: op.factor };
    case "softcap":
      return { op: "softcap", rows: rowsOf(op.x), x: at(op.x), cap: op.cap };
    case "gelu":
      return { op: "gelu", rows: rowsOf(op.x), x: at(op.x) };
    case "rope": {
      const table = graph.weights.get(op.table);
      return {
        op: "rope",
        rows: rowsOf(op.x),
        x: at(op.x),
        heads: op.heads,
        rotaryDim: table?.kind === "table" ? table.width : 0,
        table: target.address(op.table),
      };
    }
    case "writeKv":
      return {
        op: "writeKv",
        rows: rowsOf(op.k),
        k: at(op.k),
        v: at(op.v),
        pool: poolOf(op.layer),
        cache: target.kvLayer(op.layer),
      };
    case "attention":
      return {
        op: "attention",
        rows: rowsOf(op.q),
        q: at(op.q),
        heads: op.heads,
        scale: op.scale,
        window: op.window,
        softcap: op.softcap,
        sinks: op.sinks === null ? null : target.address(op.sinks),
        sees: op.sees,
        pool: poolOf(op.layer),
        cache: target.kvLayer(op.layer),
        out: at(op.out),
      };
    case "route":
      return {
        op: "route",
        rows: "tokens",
        ...op.shape,
        logits: at(op.logits),
        router: op.router,
        bias: op.bias === null ? null : target.address(op.bias),
        out: at(op.out),
      };
    case "takeChoices":
      return { op: "takeChoices", ...choices(op), x: at(op.x), out: at(op.out) };
    case "expertMatmul": {
      const all = target.matrix(op.weight);
      return {
        op: "expertMatmul",
        ...choices(op),
        x: at(op.x),
        weight: { ...all, n: all.n / op.shape.expertCount },
        activations: activationsFor(all.format, target.activations, false),
        out: at(op.out),
      };
    }
    case "addExpertBias":
      return { op: "addExpertBias", ...choices(op), x: at(op.x), bias: target.address(op.bias) };
    case "clampedSwiglu": {
      const { gate, up, limit } = op;
      return { op: "clampedSwiglu", rows: rowsOf(gate), gate: at(gate), up: at(up), limit };
    }
    case "sumExperts":
      return { op: "sumExperts", ...choices(op), rows: "tokens", y: at(op.y), out: at(op.out) };
    case "summarizeRows":
      return { op: "summarizeRows", rows: "outputs", x: at(op.x), out: at(op.out) };
    default:
      return op satisfies never;
  }
}

function withBarriers(program: readonly PhasedOp[], commandOf: (op: Op) => Command): Command[] {
  const commands: Command[] = [];
  let phase = 0;
  for (const step of program) {
    if (step.phase !== phase) commands.push({ op: "barrier" });
    phase = step.phase;
    commands.push(commandOf(step.op));
  }
  return commands;
}

/** Compiles a graph for one bucket. */
export function compile(graph: Graph, bucket: Bucket, target: CompileTarget): Wire {
  const outputCount = graph.output === null
    ? 0
    : bucket.kind === "decode"
    ? bucket.batchSize
    : Math.min(bucket.tokenCount, target.maxOutputRows);
  const program = partition(graph);
  const { inputs, sizeBytes } = placeInputs(graph, bucket, outputCount);
  const { placements, arenaBytes } = place(graph, program, {
    tokenCount: bucket.tokenCount,
    outputCount,
    peCount: target.peCount,
    reservedBytes: sizeBytes,
  });
  const arena = target.arena(arenaBytes);
  const at = (id: number): Operand => {
    const { offset, stride, copyBytes } = placements[id] as Placement;
    const { width } = graph.values[id] as ValueShape;
    return { address: arena + offset, stride, width, copyBytes };
  };
  const inArena = (offset: number | null) => offset === null ? null : arena + offset;
  const orNull = (id: number | null) => id === null ? null : at(id);
  return {
    key: wireKey(graph, bucket),
    bucket,
    outputCount,
    inputs: {
      tokenIds: arena + inputs.tokenIds,
      positions: arena + inputs.positions,
      slots: arena + inputs.slots,
      sequences: arena + inputs.sequences,
      outputRows: arena + inputs.outputRows,
      summaryNeeds: arena + inputs.summaryNeeds,
      hiddenRows: inArena(inputs.hiddenRows),
      tokenTypes: inArena(inputs.tokenTypes),
      lastPositions: inArena(inputs.lastPositions),
      windowSlots: inArena(inputs.windowSlots),
      blockTables: arena + inputs.blockTables,
      windowBlockTables: inArena(inputs.windowBlockTables),
      blockTableStride: inputs.blockTableStride,
    },
    commands: withBarriers(program, (op) => emit(op, graph, target, at)),
    output: orNull(graph.output),
    hidden: orNull(graph.hidden),
    summary: orNull(graph.summary),
    choiceCount: graph.choiceCount,
  };
}
