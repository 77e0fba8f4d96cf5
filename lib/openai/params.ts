/** Request body → `SamplingParams`: names, aliases, limits. */

import { InvalidParameterError } from "../base/errors.ts";
import { SamplingParams, type SamplingParamsOptions } from "../sampling/params.ts";
import type { Fields } from "./body.ts";
import type { RouteContext } from "./context.ts";
import { badRequest, show, snakeCase } from "./errors.ts";
import {
  readAllowedTokenIds,
  readBadWords,
  readCounts,
  readEarlyStopping,
  readForcedOutput,
  readLogitBias,
  readLogprobTokenIds,
  readRepetitionDetection,
  readStops,
  readTruncation,
} from "./param_fields.ts";
import { wireWords } from "./wire_words.ts";

/** What the server allows and the model has. */
export interface ParamLimits {
  /** Most log-probabilities a token; −1 for no limit. */
  readonly maxLogprobs: number;
  readonly vocabSize: number;
  /** Longest prompt and output together. */
  readonly maxContextLength: number;
}

/** The limits of this server and its model. */
export function paramLimits({ llm, settings }: RouteContext): ParamLimits {
  const { vocabSize, maxContextLength } = llm.info;
  return { maxLogprobs: settings.maxLogprobs, vocabSize, maxContextLength };
}

