/** Two texts → one prompt: as segments, in the reranker's prompt, or by a template. */

import { InvalidParameterError } from "./base/errors.ts";
import type { PoolingParams } from "./pooling/params.ts";
import { checkPoolingText, type PoolingContext, tokenLimit } from "./pooling_requests.ts";
import { tokenizeInBackground } from "./prompts.ts";
import { DEFAULT_INSTRUCTION, rerankerEncoder } from "./reranker_prompt.ts";
import type { ChatTemplate } from "./text/chat_template.ts";
import { specialFrame } from "./text/special_frame.ts";

/** How two texts are put before a model. */
export interface PairOptions {
  /**
   * What makes a document right, for models that are told so. Default: "Given a web search query,
   * retrieve relevant passages that answer the query".
   */
  readonly instruction?: string;
  /**
   * A template in place of the reranker's prompt. It is given two messages, with the roles "query"
   * and "document", and the variable `instruction`. Default: the `chatTemplate` of `LLM.load`, else
   * Qwen3-Reranker's prompt.
   */
  readonly chatTemplate?: string;
  /**
   * Further variables of a template; `instruction` among them counts where the option is not given,
   * also for Qwen3-Reranker's prompt, which reads no other. Default: none.
   */
  readonly chatTemplateKwargs?: Readonly<Record<string, unknown>>;
  /** Most tokens of each first text; the rest is cut. 0: all. Default 0. */
  readonly maxTokensPerQuery?: number;
  /** Most tokens of each second text; the rest is cut. 0: all. Default 0. */
  readonly maxTokensPerDoc?: number;
}

/** Two texts that are read together. */
export interface TextPair {
  readonly first: string;
  readonly second: string;
}

/** A pair, ready for the engine. */
export interface EncodedPair {
  readonly promptTokenIds: readonly number[];
  readonly tokenTypeIds?: readonly number[];
}

/** 1:1, 1:N or N:N; a list of one counts as one. */
export function pairUp(
  first: string | readonly string[],
  second: string | readonly string[],
): TextPair[] {
  const [firsts, seconds] = [textsOf("data1", first), textsOf("data2", second)];
  if (!Array.isArray(second) && firsts.length > 1) {
    throw new InvalidParameterError(
      "data1",
      first,
      `Cannot score ${firsts.length} first texts with a single second one: give one and one, ` +
        "one and a list, or two lists of the same length",
    );
  }
  if (firsts.length !== 1 && firsts.length !== seconds.length) {
    throw new InvalidParameterError(
      "data2",
      second,
      `Cannot score lists of different lengths: got ${firsts.length} and ${seconds.length}; ` +
        "they must have the same length, or the first must be a single text",
    );
  }
  return seconds.map((text, i) => ({ first: (firsts[i] ?? firsts[0]) as string, second: text }));
}

function textsOf(name: string, value: string | readonly string[]): readonly string[] {
  const texts = Array.isArray(value) ? value : [value];
  if (!texts.every((text) => typeof text === "string")) {
    throw new TypeError(`${name} must be a string or an array of strings`);
  }
  if (texts.length > 0) return texts;
  throw new InvalidParameterError(
    name,
    value,
    `Cannot score no texts: ${name} must hold at least one`,
  );
}

/** How the model reads two texts. An abort ends the waiting for long ones. */
export function pairEncoder(
  context: PoolingContext,
  params: PoolingParams,
  options: PairOptions,
): (pair: TextPair, signal: AbortSignal) => Promise<EncodedPair> {
  const limit = tokenLimit(params, context.pooling.maxLength);
  if (context.pooling.classifier?.pairs === "segments") {
    return (pair, signal) => encodeSegments(context, pair, { ...options, limit, signal });
  }
  const template = context.scoreTemplate(options.chatTemplate);
  if (template === undefined) {
    if (context.pooling.classifier?.pairs === "joined") {
      return (pair, signal) => encodeJoined(context, pair, { ...options, limit, signal });
    }
    const encode = rerankerEncoder(context.tokenizer, context.background);
    return (pair, signal) => encodeQuestion(context, pair, encode, { ...options, limit, signal });
  }
  if (limit === undefined) {
    return (pair, signal) => renderPair(context, pair, template, { ...options, limit, signal });
  }
  throw new InvalidParameterError(
    "truncatePromptTokens",
    limit,
    `Cannot cut a pair to truncatePromptTokens ${limit}: where a template of its own ends cannot ` +
      "be known; use maxTokensPerDoc",
  );
}

/** What reading one pair takes. */
interface ReadOptions extends PairOptions {
  /** Most tokens of both together; the rest is cut. */
  readonly limit: number | undefined;
  readonly signal: AbortSignal;
}

function instructionOf({ instruction, chatTemplateKwargs = {} }: PairOptions): string {
  const value = instruction ?? chatTemplateKwargs["instruction"] ?? DEFAULT_INSTRUCTION;
  if (typeof value === "string") return value;
  throw new InvalidParameterError(
    "chatTemplateKwargs",
    chatTemplateKwargs,
    "Cannot use the instruction of chatTemplateKwargs: it must be a string",
  );
}

