/** `SamplingParams`: how the next token is chosen, and when to stop. */

import { InvalidParameterError } from "../base/errors.ts";

/**
 * The fields of {@linkcode SamplingParams}. All are optional: an absent field falls to the model's
 * generation_config.json, then to the default named here.
 *
 * @example
 * ```ts
 * import type { SamplingParamsOptions } from "@rngd/llm";
 *
 * const options: SamplingParamsOptions = { temperature: 0.7, topP: 0.9, seed: 1, maxTokens: 64 };
 * ```
 */
export interface SamplingParamsOptions {
  /**
   * Divides the logits: below 1 the likely tokens gain, above 1 they lose. Range 0 … 2, default 1.
   * 0 (anything below 1e-5) is greedy: the most likely token, always. Other values below 0.01
   * count as 0.01.
   */
  readonly temperature?: number;
  /** Keep the fewest most likely tokens that hold this share of the mass. Range (0, 1], default 1: off. */
  readonly topP?: number;
  /** Keep this many most likely tokens. An integer; 0 and −1, the default: off. */
  readonly topK?: number;
  /** Drop tokens less likely than this share of the most likely one. Range [0, 1], default 0: off. */
  readonly minP?: number;
  /**
   * Makes tokens of the prompt and the output less likely (above 1) or more likely (below 1).
   * Greater than 0, default 1: off.
   */
  readonly repetitionPenalty?: number;
  /** Same seed, same tokens. A safe integer; −1, the default: a random one for every request. */
  readonly seed?: number;
  /** Further tokens that end the output. They stay in `tokenIds`. Integers ≥ 0, default none. */
  readonly stopTokenIds?: readonly number[];
  /** Go on past the model's end tokens; `stopTokenIds` still end the output. Default false. */
  readonly ignoreEos?: boolean;
  /**
   * Most tokens to generate. An integer ≥ 1, default 16 for `generate`. `null`, which is the default
   * for `chat`: the room that is left in the context.
   */
  readonly maxTokens?: number | null;
  /**
   * End and stop tokens cannot be chosen before there are this many tokens.
   * An integer from 0 to `maxTokens`, default 0.
   */
  readonly minTokens?: number;
  /**
   * Report the log-probability of every chosen token and of this many most likely ones.
   * An integer ≥ 0; `true` is 1; absent or `false`, the default: none.
   */
  readonly logprobs?: number | boolean;
  /** The same for the tokens of the prompt. An integer ≥ 0; −1: the whole vocabulary. Default: none. */
  readonly promptLogprobs?: number;
  /** Leave special tokens out of the text. Default true. */
  readonly skipSpecialTokens?: boolean;
}

/** The middle tier of defaults: what the model or the kind of call prefers where a request is silent. */
export interface SamplingDefaults {
  /** Used where a request names no temperature. */
  readonly temperature?: number;
  /** Used where a request names no topP. */
  readonly topP?: number;
  /** Used where a request names no topK. */
  readonly topK?: number;
  /** Used where a request names no minP. */
  readonly minP?: number;
  /** Used where a request names no repetitionPenalty. */
  readonly repetitionPenalty?: number;
  /** Cut to the room left in the context, unlike a `maxTokens` that a request names itself. */
  readonly maxTokens?: number | null;
}

/** Parameters with every default filled in: what the engine works with. */
export interface ResolvedSamplingParams {
  /** 0 is greedy, then the filters below are off; otherwise at least 0.01. */
  readonly temperature: number;
  /** 1: off. */
  readonly topP: number;
  /** 0: off. */
  readonly topK: number;
  /** 0: off. */
  readonly minP: number;
  /** 1: off. */
  readonly repetitionPenalty: number;
  /** null: none was asked for. */
  readonly seed: number | null;
  /** Each once; may be empty. */
  readonly stopTokenIds: readonly number[];
  /** The model's end tokens do not end the output. */
  readonly ignoreEos: boolean;
  /** null: the room left in the context. */
  readonly maxTokens: number | null;
  /** `maxTokens` is a default: cut it to the room left instead of refusing the request. */
  readonly cutMaxTokens: boolean;
  /** 0: off. */
  readonly minTokens: number;
  /** null: none; 0: the chosen token only. */
  readonly logprobs: number | null;
  /** null: none; −1: the whole vocabulary. */
  readonly promptLogprobs: number | null;
  /** For whoever turns the tokens into text. */
  readonly skipSpecialTokens: boolean;
}

