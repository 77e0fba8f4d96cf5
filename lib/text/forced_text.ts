/** A text that an answer must be → the tokens that read as it. */

import { InvalidParameterError } from "../base/errors.ts";
import { decodeWhole } from "./detokenizer.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** A text whose tokens others are put behind, where rules put a space before a text's first word. */
const LINE = "\n";

/**
 * The tokens that read as the text when they come after the prompt.
 *
 * @throws {InvalidParameterError} No tokens spell the text.
 */
export function forcedTokenIds(
  text: string,
  tokenizer: Tokenizer,
  promptTokenIds: readonly number[],
): number[] {
  const encode = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
  const ids = encode(text);
  const options = { promptIds: promptTokenIds, skipSpecialTokens: false };
  const spelling = decodeWhole(tokenizer, ids, options);
  if (spelling === text) return ids;
  const behind = encode(LINE + text).slice(encode(LINE).length);
  if (decodeWhole(tokenizer, behind, options) === text) return behind;
  throw new InvalidParameterError(
    "forcedOutput",
    text,
    `Cannot use forcedOutput ${quote(text)}: its tokens spell ${quote(spelling)}. ` +
      "Give a text that the tokenizer keeps as it is, or token ids",
  );
}

function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
