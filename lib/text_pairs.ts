/** Two texts → one prompt: as segments, in the reranker's prompt, or by a template. */

import { InvalidParameterError } from "./base/errors.ts";
import type { PoolingParams } from "./pooling/params.ts";
import { type PoolingContext, tokenLimit } from "./pooling_requests.ts";
import { tokenizeText } from "./prompts.ts";
import { DEFAULT_INSTRUCTION, encodeRerankerPrompt } from "./reranker_prompt.ts";
import type { ChatTemplate } from "./text/chat_template.ts";
import type { Tokenizer } from "./text/tokenizer.ts";

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

/** How the model reads two texts. */
export function pairEncoder(
  context: PoolingContext,
  params: PoolingParams,
  options: PairOptions,
): (pair: TextPair) => EncodedPair | Promise<EncodedPair> {
  const { pooling, tokenizer } = context;
  const limit = tokenLimit(params, pooling.maxLength);
  if (pooling.classifier?.pairs === "segments") {
    return (pair) => encodeSegments(context, pair, limit, options);
  }
  const template = context.scoreTemplate(options.chatTemplate);
  if (template === undefined) {
    return pooling.classifier?.pairs === "joined"
      ? (pair) => encodeJoined(context, pair, limit, options)
      : (pair) => encodeQuestion(tokenizer, pair, limit, options);
  }
  if (limit === undefined) return (pair) => renderPair(tokenizer, pair, template, options);
  throw new InvalidParameterError(
    "truncatePromptTokens",
    limit,
    `Cannot cut a pair to truncatePromptTokens ${limit}: where a template of its own ends cannot ` +
      "be known; use maxTokensPerDoc",
  );
}

async function renderPair(
  tokenizer: Tokenizer,
  { first, second }: TextPair,
  template: ChatTemplate,
  { instruction = DEFAULT_INSTRUCTION, maxTokensPerQuery, maxTokensPerDoc }: PairOptions,
): Promise<EncodedPair> {
  const messages = [
    { role: "query", content: cutText(tokenizer, first, maxTokensPerQuery) },
    { role: "document", content: cutText(tokenizer, second, maxTokensPerDoc) },
  ];
  const text = await template.render(messages, { kwargs: { instruction } });
  return { promptTokenIds: tokenizeText(text, tokenizer, false) };
}

function encodeQuestion(
  tokenizer: Tokenizer,
  { first, second }: TextPair,
  limit: number = Infinity,
  { instruction = DEFAULT_INSTRUCTION, maxTokensPerQuery, maxTokensPerDoc }: PairOptions,
): EncodedPair {
  const query = cutText(tokenizer, first, maxTokensPerQuery);
  const document = cutText(tokenizer, second, maxTokensPerDoc);
  const promptTokenIds = encodeRerankerPrompt({ instruction, query, document }, tokenizer, limit);
  return {
    promptTokenIds: promptTokenIds ?? refuseLimit(limit, "the reranker's prompt around it"),
  };
}

/** As one text. What does not fit is cut from its end, and special tokens stay. */
function encodeJoined(
  { tokenizer, pooling }: PoolingContext,
  { first, second }: TextPair,
  limit: number = Infinity,
  { maxTokensPerQuery, maxTokensPerDoc }: PairOptions,
): EncodedPair {
  const spelled = cutText(tokenizer, first, maxTokensPerQuery) +
    cutText(tokenizer, second, maxTokensPerDoc);
  const text = pooling.lowerCases ? spelled.toLowerCase() : spelled;
  const frameSize = tokenizeText("", tokenizer, true).length;
  let promptTokenIds = tokenizeText(text, tokenizer, true);
  // The text of fewer tokens may be read as more of them, where it is cut within a word.
  for (let room = limit - frameSize; promptTokenIds.length > limit; room--) {
    if (room < 1) refuseLimit(limit, "what the tokenizer adds");
    promptTokenIds = tokenizeText(cutText(tokenizer, text, room), tokenizer, true);
  }
  return { promptTokenIds };
}

/** The text of the first `count` tokens; 0 keeps all. */
export function cutText(tokenizer: Tokenizer, text: string, count: number = 0): string {
  const ids = tokenizeText(text, tokenizer, false);
  if (count === 0 || ids.length <= count) return text;
  return tokenizer.decode(ids.slice(0, count), { skipSpecialTokens: false });
}

/** What does not fit is cut from the end of the second text, and of nothing else. */
function encodeSegments(
  { tokenizer, pooling }: PoolingContext,
  { first, second }: TextPair,
  limit: number = Infinity,
  { maxTokensPerQuery = 0, maxTokensPerDoc = 0 }: PairOptions,
): EncodedPair {
  const encode = (text: string, count: number) => {
    const ids = tokenizeText(pooling.lowerCases ? text.toLowerCase() : text, tokenizer, false);
    return count === 0 ? ids : ids.slice(0, count);
  };
  const [a, b] = [encode(first, maxTokensPerQuery), encode(second, maxTokensPerDoc)];
  const room = limit - tokenizer.encodePair(a, []).ids.length;
  if (room < 0) refuseLimit(limit, "the first text, which is never cut,");
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
