/** What users give as a prompt, and how it becomes token ids. */

import { ChatTemplateError, ContextLengthError, InvalidParameterError } from "./base/errors.ts";
import { isRecord } from "./base/record.ts";
import type { SamplingParams } from "./sampling/params.ts";
import type { BackgroundTokenizer } from "./text/background_tokenizer.ts";
import type { ChatTemplate } from "./text/chat_template.ts";
import type { Tokenizer } from "./text/tokenizer.ts";
import type { TraceOptions } from "./tracing.ts";

/** One prompt: text, or token ids as they are. */
export type Prompt =
  | string
  | { readonly prompt: string }
  | { readonly promptTokenIds: readonly number[] };

/** A part of a message, whoever declares its type: `{ type: "text", text }` and others. */
export type ContentPart =
  | Readonly<Record<string, unknown>>
  | { readonly type?: unknown; readonly text?: unknown };

/** What every message says, whoever declares its type: that of OpenAI's package has no other keys. */
export interface DeclaredMessage {
  /** `system`, `user`, `assistant`, `tool`, or whatever the template knows. */
  readonly role: string;
  /** Text, or parts of it. */
  readonly content?: string | readonly (string | ContentPart)[] | null;
}

/** A message with whatever else the template reads: `name`, `tool_calls`, `reasoning_content` … */
export interface OpenMessage extends DeclaredMessage {
  /** Reaches the template as it is. */
  readonly [key: string]: unknown;
}

/** One message of a conversation, OpenAI-shaped: its keys reach the chat template as they are. */
export type ChatMessage = OpenMessage | DeclaredMessage;

/** What every request takes besides its sampling parameters. */
export interface RequestOptions {
  /** Ends the request; its blocks are freed and the call rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Shown in outputs. Default: a random UUID. */
  readonly requestId?: string;
  /** Lower runs earlier. Default 0. */
  readonly priority?: number;
  /**
   * Separates prefix caches: the request reuses only what requests of the same salt have computed,
   * and only they reuse what it computes. From 1 to 1024 characters. Default: none, which is a
   * class of its own. Outputs do not depend on it.
   */
  readonly cacheSalt?: string;
  /** How it shows in traces, where `LLM.load` was given a tracer. */
  readonly trace?: TraceOptions;
  /**
   * Let the tokenizer add its special tokens to a prompt of text. Default true; for a conversation
   * false, as its template writes them.
   */
  readonly addSpecialTokens?: boolean;
  /** Called for each prompt when it waits in the engine: it is refused no more. */
  readonly onQueued?: () => void;
  /** Which tokens of a prompt `truncatePromptTokens` drops: the first ("left", the default) or the last. */
  readonly truncationSide?: "left" | "right";
}

/** How a conversation becomes a prompt. */
export interface ChatOptions extends RequestOptions {
  /** A template that replaces the model's for this call. */
  readonly chatTemplate?: string;
  /** End the prompt with the header of the assistant's turn. Default true. */
  readonly addGenerationPrompt?: boolean;
  /** Leave the last message open for the model to go on with. Default false. */
  readonly continueFinalMessage?: boolean;
  /** Further template variables. */
  readonly chatTemplateKwargs?: Readonly<Record<string, unknown>>;
  /** Offered to the template as `tools`. */
  readonly tools?: readonly Readonly<Record<string, unknown>>[];
  /** Offered to the template as `documents`. */
  readonly documents?: readonly Readonly<Record<string, unknown>>[];
}

/** A prompt as the engine takes it, with the text it came from. */
export interface EncodedPrompt {
  readonly text: string;
  readonly tokenIds: readonly number[];
}

/** Whether a value is a conversation rather than a prompt. */
export function isConversation(input: unknown): input is readonly ChatMessage[] {
  return Array.isArray(input) &&
    input.every((item) => typeof item === "object" && item !== null && "role" in item);
}

/** What turns text into tokens, and how many of them a prompt may have. */
export interface Encoding {
  readonly tokenizer: Tokenizer;
  readonly maxPromptLength: number;
  /** Of a longer prompt, so many tokens are kept. Default: all. */
  readonly keptTokens?: number;
  /** Where tokens are dropped. Default "left". */
  readonly truncationSide?: "left" | "right";
}

/** What is left of a prompt that may be too long. */
function truncated<Ids extends readonly number[]>(
  tokenIds: Ids,
  { keptTokens, truncationSide = "left" }: Encoding,
): Ids | number[] {
  if (keptTokens === undefined) return tokenIds;
  return truncationSide === "left" ? tokenIds.slice(-keptTokens) : tokenIds.slice(0, keptTokens);
}

