/**
 * Settings of a tokenizer.json that the package takes otherwise than the format's own library, or
 * leaves out: here they do what the format says, or are refused by file and field.
 */

import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import { Tokenizer } from "../../lib/text/tokenizer.ts";
import { sentencePieceJson, wordPieceJson } from "./vocabularies.ts";

type Json = Record<string, unknown>;

const bare = { addSpecialTokens: false };
const framed = { addSpecialTokens: true };
const shown = { skipSpecialTokens: false };

/** A vocabulary that knows these pieces whole: what is found in a text is how it was cut. */
function words(pieces: readonly string[], rest: Json = {}): Tokenizer {
  const vocab = Object.fromEntries(["[UNK]", ...pieces].map((piece, id) => [piece, id]));
  const model = { type: "WordLevel", unk_token: "[UNK]", vocab };
  return Tokenizer.fromHuggingFace({ model, ...rest }, {}, "tokenizer.json");
}

/** The pieces that a text is cut into. */
function cut(pre_tokenizer: Json, text: string, pieces: readonly string[]): void {
  const tokenizer = words([...new Set(pieces)], { pre_tokenizer });
  const found = tokenizer.encode(text, bare).map((id) => tokenizer.tokenString(id));
  assertEquals(found, [...pieces], JSON.stringify(pre_tokenizer));
}

Deno.test("A Split does with a match what its behavior says", () => {
  const text = "the-final--countdown";
  const split = (behavior: string, rest: Json = {}) => ({
    type: "Split",
    pattern: { String: "-" },
    behavior,
    invert: false,
    ...rest,
  });
  // The five examples of the format's own documentation.
  cut(split("Removed"), text, ["the", "final", "countdown"]);
  cut(split("Isolated"), text, ["the", "-", "final", "-", "-", "countdown"]);
  cut(split("MergedWithPrevious"), text, ["the-", "final-", "-", "countdown"]);
  cut(split("MergedWithNext"), text, ["the", "-final", "-", "-countdown"]);
  cut(split("Contiguous"), text, ["the", "-", "final", "--", "countdown"]);
  const regex = { pattern: { Regex: "(-)(?!\\d)" } };
  cut(split("Removed", regex), "a-b-1", ["a", "b-1"]);
  cut(split("MergedWithPrevious", regex), "a-b-1", ["a-", "b-1"]);
  cut(split("MergedWithNext", regex), "a-b-1", ["a", "-b-1"]);
  cut(split("Removed", { pattern: { Regex: "\\p{L}+" }, invert: true }), "ab, c", ["ab", "c"]);
  cut(split("Isolated", { pattern: { Regex: "\\p{L}+" }, invert: true }), "ab,", ["ab", ","]);
  cut(split("Removed", { pattern: { String: "a.b" } }), "xa.byaxb", ["x", "yaxb"]);
  cut({ type: "CharDelimiterSplit", delimiter: "_" }, "a_b__c", ["a", "b", "c"]);
});

Deno.test("Words, digits and punctuation are those of all scripts", () => {
  cut({ type: "Whitespace" }, "café d'été 서울_1", ["café", "d", "'", "été", "서울_1"]);
  cut({ type: "WhitespaceSplit" }, "a\u0085b\ufeffc d", ["a", "b\ufeffc", "d"]);
  cut({ type: "Digits", individual_digits: true }, "a१२²", ["a", "१", "२", "²"]);
  cut({ type: "Digits", individual_digits: false }, "a१२b", ["a", "१२", "b"]);
  cut({ type: "Punctuation" }, "a!!b。", ["a", "!", "!", "b", "。"]);
  cut({ type: "Punctuation", behavior: "Contiguous" }, "a!?b", ["a", "!?", "b"]);
  cut({ type: "FixedLength", length: 2 }, "🚀🚀🚀", ["🚀🚀", "🚀"]);
});

Deno.test("A Metaspace puts a mark before texts and cuts before marks as it is told to", () => {
  const metaspace = (rest: Json) => ({ type: "Metaspace", replacement: "▁", ...rest });
  cut(metaspace({}), "a b", ["▁a", "▁b"]);
  cut(metaspace({ prepend_scheme: "never" }), "a b", ["a", "▁b"]);
  cut(metaspace({ add_prefix_space: false }), "a  b", ["a", "▁", "▁b"]);
  cut(metaspace({ split: false }), "a b", ["▁a▁b"]);
  const decoded = (decoder: Json) => {
    const tokenizer = words(["▁a", "▁b"], { decoder });
    return tokenizer.decode([1, 2], shown);
  };
  assertEquals(decoded(metaspace({})), "a b");
  assertEquals(decoded(metaspace({ prepend_scheme: "never" })), " a b");
});

