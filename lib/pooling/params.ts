/** `PoolingParams`: what is made of a prompt's hidden states. */

import { InvalidParameterError } from "../base/errors.ts";
import { checkFieldNames } from "../base/field_names.ts";

/**
 * What a pooling model can be asked for:
 *
 * - `embed`: one vector a prompt
 * - `score`: one number a pair of texts, from a model with a single label
 * - `classify`: one probability a label
 * - `token_embed`: one vector a token
 * - `token_classify`: one probability a label, for each token
 */
export type PoolingTask = "embed" | "score" | "classify" | "token_embed" | "token_classify";

/** All tasks, for checks and messages. */
const POOLING_TASKS: readonly PoolingTask[] = [
  "embed",
  "score",
  "classify",
  "token_embed",
  "token_classify",
];

/** What {@linkcode PoolingParams} are made from; every field may be left out. */
export interface PoolingParamsOptions {
  /**
   * Keep only so many tokens of a prompt. Of a single text the last ones stay, so that a begin
   * token is cut as well; of a pair the end of the second text is cut. −1: as many as the model
   * takes. 0 or null: longer prompts are refused. Default null.
   */
  readonly truncatePromptTokens?: number | null;
  /** Keep the first so many numbers of an embedding; Matryoshka models only. Default: all. */
  readonly dimensions?: number | null;
  /** Give embeddings the length 1. Default true. */
  readonly normalize?: boolean;
  /** Turn a classifier's logits into scores or probabilities. Default true. */
  readonly useActivation?: boolean;
  /** What to make. Default: what the method or the model is for. */
  readonly task?: PoolingTask;
}

/** Values as {@linkcode PoolingParams} keeps them: null is the same as absent. */
export interface PoolingParamsFields {
  /** Most tokens of a prompt; −1: as many as the model takes, 0: no truncation. */
  readonly truncatePromptTokens?: number;
  /** How many numbers of an embedding are kept. */
  readonly dimensions?: number;
  /** Whether embeddings get the length 1. */
  readonly normalize?: boolean;
  /** Whether logits become scores or probabilities. */
  readonly useActivation?: boolean;
  /** What is made. */
  readonly task?: PoolingTask;
}

/** Checks a value that is there; gives what to keep, undefined for what counts as absent. */
type Check = (value: unknown, field: string) => unknown;

const CHECKS: { readonly [Field in keyof PoolingParamsOptions]-?: Check } = {
  truncatePromptTokens: integerOrNull(
    -1,
    "it must be -1 for as many as the model takes, null, or an integer and at least 0",
  ),
  dimensions: integerOrNull(1, "it must be an integer and at least 1"),
  normalize: boolean,
  useActivation: boolean,
  task(value, field) {
    if (POOLING_TASKS.includes(value as PoolingTask)) return value;
    const tasks = POOLING_TASKS.map((task) => `"${task}"`).join(", ");
    return refuse(field, value, `it must be one of ${tasks}`);
  },
};

/**
 * What is made of a prompt's hidden states, for `embed`, `encode`, `score`, `rerank` and `classify`.
 *
 * Values are checked at once; the object never changes afterwards. What depends on the model, as
 * whether it allows `dimensions`, is checked by the call.
 *
 * @example
 * ```ts
 * import { PoolingParams } from "@rngd/llm";
 *
 * const short = new PoolingParams({ dimensions: 256, truncatePromptTokens: -1 });
 * if (short.dimensions !== 256 || short.normalize !== undefined) throw new Error("unexpected");
 * ```
 */
export class PoolingParams {
  /**
   * Checks the values and keeps those that are given.
   *
   * @param options The fields; `undefined` is the same as absent.
   * @throws {InvalidParameterError} A value of the wrong type or out of its range, or an unknown field.
   * @example
   * ```ts
   * import { InvalidParameterError, PoolingParams } from "@rngd/llm";
   *
   * try {
   *   new PoolingParams({ truncatePromptTokens: -2 });
   * } catch (error) {
   *   if (!(error instanceof InvalidParameterError)) throw error;
   * }
   * ```
   */
  constructor(options: PoolingParamsOptions = {}) {
    checkFields(options);
    for (const [field, check] of Object.entries(CHECKS)) {
      const value = options[field as keyof PoolingParamsOptions];
      const kept = value === undefined ? undefined : check(value, field);
      if (kept !== undefined) Object.assign(this, { [field]: kept });
    }
    Object.freeze(this);
  }

