/** Conversations put into the one shape that chat templates are written for. */

import { InvalidParameterError } from "../base/errors.ts";
import { Turns } from "../base/turns.ts";
import { isRecord } from "../base/record.ts";

/** One message, OpenAI-shaped. */
export type TemplateMessage = Readonly<Record<string, unknown>>;

/** A message as templates see it: plain data of our own, free to be changed. */
export type PlainMessage = Record<string, unknown>;

/** What the template wants. */
export interface MessageRules {
  /** Content as a list of parts rather than as text. */
  readonly contentAsParts: boolean;
  /** Whether text stays text even so. */
  readonly takesTextContent: boolean;
  /** Whether it knows the role "developer". */
  readonly namesDeveloper: boolean;
}

/** Deeper data is a mistake, or meant to break something. */
const DEPTH_MAX = 100;

/** Parts that are text, and the key that holds it. */
const TEXT_KEYS: ReadonlyMap<unknown, string> = new Map([
  ["text", "text"],
  ["input_text", "text"],
  ["output_text", "text"],
  ["refusal", "refusal"],
  ["thinking", "thinking"],
]);

/**
 * Messages as templates expect them:
 *
 * - content is never null; text parts are joined by line ends, or text is wrapped into a part,
 *   whichever the template reads; parts of tool results are always joined
 * - the arguments of tool calls are objects, and an empty list of calls is no list
 * - reasoning is there under both of its names; given twice, `reasoning` counts
 * - a template that does not know developers gets a system message, one, at the beginning
 *
 * @throws {InvalidParameterError} on anything that is not a message, naming where it is.
 */
export async function normalizeMessages(
  messages: readonly TemplateMessage[],
  rules: MessageRules,
): Promise<PlainMessage[]> {
  if (!Array.isArray(messages)) fail("messages", messages, "it must be a list");
  const plain: PlainMessage[] = [];
  const turns = new Turns();
  for (const [index, message] of messages.entries()) {
    plain.push(normalizeMessage(message, `messages[${index}]`, rules));
    if (turns.isOver) await turns.next(); // a conversation may have thousands
  }
  const converts = !rules.namesDeveloper && plain.some(({ role }) => role === "developer");
  return converts ? mergeSystem(plain, rules) : plain;
}

/** A copy of JSON-like data; anything else in it is refused. */
export function plainData(value: unknown, where: string, depth = 0): unknown {
  if (depth > DEPTH_MAX) fail(where, value, `it must not be nested deeper than ${DEPTH_MAX}`);
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "number") return value;
  if (Array.isArray(value)) {
    return value.map((item, index) => plainData(item, `${where}[${index}]`, depth + 1));
  }
  if (!isRecord(value)) {
    return fail(where, value, "it must be text, a number, a boolean, null, a list or an object");
  }
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  return Object.fromEntries(
    entries.map(([key, item]) => [key, plainData(item, `${where}.${key}`, depth + 1)]),
  );
}

function normalizeMessage(value: unknown, where: string, rules: MessageRules): PlainMessage {
  if (!isRecord(value)) fail(where, value, "it must be an object");
  const message = plainData(value, where) as PlainMessage;
  if (typeof message["role"] !== "string") {
    fail(`${where}.role`, message["role"], "it must be text");
  }
  message["content"] = normalizeContent(message, `${where}.content`, rules);
  normalizeToolCalls(message, where);
  const reasoning = message["reasoning"] ?? message["reasoning_content"];
  if (typeof reasoning === "string") {
    message["reasoning"] = reasoning;
    message["reasoning_content"] = reasoning;
  }
  return message;
}

function normalizeContent(message: PlainMessage, where: string, rules: MessageRules): unknown {
  const asParts = rules.contentAsParts && message["role"] !== "tool";
  const content = message["content"] ?? (asParts && !rules.takesTextContent ? [] : "");
  if (typeof content === "string") {
    return asParts && !rules.takesTextContent ? [{ type: "text", text: content }] : content;
  }
  if (!Array.isArray(content)) fail(where, content, "it must be text or a list of parts");
  const parts = content.flatMap((part, index) => {
    const textPart = normalizePart(part, `${where}[${index}]`, message["role"] === "system");
    return textPart === undefined ? [] : [textPart];
  });
  return asParts ? parts : joinParts(parts, "\n");
}

interface TextPart {
  readonly type: "text";
  readonly text: string;
}

/** The part as text; undefined for what a system message may carry and no template shows. */
function normalizePart(part: unknown, where: string, inSystem: boolean): TextPart | undefined {
  if (typeof part === "string") return { type: "text", text: part };
  if (!isRecord(part)) return fail(where, part, "it must be text or an object");
  const type = part["type"] ?? "text";
  const key = TEXT_KEYS.get(type);
  if (key === undefined) {
    if (inSystem) return undefined;
    return fail(`${where}.type`, type, 'this model reads text: it must be "text"');
  }
  const text = part[key];
  if (typeof text !== "string") return fail(`${where}.${key}`, text, "it must be text");
  return { ...part, type: "text", text };
}

function joinParts(parts: readonly TextPart[], separator: string): string {
  return parts.map((part) => part.text).join(separator);
}

function normalizeToolCalls(message: PlainMessage, where: string): void {
  const calls = message["tool_calls"];
  if (calls === undefined) return;
  if (calls === null || (Array.isArray(calls) && calls.length === 0)) {
    delete message["tool_calls"];
    return;
  }
  if (!Array.isArray(calls)) fail(`${where}.tool_calls`, calls, "it must be a list");
  calls.forEach((call: unknown, index: number) => {
    const at = `${where}.tool_calls[${index}]`;
    if (!isRecord(call)) fail(at, call, "it must be an object");
    const called = call["function"];
    if (!isRecord(called)) return; // a shape of the template's own
    called["arguments"] = parseArguments(called["arguments"], `${at}.function.arguments`);
  });
}

function parseArguments(value: unknown, where: string): unknown {
  if (value === undefined || value === null || value === "") return {};
  if (typeof value !== "string") return value;
  try {
    return JSON.parse(value) ?? {};
  } catch (error) {
    return fail(where, value, `it must be JSON: ${(error as Error).message}`);
  }
}

/** Developers become the system, and the system speaks once and first. */
function mergeSystem(messages: readonly PlainMessage[], rules: MessageRules): PlainMessage[] {
  const system: PlainMessage[] = [];
  const others: PlainMessage[] = [];
  for (const message of messages) {
    const isSystem = message["role"] === "developer" || message["role"] === "system";
    (isSystem ? system : others).push(message);
  }
  const text = system.map(({ content }) =>
    typeof content === "string" ? content : joinParts(content as TextPart[], "\n")
  ).join("\n\n");
  const asText = !rules.contentAsParts || rules.takesTextContent;
  const content = asText ? text : [{ type: "text", text }];
  return [{ ...system[0], role: "system", content }, ...others];
}

function fail(where: string, value: unknown, problem: string): never {
  const shown = typeof value === "string" ? JSON.stringify(value.slice(0, 100)) : typeof value;
  const parameter = /^\w+/.exec(where)?.[0] ?? where;
  throw new InvalidParameterError(parameter, value, `Cannot use ${where} (${shown}): ${problem}`);
}
