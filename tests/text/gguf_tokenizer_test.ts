import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import { decodeWhole } from "../../lib/text/detokenizer.ts";
import { Tokenizer } from "../../lib/text/tokenizer.ts";
import { byteLevelMetadata } from "./vocabularies.ts";

/** A vocabulary that the SentencePiece library trained, and the ids that it gives. */
interface Trained {
  readonly tokens: readonly string[];
  readonly types: readonly number[];
  readonly scores: readonly number[];
  readonly cases: readonly { text: string; ids: number[]; decoded: string }[];
}

const golden: Readonly<Record<"bpe" | "bpe_no_prefix" | "unigram", Trained>> = JSON.parse(
  Deno.readTextFileSync(new URL("../golden/tokenizers/sentencepiece.json", import.meta.url)),
);

const bare = { addSpecialTokens: false };
const framed = { addSpecialTokens: true };
const shown = { skipSpecialTokens: false };

function trained(
  name: keyof typeof golden,
  model: string,
  changes: Readonly<Record<string, unknown>> = {},
): Map<string, unknown> {
  const { tokens, types, scores } = golden[name];
  const metadata = new Map<string, unknown>([
    ["tokenizer.ggml.model", model],
    ["tokenizer.ggml.pre", "default"],
    ["tokenizer.ggml.tokens", tokens],
    ["tokenizer.ggml.token_type", types],
    ["tokenizer.ggml.scores", scores],
    ["tokenizer.ggml.bos_token_id", 1],
    ["tokenizer.ggml.eos_token_id", 2],
  ]);
  for (const [key, value] of Object.entries(changes)) {
    if (value === undefined) metadata.delete(key);
    else metadata.set(key, value);
  }
  return metadata;
}

const load = (metadata: Map<string, unknown>) => Tokenizer.fromGguf(metadata, "tiny.gguf");

Deno.test("A scored vocabulary merges as SentencePiece does, bytes included", () => {
  const tokenizer = load(trained("bpe", "llama"));
  for (const { text, ids, decoded } of golden.bpe.cases) {
    assertEquals(tokenizer.encode(text, bare), ids, JSON.stringify(text));
    assertEquals(tokenizer.decode(ids, shown), decoded, JSON.stringify(text));
    assertEquals(
      decodeWhole(tokenizer, ids, { promptIds: [], skipSpecialTokens: true }),
      decoded,
      JSON.stringify(text),
    );
  }
});

Deno.test("A scored vocabulary without a space in front keeps texts as they begin", () => {
  const tokenizer = load(
    trained("bpe_no_prefix", "llama", { "tokenizer.ggml.add_space_prefix": false }),
  );
  for (const { text, ids, decoded } of golden.bpe_no_prefix.cases) {
    assertEquals(tokenizer.encode(text, bare), ids, JSON.stringify(text));
    assertEquals(tokenizer.decode(ids, shown), decoded, JSON.stringify(text));
  }
});

Deno.test("A Unigram vocabulary cuts as SentencePiece does", () => {
  const tokenizer = load(trained("unigram", "t5", {
    "tokenizer.ggml.add_space_prefix": true,
    "tokenizer.ggml.remove_extra_whitespaces": true,
  }));
  for (const { text, ids } of golden.unigram.cases) {
    assertEquals(tokenizer.encode(text, bare), ids, JSON.stringify(text));
  }
});

Deno.test("A scored vocabulary adds a begin token unless the file says otherwise", () => {
  const ids = (changes: Record<string, unknown>) =>
    load(trained("bpe", "llama", changes)).encode("the", framed);
  const the = load(trained("bpe", "llama")).encode("the", bare);
  assertEquals(ids({}), [1, ...the]);
  assertEquals(ids({ "tokenizer.ggml.add_bos_token": false }), the);
  assertEquals(ids({ "tokenizer.ggml.add_eos_token": true }), [1, ...the, 2]);
});

Deno.test("Tokens of every type keep their ids, and only some are found in a text", () => {
  const tokenizer = load(trained("bpe", "llama"));
  const { tokens } = golden.bpe;
  tokens.forEach((token, id) => assertEquals(tokenizer.tokenString(id), token));
  assertEquals(tokenizer.encode("<ctl>", bare), [3]); // control
  assertEquals(tokenizer.encode("<user>", bare), [4]); // user-defined
  assertEquals(tokenizer.encode("<0x41>", bare).includes(5 + 0x41), false); // byte: never by name
  assertEquals(tokenizer.isSpecial(3), true);
  assertEquals(tokenizer.isSpecial(4), false);
  assertEquals(tokenizer.tokenBytes(5 + 0xe2), Uint8Array.of(0xe2));
  const types = golden.bpe.types.with(4, 5); // unused: the id stays, the text does not
  const unused = load(trained("bpe", "llama", { "tokenizer.ggml.token_type": types }));
  assertEquals(unused.vocabSize, tokens.length);
  assertEquals(unused.tokenString(4), "");
  assertEquals(unused.encode("<user>", bare).includes(4), false);
});