/** The same, with what tokenizes long texts on another thread. */
export interface BackgroundEncoding extends Encoding {
  readonly background: BackgroundTokenizer;
}

/** Tokens that a prompt cut to what the model takes leaves for an answer without a limit. */
const ANSWER_ROOM = 16;

/**
 * What `truncatePromptTokens` leaves of a prompt, in tokens; undefined leaves all.
 *
 * @throws {InvalidParameterError} More than fit the context together with `maxTokens`.
 */
export function keptPromptTokens(
  { truncatePromptTokens, maxTokens }: SamplingParams,
  limits: { readonly maxPromptLength: number; readonly maxContextLength: number },
): number | undefined {
  // Where the answer alone is too long, the engine says so.
  const room = (answer: number) =>
    Math.max(1, Math.min(limits.maxPromptLength, limits.maxContextLength - answer));
  if (truncatePromptTokens === undefined) return undefined;
  if (truncatePromptTokens === -1) return room(maxTokens ?? ANSWER_ROOM);
  const most = room(maxTokens ?? 1);
  if (truncatePromptTokens <= most) return truncatePromptTokens;
  throw new InvalidParameterError(
    "truncatePromptTokens",
    truncatePromptTokens,
    `Cannot use truncatePromptTokens ${truncatePromptTokens}: there is room for ${most} tokens of a prompt`,
  );
}

/** Shorter texts are encoded without a look at the vocabulary. */
const SHORT_TEXT = 65_536;
/** Longest text that is tokenized for its own sake, in UTF-16 code units. */
export const TOKENIZED_TEXT_MAX = 1_048_576;

/**
 * Fewest tokens that a long text can have; 0 for a short one. Encoding takes time and memory that
 * grow with the text, and a body can be long. A character has at least as many bytes as UTF-16 code
 * units, so the length is a lower bound of the bytes.
 */
export function fewestTokens(text: string, tokenizer: Tokenizer): number {
  return text.length <= SHORT_TEXT ? 0 : Math.ceil(text.length / tokenizer.longestTokenBytes);
}

/**
 * Refuses a text that cannot fit whatever its tokens are, before it is encoded.
 *
 * @param what The text, as errors name it.
 * @param limit Most tokens that fit.
 */
export function checkTextFits(
  text: string,
  what: string,
  tokenizer: Tokenizer,
  limit: number,
): void {
  const tokenCount = fewestTokens(text, tokenizer);
  if (tokenCount <= limit) return;
  throw new ContextLengthError(
    tokenCount,
    limit,
    `Cannot run ${what} of ${text.length} characters: that is at least ${tokenCount} tokens, and the model takes at most ${limit}`,
  );
}

/** Refuses a text that is too long to be encoded at all. */
export function checkTokenized(text: string): void {
  if (text.length <= TOKENIZED_TEXT_MAX) return;
  throw new InvalidParameterError(
    "prompt",
    text.length,
    `Cannot tokenize ${text.length} characters at once: at most ${TOKENIZED_TEXT_MAX}`,
  );
}

/** Refuses what need not be encoded to be known as too long. */
function checkText(text: string, { tokenizer, maxPromptLength, keptTokens }: Encoding): void {
  // No part of a text can be encoded without the rest.
  if (keptTokens !== undefined) checkTokenized(text);
  else checkTextFits(text, "a prompt", tokenizer, maxPromptLength);
}

/** Refuses messages whose texts alone need not be rendered to be known as too long. */
function checkContents(
  messages: readonly ChatMessage[],
  { tokenizer, maxPromptLength, keptTokens }: Encoding,
): void {
  if (keptTokens !== undefined) return;
  // The template may have failed before anybody looked what shape they have.
  const texts = messages.flatMap((message: unknown) => {
    const content = isRecord(message) ? message["content"] : undefined;
    const parts: readonly unknown[] = Array.isArray(content) ? content : [content];
    return parts.map((part) => isRecord(part) ? part["text"] : part);
  });
  const text = texts.filter((text) => typeof text === "string").join("\n");
  checkTextFits(text, "a conversation", tokenizer, maxPromptLength);
}

