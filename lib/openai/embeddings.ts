/** `POST /v1/embeddings`: texts or token ids → vectors. */

import { readFields } from "./body.ts";
import { answerHead, type RouteContext } from "./context.ts";
import { QueueWatch } from "./early_head.ts";
import { readInputs } from "./inputs.ts";
import { ofField, poolingUsage, readPoolingOptions, readPoolingParams } from "./pooling_input.ts";
import type { EmbeddingList } from "./types.ts";
import { readVectorFormat, wireVectors } from "./vectors.ts";
import { wholeResponse } from "./whole.ts";

/** Answers one embeddings request. */
export async function postEmbeddings(context: RouteContext): Promise<Response> {
  const fields = await readFields(context);
  const format = readVectorFormat(fields);
  const params = readPoolingParams(fields, "embed");
  const head = answerHead(context, "embd-", fields.string("request_id"));
  const options = readPoolingOptions(fields, context, head);
  const prompts = await readInputs(fields, context);
  const queue = new QueueWatch(1);
  const outputs = ofField(
    "input",
    context.llm.embed(prompts, params, { ...options, onQueued: queue.onQueued }),
  );
  const answer = outputs.then((outputs): EmbeddingList => ({
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
  }));
  return await wholeResponse(answer, queue, context.hooks);
}
