/** `stream` and `submit`: one prompt or conversation, from its text to its deltas. */

import { ChatTemplateError, UnsupportedTaskError } from "./base/errors.ts";
import { checkFieldNames } from "./base/field_names.ts";
import { generateDeltas } from "./generation.ts";
import type { LoadedModel } from "./loading.ts";
import type { ModelInfo } from "./model_info.ts";
import type { GenerationDelta } from "./outputs.ts";
import {
  type BackgroundEncoding,
  type ChatMessage,
  type ChatOptions,
  encodeConversation,
  type EncodedPrompt,
  encodePrompt,
  encodePromptInBackground,
  isConversation,
  keptPromptTokens,
  type Prompt,
  type RequestOptions,
} from "./prompts.ts";
import { CALL_OPTIONS } from "./run_together.ts";
import { SamplingParams } from "./sampling/params.ts";
import {
  resolveSamplingParams,
  type SamplingDefaults,
  type TokenizedParams,
} from "./sampling/resolved_params.ts";
import type { ChatTemplate } from "./text/chat_template.ts";
import { type TextContext, tokenizeParams, tokenizeParamsInBackground } from "./token_params.ts";
import { traced } from "./tracing.ts";

/** What generation needs of a loaded model. */
export interface GenerationContext extends
  Pick<
    LoadedModel,
    | "engine"
    | "tracer"
    | "tokenizer"
    | "background"
    | "chatTemplate"
    | "toolTemplate"
    | "samplingDefaults"
    | "maxInFlight"
  > {
  readonly info: ModelInfo;
  /** A template that a call brings along, from its source. */
  template(source: string): ChatTemplate;
  /** Throws where the model is closed, or the call's signal has fired. */
  checkOpen(options: RequestOptions): void;
}

/** All options of a call: a name that is missing here would be a type error. */
const OPTIONS: Readonly<Record<keyof ChatOptions, true>> = {
  ...CALL_OPTIONS,
  addSpecialTokens: true,
  truncationSide: true,
  chatTemplate: true,
  addGenerationPrompt: true,
  continueFinalMessage: true,
  chatTemplateKwargs: true,
  tools: true,
  documents: true,
};

/** Tokens that `generate` writes where `maxTokens` is not given. */
const GENERATE_MAX_TOKENS = 16;

/** A request that is checked and tokenized. */
export interface PreparedGeneration {
  readonly prompt: EncodedPrompt;
  readonly params: SamplingParams;
  readonly tokenized: TokenizedParams;
  readonly defaults: SamplingDefaults;
}

/** Streams one answer; nothing of it happens before it is read. */
export async function* stream(
  context: GenerationContext,
  input: Prompt | readonly ChatMessage[],
  params: SamplingParams,
  options: ChatOptions,
): AsyncGenerator<GenerationDelta, void, void> {
  yield* start(context, await prepare(context, input, params, options), options);
}

/** Checks and tokenizes a request; what is long, or a template, on another thread. */
export async function prepare(
  context: GenerationContext,
  input: Prompt | readonly ChatMessage[],
  params: SamplingParams,
  options: ChatOptions,
): Promise<PreparedGeneration> {
  checkCall(context, params, options);
  const isChat = isConversation(input);
  const prompt = isChat
    ? await render(context, input, params, options)
    : await encodePromptInBackground(input, encodingOf(context, params, options), options);
  const texts = textContext(context, prompt);
  const tokenized = await tokenizeParamsInBackground(params, texts, options.signal);
  const { samplingDefaults } = context;
  const defaults = isChat ? samplingDefaults : withGenerateDefaults(samplingDefaults);
  return { prompt, params, tokenized, defaults };
}

/** The same for a prompt that is queued before this returns. */
export function submit(
  context: GenerationContext,
  input: Prompt,
  params: SamplingParams,
  options: RequestOptions,
): AsyncGenerator<GenerationDelta, void, void> {
  checkCall(context, params, options);
  const encoding = encodingOf(context, params, options);
  const prompt = encodePrompt(input, encoding, options.addSpecialTokens ?? true);
  const tokenized = tokenizeParams(params, textContext(context, prompt));
  const defaults = withGenerateDefaults(context.samplingDefaults);
  return start(context, { prompt, params, tokenized, defaults }, options);
}

