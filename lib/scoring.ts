/** `score` and `rerank`: two texts at a time. */

import { checkFieldNames } from "./base/field_names.ts";
import { embed } from "./embedding.ts";
import type { EmbeddingRequestOutput, RerankOutput, ScoringRequestOutput } from "./outputs.ts";
import { checkPoolingParams, PoolingParams } from "./pooling/params.ts";
import { cosine } from "./pooling/pooler.ts";
import type { ClassifierHead } from "./pooling_model.ts";
import { classifierPlan } from "./pooling_plan.ts";
import {
  checkLength,
  checkTask,
  type PoolingContext,
  type PoolingOptions,
  runPooling,
} from "./pooling_requests.ts";
import { CALL_OPTIONS, runTogether } from "./run_together.ts";
import {
  checkCount,
  checkCounts,
  cutText,
  pairEncoder,
  type PairOptions,
  pairUp,
  type TextPair,
} from "./text_pairs.ts";

/** Options of `score`. */
export interface ScoreOptions
  extends Omit<PoolingOptions, "addSpecialTokens" | "truncationSide">, PairOptions {}

/** Options of `rerank`. */
export interface RerankOptions extends ScoreOptions {
  /** How many documents are returned; 0: all. Default 0. */
  readonly topN?: number;
  /** As for `score`. */
  readonly params?: PoolingParams;
}

/** All options: a name that is missing here would be a type error. */
const SCORE_OPTIONS: Readonly<Record<keyof ScoreOptions, true>> = {
  ...CALL_OPTIONS,
  instruction: true,
  chatTemplate: true,
  chatTemplateKwargs: true,
  maxTokensPerQuery: true,
  maxTokensPerDoc: true,
};
const RERANK_OPTIONS: Readonly<Record<keyof RerankOptions, true>> = {
  ...SCORE_OPTIONS,
  topN: true,
  params: true,
};

/** Scores pairs: one and one, one and each of several, or several and several one by one. */
export async function score(
  context: PoolingContext,
  first: string | readonly string[],
  second: string | readonly string[],
  params: PoolingParams = new PoolingParams(),
  options: ScoreOptions = {},
): Promise<ScoringRequestOutput[]> {
  checkPoolingParams(params, "score");
  checkFieldNames(options, Object.keys(SCORE_OPTIONS), "the option");
  const pairs = pairUp(first, second);
  checkCounts(options);
  const { classifier, embedding } = context.pooling;
  if (classifier === undefined && embedding !== undefined) {
    return await cosines(context, pairs, params, options);
  }
  checkTask(context, "score");
  const { rows, finish } = classifierPlan(classifier as ClassifierHead, params);
  const encode = pairEncoder(context, params, options);
  return await runTogether(pairs.length, options, context.maxInFlight, {
    async prepare(index, { signal }) {
      const pair = await encode(pairs[index] as TextPair, signal);
      checkLength(pair.promptTokenIds.length, context.pooling.maxLength);
      return pair;
    },
    async run(pair, item) {
      const pooled = await runPooling(context, { ...pair, rows }, item);
      return {
        requestId: item.requestId,
        outputs: { score: finish(pooled.rows)[0] as number },
        promptTokenIds: pair.promptTokenIds,
        finished: true,
        cachedTokens: pooled.cachedTokens,
      };
    },
  });
}

/** Scores a query with every document, and sorts: the best first, equal ones as they came. */
export async function rerank(
  context: PoolingContext,
  query: string,
  documents: readonly string[],
  options: RerankOptions,
): Promise<RerankOutput[]> {
  checkFieldNames(options, Object.keys(RERANK_OPTIONS), "the option");
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

/** Each text is embedded by itself; a text that comes again and again only once. */
async function cosines(
  context: PoolingContext,
  pairs: readonly TextPair[],
  params: PoolingParams,
  options: ScoreOptions,
): Promise<ScoringRequestOutput[]> {
  const { maxTokensPerQuery, maxTokensPerDoc, requestId = crypto.randomUUID(), ...rest } = options;
  const { instruction: _, chatTemplate: _template, chatTemplateKwargs: _kwargs, ...pooling } = rest;
  const { tokenizer } = context;
  const cut: string[] = [];
  for (const { first, second } of pairs) {
    cut.push(await cutText(context, first, maxTokensPerQuery, options.signal));
    cut.push(await cutText(context, second, maxTokensPerDoc, options.signal));
  }
  const texts = [...new Set(cut)];
  const outputs = await embed(
    context,
    texts,
    params.clone({ normalize: true, task: "embed" }),
    { ...pooling, requestId },
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
      outputs: { score: cosine(a.outputs.embedding, b.outputs.embedding) },
      promptTokenIds: [...a.promptTokenIds, ...between, ...b.promptTokenIds],
      finished: true,
      cachedTokens: a.cachedTokens + b.cachedTokens,
    };
  });
}
