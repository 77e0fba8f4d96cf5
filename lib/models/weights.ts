/** Checkpoint → HBM: tensor by tensor through a small window, converted and packed on the way. */

import { InvalidParameterError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import {
  blockElements,
  decodeRow,
  sourceRowBytes,
  weightBytes,
  type WeightFormat,
} from "../device/block_formats.ts";
import type { Device } from "../device/device.ts";
import type { Graph } from "../device/compiler/graph.ts";
import { RowConverter } from "../device/requantize.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { TensorInfo } from "./expected_tensors.ts";

/** How loading is watched and stopped. */
export interface LoadWatch {
  /** Called with bytes read so far and in all. */
  readonly onBytes?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/** How matrices are stored: as in the checkpoint, or all in one format. */
export type WeightDtype = "auto" | "float32" | "bfloat16" | "float16" | "q8" | "q4";

const FORMATS: Readonly<Record<Exclude<WeightDtype, "auto">, WeightFormat>> = {
  float32: "f32",
  bfloat16: "bf16",
  float16: "f16",
  q8: "q8_0",
  q4: "q4_0",
};

/** A matrix of the graph with the format it gets on the device. */
interface Placed {
  readonly name: string;
  readonly shape: { readonly n: number; readonly k: number };
  readonly info: TensorInfo;
  readonly format: WeightFormat;
}

function placeMatrices(checkpoint: Checkpoint, graph: Graph, dtype: WeightDtype): Placed[] {
  return [...graph.weights].flatMap(([name, shape]): Placed[] => {
    if (shape.kind !== "matrix") return [];
    const info = tensor(checkpoint, name);
    return [{ name, shape, info, format: formatOf(info, dtype) }];
  });
}

/** Four bits are too few for embedding and head: q4 gives them eight, as GGUF files do. */
function formatOf({ name, format }: TensorInfo, dtype: WeightDtype): WeightFormat {
  if (dtype === "auto") return format;
  const isVocabulary = name.endsWith("embed_tokens.weight") || name === "lm_head.weight";
  return dtype === "q4" && isVocabulary ? "q8_0" : FORMATS[dtype];
}

/**
 * Bytes that the matrices will take on the device.
 *
 * @throws {InvalidParameterError} A matrix cannot be stored as `dtype` asks.
 */
export function deviceWeightBytes(
  checkpoint: Checkpoint,
  graph: Graph,
  dtype: WeightDtype,
): number {
  return placeMatrices(checkpoint, graph, dtype).reduce((sum, { name, shape, format }) => {
    const elements = blockElements(format);
    if (shape.k % elements !== 0) {
      throw new InvalidParameterError(
        "dtype",
        dtype,
        `Cannot store "${name}" as ${dtype}: its rows of ${shape.k} are no multiple of ${elements}; use bfloat16`,
      );
    }
    return sum + weightBytes(format, shape.n, shape.k);
  }, 0);
}

function tensor(checkpoint: Checkpoint, name: string): TensorInfo {
  const info = checkpoint.tensors.get(name);
  invariant(info !== undefined, `The graph reads "${name}", which no checkpoint was checked for`);
  return info;
}

/** Bytes of the checkpoint that are in flight at once. */
const WINDOW_BYTES = 4 * 1024 * 1024;

/** Uploads every matrix and vector that the graph reads and the checkpoint has. */
export async function uploadWeights(
  checkpoint: Checkpoint,
  graph: Graph,
  device: Device,
  watch: LoadWatch & { readonly dtype: WeightDtype },
): Promise<void> {
  const matrices = placeMatrices(checkpoint, graph, watch.dtype);
  const total = matrices.reduce((sum, { info }) => sum + info.sizeBytes, 0);
  let done = 0;
  const advance = async (bytes: number): Promise<void> => {
    done += bytes;
    watch.onBytes?.(done, total);
    // A turn of the event loop, so that the process can answer, draw and stop meanwhile.
    await new Promise((resolve) => setTimeout(resolve, 0));
    watch.signal?.throwIfAborted();
  };
  for (const [name, shape] of graph.weights) {
    if (shape.kind !== "vector") continue;
    device.uploadFloats(name, readVector(checkpoint, tensor(checkpoint, name), shape.length));
  }
  for (const matrix of matrices) {
    await uploadMatrix(checkpoint, matrix, watch.dtype, device, advance);
  }
}

function readVector(checkpoint: Checkpoint, info: TensorInfo, length: number): Float32Array {
  const bytes = new Uint8Array(info.sizeBytes);
  checkpoint.readRows(info.name, 0, 1, bytes);
  return decodeRow(info.format, length, bytes);
}

async function uploadMatrix(
  checkpoint: Checkpoint,
  { name, shape, info, format }: Placed,
  dtype: WeightDtype,
  device: Device,
  advance: (bytes: number) => Promise<void>,
): Promise<void> {
  const rowBytes = Math.max(sourceRowBytes(info.format, shape.k), sourceRowBytes(format, shape.k));
  const rowsAtOnce = Math.max(8, Math.floor(WINDOW_BYTES / rowBytes / 8) * 8);
  const windowRows = Math.min(rowsAtOnce, shape.n);
  const window = new Uint8Array(windowRows * sourceRowBytes(info.format, shape.k));
  const converter = format === info.format
    ? undefined
    : new RowConverter(info.format, format, shape.k, windowRows);
  device.allocateMatrix(name, format, shape.n, shape.k);
  for (let row = 0; row < shape.n; row += rowsAtOnce) {
    const count = Math.min(rowsAtOnce, shape.n - row);
    const bytes = window.subarray(0, count * sourceRowBytes(info.format, shape.k));
    checkpoint.readRows(name, row, row + count, bytes);
    device.uploadRows(name, row, count, converter?.convert(bytes, count) ?? bytes);
    if (converter?.badValue !== undefined) {
      throw new InvalidParameterError(
        "dtype",
        dtype,
        `Cannot store "${name}" as ${dtype}: it holds ${converter.badValue}, which is out of range; use bfloat16`,
      );
    }
    await advance(bytes.length);
  }
}