Deno.test("A dollar in a replacement is a dollar", () => {
  const replace = { type: "Replace", pattern: { String: "x" }, content: "$&$1$$" };
  const tokenizer = words(["$&$1$$"], { normalizer: replace });
  assertEquals(tokenizer.encode("x", bare), [1]);
  const back = words(["x"], { decoder: replace });
  assertEquals(back.decode([1], shown), "$&$1$$");
});

Deno.test("Frames of BERT and RoBERTa have the segments of the format", () => {
  const frame = (type: string) =>
    words(["[CLS]", "[SEP]", "a", "b"], {
      post_processor: {
        type: "Sequence",
        processors: [
          { type: "ByteLevel", trim_offsets: true },
          { type, sep: ["[SEP]", 2], cls: ["[CLS]", 1] },
        ],
      },
    });
  assertEquals(frame("BertProcessing").encode("a", framed), [1, 3, 2]);
  assertEquals(frame("BertProcessing").encodePair([3], [4]), {
    ids: [1, 3, 2, 4, 2],
    typeIds: [0, 0, 0, 1, 1],
  });
  assertEquals(frame("RobertaProcessing").encodePair([3], [4]), {
    ids: [1, 3, 2, 2, 4, 2],
    typeIds: [0, 0, 0, 0, 0, 0],
  });
});

Deno.test("A model without a type is told by its parts", () => {
  const { type: _, ...model } = sentencePieceJson()["model"] as Json;
  const tokenizer = Tokenizer.fromHuggingFace({ ...sentencePieceJson(), model }, {}, "t.json");
  assertEquals(tokenizer.kind, "BPE");
  const ids = tokenizer.encode("ab a", bare);
  assertEquals(ids.map((id) => tokenizer.tokenString(id)), ["▁ab", "▁a"]);
  const level = words(["a"]);
  assertEquals(level.encode("b", bare), [0], "an unknown word is the model's unknown token");
});

Deno.test("Settings of older classes in tokenizer_config.json change nothing", () => {
  const config = { remove_space: true, do_lowercase_and_remove_accent: true };
  const tokenizer = Tokenizer.fromHuggingFace(sentencePieceJson(), config, "tokenizer.json");
  assertEquals(
    tokenizer.encode("a  b", bare),
    Tokenizer.fromHuggingFace(
      sentencePieceJson(),
      {},
      "tokenizer.json",
    ).encode("a  b", bare),
  );
});

