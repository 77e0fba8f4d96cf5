/** What `/v1/embeddings`, `/pooling` and `/classify` have in common: their prompts, and what is made of them. */

import { InvalidParameterError } from "../base/errors.ts";
import type { EmbedOptions, Prompt } from "../llm.ts";
import type { PoolingRequestOutput } from "../outputs.ts";
import { PoolingParams, type PoolingTask } from "../pooling/params.ts";
import { type Fields, readTokenIds } from "./body.ts";
import type { AnswerHead, RouteContext } from "./context.ts";
import { badRequest, show } from "./errors.ts";
import { readChatOptions, readMessages } from "./messages.ts";
import { readRequestOptions } from "./request_options.ts";
import { checkHasTemplate, withDefaultKwargs } from "./template_defaults.ts";
import type { PoolingUsage } from "./types.ts";

/** Most inputs of one request, as OpenAI has it. */
const INPUT_COUNT_MAX = 2048;

const INPUT_FORMS = "a string, an array of strings, an array of token ids, or an array of such " +
  "arrays";

/** A text, texts, the ids of one prompt, lists of ids, or the messages of one conversation. */
export async function readInputs(fields: Fields, context: RouteContext): Promise<Prompt[]> {
  if (fields.has("messages")) return [await conversation(fields, context)];
  const value = fields.raw("input");
  if (value === undefined) throw fields.missing("input");
  if (typeof value === "string") return [value];
  if (!Array.isArray(value)) throw fields.shapeError("input", value, INPUT_FORMS, "string_type");
  if (value.length === 0) {
    throw badRequest(
      "You must pass at least one prompt: input is [], give a string or an array that is not empty",
      "input",
    );
  }
  const { vocabSize } = context.llm.info;
  if (typeof value[0] === "number") return [readIds(fields, value, "input", vocabSize)];
  if (value.length > INPUT_COUNT_MAX) {
    throw badRequest(
      `Cannot use input of ${value.length} prompts: it must have at most ${INPUT_COUNT_MAX}`,
      "input",
    );
  }
  const wantsText = typeof value[0] === "string";
  return value.map((item: unknown, index) => {
    if (wantsText && typeof item === "string") return item;
    const path = `input.${index}`;
    if (!wantsText && Array.isArray(item)) return readIds(fields, item, path, vocabSize);
    if (wantsText) throw fields.shapeError(path, item, "a string like the first", "string_type");
    throw fields.shapeError(path, item, "an array of token ids, or a string", "list_type");
  });
}

function readIds(
  fields: Fields,
  list: readonly unknown[],
  path: string,
  vocabSize: number,
): Prompt {
  if (list.length === 0) {
    throw badRequest(`Cannot use ${path} []: a prompt must have at least one token id`, path);
  }
  return {
    promptTokenIds: readTokenIds(fields, list, path, vocabSize),
  };
}

/** A conversation is a prompt without the assistant's header: there is no answer to begin. */
async function conversation(fields: Fields, context: RouteContext): Promise<Prompt> {
  const { llm, settings, signal } = context;
  if (fields.has("input")) {
    throw badRequest(
      `Cannot use input ${show(fields.raw("input"))} together with messages: give one of them`,
      "input",
    );
  }
  if (fields.boolean("add_special_tokens") === true) {
    throw badRequest(
      "Cannot use add_special_tokens true with messages: the chat template writes special tokens " +
        "itself, leave it out",
      "add_special_tokens",
    );
  }
  const messages = readMessages(fields, settings.servedModelNames[0]);
  const options = readChatOptions(fields, settings.trustRequestChatTemplate, false);
  checkHasTemplate(options, context, "give input in place of messages");
  return {
    promptTokenIds: await llm.tokenizeChat(messages, {
      ...withDefaultKwargs(options, settings),
      signal,
    }),
  };
}

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

/** Which end of a prompt is cut: only the one that the model code cuts. */
export function checkTruncationSide(fields: Fields, side: "left" | "right"): void {
  const given = fields.choice("truncation_side", ["left", "right"]);
  if (given === undefined || given === side) return;
  throw badRequest(
    `truncation_side is not supported yet, got "${given}": leave it out, or give "${side}"`,
    "truncation_side",
  );
}

/** What the SDK is given besides the prompts. */
export function readPoolingOptions(
  fields: Fields,
  context: RouteContext,
  head: AnswerHead,
): EmbedOptions {
  return {
    ...readRequestOptions(fields, context, head),
    addSpecialTokens: fields.boolean("add_special_tokens") ?? true,
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