/** A prompt of text, or ids: checked, and the ids cut. */
function readPrompt(
  prompt: Prompt,
  encoding: Encoding,
): { readonly text: string } | { readonly tokenIds: readonly number[] } {
  if (typeof prompt === "object" && prompt !== null && "promptTokenIds" in prompt) {
    const { promptTokenIds } = prompt;
    if (!Array.isArray(promptTokenIds) || !promptTokenIds.every(Number.isInteger)) {
      throw new TypeError("promptTokenIds must be an array of integers");
    }
    const tokenIds = truncated(promptTokenIds as readonly number[], encoding);
    if (tokenIds.length <= encoding.maxPromptLength) return { tokenIds };
    throw new ContextLengthError(
      tokenIds.length,
      encoding.maxPromptLength,
      `Cannot run a prompt of ${tokenIds.length} tokens: the model takes at most ${encoding.maxPromptLength}`,
    );
  }
  const text = typeof prompt === "string" ? prompt : prompt?.prompt;
  if (typeof text !== "string") {
    throw new TypeError(
      "A prompt must be a string, { prompt: string } or { promptTokenIds: number[] }; " +
        "messages go to chat or stream",
    );
  }
  checkText(text, encoding);
  return { text };
}

/** Text or ids → ids, on the calling thread. */
export function encodePrompt(
  prompt: Prompt,
  encoding: Encoding,
  addSpecialTokens: boolean,
): EncodedPrompt {
  const { tokenizer } = encoding;
  const read = readPrompt(prompt, encoding);
  return "tokenIds" in read
    ? { ...read, text: tokenizer.decode(read.tokenIds, { skipSpecialTokens: true }) }
    : { ...read, tokenIds: truncated(tokenizer.encode(read.text, { addSpecialTokens }), encoding) };
}

/** Text or ids → ids; what is long on another thread. */
export async function encodePromptInBackground(
  prompt: Prompt,
  encoding: BackgroundEncoding,
  { addSpecialTokens = true, signal }: {
    readonly addSpecialTokens?: boolean;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<EncodedPrompt> {
  const { background } = encoding;
  const read = readPrompt(prompt, encoding);
  if ("tokenIds" in read) {
    const text = await background.decode(read.tokenIds, { skipSpecialTokens: true, signal });
    return { ...read, text };
  }
  const tokenIds = await background.encode(read.text, { addSpecialTokens, signal });
  return { ...read, tokenIds: truncated(tokenIds, encoding) };
}

/** Any text → ids, whether they fit the model or not. */
export function tokenizeText(
  text: string,
  tokenizer: Tokenizer,
  addSpecialTokens: boolean,
): number[] {
  checkTokenized(text);
  return tokenizer.encode(text, { addSpecialTokens });
}

/** The same; what is long on another thread. */
export async function tokenizeInBackground(
  text: string,
  background: BackgroundTokenizer,
  options: { readonly addSpecialTokens: boolean; readonly signal?: AbortSignal | undefined },
): Promise<number[]> {
  checkTokenized(text);
  return await background.encode(text, options);
}

/** Most ids that are decoded for their own sake. */
const DECODED_IDS_MAX = 1_048_576;

/** Refuses a list of ids that is too long to be decoded at once. */
export function checkDecoded(ids: readonly number[]): void {
  if (ids.length <= DECODED_IDS_MAX) return;
  throw new InvalidParameterError(
    "tokens",
    ids.length,
    `Cannot decode ${ids.length} tokens at once: at most ${DECODED_IDS_MAX}`,
  );
}

/** A conversation → its prompt's text and ids. */
export async function encodeConversation(
  messages: readonly ChatMessage[],
  template: ChatTemplate,
  encoding: BackgroundEncoding,
  options: ChatOptions,
): Promise<EncodedPrompt> {
  const { addGenerationPrompt, continueFinalMessage = false } = options;
  if (continueFinalMessage && addGenerationPrompt === true) {
    throw new TypeError("Cannot use continueFinalMessage together with addGenerationPrompt");
  }
  const { addSpecialTokens = false, signal } = options;
  const rendered = template.render(messages as readonly OpenMessage[], {
    addGenerationPrompt: addGenerationPrompt ?? !continueFinalMessage,
    continueFinalMessage,
    ...(options.tools === undefined ? {} : { tools: options.tools }),
    ...(options.documents === undefined ? {} : { documents: options.documents }),
    ...(options.chatTemplateKwargs === undefined ? {} : { kwargs: options.chatTemplateKwargs }),
    ...(signal && { signal }),
  });
  const text = await rendered.catch((error) => {
    // More than a template may write is more than fits, and clients search for the latter.
    if (error instanceof ChatTemplateError) checkContents(messages, encoding);
    throw error;
  });
  return await encodePromptInBackground(text, encoding, { addSpecialTokens, signal });
}
