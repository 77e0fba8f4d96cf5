/** Sampling parameters meet the vocabulary: the texts among them become tokens. */

import { InvalidParameterError } from "./base/errors.ts";
import { TOKENIZED_TEXT_MAX } from "./prompts.ts";
import { BAD_SEQUENCE_COUNT_MAX } from "./sampling/param_checks.ts";
import type { SamplingParams } from "./sampling/params.ts";
import type { TokenizedParams } from "./sampling/resolved_params.ts";
import { decodeWhole } from "./text/detokenizer.ts";
import type { Tokenizer } from "./text/tokenizer.ts";

/**
 * What the texts among the parameters stand for.
 *
 * @param promptTokenIds What comes before a forced output.
 * @throws {InvalidParameterError} Too many bad words, or a forced output that no tokens spell.
 */
export function tokenizeParams(
  { badWords, forcedOutput }: SamplingParams,
  tokenizer: Tokenizer,
  promptTokenIds: readonly number[],
): TokenizedParams {
  return {
    ...(badWords && { badTokenSequences: badTokenSequences(badWords, tokenizer) }),
    ...(typeof forcedOutput === "string" && {
      forcedTokenIds: forcedTokenIds(forcedOutput, tokenizer, promptTokenIds),
    }),
  };
}

/** Longest that bad words may be together, in UTF-16 code units: encoding them holds up all others. */
const BAD_TEXT_MAX = 65_536;

/**
 * A word as the model may write it: at the beginning of a text, and behind a space. The second
 * spelling counts where it is as long as the first and begins with another token, as in vLLM.
 */
function badTokenSequences(words: readonly string[], tokenizer: Tokenizer): number[][] {
  const length = words.reduce((sum, word) => sum + word.length, 0);
  if (length > BAD_TEXT_MAX) {
    throw new InvalidParameterError(
      "badWords",
      words,
      `Cannot use badWords of ${length} characters: there may be at most ${BAD_TEXT_MAX} in all`,
    );
  }
  const sequences: number[][] = [];
  for (const word of words) {
    const bare = word.trimStart();
    // A word of nothing but spaces is itself and has no other spelling.
    const first = encode(bare === "" ? word : bare, tokenizer);
    if (first.length === 0) {
      throw new InvalidParameterError(
        "badWords",
        word,
        `Cannot use badWords ${JSON.stringify(word)}: the vocabulary has no tokens for it`,
      );
    }
    sequences.push(first);
    const second = bare === "" ? first : encode(` ${bare}`, tokenizer);
    if (second.length === first.length && second[0] !== first[0]) sequences.push(second);
  }
  if (sequences.length <= BAD_SEQUENCE_COUNT_MAX) return sequences;
  throw new InvalidParameterError(
    "badWords",
    sequences.length,
    `Cannot use badWords that stand for ${sequences.length} sequences of tokens: there may be at most ${BAD_SEQUENCE_COUNT_MAX}`,
  );
}

/** A text whose tokens others are put behind, where rules put a space before a text's first word. */
const LINE = "\n";

/** The tokens that read as the text when they come after the prompt. */
function forcedTokenIds(
  text: string,
  tokenizer: Tokenizer,
  promptTokenIds: readonly number[],
): number[] {
  if (text.length > TOKENIZED_TEXT_MAX) {
    throw new InvalidParameterError(
      "forcedOutput",
      text,
      `Cannot use a forcedOutput of ${text.length} characters: there may be at most ` +
        `${TOKENIZED_TEXT_MAX}`,
    );
  }
  const ids = encode(text, tokenizer);
  const options = { promptIds: promptTokenIds, skipSpecialTokens: false };
  const spelling = decodeWhole(tokenizer, ids, options);
  if (spelling === text) return ids;
  const behind = encode(LINE + text, tokenizer).slice(encode(LINE, tokenizer).length);
  if (decodeWhole(tokenizer, behind, options) === text) return behind;
  throw new InvalidParameterError(
    "forcedOutput",
    text,
    `Cannot use forcedOutput ${quote(text)}: its tokens spell ${quote(spelling)}. ` +
      "Give a text that the tokenizer keeps as it is, or token ids",
  );
}

function encode(text: string, tokenizer: Tokenizer): number[] {
  return tokenizer.encode(text, { addSpecialTokens: false });
}

function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
