/** A GGUF file, or all parts of one that was split: metadata of the first, tensors of all. */

import { CheckpointError } from "../base/errors.ts";
import { type ByteSource, FileSource } from "./formats/byte_source.ts";
import {
  type GgufHeader,
  type GgufTensor,
  type GgufValue,
  readGgufHeader,
} from "./formats/gguf.ts";

/** The opened files. Whoever opened them closes the sources. */
export interface GgufSplits {
  readonly header: GgufHeader;
  /** The first one has the metadata. */
  readonly sources: readonly [ByteSource, ...ByteSource[]];
  /** The file that holds a tensor. */
  sourceOf(tensorName: string): ByteSource;
}

const SPLIT_COUNT_MAX = 1000;

/**
 * Opens the file at `path`, and where it is the first of several, "…-00001-of-00003.gguf", those
 * beside it too. Every header is checked, and that the parts belong together.
 */
export function openGgufSplits(path: string): GgufSplits {
  const sources: [ByteSource, ...ByteSource[]] = [new FileSource(path)];
  try {
    const header = readGgufHeader(sources[0]);
    const count = integer(path, header.metadata, "split.count") ?? 1;
    if (count <= 1) return { header, sources, sourceOf: () => sources[0] };
    const tensors = new Map<string, GgufTensor>(header.tensors);
    const holders = new Map([...tensors.keys()].map((name) => [name, sources[0]]));
    const names = partNames(path, header.metadata, count);
    for (const [index, name] of names.entries()) {
      if (index === 0) continue;
      const source = new FileSource(name);
      sources.push(source);
      const part = readGgufHeader(source);
      checkPart(name, part.metadata, { index, count });
      for (const tensor of part.tensors.values()) {
        const other = holders.get(tensor.name);
        if (other !== undefined) {
          refuse(name, `its tensor "${tensor.name}" is in "${other.name}" too`);
        }
        tensors.set(tensor.name, tensor);
        holders.set(tensor.name, source);
      }
    }
    const stated = integer(path, header.metadata, "split.tensors.count");
    if (stated !== undefined && stated !== tensors.size) {
      refuse(path, `its parts have ${tensors.size} tensors, not ${stated} as it says`);
    }
    return {
      header: { metadata: header.metadata, tensors },
      sources,
      sourceOf: (name) => holders.get(name) ?? sources[0],
    };
  } catch (error) {
    for (const source of sources) source[Symbol.dispose]();
    throw error;
  }
}

/** The paths of all parts: they differ in their number alone. */
function partNames(
  path: string,
  metadata: ReadonlyMap<string, GgufValue>,
  count: number,
): string[] {
  if (count > SPLIT_COUNT_MAX) {
    refuse(path, `split.count is ${count}: it must be at most ${SPLIT_COUNT_MAX}`);
  }
  const digits = (value: number) => String(value).padStart(5, "0");
  const end = (index: number) => `-${digits(index + 1)}-of-${digits(count)}.gguf`;
  const index = integer(path, metadata, "split.no");
  if (index === undefined) refuse(path, `split.no is missing: split.count is ${count}`);
  if (index !== 0) {
    refuse(
      path,
      `it is part ${index + 1} of ${count}: open the first part, "…${end(0)}", ` +
        "and the others are found beside it",
    );
  }
  if (!path.endsWith(end(0))) {
    refuse(path, `it is the first of ${count} parts, so its name must end in "${end(0)}"`);
  }
  const base = path.slice(0, -end(0).length);
  return Array.from({ length: count }, (_, part) => base + end(part));
}

function checkPart(
  path: string,
  metadata: ReadonlyMap<string, GgufValue>,
  { index, count }: { readonly index: number; readonly count: number },
): void {
  const [no, of] = [integer(path, metadata, "split.no"), integer(path, metadata, "split.count")];
  if (no !== index || of !== count) {
    refuse(
      path,
      `split.no is ${no} and split.count ${of}: by its name they must be ${index} and ${count}`,
    );
  }
}

function integer(
  path: string,
  metadata: ReadonlyMap<string, GgufValue>,
  key: string,
): number | undefined {
  const value = metadata.get(key);
  if (value === undefined) return undefined;
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    refuse(path, `${key} is ${String(value)}: it must be an integer of at least 0`);
  }
  return value;
}

function refuse(path: string, why: string): never {
  throw new CheckpointError(path, `Cannot open "${path}": ${why}`);
}
