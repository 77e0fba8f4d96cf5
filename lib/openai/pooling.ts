/** `POST /pooling`: whatever the model's heads make of prompts. */

import type { PoolingTask } from "../pooling/params.ts";
import { type Fields, readFields } from "./body.ts";
import { answerHead, type RouteContext } from "./context.ts";
import { QueueWatch } from "./early_head.ts";
import { badRequest } from "./errors.ts";
import { readInputs } from "./inputs.ts";
import { ofField, poolingUsage, readPoolingOptions, readPoolingParams } from "./pooling_input.ts";
import type { PoolingList } from "./types.ts";
import { readVectorFormat, wireVectors } from "./vectors.ts";
import { wholeResponse } from "./whole.ts";

/** Answers one pooling request. */
export async function postPooling(context: RouteContext): Promise<Response> {
  const fields = await readFields(context);
  const task = readTask(fields, context.llm.info.poolingTasks);
  const format = readVectorFormat(fields);
  const params = readPoolingParams(fields, task);
  const head = answerHead(context, "pooling-", fields.string("request_id"));
  const options = readPoolingOptions(fields, context, head);
  const prompts = await readInputs(fields, context);
  const queue = new QueueWatch(1);
  const outputs = ofField(
    "input",
    context.llm.encode(prompts, params, { ...options, onQueued: queue.onQueued }),
  );
  const answer = outputs.then((outputs): PoolingList => ({
    id: head.id,
    object: "list",
    created: head.created,
    model: head.model,
    data: outputs.map(({ outputs: { data } }, index) => ({
      index,
      object: "pooling",
      data: wireVectors(data, format),
    })),
    usage: poolingUsage(outputs),
  }));
  return await wholeResponse(answer, queue, context.hooks);
}

/** The first task of the model is what it is for. */
function readTask(fields: Fields, tasks: readonly PoolingTask[]): PoolingTask {
  const wanted = fields.string("task");
  const task = wanted === undefined ? tasks[0] : tasks.find((known) => known === wanted);
  if (task !== undefined) return task;
  const supported = tasks.map((known) => `'${known}'`).join(", ");
  const reason = wanted === "plugin"
    ? "No IOProcessor plugin installed."
    : `Unsupported task: '${wanted?.slice(0, 80)}'`;
  throw badRequest(`${reason} Supported tasks: ${supported}`, "task");
}
