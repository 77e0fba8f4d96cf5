/** `POST /v1/completions`: one prompt or a batch, with one choice or several each. */

import { invariant } from "../base/invariant.ts";
import type { Prompt, RequestOptions } from "../llm.ts";
import type { GenerationDelta, LogprobMap, PromptInfo } from "../outputs.ts";
import type { SamplingParams } from "../sampling/params.ts";
import { type Fields, readFields, readTokenId } from "./body.ts";
import { type AnswerHead, answerHead, plainUsage, type RouteContext, usage } from "./context.ts";
import { badRequest } from "./errors.ts";
import { completionLogprobs, type LogprobStyle, offsetAfter, promptLogprobs } from "./logprobs.ts";
import { merge } from "./merge.ts";
import { completionParams, paramLimits } from "./params.ts";
import { eventStream } from "./sse.ts";
import { type Delivery, readDelivery } from "./stream_options.ts";
import type { Completion, CompletionChunk, CompletionLogprobs, Usage } from "./types.ts";
import { refuseUnsupported } from "./unsupported.ts";
import { wholeResponse } from "./whole.ts";

const PROMPT_COUNT_MAX = 1024;

/** A checked request. */
interface CompletionRequest {
  readonly prompts: readonly Prompt[];
  readonly params: SamplingParams;
  readonly options: RequestOptions;
  readonly delivery: Delivery;
  /** undefined: no log-probabilities. */
  readonly logprobs: LogprobStyle | undefined;
  readonly returnTokenIds: boolean;
  /** Choices of each prompt; those of the first prompt come first. */
  readonly choiceCount: number;
  readonly head: AnswerHead;
}

/** One choice while it grows. */
interface Choice {
  readonly texts: string[];
  readonly tokenIds: number[];
  readonly logprobs: LogprobMap[];
  finishReason: string | null;
  stopReason: number | string | null;
}

/** Answers one completions request. */
export async function postCompletions(context: RouteContext): Promise<Response> {
  const fields = await readFields(context);
  const request = readCompletionRequest(fields, context);
  // All prompts start at once. A refused one is found before any token is computed, so even in a
  // stream it is a plain HTTP error.
  const deltas = merge(
    request.prompts.map((prompt) => context.llm.stream(prompt, request.params, request.options)),
  );
  const { hooks, settings: { systemFingerprint } } = context;
  return request.delivery.stream
    ? await eventStream(chunks(deltas, request, systemFingerprint), hooks)
    : await wholeResponse(deltas, (all) => fold(all, request, systemFingerprint), hooks);
}

function readCompletionRequest(fields: Fields, context: RouteContext): CompletionRequest {
  const { llm, settings, signal } = context;
  refuseUnsupported(fields, "completions");
  const delivery = readDelivery(fields, settings.forceIncludeUsage);
  const prompts = readPrompts(fields, llm.info.vocabSize);
  const priority = fields.integer("priority");
  const params = completionParams(fields, paramLimits(context));
  const asTokenIds = fields.boolean("return_tokens_as_token_ids") ??
    settings.returnTokensAsTokenIds;
  return {
    prompts,
    params,
    options: {
      signal,
      addSpecialTokens: fields.boolean("add_special_tokens") ?? true,
      ...(priority === undefined ? {} : { priority }),
    },
    delivery,
    logprobs: params.logprobs === undefined ? undefined : { topCount: params.logprobs, asTokenIds },
    returnTokenIds: fields.boolean("return_token_ids") ?? false,
    choiceCount: params.n ?? 1,
    head: answerHead(context, "cmpl-", fields.string("request_id")),
  };
}

/** A text, a list of texts, the ids of one prompt, or a list of such lists. */
function readPrompts(fields: Fields, vocabSize: number): Prompt[] {
  const value = fields.raw("prompt");
  if (typeof value === "string") return [value];
  const list = value === undefined ? [] : promptList(fields, value);
  if (list.length === 0) {
    throw badRequest("Either prompt or prompt_embeds must be provided and non-empty.", "prompt");
  }
  if (typeof list[0] === "number") return [readIds(fields, list, "prompt", vocabSize)];
  if (list.length > PROMPT_COUNT_MAX) {
    throw badRequest(
      `prompt list length ${list.length} exceeds the maximum allowed count of ${PROMPT_COUNT_MAX}.`,
      "prompt",
    );
  }
  const wantsText = typeof list[0] === "string";
  return list.map((item, index) => {
    const path = `prompt.${index}`;
    if (wantsText && typeof item === "string") return item;
    if (!wantsText && Array.isArray(item)) return readIds(fields, item, path, vocabSize);
    const right = wantsText ? "a string like the first" : "an array of token ids";
    throw fields.shapeError(path, item, right, wantsText ? "string_type" : "list_type");
  });
}

function promptList(fields: Fields, value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  const right = "a string, an array of strings, or token ids";
  throw fields.shapeError("prompt", value, right, "string_type");
}

function readIds(
  fields: Fields,
  list: readonly unknown[],
  path: string,
  vocabSize: number,
): Prompt {
  if (list.length === 0) throw badRequest("The decoder prompt cannot be empty", path);
  return {
    promptTokenIds: list.map((id, at) => readTokenId(fields, id, `${path}.${at}`, vocabSize)),
  };
}

