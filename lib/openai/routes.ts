/** Every route: its path, who may take it, what a model must be for, and what the API document says of it. */

import { postChatCompletions } from "./chat_completions.ts";
import { postClassify } from "./classify.ts";
import { postCompletions } from "./completions.ts";
import type { RouteContext } from "./context.ts";
import { postEmbeddings } from "./embeddings.ts";
import { CHAT_BODY, COMPLETIONS_BODY } from "./generation_schemas.ts";
import { jsonResponse } from "./json.ts";
import { getLoad } from "./load.ts";
import { getMetrics } from "./metrics.ts";
import { getModel, getModels, getVersion } from "./models.ts";
import { type DescribedRoute, openApiDocument } from "./openapi.ts";
import { postPooling } from "./pooling.ts";
import { postRerank } from "./rerank.ts";
import {
  CLASSIFY_BODY,
  DETOKENIZE_BODY,
  EMBEDDINGS_BODY,
  POOLING_BODY,
  RERANK_BODY,
  RESET_BODY,
  SCORE_BODY,
  TOKENIZE_BODY,
} from "./request_schemas.ts";
import { postResetPrefixCache } from "./reset_prefix_cache.ts";
import { postScore } from "./score.ts";
import type { ServedTask } from "./served_task.ts";
import { postDetokenize, postTokenize } from "./tokenize.ts";
import { getTokenizerInfo } from "./tokenizer_info.ts";

/** One route. */
export interface Route extends DescribedRoute {
  /** Reachable without a key. */
  readonly open?: boolean;
  /** Answers at the paths below its own just the same. */
  readonly coversBelow?: boolean;
  /** There only in development mode. */
  readonly dev?: boolean;
  /** There unless nobody shall read what the API is. */
  readonly document?: boolean;
  /** What the model must be for; such routes count as load. */
  readonly task?: ServedTask;
  readonly run: (context: RouteContext) => Response | Promise<Response>;
}

const health = ({ llm }: RouteContext): Response =>
  new Response(null, { status: llm.isClosed ? 503 : 200 });

const UNHEALTHY = { "503": "The model was closed" };

/** The same route under several paths. */
function under(paths: readonly string[], route: Omit<Route, "path">): Route[] {
  return paths.map((path) => ({ path, ...route }));
}

/** All routes. A path that ends in `/*` hands whatever follows to the route. */
export const ROUTES: readonly Route[] = [
  {
    method: "POST",
    path: "/v1/chat/completions",
    task: "generate",
    summary: "Answer a conversation, whole or as a stream of events",
    body: CHAT_BODY,
    answer: "json or events",
    run: postChatCompletions,
  },
  {
    method: "POST",
    path: "/v1/completions",
    task: "generate",
    summary: "Continue prompts, whole or as a stream of events",
    body: COMPLETIONS_BODY,
    answer: "json or events",
    run: postCompletions,
  },
  {
    method: "POST",
    path: "/v1/embeddings",
    task: "embed",
    summary: "Turn texts into vectors",
    body: EMBEDDINGS_BODY,
    answer: "json",
    run: postEmbeddings,
  },
  {
    method: "POST",
    path: "/pooling",
    task: "pool",
    summary: "Compute whatever the model's heads make of texts",
    body: POOLING_BODY,
    answer: "json",
    run: postPooling,
  },
  {
    method: "POST",
    path: "/classify",
    task: "classify",
    summary: "Compute how likely each label is",
    body: CLASSIFY_BODY,
    answer: "json",
    run: postClassify,
  },
  ...under(["/score", "/v1/score"], {
    method: "POST",
    task: "score",
    summary: "Compute how well texts go together",
    body: SCORE_BODY,
    answer: "json",
    run: postScore,
  }),
  ...under(["/rerank", "/v1/rerank", "/v2/rerank"], {
    method: "POST",
    task: "rerank",
    summary: "Sort documents by how well they answer a query",
    body: RERANK_BODY,
    answer: "json",
    run: postRerank,
  }),
  {
    method: "POST",
    path: "/tokenize",
    summary: "Turn a text or a conversation into token ids",
    body: TOKENIZE_BODY,
    answer: "json",
    run: postTokenize,
  },
  {
    method: "POST",
    path: "/detokenize",
    summary: "Turn token ids into a text",
    body: DETOKENIZE_BODY,
    answer: "json",
    run: postDetokenize,
  },
  {
    method: "GET",
    path: "/tokenizer_info",
    summary: "The tokenizer's settings",
    answer: "json",
    run: getTokenizerInfo,
  },
  {
    method: "GET",
    path: "/v1/models",
    summary: "A card for each name of the model",
    answer: "json",
    run: getModels,
  },
  {
    method: "GET",
    path: "/v1/models/*",
    rest: "model",
    summary: "The card of one name",
    answer: "json",
    run: getModel,
  },
  {
    method: "GET",
    path: "/version",
    open: true,
    summary: "Versions of the server and of what it stands for",
    answer: "json",
    run: getVersion,
  },
  {
    method: "GET",
    path: "/health",
    open: true,
    summary: "Whether the server works",
    answer: "nothing",
    bodiless: UNHEALTHY,
    run: health,
  },
  {
    method: "GET",
    path: "/ping",
    open: true,
    summary: "Whether the server works",
    answer: "nothing",
    bodiless: UNHEALTHY,
    run: health,
  },
  {
    method: "POST",
    path: "/ping",
    open: true,
    summary: "Whether the server works",
    answer: "nothing",
    bodiless: UNHEALTHY,
    run: health,
  },
  {
    method: "GET",
    path: "/metrics",
    open: true,
    coversBelow: true,
    summary: "How the server is doing, in the text format of Prometheus",
    answer: "text",
    run: getMetrics,
  },
  {
    method: "GET",
    path: "/load",
    summary: "How many requests for the model are being answered",
    answer: "json",
    run: getLoad,
  },
  {
    method: "GET",
    path: "/openapi.json",
    document: true,
    summary: "This document",
    answer: "json",
    run: ({ settings }) => jsonResponse(openApiDocument(reachable(settings), settings)),
  },
  {
    method: "POST",
    path: "/reset_prefix_cache",
    dev: true,
    summary: "Forget the keys and values of all prompt beginnings",
    body: RESET_BODY,
    bodyIsOptional: true,
    bodiless: { "409": "Requests use the cache" },
    answer: "nothing",
    run: postResetPrefixCache,
  },
];

/** The routes that the settings open. */
export function reachable(
  { devMode, apiDocument }: { readonly devMode: boolean; readonly apiDocument: boolean },
): readonly Route[] {
  return ROUTES.filter(({ dev, document }) => (devMode || !dev) && (apiDocument || !document));
}
