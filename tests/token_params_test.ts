/** Texts among the parameters → tokens: bad words in their spellings, forced outputs that read back. */

import { assertEquals, assertThrows } from "@std/assert";
import { InvalidParameterError } from "../lib/base/errors.ts";
import { SamplingParams, type SamplingParamsOptions } from "../lib/sampling/params.ts";
import { decodeWhole } from "../lib/text/detokenizer.ts";
import { Tokenizer } from "../lib/text/tokenizer.ts";
import { tokenizeParams } from "../lib/token_params.ts";
import {
  BYTE_0,
  byteLevelMetadata,
  sentencePieceJson,
  TEXT_PIECES,
  withRandom,
  wordPieceJson,
} from "./text/vocabularies.ts";

const byteLevel = Tokenizer.fromGguf(byteLevelMetadata(), "tiny.gguf");
const sentencePiece = Tokenizer.fromHuggingFace(sentencePieceJson(), {}, "tokenizer.json");
const wordPiece = Tokenizer.fromHuggingFace(wordPieceJson(), {}, "tokenizer.json");

function read(
  options: SamplingParamsOptions,
  tokenizer: Tokenizer = byteLevel,
  promptTokenIds: readonly number[] = [BYTE_0 + 65],
) {
  return tokenizeParams(new SamplingParams(options), {
    tokenizer,
    promptTokenIds,
    maxContextLength: 4096,
  });
}

const encode = (text: string, tokenizer = byteLevel) =>
  tokenizer.encode(text, { addSpecialTokens: false });

Deno.test("A bad word counts at the beginning of a text and behind a space", () => {
  const sequences = read({ badWords: ["hello"] }).badTokenSequences;
  assertEquals(sequences, [encode("hello"), encode(" hello")]);
  assertEquals(sequences?.map(({ length }) => length), [1, 1]);
});

Deno.test("The spelling behind a space counts only if it is as long and begins with another token", () => {
  assertEquals(read({ badWords: ["abc"] }).badTokenSequences, [encode("abc")], "one token longer");
  assertEquals(read({ badWords: [" hello"] }).badTokenSequences?.[0], encode("hello"));
  assertEquals(read({ badWords: ["\n", "  "] }).badTokenSequences, [encode("\n"), encode("  ")]);
});

Deno.test("Bad words that stand for too many sequences are refused by their name", () => {
  const words = Array.from({ length: 129 }, (_, i) => `w${i}`);
  const error = assertThrows(() => read({ badWords: words }), InvalidParameterError, "at most 128");
  assertEquals([error.parameter, error.value], ["badWords", 129]);
  assertEquals(read({ badWords: words.slice(1) }).badTokenSequences?.length, 128);
});

Deno.test("Without texts there is nothing to tell", () => {
  assertEquals(read({}), {});
  assertEquals(read({ forcedOutput: [5, 6] }), {});
});

Deno.test("A forced text becomes the tokens that read as it, special tokens among them", () => {
  assertEquals(read({ forcedOutput: "a<|im_end|>" }).forcedTokenIds, [BYTE_0 + 97, 2]);
  withRandom((random) => {
    for (let round = 0; round < 300; round++) {
      const text = Array.from({ length: 1 + random.below(6) }, () => random.pick(TEXT_PIECES))
        .join("");
      const ids = read({ forcedOutput: text }).forcedTokenIds ?? [];
      const options = { promptIds: [BYTE_0 + 65], skipSpecialTokens: false };
      assertEquals(decodeWhole(byteLevel, ids, options), text);
    }
  });
});

Deno.test("A forced text gets no space in front where the vocabulary writes one after a prompt", () => {
  const prompt = encode("ab", sentencePiece);
  for (const text of ["ab", " ab", "a b", "é", "\nab"]) {
    const ids = read({ forcedOutput: text }, sentencePiece, prompt).forcedTokenIds ?? [];
    const options = { promptIds: prompt, skipSpecialTokens: false };
    assertEquals(decodeWhole(sentencePiece, ids, options), text);
  }
});

Deno.test("A forced text that no tokens spell is refused, with what they would spell", () => {
  const lowered = assertThrows(
    () => read({ forcedOutput: "The Play" }, wordPiece, encode("the", wordPiece)),
    InvalidParameterError,
    'Cannot use forcedOutput "The Play": its tokens spell',
  );
  assertEquals(lowered.parameter, "forcedOutput");
  assertThrows(() => read({ forcedOutput: "half \ud83d" }), InvalidParameterError, "forcedOutput");
});

Deno.test("Texts too long to encode while others wait are refused before they are encoded", () => {
  const refused = (options: SamplingParamsOptions, parameter: string, message: string) => {
    const error = assertThrows(() => read(options), InvalidParameterError, message);
    assertEquals(error.parameter, parameter);
  };
  refused({ badWords: ["a".repeat(40_000), "b".repeat(40_000)] }, "badWords", "80000 characters");
  refused({ forcedOutput: "a".repeat(1_048_577) }, "forcedOutput", "1048577 characters");
  refused({ forcedOutput: "a".repeat(1_048_576) }, "forcedOutput", "the prompt leaves room for");
});
