/** The safetensors files of one folder: a single one, or the shards that an index names. */

import { CheckpointError } from "../../base/errors.ts";
import { isRecord } from "../../base/record.ts";
import { type ByteSource, FileSource } from "./byte_source.ts";
import { readSafetensorsHeader, type SafetensorsEntry } from "./safetensors.ts";

const SINGLE_FILE = "model.safetensors";
const INDEX_FILE = "model.safetensors.index.json";
const SHARD_COUNT_MAX = 1000;

/** What is needed of a folder; `ModelFolder` is one. */
export interface Folder {
  nameOf(name: string): string;
  has(name: string): boolean;
  locate(name: string): string;
  readJson(name: string): unknown;
}

/** A tensor and the file that holds it. */
export interface SafetensorsTensor extends SafetensorsEntry {
  readonly source: ByteSource;
}

/** The opened files of a folder. Whoever opened it closes the sources. */
export interface SafetensorsFolder {
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>;
  readonly sources: readonly ByteSource[];
  /** Undefined where one file holds everything. */
  readonly indexFile: string | undefined;
}

/** Opens the weights of `folder` and checks every header. Where there is an index, it decides. */
export function openSafetensorsFolder(folder: Folder): SafetensorsFolder {
  if (!folder.has(INDEX_FILE) && !folder.has(SINGLE_FILE)) {
    const file = folder.nameOf(SINGLE_FILE);
    throw new CheckpointError(
      file,
      `Cannot find "${file}" or "${INDEX_FILE}" beside it: weights must be safetensors files`,
    );
  }
  const weightMap = folder.has(INDEX_FILE) ? readIndex(folder) : undefined;
  const names = weightMap === undefined ? [SINGLE_FILE] : [...new Set(weightMap.values())].sort();
  const sources: FileSource[] = [];
  try {
    const holders = new Map<string, SafetensorsTensor>();
    for (const name of names) {
      const source = new FileSource(folder.locate(name));
      sources.push(source);
      addShard(holders, source);
    }
    const indexFile = weightMap === undefined ? undefined : folder.nameOf(INDEX_FILE);
    const tensors = weightMap === undefined ? holders : chooseMapped(folder, weightMap, holders);
    return { tensors, sources, indexFile };
  } catch (error) {
    for (const source of sources) source[Symbol.dispose]();
    throw error;
  }
}

function addShard(holders: Map<string, SafetensorsTensor>, source: ByteSource): void {
  for (const [name, entry] of readSafetensorsHeader(source)) {
    const other = holders.get(name);
    if (other !== undefined) {
      throw new CheckpointError(
        source.name,
        `Cannot read "${source.name}": its tensor "${name}" is in "${other.source.name}" too`,
      );
    }
    holders.set(name, { ...entry, source });
  }
}

/** Tensors that no entry of the index names are left alone, as the format's other readers do. */
function chooseMapped(
  folder: Folder,
  weightMap: ReadonlyMap<string, string>,
  holders: ReadonlyMap<string, SafetensorsTensor>,
): Map<string, SafetensorsTensor> {
  const tensors = new Map<string, SafetensorsTensor>();
  for (const [name, shard] of weightMap) {
    const tensor = holders.get(name);
    if (tensor?.source.name !== folder.nameOf(shard)) {
      refuseIndex(folder, `tensor ${JSON.stringify(name)} is not in "${shard}", where it says`);
    }
    tensors.set(name, tensor);
  }
  return tensors;
}

/** Tensor name → shard name. */
function readIndex(folder: Folder): ReadonlyMap<string, string> {
  const index = folder.readJson(INDEX_FILE);
  const weightMap = isRecord(index) ? index["weight_map"] : undefined;
  if (!isRecord(weightMap)) {
    refuseIndex(folder, 'it must hold a "weight_map" from tensor names to file names');
  }
  const shards = new Map<string, string>();
  for (const [tensor, shard] of Object.entries(weightMap)) {
    // The name comes from whoever made the checkpoint, and must not lead anywhere else.
    if (typeof shard !== "string" || !/^[^\\/:\0]{1,240}\.safetensors$/.test(shard)) {
      refuseIndex(
        folder,
        `the weight_map sends ${JSON.stringify(tensor)} to ${JSON.stringify(shard)}: ` +
          "it must be the plain name of a .safetensors file in the same folder",
      );
    }
    shards.set(tensor, shard);
  }
  const shardCount = new Set(shards.values()).size;
  if (shardCount < 1 || shardCount > SHARD_COUNT_MAX) {
    refuseIndex(folder, `it names ${shardCount} files: it must name 1 to ${SHARD_COUNT_MAX}`);
  }
  return shards;
}

function refuseIndex(folder: Folder, what: string): never {
  const file = folder.nameOf(INDEX_FILE);
  throw new CheckpointError(file, `Cannot use "${file}": ${what}`);
}
