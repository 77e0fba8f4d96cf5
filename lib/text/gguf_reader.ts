/** Checked access to the tokenizer's part of a GGUF file's metadata. */

import { CheckpointError } from "../base/errors.ts";

/** Values of `tokenizer.ggml.token_type`. */
export const TOKEN_TYPE = {
  normal: 1,
  unknown: 2,
  control: 3,
  userDefined: 4,
  /** Fills the vocabulary up: its id is taken, its text is not. */
  unused: 5,
  byte: 6,
} as const;

/** What every kind of tokenizer in a GGUF file has. */
export interface GgufVocabulary {
  readonly reader: GgufReader;
  /** By id. */
  readonly tokens: readonly string[];
  /** A `TOKEN_TYPE` for every id. */
  readonly types: readonly number[];
}

/** Checked access to the metadata of one file. */
export class GgufReader {
  #metadata: ReadonlyMap<string, unknown>;
  #file: string;

  constructor(metadata: ReadonlyMap<string, unknown>, file: string) {
    this.#metadata = metadata;
    this.#file = file;
  }

  /** Whether the file says anything of `key`. */
  has(key: string): boolean {
    return this.#metadata.has(key);
  }

  /** A text. */
  string(key: string): string {
    const value = this.#metadata.get(key);
    return typeof value === "string" ? value : this.fail(key, "must be a string");
  }

  /** A flag; undefined where the file says nothing. */
  boolean(key: string): boolean | undefined {
    const value = this.#metadata.get(key);
    if (value === undefined || typeof value === "boolean") return value;
    return this.fail(key, "must be a boolean");
  }

  /** A list of texts. */
  strings(key: string): readonly string[] {
    const value = this.#metadata.get(key);
    if (!Array.isArray(value)) return this.fail(key, "must be a list of strings");
    const wrong = value.findIndex((item) => typeof item !== "string");
    if (wrong >= 0) this.fail(key, `must be a list of strings, but entry ${wrong} is none`);
    return value;
  }

  /** A number for every token. */
  numbers(key: string, tokenCount: number): readonly number[] {
    const value = this.#metadata.get(key);
    if (!Array.isArray(value) || value.length !== tokenCount) {
      return this.fail(key, `must be a list of ${tokenCount} numbers, one a token`);
    }
    const wrong = value.findIndex((item) => !Number.isFinite(Number(item)));
    if (wrong >= 0) this.fail(key, `holds ${value[wrong]} at index ${wrong}: numbers are needed`);
    return value.map(Number);
  }

  /** Bytes, which the format spells as a list of small integers. */
  bytes(key: string): Uint8Array {
    const value = this.#metadata.get(key);
    if (!Array.isArray(value)) return this.fail(key, "must be a list of bytes");
    const wrong = value.findIndex((item) => !Number.isInteger(item) || item < -128 || item > 255);
    if (wrong >= 0) this.fail(key, `holds ${value[wrong]} at index ${wrong}: bytes are needed`);
    return Uint8Array.from(value);
  }

  /** The type of every token; a file without types has only normal ones. */
  types(tokenCount: number): readonly number[] {
    const key = "tokenizer.ggml.token_type";
    const value = this.#metadata.get(key);
    if (value === undefined) return new Array(tokenCount).fill(TOKEN_TYPE.normal);
    const types = this.numbers(key, tokenCount);
    const wrong = types.findIndex((type) => !Number.isInteger(type) || type < 0 || type > 6);
    if (wrong >= 0) this.fail(key, `holds ${types[wrong]} at index ${wrong}: known are 0 to 6`);
    return types;
  }

  /** The id of a token; undefined where the file says nothing. */
  tokenId(key: string, tokenCount: number): number | undefined {
    const value = this.#metadata.get(key);
    if (value === undefined) return undefined;
    const id = typeof value === "bigint" ? Number(value) : value;
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id >= tokenCount) {
      return this.fail(key, `is ${value}: it must be one of the ${tokenCount} token ids`);
    }
    return id;
  }

  /** Throws what is wrong with `key`, naming the file. */
  fail(key: string, problem: string): never {
    throw new CheckpointError(
      this.#file,
      `Cannot read the tokenizer of "${this.#file}": ${key} ${problem}`,
    );
  }
}