/** Below this a temperature is greedy. */
const GREEDY_TEMPERATURE = 1e-5;
/** Smaller positive temperatures are raised to this, as dividing by them would overflow. */
const TEMPERATURE_MIN = 0.01;

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
  // `declare`: a field that is not given is no own property, which keeps printing and comparing honest.

  /** 0 is greedy. Range 0 … 2, default 1; values between 1e-5 and 0.01 were raised to 0.01. */
  declare readonly temperature?: number;
  /** The share of the mass that is kept. Range (0, 1], default 1: off. */
  declare readonly topP?: number;
  /** How many most likely tokens are kept. 0 and −1, the default: off. */
  declare readonly topK?: number;
  /** The least probability that is kept, as a share of the largest. Range [0, 1], default 0: off. */
  declare readonly minP?: number;
  /** Above 1 avoids tokens of prompt and output. Greater than 0, default 1: off. */
  declare readonly repetitionPenalty?: number;
  /** Same seed, same tokens. −1, the default: a random one. */
  declare readonly seed?: number;
  /** Further tokens that end the output, each once. Default none. */
  declare readonly stopTokenIds?: readonly number[];
  /** Go on past the model's end tokens. Default false. */
  declare readonly ignoreEos?: boolean;
  /** Most tokens to generate, at least 1; null: the room left. Default 16 for `generate`, null for `chat`. */
  declare readonly maxTokens?: number | null;
  /** No end before this many tokens. From 0, the default, to `maxTokens`. */
  declare readonly minTokens?: number;
  /** How many most likely tokens are reported beside the chosen one, at least 0. Default: no report. */
  declare readonly logprobs?: number;
  /** The same for the prompt's tokens; −1: the whole vocabulary. Default: no report. */
  declare readonly promptLogprobs?: number;
  /** Leave special tokens out of the text. Default true. */
  declare readonly skipSpecialTokens?: boolean;

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
    checkFieldNames(options);
    // The order is that of upstream, so that of two mistakes the same one is named.
    Object.assign(
      this,
      present("repetitionPenalty", options.repetitionPenalty, checkRepetitionPenalty),
      present("temperature", options.temperature, checkTemperature),
      present("topP", options.topP, checkTopP),
      present("topK", options.topK, checkTopK),
      present("minP", options.minP, checkMinP),
      present("maxTokens", options.maxTokens, checkMaxTokens),
      present("minTokens", options.minTokens, checkMinTokens),
      present("logprobs", options.logprobs, checkLogprobs),
      present("promptLogprobs", options.promptLogprobs, checkPromptLogprobs),
      present("seed", options.seed, checkSeed),
      present("stopTokenIds", options.stopTokenIds, checkStopTokenIds),
      present("ignoreEos", options.ignoreEos, checkBoolean),
      present("skipSpecialTokens", options.skipSpecialTokens, checkBoolean),
    );
    if (typeof this.maxTokens === "number") checkMinFitsMax(this.minTokens ?? 0, this.maxTokens);
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
    const fields = FIELDS.filter((field) => this[field] !== undefined);
    return `SamplingParams(${
      fields.map((field) => `${field}=${JSON.stringify(this[field])}`).join(", ")
    })`;
  }
}

/**
 * Fills in what is absent: the request first, then the defaults of the model, then the neutral value.
 *
 * @param params What the request asks for.
 * @param defaults The middle tier. Its values are checked by whoever reads them from a file.
 * @returns Plain data with every field present.
 * @throws {InvalidParameterError} `minTokens` is above a `maxTokens` that came from the defaults.
 */
export function resolveSamplingParams(
  params: SamplingParams,
  defaults: SamplingDefaults = {},
): ResolvedSamplingParams {
  const temperature = clampTemperature(params.temperature ?? defaults.temperature ?? 1);
  const greedy = temperature === 0;
  const maxTokens = (params.maxTokens === undefined ? defaults.maxTokens : params.maxTokens) ??
    null;
  const minTokens = params.minTokens ?? 0;
  if (maxTokens !== null) checkMinFitsMax(minTokens, maxTokens);
  return {
    temperature,
    topP: greedy ? 1 : params.topP ?? defaults.topP ?? 1,
    topK: greedy ? 0 : Math.max(0, params.topK ?? defaults.topK ?? 0),
    minP: greedy ? 0 : params.minP ?? defaults.minP ?? 0,
    repetitionPenalty: params.repetitionPenalty ?? defaults.repetitionPenalty ?? 1,
    seed: params.seed === undefined || params.seed === -1 ? null : params.seed,
    stopTokenIds: params.stopTokenIds ?? [],
    ignoreEos: params.ignoreEos ?? false,
    maxTokens,
    cutMaxTokens: params.maxTokens === undefined,
    minTokens,
    logprobs: params.logprobs ?? null,
    promptLogprobs: params.promptLogprobs ?? null,
    skipSpecialTokens: params.skipSpecialTokens ?? true,
  };
}

const FIELDS = [
  "temperature",
  "topP",
  "topK",
  "minP",
  "repetitionPenalty",
  "seed",
  "stopTokenIds",
  "ignoreEos",
  "maxTokens",
  "minTokens",
  "logprobs",
  "promptLogprobs",
  "skipSpecialTokens",
] as const satisfies readonly (keyof SamplingParamsOptions)[];

