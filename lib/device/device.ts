/**
 * The emulated RNGD device: memory, processing elements, compiled wires.
 *
 * Upper floors hold a {@linkcode Device}; what they say is a {@linkcode Graph}; what they get back
 * is rows of float32. The device knows no token, request, prompt or model name.
 *
 * @example Multiply two rows by a small matrix
 * ```ts
 * import { GraphBuilder, openDevice } from "@rngd/llm/device";
 *
 * const builder = new GraphBuilder("double");
 * builder.matrix("table", 2, 8);
 * const rows = builder.takeOutputRows(builder.embed("table"));
 * const graph = builder.finish(rows);
 *
 * await using device = await openDevice({ threads: 0 });
 * device.allocateMatrix("table", "f32", 2, 8);
 * const numbers = Float32Array.from({ length: 16 }, (_, i) => i);
 * device.uploadRows("table", 0, 2, new Uint8Array(numbers.buffer));
 * const wire = device.prepare(graph, {
 *   kind: "prefill",
 *   batchSize: 1,
 *   attentionSize: 16,
 *   tokenCount: 1,
 * });
 * const zero = Int32Array.of(0);
 * const result = await device.run(wire, {
 *   tokenIds: Int32Array.of(1),
 *   positions: zero,
 *   slots: zero,
 *   sequences: zero,
 *   blockTables: [[0]],
 *   outputRows: zero,
 * });
 * console.log(result.row(0)); // 8, 9, … 15
 * ```
 * @module
 */

