/** Texts that cannot fit are refused before they are encoded, or cut to their last tokens. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { ContextLengthError, InvalidParameterError } from "../lib/base/errors.ts";
import {
  encodePrompt,
  keptPromptTokens,
  TOKENIZED_TEXT_MAX,
  tokenizeText,
} from "../lib/prompts.ts";
import { SamplingParams } from "../lib/sampling/params.ts";
import { Tokenizer } from "../lib/text/tokenizer.ts";
import { tinyTokenizerConfig, tinyTokenizerJson } from "./helpers/tiny_tokenizer_files.ts";

const tokenizer = Tokenizer.fromHuggingFace(tinyTokenizerJson(), tinyTokenizerConfig(), "tiny");

Deno.test("The longest token bounds what a text of few tokens can be", () => {
  const longest = tokenizer.longestTokenBytes;
  assert(longest >= 3, `${longest} bytes`);
  for (const text of ["the the", "é🚀", "plain words"]) {
    const ids = tokenizer.encode(text, { addSpecialTokens: false });
    assert(ids.length * longest >= new TextEncoder().encode(text).length, text);
  }
});

Deno.test("A text of megabytes is refused at once, as are too many ids", () => {
  const encoding = { tokenizer, maxPromptLength: 100 };
  const text = "a".repeat(30_000_000);
  const error = assertThrows(
    () => encodePrompt(text, encoding, true),
    ContextLengthError,
    "30000000",
  );
  assert(error.tokenCount > 100 && error.tokenLimit === 100);
  const promptTokenIds = new Array(1_000_000).fill(5);
  assertThrows(
    () => encodePrompt({ promptTokenIds }, encoding, true),
    ContextLengthError,
    "1000000",
  );
  assertEquals(encodePrompt("the", encoding, false).tokenIds.length, 1);
});

Deno.test("Tokenizing for its own sake has a bound of its own", () => {
  assertThrows(
    () => tokenizeText("a".repeat(TOKENIZED_TEXT_MAX + 1), tokenizer, true),
    InvalidParameterError,
    `at most ${TOKENIZED_TEXT_MAX}`,
  );
  assertEquals(tokenizeText("the", tokenizer, false).length, 1);
});

Deno.test("Truncation keeps the last tokens of a text and of ids, or the first", () => {
  const encoding = { tokenizer, maxPromptLength: 4, keptTokens: 3 };
  assertEquals(
    encodePrompt("abcdefgh", encoding, true).tokenIds,
    tokenizeText("fgh", tokenizer, false),
  );
  assertEquals(encodePrompt("abcdefgh", encoding, true).text, "abcdefgh");
  assertEquals(encodePrompt("ab", encoding, false).tokenIds.length, 2);
  const promptTokenIds = [5, 6, 7, 8, 9];
  assertEquals(encodePrompt({ promptTokenIds }, encoding, true).tokenIds, [7, 8, 9]);
  const right = { ...encoding, truncationSide: "right" } as const;
  assertEquals(encodePrompt({ promptTokenIds }, right, true).tokenIds, [5, 6, 7]);
  const whole = encodePrompt("abcdef", { tokenizer, maxPromptLength: 99 }, false).tokenIds;
  assertEquals(encodePrompt("abcdef", right, false).tokenIds, whole.slice(0, 3));
  assertThrows(
    () => encodePrompt("a".repeat(TOKENIZED_TEXT_MAX + 1), encoding, true),
    InvalidParameterError,
    `at most ${TOKENIZED_TEXT_MAX}`,
  );
});

Deno.test("As many prompt tokens are kept as were asked for and the answer leaves room for", () => {
  const limits = { maxPromptLength: 90, maxContextLength: 100 };
  const kept = (truncatePromptTokens: number, maxTokens?: number | null) =>
    keptPromptTokens(
      new SamplingParams({
        truncatePromptTokens,
        ...(maxTokens === undefined ? {} : { maxTokens }),
      }),
      limits,
    );
  assertEquals(keptPromptTokens(new SamplingParams(), limits), undefined);
  assertEquals([kept(5), kept(90), kept(-1), kept(-1, null)], [5, 90, 84, 84]);
  assertEquals([kept(-1, 1), kept(90, null)], [90, 90]);
  assertEquals([kept(-1, 30), kept(70, 30)], [70, 70]);
  assertEquals(kept(-1, 200), 1);
  for (const [count, maxTokens, room] of [[91, 1, 90], [71, 30, 70], [1000, null, 90]] as const) {
    const error = assertThrows(
      () => kept(count, maxTokens),
      InvalidParameterError,
      `truncatePromptTokens ${count}: there is room for ${room} tokens`,
    );
    assertEquals(error.parameter, "truncatePromptTokens");
  }
});
