/** What users give as a prompt, and how it becomes token ids. */

import { ContextLengthError, InvalidParameterError } from "./base/errors.ts";
import type { SamplingParams } from "./sampling/params.ts";
import type { ChatTemplate } from "./text/chat_template.ts";
import type { Tokenizer } from "./text/tokenizer.ts";

/** One prompt: text, or token ids as they are. */
export type Prompt =
  | string
  | { readonly prompt: string }
  | { readonly promptTokenIds: readonly number[] };

/** One message of a conversation, OpenAI-shaped: its keys reach the chat template as they are. */
export interface ChatMessage {
  /** `system`, `user`, `assistant`, `tool`, or whatever the template knows. */
  readonly role: string;
  /** Text, or parts of it. */
  readonly content?: string | readonly (string | Readonly<Record<string, unknown>>)[] | null;
  /** Whatever else the template reads: `name`, `tool_calls`, `reasoning_content` … */
  readonly [key: string]: unknown;
}

/** What every request takes besides its sampling parameters. */
export interface RequestOptions {
  /** Ends the request; its blocks are freed and the call rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Shown in outputs. Default: a random UUID. */
  readonly requestId?: string;
  /** Lower runs earlier. Default 0. */
  readonly priority?: number;
  /**
   * Let the tokenizer add its special tokens to a prompt of text. Default true; for a conversation
   * false, as its template writes them.
   */
  readonly addSpecialTokens?: boolean;
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
 * Text → ids. A text that cannot fit whatever its tokens are is refused before it is encoded:
 * encoding takes time and memory that grow with the text, and a body can be long. A character
 * has at least as many bytes as UTF-16 code units, so the length is a lower bound of the bytes.
 */
function encodeText(
  text: string,
  encoding: Encoding,
  special: boolean,
): number[] {
  const { tokenizer, maxPromptLength, keptTokens } = encoding;
  // No part of a text can be encoded without the rest.
  if (keptTokens !== undefined) return truncated(tokenizeText(text, tokenizer, special), encoding);
  if (text.length > SHORT_TEXT) {
    const tokenCount = Math.ceil(text.length / tokenizer.longestTokenBytes);
    if (tokenCount > maxPromptLength) {
      throw new ContextLengthError(
        tokenCount,
        maxPromptLength,
        `Cannot run a prompt of ${text.length} characters: that is at least ${tokenCount} tokens, and the model takes at most ${maxPromptLength}`,
      );
    }
  }
  return tokenizer.encode(text, { addSpecialTokens: special });
}

/** Text or ids → ids. */
export function encodePrompt(
  prompt: Prompt,
  encoding: Encoding,
  addSpecialTokens: boolean,
): EncodedPrompt {
  if (typeof prompt === "object" && prompt !== null && "promptTokenIds" in prompt) {
    const { promptTokenIds } = prompt;
    if (!Array.isArray(promptTokenIds) || !promptTokenIds.every(Number.isInteger)) {
      throw new TypeError("promptTokenIds must be an array of integers");
    }
    const tokenIds = truncated(promptTokenIds as readonly number[], encoding);
    if (tokenIds.length > encoding.maxPromptLength) {
      throw new ContextLengthError(
        tokenIds.length,
        encoding.maxPromptLength,
        `Cannot run a prompt of ${tokenIds.length} tokens: the model takes at most ${encoding.maxPromptLength}`,
      );
    }
    return { text: encoding.tokenizer.decode(tokenIds, { skipSpecialTokens: true }), tokenIds };
  }
  const text = typeof prompt === "string" ? prompt : prompt?.prompt;
  if (typeof text !== "string") {
    throw new TypeError(
      "A prompt must be a string, { prompt: string } or { promptTokenIds: number[] }; " +
        "messages go to chat or stream",
    );
  }
  return { text, tokenIds: encodeText(text, encoding, addSpecialTokens) };
}

/** Any text → ids, whether they fit the model or not. */
export function tokenizeText(
  text: string,
  tokenizer: Tokenizer,
  addSpecialTokens: boolean,
): number[] {
  if (text.length > TOKENIZED_TEXT_MAX) {
    throw new InvalidParameterError(
      "prompt",
      text.length,
      `Cannot tokenize ${text.length} characters at once: at most ${TOKENIZED_TEXT_MAX}`,
    );
  }
  return tokenizer.encode(text, { addSpecialTokens });
}

/** A conversation → its prompt's text and ids. */
export async function encodeConversation(
  messages: readonly ChatMessage[],
  template: ChatTemplate,
  encoding: Encoding,
  options: ChatOptions,
): Promise<EncodedPrompt> {
  const { addGenerationPrompt, continueFinalMessage = false } = options;
  if (continueFinalMessage && addGenerationPrompt === true) {
    throw new TypeError("Cannot use continueFinalMessage together with addGenerationPrompt");
  }
  const text = await template.render(messages, {
    addGenerationPrompt: addGenerationPrompt ?? !continueFinalMessage,
    continueFinalMessage,
    ...(options.tools === undefined ? {} : { tools: options.tools }),
    ...(options.documents === undefined ? {} : { documents: options.documents }),
    ...(options.chatTemplateKwargs === undefined ? {} : { kwargs: options.chatTemplateKwargs }),
  });
  return { text, tokenIds: encodeText(text, encoding, options.addSpecialTokens ?? false) };
}
