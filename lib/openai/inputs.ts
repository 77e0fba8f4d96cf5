/** The prompts of `/v1/embeddings`, `/pooling` and `/classify`: texts, token ids or conversations. */

import type { ChatMessage, Prompt } from "../llm.ts";
import { Fields, readTokenIds } from "./body.ts";
import type { RouteContext } from "./context.ts";
import { badRequest, show } from "./errors.ts";
import { readChatOptions, readMessages } from "./messages.ts";
import { checkHasTemplate, withDefaultKwargs } from "./template_defaults.ts";

/** Most inputs of one request, as OpenAI has it. */
const INPUT_COUNT_MAX = 2048;

const INPUT_FORMS = "a string, an array of strings, an array of token ids, or an array of such " +
  "arrays";

/**
 * A text, texts, the ids of one prompt or lists of ids; or the messages of one conversation or of
 * several, which vLLM takes under both names.
 */
export async function readInputs(fields: Fields, context: RouteContext): Promise<Prompt[]> {
  const hasMessages = fields.has("messages");
  if (hasMessages && fields.has("input")) {
    throw badRequest(
      `Cannot use input ${show(fields.raw("input"))} together with messages: give one of them`,
      "input",
    );
  }
  if (hasMessages) return await conversations("messages", fields, context);
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
  if (isMessage(value[0]) || Array.isArray(value[0]) && isMessage(value[0][0])) {
    return await conversations("input", fields, context);
  }
  checkCount("input", value);
  const wantsText = typeof value[0] === "string";
  return value.map((item: unknown, index) => {
    if (wantsText && typeof item === "string") return item;
    const path = `input.${index}`;
    if (!wantsText && Array.isArray(item)) return readIds(fields, item, path, vocabSize);
    if (wantsText) throw fields.shapeError(path, item, "a string like the first", "string_type");
    throw fields.shapeError(path, item, "an array of token ids, or a string", "list_type");
  });
}

function checkCount(name: string, list: readonly unknown[]): void {
  if (list.length <= INPUT_COUNT_MAX) return;
  throw badRequest(
    `Cannot use ${name} of ${list.length} prompts: it must have at most ${INPUT_COUNT_MAX}`,
    name,
  );
}

function isMessage(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
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
  return { promptTokenIds: readTokenIds(fields, list, path, vocabSize) };
}

/** A conversation is a prompt without the assistant's header: there is no answer to begin. */
async function conversations(
  name: "input" | "messages",
  fields: Fields,
  context: RouteContext,
): Promise<Prompt[]> {
  const { llm, settings, signal } = context;
  const list = readConversations(name, fields, settings.servedModelNames[0]);
  const options = readChatOptions(fields, settings.trustRequestChatTemplate, false);
  checkHasTemplate(options, context, "give texts in place of messages");
  const rendering = { ...withDefaultKwargs(options, settings), signal };
  return await Promise.all(list.map(async (messages) => ({
    promptTokenIds: await llm.tokenizeChat(messages, rendering),
  })));
}

/** One array of messages, or an array of such arrays. */
function readConversations(name: string, fields: Fields, modelName: string): ChatMessage[][] {
  const list = fields.list(name) ?? [];
  if (!Array.isArray(list[0])) return [readMessages(fields, modelName, name)];
  checkCount(name, list);
  const items = new Fields({ ...list }, fields.path(name));
  return list.map((_, index) => readMessages(items, modelName, String(index)));
}
