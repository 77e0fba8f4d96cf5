/** A request for a chat completion. */

import type { ChatMessage, ChatOptions } from "../llm.ts";
import type { Fields } from "./body.ts";
import type { RouteContext } from "./context.ts";
import { type GenerationRequest, readGenerationRequest } from "./generation_request.ts";
import { readChatOptions, readMessages } from "./messages.ts";
import { chatParams } from "./params.ts";
import { checkHasTemplate, withDefaultKwargs } from "./template_defaults.ts";
import { refuseUnsupported } from "./unsupported.ts";

/** A checked request. */
export interface ChatRequest extends GenerationRequest {
  readonly messages: readonly ChatMessage[];
  readonly options: ChatOptions;
  readonly returnPromptText: boolean;
  /** The role of the answer. */
  readonly role: string;
  /** What the answer repeats before it goes on; "" for nothing. */
  readonly echo: string;
}

/** Reads and checks a body. */
export function readChatRequest(fields: Fields, context: RouteContext): ChatRequest {
  const { servedModelNames, trustRequestChatTemplate, responseRole } = context.settings;
  refuseUnsupported(fields, "chat");
  const messages = readMessages(fields, servedModelNames[0]);
  const given = readChatOptions(fields, trustRequestChatTemplate);
  const options = withDefaultKwargs(given, context.settings);
  checkHasTemplate(options, context, "use /v1/completions");
  const isEcho = fields.boolean("echo") ?? false;
  const request = readGenerationRequest(fields, context, "chatcmpl-", chatParams);
  const last = messages.at(-1);
  const role = options.addGenerationPrompt === false ? last?.role ?? responseRole : responseRole;
  return {
    ...request,
    messages,
    options: { ...options, ...request.options },
    returnPromptText: fields.boolean("return_prompt_text") ?? false,
    role,
    // A message of another role is not what the answer goes on with.
    echo: isEcho && last?.role === role ? textOf(last) : "",
  };
}

function textOf({ content }: ChatMessage): string {
  if (content === undefined || content === null) return "";
  if (typeof content === "string") return content;
  return content.map((part) => typeof part === "string" ? part : String(part["text"] ?? ""))
    .join("\n");
}
