/** A request's body: read within limits, parsed, and its fields taken out typed. */

import { badRequest, badShape, HttpError, show } from "./errors.ts";
import { JsonError, JsonScan, parseScannedJson } from "./json.ts";

/**
 * Reads a JSON object from a request.
 *
 * @param sizeLimit the largest body in bytes; a longer one is refused before it is read whole
 */
export async function readFields(request: Request, sizeLimit: number): Promise<Fields> {
  const mediaType = (request.headers.get("content-type") ?? "").split(";", 1)[0] as string;
  if (mediaType.trim().toLowerCase() !== "application/json") {
    throw new HttpError(
      415,
      `Unsupported Media Type: Only 'application/json' is allowed, got ${show(mediaType.trim())}`,
    );
  }
  const encoding = request.headers.get("content-encoding") ?? "identity";
  if (encoding.trim().toLowerCase() !== "identity") {
    throw new HttpError(
      415,
      `Unsupported Media Type: Cannot read a body with the content-encoding ${show(encoding)}: ` +
        "send it without one",
    );
  }
  const value = await readJson(request, sizeLimit).catch((error) => {
    throw named(error);
  });
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw badShape(
      `Cannot use ${show(value)} as the body: it must be a JSON object (model_attributes_type)`,
      "",
    );
  }
  return new Fields(value as Record<string, unknown>);
}

/** Everything but the parsing itself is done piece by piece, as the body comes in. */
async function readJson(request: Request, sizeLimit: number): Promise<unknown> {
  if (Number(request.headers.get("content-length") ?? 0) > sizeLimit) {
    await request.body?.cancel();
    throw tooLarge(sizeLimit);
  }
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const scan = new JsonScan();
  const texts: string[] = [];
  let pieces: string[] = [];
  let turnStart = performance.now();
  for await (const chunk of receive(request, sizeLimit)) {
    for (let at = 0; at < chunk.length; at += SLICE_BYTES) {
      if (performance.now() - turnStart > TURN_MS) {
        await nextTurn();
        turnStart = performance.now();
      }
      const piece = decode(decoder, chunk.subarray(at, at + SLICE_BYTES));
      scan.add(piece);
      pieces.push(piece);
      if (pieces.length === PIECES_MAX) {
        texts.push(pieces.join(""));
        pieces = [];
      }
    }
  }
  pieces.push(decode(decoder));
  return parseScannedJson(texts.join("") + pieces.join(""));
}

/** The chunks of a body within its limit; what goes wrong with them is the client's doing. */
async function* receive(
  request: Request,
  sizeLimit: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  let size = 0;
  try {
    for await (const chunk of request.body ?? []) {
      size += chunk.length;
      if (size > sizeLimit) throw tooLarge(sizeLimit); // leaving the loop cancels the rest
      yield chunk;
    }
  } catch (error) {
    // A TypeError: who passed the request on has read its body already.
    if (error instanceof HttpError || error instanceof TypeError) throw error;
    // The client left before its body was complete, or cut it into chunks that are none.
    throw new HttpError(400, "Cannot read the body: it ends too early or is not framed as it says");
  }
}

/** So many pieces become one: kept one by one, chunks of a byte would take many times their size. */
const PIECES_MAX = 1024;
/** Bytes that are looked at between two looks at the clock. */
const SLICE_BYTES = 65_536;
/** After so long others may run. */
const TURN_MS = 3;

/** Lets others run. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}

function decode(decoder: TextDecoder, bytes?: Uint8Array<ArrayBuffer>): string {
  try {
    return bytes === undefined ? decoder.decode() : decoder.decode(bytes, { stream: true });
  } catch {
    throw badShape("JSON decode error: the body is not UTF-8 (json_invalid)", "0");
  }
}

function tooLarge(sizeLimit: number): HttpError {
  return new HttpError(413, `Cannot read a body of more than ${sizeLimit} bytes`);
}

/** Says of a text that is no JSON, or too much of it, what a client is told. */
function named(error: unknown): unknown {
  if (!(error instanceof JsonError)) return error;
  return badShape(`JSON decode error: ${error.message} (json_invalid)`, String(error.position));
}

/** One way only to read any text: two would take time that grows with the square of its length. */
const NUMBER = /^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$/;
const TRUE_WORDS: readonly unknown[] = ["true", "1", "yes", "on", "t", "y"];
const FALSE_WORDS: readonly unknown[] = ["false", "0", "no", "off", "f", "n"];

/**
 * The fields of one JSON object.
 *
 * Every reader gives `undefined` for a field that is absent or null, converts the scalars that
 * vLLM converts (`"0.5"` → 0.5, `2.0` → 2, `"true"` → true), and otherwise throws an error that
 * names the field and its value. The words in brackets are the ones clients look for.
 */
export class Fields {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #path: string;

  constructor(values: Readonly<Record<string, unknown>>, path = "") {
    this.#values = values;
    this.#path = path;
  }