Deno.test("Runs of spaces that a scored vocabulary names are single tokens", () => {
  for (const run of ["\u2581\u2581\u2581", "   "]) { // as old and as new files spell them
    const tokens = golden.bpe_no_prefix.tokens.with(4, run);
    const tokenizer = load(trained("bpe_no_prefix", "llama", {
      "tokenizer.ggml.tokens": tokens,
      "tokenizer.ggml.add_space_prefix": false,
    }));
    const ids = tokenizer.encode("x   x", bare);
    assertEquals(ids.filter((id) => id === 4).length, 1);
    assertEquals(tokenizer.decode(ids, shown), "x   x");
  }
});

/** WordPiece as a GGUF file spells it: pieces that begin a word are marked. */
function wordPieceMetadata(changes: Readonly<Record<string, unknown>> = {}): Map<string, unknown> {
  const tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁play", "ing", "s", "▁ball", "▁,", "▁東"];
  return new Map<string, unknown>(
    Object.entries({
      "tokenizer.ggml.model": "bert",
      "tokenizer.ggml.tokens": tokens,
      "tokenizer.ggml.token_type": tokens.map((_, id) => id < 4 ? 3 : 1),
      "tokenizer.ggml.cls_token_id": 2,
      "tokenizer.ggml.seperator_token_id": 3,
      "tokenizer.ggml.unknown_token_id": 1,
      "tokenizer.ggml.padding_token_id": 0,
      ...changes,
    }).filter(([, value]) => value !== undefined),
  );
}

Deno.test("WordPiece is rebuilt from marked beginnings of words", () => {
  const tokenizer = load(wordPieceMetadata());
  assertEquals(tokenizer.encode("Playing balls, 東東", framed), [2, 4, 5, 7, 6, 8, 9, 9, 3]);
  assertEquals(tokenizer.encode("x", bare), [1]);
  assertEquals(tokenizer.tokenString(5), "##ing");
  assertEquals(tokenizer.encodePair([4], [7]), {
    ids: [2, 4, 3, 7, 3],
    typeIds: [0, 0, 0, 1, 1],
  });
  const old = { "tokenizer.ggml.cls_token_id": undefined, "tokenizer.ggml.bos_token_id": 2 };
  assertEquals(load(wordPieceMetadata(old)).encode("balls", framed), [2, 7, 6, 3]);
});

Deno.test("WordPiece lowers case where the file says so, or has no capitals", () => {
  const cased = wordPieceMetadata().get("tokenizer.ggml.tokens") as string[];
  const capital = { "tokenizer.ggml.tokens": cased.with(7, "▁Ball") };
  assertEquals(load(wordPieceMetadata(capital)).encode("Ball ball", bare), [7, 1]);
  const told = { ...capital, "tokenizer.ggml.normalizer.lowercase": true };
  assertEquals(load(wordPieceMetadata(told)).encode("Ball Play", bare), [1, 4]);
});

Deno.test("A pair in RoBERTa's byte-level vocabulary has two end tokens between", () => {
  const tokenizer = load(byteLevelMetadata({
    "tokenizer.ggml.pre": "roberta-bpe",
    "tokenizer.ggml.add_bos_token": true,
    "tokenizer.ggml.add_eos_token": true,
  }));
  assertEquals(tokenizer.encodePair([70], [71]).ids, [1, 70, 2, 2, 71, 2]);
});

Deno.test("A damaged vocabulary in a GGUF file is refused, naming file, key and value", () => {
  const { tokens, types, scores } = golden.bpe;
  const cases: [Map<string, unknown>, string][] = [
    [trained("bpe", "llama", { "tokenizer.ggml.scores": undefined }), "tokenizer.ggml.scores must"],
    [
      trained("bpe", "llama", { "tokenizer.ggml.scores": scores.slice(1) }),
      `must be a list of ${tokens.length} numbers`,
    ],
    [trained("bpe", "llama", { "tokenizer.ggml.scores": scores.with(7, NaN) }), "NaN at index 7"],
    [trained("bpe", "llama", { "tokenizer.ggml.token_type": types.with(9, 12) }), "12 at index 9"],
    [trained("bpe", "llama", { "tokenizer.ggml.tokens": tokens.with(8, "<s>") }), '"<s>" at 1 and'],
    [trained("unigram", "t5", { "tokenizer.ggml.token_type": undefined }), "unknown_token_id"],
    [trained("unigram", "t5", { "tokenizer.ggml.precompiled_charsmap": ["x"] }), "x at index 0"],
    [trained("bpe", "rwkv"), "known are gpt2, llama, bert, t5"],
    [
      wordPieceMetadata({
        "tokenizer.ggml.unknown_token_id": undefined,
        "tokenizer.ggml.tokens": (wordPieceMetadata().get("tokenizer.ggml.tokens") as string[])
          .with(1, "?"),
      }),
      '"[UNK]"',
    ],
  ];
  for (const [metadata, says] of cases) {
    const error = assertThrows(() => load(metadata), CheckpointError);
    assertStringIncludes(error.message, says);
    assertStringIncludes(error.message, '"tiny.gguf"');
  }
});
