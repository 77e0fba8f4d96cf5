/** The `prompt` field of a completions request. */

import { ContextLengthError, InvalidParameterError } from "../base/errors.ts";
import type { ModelInfo, Prompt } from "../llm.ts";
import type { SamplingParams } from "../sampling/params.ts";
import { type Fields, readTokenIds } from "./body.ts";
import { badRequest, contextLength } from "./errors.ts";
import { wireWords } from "./wire_words.ts";

const PROMPT_COUNT_MAX = 1024;

/**
 * A text, a list of texts, the ids of one prompt, or a list of such lists.
 *
 * All prompts of a request are queued together: more than may wait would be refused even by a model
 * that does nothing else, so to come again later is no help.
 */
export function readPrompts(
  fields: Fields,
  { vocabSize, maxWaitingRequests }: Pick<ModelInfo, "vocabSize" | "maxWaitingRequests">,
): Prompt[] {
  const value = fields.raw("prompt");
  if (typeof value === "string" && value !== "") return [value];
  const list = value === undefined || value === "" ? [] : promptList(fields, value);
  if (list.length === 0) {
    throw badRequest("Either prompt or prompt_embeds must be provided and non-empty.", "prompt");
  }
  if (typeof list[0] === "number") return [readIds(fields, list, "prompt", vocabSize)];
  if (list.length > PROMPT_COUNT_MAX) {
    throw badRequest(
      `prompt list length ${list.length} exceeds the maximum allowed count of ${PROMPT_COUNT_MAX}.`,
      "prompt",
    );
  }
  if (list.length > maxWaitingRequests) {
    throw badRequest(
      `prompt list length ${list.length} exceeds the ${maxWaitingRequests} requests that this ` +
        "server lets wait. Please send fewer prompts at once.",
      "prompt",
    );
  }
  const wantsText = typeof list[0] === "string";
  return list.map((item, index) => {
    const path = `prompt.${index}`;
    if (wantsText && typeof item === "string") return item;
    if (!wantsText && Array.isArray(item)) return readIds(fields, item, path, vocabSize);
    const right = wantsText ? "a string like the first" : "an array of token ids";
    throw fields.shapeError(path, item, right, wantsText ? "string_type" : "list_type");
  });
}

function promptList(fields: Fields, value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  const right = "a string, an array of strings, or token ids";
  throw fields.shapeError("prompt", value, right, "string_type");
}

function readIds(
  fields: Fields,
  list: readonly unknown[],
  path: string,
  vocabSize: number,
): { readonly promptTokenIds: readonly number[] } {
  if (list.length === 0) throw badRequest("The decoder prompt cannot be empty", path);
  return { promptTokenIds: readTokenIds(fields, list, path, vocabSize) };
}

/**
 * An answer's deltas; what the model says of the prompt's tokens is said of the field it came from,
 * and of its length with the `maxTokens` that were asked for behind it.
 */
export async function* ofPrompt<Delta>(
  path: string,
  { maxTokens }: Pick<SamplingParams, "maxTokens">,
  deltas: AsyncGenerator<Delta, void, void>,
): AsyncGenerator<Delta, void, void> {
  try {
    yield* deltas;
  } catch (error) {
    if (error instanceof ContextLengthError) throw contextLength(error, maxTokens ?? 0);
    if (!(error instanceof InvalidParameterError && error.parameter === "promptTokenIds")) {
      throw error;
    }
    throw badRequest(wireWords(error, path), path);
  }
}
