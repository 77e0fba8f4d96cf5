/** Readers of flag values: text → value, or a RangeError that says what would be right. */

import { nearest } from "./nearest.ts";

/** A reader. */
export type Reader<Value> = (text: string) => Value;

/** A whole number. */
export function integer(least: number, most: number = Number.MAX_SAFE_INTEGER): Reader<number> {
  const right = most === Number.MAX_SAFE_INTEGER
    ? `it must be an integer of at least ${least}`
    : `it must be an integer from ${least} to ${most}`;
  return (text) => {
    const value = /^-?\d+$/.test(text) ? Number(text) : NaN;
    if (!(value >= least && value <= most)) throw new RangeError(right);
    return value;
  };
}

/** A decimal number. */
export function number(least: number, most: number = Number.MAX_VALUE): Reader<number> {
  const right = most === Number.MAX_VALUE
    ? `it must be a number of at least ${least}`
    : `it must be a number from ${least} to ${most}`;
  return (text) => {
    const value = /^-?(\d+(\.\d*)?|\.\d+)$/.test(text) ? Number(text) : NaN;
    if (!(value >= least && value <= most)) throw new RangeError(right);
    return value;
  };
}

/** A time. A longer one than a day is a mistake. */
export function seconds(text: string): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (!(value <= 86_400)) throw new RangeError("it must be a number of seconds, such as 30");
  return value;
}

/** One of a few words. */
export function choice(...words: readonly string[]): Reader<string> {
  return (text) => {
    if (!words.includes(text)) {
      const list = [words.slice(0, -1).join(", "), words.at(-1)].filter(Boolean).join(" or ");
      throw new RangeError(`it must be ${list}`);
    }
    return text;
  };
}

/** One of a few words; others are known, and for a later release. */
export function supported(words: readonly string[], later: readonly string[]): Reader<string> {
  const read = choice(...words);
  return (text) => {
    if (!later.includes(text)) return read(text);
    const right = words.length === 1 ? words[0] : `one of ${words.join(", ")}`;
    throw new RangeError(`it is not supported yet, give ${right}`);
  };
}

/** A count of bytes, with a unit or without. */
export function bytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?(?:([kmgt])(i?b)?|b)?$/i.exec(text);
  const [, digits, prefix, suffix] = match ?? [];
  const base = suffix?.toLowerCase() === "b" ? 1000 : 1024;
  const power = prefix === undefined ? 0 : 1 + "kmgt".indexOf(prefix.toLowerCase());
  const value = Math.round(Number(digits) * base ** power);
  if (!(value >= 1 && Number.isSafeInteger(value))) {
    throw new RangeError("it must be a size, such as 536870912, 512M or 1GiB");
  }
  return value;
}

/** A JSON list of strings, or words with commas between them. */
export function words(example: string): Reader<readonly string[]> {
  return (text) => {
    if (!/^\s*[[{]/.test(text)) {
      return text.split(",").map((word) => word.trim()).filter((word) => word !== "");
    }
    const list = parsedJson(text);
    if (Array.isArray(list) && list.every((item) => typeof item === "string")) return list;
    throw new RangeError(`it must be a JSON list of strings, such as ["${example}"]`);
  };
}

/** A JSON object. */
export function jsonObject(example: string): Reader<Readonly<Record<string, unknown>>> {
  return (text) => {
    const value = parsedJson(text);
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new RangeError(`it must be a JSON object, such as ${example}`);
    }
    return value as Readonly<Record<string, unknown>>;
  };
}

/** Undefined for what is not JSON, which is no JSON value. */
function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the caller says what would be right, as of JSON of another shape
  }
}

/** Fields of generation_config.json → the names that the library has for them. */
const GENERATION_FIELDS: ReadonlyMap<string, string> = new Map([
  ["temperature", "temperature"],
  ["top_p", "topP"],
  ["top_k", "topK"],
  ["min_p", "minP"],
  ["repetition_penalty", "repetitionPenalty"],
  ["max_new_tokens", "maxNewTokens"],
]);

/** Sampling defaults as generation_config.json writes them; the library checks the values. */
export function generationFields(text: string): Readonly<Record<string, unknown>> {
  const given = jsonObject('{"temperature": 0.5}')(text);
  return Object.fromEntries(
    Object.entries(given).map(([key, value]) => {
      const name = GENERATION_FIELDS.get(key);
      if (name !== undefined) return [name, value];
      const known = [...GENERATION_FIELDS.keys()];
      const guess = nearest(key, known);
      throw new RangeError(
        `it has an unknown field "${key}", ` +
          (guess === undefined ? `and may have ${known.join(", ")}` : `did you mean "${guess}"?`),
      );
    }),
  );
}

/** A path that requests may have before theirs. The slash at its end means nothing. */
export function rootPath(text: string): string {
  const path = text.replace(/\/+$/, "");
  if (path !== "" && !/^\/[^?#\s]+$/.test(path)) {
    throw new RangeError("it must be a path that begins with a slash, such as /llm");
  }
  return path;
}

/** `batch,length`. */
export function bucket(
  text: string,
): { readonly batchSize: number; readonly attentionSize: number } {
  const [, batchSize, attentionSize] = /^(\d{1,9}),(\d{1,9})$/.exec(text) ?? [];
  if (!(Number(batchSize) > 0 && Number(attentionSize) > 0)) {
    throw new RangeError(
      "buckets should be in the format of batch_size,sequence_length, such as 4,1024",
    );
  }
  return { batchSize: Number(batchSize), attentionSize: Number(attentionSize) };
}

/** How many processing elements work on one model together. */
export function parallelSize(text: string): number {
  const value = integer(1)(text);
  if (![1, 2, 4].includes(value) && value % 8 !== 0) {
    throw new RangeError("it must be 1, 2, 4 or a multiple of 8");
  }
  return value;
}

const PE_COUNT = 8;

/** Cards and their processing elements: `npu:0`, `npu:0:3`, `npu:0:4-7`, several with commas. */
export function devices(text: string): readonly string[] {
  const list = text.split(",").map((device) => device.trim());
  for (const device of list) checkDevice(device);
  const kinds = new Set(list.map((device) => device.split(":", 1)[0]));
  if (kinds.size > 1) throw new RangeError("its devices must be of one kind");
  return list;
}

function checkDevice(device: string): void {
  const right = "it must be like npu:0, npu:0:3, npu:0:4-7 or npu:0,npu:1";
  if (/^cpu(:\d+)?$/.test(device)) return;
  const match = /^(?:npu|rngd):(\d+)(?::(\*|\d+|(\d+)-(\d+)))?$/.exec(device);
  if (match === null) throw new RangeError(right);
  const [, , elements, first, last] = match;
  if (elements === undefined || elements === "*") return;
  if (first === undefined || last === undefined) {
    if (Number(elements) < PE_COUNT) return;
    throw new RangeError(`a card has the processing elements 0 to ${PE_COUNT - 1}`);
  }
  const size = Number(last) - Number(first) + 1;
  if (![1, 2, 4, 8].includes(size) || Number(first) % size !== 0 || Number(last) >= PE_COUNT) {
    throw new RangeError(
      `processing elements ${first}-${last} are not 1, 2, 4 or 8 that begin at a multiple of it`,
    );
  }
}
