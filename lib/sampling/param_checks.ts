/** What may stand in each field of `SamplingParams`, and which fields contradict each other. */

import { InvalidParameterError } from "../base/errors.ts";
import type { RepetitionDetection, SamplingParamsOptions } from "./param_options.ts";

/** Checks a value that is there; gives what to keep, undefined for what counts as absent. */
type Check = (value: unknown, field: string) => unknown;

/** Most answers to one prompt. */
const SEQUENCE_COUNT_MAX = 128;
/** Widest beam search. */
const BEAM_WIDTH_MAX = 64;
/** Most stop strings. */
const STOP_COUNT_MAX = 16;
/** Most sequences of tokens that words may stand for. */
export const BAD_SEQUENCE_COUNT_MAX = 128;
/** Most tokens whose log-probabilities are asked for by id. */
const LOGPROB_ID_COUNT_MAX = 128;
/** Largest bias, up and down. */
const BIAS_MAX = 100;

/** Below this a temperature is greedy. */
const GREEDY_TEMPERATURE = 1e-5;
/** Smaller positive temperatures are raised to this, as dividing by them would overflow. */
const TEMPERATURE_MIN = 0.01;

/** All fields, in the order in which they are checked. */
export const CHECKS: { readonly [Field in keyof SamplingParamsOptions]-?: Check } = {
  n: integer(1, SEQUENCE_COUNT_MAX),
  bestOf: integer(1, SEQUENCE_COUNT_MAX),
  presencePenalty: number(-2, 2),
  frequencyPenalty: number(-2, 2),
  repetitionPenalty: numberWhere((value) => value > 0, "it must be a finite number greater than 0"),
  temperature(value, field) {
    return clampTemperature(number(0, 2)(value, field) as number);
  },
  topP: numberWhere(
    (value) => value > 0 && value <= 1,
    "it must be a number greater than 0 and at most 1",
  ),
  topK: integerWhere(
    (value) => value >= -1,
    "it must be a positive integer, or 0 or -1 to switch it off",
  ),
  minP: number(0, 1),
  maxTokens(value, field) {
    const rule = "it must be an integer and at least 1, or null for the room left";
    return value === null ? null : integerWhere((count) => count >= 1, rule)(value, field);
  },
  minTokens: integer(0),
  logprobs(value, field) {
    if (typeof value === "boolean") return value ? 1 : undefined;
    return integer(0)(value, field);
  },
  logprobTokenIds(value, field) {
    const ids = tokenIds(value, field);
    if (ids.length <= LOGPROB_ID_COUNT_MAX) return ids;
    return refuse(field, value, `there may be at most ${LOGPROB_ID_COUNT_MAX} token ids`);
  },
  promptLogprobs: integerWhere(
    (value) => value >= -1,
    "it must be an integer and at least 0, or -1 for the whole vocabulary",
  ),
  seed,
  stopTokenIds: tokenIds,
  stop(value, field) {
    const stops = texts(typeof value === "string" ? [value] : value, field);
    if (stops.length <= STOP_COUNT_MAX) return stops;
    return refuse(field, value, `there may be at most ${STOP_COUNT_MAX} stop strings`);
  },
  badWords: texts,
  includeStopStrInOutput: boolean,
  ignoreEos: boolean,
  skipSpecialTokens: boolean,
  repetitionDetection,
  logitBias: biases,
  allowedTokenIds(value, field) {
    const ids = tokenIds(value, field);
    return ids.length > 0 ? ids : refuse(field, value, "it must hold at least one token id");
  },
  logitsProcessors(value, field) {
    if (Array.isArray(value) && value.every((item) => typeof item === "function")) {
      return Object.freeze([...value]);
    }
    return refuse(field, value, "it must be a list of functions");
  },
  useBeamSearch: boolean,
  lengthPenalty: numberWhere(() => true, "it must be a finite number"),
  earlyStopping(value, field) {
    if (typeof value === "boolean" || value === "never") return value;
    return refuse(field, value, 'it must be true, false or "never"');
  },
  outputKind(value, field) {
    if (["CUMULATIVE", "DELTA", "FINAL"].includes(value as string)) return value;
    return refuse(field, value, 'it must be "CUMULATIVE", "DELTA" or "FINAL"');
  },
  truncatePromptTokens: integerWhere(
    (value) => value === -1 || value >= 1,
    "it must be an integer and at least 1, or -1 for as many as the model takes",
  ),
  forcedOutput(value, field) {
    const forced = typeof value === "string" ? value : tokenIdList(value, field);
    return forced.length > 0 ? forced : refuse(field, value, "it must not be empty");
  },
};

