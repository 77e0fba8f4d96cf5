import { assert, assertEquals } from "@std/assert";
import { FileSource } from "../../lib/models/formats/byte_source.ts";
import { readGgufHeader } from "../../lib/models/formats/gguf.ts";
import { decodeWhole, Detokenizer } from "../../lib/text/detokenizer.ts";
import { Tokenizer } from "../../lib/text/tokenizer.ts";
import { modelTest } from "../helpers/smollm2.ts";
import {
  BYTE_0,
  byteLevelMetadata,
  type Random,
  sentencePieceJson,
  withRandom,
  wordPieceJson,
} from "./vocabularies.ts";

const byteLevel = () => Tokenizer.fromGguf(byteLevelMetadata(), "tiny.gguf");
const sentencePiece = () => Tokenizer.fromHuggingFace(sentencePieceJson(), {}, "tokenizer.json");

const plain = { promptIds: [], skipSpecialTokens: false };

/** The pieces that streaming gives when the ids come in the runs that `cuts` ends. */
function stream(
  tokenizer: Tokenizer,
  ids: readonly number[],
  cuts: readonly number[],
  options: { promptIds: readonly number[]; skipSpecialTokens: boolean } = plain,
): string[] {
  const detokenizer = new Detokenizer(tokenizer, options);
  const pieces: string[] = [];
  let start = 0;
  for (const end of [...cuts, ids.length]) {
    pieces.push(detokenizer.push(ids.slice(start, end)));
    start = end;
  }
  pieces.push(detokenizer.finish());
  return pieces;
}

/** What must hold of any ids: every cut gives the same text, and only whole characters come out. */
function checkEveryCut(tokenizer: Tokenizer, ids: readonly number[], skipSpecialTokens: boolean) {
  const options = { promptIds: [], skipSpecialTokens };
  const whole = decodeWhole(tokenizer, ids, options);
  const everyToken = ids.map((_, index) => index);
  for (const cuts of [everyToken, ...everyToken.map((cut) => [cut])]) {
    const pieces = stream(tokenizer, ids, cuts, options);
    assertEquals(pieces.join(""), whole, `ids ${ids} cut at ${cuts}`);
    for (const piece of pieces) assert(piece.isWellFormed(), `half a character in ${piece}`);
  }
}

/** Bytes decoded as a stream that is never flushed: incomplete ones at the end are dropped. */
function decodeBytes(tokenizer: Tokenizer, ids: readonly number[], flush: boolean): string {
  const bytes = ids.flatMap((id) => [...tokenizer.tokenBytes(id)]);
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return decoder.decode(Uint8Array.from(bytes), { stream: !flush });
}

function randomIds(random: Random, tokenizer: Tokenizer): number[] {
  const length = random.below(14);
  // Half of them single bytes, so that characters are cut and broken in every way.
  return Array.from(
    { length },
    () =>
      random.below(2) === 0
        ? tokenizer.tokenId(random.pick(["ð", "Ł", "ĺ", "Ģ", "â", "Ĥ", "¬", "Ã", "ï", "»", "¿"])) ??
          0
        : random.below(tokenizer.vocabSize),
  );
}

Deno.test("Detokenizer gives a character with the token that completes it", () => {
  const ids = [...new TextEncoder().encode("a😀é")].map((byte) => BYTE_0 + byte);
  assertEquals(stream(byteLevel(), ids, ids.map((_, index) => index)), [
    "",
    "a",
    "",
    "",
    "",
    "😀",
    "",
    "é",
    "",
  ]);
});

Deno.test("Detokenizer drops incomplete bytes at the very end, streamed and whole", () => {
  const ids = [...new TextEncoder().encode("a😀")].slice(0, 4).map((byte) => BYTE_0 + byte);
  assertEquals(stream(byteLevel(), ids, [1, 2, 3]).join(""), "a");
  assertEquals(decodeWhole(byteLevel(), ids, plain), "a");
});

Deno.test("Detokenizer shows invalid bytes in the middle, and U+FFFD itself, as U+FFFD", () => {
  const ids = [0xf0, 0x9f, 0x41, 0xef, 0xbf, 0xbd].map((byte) => BYTE_0 + byte);
  assertEquals(decodeWhole(byteLevel(), ids, plain), "\ufffdA\ufffd");
  const spm = sentencePiece();
  assertEquals(decodeWhole(spm, [spm.tokenId("\ufffd") as number], plain), "\ufffd");
});

Deno.test("Detokenizer keeps a byte order mark", () => {
  const ids = [0xef, 0xbb, 0xbf, 0x41].map((byte) => BYTE_0 + byte);
  assertEquals(decodeWhole(byteLevel(), ids, plain), "\ufeffA");
});

