/** A checkpoint: one face for a Hugging Face folder and for a GGUF file. */

import { CheckpointError, ModelNotFoundError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import type { CheckpointParts, PartTensor } from "./checkpoint_parts.ts";
import type { ModelConfig } from "./model_config.ts";
import type { TensorInfo } from "./expected_tensors.ts";
import type { GenerationDefaults } from "./generation_config.ts";
import { openGgufFile } from "./gguf_checkpoint.ts";
import { openHuggingFaceFolder } from "./hf_checkpoint.ts";
import type { PoolingFiles } from "./pooling_files.ts";
import type { TextFiles } from "./text_files.ts";

/** An opened checkpoint. Its headers are checked; weights are read when they are asked for. */
export interface Checkpoint extends Disposable {
  /** As it was named. */
  readonly path: string;
  readonly config: ModelConfig;
  readonly generation: GenerationDefaults;
  /** Exactly the tensors that the config calls for, by Hugging Face name. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly text: TextFiles;
  readonly pooling: PoolingFiles;
  /**
   * SHA-256, as hex, over the config, every tensor's name, shape and format, the sizes of the
   * files, and the first, middle and last kilobyte of every tensor. Another training run of the
   * same shape differs in all of them; a few weights changed by hand may not show.
   */
  readonly identity: string;
  /**
   * Fills `target` with the bytes of rows [rowStart, rowEnd), as stored, in Hugging Face row order.
   * A vector is one row. `target` has exactly that many bytes.
   */
  readRows(name: string, rowStart: number, rowEnd: number, target: Uint8Array): void;
}

const SAMPLE_SIZE_BYTES = 1024;

/**
 * Opens a folder with a config.json, or one .gguf file, and checks it against its own config.
 * No weights are read but the samples of {@linkcode Checkpoint.identity}.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const parts = openParts(path);
  try {
    return new OpenCheckpoint(path, parts, await computeIdentity(parts));
  } catch (error) {
    closeSources(parts);
    throw error;
  }
}

function openParts(path: string): CheckpointParts {
  let info: Deno.FileInfo;
  try {
    info = Deno.statSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      throw new ModelNotFoundError(`Cannot open "${path}": there is no such file or folder`);
    }
    throw new CheckpointError(path, `Cannot open "${path}": ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (info.isDirectory) return openHuggingFaceFolder(path);
  if (info.isFile && path.toLowerCase().endsWith(".gguf")) return openGgufFile(path);
  throw new CheckpointError(
    path,
    `Cannot open "${path}": a model is a folder with a config.json, or a .gguf file`,
  );
}

class OpenCheckpoint implements Checkpoint {
  readonly path: string;
  readonly config: ModelConfig;
  readonly generation: GenerationDefaults;
  readonly tensors: ReadonlyMap<string, PartTensor>;
  readonly text: TextFiles;
  readonly pooling: PoolingFiles;
  readonly identity: string;
  readonly #parts: CheckpointParts;
  /** The head that was read last, in its stored order: the next rows are likely of the same one. */
  #head: { tensor: PartTensor; index: number; bytes: Uint8Array } | undefined;

  constructor(path: string, parts: CheckpointParts, identity: string) {
    this.path = path;
    this.config = parts.config;
    this.generation = parts.generation;
    this.tensors = parts.tensors;
    this.text = parts.text;
    this.pooling = parts.pooling;
    this.identity = identity;
    this.#parts = parts;
  }

  readRows(name: string, rowStart: number, rowEnd: number, target: Uint8Array): void {
    const tensor = this.tensors.get(name);
    invariant(tensor !== undefined, `Rows of "${name}" are asked for, which is no tensor here`);
    // A paired vector, a bias, has an element where a matrix has a row.
    const isVector = tensor.shape.length === 1;
    const rowCount = isVector ? 1 : tensor.shape[0] as number;
    const rowBytes = tensor.sizeBytes / rowCount;
    invariant(
      0 <= rowStart && rowStart <= rowEnd && rowEnd <= rowCount &&
        target.byteLength === (rowEnd - rowStart) * rowBytes,
      `Rows ${rowStart} to ${rowEnd} of ${rowCount} in "${name}" do not fit what they are read into`,
    );
    if (tensor.pairedHeadDim === 0) {
      readStored(tensor, rowStart, rowEnd, target);
    } else if (isVector) {
      const elementCount = tensor.shape[0] as number;
      if (rowEnd > rowStart) this.#readPaired(tensor, 0, elementCount, target);
    } else {
      this.#readPaired(tensor, rowStart, rowEnd, target);
    }
  }

  [Symbol.dispose](): void {
    this.#head = undefined;
    closeSources(this.#parts);
  }

  /** Row half · headDim/2 + i of a head is stored as its row 2i + half. */
  #readPaired(tensor: PartTensor, start: number, end: number, target: Uint8Array): void {
    const headDim = tensor.pairedHeadDim;
    const pairCount = headDim / 2;
    const unitBytes = tensor.sizeBytes / (tensor.shape[0] as number);
    for (let row = start; row < end; row++) {
      const inHead = row % headDim;
      const stored = inHead < pairCount ? 2 * inHead : 2 * (inHead - pairCount) + 1;
      const head = this.#readHead(tensor, Math.floor(row / headDim), headDim * unitBytes);
      const unit = head.subarray(stored * unitBytes, (stored + 1) * unitBytes);
      target.set(unit, (row - start) * unitBytes);
    }
  }

  #readHead(tensor: PartTensor, index: number, headBytes: number): Uint8Array {
    if (this.#head?.tensor !== tensor || this.#head.index !== index) {
      const bytes = new Uint8Array(headBytes);
      const headDim = tensor.pairedHeadDim;
      if (tensor.shape.length === 1) {
        tensor.source.readAt(tensor.position + index * headBytes, bytes);
      } else readStored(tensor, index * headDim, (index + 1) * headDim, bytes);
      this.#head = { tensor, index, bytes };
    }
    return this.#head.bytes;
  }
}

