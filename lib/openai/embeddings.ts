/** `POST /v1/embeddings`: texts or token ids → vectors. */

import { readFields } from "./body.ts";
import { answerHead, type RouteContext } from "./context.ts";
import { jsonResponse } from "./json.ts";
import {
  checkTruncationSide,
  ofField,
  poolingUsage,
  readInputs,
  readPoolingOptions,
  readPoolingParams,
} from "./pooling_input.ts";
import type { EmbeddingList } from "./types.ts";
import { readVectorFormat, wireVectors } from "./vectors.ts";

/** Answers one embeddings request. */
export async function postEmbeddings(context: RouteContext): Promise<Response> {
  const fields = await readFields(context);
  checkTruncationSide(fields, "left");
  const format = readVectorFormat(fields);
  const params = readPoolingParams(fields, "embed");
  const options = readPoolingOptions(fields, context);
  const head = answerHead(context, "embd-", fields.string("request_id"));
  const prompts = await readInputs(fields, context);
  const outputs = await ofField("input", context.llm.embed(prompts, params, options));
  const answer: EmbeddingList = {
    id: head.id,
    object: "list",
    created: head.created,
    model: head.model,
    data: outputs.map(({ outputs: { embedding } }, index) => ({
      index,
      object: "embedding",
      embedding: wireVectors(embedding, format) as string | number[],
    })),
    usage: poolingUsage(outputs),
  };
  return jsonResponse(answer);
}