async function fold(
  deltas: AsyncIterable<readonly [number, GenerationDelta]>,
  request: CompletionRequest,
  systemFingerprint: string,
): Promise<Completion> {
  const batch = new Batch(request);
  for await (const [at, delta] of deltas) batch.grow(at, delta);
  return {
    ...request.head,
    object: "text_completion",
    choices: batch.choices.flatMap((choice, index) => {
      if (choice.finishReason === null) return []; // a search found fewer answers than asked for
      const prompt = batch.promptOf(index);
      return {
        index,
        text: choice.texts.join(""),
        logprobs: request.logprobs === undefined
          ? null
          : completionLogprobs(choice.logprobs, request.logprobs, 0),
        finish_reason: choice.finishReason,
        stop_reason: choice.stopReason,
        token_ids: request.returnTokenIds ? choice.tokenIds : null,
        prompt_logprobs: prompt.logprobs && promptLogprobs(prompt.logprobs),
        prompt_token_ids: request.returnTokenIds ? prompt.tokenIds : null,
      };
    }),
    service_tier: null,
    system_fingerprint: systemFingerprint,
    usage: batch.usage(),
    kv_transfer_params: null,
  };
}

/**
 * One chunk a token step, the choices interleaved as they arrive; then the usage, if asked. Text
 * that comes without a token waits for the choice's next one, as in a chat.
 */
async function* chunks(
  deltas: AsyncIterable<readonly [number, GenerationDelta]>,
  request: CompletionRequest,
  systemFingerprint: string,
): AsyncGenerator<CompletionChunk, void, void> {
  const { includeUsage, continuousUsage } = request.delivery;
  const head = { ...request.head, object: "text_completion" as const };
  const batch = new Batch(request);
  const sent = batch.choices.map(() => ({ chunkCount: 0, textCount: 0, textOffset: 0 }));
  let running = batch.choices.length;

  for await (const [at, delta] of deltas) {
    const index = batch.grow(at, delta);
    const choice = batch.choices[index] as Choice;
    const progress = sent[index] as typeof sent[number];
    if (delta.tokenIds.length === 0 && delta.finishReason === null) continue;
    if (delta.finishReason !== null) running--;
    let logprobs: CompletionLogprobs | null = null;
    if (request.logprobs !== undefined) {
      logprobs = completionLogprobs(delta.logprobs ?? [], request.logprobs, progress.textOffset);
      progress.textOffset = offsetAfter(logprobs, progress.textOffset);
    }
    const promptIds = batch.promptOf(index).tokenIds;
    yield {
      ...head,
      choices: [{
        index,
        text: choice.texts.slice(progress.textCount).join(""),
        logprobs,
        finish_reason: delta.finishReason,
        stop_reason: delta.stopReason,
        prompt_token_ids: request.returnTokenIds && progress.chunkCount === 0 ? promptIds : null,
        token_ids: request.returnTokenIds ? delta.tokenIds : null,
      }],
      ...(continuousUsage ? { usage: plainUsage(promptIds.length, choice.tokenIds.length) } : {}),
      ...(running === 0 && !includeUsage ? { system_fingerprint: systemFingerprint } : {}),
    };
    progress.chunkCount++;
    progress.textCount = choice.texts.length;
  }
  if (!includeUsage) return;
  yield { ...head, choices: [], usage: batch.usage(), system_fingerprint: systemFingerprint };
}

/** What is known of the prompts and of all their choices. */
class Batch {
  readonly choices: readonly Choice[];
  readonly #choiceCount: number;
  readonly #prompts: PromptInfo[] = [];

  constructor({ prompts, choiceCount }: CompletionRequest) {
    this.#choiceCount = choiceCount;
    this.choices = Array.from({ length: prompts.length * choiceCount }, () => ({
      texts: [],
      tokenIds: [],
      logprobs: [],
      finishReason: null,
      stopReason: null,
    }));
  }

  /** Takes a delta of prompt number `at` in; gives the index of its choice. */
  grow(at: number, delta: GenerationDelta): number {
    if (delta.prompt !== undefined) this.#prompts[at] = delta.prompt;
    const index = at * this.#choiceCount + delta.index;
    const choice = this.choices[index];
    invariant(
      choice !== undefined && delta.index < this.#choiceCount,
      "A generation has more sequences than were asked for",
    );
    choice.texts.push(delta.text);
    for (const id of delta.tokenIds) choice.tokenIds.push(id);
    for (const map of delta.logprobs ?? []) choice.logprobs.push(map);
    choice.finishReason = delta.finishReason;
    choice.stopReason = delta.stopReason;
    return index;
  }

  /** The prompt that a choice answers. */
  promptOf(index: number): PromptInfo {
    const prompt = this.#prompts[Math.floor(index / this.#choiceCount)];
    invariant(prompt !== undefined, "The first delta says nothing of its prompt");
    return prompt;
  }

  /** Every token of every choice; every prompt once. */
  usage(): Usage {
    let promptTokens = 0, completionTokens = 0, cachedTokens = 0;
    for (const prompt of this.#prompts) {
      promptTokens += prompt.tokenIds.length;
      cachedTokens += prompt.cachedTokens;
    }
    for (const choice of this.choices) completionTokens += choice.tokenIds.length;
    return usage(promptTokens, completionTokens, cachedTokens);
  }
}
