/** `SamplingParams`: how the next token is chosen, and when to stop. What may stand in a field: `param_checks.ts`. */

import { InvalidParameterError } from "../base/errors.ts";
import { checkFieldNames } from "../base/field_names.ts";
import { CHECKS, checkTogether, showValue } from "./param_checks.ts";
import type { SamplingParamsOptions } from "./param_options.ts";

export type {
  EarlyStopping,
  LogitsProcessor,
  RepetitionDetection,
  RequestOutputKind,
  SamplingParamsOptions,
} from "./param_options.ts";

/** Values as {@linkcode SamplingParams} keeps them: lists without repetitions, switches as numbers. */
export interface SamplingParamsFields
  extends Omit<SamplingParamsOptions, "stop" | "logprobs" | "logitBias" | "badWords"> {
  /** Texts that end the output. */
  readonly stop?: readonly string[];
  /** How many most likely tokens are reported beside the chosen one. Default: no report. */
  readonly logprobs?: number;
  /** Token id → bias, from −100 to 100. */
  readonly logitBias?: ReadonlyMap<number, number>;
  /** Words that the output must not hold, each once. */
  readonly badWords?: readonly string[];
}

/**
 * How the next token is chosen, and when to stop.
 *
 * A field that is not given stays absent, so that the model's generation_config.json can fill it.
 * Values are checked at once; the object never changes afterwards.
 *
 * @example
 * ```ts
 * import { SamplingParams } from "@rngd/llm";
 *
 * const greedy = new SamplingParams({ temperature: 0, maxTokens: 64 });
 * const creative = new SamplingParams({ temperature: 0.8, topP: 0.95, seed: 7 });
 * if (greedy.topP !== undefined || creative.seed !== 7) throw new Error("unexpected");
 * ```
 */
export class SamplingParams {
  /**
   * Checks the values and keeps those that are given.
   *
   * @param options The fields; `undefined` is the same as absent.
   * @throws {InvalidParameterError} A value of the wrong type or out of its range, or an unknown field.
   * @example
   * ```ts
   * import { InvalidParameterError, SamplingParams } from "@rngd/llm";
   *
   * try {
   *   new SamplingParams({ topP: 1.5 });
   * } catch (error) {
   *   if (!(error instanceof InvalidParameterError) || error.parameter !== "topP") throw error;
   * }
   * ```
   */
  constructor(options: SamplingParamsOptions = {}) {
    checkIsFields(options);
    checkNames(options);
    // In the order of the checks, so that of two mistakes the one is named that upstream names.
    for (const [field, check] of Object.entries(CHECKS)) {
      const value = options[field as keyof SamplingParamsOptions];
      const kept = value === undefined ? undefined : check(value, field);
      if (kept !== undefined) Object.assign(this, { [field]: kept });
    }
    checkTogether(this);
    Object.freeze(this);
  }

  /**
   * Parameters from whatever a caller may hold: parameters, fields, or nothing.
   *
   * Here `null` means absent, as in JSON, except for `maxTokens`, where it means the room left.
   *
   * @param source Parameters (returned as they are), fields, `null` or `undefined`.
   * @returns The parameters.
   * @throws {InvalidParameterError} As the constructor.
   * @example
   * ```ts
   * import { SamplingParams } from "@rngd/llm";
   *
   * const params = SamplingParams.from({ temperature: null, maxTokens: 8 });
   * if (params.temperature !== undefined || params.maxTokens !== 8) throw new Error("unexpected");
   * ```
   */
  static from(
    source?:
      | SamplingParams
      | { readonly [Field in keyof SamplingParamsOptions]?: SamplingParamsOptions[Field] | null }
      | null,
  ): SamplingParams {
    if (source instanceof SamplingParams) return source;
    checkIsFields(source ?? {});
    const given = Object.entries(source ?? {}).filter(([field, value]) =>
      value !== null || field === "maxTokens"
    );
    return new SamplingParams(Object.fromEntries(given));
  }

  /**
   * A copy, with some fields replaced where that is wanted.
   *
   * @param changes Fields of the copy that differ; `undefined` makes a field absent.
   * @returns The copy.
   * @throws {InvalidParameterError} As the constructor.
   * @example
   * ```ts
   * import { SamplingParams } from "@rngd/llm";
   *
   * const base = new SamplingParams({ temperature: 0.8, seed: 1 });
   * const second = base.clone({ seed: 2 });
   * if (second.temperature !== 0.8 || second.seed !== 2) throw new Error("unexpected");
   * ```
   */
  clone(
    changes: {
      readonly [Field in keyof SamplingParamsOptions]?: SamplingParamsOptions[Field] | undefined;
    } = {},
  ): SamplingParams {
    return new SamplingParams({ ...this, ...changes } as SamplingParamsOptions);
  }

  /**
   * The fields that were given, for logs.
   *
   * @returns For example `SamplingParams(temperature=0.8, stopTokenIds=[2])`.
   * @example
   * ```ts
   * import { SamplingParams } from "@rngd/llm";
   *
   * const text = String(new SamplingParams({ temperature: 0, maxTokens: null }));
   * if (text !== "SamplingParams(temperature=0, maxTokens=null)") throw new Error(text);
   * ```
   */
  toString(): string {
    const fields = Object.entries(this).map(([field, value]) => `${field}=${showValue(value)}`);
    return `SamplingParams(${fields.join(", ")})`;
  }

  /**
   * Whether two parameters ask for the same thing with the same fields.
   *
   * @param other What to compare with.
   * @returns True if the same fields were given with the same values; functions must be the same ones.
   * @example
   * ```ts
   * import { SamplingParams } from "@rngd/llm";
   *
   * const params = new SamplingParams({ stopTokenIds: [2, 2], seed: 1 });
   * if (!params.equals(new SamplingParams({ seed: 1, stopTokenIds: [2] }))) throw new Error("unexpected");
   * ```
   */
  equals(other: SamplingParams): boolean {
    const functions = this.logitsProcessors ?? [];
    const others = other.logitsProcessors ?? [];
    return `${this}` === `${other}` && functions.length === others.length &&
      functions.every((processor, i) => processor === others[i]);
  }
}

/** The fields: an absent one is no own property, which keeps printing and comparing honest. */
export interface SamplingParams extends SamplingParamsFields {}

/** Refuses what only looks like parameters: nothing of it was checked. */
export function checkSamplingParams(params: unknown): void {
  if (params instanceof SamplingParams) return;
  throw new TypeError("The parameters of a request must be SamplingParams or PoolingParams");
}

function checkIsFields(options: unknown): void {
  const isFields = typeof options === "object" && options !== null && !Array.isArray(options) &&
    !(options instanceof Map);
  if (!isFields) throw new TypeError("Sampling parameters are made from an object of fields");
}

function checkNames(options: object): void {
  for (const field of FIELDS_OF_LATER_RELEASES) {
    const value = (options as Readonly<Record<string, unknown>>)[field];
    if (value === undefined) continue;
    const message = `Cannot use the sampling parameter "${field}": it is not supported yet`;
    throw new InvalidParameterError(field, value, message);
  }
  checkFieldNames(options, Object.keys(CHECKS), "the sampling parameter");
}

/** The names of all fields, for messages. */
export const SAMPLING_FIELDS: readonly string[] = Object.freeze(Object.keys(CHECKS));

/** Fields that other engines have: known, so that the message can say more than "unknown". */
const FIELDS_OF_LATER_RELEASES: readonly string[] = [
  "structuredOutputs",
  "guidedDecoding",
  "detokenize",
  "spacesBetweenSpecialTokens",
  "thinkingTokenBudget",
  "extraArgs",
];