/** Refuses fields that are right by themselves and contradict each other. */
export function checkTogether(params: SamplingParamsOptions): void {
  const { n = 1, bestOf = n, minTokens = 0, maxTokens } = params;
  if (bestOf < n) refuse("bestOf", bestOf, `it must be at least n, which is ${n}`);
  if (typeof maxTokens === "number") checkMinFitsMax(minTokens, maxTokens);
  if (params.logprobTokenIds !== undefined && params.logprobs === undefined) {
    refuse("logprobTokenIds", params.logprobTokenIds, "it needs logprobs");
  }
  if (params.useBeamSearch === true) return checkBeam(params, bestOf);
  if (params.earlyStopping !== undefined && params.earlyStopping !== false) {
    refuse("earlyStopping", params.earlyStopping, "it must be false without useBeamSearch");
  }
  if (params.lengthPenalty !== undefined && Math.abs(params.lengthPenalty - 1) > 1e-5) {
    refuse("lengthPenalty", params.lengthPenalty, "it must be 1 without useBeamSearch");
  }
  if (params.temperature !== undefined) checkGreedy(params.temperature, n, bestOf);
}

function checkBeam(params: SamplingParamsOptions, width: number): void {
  for (const field of ["logprobTokenIds", "repetitionDetection"] as const) {
    const value = params[field];
    if (value !== undefined) refuse(field, value, "it cannot be used with useBeamSearch");
  }
  if (width < 2 || width > BEAM_WIDTH_MAX) {
    const field = params.bestOf === undefined ? "n" : "bestOf";
    refuse(field, width, `the width of a beam search must be from 2 to ${BEAM_WIDTH_MAX}`);
  }
  if (params.forcedOutput !== undefined) {
    refuse("forcedOutput", params.forcedOutput, "useBeamSearch leaves nothing to force");
  }
}

/** Several answers would all be the same one. */
export function checkGreedy(temperature: number, n: number, bestOf: number): void {
  if (temperature !== 0) return;
  if (n > 1) refuse("n", n, "it must be 1 with greedy sampling, which is temperature 0");
  if (bestOf > 1) refuse("bestOf", bestOf, "it must be 1 with greedy sampling");
}

/** An output cannot be longer at least than at most. */
export function checkMinFitsMax(minTokens: number, maxTokens: number): void {
  if (minTokens > maxTokens) {
    refuse("minTokens", minTokens, `it must be at most maxTokens, which is ${maxTokens}`);
  }
}

/** Temperatures that would be divided by without sense are greedy, or as small as makes sense. */
export function clampTemperature(value: number): number {
  return value < GREEDY_TEMPERATURE ? 0 : Math.max(value, TEMPERATURE_MIN);
}

/** Names the field, the value and the rule. */
export function refuse(field: string, value: unknown, rule: string): never {
  throw new InvalidParameterError(field, value, `Cannot use ${field} ${shorten(value)}: ${rule}`);
}

/** Strings in quotes, lists as lists, NaN as NaN. */
export function showValue(value: unknown): string {
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  if (value instanceof Map) return JSON.stringify(Object.fromEntries(value));
  return JSON.stringify(
    value,
    (_, item) => typeof item === "function" ? String(item.name) : item,
  ) ??
    String(value);
}

