/** Log-probabilities in the shapes of the two endpoints. */

import type { Logprob, LogprobMap } from "../outputs.ts";
import type {
  ChatLogprobs,
  ChatTokenLogprob,
  CompletionLogprobs,
  PromptLogprob,
  PromptLogprobs,
} from "./types.ts";

/** JSON knows no −Infinity; this is what vLLM and Furiosa-LLM send for it. */
const LOGPROB_FLOOR = -9999;

/** How the entries are shown. */
export interface LogprobStyle {
  /** Alternatives a token; Infinity for all that were asked for by id. */
  readonly topCount: number;
  /** Write every token as `token_id:<id>`. */
  readonly asTokenIds: boolean;
}

/** Chat form: one element a generated token, its alternatives the first entries of its map. */
export function chatLogprobs(maps: readonly LogprobMap[], style: LogprobStyle): ChatLogprobs {
  return {
    content: maps.map((map) => {
      const entries = [...map].map(([id, entry]) => chatEntry(id, entry, style));
      const chosen = entries[0] ?? { token: "", logprob: LOGPROB_FLOOR, bytes: [] };
      return { ...chosen, top_logprobs: entries.slice(0, style.topCount) };
    }),
  };
}

function chatEntry(id: number, entry: Logprob, style: LogprobStyle): ChatTokenLogprob {
  return {
    token: tokenText(id, entry.decodedToken, style),
    logprob: floored(entry.logprob),
    bytes: [...new TextEncoder().encode(entry.decodedToken)],
  };
}

/** The first token of a prompt: nothing is before it that would make it more or less likely. */
export interface FirstToken {
  readonly tokenId: number;
  readonly text: string;
}

/** What is known of one token of a completion. */
export type CompletionEntry = LogprobMap | FirstToken;

/**
 * Completions form. `textOffset` is where the first token's text starts, counted in characters
 * over the tokens before it, so that the chunks of a stream go on where the last one ended.
 */
export function completionLogprobs(
  entries: readonly CompletionEntry[],
  style: LogprobStyle,
  textOffset: number,
): CompletionLogprobs {
  const offsets: number[] = [];
  const tokens: string[] = [];
  const logprobs: (number | null)[] = [];
  for (const entry of entries) {
    const isFirst = "tokenId" in entry;
    const [id, { decodedToken, logprob }] = isFirst
      ? [entry.tokenId, { decodedToken: entry.text, logprob: 0 }]
      : first(entry);
    const text = tokenText(id, decodedToken, style);
    offsets.push(textOffset);
    tokens.push(text);
    logprobs.push(isFirst ? null : floored(logprob));
    textOffset += characterCount(text);
  }
  return {
    text_offset: offsets,
    token_logprobs: logprobs,
    tokens,
    top_logprobs: entries.map((entry) => "tokenId" in entry ? null : topLogprobs(entry, style)),
  };
}

function topLogprobs(map: LogprobMap, style: LogprobStyle): ReadonlyMap<string, number> {
  const top = new Map<string, number>();
  for (const [id, { decodedToken, logprob }] of map) {
    const text = tokenText(id, decodedToken, style);
    if (!top.has(text)) top.set(text, floored(logprob)); // two ids may share a text
  }
  return top;
}

/** Where the next token's text starts after these. */
export function offsetAfter(logprobs: CompletionLogprobs, textOffset: number): number {
  const last = logprobs.text_offset.at(-1);
  return last === undefined ? textOffset : last + characterCount(logprobs.tokens.at(-1) ?? "");
}

/** The prompt's entries by decimal token id. */
export function promptLogprobs(maps: readonly (LogprobMap | null)[]): PromptLogprobs {
  return maps.map((map): PromptLogprob | null =>
    map && new Map([...map].map(([id, entry]) => [String(id), {
      logprob: floored(entry.logprob),
      rank: entry.rank,
      decoded_token: entry.decodedToken,
    }]))
  );
}

function first(map: LogprobMap): readonly [number, Logprob] {
  for (const entry of map) return entry;
  return [-1, { logprob: -Infinity, rank: 0, decodedToken: "" }];
}

function tokenText(id: number, text: string, style: LogprobStyle): string {
  return style.asTokenIds ? `token_id:${id}` : text;
}

function characterCount(text: string): number {
  return [...text].length;
}

function floored(logprob: number): number {
  return Math.max(logprob, LOGPROB_FLOOR);
}
