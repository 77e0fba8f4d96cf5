/** A request for completions: its prompts, and whether they are repeated. */

import type { Prompt } from "../llm.ts";
import type { Fields } from "./body.ts";
import type { RouteContext } from "./context.ts";
import { type GenerationRequest, readGenerationRequest } from "./generation_request.ts";
import { completionParams } from "./params.ts";
import { readPrompts } from "./prompt_field.ts";
import { refuseUnsupported } from "./unsupported.ts";

/** How much of a prompt its answer repeats. */
export interface Echo {
  /** Nothing follows the prompt: no tokens were asked for. */
  readonly isAll: boolean;
  /** Not where the prompt's token ids are returned as well. */
  readonly hasText: boolean;
}

/** A checked request. The choices of the first prompt come first. */
export interface CompletionRequest extends GenerationRequest {
  readonly prompts: readonly Prompt[];
  /** The field of each prompt: `prompt` itself, or an entry of it. */
  readonly promptPaths: readonly string[];
  /** undefined: the prompts are not repeated. */
  readonly echo: Echo | undefined;
}

/** Reads and checks a body. */
export function readCompletionRequest(fields: Fields, context: RouteContext): CompletionRequest {
  refuseUnsupported(fields, "completions");
  const prompts = readPrompts(fields, context.llm.info);
  const sent = fields.raw("prompt");
  const isList = Array.isArray(sent) && typeof sent[0] !== "number";
  const isEcho = fields.boolean("echo") ?? false;
  const request = readGenerationRequest(fields, context, "cmpl-", completionParams);
  const addSpecialTokens = fields.boolean("add_special_tokens") ?? true;
  return {
    ...request,
    prompts,
    promptPaths: prompts.map((_, index) => isList ? `prompt.${index}` : "prompt"),
    options: { ...request.options, addSpecialTokens },
    echo: isEcho
      ? { isAll: fields.integer("max_tokens") === 0, hasText: !request.returnTokenIds }
      : undefined,
  };
}
