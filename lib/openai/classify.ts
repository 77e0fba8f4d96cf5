/** `POST /classify`: texts or token ids → how likely each label is. */

import { readFields } from "./body.ts";
import { answerHead, type RouteContext } from "./context.ts";
import { QueueWatch } from "./early_head.ts";
import { badRequest } from "./errors.ts";
import { readInputs } from "./inputs.ts";
import { ofField, poolingUsage, readPoolingOptions, readPoolingParams } from "./pooling_input.ts";
import type { ClassificationList } from "./types.ts";
import { wholeResponse } from "./whole.ts";

/** Answers one classification request. */
export async function postClassify(context: RouteContext): Promise<Response> {
  const fields = await readFields(context);
  const params = readPoolingParams(fields, "classify");
  const head = answerHead(context, "classify-", fields.string("request_id"));
  const options = readPoolingOptions(fields, context, head);
  const prompts = await readInputs(fields, context);
  if (prompts.includes("")) {
    throw badRequest(`Cannot classify input "": it must have at least one character`, "input");
  }
  const queue = new QueueWatch(1);
  const outputs = ofField(
    "input",
    context.llm.classify(prompts, params, { ...options, onQueued: queue.onQueued }),
  );
  const answer = outputs.then((outputs): ClassificationList => ({
    id: head.id,
    object: "list",
    created: head.created,
    model: head.model,
    data: outputs.map(({ outputs: { label, probs, numClasses } }, index) => ({
      index,
      label,
      probs: [...probs],
      num_classes: numClasses,
    })),
    usage: poolingUsage(outputs),
  }));
  return await wholeResponse(answer, queue, context.hooks);
}