/** Parameters of a chat request; without a limit it may fill the context. */
export function chatParams(fields: Fields, limits: ParamLimits): SamplingParams {
  fields.integer("max_tokens"); // a wrong type is refused, whichever of the two counts
  const limitField = fields.has("max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
  const logprobs = readChatLogprobs(fields, limits);
  return build(fields, {
    limitField,
    maxTokens: fields.integer(limitField),
    logprobs,
    promptLogprobs: readPromptLogprobs(fields, limits) ?? echoedLogprobs(fields, logprobs),
  }, limits);
}

/** Parameters of a completions request. */
export function completionParams(fields: Fields, limits: ParamLimits): SamplingParams {
  const logprobs = countField(fields, "logprobs");
  if (logprobs !== undefined && logprobs < 0) {
    throw badRequest("`logprobs` must be a positive value.", "logprobs");
  }
  checkLogprobs("sample", "logprobs", logprobs, limits);
  const maxTokens = fields.integer("max_tokens");
  const isEcho = fields.boolean("echo") ?? false;
  return build(fields, {
    limitField: "max_tokens",
    // An engine cannot generate nothing; the one token is counted and not shown.
    maxTokens: isEcho && maxTokens === 0 ? 1 : maxTokens,
    logprobs,
    promptLogprobs: readPromptLogprobs(fields, limits) ?? (isEcho ? logprobs : undefined),
  }, limits);
}

/** Of a chat that is echoed; a stream of chunks has no place for them. */
function echoedLogprobs(fields: Fields, logprobs: number | undefined): number | undefined {
  const hasPlace = fields.boolean("echo") === true && fields.boolean("stream") !== true;
  return hasPlace ? logprobs : undefined;
}

/** What is read differently for the two endpoints. */
interface OwnFields {
  /** The field that says how long the answer may be. */
  readonly limitField: string;
  readonly maxTokens: number | undefined;
  readonly logprobs: number | undefined;
  readonly promptLogprobs: number | undefined;
}

function build(
  fields: Fields,
  { limitField, maxTokens, logprobs, promptLogprobs }: OwnFields,
  limits: ParamLimits,
): SamplingParams {
  checkMaxTokens(maxTokens, limitField, limits);
  const options: { readonly [Field in keyof SamplingParamsOptions]: unknown } = {
    ...readCounts(fields),
    presencePenalty: fields.number("presence_penalty"),
    frequencyPenalty: fields.number("frequency_penalty"),
    temperature: fields.number("temperature"),
    topP: fields.number("top_p"),
    topK: fields.integer("top_k"),
    minP: fields.number("min_p"),
    repetitionPenalty: fields.number("repetition_penalty"),
    seed: fields.int64("seed"),
    stop: readStops(fields),
    stopTokenIds: fields.integers("stop_token_ids"),
    includeStopStrInOutput: fields.boolean("include_stop_str_in_output"),
    badWords: readBadWords(fields),
    logitBias: readLogitBias(fields, limits.vocabSize),
    allowedTokenIds: readAllowedTokenIds(fields, limits.vocabSize),
    useBeamSearch: fields.boolean("use_beam_search"),
    lengthPenalty: fields.number("length_penalty"),
    earlyStopping: readEarlyStopping(fields),
    truncatePromptTokens: readTruncation(fields, limits.maxContextLength - (maxTokens ?? 1)),
    forcedOutput: readForcedOutput(fields, limits.vocabSize),
    ignoreEos: fields.boolean("ignore_eos"),
    maxTokens,
    minTokens: fields.integer("min_tokens"),
    logprobs,
    logprobTokenIds: readLogprobTokenIds(fields, limits.vocabSize, logprobs),
    promptLogprobs,
    skipSpecialTokens: fields.boolean("skip_special_tokens"),
    repetitionDetection: readRepetitionDetection(fields),
  };
  // An absent field must stay absent: only then do generation_config.json and the default count.
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  try {
    return new SamplingParams(Object.fromEntries(given) as SamplingParamsOptions);
  } catch (error) {
    if (!(error instanceof InvalidParameterError)) throw error;
    const name = error.parameter === "maxTokens" ? limitField : snakeCase(error.parameter);
    throw badRequest(wireWords(error, name), name);
  }
}

/** An answer that can never fit is the fault of its limit alone, whatever the prompt. */
function checkMaxTokens(
  maxTokens: number | undefined,
  limitField: string,
  { maxContextLength }: ParamLimits,
): void {
  if (maxTokens === undefined || maxTokens <= maxContextLength) return;
  throw badRequest(
    `${limitField}=${maxTokens} cannot be greater than max_model_len=max_total_tokens=` +
      `${maxContextLength}. Please request fewer output tokens.`,
    limitField,
  );
}

function readChatLogprobs(fields: Fields, limits: ParamLimits): number | undefined {
  const top = countField(fields, "top_logprobs");
  if (top !== undefined && top < -1) {
    throw badRequest("`top_logprobs` must be a positive value or -1.", "top_logprobs");
  }
  if (fields.boolean("logprobs") !== true) {
    if (top === undefined || top === 0) return undefined;
    throw badRequest("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs");
  }
  checkLogprobs("sample", "logprobs", top, limits);
  return top === -1 ? limits.vocabSize : top ?? 0;
}

function readPromptLogprobs(fields: Fields, limits: ParamLimits): number | undefined {
  const count = countField(fields, "prompt_logprobs");
  if (count === undefined) return undefined;
  if (count < -1) {
    throw badRequest("`prompt_logprobs` must be a positive value or -1.", "prompt_logprobs");
  }
  if (fields.boolean("stream") === true) {
    if (count === 0) return undefined; // vLLM lets it pass, and a stream has no place for it
    throw badRequest(
      "`prompt_logprobs` are not available when `stream=True`.",
      "prompt_logprobs",
    );
  }
  checkLogprobs("prompt", "prompt_logprobs", count, limits);
  return count;
}

function checkLogprobs(
  what: string,
  param: string,
  count: number | undefined,
  limits: ParamLimits,
): void {
  const asked = count === -1 ? limits.vocabSize : count ?? 0;
  if (limits.maxLogprobs === -1 || asked <= limits.maxLogprobs) return;
  throw badRequest(
    `Requested ${what} logprobs of ${asked}, which is greater than max allowed: ` +
      `${limits.maxLogprobs}`,
    param,
  );
}

/** An integer that vLLM looks at before it converts anything: a text is none, whatever it says. */
function countField(fields: Fields, name: string): number | undefined {
  const value = fields.raw(name);
  if (value === undefined || typeof value === "number" || typeof value === "boolean") {
    return fields.integer(name);
  }
  throw badRequest(`\`${name}\` must be an integer. Got ${show(value)}`, name);
}