/** Rows in the order in which they are stored. */
function readStored(
  { shape, sizeBytes, source, position, made }: PartTensor,
  rowStart: number,
  rowEnd: number,
  target: Uint8Array,
): void {
  if (made !== undefined) return made.read(rowStart, rowEnd, target);
  const rowBytes = shape.length === 1 ? sizeBytes : sizeBytes / (shape[0] as number);
  source.readAt(position + rowStart * rowBytes, target);
}

async function computeIdentity(parts: CheckpointParts): Promise<string> {
  const tensors = [...parts.tensors.values()];
  const facts = JSON.stringify({
    config: parts.config,
    ...poolingFacts(parts.pooling),
    fileSizes: parts.sources.map((source) => source.sizeBytes),
    tensors: tensors.map(({ name, format, shape, pairedHeadDim }) => [
      name,
      format,
      shape,
      pairedHeadDim,
    ]),
  });
  const head = new TextEncoder().encode(facts);
  const stored = tensors.flatMap((tensor) => tensor.made?.parts ?? [tensor]);
  const samples = new Uint8Array(stored.length * 3 * SAMPLE_SIZE_BYTES);
  stored.forEach(({ source, position, sizeBytes }, index) => {
    const size = Math.min(SAMPLE_SIZE_BYTES, sizeBytes);
    const last = sizeBytes - size;
    [0, Math.floor(last / 2), last].forEach((offset, part) => {
      const start = (index * 3 + part) * SAMPLE_SIZE_BYTES;
      source.readAt(position + offset, samples.subarray(start, start + size));
    });
  });
  const all = new Uint8Array(head.byteLength + samples.byteLength);
  all.set(head);
  all.set(samples, head.byteLength);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", all)).toHex();
}

/** What is behind the model; nothing where there is nothing, so that a decoder's name is its own. */
function poolingFacts({ modules }: PoolingFiles): Record<string, unknown> {
  if (modules === undefined) return {};
  const dense = modules.dense.map(({ weight, bias, activation }) => {
    const samples = [...weight.subarray(0, 64), ...weight.subarray(-64), ...bias ?? []];
    return { activation, samples };
  });
  return { pooling: { modes: modules.modes, dense } };
}

function closeSources(parts: CheckpointParts): void {
  for (const source of parts.sources) source[Symbol.dispose]();
}