/** Fields that other engines have: known, so that the message can say more than "unknown". */
const FIELDS_OF_LATER_RELEASES: readonly string[] = [
  "n",
  "bestOf",
  "stop",
  "includeStopStrInOutput",
  "presencePenalty",
  "frequencyPenalty",
  "logitBias",
  "badWords",
  "allowedTokenIds",
  "logitsProcessors",
  "useBeamSearch",
  "lengthPenalty",
  "earlyStopping",
  "structuredOutputs",
  "guidedDecoding",
  "outputKind",
  "truncatePromptTokens",
  "detokenize",
  "spacesBetweenSpecialTokens",
  "thinkingTokenBudget",
  "repetitionDetection",
  "extraArgs",
];

function checkFieldNames(options: object): void {
  for (const [field, value] of Object.entries(options)) {
    if (value === undefined || (FIELDS as readonly string[]).includes(field)) continue;
    if (FIELDS_OF_LATER_RELEASES.includes(field)) {
      throw new InvalidParameterError(
        field,
        value,
        `Cannot use the sampling parameter "${field}": it is not supported yet`,
      );
    }
    const camelCase = field.replace(/_+([a-z])/g, (_, letter: string) => letter.toUpperCase());
    const advice = camelCase !== field && (FIELDS as readonly string[]).includes(camelCase)
      ? `write "${camelCase}"`
      : `the fields are ${FIELDS.join(", ")}`;
    throw new InvalidParameterError(
      field,
      value,
      `Cannot use the sampling parameter "${field}": there is no such field, ${advice}`,
    );
  }
}

/** `{ field: checked value }`, or nothing where the field is absent. */
function present<Given, Kept>(
  field: string,
  value: Given | undefined,
  check: (value: Given, field: string) => Kept | undefined,
): Record<string, Kept> {
  const kept = value === undefined ? undefined : check(value, field);
  return kept === undefined ? {} : { [field]: kept };
}

function refuse(field: string, value: unknown, rule: string): never {
  throw new InvalidParameterError(field, value, `Cannot use ${field} ${show(value)}: ${rule}`);
}

/** Strings in quotes, lists as lists, NaN as NaN. */
function show(value: unknown): string {
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

function checkTemperature(value: number, field: string): number {
  if (!Number.isFinite(value) || value < 0 || value > 2) {
    refuse(field, value, "it must be a number from 0 to 2");
  }
  return clampTemperature(value);
}

function clampTemperature(value: number): number {
  return value < GREEDY_TEMPERATURE ? 0 : Math.max(value, TEMPERATURE_MIN);
}

function checkTopP(value: number, field: string): number {
  if (!Number.isFinite(value) || value <= 0 || value > 1) {
    refuse(field, value, "it must be a number greater than 0 and at most 1");
  }
  return value;
}

function checkTopK(value: number, field: string): number {
  if (!Number.isSafeInteger(value) || value < -1) {
    refuse(field, value, "it must be a positive integer, or 0 or -1 to switch it off");
  }
  return value;
}

function checkMinP(value: number, field: string): number {
  if (!Number.isFinite(value) || value < 0 || value > 1) {
    refuse(field, value, "it must be a number from 0 to 1");
  }
  return value;
}

function checkRepetitionPenalty(value: number, field: string): number {
  if (!Number.isFinite(value) || value <= 0) refuse(field, value, "it must be greater than 0");
  return value;
}

function checkSeed(value: number, field: string): number {
  if (!Number.isSafeInteger(value)) {
    refuse(field, value, "it must be an integer from -(2^53 - 1) to 2^53 - 1, or -1 for none");
  }
  return value;
}

function checkStopTokenIds(value: readonly number[], field: string): readonly number[] {
  if (!Array.isArray(value)) refuse(field, value, "it must be a list of token ids");
  for (const id of value) {
    if (!Number.isSafeInteger(id) || id < 0) {
      refuse(field, id, "a token id must be an integer and at least 0");
    }
  }
  return Object.freeze([...new Set(value)]);
}

function checkMaxTokens(value: number | null, field: string): number | null {
  if (value === null) return null;
  if (!Number.isSafeInteger(value) || value < 1) {
    refuse(field, value, "it must be an integer and at least 1, or null for the room left");
  }
  return value;
}

function checkMinTokens(value: number, field: string): number {
  if (!Number.isSafeInteger(value) || value < 0) {
    refuse(field, value, "it must be an integer and at least 0");
  }
  return value;
}

function checkMinFitsMax(minTokens: number, maxTokens: number): void {
  if (minTokens > maxTokens) {
    refuse("minTokens", minTokens, `it must be at most maxTokens, which is ${maxTokens}`);
  }
}

function checkLogprobs(value: number | boolean, field: string): number | undefined {
  if (value === false) return undefined;
  if (value === true) return 1;
  if (!Number.isSafeInteger(value) || value < 0) {
    refuse(field, value, "it must be an integer and at least 0");
  }
  return value;
}

function checkPromptLogprobs(value: number, field: string): number {
  if (!Number.isSafeInteger(value) || value < -1) {
    refuse(field, value, "it must be an integer and at least 0, or -1 for the whole vocabulary");
  }
  return value;
}

function checkBoolean(value: boolean, field: string): boolean {
  if (typeof value !== "boolean") refuse(field, value, "it must be true or false");
  return value;
}