  /**
   * Parameters from whatever a caller may hold: parameters, fields, or nothing.
   *
   * @param source Parameters (returned as they are), fields, `null` or `undefined`; a field that is
   * `null` is absent.
   * @returns The parameters.
   * @throws {InvalidParameterError} As the constructor.
   * @example
   * ```ts
   * import { PoolingParams } from "@rngd/llm";
   *
   * const params = PoolingParams.from({ normalize: null, dimensions: 64 });
   * if (params.normalize !== undefined || params.dimensions !== 64) throw new Error("unexpected");
   * ```
   */
  static from(
    source?:
      | PoolingParams
      | { readonly [Field in keyof PoolingParamsOptions]?: PoolingParamsOptions[Field] | null }
      | null,
  ): PoolingParams {
    if (source instanceof PoolingParams) return source;
    const given = Object.entries(source ?? {}).filter(([, value]) => value !== null);
    return new PoolingParams(Object.fromEntries(given));
  }

  /**
   * A copy, with some fields replaced where that is wanted.
   *
   * @param changes Fields of the copy that differ; `undefined` makes a field absent.
   * @returns The copy.
   * @throws {InvalidParameterError} As the constructor.
   * @example
   * ```ts
   * import { PoolingParams } from "@rngd/llm";
   *
   * const raw = new PoolingParams({ dimensions: 64 }).clone({ normalize: false });
   * if (raw.dimensions !== 64 || raw.normalize !== false) throw new Error("unexpected");
   * ```
   */
  clone(
    changes: {
      readonly [Field in keyof PoolingParamsOptions]?: PoolingParamsOptions[Field] | undefined;
    } = {},
  ): PoolingParams {
    return new PoolingParams({ ...this, ...changes } as PoolingParamsOptions);
  }

  /**
   * The fields that were given, for logs.
   *
   * @returns For example `PoolingParams(dimensions=64, task="embed")`.
   * @example
   * ```ts
   * import { PoolingParams } from "@rngd/llm";
   *
   * const text = String(new PoolingParams({ task: "embed", dimensions: 64 }));
   * if (text !== 'PoolingParams(dimensions=64, task="embed")') throw new Error(text);
   * ```
   */
  toString(): string {
    const fields = Object.entries(this).map(([field, value]) => `${field}=${showValue(value)}`);
    return `PoolingParams(${fields.join(", ")})`;
  }

  /**
   * Whether two parameters ask for the same thing with the same fields.
   *
   * @param other What to compare with.
   * @returns True if the same fields were given with the same values.
   * @example
   * ```ts
   * import { PoolingParams } from "@rngd/llm";
   *
   * const params = new PoolingParams({ normalize: false });
   * if (!params.equals(new PoolingParams({ normalize: false }))) throw new Error("unexpected");
   * ```
   */
  equals(other: PoolingParams): boolean {
    return `${this}` === `${other}`;
  }
}

/** The fields: an absent one is no own property, which keeps printing and comparing honest. */
export interface PoolingParams extends PoolingParamsFields {}

function checkFields(options: object): void {
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw new TypeError("Pooling parameters are made from an object of fields");
  }
  checkFieldNames(options, Object.keys(CHECKS), "the pooling parameter");
}

function integerOrNull(min: number, rule: string): Check {
  return (value, field) => {
    if (value === null) return undefined;
    return Number.isSafeInteger(value) && (value as number) >= min
      ? value
      : refuse(field, value, rule);
  };
}

function boolean(value: unknown, field: string): boolean {
  return typeof value === "boolean" ? value : refuse(field, value, "it must be true or false");
}

function refuse(field: string, value: unknown, rule: string): never {
  throw new InvalidParameterError(field, value, `Cannot use ${field} ${showValue(value)}: ${rule}`);
}

function showValue(value: unknown): string {
  const text = typeof value === "number" ? String(value) : JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/**
 * Refuses what only looks like parameters, and parameters that are for another task than the call.
 *
 * @throws {TypeError} `params` are no {@linkcode PoolingParams}.
 * @throws {InvalidParameterError} They name another task.
 */
export function checkPoolingParams(params: unknown, task?: PoolingTask): void {
  if (!(params instanceof PoolingParams)) {
    throw new TypeError("The parameters of a request for pooling must be PoolingParams");
  }
  if (task === undefined || params.task === undefined || params.task === task) return;
  throw new InvalidParameterError(
    "task",
    params.task,
    `Cannot use task "${params.task}": this call is for the task "${task}"`,
  );
}