/** The message must come out whatever the value is: also where it cannot be written as JSON. */
function shorten(value: unknown): string {
  let text;
  try {
    text = showValue(value);
  } catch {
    text = Object.prototype.toString.call(value);
  }
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

function numberWhere(
  isRight: (value: number) => boolean,
  rule: string | ((value: unknown) => string),
): Check {
  return (value, field) =>
    typeof value === "number" && Number.isFinite(value) && isRight(value)
      ? value
      : refuse(field, value, typeof rule === "string" ? rule : rule(value));
}

function number(min: number, max: number): Check {
  const rule = `it must be a number from ${min} to ${max}`;
  return numberWhere((value) => value >= min && value <= max, rule);
}

/** Beyond 2^53 a number may not be the one that was written. */
function integerWhere(isRight: (value: number) => boolean, rule: string): Check {
  return numberWhere((value) => Number.isSafeInteger(value) && isRight(value), (value) => {
    const isTooLarge = Number.isInteger(value) && isRight(value as number);
    return isTooLarge ? `it must be at most ${Number.MAX_SAFE_INTEGER}` : rule;
  });
}

function integer(min: number, max: number = Infinity): Check {
  const rule = max === Infinity
    ? `it must be an integer and at least ${min}`
    : `it must be an integer from ${min} to ${max}`;
  return integerWhere((value) => value >= min && value <= max, rule);
}

/** Of 64 bits. One that a number holds exactly is kept as a number, however it was given. */
function seed(value: unknown, field: string): number | bigint {
  if (Number.isSafeInteger(value)) return value as number;
  if (typeof value === "bigint" && BigInt.asIntN(64, value) === value) {
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }
  const rule = "it must be an integer of 64 bits, as a bigint beyond 2^53 - 1, or -1 for none";
  return refuse(field, value, rule);
}

function repetitionDetection(value: unknown, field: string): RepetitionDetection {
  if (!isPlain(value)) return refuse(field, value, "it must be an object");
  const { maxPatternSize, minPatternSize = 0, minCount, ...rest } = value;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) refuse(`${field}.${unknown}`, rest[unknown], "there is no such field");
  const max = integer(0)(maxPatternSize, `${field}.maxPatternSize`) as number;
  const min = integer(0, max)(minPatternSize, `${field}.minPatternSize`) as number;
  const count = max === 0 && minCount === undefined
    ? 2
    : integer(2)(minCount, `${field}.minCount`) as number;
  return Object.freeze({ maxPatternSize: max, minPatternSize: min, minCount: count });
}

function boolean(value: unknown, field: string): boolean {
  return typeof value === "boolean" ? value : refuse(field, value, "it must be true or false");
}

function tokenIdList(value: unknown, field: string): readonly number[] {
  if (!Array.isArray(value)) return refuse(field, value, "it must be a list of token ids");
  for (const id of value) {
    if (!Number.isSafeInteger(id) || id < 0) {
      refuse(field, id, "a token id must be an integer and at least 0");
    }
  }
  return Object.freeze([...value]);
}

/** Each id once. */
function tokenIds(value: unknown, field: string): readonly number[] {
  return Object.freeze([...new Set(tokenIdList(value, field))]);
}

/** Each text once, none of them empty. */
function texts(value: unknown, field: string): readonly string[] {
  if (!Array.isArray(value)) return refuse(field, value, "it must be a list of strings");
  for (const text of value) {
    if (typeof text !== "string" || text === "") {
      refuse(field, text, "each must be a string and not empty");
    }
  }
  return Object.freeze([...new Set<string>(value)]);
}

/** Whether a value is nothing but its fields: a Set or a typed array is not. */
function isPlain(value: unknown): value is Record<string, unknown> {
  return Object.prototype.toString.call(value) === "[object Object]";
}

function biases(value: unknown, field: string): ReadonlyMap<number, number> {
  if (!(value instanceof Map) && !isPlain(value)) {
    return refuse(field, value, "it must be an object or a Map from token ids to numbers");
  }
  const entries: [unknown, unknown][] = value instanceof Map ? [...value] : Object.entries(value);
  return new Map(entries.map(([key, bias]) => {
    const id = typeof key === "string" && /^\d+$/.test(key) ? Number(key) : key;
    if (typeof id !== "number" || !Number.isSafeInteger(id) || id < 0) {
      refuse(field, key, "a token id must be an integer and at least 0");
    }
    if (typeof bias !== "number" || Number.isNaN(bias)) {
      refuse(field, bias, `the bias of token ${id} must be a number`);
    }
    return [id, Math.min(Math.max(bias, -BIAS_MAX), BIAS_MAX)];
  }));
}
