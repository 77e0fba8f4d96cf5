/**
 * A GGUF file, or all parts of one that was split: metadata of the first, tensors of all.
 *
 * Parts are held together by their names and numbers, by what they say of the whole, and by the
 * metadata that some writers repeat in each. Most repeat none; then nothing in a part says whose it
 * is, and a part of another model with the same shapes cannot be told from the right one.
 */

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
    if (count <= 1) {
      checkWhole(path, header);
      return { header, sources, sourceOf: () => sources[0] };
    }
    const tensors = new Map<string, GgufTensor>(header.tensors);
    const holders = new Map([...tensors.keys()].map((name) => [name, sources[0]]));
    const names = partNames(path, header.metadata, count);
    for (const [index, name] of names.entries()) {
      if (index === 0) continue;
      const source = new FileSource(name);
      sources.push(source);
      const part = readGgufHeader(source);
      checkPart(name, part.metadata, { index, count });
      checkSameModel(path, header.metadata, name, part.metadata);
      for (const tensor of part.tensors.values()) {
        const other = holders.get(tensor.name);
        if (other !== undefined) {
          refuse(name, `its tensor "${tensor.name}" is in "${other.name}" too`);
        }
        tensors.set(tensor.name, tensor);
        holders.set(tensor.name, source);
      }
    }
    checkTensorCount(path, header.metadata, tensors.size);
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

/** A file that says it is no part of anything. */
function checkWhole(path: string, { metadata, tensors }: GgufHeader): void {
  const no = integer(path, metadata, "split.no") ?? 0;
  if (no !== 0) refuse(path, `split.no is ${no}, but by split.count it is the only part`);
  checkTensorCount(path, metadata, tensors.size);
  const [, index, of] = /-(\d{5})-of-(\d{5})\.gguf$/i.exec(path) ?? [];
  if (of !== undefined && Number(of) > 1) {
    refuse(
      path,
      `by its name it is part ${Number(index)} of ${Number(of)}, but split.count is ` +
        `${metadata.get("split.count") ?? "missing"}: it must be ${Number(of)}`,
    );
  }
}

function checkTensorCount(
  path: string,
  metadata: ReadonlyMap<string, GgufValue>,
  count: number,
): void {
  const stated = integer(path, metadata, "split.tensors.count");
  if (stated !== undefined && stated !== count) {
    refuse(path, `split.tensors.count is ${stated}, but its parts have ${count} tensors`);
  }
}

/** What is true of one file only. */
const OWN_KEYS: ReadonlySet<string> = new Set(["split.no", "general.alignment"]);

/** What a part repeats must be what the first says. */
function checkSameModel(
  firstPath: string,
  first: ReadonlyMap<string, GgufValue>,
  path: string,
  metadata: ReadonlyMap<string, GgufValue>,
): void {
  for (const [key, value] of metadata) {
    if (OWN_KEYS.has(key)) continue;
    const right = first.get(key);
    if (right !== undefined && isSame(value, right)) continue;
    // A fact that only this part has is read by nobody, but a model's name or shape is one's own.
    if (right === undefined && !key.startsWith("general.") && !key.startsWith("split.")) continue;
    refuse(
      path,
      `${key} is ${show(value)}, but in "${firstPath}" it is ` +
        `${right === undefined ? "missing" : show(right)}: the parts must be of one model`,
    );
  }
}

function isSame(one: GgufValue, other: GgufValue): boolean {
  if (!Array.isArray(one) || !Array.isArray(other)) return Object.is(one, other);
  return one.length === other.length && one.every((item, index) => Object.is(item, other[index]));
}

function show(value: GgufValue): string {
  const text = Array.isArray(value) ? `a list of ${value.length}` : String(value);
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
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