import { DeviceMemoryError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import { type RowSummary, SUMMARY_NEED } from "../base/row_summary.ts";
import type { ActivationType } from "./activations.ts";
import { packPanel, panelBytes, sourceRowBytes, weightBytes } from "./block_formats.ts";
import type { WeightFormat } from "./block_formats.ts";
import type { Bucket } from "./bucket.ts";
import type { Graph } from "./compiler/graph.ts";
import type { Operand, Wire } from "./compiler/wire.ts";
import { WireCache, type WireStats } from "./compiler/wire_cache.ts";
import {
  type KernelLimits,
  KV_BLOCK_SIZE,
  type KvCacheLayer,
  type KvDtype,
  type KvPool,
  type PanelWeight,
} from "./kernel_table.ts";
import { type BankShape, Hbm, type MemoryNeed, offsetInBank, planBanks } from "./memory.ts";
import { BANK_BYTES_MAX } from "./memory_bank.ts";
import { joinSummary } from "./row_summary.ts";
import {
  divideScratch,
  INJECT_FAULT,
  InlinePe,
  type KernelFamily,
  numericsClass,
  type PeGroup,
  scratchBytes,
  SPOIL_KERNELS,
  StartedThreads,
  ThreadedPes,
} from "./pe/pe.ts";
import type { TraceEntry } from "./trace.ts";

export {
  type AttentionOptions,
  type Graph,
  GraphBuilder,
  type KvShape,
  type MatmulOptions,
  type RouteOptions,
  type Routing,
  type Value,
  type ValueShape,
  type WeightShape,
} from "./compiler/graph.ts";
export type {
  AddBiasOp,
  AddExpertBiasOp,
  AddOp,
  AttentionOp,
  ClampedSwigluOp,
  EmbedIds,
  EmbedOp,
  ExpertMatmulOp,
  GeluOp,
  GeluTanhMultiplyOp,
  LayerNormOp,
  MatmulOp,
  Op,
  RmsNormOp,
  RopeOp,
  RouteOp,
  RowDomain,
  ScaleOp,
  SiluMultiplyOp,
  SoftcapOp,
  SumExpertsOp,
  SummarizeRowsOp,
  TakeChoicesOp,
  TakeRowsOp,
  ValueId,
  WriteKvOp,
} from "./compiler/ops.ts";
export {
  type Command,
  type OnChoices,
  type OnRows,
  type Operand,
  type Wire,
  type WireInputs,
  wireText,
} from "./compiler/wire.ts";
export type { HistogramSnapshot } from "../base/histogram.ts";
export type { WireStats } from "./compiler/wire_cache.ts";
export type { AttentionBucket, Bucket, BucketKind, BucketTables } from "./bucket.ts";
export type { KernelLimits, KvCacheLayer, KvDtype, KvPool, PanelWeight } from "./kernel_table.ts";
export type { TraceEntry } from "./trace.ts";
export type { RowSummary, RowSums } from "../base/row_summary.ts";
export type { ActivationType } from "./activations.ts";
export type { Router, RoutingShape } from "./routing.ts";
export type { QuantizedFormat, WeightFormat } from "./block_formats.ts";
export type { GroupedFormat } from "./grouped_blocks.ts";
export type { KernelFamily };
export type { MemoryNeed };
export { numericsClass, SPOIL_KERNELS, StartedThreads };

/** The option by which tests make the banks of a device's memory small. */
export const STORE_BYTES: unique symbol = Symbol("storeBytes");

/** How a device is opened. */
export interface DeviceOptions {
  /** Worker threads, one a processing element. 0 runs everything inline. Default: 1. */
  readonly threads?: number;
  /** "simd" (default), or "reference", the plain twin. */
  readonly kernels?: "simd" | "reference";
  /** Largest shapes the graphs will use; they size each element's scratch memory. */
  readonly limits?: KernelLimits;
  /** Most rows of output a step may ask for. Default 64. */
  readonly maxOutputRows?: number;
  /** What activations are where they meet a quantised matrix: integers or, by default, "f32". */
  readonly activations?: ActivationType;
  /**
   * After how many milliseconds without progress a step fails and the threads are replaced.
   * Default 30,000.
   */
  readonly stallTimeoutMs?: number;
  /**
   * What will be allocated. What does not fit 4 GiB is spread over several memories, and what the
   * device cannot hold is refused. Default: one memory, which is refused when it is full.
   */
  readonly memory?: MemoryNeed;
  /** Threads that were started earlier, `threads` of them. Default: new ones. */
  readonly startedThreads?: StartedThreads;
  /** For tests: fast kernels that are to compute something else. */
  readonly [SPOIL_KERNELS]?: KernelFamily;
  /** For tests: bytes of each bank of memory for matrices, keys and values. */
  readonly [STORE_BYTES]?: number;
}

/** One step's int32 inputs; `tokenIds.length` rows. */
export interface StepInputs {
  /** Token ids. */
  readonly tokenIds: Int32Array;
  /** Position of each row's token in its sequence. */
  readonly positions: Int32Array;
  /** Where each row's key and value go: block · 16 + offset. */
  readonly slots: Int32Array;
  /** Index of each row's sequence. */
  readonly sequences: Int32Array;
  /** Block ids, sequence by sequence. */
  readonly blockTables: readonly (readonly number[])[];
  /** As `slots`, of layers in the window pool. Where there are such layers it must be given. */
  readonly windowSlots?: Int32Array;
  /** The same of `blockTables`. Ids of blocks that no row sees can be anything. */
  readonly windowBlockTables?: readonly (readonly number[])[];
  /** Rows whose output is wanted, ascending. */
  readonly outputRows: Int32Array;
  /** What is wanted of each output row's summary, as `SUMMARY_NEED`. Default: nothing. */
  readonly summaryNeeds?: Int32Array;
  /** Rows whose hidden state is wanted, ascending. Default: none. */
  readonly hiddenRows?: Int32Array;
  /** Token type of each token. Default: 0. */
  readonly tokenTypes?: Int32Array;
  /** KV blocks that get the contents of other ones before the step, one after another. */
  readonly blockCopies?: readonly BlockCopyInput[];
}

/** A block that gets the contents of another one. */
export interface BlockCopyInput {
  /** Id of the block that is read. */
  readonly from: number;
  /** Id of the block that is written. */
  readonly to: number;
  /** Whose blocks they are. Default "global". */
  readonly pool?: KvPool;
}

/** What a step gave back: float32 rows in HBM, valid until the next step. */
export interface DeviceRows {
  /** Rows of output. */
  readonly count: number;
  /** Row i belongs to `outputRows[i]`. */
  row(index: number): Float32Array;
  /** Rows of hidden states. */
  readonly hiddenCount: number;
  /** Row i belongs to `hiddenRows[i]`. */
  hidden(index: number): Float32Array;
  /** What the elements found in row i; undefined where nothing was asked for. Yours to keep. */
  summary(index: number): RowSummary | undefined;
}

/** All that upper floors may ask of the machine. */
export interface Device extends AsyncDisposable {
  /** Processing elements: worker threads, or 1 inline. */
  readonly peCount: number;
  /** Bytes of HBM in use. */
  readonly usedBytes: number;
  /** Makes room for a weight matrix [n, k]. k is a multiple of 8, of 32 for quantised formats. */
  allocateMatrix(name: string, format: WeightFormat, n: number, k: number): void;
  /** Makes room for a float32 vector or table and fills it. */
  uploadFloats(name: string, values: Float32Array): void;
  /** Fills rows [rowStart, rowStart + rowCount) of a matrix from checkpoint bytes; rowStart is a multiple of 8. */
  uploadRows(name: string, rowStart: number, rowCount: number, source: Uint8Array): void;
  /** Opens a window through which rows get to a matrix by way of the processing elements. */
  openRowWindow(sizeBytes: number): RowWindow;
  /**
   * Makes room for the keys and values of layers that are equal but for their pools: so many global
   * ones, or one for each pool that is named.
   */
  allocateKv(layers: number | readonly KvPool[], shape: KvPoolShape): void;
  /** The wire of a graph for a bucket: compiled once, then cached. */
  prepare(graph: Graph, bucket: Bucket): Wire;
  /** Runs one step. Steps run one at a time, in the order of the calls. */
  run(wire: Wire, inputs: StepInputs): Promise<DeviceRows>;
  /** How the wire cache has done. */
  wireStats(): WireStats;
  /**
   * Fast kernels that gave other answers here than their plain twins, which compute in their place:
   * `matmul.bf16: …`. A kernel is checked when a step first needs it. Empty on a sound machine.
   */
  readonly kernelFallbacks: readonly string[];
  /** Checks all kernels that were used so far once more, now that the host has optimised them. */
  recheckKernels(): Promise<void>;
  /** What the processing elements ran so far. */
  trace(): Promise<TraceEntry[]>;
  /** Stops the threads, after the steps that were posted. */
  close(): Promise<void>;
}

/** Memory of the device in which checkpoint rows wait to be packed. Close it when all is packed. */
export interface RowWindow extends Disposable {
  /** Where the rows are put, one after another. */
  readonly bytes: Uint8Array;
  /**
   * Turns the first `rowCount` rows here, stored as `from`, into rows from `rowStart`, a multiple of
   * 8, of a matrix. All elements work on it, and leave the same bytes as `uploadRows`.
   *
   * @returns The first value that the matrix's format cannot hold, undefined if there is none.
   */
  pack(
    name: string,
    rows: { readonly from: WeightFormat; readonly rowStart: number; readonly rowCount: number },
  ): Promise<number | undefined>;
}

/** Shape of the KV pool. */
export interface KvPoolShape {
  /** How keys and values are stored. */
  readonly dtype: KvDtype;
  /** Heads of keys and values. */
  readonly kvHeads: number;
  /** Floats in a head. */
  readonly headDim: number;
  /** Blocks in the pool. */
  readonly blockCount: number;
  /** Blocks in the pool of layers with a window. Default 0. */
  readonly windowBlockCount?: number;
}

/** Bytes that one KV block takes in one layer, keys and values together. */
export function kvBlockBytes(
  shape: Omit<KvPoolShape, "blockCount" | "windowBlockCount">,
): number {
  const elementBytes = shape.dtype === "f32" ? 4 : 2;
  return 2 * shape.kvHeads * shape.headDim * KV_BLOCK_SIZE * elementBytes;
}

/** Bytes a matrix takes in HBM. */
export function matrixBytes(format: WeightFormat, n: number, k: number): number {
  return weightBytes(format, n, k);
}

const STALL_TIMEOUT_MS = 30_000;
const DEFAULT_LIMITS: KernelLimits = { kMax: 4096, headDimMax: 128, headGroupMax: 8 };

class EmulatedDevice implements Device {
  readonly #hbm: Hbm;
  readonly #pes: PeGroup;
  readonly #wires: WireCache;
  readonly #wireNumbers = new Map<Wire, Promise<number>>();
  readonly #matrices = new Map<string, PanelWeight>();
  readonly #floats = new Map<string, { address: number; length: number }>();
  #kvLayers: (KvCacheLayer & { readonly pool: KvPool })[] = [];
  #arena = { address: 0, sizeBytes: 0 };
  #last: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;
  #kernelFallbacks: readonly string[] = [];

  constructor(
    hbm: Hbm,
    pes: PeGroup,
    options: { readonly maxOutputRows: number; readonly activations: ActivationType },
  ) {
    this.#hbm = hbm;
    this.#pes = pes;
    this.#wires = new WireCache({
      ...options,
      peCount: pes.count,
      matrix: (name) => this.#matrix(name),
      address: (name) => {
        const found = this.#floats.get(name);
        invariant(found !== undefined, `No floats named "${name}" were uploaded`);
        return found.address;
      },
      kvLayer: (index) => {
        const layer = this.#kvLayers[index];
        invariant(layer !== undefined, `KV layer ${index} was not allocated`);
        return layer;
      },
      arena: (sizeBytes) => this.#arenaOf(sizeBytes),
    });
  }

  get peCount(): number {
    return this.#pes.count;
  }

  get usedBytes(): number {
    return this.#hbm.usedBytes;
  }

  allocateMatrix(name: string, format: WeightFormat, n: number, k: number): void {
    invariant(!this.#matrices.has(name), `Matrix "${name}" is allocated twice`);
    const address = this.#hbm.allocateMatrix(weightBytes(format, n, k), `"${name}"`);
    this.#matrices.set(name, { address, format, n, k });
  }

  uploadFloats(name: string, values: Float32Array): void {
    invariant(!this.#floats.has(name), `Floats "${name}" are uploaded twice`);
    const address = this.#hbm.allocate(values.byteLength, `"${name}"`);
    new Float32Array(this.#hbm.buffer, address, values.length).set(values);
    this.#floats.set(name, { address, length: values.length });
  }

  uploadRows(name: string, rowStart: number, rowCount: number, source: Uint8Array): void {
    const { address, format, k, n } = this.#matrix(name);
    invariant(
      rowStart % 8 === 0,
      `Rows of "${name}" are uploaded from ${rowStart}, not a panel's start`,
    );
    invariant(
      rowStart + rowCount <= n,
      `Matrix "${name}" has ${n} rows, not ${rowStart + rowCount}`,
    );
    const rowBytes = sourceRowBytes(format, k);
    const bytes = panelBytes(format, k);
    for (let row = 0; row < rowCount; row += 8) {
      const count = Math.min(8, rowCount - row);
      const panel = address + ((rowStart + row) / 8) * bytes;
      packPanel(
        format,
        k,
        source.subarray(row * rowBytes, (row + count) * rowBytes),
        count,
        this.#hbm.bytes(panel, bytes),
      );
    }
  }

  openRowWindow(sizeBytes: number): RowWindow {
    const source = this.#hbm.allocate(sizeBytes, "rows on their way to a matrix");
    const bytes = new Uint8Array(this.#hbm.buffer, source, sizeBytes);
    return {
      bytes,
      pack: (name, { from, rowStart, rowCount }) => {
        const { address, format: to, k, n } = this.#matrix(name);
        invariant(
          rowStart % 8 === 0 && rowStart + rowCount <= n &&
            rowCount * sourceRowBytes(from, k) <= sizeBytes,
          `Rows ${rowStart} to ${rowStart + rowCount} of "${name}" cannot be packed`,
        );
        const target = address + (rowStart / 8) * panelBytes(to, k);
        return this.#pes.pack({ source, from, rowCount, k, target, to });
      },
      [Symbol.dispose]: () => {
        bytes.fill(0); // what is allocated here next must read as fresh memory does
        this.#hbm.free(source);
      },
    };
  }

  allocateKv(layers: number | readonly KvPool[], shape: KvPoolShape): void {
    invariant(this.#kvLayers.length === 0, "The KV pool is allocated twice");
    const { dtype, kvHeads, headDim, blockCount, windowBlockCount = 0 } = shape;
    const pools = typeof layers === "number" ? new Array<KvPool>(layers).fill("global") : layers;
    this.#kvLayers = pools.map((pool, layer) => {
      const bytes = (kvBlockBytes(shape) / 2) *
        (pool === "window" ? windowBlockCount : blockCount);
      const keys = this.#hbm.allocateKv(2 * bytes, `the keys and values of layer ${layer}`);
      return { keys, values: keys + bytes, dtype, kvHeads, headDim, pool };
    });
  }

  prepare(graph: Graph, bucket: Bucket): Wire {
    return this.#wires.get(graph, bucket);
  }

  run(wire: Wire, inputs: StepInputs): Promise<DeviceRows> {
    const step = this.#last.then(() => this.#step(wire, inputs));
    this.#last = step.catch(() => {});
    return step;
  }

  async #step(wire: Wire, inputs: StepInputs): Promise<DeviceRows> {
    let number = this.#wireNumbers.get(wire);
    if (number === undefined) {
      number = this.#pes.load(wire);
      this.#wireNumbers.set(wire, number);
      number.catch(() => this.#wireNumbers.delete(wire));
    }
    const wireNumber = await number;
    this.#copyBlocks(inputs.blockCopies ?? []);
    this.#writeInputs(wire, inputs);
    const outputs = inputs.outputRows.length;
    const hidden = inputs.hiddenRows?.length ?? 0;
    await this.#pes.run(wireNumber, { tokens: inputs.tokenIds.length, outputs, hidden });
    const buffer = this.#hbm.buffer;
    const peCount = this.#pes.count;
    const rowOf = (operand: Operand | null, index: number, count: number) => {
      invariant(operand !== null && index >= 0 && index < count, `There is no row ${index}`);
      const { address, stride, width } = operand;
      return new Float32Array(buffer, address + index * stride * 4, width);
    };
    const needs = wire.summary === null ? undefined : inputs.summaryNeeds;
    return {
      count: outputs,
      row: (index) => rowOf(wire.output, index, outputs),
      hiddenCount: hidden,
      hidden: (index) => rowOf(wire.hidden, index, hidden),
      summary(index) {
        invariant(index >= 0 && index < outputs, `There is no row ${index} of ${outputs}`);
        if (wire.output === null || wire.summary === null || needs === undefined) return undefined;
        const { width } = wire.output;
        return joinSummary(buffer, wire.summary, { index, width, peCount, need: needs[index] });
      },
    };
  }

  /** No element runs between steps, so the host may write. */
  #copyBlocks(copies: readonly BlockCopyInput[]): void {
    if (copies.length === 0) return;
    for (const { keys, values, pool: layerPool, ...shape } of this.#kvLayers) {
      const sizeBytes = kvBlockBytes(shape) / 2;
      for (const start of [keys, values]) {
        for (const { from, to, pool = "global" } of copies) {
          if (pool !== layerPool) continue;
          const source = this.#hbm.bytes(start + from * sizeBytes, sizeBytes);
          this.#hbm.bytes(start + to * sizeBytes, sizeBytes).set(source);
        }
      }
    }
  }

  #writeInputs(wire: Wire, inputs: StepInputs): void {
    const { bucket, outputCount } = wire;
    const { blockTableStride } = wire.inputs;
    const { summaryNeeds = inputs.outputRows, hiddenRows, tokenTypes } = inputs;
    invariant(
      summaryNeeds.length === inputs.outputRows.length,
      `${summaryNeeds.length} needs of summaries for ${inputs.outputRows.length} outputs`,
    );
    invariant(
      inputs.tokenIds.length <= bucket.tokenCount && inputs.outputRows.length <= outputCount &&
        inputs.blockTables.length <= bucket.batchSize,
      `A step of ${inputs.tokenIds.length} tokens, ${inputs.blockTables.length} sequences and ${inputs.outputRows.length} outputs does not fit ${wire.key}`,
    );
    invariant(
      hiddenRows === undefined || hiddenRows.length === 0 || wire.inputs.hiddenRows !== null,
      `Hidden states are asked of ${wire.key}, which gives none`,
    );
    const cells = new Int32Array(this.#hbm.buffer);
    cells.set(inputs.tokenIds, wire.inputs.tokenIds / 4);
    cells.set(inputs.positions, wire.inputs.positions / 4);
    cells.set(inputs.slots, wire.inputs.slots / 4);
    cells.set(inputs.sequences, wire.inputs.sequences / 4);
    cells.set(inputs.outputRows, wire.inputs.outputRows / 4);
    if (wire.inputs.hiddenRows !== null && hiddenRows !== undefined) {
      cells.set(hiddenRows, wire.inputs.hiddenRows / 4);
    }
    if (wire.inputs.tokenTypes !== null) {
      const typesAt = wire.inputs.tokenTypes / 4;
      if (tokenTypes !== undefined) cells.set(tokenTypes, typesAt);
      else cells.fill(0, typesAt, typesAt + inputs.tokenIds.length);
    }
    if (wire.inputs.lastPositions !== null) {
      cells.set(lastPositions(inputs), wire.inputs.lastPositions / 4);
    }
    const needsAt = wire.inputs.summaryNeeds / 4;
    if (inputs.summaryNeeds !== undefined) cells.set(inputs.summaryNeeds, needsAt);
    else cells.fill(SUMMARY_NEED.nothing, needsAt, needsAt + inputs.outputRows.length);
    const writeTables = (tables: readonly (readonly number[])[], address: number) =>
      tables.forEach((blocks, sequence) => {
        invariant(
          blocks.length <= blockTableStride,
          `A sequence of ${blocks.length} blocks does not fit ${wire.key}`,
        );
        cells.set(blocks, address / 4 + sequence * blockTableStride);
      });
    writeTables(inputs.blockTables, wire.inputs.blockTables);
    const { windowSlots, windowBlockTables } = wire.inputs;
    if (windowSlots === null || windowBlockTables === null) return;
    invariant(
      inputs.windowSlots?.length === inputs.slots.length &&
        inputs.windowBlockTables?.length === inputs.blockTables.length,
      `A step of ${wire.key} does not say where layers with a window have their blocks`,
    );
    cells.set(inputs.windowSlots, windowSlots / 4);
    writeTables(inputs.windowBlockTables, windowBlockTables);
  }

  wireStats(): WireStats {
    return this.#wires.stats();
  }

  get kernelFallbacks(): readonly string[] {
    // Looked at after every step, so told from the count where nothing is new.
    const { refusals } = this.#pes;
    if (refusals.count !== this.#kernelFallbacks.length) this.#kernelFallbacks = refusals.list();
    return this.#kernelFallbacks;
  }

  recheckKernels(): Promise<void> {
    const recheck = this.#last.then(() => this.#pes.recheck());
    this.#last = recheck.catch(() => {});
    return recheck;
  }

  trace(): Promise<TraceEntry[]> {
    return this.#pes.trace();
  }

  /** For tests; not part of the interface. */
  [INJECT_FAULT](peIndex: number, fault: "crash" | "stall" | "exit"): void {
    this.#pes.injectFault(peIndex, fault);
  }

  close(): Promise<void> {
    this.#closing ??= this.#last.then(() => this.#pes.close());
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #matrix(name: string): PanelWeight {
    const matrix = this.#matrices.get(name);
    invariant(matrix !== undefined, `No matrix named "${name}" was allocated`);
    return matrix;
  }

  /**
   * Wires share one arena, since one step runs at a time. When a larger one is needed the old one
   * stays for the wires that know its address.
   */
  #arenaOf(sizeBytes: number): number {
    if (sizeBytes > this.#arena.sizeBytes) {
      this.#arena = { address: this.#hbm.allocate(sizeBytes, "activations"), sizeBytes };
    }
    return this.#arena.address;
  }
}

/** Of each row the position of the last token that its sequence has in the step. */
function lastPositions({ positions, sequences, blockTables }: StepInputs): Int32Array {
  const last = new Int32Array(blockTables.length);
  sequences.forEach((sequence, row) => {
    last[sequence] = Math.max(last[sequence] as number, positions[row] as number);
  });
  return sequences.map((sequence) => last[sequence] as number);
}

/** How the banks of a device with these options are divided. */
function bankShape(options: DeviceOptions): BankShape {
  const { threads = 1, limits = DEFAULT_LIMITS } = options;
  const sizeBytes = scratchBytes(limits);
  const workBytes = sizeBytes * Math.max(1, threads);
  if (workBytes > BANK_BYTES_MAX / 2) {
    throw new DeviceMemoryError(`Scratch memory of ${sizeBytes} bytes an element is too large`);
  }
  return { workBytes, storeBytes: options[STORE_BYTES] };
}

/**
 * How many memories of up to 4 GiB a device with these options has.
 *
 * @throws {DeviceMemoryError} As many as there can be do not hold what is to be allocated.
 */
export function bankCount(options: DeviceOptions): number {
  const shape = bankShape(options);
  return options.memory === undefined ? 1 : planBanks(options.memory, shape);
}

/** Opens an emulated device. Close it, or hold it with `await using`: its threads run until then. */
export async function openDevice(given: DeviceOptions = {}): Promise<Device> {
  const { threads = 1, kernels = "simd", limits = DEFAULT_LIMITS, maxOutputRows = 64 } = given;
  const { stallTimeoutMs = STALL_TIMEOUT_MS, activations = "f32" } = given;
  if (!(stallTimeoutMs > 0)) {
    throw new RangeError(`Cannot use stallTimeoutMs ${stallTimeoutMs}: it must be greater than 0`);
  }
  if (!Number.isInteger(threads) || threads < 0 || threads > 64) {
    throw new RangeError(`Cannot use threads ${threads}: it must be an integer from 0 to 64`);
  }
  const hbm = new Hbm(bankCount(given), bankShape(given));
  const sizeBytes = scratchBytes(limits);
  const scratch = () =>
    hbm.memories.map((_, bank) =>
      divideScratch(offsetInBank(hbm.allocate(sizeBytes, "scratch", bank)), limits)
    );
  const options = { backend: kernels, spoiled: given[SPOIL_KERNELS] };
  let pes: PeGroup;
  if (threads === 0) {
    pes = new InlinePe(hbm, scratch(), options);
  } else {
    const scratches = Array.from({ length: threads }, scratch);
    const started = given.startedThreads;
    pes = await ThreadedPes.start(hbm, { ...options, scratches, started, stallTimeoutMs });
  }
  return new EmulatedDevice(hbm, pes, { maxOutputRows, activations });
}
