/** Log-probabilities by id → the same with the tokens' texts. */

import { Turns } from "./base/turns.ts";
import type { TokenEvent } from "./engine/request.ts";
import type { TokenLogprob } from "./sampling/logprobs.ts";
import type { Logprob, LogprobMap, PromptInfo } from "./outputs.ts";
import type { EncodedPrompt } from "./prompts.ts";
import type { Tokenizer } from "./text/tokenizer.ts";

/** Tokens before a piece of a character that may hold its other pieces. */
export const CONTEXT_TOKENS = 4;

/** A token's text; a piece that completes a character begun by the tokens before has it whole. */
function textAfter(previous: readonly number[], tokenId: number, tokenizer: Tokenizer): string {
  const alone = tokenizer.tokenText(tokenId);
  if (alone !== "") return alone;
  for (let count = 1; count <= Math.min(CONTEXT_TOKENS, previous.length); count++) {
    const before = previous.slice(-count);
    const text = tokenizer.decode([...before, tokenId], { skipSpecialTokens: false });
    if (text.includes("\uFFFD")) continue;
    const begun = tokenizer.decode(before, { skipSpecialTokens: false }).replace(/\uFFFD+$/, "");
    return text.slice(begun.length);
  }
  return "";
}

/** One position's entries; `previous` are the tokens before it. */
export function logprobMap(
  entries: readonly TokenLogprob[],
  previous: readonly number[],
  tokenizer: Tokenizer,
): LogprobMap {
  const map = new Map<number, Logprob>();
  for (const { tokenId, logprob, rank } of entries) {
    const decodedToken = textAfter(previous, tokenId, tokenizer);
    map.set(tokenId, { logprob, rank, decodedToken });
  }
  return map;
}

/** What the first event of a request says of its prompt; others run between the texts of a long one. */
export async function promptInfo(
  { text, tokenIds }: EncodedPrompt,
  event: NonNullable<TokenEvent["prompt"]>,
  tokenizer: Tokenizer,
): Promise<PromptInfo> {
  const turns = new Turns();
  const maps: (LogprobMap | null)[] = [];
  for (const [at, entries] of event.logprobs?.entries() ?? []) {
    const previous = tokenIds.slice(Math.max(0, at - CONTEXT_TOKENS), at);
    maps.push(entries && logprobMap(entries, previous, tokenizer));
    if (turns.isOver) await turns.next();
  }
  const logprobs = event.logprobs && maps;
  return { text, tokenIds, logprobs, cachedTokens: event.cachedTokens };
}
