/** What a tokenizer puts around every text. */

import type { Tokenizer } from "./tokenizer.ts";

/** The ids before and after a text's own. */
export interface SpecialFrame {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/** Found by encoding a letter with its special tokens and without. */
export function specialFrame(tokenizer: Tokenizer): SpecialFrame {
  const bare = tokenizer.encode("a", { addSpecialTokens: false });
  const framed = tokenizer.encode("a", { addSpecialTokens: true });
  const start = framed.findIndex((_, at) => bare.every((id, i) => framed[at + i] === id));
  return { before: framed.slice(0, start), after: framed.slice(start + bare.length) };
}
