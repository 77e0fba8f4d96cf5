/** `POST /score` and `/v1/score`: how well texts go together, pair by pair. */

import { type Fields, readFields } from "./body.ts";
import { answerHead, type RouteContext } from "./context.ts";
import { QueueWatch } from "./early_head.ts";
import { badRequest } from "./errors.ts";
import { readPairOptions, readPairParams, readTexts } from "./pair_fields.ts";
import { ofField, poolingUsage } from "./pooling_input.ts";
import type { ScoreList } from "./types.ts";
import { wholeResponse } from "./whole.ts";

/** The names that the two sides may have; the first pair that is there counts. */
const SIDES: readonly (readonly [string, string])[] = [
  ["queries", "documents"],
  ["queries", "items"],
  ["data_1", "data_2"],
  ["text_1", "text_2"],
];

/** Answers one scoring request. */
export async function postScore(context: RouteContext): Promise<Response> {
  const fields = await readFields(context);
  const { left, right, first, second } = readSides(fields);
  const params = readPairParams(fields);
  const head = answerHead(context, "score-", fields.string("request_id"));
  const options = readPairOptions(fields, context, head);
  const queue = new QueueWatch(1);
  const outputs = ofField(
    // Which of the two it is, the model does not say.
    `${left}, ${right}`,
    context.llm.score(first, second, params, { ...options, onQueued: queue.onQueued }),
  );
  const answer = outputs.then((outputs): ScoreList => ({
    id: head.id,
    object: "list",
    created: head.created,
    model: head.model,
    data: outputs.map(({ outputs: { score } }, index) => ({ index, object: "score", score })),
    usage: poolingUsage(outputs),
  }));
  return await wholeResponse(answer, queue, context.hooks);
}

interface Sides {
  /** The fields' names. */
  readonly left: string;
  readonly right: string;
  readonly first: string | string[];
  readonly second: string | string[];
}

/** 1:1, 1:N or N:N. */
function readSides(fields: Fields): Sides {
  const [left, right] = SIDES.find((names) => names.every((name) => fields.has(name))) ??
    SIDES.find((names) => names.some((name) => fields.has(name))) ?? ["text_1", "text_2"];
  const [first, second] = [readTexts(fields, left), readTexts(fields, right)];
  if (Array.isArray(first) && first.length === 0) {
    throw badRequest(`At least one text element must be given: ${left} is []`, left);
  }
  if (Array.isArray(second) && second.length === 0) {
    throw badRequest(`At least one text_pair element must be given: ${right} is []`, right);
  }
  const [firsts, seconds] = [first, second].map((side) => Array.isArray(side) ? side.length : 1);
  if (firsts === 1 || firsts === seconds) return { left, right, first, second };
  throw badRequest(
    `Input lengths must be either 1:1, 1:N or N:N, got ${firsts}:${seconds} of ${left} and ` +
      right,
    left,
  );
}
