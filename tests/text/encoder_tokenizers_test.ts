/** The tokenizers of RoBERTa (bytes and merges) and XLM-RoBERTa (pieces with scores), alone and in pairs. */

import { assertEquals } from "@std/assert";
import { Tokenizer } from "../../lib/text/tokenizer.ts";
import { BYTE_CHARACTERS } from "../../lib/text/byte_alphabet.ts";

const framed = { addSpecialTokens: true };
const bare = { addSpecialTokens: false };
const shown = { skipSpecialTokens: false };
const hidden = { skipSpecialTokens: true };

/** Both families begin their vocabularies with these. */
const SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"];

function added(maskId: number) {
  return [...SPECIAL, "<mask>"].map((content, i) => ({
    id: i < SPECIAL.length ? i : maskId,
    content,
    // A mask takes the space before it.
    lstrip: content === "<mask>",
    rstrip: false,
    single_word: false,
    normalized: false,
    special: true,
  }));
}

const CONFIG = {
  bos_token: "<s>",
  cls_token: "<s>",
  eos_token: "</s>",
  sep_token: "</s>",
  pad_token: "<pad>",
  unk_token: "<unk>",
  mask_token: { content: "<mask>", lstrip: true },
};

/** As roberta-base has it: ids 0 to 3 special, then bytes, then merges. */
function roberta(): Tokenizer {
  const merges = ["h e", "Ġ t", "Ġt he", "l l"];
  const tokens = [
    ...SPECIAL,
    ...BYTE_CHARACTERS,
    ...merges.map((merge) => merge.replace(" ", "")),
    "<mask>",
  ];
  const json = {
    added_tokens: added(tokens.length - 1),
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true },
    post_processor: {
      type: "RobertaProcessing",
      sep: ["</s>", 2],
      cls: ["<s>", 0],
      trim_offsets: true,
      add_prefix_space: false,
    },
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true },
    model: {
      type: "BPE",
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
  return Tokenizer.fromHuggingFace(json, CONFIG, "tokenizer.json");
}

/** As xlm-roberta-base has it: the best split by the sum of scores, words begin with ▁. */
function xlmRoberta(): Tokenizer {
  const pieces: [string, number][] = [
    ...SPECIAL.map((token): [string, number] => [token, 0]),
    ["▁", -4],
    ["▁the", -3],
    ["▁t", -5],
    ["he", -5],
    ["re", -4.5],
    ["▁there", -9],
    ["t", -7],
    ["h", -7],
    ["e", -6],
    ["r", -7],
    ["é", -8],
    ["<mask>", 0],
  ];
  const special = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  const text = (id: string) => ({ Sequence: { id, type_id: 0 } });
  const json = {
    added_tokens: added(pieces.length - 1),
    normalizer: null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "WhitespaceSplit" },
        { type: "Metaspace", replacement: "▁", add_prefix_space: true },
      ],
    },
    post_processor: {
      type: "TemplateProcessing",
      single: [special("<s>"), text("A"), special("</s>")],
      pair: [
        special("<s>"),
        text("A"),
        special("</s>"),
        special("</s>"),
        text("B"),
        special("</s>"),
      ],
      special_tokens: {
        "<s>": { id: "<s>", ids: [0], tokens: ["<s>"] },
        "</s>": { id: "</s>", ids: [2], tokens: ["</s>"] },
      },
    },
    decoder: { type: "Metaspace", replacement: "▁", add_prefix_space: true },
    model: { type: "Unigram", unk_id: 3, vocab: pieces },
  };
  return Tokenizer.fromHuggingFace(json, CONFIG, "tokenizer.json");
}

Deno.test("RoBERTa's tokenizer merges bytes and puts a text between <s> and </s>", () => {
  const tokenizer = roberta();
  const byte = (character: string) => 4 + character.charCodeAt(0);
  const [he, , the, ll] = [260, 261, 262, 263];
  assertEquals(tokenizer.encode("hello the", framed), [0, he, ll, byte("o"), the, 2]);
  assertEquals(tokenizer.encode("é", bare), [4 + 0xc3, 4 + 0xa9]);
  assertEquals(tokenizer.encode("", framed), [0, 2]);
  assertEquals(tokenizer.encode("hello <mask>", bare), [he, ll, byte("o"), 264]);
  assertEquals(tokenizer.decode([0, he, ll, byte("o"), the, 2], hidden), "hello the");
  assertEquals(tokenizer.decode([0, he, 2], shown), "<s>he</s>");
  assertEquals([tokenizer.padToken, tokenizer.bosTokenId, tokenizer.eosTokenId], ["<pad>", 0, 2]);
});

Deno.test("XLM-RoBERTa's tokenizer takes the split with the best sum of scores", () => {
  const tokenizer = xlmRoberta();
  // ▁the + re = −7.5 beats ▁there = −9, and ▁t + he + re = −14.5.
  assertEquals(tokenizer.encode("there", framed), [0, 5, 8, 2]);
  assertEquals(tokenizer.encode("the  é", framed), [0, 5, 4, 14, 2]);
  assertEquals(tokenizer.encode("z", bare), [4, 3], "an unknown character");
  assertEquals(tokenizer.encode("the <mask>", bare), [5, 15]);
  assertEquals(tokenizer.decode([0, 5, 8, 5, 2], hidden), "there the");
});

Deno.test("Both tokenizers put two </s> between the texts of a pair", () => {
  for (const tokenizer of [roberta(), xlmRoberta()]) {
    const [first, second] = ["the", "there"].map((text) => tokenizer.encode(text, bare)) as [
      number[],
      number[],
    ];
    const { ids } = tokenizer.encodePair(first, second);
    assertEquals(ids, [0, ...first, 2, 2, ...second, 2]);
    assertEquals(tokenizer.encodePair([], []).ids, [0, 2, 2, 2]);
  }
});