async function renderPair(
  context: PoolingContext,
  { first, second }: TextPair,
  template: ChatTemplate,
  options: ReadOptions,
): Promise<EncodedPair> {
  const { chatTemplateKwargs, maxTokensPerQuery, maxTokensPerDoc, signal } = options;
  const messages = [
    { role: "query", content: await cutText(context, first, maxTokensPerQuery, signal) },
    { role: "document", content: await cutText(context, second, maxTokensPerDoc, signal) },
  ];
  const kwargs = { ...chatTemplateKwargs, instruction: instructionOf(options) };
  const text = await template.render(messages, { kwargs });
  checkPoolingText(text, context, undefined);
  const reading = { addSpecialTokens: false, signal };
  return { promptTokenIds: await context.background.encode(text, reading) };
}

async function encodeQuestion(
  context: PoolingContext,
  { first, second }: TextPair,
  encode: ReturnType<typeof rerankerEncoder>,
  options: ReadOptions,
): Promise<EncodedPair> {
  const { limit, signal } = options;
  const instruction = instructionOf(options);
  const query = await cutText(context, first, options.maxTokensPerQuery, signal);
  const document = await cutText(context, second, options.maxTokensPerDoc, signal);
  checkPoolingText(query, context, limit);
  checkPoolingText(document, context, limit);
  const question = { instruction, query, document };
  const promptTokenIds = await encode(question, limit ?? Infinity, signal);
  return {
    promptTokenIds: promptTokenIds ??
      refuseLimit(limit as number, "the reranker's prompt around it"),
  };
}

/** As one text. What does not fit is cut from its end, and special tokens stay. */
async function encodeJoined(
  context: PoolingContext,
  { first, second }: TextPair,
  { limit = Infinity, signal, maxTokensPerQuery, maxTokensPerDoc }: ReadOptions,
): Promise<EncodedPair> {
  const { tokenizer, background, pooling } = context;
  const joined = await cutText(context, first, maxTokensPerQuery, signal) +
    await cutText(context, second, maxTokensPerDoc, signal);
  const text = pooling.lowerCases ? joined.toLowerCase() : joined;
  checkPoolingText(text, context, limit === Infinity ? undefined : limit);
  const promptTokenIds = await background.encode(text, { addSpecialTokens: true, signal });
  if (promptTokenIds.length <= limit) return { promptTokenIds };
  const ids = await background.encode(text, { addSpecialTokens: false, signal });
  const { before, after } = specialFrame(tokenizer);
  const room = limit - before.length - after.length;
  if (room < 1) refuseLimit(limit, "what the tokenizer puts around them");
  return { promptTokenIds: [...before, ...ids.slice(0, room), ...after] };
}

/** The text of the first `count` tokens; 0 keeps all. */
export async function cutText(
  { background }: PoolingContext,
  text: string,
  count: number = 0,
  signal?: AbortSignal,
): Promise<string> {
  if (count === 0) return text;
  const reading = { addSpecialTokens: false, signal };
  const ids = await tokenizeInBackground(text, background, reading);
  if (ids.length <= count) return text;
  return await background.decode(ids.slice(0, count), { skipSpecialTokens: false, signal });
}

/** What does not fit is cut from the end of the second text, and of nothing else. */
async function encodeSegments(
  context: PoolingContext,
  { first, second }: TextPair,
  { limit, signal, maxTokensPerQuery = 0, maxTokensPerDoc = 0 }: ReadOptions,
): Promise<EncodedPair> {
  const { tokenizer, background, pooling } = context;
  const encode = async (text: string, count: number) => {
    checkPoolingText(text, context, count === 0 ? limit : count);
    const read = pooling.lowerCases ? text.toLowerCase() : text;
    const ids = await background.encode(read, { addSpecialTokens: false, signal });
    return count === 0 ? ids : ids.slice(0, count);
  };
  const a = await encode(first, maxTokensPerQuery);
  const b = await encode(second, maxTokensPerDoc);
  const room = (limit ?? Infinity) - tokenizer.encodePair(a, []).ids.length;
  if (room < 0) refuseLimit(limit as number, "the first text, which is never cut,");
  const { ids, typeIds } = tokenizer.encodePair(a, b.slice(0, room));
  return pooling.hasSegments
    ? { promptTokenIds: ids, tokenTypeIds: typeIds }
    : { promptTokenIds: ids };
}

function refuseLimit(limit: number, what: string): never {
  throw new InvalidParameterError(
    "truncatePromptTokens",
    limit,
    `Cannot cut a pair to truncatePromptTokens ${limit}: ${what} leaves no room for more`,
  );
}

/** Refuses numbers that count nothing. */
export function checkCounts({ maxTokensPerQuery = 0, maxTokensPerDoc = 0 }: PairOptions): void {
  checkCount("maxTokensPerQuery", maxTokensPerQuery);
  checkCount("maxTokensPerDoc", maxTokensPerDoc);
}

/** Refuses what is no count; 0 means all. */
export function checkCount(name: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 0) return;
  throw new InvalidParameterError(
    name,
    value,
    `Cannot use ${name} ${value}: it must be an integer and at least 0, where 0 means all`,
  );
}
