/** Pooling prompts on their way: text → tokens that fit, tokens → rows, many of them together. */

import { ContextLengthError, InvalidParameterError, UnsupportedTaskError } from "./base/errors.ts";
import type { EnginePoolingRequest, PoolingOutput } from "./engine/pooling_request.ts";
import type { PoolingParams, PoolingTask } from "./pooling/params.ts";
import type { PoolingModel } from "./pooling_model.ts";
import { checkTextFits, checkTokenized, type Prompt } from "./prompts.ts";
import type { RequestItem } from "./run_together.ts";
import type { BackgroundTokenizer } from "./text/background_tokenizer.ts";
import type { ChatTemplate } from "./text/chat_template.ts";
import { specialFrame } from "./text/special_frame.ts";
import type { Tokenizer } from "./text/tokenizer.ts";
import { traced, type TraceOptions, type Tracer } from "./tracing.ts";

/** What pooling needs of an engine. */
export interface PoolingEngine {
  submitPooling(request: EnginePoolingRequest): Promise<PoolingOutput>;
  abort(id: string): void;
}

/** What pooling needs of a loaded model. */
export interface PoolingContext {
  /** The model, as it was named. */
  readonly id: string;
  readonly engine: PoolingEngine;
  /** Where requests leave their spans. */
  readonly tracer?: Tracer | undefined;
  readonly tokenizer: Tokenizer;
  /** The same tokenizer for what comes in while others must not wait. */
  readonly background: BackgroundTokenizer;
  readonly pooling: PoolingModel;
  /** A template for pairs from its source; without a source the one that was given at loading, if any. */
  scoreTemplate(source: string | undefined): ChatTemplate | undefined;
  /** Requests that one call has in the engine at most; the others wait here, where waiting is free. */
  readonly maxInFlight: number;
}

/** What every pooling call takes besides its parameters. */
export interface PoolingOptions {
  /** Ends the call, which rejects with the signal's reason; nothing of it stays in the engine. */
  readonly signal?: AbortSignal;
  /** Shown in outputs; of several, each has `-0`, `-1` … behind it. Default: a random UUID. */
  readonly requestId?: string;
  /** Lower runs earlier. Default 0. */
  readonly priority?: number;
  /**
   * Separates prefix caches: only requests of the same salt reuse each other's keys and values. From
   * 1 to 1024 characters. Default: none, which is a class of its own.
   */
  readonly cacheSalt?: string;
  /** How it shows in traces, where `LLM.load` was given a tracer. */
  readonly trace?: TraceOptions;
  /** Let the tokenizer add its special tokens to a text. Default true. */
  readonly addSpecialTokens?: boolean;
  /**
   * Which tokens of a prompt `truncatePromptTokens` drops: the first ("left", the default), or the
   * last ("right"), but for the special tokens behind a text.
   */
  readonly truncationSide?: "left" | "right";
  /** Called once, when all prompts were tokenized and fit: none of them is refused for itself any more. */
  readonly onQueued?: () => void;
}

/** Refuses what the model is not for. */
export function checkTask({ id, pooling }: PoolingContext, task: PoolingTask): void {
  if (pooling.tasks.includes(task)) return;
  const verb = task === "embed" || task === "score" || task === "classify"
    ? task
    : `compute "${task}"`;
  const reason = pooling.tasks.length > 0
    ? `the model is for ${pooling.tasks.join(", ")}`
    : task === "embed" || task === "token_embed"
    ? 'it is a generative model; load it with the option task "embed" to pool its hidden states'
    : task === "classify"
    ? "it is a generative model without a classifier"
    : 'it is a generative model; if it answers "yes" and "no" as a reranker, load it with the ' +
      'option task "score"';
  throw new UnsupportedTaskError(task, `Cannot ${verb} with "${id}": ${reason}`);
}

/** How a prompt becomes ids. */
type Reading = Pick<PoolingOptions, "addSpecialTokens" | "truncationSide">;

/** One text or list of ids → the ids that are run, on the calling thread. */
export function encodePoolingPrompt(
  prompt: Prompt,
  context: PoolingContext,
  params: PoolingParams,
  { addSpecialTokens = true, truncationSide = "left" }: Reading,
): readonly number[] {
  const limit = tokenLimit(params, context.pooling.maxLength);
  const read = readPoolingPrompt(prompt, context, limit);
  const isText = typeof read === "string";
  const ids = isText ? context.tokenizer.encode(read, { addSpecialTokens }) : read;
  const isFramed = isText && addSpecialTokens;
  return finishPrompt(ids, context, { limit, truncationSide, isFramed });
}

/** The same; what is long on another thread. */
export async function encodePoolingPromptInBackground(
  prompt: Prompt,
  context: PoolingContext,
  params: PoolingParams,
  { addSpecialTokens = true, truncationSide = "left", signal }: Reading & {
    readonly signal: AbortSignal;
  },
): Promise<readonly number[]> {
  const limit = tokenLimit(params, context.pooling.maxLength);
  const read = readPoolingPrompt(prompt, context, limit);
  const isText = typeof read === "string";
  const ids = isText ? await context.background.encode(read, { addSpecialTokens, signal }) : read;
  const isFramed = isText && addSpecialTokens;
  return finishPrompt(ids, context, { limit, truncationSide, isFramed });
}

