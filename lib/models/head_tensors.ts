/** The small tensors of heads, which are computed on the host: read as float32 when a model loads. */

import { invariant } from "../base/invariant.ts";
import { decodeRow, sourceRowBytes } from "../device/block_formats.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { headTensors } from "./expected_tensors.ts";

/** The tensors of a checkpoint's head by name, row-major. Empty where no head is for the host. */
export function readHeadTensors(checkpoint: Checkpoint): ReadonlyMap<string, Float32Array> {
  return new Map(
    headTensors(checkpoint.config).map(({ name }) => [name, readTensorF32(checkpoint, name)]),
  );
}

/** All values of one of the checkpoint's tensors, row-major. */
export function readTensorF32(checkpoint: Checkpoint, name: string): Float32Array {
  const tensor = checkpoint.tensors.get(name);
  invariant(tensor !== undefined, `The tensor "${name}" is read, which is no tensor here`);
  const { format, shape, sizeBytes } = tensor;
  const [rowCount, width] = shape.length === 1 ? [1, shape[0]!] : [shape[0]!, shape[1]!];
  const values = new Float32Array(rowCount * width);
  const rowBytes = sizeBytes / rowCount;
  // Rows on the device come in eights; a bias has one number a label.
  const paddedWidth = Math.ceil(width / 8) * 8;
  const bytes = new Uint8Array(Math.max(rowBytes, sourceRowBytes(format, paddedWidth)));
  for (let row = 0; row < rowCount; row++) {
    checkpoint.readRows(name, row, row + 1, bytes.subarray(0, rowBytes));
    values.set(decodeRow(format, paddedWidth, bytes).subarray(0, width), row * width);
  }
  return values;
}
