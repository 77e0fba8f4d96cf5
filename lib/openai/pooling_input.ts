/** What `/v1/embeddings`, `/pooling` and `/classify` have in common besides their prompts: what is made of them. */

import { InvalidParameterError } from "../base/errors.ts";
import type { EmbedOptions } from "../llm.ts";
import type { PoolingRequestOutput } from "../outputs.ts";
import { PoolingParams, type PoolingTask } from "../pooling/params.ts";
import type { Fields } from "./body.ts";
import type { AnswerHead, RouteContext } from "./context.ts";
import { badRequest } from "./errors.ts";
import { checkIdleFields, POOLED } from "./idle_fields.ts";
import { readRequestOptions } from "./request_options.ts";
import type { PoolingUsage } from "./types.ts";

/** What is to be made of the prompts; `normalize` is Furiosa-LLM's word for `use_activation` of vectors. */
export function readPoolingParams(fields: Fields, task: PoolingTask): PoolingParams {
  const truncatePromptTokens = readTruncation(fields);
  const dimensions = fields.integer("dimensions");
  const useActivation = fields.boolean("use_activation");
  const normalize = fields.boolean("normalize") ?? useActivation;
  return new PoolingParams({
    task,
    ...(truncatePromptTokens === undefined ? {} : { truncatePromptTokens }),
    ...(dimensions === undefined ? {} : { dimensions }),
    ...(normalize === undefined ? {} : { normalize }),
    ...(useActivation === undefined ? {} : { useActivation }),
  });
}

/** How many tokens are kept; that it fits the model is checked with the prompts. */
export function readTruncation(fields: Fields): number | undefined {
  const count = fields.integer("truncate_prompt_tokens");
  if (count === undefined || count >= -1) return count;
  throw fields.shapeError("truncate_prompt_tokens", count, "at least -1", "greater_than_equal");
}

/** What the SDK is given besides the prompts. */
export function readPoolingOptions(
  fields: Fields,
  context: RouteContext,
  head: AnswerHead,
): EmbedOptions {
  checkIdleFields(fields, POOLED);
  return {
    ...readRequestOptions(fields, context, head),
    addSpecialTokens: fields.boolean("add_special_tokens") ?? true,
    truncationSide: fields.choice("truncation_side", ["left", "right"]) ?? "left",
  };
}

/** Waits for the model; what it says of a prompt's token ids is said of the field they came from. */
export async function ofField<Outputs>(name: string, outputs: Promise<Outputs>): Promise<Outputs> {
  try {
    return await outputs;
  } catch (error) {
    if (!(error instanceof InvalidParameterError && error.parameter === "promptTokenIds")) {
      throw error;
    }
    throw badRequest(
      `Cannot use ${name}: ${error.message.replaceAll("promptTokenIds", "its token ids")}`,
      name,
    );
  }
}

/** Tokens of all prompts together. Nothing is generated. */
export function poolingUsage(
  outputs: readonly Pick<PoolingRequestOutput, "promptTokenIds" | "cachedTokens">[],
): PoolingUsage {
  let tokens = 0;
  let cached = 0;
  for (const { promptTokenIds, cachedTokens } of outputs) {
    tokens += promptTokenIds.length;
    cached += cachedTokens;
  }
  return {
    prompt_tokens: tokens,
    total_tokens: tokens,
    completion_tokens: 0,
    prompt_tokens_details: { cached_tokens: cached },
    completion_tokens_details: null,
  };
}
