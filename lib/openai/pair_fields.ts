/** What `/score` and `/rerank` have in common: their texts, and how a pair of them is put together. */

import type { ScoreOptions } from "../llm.ts";
import { PoolingParams } from "../pooling/params.ts";
import { Fields } from "./body.ts";
import type { AnswerHead, RouteContext } from "./context.ts";
import { badRequest } from "./errors.ts";
import { checkIdleFields, PAIRED } from "./idle_fields.ts";
import { readTruncation } from "./pooling_input.ts";
import { readRequestOptions } from "./request_options.ts";

/** Most texts on one side. */
const TEXT_COUNT_MAX = 10_000;

/** A text, or an array of texts that is not empty. */
export function readTexts(fields: Fields, name: string): string | string[] {
  const value = fields.raw(name);
  if (!Array.isArray(value)) return readText(fields, name, value);
  if (value.length <= TEXT_COUNT_MAX) {
    return value.map((item, index) => readText(fields, `${name}.${index}`, item));
  }
  throw badRequest(
    `Cannot use ${name} of ${value.length} texts: it must have at most ${TEXT_COUNT_MAX}`,
    name,
  );
}

/** A string; or an object that holds one, as Jina's `{text}` and vLLM's `{content: [{type, text}]}` do. */
function readText(fields: Fields, path: string, value: unknown): string {
  if (typeof value === "string") return value;
  if (value === undefined) throw fields.missing(path);
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    const object = new Fields(value as Readonly<Record<string, unknown>>, path);
    const parts = object.records("content");
    if (parts === undefined && object.has("text")) return object.string("text") as string;
    if (parts !== undefined) return parts.map((part, at) => partText(object, part, at)).join("\n");
  }
  throw fields.shapeError(path, value, 'a string or an object with "text"', "string_type");
}

function partText(fields: Fields, part: Readonly<Record<string, unknown>>, at: number): string {
  const { type, text } = part;
  if ((type ?? "text") === "text" && typeof text === "string") return text;
  throw fields.shapeError(`content.${at}`, part, 'a part {"type": "text", "text": …}', "dict_type");
}

/** How pairs are scored. */
export function readPairParams(fields: Fields): PoolingParams {
  checkTruncationSide(fields);
  const truncatePromptTokens = readTruncation(fields);
  const useActivation = fields.boolean("use_activation");
  return new PoolingParams({
    ...(truncatePromptTokens === undefined ? {} : { truncatePromptTokens }),
    ...(useActivation === undefined ? {} : { useActivation }),
  });
}

/** Which end is cut: only that of the second text can be. */
function checkTruncationSide(fields: Fields): void {
  if (fields.choice("truncation_side", ["left", "right"]) !== "left") return;
  throw badRequest(
    'truncation_side is not supported yet, got "left": leave it out, or give "right"',
    "truncation_side",
  );
}

/** How two texts are put before the model. */
export function readPairOptions(
  fields: Fields,
  context: RouteContext,
  head: AnswerHead,
): ScoreOptions {
  const kwargs = fields.record("chat_template_kwargs");
  checkIdleFields(fields, PAIRED);
  const instruction = fields.string("instruction");
  const limit = context.llm.info.maxPromptLength;
  return {
    ...readRequestOptions(fields, context, head),
    maxTokensPerQuery: readCount(fields, "max_tokens_per_query", limit),
    maxTokensPerDoc: readCount(fields, "max_tokens_per_doc", limit),
    ...(instruction === undefined ? {} : { instruction }),
    ...(kwargs === undefined ? {} : { chatTemplateKwargs: kwargs }),
  };
}

function readCount(fields: Fields, name: string, limit: number): number {
  const count = fields.integer(name) ?? 0;
  if (count < 0) throw badRequest(`${name} must be a non-negative integer, got ${count}`, name);
  if (count < limit) return count;
  throw badRequest(`${name} (${count}) must be less than max_model_len (${limit}).`, name);
}