/** The text as the model reads it, or ids; a text that cannot fit is refused. */
function readPoolingPrompt(
  prompt: Prompt,
  context: PoolingContext,
  limit: number | undefined,
): string | readonly number[] {
  if (typeof prompt === "object" && prompt !== null && "promptTokenIds" in prompt) {
    const ids = prompt.promptTokenIds;
    if (Array.isArray(ids) && ids.every(Number.isInteger)) return ids;
    throw new TypeError("promptTokenIds must be an array of integers");
  }
  const text = typeof prompt === "string" ? prompt : prompt?.prompt;
  if (typeof text !== "string") {
    throw new TypeError(
      "A prompt must be a string, { prompt: string } or { promptTokenIds: number[] }",
    );
  }
  checkPoolingText(text, context, limit);
  return context.pooling.lowerCases ? text.toLowerCase() : text;
}

/** How much of a prompt is kept, and whether special tokens stand around it. */
interface Keeping {
  readonly limit: number | undefined;
  readonly truncationSide: "left" | "right";
  readonly isFramed: boolean;
}

/** Puts the model's end token behind a text's ids, and keeps of all ids what was asked for. */
function finishPrompt(
  ids: readonly number[],
  { tokenizer, pooling: { embedding, maxLength } }: PoolingContext,
  { limit, truncationSide, isFramed }: Keeping,
): readonly number[] {
  const end = isFramed ? embedding?.endTokenId : undefined;
  const all = end === undefined || ids.at(-1) === end ? ids : [...ids, end];
  if (limit === undefined || all.length <= limit) {
    checkLength(all.length, maxLength);
    return all;
  }
  if (truncationSide === "left") return all.slice(-limit);
  const after = isFramed ? specialFrame(tokenizer).after : [];
  const behind = after.length + (end === undefined || after.at(-1) === end ? 0 : 1);
  const kept = Math.min(behind, limit);
  return [...all.slice(0, limit - kept), ...all.slice(all.length - kept)];
}

/**
 * Refuses a text that need not be encoded to be known as too long. Where it is cut anyway, or its
 * tokens say nothing of its length, as with vocabularies that drop spaces, it may still be read.
 */
export function checkPoolingText(
  text: string,
  { tokenizer, pooling }: PoolingContext,
  limit: number | undefined,
): void {
  if (limit === undefined && tokenizer.isByteLevel) {
    checkTextFits(text, "a prompt", tokenizer, pooling.maxLength);
  }
  checkTokenized(text);
}

/** How many tokens are kept; undefined: no truncation is asked for. */
export function tokenLimit(params: PoolingParams, maxLength: number): number | undefined {
  const { truncatePromptTokens: wanted = 0 } = params;
  if (wanted > maxLength) {
    throw new InvalidParameterError(
      "truncatePromptTokens",
      wanted,
      // The second sentence is vLLM's, and looked for.
      `Cannot use truncatePromptTokens ${wanted}: the model takes at most ${maxLength} tokens. ` +
        "Please request a smaller truncation size.",
    );
  }
  return wanted === 0 ? undefined : wanted === -1 ? maxLength : wanted;
}

/** Refuses a prompt that is too long for the model. */
export function checkLength(tokenCount: number, maxLength: number): void {
  if (tokenCount <= maxLength) return;
  throw new ContextLengthError(
    tokenCount,
    maxLength,
    `Cannot run a prompt of ${tokenCount} tokens: the model takes at most ${maxLength}; ` +
      "shorten it, or give truncatePromptTokens",
  );
}

/**
 * Runs one request. When the signal fires, it is taken out of the engine.
 *
 * @throws What the engine refuses the request with, at once.
 */
export function runPooling(
  { engine, tracer, id: model }: Pick<PoolingContext, "engine" | "tracer" | "id">,
  request: Pick<EnginePoolingRequest, "promptTokenIds" | "tokenTypeIds" | "rows">,
  { requestId: id, priority, signal, cacheSalt, trace }: RequestItem,
): Promise<PoolingOutput> {
  signal.throwIfAborted();
  const output = traced(
    tracer,
    { requestId: id, model, trace },
    (onEnd) => engine.submitPooling({ ...request, id, priority, cacheSalt, onEnd }),
  );
  return untilAborted(output, signal, () => engine.abort(id));
}

async function untilAborted(
  output: Promise<PoolingOutput>,
  signal: AbortSignal,
  onAbort: () => void,
): Promise<PoolingOutput> {
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await output;
  } catch (error) {
    signal.throwIfAborted(); // its reason says more than that the request was aborted
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** One for all, or one each. */
export function paramsOfEach(
  params: PoolingParams | readonly PoolingParams[] | undefined,
  count: number,
  none: PoolingParams,
): readonly PoolingParams[] {
  if (!Array.isArray(params)) {
    return Array<PoolingParams>(count).fill(params as PoolingParams ?? none);
  }
  if (params.length === count) return params;
  throw new TypeError(`${count} prompts take one PoolingParams or ${count}, not ${params.length}`);
}
