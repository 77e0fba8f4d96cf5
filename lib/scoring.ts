/** `score` and `rerank`: two texts at a time. */

import { InvalidParameterError } from "./base/errors.ts";
import { classifierPlan, embed } from "./embedding.ts";
import type { EmbeddingRequestOutput, RerankOutput, ScoringRequestOutput } from "./outputs.ts";
import { PoolingParams } from "./pooling/params.ts";
import { dot } from "./pooling/pooler.ts";
import type { ClassifierHead } from "./pooling_model.ts";
import {
  checkLength,
  checkTask,
  type PoolingContext,
  type PoolingOptions,
  runPooling,
  runTogether,
  tokenLimit,
} from "./pooling_requests.ts";
import { tokenizeText } from "./prompts.ts";
import { DEFAULT_INSTRUCTION, encodeRerankerPrompt } from "./reranker_prompt.ts";
import type { ChatTemplate } from "./text/chat_template.ts";
import type { Tokenizer } from "./text/tokenizer.ts";

/** Options of `score`. */
export interface ScoreOptions extends Omit<PoolingOptions, "addSpecialTokens"> {
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

/** Options of `rerank`. */
export interface RerankOptions extends ScoreOptions {
  /** How many documents are returned; 0: all. Default 0. */
  readonly topN?: number;
  /** As for `score`. */
  readonly params?: PoolingParams;
}

interface Pair {
  readonly first: string;
  readonly second: string;
}

/** A pair, ready for the engine. */
interface EncodedPair {
  readonly promptTokenIds: readonly number[];
  readonly tokenTypeIds?: readonly number[];
}

/** Scores pairs: one and one, one and each of several, or several and several one by one. */
export async function score(
  context: PoolingContext,
  first: string | readonly string[],
  second: string | readonly string[],
  params: PoolingParams = new PoolingParams(),
  options: ScoreOptions = {},
): Promise<ScoringRequestOutput[]> {
  const pairs = pairUp(first, second);
  checkCounts(options);
  const { classifier, embedding } = context.pooling;
  if (classifier === undefined && embedding !== undefined) {
    return await cosines(context, pairs, params, options);
  }
  checkTask(context, "score");
  const { rows, finish } = classifierPlan(classifier as ClassifierHead, params);
  const encode = pairEncoder(context, params, options);
  return await runTogether(pairs.length, options, context.maxInFlight, async (index, item) => {
    const pair = await encode(pairs[index] as Pair);
    checkLength(pair.promptTokenIds.length, context.pooling.maxLength);
    const pooled = await runPooling(context.engine, { ...pair, rows }, item);
    return {
      requestId: item.requestId,
      outputs: { score: finish(pooled.rows)[0] as number },
      promptTokenIds: pair.promptTokenIds,
      finished: true,
      cachedTokens: pooled.cachedTokens,
    };
  });
}

/** Scores a query with every document, and sorts: the best first, equal ones as they came. */
export async function rerank(
  context: PoolingContext,
  query: string,
  documents: readonly string[],
  options: RerankOptions,
): Promise<RerankOutput[]> {
  const { topN = 0, params, ...rest } = options;
  checkCount("topN", topN);
  if (typeof query !== "string" || !Array.isArray(documents)) {
    throw new TypeError("rerank takes a query, which is a string, and an array of documents");
  }
  if (documents.length === 0) return [];
  const scored = await score(context, query, documents, params, rest);
  return scored
    .map(({ requestId, outputs, promptTokenIds, cachedTokens }, index): RerankOutput => {
      const document = documents[index] as string;
      const relevanceScore = outputs.score;
      return { index, document, relevanceScore, requestId, promptTokenIds, cachedTokens };
    })
    .sort((a, b) => b.relevanceScore - a.relevanceScore)
    .slice(0, topN === 0 ? undefined : topN);
}

/** 1:1, 1:N or N:N; a list of one counts as one. */
function pairUp(first: string | readonly string[], second: string | readonly string[]): Pair[] {
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

function checkCounts({ maxTokensPerQuery = 0, maxTokensPerDoc = 0 }: ScoreOptions): void {
  checkCount("maxTokensPerQuery", maxTokensPerQuery);
  checkCount("maxTokensPerDoc", maxTokensPerDoc);
}

function checkCount(name: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 0) return;
  throw new InvalidParameterError(
    name,
    value,
    `Cannot use ${name} ${value}: it must be an integer and at least 0, where 0 means all`,
  );
}

/** How the model reads two texts. */
function pairEncoder(
  context: PoolingContext,
  params: PoolingParams,
  options: ScoreOptions,
): (pair: Pair) => EncodedPair | Promise<EncodedPair> {
  const { pooling, tokenizer } = context;
  const limit = tokenLimit(params, pooling.maxLength);
  if (pooling.classifier?.pairs === "segments") {
    return (pair) => encodeSegments(context, pair, limit, options);
  }
  const template = context.scoreTemplate(options.chatTemplate);
  if (template === undefined) return (pair) => encodeQuestion(tokenizer, pair, limit, options);
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
  { first, second }: Pair,
  template: ChatTemplate,
  { instruction = DEFAULT_INSTRUCTION, maxTokensPerQuery, maxTokensPerDoc }: ScoreOptions,
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
  { first, second }: Pair,
  limit: number = Infinity,
  { instruction = DEFAULT_INSTRUCTION, maxTokensPerQuery, maxTokensPerDoc }: ScoreOptions,
): EncodedPair {
  const query = cutText(tokenizer, first, maxTokensPerQuery);
  const document = cutText(tokenizer, second, maxTokensPerDoc);
  const promptTokenIds = encodeRerankerPrompt({ instruction, query, document }, tokenizer, limit);
  return {
    promptTokenIds: promptTokenIds ?? refuseLimit(limit, "the reranker's prompt around it"),
  };
}

/** The text of the first `count` tokens; 0 keeps all. */
function cutText(tokenizer: Tokenizer, text: string, count: number = 0): string {
  const ids = tokenizeText(text, tokenizer, false);
  if (count === 0 || ids.length <= count) return text;
  return tokenizer.decode(ids.slice(0, count), { skipSpecialTokens: false });
}

/** What does not fit is cut from the end of the second text, and of nothing else. */
function encodeSegments(
  { tokenizer, pooling }: PoolingContext,
  { first, second }: Pair,
  limit: number = Infinity,
  { maxTokensPerQuery = 0, maxTokensPerDoc = 0 }: ScoreOptions,
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

/** Each text is embedded by itself; a text that comes again and again only once. */
async function cosines(
  context: PoolingContext,
  pairs: readonly Pair[],
  params: PoolingParams,
  options: ScoreOptions,
): Promise<ScoringRequestOutput[]> {
  const { requestId = crypto.randomUUID() } = options;
  const { tokenizer } = context;
  const cut = pairs.flatMap(({ first, second }) => [
    cutText(tokenizer, first, options.maxTokensPerQuery),
    cutText(tokenizer, second, options.maxTokensPerDoc),
  ]);
  const texts = [...new Set(cut)];
  const outputs = await embed(
    context,
    texts,
    params.clone({ normalize: true }),
    { ...options, requestId },
  ) as EmbeddingRequestOutput[];
  const byText = new Map(texts.map((text, i) => [text, outputs[i] as EmbeddingRequestOutput]));
  const pad = tokenizer.padToken === undefined ? undefined : tokenizer.tokenId(tokenizer.padToken);
  return pairs.map((_, i): ScoringRequestOutput => {
    const [a, b] = [byText.get(cut[2 * i] as string), byText.get(cut[2 * i + 1] as string)] as [
      EmbeddingRequestOutput,
      EmbeddingRequestOutput,
    ];
    const between = pad === undefined ? [] : [pad];
    return {
      requestId: `${requestId}-${i}`,
      outputs: { score: dot(a.outputs.embedding, b.outputs.embedding) },
      promptTokenIds: [...a.promptTokenIds, ...between, ...b.promptTokenIds],
      finished: true,
      cachedTokens: a.cachedTokens + b.cachedTokens,
    };
  });
}
