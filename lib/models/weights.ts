/** Checkpoint → HBM: tensor by tensor through a small window, converted and packed on the way. */

import { CheckpointError, InvalidParameterError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import {
  blockElements,
  isQuantized,
  sourceRowBytes,
  weightBytes,
  type WeightFormat,
} from "../device/block_formats.ts";
import type { Device } from "../device/device.ts";
import type { Graph } from "../device/compiler/graph.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { TensorInfo } from "./expected_tensors.ts";
import { expertName } from "./expert_names.ts";
import { isPlainDtype, plainFloats } from "./plain_floats.ts";

/** How loading is watched and stopped. */
export interface LoadWatch {
  /** Called with bytes read so far and in all. */
  readonly onBytes?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/** How matrices are stored: as in the checkpoint, or all in one format. */
export type WeightDtype = "auto" | "float32" | "bfloat16" | "float16" | "q8" | "q4";

/** How activations meet quantised matrices. */
export type ActivationDtype = "float32" | "int16" | "int8";

const FORMATS: Readonly<Record<Exclude<WeightDtype, "auto">, WeightFormat>> = {
  float32: "f32",
  bfloat16: "bf16",
  float16: "f16",
  q8: "q8_0",
  q4: "q4_0",
};

/**
 * A matrix of the checkpoint, where it goes on the device, and in which format: rows from `rowStart`
 * of the graph's `name`, which is all of it but for experts.
 */
interface Placed {
  readonly name: string;
  readonly rowStart: number;
  readonly shape: { readonly n: number; readonly k: number };
  readonly info: TensorInfo;
  readonly format: WeightFormat;
  /** The row of the checkpoint's tensor that is the first one here. */
  readonly firstRow: number;
}

function placeMatrices(checkpoint: Checkpoint, graph: Graph, dtype: WeightDtype): Placed[] {
  return [...graph.weights].flatMap(([name, shape]): Placed[] => {
    if (shape.kind === "experts") return placeExperts(checkpoint, name, shape, dtype);
    if (shape.kind !== "matrix") return [];
    const info = tensor(checkpoint, name);
    const firstRow = firstRowOf(checkpoint, name);
    return [{ name, rowStart: 0, shape, info, format: formatOf(info, dtype), firstRow }];
  });
}

/** RoBERTa's position embeddings begin with rows that no token of a prompt gets. */
function firstRowOf({ config }: Checkpoint, name: string): number {
  const isPositions = name === "embeddings.position_embeddings.weight";
  return isPositions && config.kind === "encoder" ? config.firstPosition : 0;
}

/** Experts lie one after another, in one format. */
function placeExperts(
  checkpoint: Checkpoint,
  name: string,
  { count, n, k }: { readonly count: number; readonly n: number; readonly k: number },
  dtype: WeightDtype,
): Placed[] {
  const experts = Array.from({ length: count }, (_, expert): Placed => {
    const info = tensor(checkpoint, expertName(name, expert));
    const format = formatOf(info, dtype);
    return { name, rowStart: expert * n, shape: { n, k }, info, format, firstRow: 0 };
  });
  const { info: first, format } = experts[0] as Placed;
  for (const { info, format: other } of experts) {
    if (other === format) continue;
    throw new CheckpointError(
      checkpoint.path,
      `Cannot use tensor "${info.name}" of "${checkpoint.path}": it is stored as ${other}, ` +
        `but "${first.name}" as ${format}: the experts of a layer must be stored alike; ` +
        "a dtype other than auto makes them so",
    );
  }
  return experts;
}

/** Four bits are too few for embeddings and head: q4 gives them eight, as GGUF files do. */
function formatOf({ name, format }: TensorInfo, dtype: WeightDtype): WeightFormat {
  if (dtype === "auto") return format;
  // A router is small, and what it gets wrong is not a little wrong.
  const isQuantizing = dtype === "q8" || dtype === "q4";
  if (isQuantizing && /\.mlp\.(?:gate|router)\.weight$/.test(name)) return format;
  const isSensitive = /embed_tokens\.weight$|_embeddings\.weight$|^lm_head\.weight$/.test(name);
  return dtype === "q4" && isSensitive ? "q8_0" : FORMATS[dtype];
}

/** A matrix as the device will hold it. */
export interface DeviceMatrix {
  /** What the checkpoint has. */
  readonly info: TensorInfo;
  readonly format: WeightFormat;
  readonly sizeBytes: number;
}

/**
 * The matrices as the device will hold them, in the order in which they are allocated.
 *
 * @throws {InvalidParameterError} A matrix cannot be stored as `dtype` asks.
 */
export function deviceMatrices(
  checkpoint: Checkpoint,
  graph: Graph,
  dtype: WeightDtype,
): DeviceMatrix[] {
  return placeMatrices(checkpoint, graph, dtype).map(({ name, shape, info, format }) => {
    const elements = blockElements(format);
    if (shape.k % elements !== 0) {
      throw new InvalidParameterError(
        "dtype",
        dtype,
        `Cannot store "${name}" as ${dtype}: its rows of ${shape.k} are no multiple of ${elements}; use bfloat16`,
      );
    }
    return { info, format, sizeBytes: weightBytes(format, shape.n, shape.k) };
  });
}

/**
 * Integer activations need a product with a quantised matrix; an embedding alone is only read.
 *
 * @throws {InvalidParameterError} There is none.
 */
export function checkActivations(
  checkpoint: Checkpoint,
  graph: Graph,
  options: { readonly dtype: WeightDtype; readonly activationDtype: ActivationDtype },
): void {
  const { dtype, activationDtype } = options;
  if (activationDtype === "float32") return;
  const multiplied = new Set(
    graph.ops.flatMap((op) => op.op === "matmul" || op.op === "expertMatmul" ? [op.weight] : []),
  );
  const matrices = placeMatrices(checkpoint, graph, dtype);
  if (matrices.some(({ name, format }) => multiplied.has(name) && isQuantized(format))) return;
  throw new InvalidParameterError(
    "activationDtype",
    activationDtype,
    `Cannot use activationDtype "${activationDtype}" with dtype "${dtype}": no weight of this ` +
      `model is quantised in blocks of integers (Q8_0, Q5_0, Q4_0, Q4_1); dtype "q8" or "q4" does that`,
  );
}

function tensor(checkpoint: Checkpoint, name: string): TensorInfo {
  const info = checkpoint.tensors.get(name);
  invariant(info !== undefined, `The graph reads "${name}", which no checkpoint was checked for`);
  return info;
}

/** Bytes of the checkpoint in one window; two are in flight at once. */
const WINDOW_BYTES = 4 * 1024 * 1024;

/** After so long the event loop gets a turn, so that the process can answer, draw and stop. */
const TURN_MS = 10;

/** Uploads every matrix and vector that the graph reads and the checkpoint has. */
export async function uploadWeights(
  checkpoint: Checkpoint,
  graph: Graph,
  device: Device,
  watch: LoadWatch & { readonly dtype: WeightDtype },
): Promise<void> {
  for (const [name, shape] of graph.weights) {
    // The other tables are not read but computed.
    const isTable = shape.kind === "table" && checkpoint.tensors.has(name);
    if (shape.kind !== "vector" && !isTable) continue;
    const length = shape.kind === "vector" ? shape.length : shape.rows * shape.width;
    const values = readVector(checkpoint, tensor(checkpoint, name), length);
    device.uploadFloats(name, withNormOffset(checkpoint, name, values));
  }
  const matrices = placeMatrices(checkpoint, graph, watch.dtype);
  const runs = matrices.flatMap(runsOf);
  const total = runs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const windowBytes = runs.reduce((most, run) => Math.max(most, run.sizeBytes), 0);
  if (windowBytes === 0) return;
  for (const { name, rowStart, format, shape } of matrices) {
    if (rowStart > 0) continue;
    const whole = graph.weights.get(name);
    const count = whole?.kind === "experts" ? whole.count : 1;
    device.allocateMatrix(name, format, count * shape.n, shape.k);
  }
  using one = device.openRowWindow(windowBytes);
  using other = device.openRowWindow(windowBytes);
  let window = one;
  let done = 0;
  let turnMs = performance.now();
  // While the elements pack one window, the next one is read.
  let packing: Promise<void> | undefined;
  try {
    for (const run of runs) {
      const { matrix, rowStart, rowCount, sizeBytes } = run;
      const { name, info, firstRow } = matrix;
      const first = firstRow + rowStart;
      const bytes = window.bytes.subarray(0, sizeBytes);
      checkpoint.readRows(info.name, first, first + rowCount, bytes);
      await packing;
      packing = window.pack(name, {
        from: info.format,
        rowStart: matrix.rowStart + rowStart,
        rowCount,
      })
        .then((bad) => refuseBadValue(name, watch.dtype, bad));
      // Where the loop is left before it is awaited, the first error is the one that counts.
      packing.catch(() => {});
      window = window === one ? other : one;
      done += sizeBytes;
      watch.onBytes?.(done, total);
      if (performance.now() - turnMs >= TURN_MS) {
        await new Promise((resolve) => setTimeout(resolve, 0));
        turnMs = performance.now();
      }
      watch.signal?.throwIfAborted();
    }
    await packing;
  } finally {
    // The elements must not read from a window that is closed.
    await packing?.catch(() => {});
  }
}

/** Rows of one matrix that fit into a window. */
interface Run {
  readonly matrix: Placed;
  readonly rowStart: number;
  readonly rowCount: number;
  readonly sizeBytes: number;
}

function runsOf(matrix: Placed): Run[] {
  const { shape: { n, k }, info } = matrix;
  const rowBytes = sourceRowBytes(info.format, k);
  const rowsAtOnce = Math.max(8, Math.floor(WINDOW_BYTES / rowBytes / 8) * 8);
  return Array.from({ length: Math.ceil(n / rowsAtOnce) }, (_, i) => {
    const rowStart = i * rowsAtOnce;
    const rowCount = Math.min(rowsAtOnce, n - rowStart);
    return { matrix, rowStart, rowCount, sizeBytes: rowCount * rowBytes };
  });
}

function readVector(checkpoint: Checkpoint, info: TensorInfo, length: number): Float32Array {
  const bytes = new Uint8Array(info.sizeBytes);
  checkpoint.readRows(info.name, 0, 1, bytes);
  const dtype = info.format.toUpperCase();
  invariant(isPlainDtype(dtype), `"${info.name}" is a vector of ${info.format}`);
  const values = plainFloats(dtype, bytes);
  invariant(values.length === length, `"${info.name}" has ${values.length} numbers, not ${length}`);
  return values;
}

/** Some families store the weights of norms as their distance from 1. */
function withNormOffset(
  { config }: Checkpoint,
  name: string,
  values: Float32Array,
): Float32Array {
  const offset = config.kind === "decoder" && /norm\.weight$/.test(name) ? config.normOffset : 0;
  return offset === 0 ? values : values.map((value) => value + offset);
}

function refuseBadValue(name: string, dtype: WeightDtype, bad: number | undefined): void {
  if (bad === undefined) return;
  throw new InvalidParameterError(
    "dtype",
    dtype,
    `Cannot store "${name}" as ${dtype}: it holds ${bad}, which is out of range; use bfloat16`,
  );
}