/** A conversation → its prompt, by the template that it asks for. */
export function render(
  context: GenerationContext,
  messages: readonly ChatMessage[],
  params: SamplingParams,
  options: ChatOptions,
): Promise<EncodedPrompt> {
  const { chatTemplate, toolTemplate } = context;
  const own = (options.tools?.length ?? 0) > 0 ? toolTemplate ?? chatTemplate : chatTemplate;
  const template = options.chatTemplate === undefined
    ? own
    : context.template(options.chatTemplate);
  if (template === undefined) {
    throw new ChatTemplateError(
      `The model "${context.info.id}" has no chat template: give one as chatTemplate`,
    );
  }
  return encodeConversation(messages, template, encodingOf(context, params, options), options);
}

/** Fields that nobody has checked are not let in, whatever a caller without types may pass. */
export function checkedParams(params: unknown): SamplingParams {
  if (params instanceof SamplingParams) return params;
  throw new TypeError(
    Array.isArray(params)
      ? "One prompt takes one SamplingParams, not an array"
      : "Sampling parameters must be a SamplingParams: write new SamplingParams({ … })",
  );
}

function checkCall(
  context: GenerationContext,
  params: SamplingParams,
  options: RequestOptions,
): void {
  checkedParams(params);
  checkFieldNames(options, Object.keys(OPTIONS), "the option");
  context.checkOpen(options);
  const { task, id, poolingTasks } = context.info;
  if (task === "generate") return;
  throw new UnsupportedTaskError(
    "generate",
    `Cannot generate with "${id}": it was loaded for ${poolingTasks.join(", ")}; ` +
      "only generative models write, loaded without the option task",
  );
}

function withGenerateDefaults(defaults: SamplingDefaults): SamplingDefaults {
  return { maxTokens: GENERATE_MAX_TOKENS, ...defaults };
}

/** How the prompt of a call becomes tokens. */
function encodingOf(
  { info, tokenizer, background }: GenerationContext,
  params: SamplingParams,
  { truncationSide = "left" }: RequestOptions,
): BackgroundEncoding {
  const { maxPromptLength } = info;
  const keptTokens = keptPromptTokens(params, info);
  return {
    tokenizer,
    background,
    maxPromptLength,
    truncationSide,
    ...(keptTokens === undefined ? {} : { keptTokens }),
  };
}

/** What the texts among the parameters are read with. */
function textContext(
  { info: { maxContextLength }, tokenizer, background }: GenerationContext,
  { tokenIds: promptTokenIds }: EncodedPrompt,
): TextContext & Pick<GenerationContext, "background"> {
  return { tokenizer, background, promptTokenIds, maxContextLength };
}

/** Hands a request to the engine. */
export function start(
  context: GenerationContext,
  { prompt, params, tokenized, defaults }: PreparedGeneration,
  options: RequestOptions,
): AsyncGenerator<GenerationDelta, void, void> {
  context.checkOpen(options); // templates and long texts take their time
  // A forced output has a length of its own.
  const tier = params.forcedOutput === undefined ? defaults : { ...defaults, maxTokens: null };
  const requestId = options.requestId ?? crypto.randomUUID();
  const resolved = resolveSamplingParams(params, tier, tokenized);
  const deltas = traced(
    context.tracer,
    { requestId, model: context.info.id, params: resolved, trace: options.trace },
    (onEnd) =>
      generateDeltas(context.engine, context.tokenizer, {
        requestId,
        prompt,
        params: resolved,
        stops: params.stop ?? [],
        includeStop: params.includeStopStrInOutput ?? false,
        priority: options.priority ?? 0,
        cacheSalt: options.cacheSalt,
        signal: options.signal,
        onEnd,
      }),
  );
  options.onQueued?.();
  return deltas;
}
