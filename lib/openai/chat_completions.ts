/** `POST /v1/chat/completions`: the parts of an answer as chunks, or their fold as one body. */

import {
  type AssistantDelta,
  assistantDeltas,
  type AssistantPart,
  foldParts,
} from "../assistant.ts";
import { invariant } from "../base/invariant.ts";
import type { ChatMessage, ChatOptions } from "../llm.ts";
import type { LogprobMap, PromptInfo } from "../outputs.ts";
import type { SamplingParams } from "../sampling/params.ts";
import { type Fields, readFields } from "./body.ts";
import { type AnswerHead, answerHead, plainUsage, type RouteContext, usage } from "./context.ts";
import { chatLogprobs, type LogprobStyle, promptLogprobs } from "./logprobs.ts";
import { readChatOptions, readMessages } from "./messages.ts";
import { chatParams } from "./params.ts";
import { eventStream } from "./sse.ts";
import { type Delivery, readDelivery } from "./stream_options.ts";
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
  readonly head: AnswerHead;
}

/** Answers one chat request. */
export async function postChatCompletions(context: RouteContext): Promise<Response> {
  const fields = await readFields(context.request, context.settings.bodySizeLimit);
  const chat = readChatRequest(fields, context);
  const deltas = assistantDeltas(context.llm.stream(chat.messages, chat.params, chat.options));
  const { onError, systemFingerprint } = context.settings;
  const hooks = { onLeave: context.leave, onError };
  return chat.delivery.stream
    ? await eventStream(chunks(deltas, chat, systemFingerprint), hooks)
    : await wholeResponse(deltas, (all) => fold(all, chat, systemFingerprint), hooks);
}

function readChatRequest(fields: Fields, context: RouteContext): ChatRequest {
  const { llm, settings, signal } = context;
  refuseUnsupported(fields, "chat");
  const delivery = readDelivery(fields);
  const messages = readMessages(fields, settings.servedModelNames[0]);
  const options = readChatOptions(fields, settings.trustRequestChatTemplate);
  const priority = fields.integer("priority");
  const params = chatParams(fields, { ...settings, vocabSize: llm.info.vocabSize });
  const asTokenIds = fields.boolean("return_tokens_as_token_ids") ?? false;
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
    head: answerHead(context, "chatcmpl-", fields.string("request_id")),
  };
}

async function fold(
  deltas: AsyncIterable<AssistantDelta>,
  chat: ChatRequest,
  systemFingerprint: string,
): Promise<ChatCompletion> {
  const parts: AssistantPart[] = [];
  const tokenIds: number[] = [];
  const logprobs: LogprobMap[] = [];
  let prompt: PromptInfo | undefined;
  let finishReason: string | null = null;
  let stopReason: number | string | null = null;
  for await (const { delta, parts: added } of deltas) {
    prompt ??= delta.prompt;
    parts.push(...added);
    for (const id of delta.tokenIds) tokenIds.push(id);
    for (const map of delta.logprobs ?? []) logprobs.push(map);
    finishReason = delta.finishReason;
    stopReason = delta.stopReason;
  }
  invariant(prompt !== undefined, "A generation ended without its first delta");
  return {
    ...chat.head,
    object: "chat.completion",
    choices: [{
      index: 0,
      message: {
        role: chat.role,
        content: foldParts(parts).content,
        refusal: null,
        annotations: null,
        audio: null,
        function_call: null,
        tool_calls: [],
      },
      logprobs: chat.logprobs === undefined ? null : chatLogprobs(logprobs, chat.logprobs),
      finish_reason: finishReason,
      stop_reason: stopReason,
      token_ids: chat.returnTokenIds ? tokenIds : null,
    }],
    service_tier: null,
    system_fingerprint: systemFingerprint,
    usage: usage(prompt.tokenIds.length, tokenIds.length, prompt.cachedTokens),
    prompt_logprobs: prompt.logprobs && promptLogprobs(prompt.logprobs),
    prompt_token_ids: chat.returnTokenIds ? prompt.tokenIds : null,
    prompt_text: chat.returnPromptText ? prompt.text : null,
    kv_transfer_params: null,
  };
}

/**
 * The chunk sequence of a stream:
 *
 *     role ─▶ content … ─▶ content with finish_reason ─▶ usage, if asked
 *
 * The role chunk is sent when the first delta is there, so an earlier failure is the first thing
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
  let prompt: PromptInfo | undefined;
  let tokenCount = 0;
  let held: AssistantPart[] = [];
  const usageSoFar = () =>
    continuousUsage ? { usage: plainUsage(prompt?.tokenIds.length ?? 0, tokenCount) } : {};

  for await (const { delta, parts } of deltas) {
    if (prompt === undefined) {
      prompt = delta.prompt;
      invariant(prompt !== undefined, "The first delta says nothing of its prompt");
      yield { ...head, ...roleChunk(chat, prompt), ...usageSoFar() };
    }
    held.push(...parts);
    tokenCount += delta.tokenIds.length;
    if (delta.tokenIds.length === 0 && delta.finishReason === null) continue;
    const logprobs: ChatLogprobs | null = chat.logprobs === undefined
      ? null
      : chatLogprobs(delta.logprobs ?? [], chat.logprobs);
    yield {
      ...head,
      choices: [{
        index: 0,
        delta: { content: foldParts(held).content },
        logprobs,
        finish_reason: delta.finishReason,
        ...(delta.finishReason === null ? {} : { stop_reason: delta.stopReason }),
        token_ids: chat.returnTokenIds ? delta.tokenIds : null,
      }],
      ...usageSoFar(),
      ...(delta.finishReason !== null && !includeUsage
        ? { system_fingerprint: systemFingerprint }
        : {}),
    };
    held = [];
  }
  if (!includeUsage) return;
  yield {
    ...head,
    choices: [],
    usage: usage(prompt?.tokenIds.length ?? 0, tokenCount, prompt?.cachedTokens ?? 0),
    system_fingerprint: systemFingerprint,
  };
}

function roleChunk(
  chat: ChatRequest,
  prompt: PromptInfo,
): Pick<ChatCompletionChunk, "choices" | "prompt_token_ids" | "prompt_text"> {
  return {
    choices: [{
      index: 0,
      delta: { role: chat.role, content: "" },
      logprobs: null,
      finish_reason: null,
    }],
    prompt_token_ids: chat.returnTokenIds ? prompt.tokenIds : null,
    prompt_text: chat.returnPromptText ? prompt.text : null,
  };
}
