/** `POST /v1/chat/completions`: the parts of an answer as chunks, or their fold as one body. */

import {
  type AssistantDelta,
  assistantDeltas,
  type AssistantPart,
  foldParts,
} from "../assistant.ts";
import { invariant } from "../base/invariant.ts";
import type { ChatMessage, ChatOptions } from "../llm.ts";
import type { GenerationDelta, LogprobMap, PromptInfo } from "../outputs.ts";
import type { SamplingParams } from "../sampling/params.ts";
import { type Fields, readFields } from "./body.ts";
import { type AnswerHead, answerHead, plainUsage, type RouteContext, usage } from "./context.ts";
import { chatLogprobs, type LogprobStyle, promptLogprobs } from "./logprobs.ts";
import { readChatOptions, readMessages } from "./messages.ts";
import { chatParams, paramLimits } from "./params.ts";
import { eventStream } from "./sse.ts";
import { type Delivery, readDelivery } from "./stream_options.ts";
import { withDefaultKwargs } from "./template_defaults.ts";
import type { ChatCompletion, ChatCompletionChunk, ChatLogprobs } from "./types.ts";
import { refuseUnsupported } from "./unsupported.ts";
import { wholeResponse } from "./whole.ts";

/** A checked request. */
interface ChatRequest {
  readonly messages: readonly ChatMessage[];
  readonly params: SamplingParams;
  readonly options: ChatOptions;
  readonly delivery: Delivery;
  /** undefined: no log-probabilities. */
  readonly logprobs: LogprobStyle | undefined;
  readonly returnTokenIds: boolean;
  readonly returnPromptText: boolean;
  readonly role: string;
  /** Answers to return. */
  readonly choiceCount: number;
  readonly head: AnswerHead;
}

/** Answers one chat request. */
export async function postChatCompletions(context: RouteContext): Promise<Response> {
  const fields = await readFields(context);
  const chat = readChatRequest(fields, context);
  const deltas = assistantDeltas(context.llm.stream(chat.messages, chat.params, chat.options));
  const { hooks, settings: { systemFingerprint } } = context;
  return chat.delivery.stream
    ? await eventStream(chunks(deltas, chat, systemFingerprint), hooks)
    : await wholeResponse(deltas, (all) => fold(all, chat, systemFingerprint), hooks);
}

function readChatRequest(fields: Fields, context: RouteContext): ChatRequest {
  const { settings, signal } = context;
  refuseUnsupported(fields, "chat");
  const delivery = readDelivery(fields, settings.forceIncludeUsage);
  const messages = readMessages(fields, settings.servedModelNames[0]);
  const given = readChatOptions(fields, settings.trustRequestChatTemplate);
  const options = withDefaultKwargs(given, settings);
  const priority = fields.integer("priority");
  const params = chatParams(fields, paramLimits(context));
  const asTokenIds = fields.boolean("return_tokens_as_token_ids") ??
    settings.returnTokensAsTokenIds;
  return {
    messages,
    params,
    options: { ...options, signal, ...(priority === undefined ? {} : { priority }) },
    delivery,
    logprobs: params.logprobs === undefined ? undefined : { topCount: params.logprobs, asTokenIds },
    returnTokenIds: fields.boolean("return_token_ids") ?? false,
    returnPromptText: fields.boolean("return_prompt_text") ?? false,
    role: options.addGenerationPrompt === false
      ? messages.at(-1)?.role ?? settings.responseRole
      : settings.responseRole,
    choiceCount: params.n ?? 1,
    head: answerHead(context, "chatcmpl-", fields.string("request_id")),
  };
}

/** One choice while it grows. */
interface Choice {
  readonly parts: AssistantPart[];
  readonly tokenIds: number[];
  readonly logprobs: LogprobMap[];
  finishReason: string | null;
  stopReason: number | string | null;
}

async function fold(
  deltas: AsyncIterable<AssistantDelta>,
  chat: ChatRequest,
  systemFingerprint: string,
): Promise<ChatCompletion> {
  const choices = newChoices(chat);
  let prompt: PromptInfo | undefined;
  for await (const { delta, parts } of deltas) {
    prompt ??= delta.prompt;
    grow(choiceOf(choices, delta), delta, parts);
  }
  invariant(prompt !== undefined, "A generation ended without its first delta");
  return {
    ...chat.head,
    object: "chat.completion",
    // A search may have found fewer answers than asked for.
    choices: choices.filter(({ finishReason }) => finishReason !== null).map((choice, index) => ({
      index,
      message: {
        role: chat.role,
        content: foldParts(choice.parts).content,
        refusal: null,
        annotations: null,
        audio: null,
        function_call: null,
        tool_calls: [],
      },
      logprobs: chat.logprobs === undefined ? null : chatLogprobs(choice.logprobs, chat.logprobs),
      finish_reason: choice.finishReason,
      stop_reason: choice.stopReason,
      token_ids: chat.returnTokenIds ? choice.tokenIds : null,
    })),
    service_tier: null,
    system_fingerprint: systemFingerprint,
    usage: usage(prompt.tokenIds.length, countTokens(choices), prompt.cachedTokens),
    prompt_logprobs: prompt.logprobs && promptLogprobs(prompt.logprobs),
    prompt_token_ids: chat.returnTokenIds ? prompt.tokenIds : null,
    prompt_text: chat.returnPromptText ? prompt.text : null,
    kv_transfer_params: null,
  };
}