  /** The field as it was sent; null counts as absent. */
  raw(name: string): unknown {
    return Object.hasOwn(this.#values, name) ? this.#values[name] ?? undefined : undefined;
  }

  /** Whether the field was sent, and not as null. */
  has(name: string): boolean {
    return this.raw(name) !== undefined;
  }

  /** The dotted name of a field, from the body's root. */
  path(name: string): string {
    return this.#path === "" ? name : `${this.#path}.${name}`;
  }

  number(name: string): number | undefined {
    const value = this.raw(name);
    if (value === undefined || typeof value === "number") return value;
    if (typeof value === "boolean") return Number(value);
    if (typeof value !== "string") this.#refuse(name, "a number", "float_type");
    if (!NUMBER.test(value.trim())) this.#refuse(name, "a number", "float_parsing");
    return Number(value);
  }

  integer(name: string): number | undefined {
    return this.raw(name) === undefined ? undefined : this.#integer(name, this.raw(name));
  }

  boolean(name: string): boolean | undefined {
    const value = this.raw(name);
    if (value === undefined || typeof value === "boolean") return value;
    if (typeof value !== "string" && typeof value !== "number") {
      this.#refuse(name, "true or false", "bool_type");
    }
    const word = String(value).trim().toLowerCase();
    if (TRUE_WORDS.includes(word)) return true;
    if (FALSE_WORDS.includes(word)) return false;
    this.#refuse(name, "true or false", "bool_parsing");
  }

  string(name: string): string | undefined {
    const value = this.raw(name);
    if (value === undefined || typeof value === "string") return value;
    this.#refuse(name, "a string", "string_type");
  }

  /** One of a few words. */
  choice(name: string, words: readonly string[]): string | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    if (typeof value === "string" && words.includes(value)) return value;
    const quoted = words.map((word) => `'${word}'`);
    const list = [quoted.slice(0, -1).join(", "), quoted.at(-1)].filter(Boolean).join(" or ");
    throw badShape(
      `Cannot use ${this.path(name)} ${show(value)}: Input should be ${list} (literal_error)`,
      this.path(name),
    );
  }

  list(name: string): readonly unknown[] | undefined {
    const value = this.raw(name);
    if (value === undefined || Array.isArray(value)) return value;
    this.#refuse(name, "an array", "list_type");
  }

  integers(name: string): number[] | undefined {
    return this.list(name)?.map((item, index) => this.#integer(`${name}.${index}`, item));
  }

  object(name: string): Fields | undefined {
    const value = this.record(name);
    return value === undefined ? undefined : new Fields(value, this.path(name));
  }

  /** An object as it was sent. */
  record(name: string): Readonly<Record<string, unknown>> | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    if (typeof value !== "object" || Array.isArray(value)) {
      this.#refuse(name, "an object", "dict_type");
    }
    return value as Readonly<Record<string, unknown>>;
  }

  /** An array of objects as they were sent. */
  records(name: string): readonly Readonly<Record<string, unknown>>[] | undefined {
    return this.list(name)?.map((item, index) => {
      if (typeof item === "object" && item !== null && !Array.isArray(item)) {
        return item as Readonly<Record<string, unknown>>;
      }
      throw this.shapeError(`${name}.${index}`, item, "an object", "dict_type");
    });
  }

  /** The error for a field that must be there. */
  missing(name: string): HttpError {
    return badShape(`Cannot read ${this.path(name)}: Field required (missing)`, this.path(name));
  }

  /** The error for a value of the wrong type. */
  shapeError(name: string, value: unknown, right: string, token: string): HttpError {
    const path = this.path(name);
    return badShape(`Cannot use ${path} ${show(value)}: it must be ${right} (${token})`, path);
  }

  #integer(name: string, value: unknown): number {
    if (typeof value === "boolean") return Number(value);
    if (typeof value === "string") {
      if (!NUMBER.test(value.trim()) || !Number.isInteger(Number(value))) {
        throw this.shapeError(name, value, "an integer", "int_parsing");
      }
      return Number(value);
    }
    if (typeof value !== "number") throw this.shapeError(name, value, "an integer", "int_type");
    if (!Number.isInteger(value)) {
      throw this.shapeError(name, value, "an integer", "int_from_float");
    }
    return value;
  }

  #refuse(name: string, right: string, token: string): never {
    throw this.shapeError(name, this.raw(name), right, token);
  }
}

/** A token id that the model has. */
export function readTokenId(
  fields: Fields,
  value: unknown,
  path: string,
  vocabSize: number,
): number {
  if (typeof value !== "number" || !Number.isInteger(value)) {
    throw fields.shapeError(path, value, "a token id", "int_type");
  }
  if (value < 0) throw fields.shapeError(path, value, "at least 0", "greater_than_equal");
  if (value >= vocabSize) throw badRequest(`Token id ${value} is out of vocabulary`, path);
  return value;
}

/** The same for a list that may be long: names of entries are spelled out for a fault only. */
export function readTokenIds(
  fields: Fields,
  list: readonly unknown[],
  path: string,
  vocabSize: number,
): readonly number[] {
  const wrong = list.findIndex((id) =>
    !(typeof id === "number" && Number.isInteger(id) && id >= 0 && id < vocabSize)
  );
  if (wrong >= 0) readTokenId(fields, list[wrong], `${path}.${wrong}`, vocabSize);
  return list as readonly number[];
}
