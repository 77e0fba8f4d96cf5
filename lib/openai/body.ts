/** The fields of a request's body, taken out typed. */

import type { RouteContext } from "./context.ts";
import { badRequest, badShape, type HttpError, show } from "./errors.ts";
import { memberSource } from "./json.ts";
import { checkMediaType, readJson } from "./read_body.ts";
import { checkServedName } from "./served_names.ts";

/**
 * Reads a JSON object from a request. A body above the size limit is refused before it is read
 * whole, and where names are strict, so is one that names another model.
 */
export async function readFields(context: RouteContext): Promise<Fields> {
  const { request, settings } = context;
  checkMediaType(request);
  const { text, value } = await readJson(request, settings.bodySizeLimit);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw badShape(
      `Cannot use ${show(value)} as the body: it must be a JSON object (model_attributes_type)`,
      "",
    );
  }
  const body = value as Readonly<Record<string, unknown>>;
  settings.onRequest?.({ request, id: requestId(context, body), body });
  const fields = new Fields(body, "", text);
  const model = fields.string("model");
  if (settings.strictModel) checkServedName(model, settings.servedModelNames);
  return fields;
}

/** The id of its answer, without the prefix that says of what kind it is. */
function requestId({ request, id }: RouteContext, body: Readonly<Record<string, unknown>>): string {
  const sent = request.headers.get("x-request-id") || body["request_id"];
  return typeof sent === "string" && sent !== "" ? sent : id;
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
  readonly #text: string | undefined;

  /** @param text The JSON that the values were parsed from, where they are those of the body itself. */
  constructor(values: Readonly<Record<string, unknown>>, path = "", text?: string) {
    this.#values = values;
    this.#path = path;
    this.#text = text;
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

  /** A signed integer of 64 bits, exact: digits that a number has no room for are read from the text. */
  int64(name: string): bigint | undefined {
    const number = this.integer(name);
    if (number === undefined) return undefined;
    const sent = this.raw(name);
    const digits = Number.isSafeInteger(number) ? undefined : this.#digits(name, sent);
    const exact = digits === undefined ? BigInt(number) : BigInt(digits);
    if (BigInt.asIntN(64, exact) === exact) return exact;
    const token = exact < 0n ? "greater_than_equal" : "less_than_equal";
    // With the digits that were sent: a number has no room for them.
    const shown = typeof sent === "string" ? sent : exact;
    throw this.shapeError(name, shown, "an integer of 64 bits", token);
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
  choice<const Word extends string>(name: string, words: readonly Word[]): Word | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    const found = words.find((word) => word === value);
    if (found !== undefined) return found;
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

  /** An integer as it was written; undefined where that was not digits alone, as in 1e18. */
  #digits(name: string, sent: unknown): string | undefined {
    const written = typeof sent === "string"
      ? sent.trim()
      : this.#text && memberSource(this.#text, name);
    return written !== undefined && /^-?\d+$/.test(written) ? written : undefined;
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
  if (value < 0) {
    // In the words of both: clients look for either.
    const right = "at least 0, as any other is out of vocabulary";
    throw fields.shapeError(path, value, right, "greater_than_equal");
  }
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
