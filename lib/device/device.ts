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
import type { ActivationType } from "./activations.ts";
import { weightBytes, type WeightFormat } from "./block_formats.ts";
import type { Bucket } from "./bucket.ts";
import type { Graph } from "./compiler/graph.ts";
import type { Wire } from "./compiler/wire.ts";
import type { WireStats } from "./compiler/wire_cache.ts";
import { EmulatedDevice } from "./emulated_device.ts";
import type { KernelLimits, KvPool } from "./kernel_table.ts";
import type { KvPoolShape } from "./kv_blocks.ts";
import { type BankShape, Hbm, type MemoryNeed, offsetInBank, planBanks } from "./memory.ts";
import { BANK_BYTES_MAX } from "./memory_bank.ts";
import {
  divideScratch,
  InlinePe,
  type KernelFamily,
  numericsClass,
  type PeGroup,
  scratchBytes,
  SPOIL_KERNELS,
  StartedThreads,
  ThreadedPes,
} from "./pe/pe.ts";
import type { StepInputs } from "./step_inputs.ts";
import type { DeviceRows } from "./step_rows.ts";
import type { TraceEntry } from "./trace.ts";
import type { RowWindow } from "./weight_store.ts";

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
export { type BlockCopyInput, kvBlockBytes, type KvPoolShape } from "./kv_blocks.ts";
export type { StepInputs } from "./step_inputs.ts";
export type { DeviceRows } from "./step_rows.ts";
export type { RowWindow } from "./weight_store.ts";
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
  /** Ends the opening, which then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** For tests: fast kernels that are to compute something else. */
  readonly [SPOIL_KERNELS]?: KernelFamily;
  /** For tests: bytes of each bank of memory for matrices, keys and values. */
  readonly [STORE_BYTES]?: number;
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

/** Bytes a matrix takes in HBM. */
export function matrixBytes(format: WeightFormat, n: number, k: number): number {
  return weightBytes(format, n, k);
}

const STALL_TIMEOUT_MS = 30_000;
const DEFAULT_LIMITS: KernelLimits = { kMax: 4096, headDimMax: 128, headGroupMax: 8 };

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
    const threaded = { ...options, scratches, started: given.startedThreads, stallTimeoutMs };
    pes = await ThreadedPes.start(hbm, threaded, given.signal);
  }
  return new EmulatedDevice(hbm, pes, { maxOutputRows, activations });
}
