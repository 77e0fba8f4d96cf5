/** One component of a tokenizer.json (a normalizer, a decoder): checked reading of its fields. */

import { CheckpointError } from "../base/errors.ts";
import { isExponential } from "../base/regex_ambiguity.ts";

/** What a pattern of a file is: a text, or a regular expression in Oniguruma's syntax. */
export type Pattern = { readonly String: string } | { readonly Regex: string };

/** The longest known has 400 characters. */
const PATTERN_LENGTH_MAX = 20_000;

/** Its fields. Every mistake names the file, the field and the value. */
export class Component {
  readonly file: string;
  /** Where it stands: "pre_tokenizer.pretokenizers[1]". */
  readonly path: string;
  readonly json: Readonly<Record<string, unknown>>;

  constructor(file: string, path: string, json: unknown) {
    this.file = file;
    this.path = path;
    if (typeof json !== "object" || json === null || Array.isArray(json)) {
      refuse(file, path, json, `it must be null or an object with a "type"`);
    }
    this.json = json as Readonly<Record<string, unknown>>;
    if (typeof this.json["type"] !== "string") {
      refuse(file, path, undefined, `it must be null or an object with a "type"`);
    }
  }

  get type(): string {
    return this.json["type"] as string;
  }

  /** undefined where the field is absent or null. */
  value(key: string): unknown {
    return Object.hasOwn(this.json, key) ? this.json[key] ?? undefined : undefined;
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.value(key) ?? fallback;
    return typeof value === "boolean" ? value : this.fail(key, "it must be true or false");
  }

  /** `fallback` undefined: it must be there. */
  string(key: string, fallback?: string): string {
    const value = this.value(key) ?? fallback;
    return typeof value === "string" ? value : this.fail(key, "it must be a text");
  }

  /** A single character, however many code units it has. */
  character(key: string, fallback?: string): string {
    const text = this.string(key, fallback);
    return [...text].length === 1 ? text : this.fail(key, "it must be one character");
  }

  integer(key: string, min: number, fallback?: number): number {
    const value = this.value(key) ?? fallback;
    if (Number.isSafeInteger(value) && value as number >= min) return value as number;
    return this.fail(key, `it must be an integer of at least ${min}`);
  }

  list(key: string): readonly unknown[] {
    const value = this.value(key);
    return Array.isArray(value) ? value : this.fail(key, "it must be a list");
  }

  /** The components of a "Sequence". */
  parts(key: string): Component[] {
    return this.list(key).map((part, index) =>
      new Component(this.file, `${this.path}.${key}[${index}]`, part)
    );
  }

  pattern(key = "pattern"): Pattern {
    const value = this.value(key);
    const right = 'it must be {"String": …} or {"Regex": …}, and not empty';
    if (typeof value !== "object" || value === null) return this.fail(key, right);
    const { String: text, Regex: regex } = value as Readonly<Record<string, unknown>>;
    if ((text === undefined) === (regex === undefined)) return this.fail(key, right);
    const source = text ?? regex;
    if (typeof source !== "string" || source === "") return this.fail(key, right);
    if (source.length > PATTERN_LENGTH_MAX) {
      return this.fail(key, `it must have at most ${PATTERN_LENGTH_MAX} characters`);
    }
    if (text !== undefined) return { String: source };
    if (isExponential(source)) {
      return this.fail(key, "there are texts that it would take exponential time to search");
    }
    return { Regex: source };
  }

  /** Refuses a field; `right` says what it should be. */
  fail(key: string, right: string): never {
    refuse(this.file, `${this.path}.${key}`, this.value(key), right);
  }
}

function refuse(file: string, path: string, value: unknown, right: string): never {
  const text = JSON.stringify(value) ?? "missing";
  const shown = text.length > 100 ? `${text.slice(0, 100)}…` : text;
  throw new CheckpointError(
    file,
    `Cannot read the tokenizer of "${file}": "${path}" is ${shown}: ${right}`,
  );
}
