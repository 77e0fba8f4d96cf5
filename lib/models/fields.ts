/** Checked reading of named values out of somebody else's file: every mistake names file, field and value. */

import { CheckpointError } from "../base/errors.ts";
import { isRecord } from "../base/record.ts";

/** What a number must be. Absent limits do not limit. */
export interface NumberRule {
  readonly min?: number;
  readonly max?: number;
  /** The smallest value must be exceeded, not just reached. */
  readonly aboveMin?: boolean;
  readonly multipleOf?: number;
}

/** The fields of one object in one file. Null counts as absent, as it does for the files' own readers. */
export class Fields {
  readonly file: string;
  readonly #get: (key: string) => unknown;
  readonly #prefix: string;
  readonly #keys: readonly string[];

  /** `prefix` is put before each key in messages: "rope_scaling.". */
  constructor(
    file: string,
    get: (key: string) => unknown,
    { prefix = "", keys = [] }: { readonly prefix?: string; readonly keys?: readonly string[] } =
      {},
  ) {
    this.file = file;
    this.#get = get;
    this.#prefix = prefix;
    this.#keys = keys;
  }

  /** The fields of a JSON object; `value` is refused if it is anything else. */
  static ofJson(file: string, value: unknown): Fields {
    if (!isRecord(value)) {
      throw new CheckpointError(file, `Cannot use "${file}": it must hold a JSON object`);
    }
    return ofObject(file, value, "");
  }

  /** The names of all fields of a JSON object. */
  keys(): readonly string[] {
    return this.#keys;
  }

  /** How messages call a field: with the objects around it. */
  nameOf(key: string): string {
    return `${this.#prefix}${key}`;
  }

  /** The value as it is; undefined where it is absent or null. */
  value(key: string): unknown {
    return this.#get(key) ?? undefined;
  }

  /** Whether the field is written out as null, where that means something else than absence. */
  isNull(key: string): boolean {
    return this.#get(key) === null;
  }

  integer(key: string, rule: NumberRule, fallback?: number): number {
    const value = this.value(key) ?? fallback;
    if (!Number.isSafeInteger(value) || !follows(value as number, rule)) {
      this.fail(key, `it must be ${describe("an integer", rule)}`);
    }
    return value as number;
  }

  optionalInteger(key: string, rule: NumberRule): number | undefined {
    return this.value(key) === undefined ? undefined : this.integer(key, rule);
  }

  number(key: string, rule: NumberRule, fallback?: number): number {
    const value = this.value(key) ?? fallback;
    if (typeof value !== "number" || !Number.isFinite(value) || !follows(value, rule)) {
      this.fail(key, `it must be ${describe("a number", rule)}`);
    }
    return value;
  }

  optionalNumber(key: string, rule: NumberRule): number | undefined {
    return this.value(key) === undefined ? undefined : this.number(key, rule);
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.value(key) ?? fallback;
    if (typeof value !== "boolean") this.fail(key, "it must be true or false");
    return value;
  }

  optionalString(key: string): string | undefined {
    const value = this.value(key);
    if (value !== undefined && typeof value !== "string") this.fail(key, "it must be a string");
    return value;
  }

  /** One id or a list of them, below `count`; none where the field is absent. */
  tokenIds(key: string, count: number = Infinity): number[] | undefined {
    const value = this.value(key);
    if (value === undefined) return undefined;
    const ids = Array.isArray(value) ? value : [value];
    if (!ids.every((id) => Number.isSafeInteger(id) && id >= 0)) {
      this.fail(key, "it must be a token id or a list of token ids, integers of at least 0");
    }
    const beyond = ids.find((id) => id >= count);
    if (beyond !== undefined) {
      this.fail(key, `${beyond} is no token: vocab_size is ${count}, so ids must be below that`);
    }
    return ids;
  }

  /** The fields of an object inside this one; undefined where it is absent. */
  object(key: string): Fields | undefined {
    const value = this.value(key);
    if (value === undefined) return undefined;
    if (!isRecord(value)) this.fail(key, "it must be an object");
    return ofObject(this.file, value, `${this.nameOf(key)}.`);
  }

  /** Refuses the field's value; `right` says what it should be, as a clause. */
  fail(key: string, right: string): never {
    const value = this.value(key);
    const name = this.nameOf(key);
    const what = value === undefined
      ? `Cannot find ${name} in "${this.file}"`
      : `Cannot use ${name} ${show(value)} of "${this.file}"`;
    throw new CheckpointError(this.file, `${what}: ${right}`);
  }
}

function ofObject(file: string, value: Record<string, unknown>, prefix: string): Fields {
  const get = (key: string) => Object.hasOwn(value, key) ? value[key] : undefined;
  return new Fields(file, get, { prefix, keys: Object.keys(value) });
}

function follows(value: number, { min, max, aboveMin, multipleOf }: NumberRule): boolean {
  if (min !== undefined && (aboveMin ? value <= min : value < min)) return false;
  if (max !== undefined && value > max) return false;
  return multipleOf === undefined || value % multipleOf === 0;
}

function describe(noun: string, { min, max, aboveMin, multipleOf }: NumberRule): string {
  const parts = [noun];
  if (multipleOf !== undefined) parts.push(`that is a multiple of ${multipleOf}`);
  if (min !== undefined) parts.push(aboveMin ? `above ${min}` : `of at least ${min}`);
  if (max !== undefined) parts.push(min === undefined ? `of at most ${max}` : `and at most ${max}`);
  return parts.join(" ");
}

function show(value: unknown): string {
  const text = typeof value === "bigint" ? `${value}` : JSON.stringify(value) ?? String(value);
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}