function newChoices({ choiceCount }: ChatRequest): Choice[] {
  return Array.from({ length: choiceCount }, () => ({
    parts: [],
    tokenIds: [],
    logprobs: [],
    finishReason: null,
    stopReason: null,
  }));
}

function choiceOf(choices: readonly Choice[], { index }: GenerationDelta): Choice {
  const choice = choices[index];
  invariant(choice !== undefined, "A generation has more sequences than were asked for");
  return choice;
}

function grow(choice: Choice, delta: GenerationDelta, parts: readonly AssistantPart[]): void {
  choice.parts.push(...parts);
  for (const id of delta.tokenIds) choice.tokenIds.push(id);
  for (const map of delta.logprobs ?? []) choice.logprobs.push(map);
  choice.finishReason = delta.finishReason;
  choice.stopReason = delta.stopReason;
}

function countTokens(choices: readonly Choice[]): number {
  return choices.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0);
}

/**
 * The chunk sequence of a stream, for each choice; the choices' content interleaves as it comes:
 *
 *     role ─▶ content … ─▶ content with finish_reason ─▶ usage of all, if asked
 *
 * The role chunks are sent when the first delta is there, so an earlier failure is the first thing
 * the stream says. Text that comes without a token waits for the next one: clients that ask for
 * continuous usage expect the count to rise from chunk to chunk.
 */
async function* chunks(
  deltas: AsyncIterable<AssistantDelta>,
  chat: ChatRequest,
  systemFingerprint: string,
): AsyncGenerator<ChatCompletionChunk, void, void> {
  const { includeUsage, continuousUsage } = chat.delivery;
  const head = { ...chat.head, object: "chat.completion.chunk" as const };
  const choices = newChoices(chat);
  let prompt: PromptInfo | undefined;
  let running = choices.length;
  const usageOf = ({ tokenIds }: Choice) =>
    continuousUsage ? { usage: plainUsage(prompt?.tokenIds.length ?? 0, tokenIds.length) } : {};

  for await (const { delta, parts } of deltas) {
    if (prompt === undefined) {
      prompt = delta.prompt;
      invariant(prompt !== undefined, "The first delta says nothing of its prompt");
      for (const [index, choice] of choices.entries()) {
        yield { ...head, ...roleChunk(chat, index, prompt), ...usageOf(choice) };
      }
    }
    const choice = choiceOf(choices, delta);
    grow(choice, delta, parts);
    if (delta.tokenIds.length === 0 && delta.finishReason === null) continue;
    if (delta.finishReason !== null) running--;
    const logprobs: ChatLogprobs | null = chat.logprobs === undefined
      ? null
      : chatLogprobs(delta.logprobs ?? [], chat.logprobs);
    yield {
      ...head,
      choices: [{
        index: delta.index,
        delta: { content: foldParts(choice.parts.splice(0)).content },
        logprobs,
        finish_reason: delta.finishReason,
        ...(delta.finishReason === null ? {} : { stop_reason: delta.stopReason }),
        token_ids: chat.returnTokenIds ? delta.tokenIds : null,
      }],
      ...usageOf(choice),
      ...(running === 0 && !includeUsage ? { system_fingerprint: systemFingerprint } : {}),
    };
  }
  if (!includeUsage) return;
  yield {
    ...head,
    choices: [],
    usage: usage(prompt?.tokenIds.length ?? 0, countTokens(choices), prompt?.cachedTokens ?? 0),
    system_fingerprint: systemFingerprint,
  };
}

function roleChunk(
  chat: ChatRequest,
  index: number,
  prompt: PromptInfo,
): Pick<ChatCompletionChunk, "choices" | "prompt_token_ids" | "prompt_text"> {
  return {
    choices: [{
      index,
      delta: { role: chat.role, content: "" },
      logprobs: null,
      finish_reason: null,
    }],
    prompt_token_ids: chat.returnTokenIds ? prompt.tokenIds : null,
    prompt_text: chat.returnPromptText ? prompt.text : null,
  };
}
