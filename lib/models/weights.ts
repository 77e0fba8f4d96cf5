/** Checkpoint → HBM: tensor by tensor through a small window, packed into panels on the way. */

import { invariant } from "../base/invariant.ts";
import { decodeRow, sourceRowBytes } from "../device/block_formats.ts";
import type { Device } from "../device/device.ts";
import type { Graph } from "../device/compiler/graph.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { TensorInfo } from "./expected_tensors.ts";

/** How loading is watched and stopped. */
export interface LoadWatch {
  /** Called with bytes read so far and in all. */
  readonly onBytes?: (done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

/** Bytes of the checkpoint that are in flight at once. */
const WINDOW_BYTES = 4 * 1024 * 1024;

/** Uploads every matrix and vector that the graph reads and the checkpoint has. */
export async function uploadWeights(
  checkpoint: Checkpoint,
  graph: Graph,
  device: Device,
  watch: LoadWatch,
): Promise<void> {
  const wanted = [...graph.weights].flatMap(([name, shape]) => {
    if (shape.kind === "table") return [];
    const info = checkpoint.tensors.get(name);
    invariant(info !== undefined, `The graph reads "${name}", which no checkpoint was checked for`);
    return [{ name, shape, info }];
  });
  const total = wanted.reduce((sum, { info }) => sum + info.sizeBytes, 0);
  let done = 0;
  const advance = async (bytes: number): Promise<void> => {
    done += bytes;
    watch.onBytes?.(done, total);
    // A turn of the event loop, so that the process can answer, draw and stop meanwhile.
    await new Promise((resolve) => setTimeout(resolve, 0));
    watch.signal?.throwIfAborted();
  };
  for (const { name, shape, info } of wanted) {
    if (shape.kind === "vector") {
      device.uploadFloats(name, readVector(checkpoint, info, shape.length));
      done += info.sizeBytes;
    } else if (shape.kind === "matrix") {
      await uploadMatrix(checkpoint, info, shape, device, advance);
    }
  }
  await advance(0);
}

function readVector(checkpoint: Checkpoint, info: TensorInfo, length: number): Float32Array {
  const bytes = new Uint8Array(info.sizeBytes);
  checkpoint.readRows(info.name, 0, 1, bytes);
  return decodeRow(info.format, length, bytes);
}

async function uploadMatrix(
  checkpoint: Checkpoint,
  info: TensorInfo,
  shape: { n: number; k: number },
  device: Device,
  advance: (bytes: number) => Promise<void>,
): Promise<void> {
  const { name, format } = info;
  const rowBytes = sourceRowBytes(format, shape.k);
  const rowsAtOnce = Math.max(8, Math.floor(WINDOW_BYTES / rowBytes / 8) * 8);
  const window = new Uint8Array(Math.min(rowsAtOnce, shape.n) * rowBytes);
  device.allocateMatrix(name, format, shape.n, shape.k);
  for (let row = 0; row < shape.n; row += rowsAtOnce) {
    const count = Math.min(rowsAtOnce, shape.n - row);
    const bytes = window.subarray(0, count * rowBytes);
    checkpoint.readRows(name, row, row + count, bytes);
    device.uploadRows(name, row, count, bytes);
    await advance(bytes.length);
  }
}
