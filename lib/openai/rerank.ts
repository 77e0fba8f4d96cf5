/** `POST /rerank`, `/v1/rerank` and `/v2/rerank`: documents by how well they answer a query, as Jina and Cohere have it. */

import { type Fields, readFields } from "./body.ts";
import { answerHead, type RouteContext } from "./context.ts";
import { QueueWatch } from "./early_head.ts";
import { badRequest } from "./errors.ts";
import { checkIdleFields, RERANKED } from "./idle_fields.ts";
import { readPairOptions, readPairParams, readTexts } from "./pair_fields.ts";
import { ofField, poolingUsage } from "./pooling_input.ts";
import type { RerankAnswer } from "./types.ts";
import { wholeResponse } from "./whole.ts";

/** Answers one reranking request. */
export async function postRerank(context: RouteContext): Promise<Response> {
  const fields = await readFields(context);
  const query = readQuery(fields);
  const documents = readDocuments(fields);
  const topN = readTopN(fields);
  checkIdleFields(fields, RERANKED);
  const params = readPairParams(fields);
  const head = answerHead(context, "rerank-", fields.string("request_id"));
  const options = readPairOptions(fields, context, head);
  // All of them come back, as all of them were computed and count as used.
  const queue = new QueueWatch(1);
  const outputs = ofField(
    "query, documents",
    context.llm.rerank(query, documents, { ...options, params, onQueued: queue.onQueued }),
  );
  const answer = outputs.then((outputs): RerankAnswer => {
    const { prompt_tokens, total_tokens } = poolingUsage(outputs);
    return {
      id: head.id,
      model: head.model,
      usage: { prompt_tokens, total_tokens },
      results: outputs.slice(0, topN).map(({ index, document, relevanceScore }) => ({
        index,
        document: { text: document, multi_modal: null },
        relevance_score: relevanceScore,
      })),
      meta: { billed_units: { total_tokens } },
    };
  });
  return await wholeResponse(answer, queue, context.hooks);
}

function readQuery(fields: Fields): string {
  const query = readTexts(fields, "query");
  if (typeof query === "string") return query;
  throw fields.shapeError("query", query, "one string", "string_type");
}

function readDocuments(fields: Fields): string[] {
  const documents = readTexts(fields, "documents");
  if (typeof documents === "string") return [documents];
  if (documents.length > 0) return documents;
  throw badRequest(
    "At least one text_pair element must be given: documents is []",
    "documents",
  );
}

/** How many results to return; undefined: all, which 0 stands for as well. */
function readTopN(fields: Fields): number | undefined {
  const count = fields.integer("top_n") ?? 0;
  if (count < 0) throw fields.shapeError("top_n", count, "at least 0", "greater_than_equal");
  return count === 0 ? undefined : count;
}