const BPE = sentencePieceJson();
const MODEL = BPE["model"] as Json;
const SPLIT = { type: "Split", pattern: { String: " " }, behavior: "Isolated", invert: false };
const token = (id: number, content: string, rest: Json = {}) => ({ id, content, ...rest });
const inFront = (id: string, entry: unknown) => ({
  type: "TemplateProcessing",
  single: [{ SpecialToken: { id, type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
  pair: [],
  special_tokens: { [id]: entry },
});

const REFUSED: readonly (readonly [what: string, json: Json, says: string])[] = [
  ["an unknown normalizer", { normalizer: { type: "Nmt" } }, '"normalizer.type" is "Nmt"'],
  [
    "an unknown normalizer inside others",
    { normalizer: { type: "Sequence", normalizers: [{ type: "NFC" }, { type: "constructor" }] } },
    '"normalizer.normalizers[1].type" is "constructor"',
  ],
  [
    "a replacement of nothing",
    { normalizer: { type: "Replace", pattern: {}, content: "x" } },
    '"normalizer.pattern" is {}',
  ],
  [
    "a replacement by a number",
    { normalizer: { type: "Replace", pattern: { String: "a" }, content: 5 } },
    '"normalizer.content" is 5',
  ],
  [
    "a flag that is a text",
    { normalizer: { type: "BertNormalizer", lowercase: "yes" } },
    '"normalizer.lowercase" is "yes"',
  ],
  [
    "an unknown pre-tokenizer",
    { pre_tokenizer: { type: "UnicodeScripts" } },
    '"pre_tokenizer.type" is "UnicodeScripts"',
  ],
  [
    "an unknown behavior",
    { pre_tokenizer: { ...SPLIT, behavior: "Shredded" } },
    '"pre_tokenizer.behavior" is "Shredded"',
  ],
  ["a behavior that is missing", { pre_tokenizer: { ...SPLIT, behavior: null } }, "behavior"],
  [
    "an inverted behavior",
    { pre_tokenizer: { ...SPLIT, behavior: "MergedWithNext", invert: true } },
    '"pre_tokenizer.invert" is true',
  ],
  [
    "two patterns in one",
    { pre_tokenizer: { ...SPLIT, pattern: { String: "a", Regex: "a" } } },
    '"pre_tokenizer.pattern"',
  ],
  [
    "an empty pattern",
    { pre_tokenizer: { ...SPLIT, pattern: { Regex: "" } } },
    '"pre_tokenizer.pattern"',
  ],
  [
    "a huge pattern",
    { pre_tokenizer: { ...SPLIT, pattern: { Regex: "a|".repeat(20_000) } } },
    "at most 20000 characters",
  ],
  [
    "a pattern of exponential time",
    { pre_tokenizer: { ...SPLIT, pattern: { Regex: "(?:\\w+\\s?)+$" } } },
    '"pre_tokenizer.pattern" is {"Regex":"(?:\\\\w+\\\\s?)+$"}: there are texts',
  ],
  [
    "a replacement of exponential time",
    { normalizer: { type: "Replace", pattern: { Regex: "(a*)*b" }, content: "" } },
    "exponential time",
  ],
  [
    "contradictory spaces",
    { pre_tokenizer: { type: "Metaspace", add_prefix_space: false, prepend_scheme: "always" } },
    '"pre_tokenizer.prepend_scheme" is "always": add_prefix_space is false',
  ],
  [
    "a mark of two characters",
    { pre_tokenizer: { type: "Metaspace", replacement: "▁▁" } },
    '"pre_tokenizer.replacement"',
  ],
  [
    "an unknown post-processor",
    { post_processor: { type: "Magic" } },
    '"post_processor.type" is "Magic"',
  ],
  [
    "two frames",
    {
      post_processor: {
        type: "Sequence",
        processors: [1, 2].map(() => ({
          type: "BertProcessing",
          sep: ["</s>", 2],
          cls: ["<s>", 1],
        })),
      },
    },
    "at most one of them may add tokens",
  ],
  [
    "a frame of an unknown token",
    { post_processor: { type: "BertProcessing", sep: ["[SEP]", 2], cls: ["<s>", 1] } },
    '"post_processor.sep" is ["[SEP]",2]: in the vocabulary the token has no id',
  ],
  [
    "a frame of another id",
    { post_processor: { type: "RobertaProcessing", sep: ["</s>", 2], cls: ["<s>", 0] } },
    "in the vocabulary the token has the id 1",
  ],
  [
    "a template of an unknown token",
    { post_processor: inFront("<x>", { id: "<x>", ids: [1], tokens: ["<x>"] }) },
    '"<x>" has the id 1 there, and no id in the vocabulary',
  ],
  [
    "a template of another id",
    { post_processor: inFront("<s>", { id: "<s>", ids: [7], tokens: ["<s>"] }) },
    '"<s>" has the id 7 there, and the id 1 in the vocabulary',
  ],
  [
    "a template of two tokens in one",
    { post_processor: inFront("<s>", { id: "<s>", ids: [1, 1], tokens: ["<s>", "<s>"] }) },
    "it must have one id and one token",
  ],
  ["a template without its tokens", { post_processor: inFront("<s>", null) }, "special_tokens"],
  [
    "a template of unknown pieces",
    { post_processor: { ...inFront("<s>", null), single: [{ Sequence: { id: "C" } }] } },
    '"post_processor.single[0]"',
  ],
  ["an unknown decoder", { decoder: { type: "Magic" } }, '"decoder.type" is "Magic"'],
  [
    "an unknown decoder inside others",
    { decoder: { type: "Sequence", decoders: [{ type: "Fuse" }, { type: "Magic" }] } },
    '"decoder.decoders[1].type" is "Magic"',
  ],
  [
    "a decoder that strips backwards",
    { decoder: { type: "Strip", content: " ", start: -1, stop: 0 } },
    '"decoder.start" is -1',
  ],
  [
    "merges of two forms",
    { model: { ...MODEL, merges: [["▁", "a"], "▁ b"] } },
    '"model.merges" entry 1 is "▁ b": two parts are needed, in a list as in entry 0',
  ],
  [
    "a merge of three parts",
    { model: { ...MODEL, merges: ["▁ a b"] } },
    '"model.merges" entry 0 is "▁ a b"',
  ],
  ["no merges", { model: { ...MODEL, merges: undefined } }, '"model.merges" must be a list'],
  ["texts cut at random", { model: { ...MODEL, dropout: 0.1 } }, '"model.dropout" is 0.1'],
  [
    "a prefix of BPE",
    { model: { ...MODEL, continuing_subword_prefix: "##" } },
    '"model.continuing_subword_prefix" is "##"',
  ],
  [
    "an unknown token that is unknown",
    { model: { ...MODEL, unk_token: "<huh>" } },
    '"model.unk_token" is "<huh>"',
  ],
  [
    "no unknown token of WordPiece",
    { model: { ...wordPieceJson()["model"] as Json, unk_token: null }, decoder: null },
    '"model.unk_token" is null',
  ],
  [
    "no prefix of WordPiece",
    {
      model: { ...wordPieceJson()["model"] as Json, continuing_subword_prefix: null },
      decoder: null,
      added_tokens: [],
      post_processor: null,
    },
    '"model.continuing_subword_prefix" is null',
  ],
  [
    "an unknown id of Unigram out of range",
    { model: { type: "Unigram", unk_id: 1, vocab: [["a", 0]] }, added_tokens: [] },
    '"model.unk_id" is 1',
  ],
  [
    "no unknown id of Unigram",
    { model: { type: "Unigram", unk_id: null, vocab: [["a", 0]] }, added_tokens: [] },
    '"model.unk_id" is null',
  ],
  [
    "bytes of Unigram",
    {
      model: { type: "Unigram", unk_id: 0, vocab: [["a", 0]], byte_fallback: true },
      added_tokens: [],
    },
    '"model.byte_fallback" is true',
  ],
  [
    "one piece of Unigram twice",
    { model: { type: "Unigram", unk_id: 0, vocab: [["a", 0], ["a", 1]] }, added_tokens: [] },
    '"model.vocab" holds "a" as entry 0 and 1',
  ],
  [
    "two tokens of one id",
    { model: { ...MODEL, vocab: { ...MODEL["vocab"] as Json, z: 0 } } },
    '"model.vocab" has the id 0 for "<unk>" and "z"',
  ],
  [
    "an added token of another's id",
    { added_tokens: [token(5, "<new>")] },
    '"<new>" has the id 5, which is another token\'s',
  ],
  [
    "an added token of another id",
    { added_tokens: [token(400, "<s>")] },
    '"<s>" has the id 400, and elsewhere the id 1',
  ],
  [
    "two added tokens of one id",
    { added_tokens: [token(400, "<x>"), token(400, "<y>")] },
    '"<y>" has the id 400, which is another token\'s',
  ],
  [
    "an added token of two ids",
    { added_tokens: [token(400, "<x>"), token(401, "<x>")] },
    '"<x>" has the id 401, and elsewhere the id 400',
  ],
  [
    "tokens that are whole words",
    { added_tokens: [token(1, "<s>", { single_word: true })] },
    '"single_word" of "added_tokens" entry 0 is true',
  ],
  [
    "a flag of a token that is a number",
    { added_tokens: [token(1, "<s>", { special: 1 })] },
    '"special" of "added_tokens" entry 0 is 1',
  ],
];

for (const [what, change, says] of REFUSED) {
  Deno.test(`A tokenizer.json with ${what} is refused by file and field`, () => {
    const read = () => Tokenizer.fromHuggingFace({ ...BPE, ...change }, {}, "dir/tokenizer.json");
    const error = assertThrows(read, CheckpointError);
    assertStringIncludes(error.message, says);
    assertStringIncludes(error.message, '"dir/tokenizer.json"');
    assertEquals(error.message.length < 400, true, error.message);
  });
}

Deno.test("BPE may have no unknown token, whichever way that is written", () => {
  const model = { type: "BPE", vocab: { a: 0, b: 1, ab: 2 }, merges: ["a b"] };
  for (const unk_token of [undefined, null, ""]) {
    const json = { model: { ...model, unk_token } };
    const tokenizer = Tokenizer.fromHuggingFace(json, {}, "tokenizer.json");
    assertEquals(tokenizer.encode("ab?a", bare), [2, 0]);
  }
});

Deno.test("Ids of a vocabulary may have holes, and added tokens may lie behind one", () => {
  const json = { ...BPE, added_tokens: [...BPE["added_tokens"] as Json[], token(1000, "<far>")] };
  const tokenizer = Tokenizer.fromHuggingFace(json, {}, "tokenizer.json");
  assertEquals(tokenizer.vocabSize, 1001);
  assertEquals(tokenizer.encode("<far>", bare), [1000]);
  assertEquals(tokenizer.decode([1000, 999], shown), "<far>");
});

Deno.test("Begin and end tokens of tokenizer_config.json must be tokens", () => {
  const read = (config: Json) => Tokenizer.fromHuggingFace(BPE, config, "tokenizer.json");
  for (const name of ["bos_token", "eos_token"]) {
    for (const value of ["<nobody>", { content: "<nobody>", lstrip: false }]) {
      const error = assertThrows(() => read({ [name]: value }), CheckpointError);
      assertStringIncludes(error.message, `"${name}" of its configuration is "<nobody>"`);
    }
    assertThrows(() => read({ [name]: { content: 5 } }), CheckpointError, `"${name}"`);
    assertEquals(read({ [name]: "" }).bosTokenId, undefined);
  }
  // What only templates spell may be missing from the vocabulary.
  assertEquals(read({ pad_token: "<pad>" }).padToken, "<pad>");
});
