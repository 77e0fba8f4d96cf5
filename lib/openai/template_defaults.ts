/** What the server has of chat templates: whether there is one, and the variables it sets. */

import type { ChatOptions } from "../llm.ts";
import type { RouteContext, Settings } from "./context.ts";
import { badRequest } from "./errors.ts";

/** The options with the server's variables beneath those of the request. */
export function withDefaultKwargs(
  options: ChatOptions,
  { defaultChatTemplateKwargs: defaults }: Pick<Settings, "defaultChatTemplateKwargs">,
): ChatOptions {
  if (Object.keys(defaults).length === 0) return options;
  return { ...options, chatTemplateKwargs: { ...defaults, ...options.chatTemplateKwargs } };
}

/**
 * vLLM's words for a model without a template; what to do about it is said behind them.
 *
 * @param otherwise what a client can do without one
 */
export function checkHasTemplate(
  { chatTemplate }: ChatOptions,
  { llm }: Pick<RouteContext, "llm">,
  otherwise: string,
): void {
  if (llm.info.hasChatTemplate || chatTemplate !== undefined) return;
  throw badRequest(
    "As of transformers v4.44, default chat template is no longer allowed, so you must provide a " +
      "chat template if the tokenizer does not define one. Start the server with " +
      `--chat-template, or ${otherwise}.`,
    "messages",
  );
}
