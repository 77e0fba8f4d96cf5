/** Texts that cannot fit are refused before they are encoded. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { ContextLengthError, InvalidParameterError } from "../lib/base/errors.ts";
import { encodePrompt, TOKENIZED_TEXT_MAX, tokenizeText } from "../lib/prompts.ts";
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
