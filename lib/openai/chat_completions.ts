/** `POST /v1/chat/completions`: the parts of an answer as chunks, or their fold as one body. */

import {
  type AssistantDelta,
  assistantDeltas,
  type AssistantPart,
  foldParts,
} from "../assistant.ts";
import { invariant } from "../base/invariant.ts";
import type { GenerationDelta, PromptInfo } from "../outputs.ts";
import { readFields } from "./body.ts";
import { type ChatRequest, readChatRequest } from "./chat_request.ts";
import { Choice, choiceAt, countTokens } from "./choice.ts";
import { plainUsage, type RouteContext, usage } from "./context.ts";
import { QueueWatch } from "./early_head.ts";
import { addLoadReport } from "./load_report.ts";
import { chatLogprobs, promptLogprobs } from "./logprobs.ts";
import { ofPrompt } from "./prompt_field.ts";
import { eventStream } from "./sse.ts";
import { atIntervals } from "./stream_interval.ts";
import type { ChatCompletion, ChatCompletionChunk } from "./types.ts";
import { wholeResponse } from "./whole.ts";

/** Answers one chat request. */
export async function postChatCompletions(context: RouteContext): Promise<Response> {
  const fields = await readFields(context);
  const chat = readChatRequest(fields, context);
  const { llm, hooks, settings: { systemFingerprint } } = context;
  const { stream, interval } = chat.delivery;
  const queue = new QueueWatch(1);
  const options = { ...chat.options, onQueued: queue.onQueued };
  const generated = ofPrompt(
    "messages",
    chat.params,
    llm.stream(chat.messages, chat.params, options),
  );
  const deltas = assistantDeltas(
    stream && interval > 1 ? atIntervals(generated, interval) : generated,
  );
  return stream
    ? await eventStream(chunks(deltas, chat, systemFingerprint), queue, hooks)
    : addLoadReport(
      await wholeResponse(fold(deltas, chat, systemFingerprint), queue, hooks),
      context,
    );
}

/** A choice, and the parts of its message that were not sent. */
class ChatChoice extends Choice {
  readonly parts: AssistantPart[] = [];

  /** Takes the next delta in, and what it adds to the message. */
  growBy(delta: GenerationDelta, parts: readonly AssistantPart[]): void {
    this.grow(delta);
    this.parts.push(...parts);
  }
}

function newChoices({ choiceCount }: ChatRequest): ChatChoice[] {
  return Array.from({ length: choiceCount }, () => new ChatChoice());
}

async function fold(
  deltas: AsyncIterable<AssistantDelta>,
  chat: ChatRequest,
  systemFingerprint: string | null,
): Promise<ChatCompletion> {
  const choices = newChoices(chat);
  let prompt: PromptInfo | undefined;
  for await (const { delta, parts } of deltas) {
    prompt ??= delta.prompt;
    choiceAt(choices, delta.index).growBy(delta, parts);
  }
  invariant(prompt !== undefined, "A generation ended without its first delta");
  return {
    ...chat.head,
    object: "chat.completion",
    choices: choices.filter(({ isThere }) => isThere).map((choice, index) => ({
      index,
      message: {
        role: chat.role,
        content: chat.echo + foldParts(choice.parts).content,
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
      routed_experts: null,
    })),
    service_tier: null,
    system_fingerprint: systemFingerprint,
    usage: usage(prompt.tokenIds.length, countTokens(choices), prompt.cachedTokens),
    prompt_logprobs: prompt.logprobs && promptLogprobs(prompt.logprobs),
    prompt_token_ids: chat.returnTokenIds ? prompt.tokenIds : null,
    prompt_text: chat.returnPromptText ? prompt.text : null,
    kv_transfer_params: null,
    ec_transfer_params: null,
    metrics: null,
  };
}

/**
 * The chunk sequence of a stream, for each choice; the choices' content interleaves as it comes:
 *
 *     role ─▶ echo, if asked ─▶ content … ─▶ content with finish_reason ─▶ usage of all, if asked
 *
 * The role chunks are sent when the first delta is there, so an earlier failure is the first thing
 * the stream says. Text that comes without a token waits for the next one: clients that ask for
 * continuous usage expect the count to rise from chunk to chunk.
 */
async function* chunks(
  deltas: AsyncIterable<AssistantDelta>,
  chat: ChatRequest,
  systemFingerprint: string | null,
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
      for (const [index, choice] of choices.entries()) {
        if (chat.echo === "") break;
        yield { ...head, ...contentChunk(index, { content: chat.echo }), ...usageOf(choice) };
      }
    }
    const choice = choiceAt(choices, delta.index);
    choice.growBy(delta, parts);
    if (delta.tokenIds.length === 0 && delta.finishReason === null) continue;
    if (delta.finishReason !== null) running--;
    yield {
      ...head,
      choices: [{
        index: delta.index,
        delta: { content: foldParts(choice.parts.splice(0)).content },
        logprobs: chat.logprobs === undefined
          ? null
          : chatLogprobs(delta.logprobs ?? [], chat.logprobs),
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
    ...contentChunk(index, { role: chat.role, content: "" }),
    prompt_token_ids: chat.returnTokenIds ? prompt.tokenIds : null,
    prompt_text: chat.returnPromptText ? prompt.text : null,
  };
}

/** What is said before the first token. */
function contentChunk(
  index: number,
  delta: { readonly role?: string; readonly content: string },
): Pick<ChatCompletionChunk, "choices"> {
  return { choices: [{ index, delta, logprobs: null, finish_reason: null }] };
}
