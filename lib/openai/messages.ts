/** The conversation in a request body: checked, and its parts brought to text parts. */

import { isRecord } from "../base/record.ts";
import type { ChatMessage, ChatOptions } from "../llm.ts";
import type { Fields } from "./body.ts";
import { badRequest, badShape, show } from "./errors.ts";
import { parseJson } from "./json.ts";

const MEDIA_TYPES: readonly string[] = [
  "audio_embeds",
  "audio_url",
  "file",
  "image_embeds",
  "image_pil",
  "image_url",
  "input_audio",
  "input_image",
  "prompt_embeds",
  "tool_reference",
  "video_url",
];

/** Part type → the key its text is under. */
const TEXT_KEYS: ReadonlyMap<unknown, string> = new Map([
  ["text", "text"],
  ["input_text", "text"],
  ["output_text", "text"],
  ["refusal", "refusal"],
  ["thinking", "thinking"],
]);

/** What a message may say besides its content, as text. */
const TEXT_FIELDS: readonly string[] = ["name", "tool_call_id", "reasoning", "reasoning_content"];

/** A field of messages. Further keys of a message reach the template as they are. */
export function readMessages(
  fields: Fields,
  modelName: string,
  name: string = "messages",
): ChatMessage[] {
  const messages = fields.records(name);
  if (messages === undefined) throw fields.missing(name);
  const path = fields.path(name);
  return messages.map((message, index) => checkMessage(message, `${path}.${index}`, modelName));
}

function checkMessage(
  message: Readonly<Record<string, unknown>>,
  path: string,
  modelName: string,
): ChatMessage {
  const { role, content } = message;
  if (role === undefined) {
    throw badShape(`Cannot read ${path}.role: Field required (missing)`, `${path}.role`);
  }
  if (typeof role !== "string") throw wrong(`${path}.role`, role, "a string", "string_type");
  for (const key of TEXT_FIELDS) {
    const text = message[key] ?? "";
    if (typeof text !== "string") throw wrong(`${path}.${key}`, text, "a string", "string_type");
  }
  if (role === "assistant") checkToolCalls(message["tool_calls"], path);
  if (content === undefined || content === null || typeof content === "string") {
    return message as ChatMessage;
  }
  if (!Array.isArray(content)) {
    throw wrong(`${path}.content`, content, "a string, an array of parts or null", "list_type");
  }
  const parts = content.map((part: unknown, at) =>
    checkPart(part, `${path}.content.${at}`, { modelName, role })
  );
  return { ...message, role, content: parts };
}

function checkPart(
  part: unknown,
  path: string,
  { modelName, role }: { readonly modelName: string; readonly role: string },
): string | Readonly<Record<string, unknown>> {
  if (typeof part === "string") return part;
  if (!isRecord(part)) throw wrong(path, part, "a part or a string", "dict_type");
  const type = part["type"];
  const key = TEXT_KEYS.get(type);
  if (key !== undefined) {
    const text = part[key];
    if (typeof text !== "string") throw wrong(`${path}.${key}`, text, "a string", "string_type");
    return type === "text" ? part : { type: "text", text };
  }
  // A part may leave its type to be guessed from its keys.
  const media = MEDIA_TYPES.find((known) =>
    type === undefined ? Object.hasOwn(part, known) : type === known
  );
  if (media !== undefined) {
    if (role === "system") return { ...part, type: media }; // never shown
    throw badRequest(`${modelName} is not a multimodal model`, path);
  }
  if (type === undefined) {
    throw badRequest("Missing 'type' field in multimodal part.", "type");
  }
  throw badRequest(
    `Unsupported chat content part type: ${show(type)}. Supported types: ` +
      `${[...TEXT_KEYS.keys()].join(", ")}.`,
    "type",
  );
}

function checkToolCalls(calls: unknown, path: string): void {
  if (calls === undefined || calls === null) return;
  if (!Array.isArray(calls)) throw wrong(`${path}.tool_calls`, calls, "an array", "list_type");
  for (const [index, call] of calls.entries()) {
    if (!isRecord(call)) {
      throw badRequest("assistant tool_calls entries must be objects.", "tool_calls");
    }
    const called = call["function"];
    if ((call["type"] ?? "function") !== "function" || !isRecord(called)) {
      throw badRequest(
        "chat completions only support assistant tool_calls of type 'function'.",
        "tool_calls",
      );
    }
    checkArguments(called["arguments"], `${path}.tool_calls.${index}.function.arguments`);
  }
}

function checkArguments(text: unknown, path: string): void {
  if (typeof text !== "string" || text === "") return;
  try {
    parseJson(text);
  } catch {
    throw badRequest(`Cannot use ${path} ${show(text)}: it must be JSON`, path);
  }
}

/**
 * The fields that steer how a conversation becomes a prompt.
 *
 * @param addGenerationPrompt what counts where the request does not say
 */
export function readChatOptions(
  fields: Fields,
  trustTemplate: boolean,
  addGenerationPrompt: boolean = true,
): ChatOptions {
  const continueFinal = fields.boolean("continue_final_message") ?? false;
  const addPrompt = fields.boolean("add_generation_prompt") ?? addGenerationPrompt;
  if (continueFinal && addPrompt) {
    const hint = fields.has("add_generation_prompt")
      ? ""
      : " The second is true unless it is sent.";
    throw badRequest(
      "Cannot set both `continue_final_message` and `add_generation_prompt` to True." + hint,
      "continue_final_message",
    );
  }
  const chatTemplate = fields.string("chat_template");
  if (chatTemplate !== undefined && !trustTemplate) {
    throw badRequest(
      "Chat template is passed with request, but --trust-request-chat-template is not set. " +
        "Refused request with untrusted chat template.",
      "chat_template",
    );
  }
  const documents = fields.records("documents");
  const addSpecialTokens = fields.boolean("add_special_tokens") ?? false;
  return {
    addSpecialTokens,
    addGenerationPrompt: addPrompt,
    continueFinalMessage: continueFinal,
    chatTemplateKwargs: readTemplateKwargs(fields),
    ...(chatTemplate === undefined ? {} : { chatTemplate }),
    ...(documents === undefined ? {} : { documents }),
  };
}

const EFFORTS: readonly string[] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

function readTemplateKwargs(fields: Fields): Readonly<Record<string, unknown>> {
  const given = fields.record("chat_template_kwargs") ?? {};
  const reserved = ["chat_template", "tokenize"].filter((key) => Object.hasOwn(given, key));
  if (reserved.length > 0) {
    const names = reserved.map((key) => `'${key}'`).join(", ");
    throw badRequest(
      `Found unexpected chat template kwargs from request: {${names}}`,
      "chat_template_kwargs",
    );
  }
  const effort = fields.choice("reasoning_effort", EFFORTS);
  if (effort === undefined) return given;
  return { enable_thinking: effort !== "none", reasoning_effort: effort, ...given };
}

function wrong(path: string, value: unknown, right: string, token: string): Error {
  return badShape(`Cannot use ${path} ${show(value)}: it must be ${right} (${token})`, path);
}
