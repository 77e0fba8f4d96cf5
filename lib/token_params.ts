/** Sampling parameters meet the vocabulary: the texts among them become tokens. */

import { InvalidParameterError } from "./base/errors.ts";
import { fewestTokens, TOKENIZED_TEXT_MAX } from "./prompts.ts";
import { BAD_SEQUENCE_COUNT_MAX } from "./sampling/param_checks.ts";
import type { SamplingParams } from "./sampling/params.ts";
import type { TokenizedParams } from "./sampling/resolved_params.ts";
import type { BackgroundTokenizer } from "./text/background_tokenizer.ts";
import { forcedTokenIds } from "./text/forced_text.ts";
import type { Tokenizer } from "./text/tokenizer.ts";

/** What the texts of parameters are read with. */
export interface TextContext {
  readonly tokenizer: Tokenizer;
  /** What comes before a forced output. */
  readonly promptTokenIds: readonly number[];
  /** Most tokens of prompt and answer together. */
  readonly maxContextLength: number;
}

/**
 * What the texts among the parameters stand for.
 *
 * @throws {InvalidParameterError} Too many bad words, or a forced output that no tokens spell, or
 * that cannot fit, however few tokens it has.
 */
export function tokenizeParams(params: SamplingParams, context: TextContext): TokenizedParams {
  const { tokenizer, promptTokenIds } = context;
  const text = forcedText(params, context);
  return {
    ...badTokens(params, tokenizer),
    ...(text !== undefined && { forcedTokenIds: forcedTokenIds(text, tokenizer, promptTokenIds) }),
  };
}

/** The same; a long forced output is tokenized on another thread. */
export async function tokenizeParamsInBackground(
  params: SamplingParams,
  context: TextContext & { readonly background: BackgroundTokenizer },
  signal: AbortSignal | undefined,
): Promise<TokenizedParams> {
  const { tokenizer, promptTokenIds, background } = context;
  const text = forcedText(params, context);
  const bad = badTokens(params, tokenizer);
  if (text === undefined) return bad;
  return {
    ...bad,
    forcedTokenIds: await background.forcedTokenIds(text, promptTokenIds, { signal }),
  };
}

function badTokens({ badWords }: SamplingParams, tokenizer: Tokenizer): TokenizedParams {
  return badWords ? { badTokenSequences: badTokenSequences(badWords, tokenizer) } : {};
}

/** The forced output, if it is a text: of a length that may fit. */
function forcedText(
  { forcedOutput: text }: SamplingParams,
  { tokenizer, promptTokenIds, maxContextLength }: TextContext,
): string | undefined {
  if (typeof text !== "string") return undefined;
  if (text.length > TOKENIZED_TEXT_MAX) {
    throw new InvalidParameterError(
      "forcedOutput",
      text,
      `Cannot use a forcedOutput of ${text.length} characters: there may be at most ` +
        `${TOKENIZED_TEXT_MAX}`,
    );
  }
  const tokenCount = fewestTokens(text, tokenizer);
  const room = maxContextLength - promptTokenIds.length;
  if (tokenCount <= room) return text;
  throw new InvalidParameterError(
    "forcedOutput",
    text,
    `Cannot use a forcedOutput of ${text.length} characters: that is at least ${tokenCount} ` +
      `tokens, and the prompt leaves room for ${room}`,
  );
}

/** Longest that bad words may be together, in UTF-16 code units: encoding them holds up all others. */
const BAD_TEXT_MAX = 8_192;

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

function encode(text: string, tokenizer: Tokenizer): number[] {
  return tokenizer.encode(text, { addSpecialTokens: false });
}
