/** Variables of the chat template that the server sets where a request does not. */

import type { ChatOptions } from "../llm.ts";
import type { Settings } from "./context.ts";

/** The options with the server's variables beneath those of the request. */
export function withDefaultKwargs(
  options: ChatOptions,
  { defaultChatTemplateKwargs: defaults }: Pick<Settings, "defaultChatTemplateKwargs">,
): ChatOptions {
  if (Object.keys(defaults).length === 0) return options;
  return { ...options, chatTemplateKwargs: { ...defaults, ...options.chatTemplateKwargs } };
}
