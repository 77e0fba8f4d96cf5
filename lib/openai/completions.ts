/** `POST /v1/completions`: one prompt or a batch, with one choice or several each. */

import type { GenerationDelta } from "../outputs.ts";
import { readFields } from "./body.ts";
import { CompletionBatch, type Saying } from "./completion_batch.ts";
import { type CompletionRequest, readCompletionRequest } from "./completion_request.ts";
import { choiceAt } from "./choice.ts";
import { plainUsage, type RouteContext } from "./context.ts";
import { QueueWatch } from "./early_head.ts";
import { addLoadReport } from "./load_report.ts";
import { completionLogprobs, offsetAfter, promptLogprobs } from "./logprobs.ts";
import { merge } from "./merge.ts";
import { ofPrompt } from "./prompt_field.ts";
import { optionsOfPrompt } from "./request_options.ts";
import { eventStream } from "./sse.ts";
import { atIntervals } from "./stream_interval.ts";
import type { Completion, CompletionChunk } from "./types.ts";
import { wholeResponse } from "./whole.ts";

/** Answers one completions request. */
export async function postCompletions(context: RouteContext): Promise<Response> {
  const fields = await readFields(context);
  const request = readCompletionRequest(fields, context);
  const { llm, hooks, settings: { systemFingerprint } } = context;
  const { prompts, promptPaths, params, options, delivery: { stream, interval } } = request;
  // All prompts start at once. A refused one is found before any token is computed, so even in a
  // stream it is a plain HTTP error.
  const queue = new QueueWatch(prompts.length);
  const watched = { ...options, onQueued: queue.onQueued };
  const deltas = merge(prompts.map((prompt, index, { length }) => {
    const deltas = ofPrompt(
      promptPaths[index] as string,
      params,
      llm.stream(prompt, params, optionsOfPrompt(watched, index, length)),
    );
    return stream && interval > 1 ? atIntervals(deltas, interval) : deltas;
  }));
  const batch = new CompletionBatch(request, (ids) => llm.detokenize(ids));
  return stream
    ? await eventStream(chunks(deltas, request, batch, systemFingerprint), queue, hooks)
    : addLoadReport(
      await wholeResponse(fold(deltas, request, batch, systemFingerprint), queue, hooks),
      context,
    );
}

async function fold(
  deltas: AsyncIterable<readonly [number, GenerationDelta]>,
  request: CompletionRequest,
  batch: CompletionBatch,
  systemFingerprint: string | null,
): Promise<Completion> {
  for await (const [at, delta] of deltas) batch.grow(at, delta);
  return {
    ...request.head,
    object: "text_completion",
    choices: batch.choices.flatMap((choice, index) => {
      if (!choice.isThere) return [];
      const prompt = batch.promptOf(index);
      const own: Saying = { text: choice.texts.join(""), entries: choice.logprobs };
      const { text, entries } = batch.withEcho(index, own);
      return {
        index,
        text,
        logprobs: request.logprobs === undefined
          ? null
          : completionLogprobs(entries, request.logprobs, 0),
        finish_reason: choice.finishReason,
        stop_reason: choice.stopReason,
        token_ids: request.returnTokenIds ? choice.tokenIds : null,
        prompt_logprobs: prompt.logprobs && promptLogprobs(prompt.logprobs),
        prompt_token_ids: request.returnTokenIds ? prompt.tokenIds : null,
        routed_experts: null,
      };
    }),
    service_tier: null,
    system_fingerprint: systemFingerprint,
    usage: batch.usage(),
    kv_transfer_params: null,
    ec_transfer_params: null,
    metrics: null,
  };
}

/** What was sent of a choice. */
interface Progress {
  chunkCount: number;
  textCount: number;
  textOffset: number;
}

/**
 * One chunk a token step, the choices interleaved as they arrive; then the usage, if asked. Text
 * that comes without a token waits for the choice's next one, as in a chat.
 */
async function* chunks(
  deltas: AsyncIterable<readonly [number, GenerationDelta]>,
  request: CompletionRequest,
  batch: CompletionBatch,
  systemFingerprint: string | null,
): AsyncGenerator<CompletionChunk, void, void> {
  const { includeUsage, continuousUsage } = request.delivery;
  const head = { ...request.head, object: "text_completion" as const };
  const sent = batch.choices.map((): Progress => ({ chunkCount: 0, textCount: 0, textOffset: 0 }));
  let running = batch.choices.length;

  for await (const [at, delta] of deltas) {
    const index = batch.grow(at, delta);
    const choice = choiceAt(batch.choices, index);
    if (delta.tokenIds.length === 0 && delta.finishReason === null) continue;
    if (delta.finishReason !== null) running--;
    const promptIds = batch.promptOf(index).tokenIds;
    yield {
      ...head,
      choices: [chunkChoice(index, delta, choiceAt(sent, index), request, batch)],
      ...(continuousUsage ? { usage: plainUsage(promptIds.length, choice.tokenIds.length) } : {}),
      ...(running === 0 && !includeUsage ? { system_fingerprint: systemFingerprint } : {}),
    };
  }
  if (!includeUsage) return;
  yield { ...head, choices: [], usage: batch.usage(), system_fingerprint: systemFingerprint };
}

function chunkChoice(
  index: number,
  delta: GenerationDelta,
  progress: Progress,
  request: CompletionRequest,
  batch: CompletionBatch,
): CompletionChunk["choices"][number] {
  const { texts } = choiceAt(batch.choices, index);
  const isFirst = progress.chunkCount++ === 0;
  const news: Saying = {
    text: texts.slice(progress.textCount).join(""),
    entries: delta.logprobs ?? [],
  };
  progress.textCount = texts.length;
  const { text, entries } = isFirst ? batch.withEcho(index, news) : news;
  const logprobs = request.logprobs === undefined
    ? null
    : completionLogprobs(entries, request.logprobs, progress.textOffset);
  if (logprobs !== null) progress.textOffset = offsetAfter(logprobs, progress.textOffset);
  return {
    index,
    text,
    logprobs,
    finish_reason: delta.finishReason,
    stop_reason: delta.stopReason,
    prompt_token_ids: request.returnTokenIds && isFirst ? batch.promptOf(index).tokenIds : null,
    token_ids: request.returnTokenIds ? delta.tokenIds : null,
  };
}
