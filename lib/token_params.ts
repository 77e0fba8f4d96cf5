/** Sampling parameters meet the vocabulary: ids are checked against it, texts become tokens. */

import { InvalidParameterError } from "./base/errors.ts";
import { BAD_SEQUENCE_COUNT_MAX } from "./sampling/param_checks.ts";
import type { SamplingParams } from "./sampling/params.ts";
import type { TokenizedParams } from "./sampling/resolved_params.ts";
import { decodeWhole } from "./text/detokenizer.ts";
import type { Tokenizer } from "./text/tokenizer.ts";

/** What a request's parameters are read against. */
export interface Vocabulary {
  readonly tokenizer: Tokenizer;
  /** Ids that the model knows: a tokenizer may have fewer. */
  readonly vocabSize: number;
  readonly promptTokenIds: readonly number[];
}

/**
 * What the texts among the parameters stand for.
 *
 * @throws {InvalidParameterError} An id that the model does not have, too many bad words, or a
 * forced output that no tokens spell.
 */
export function tokenizeParams(params: SamplingParams, vocabulary: Vocabulary): TokenizedParams {
  const { badWords, forcedOutput, logitBias, allowedTokenIds } = params;
  checkIds("logitBias", logitBias?.keys(), vocabulary);
  checkIds("allowedTokenIds", allowedTokenIds, vocabulary);
  if (typeof forcedOutput === "object") checkIds("forcedOutput", forcedOutput, vocabulary);
  return {
    ...(badWords && { badTokenSequences: badTokenSequences(badWords, vocabulary.tokenizer) }),
    ...(typeof forcedOutput === "string" && {
      forcedTokenIds: forcedTokenIds(forcedOutput, vocabulary),
    }),
  };
}

function checkIds(
  field: string,
  ids: Iterable<number> | undefined,
  { vocabSize }: Vocabulary,
): void {
  for (const id of ids ?? []) {
    if (id < vocabSize) continue;
    throw new InvalidParameterError(
      field,
      id,
      `Cannot use ${field} ${id}: the model's token ids are from 0 to ${vocabSize - 1}`,
    );
  }
}

/**
 * A word as the model may write it: at the beginning of a text, and behind a space. The second
 * spelling counts where it is as long as the first and begins with another token, as in vLLM.
 */
function badTokenSequences(words: readonly string[], tokenizer: Tokenizer): number[][] {
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
function forcedTokenIds(text: string, { tokenizer, promptTokenIds }: Vocabulary): number[] {
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