Deno.test("Detokenizer leaves special tokens out only where asked to", () => {
  const ids = [BYTE_0 + 65, 2, 3, BYTE_0 + 66];
  assertEquals(decodeWhole(byteLevel(), ids, plain), "A<|im_end|><tool>B");
  // <tool> is an added token, but no special one.
  assertEquals(decodeWhole(byteLevel(), ids, { ...plain, skipSpecialTokens: true }), "A<tool>B");
});

Deno.test("Detokenizer adds nothing for ids without a token", () => {
  const tokenizer = byteLevel();
  assertEquals(decodeWhole(tokenizer, [tokenizer.vocabSize - 1, 123_456, BYTE_0 + 65], plain), "A");
});

Deno.test("Detokenizer goes on with a character that the prompt began", () => {
  const [first, ...rest] = [...new TextEncoder().encode("é")].map((byte) => BYTE_0 + byte);
  const promptIds = [BYTE_0 + 65, first as number];
  assertEquals(decodeWhole(byteLevel(), rest, { promptIds, skipSpecialTokens: true }), "é");
  const spm = sentencePiece();
  const bytes = spm.encode("añ", { addSpecialTokens: false });
  const options = { promptIds: bytes.slice(0, -1), skipSpecialTokens: true };
  assertEquals(decodeWhole(spm, bytes.slice(-1), options), "ñ");
});

Deno.test("Detokenizer keeps the space of the first word after a prompt, drops it without one", () => {
  const spm = sentencePiece();
  const promptIds = spm.encode("ab", { addSpecialTokens: true });
  const ids = [spm.tokenId("▁a") as number, spm.tokenId("▁b") as number];
  assertEquals(stream(spm, ids, [1], { promptIds, skipSpecialTokens: true }), [" a", " b", ""]);
  assertEquals(stream(spm, ids, [1]), ["a", " b", ""]);
  const words = Tokenizer.fromHuggingFace(wordPieceJson(), {}, "tokenizer.json");
  const pieces = words.encode("playing balls", { addSpecialTokens: false });
  assertEquals(stream(words, pieces, [1, 2, 3]), ["play", "ing", " ball", "s", ""]);
});

Deno.test("Detokenizer gives the same text for every cut of random byte-level ids", () => {
  const tokenizer = byteLevel();
  withRandom((random) => {
    for (let run = 0; run < 200; run++) {
      const ids = randomIds(random, tokenizer);
      checkEveryCut(tokenizer, ids, random.below(2) === 0);
      assertEquals(decodeWhole(tokenizer, ids, plain), decodeBytes(tokenizer, ids, false));
      assertEquals(
        tokenizer.decode(ids, { skipSpecialTokens: false }),
        decodeBytes(tokenizer, ids, true),
      );
    }
  });
});

Deno.test("Detokenizer gives the same text for every cut of random SentencePiece ids", () => {
  const tokenizer = sentencePiece();
  const bytes = ["<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "<0xC3>", "<0xB1>", "<0x41>"];
  const pieces = ["▁", "▁a", "▁ab", "a", "b", "é", "\ufffd", "</s>", ...bytes];
  withRandom((random) => {
    for (let run = 0; run < 300; run++) {
      const ids = Array.from(
        { length: random.below(12) },
        () => tokenizer.tokenId(random.pick(pieces)) as number,
      );
      checkEveryCut(tokenizer, ids, random.below(2) === 0);
      // With a letter at the end nothing is incomplete, and the whole is what the package decodes.
      const closed = [...ids, tokenizer.tokenId("a") as number];
      assertEquals(
        decodeWhole(tokenizer, closed, plain),
        tokenizer.decode(closed, { skipSpecialTokens: false }),
        `ids ${closed}`,
      );
    }
  });
});

modelTest("Detokenizer gives the same text for every cut of random SmolLM2 ids", (path) => {
  using source = new FileSource(path);
  const tokenizer = Tokenizer.fromGguf(readGgufHeader(source).metadata, path);
  withRandom((random) => {
    for (let run = 0; run < 200; run++) {
      const ids = randomIds(random, tokenizer);
      checkEveryCut(tokenizer, ids, random.below(2) === 0);
      assertEquals(decodeWhole(tokenizer, ids, plain), decodeBytes(tokenizer, ids, false));
      assertEquals(
        tokenizer.decode(ids, { skipSpecialTokens: false }),
        decodeBytes(tokenizer, ids, true),
      );
    }
  });
});
