/** Small vocabularies of three kinds, built by hand, and seeded randomness for texts and ids. */

import { BYTE_CHARACTERS } from "../../lib/text/byte_alphabet.ts";

/** Ids of the byte-level vocabulary: four added tokens, then byte b is 4 + b, then merges. */
export const BYTE_0 = 4;
/** How many ids the byte-level vocabulary has, its two fillers included. */
export const BYTE_LEVEL_SIZE: number = 4 + 256 + 9 + 2;

/** GGUF metadata of a byte-level vocabulary; `changes` replaces entries, undefined removes them. */
export function byteLevelMetadata(
  changes: Readonly<Record<string, unknown>> = {},
): Map<string, unknown> {
  const merges = ["h e", "l l", "he ll", "hell o", "Ġ hello", "1 2", "Ġ Ġ", "Ì ģ", "ll o"];
  const tokens = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<tool>",
    ...BYTE_CHARACTERS,
    ...merges.map((merge) => merge.replace(" ", "")),
    "[PAD0]",
    "[PAD1]",
  ];
  const types = tokens.map((token, id) => id < 3 ? 3 : id === 3 ? 4 : /^\[PAD/.test(token) ? 5 : 1);
  const metadata = new Map<string, unknown>([
    ["tokenizer.ggml.model", "gpt2"],
    ["tokenizer.ggml.pre", "smollm"],
    ["tokenizer.ggml.tokens", tokens],
    ["tokenizer.ggml.token_type", types],
    ["tokenizer.ggml.merges", merges],
    ["tokenizer.ggml.bos_token_id", 1],
    ["tokenizer.ggml.eos_token_id", 2n], // 64-bit integers may come as bigint
    ["tokenizer.ggml.add_bos_token", false],
  ]);
  for (const [key, value] of Object.entries(changes)) {
    if (value === undefined) metadata.delete(key);
    else metadata.set(key, value);
  }
  return metadata;
}

/** tokenizer.json of a SentencePiece-like vocabulary: words begin with ▁, bytes are `<0xXX>`. */
export function sentencePieceJson(): Record<string, unknown> {
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  const merges: [string, string][] = [["▁", "a"], ["▁", "b"], ["a", "b"], ["▁a", "b"]];
  const pieces = ["<unk>", "<s>", "</s>", ...bytes, "▁", "a", "b", "é", "\ufffd"];
  const vocab = [...pieces, ...merges.map((pair) => pair.join(""))];
  return {
    added_tokens: ["<unk>", "<s>", "</s>"].map((content, id) => ({
      id,
      content,
      special: true,
      normalized: false,
    })),
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ],
    },
    pre_tokenizer: null,
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [],
      special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
    },
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: {
      type: "BPE",
      unk_token: "<unk>",
      byte_fallback: true,
      vocab: Object.fromEntries(vocab.map((piece, id) => [piece, id])),
      merges,
    },
  };
}

/** tokenizer.json of a WordPiece vocabulary. */
export function wordPieceJson(): Record<string, unknown> {
  const vocab = ["[UNK]", "[CLS]", "[SEP]", "play", "##ing", "##s", "ball", ",", "the"];
  return {
    added_tokens: vocab.slice(0, 3).map((content, id) => ({ id, content, special: true })),
    normalizer: { type: "BertNormalizer", lowercase: true, clean_text: true },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: null,
    decoder: { type: "WordPiece", prefix: "##", cleanup: false },
    model: {
      type: "WordPiece",
      unk_token: "[UNK]",
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(vocab.map((piece, id) => [piece, id])),
    },
  };
}

/** Random numbers from a seed. */
export interface Random {
  /** An integer from 0 to `count` − 1. */
  below(count: number): number;
  pick<T>(items: readonly T[]): T;
}

/** Runs `body` with fresh randomness; a failure names the seed, which `seed` takes to repeat it. */
export function withRandom(body: (random: Random) => void, seed: number = Date.now() >>> 0): void {
  let state = seed;
  const below = (count: number): number => { // xorshift with a multiply
    state = (state + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) % count;
  };
  const pick = <T>(items: readonly T[]): T => items[below(items.length)] as T;
  try {
    body({ below, pick });
  } catch (error) {
    throw new Error(`failed with seed ${seed}: ${(error as Error).message}`, { cause: error });
  }
}

/** Awkward pieces that random texts are put together from. */
export const TEXT_PIECES: readonly string[] = [
  "hello",
  " hello",
  "e\u0301",
  "  ",
  "\n\n",
  "\t",
  "12",
  "3.14",
  "don't",
  "서울",
  "東京",
  "👩‍👩‍👧",
  "🇰🇷",
  "\u00a0",
  "\u200b",
  "\ufeff",
  "\ufffd",
  "مرحبا",
  "<|im_end|>",
  "<|im_",
  "!?",
  "a",
];
