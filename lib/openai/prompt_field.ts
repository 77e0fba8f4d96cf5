/** The `prompt` field of a completions request. */

import type { Prompt } from "../llm.ts";
import { type Fields, readTokenIds } from "./body.ts";
import { badRequest } from "./errors.ts";

const PROMPT_COUNT_MAX = 1024;

/** A text, a list of texts, the ids of one prompt, or a list of such lists. */
export function readPrompts(fields: Fields, vocabSize: number): Prompt[] {
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
