/** The tokenizer inside a GGUF file's metadata, rebuilt as the tokenizer.json it once was. */

import { CheckpointError } from "../base/errors.ts";
import { byteLevelFromGguf } from "./gguf_byte_level.ts";
import { GgufReader, type GgufVocabulary, TOKEN_TYPE } from "./gguf_reader.ts";
import { scoredBpeFromGguf, unigramFromGguf } from "./gguf_sentence_piece.ts";
import { wordPieceFromGguf } from "./gguf_word_piece.ts";

/** What a tokenizer is built from. */
export interface TokenizerSource {
  /** The content of a tokenizer.json. */
  readonly json: unknown;
  /** The content of a tokenizer_config.json. */
  readonly config: Record<string, unknown>;
  /** One more than the largest id; ids that only fill the vocabulary up have no entry in `json`. */
  readonly vocabSize?: number;
  /** The ids that end an answer. */
  readonly endTokenIds?: readonly number[];
}

/** Texts of tokens that end an answer or a turn in some model: a GGUF file names only one such id. */
const END_TEXTS: readonly string[] = [
  "<|eot_id|>",
  "<|im_end|>",
  "<|end|>",
  "<|return|>",
  "<|call|>",
  "<|flush|>",
  "<|calls|>",
  "<end_of_turn>",
  "<|endoftext|>",
  "</s>",
  "<|eom_id|>",
  "<|end_of_text|>",
  "<eos>",
];

const ROLES = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"] as const;

/** Role → metadata key. "seperator" is how the format spells it. */
const ROLE_KEYS: Readonly<Record<(typeof ROLES)[number], string>> = {
  bos: "tokenizer.ggml.bos_token_id",
  eos: "tokenizer.ggml.eos_token_id",
  unk: "tokenizer.ggml.unknown_token_id",
  sep: "tokenizer.ggml.seperator_token_id",
  pad: "tokenizer.ggml.padding_token_id",
  cls: "tokenizer.ggml.cls_token_id",
  mask: "tokenizer.ggml.mask_token_id",
};

/**
 * Reads the `tokenizer.*` entries of `metadata`.
 *
 * `tokenizer.ggml.model` says which kind it is; a whole tokenizer.json in the file is preferred.
 */
export function tokenizerFromGguf(
  metadata: ReadonlyMap<string, unknown>,
  file: string,
): TokenizerSource {
  const reader = new GgufReader(metadata, file);
  const tokens = reader.strings("tokenizer.ggml.tokens");
  const types = reader.types(tokens.length);
  checkTexts(reader, tokens, types);
  const endTokenIds = findEndTokens(reader, tokens, types);
  const config: Record<string, unknown> = {};
  for (const role of ROLES) {
    const id = reader.tokenId(ROLE_KEYS[role], tokens.length);
    if (id !== undefined) config[`${role}_token`] = tokens[id];
  }
  const embedded = metadata.get("tokenizer.huggingface.json");
  const json = embedded === undefined
    ? rebuild({ reader, tokens, types })
    : parseEmbedded(reader.string("tokenizer.huggingface.json"), file);
  return { json, config, vocabSize: tokens.length, endTokenIds };
}

/** `tokenizer.ggml.model` → how it is rebuilt. */
const MODELS: ReadonlyMap<string, (vocabulary: GgufVocabulary) => unknown> = new Map([
  ["gpt2", byteLevelFromGguf],
  ["llama", scoredBpeFromGguf],
  ["bert", wordPieceFromGguf],
  ["t5", unigramFromGguf],
]);

function rebuild(vocabulary: GgufVocabulary): unknown {
  const { reader } = vocabulary;
  const key = "tokenizer.ggml.model";
  const name = reader.string(key);
  const build = MODELS.get(name) ??
    reader.fail(key, `is ${JSON.stringify(name)}: known are ${[...MODELS.keys()].join(", ")}`);
  return build(vocabulary);
}

/** Two tokens of one text would leave one of them without a way in. */
function checkTexts(
  reader: GgufReader,
  tokens: readonly string[],
  types: readonly number[],
): void {
  const ids = new Map<string, number>();
  tokens.forEach((text, id) => {
    if (types[id] === TOKEN_TYPE.unused || text === "") return;
    const other = ids.get(text);
    if (other !== undefined) {
      reader.fail(
        "tokenizer.ggml.tokens",
        `holds ${JSON.stringify(text)} at ${other} and at ${id}`,
      );
    }
    ids.set(text, id);
  });
}

/** The end tokens named by id, then those known by their text. */
function findEndTokens(
  reader: GgufReader,
  tokens: readonly string[],
  types: readonly number[],
): number[] {
  const ids = new Set<number>();
  for (const role of ["eos", "eot", "eom"]) {
    const id = reader.tokenId(`tokenizer.ggml.${role}_token_id`, tokens.length);
    if (id !== undefined) ids.add(id);
  }
  const byText = new Map<string, number>();
  tokens.forEach((text, id) => {
    // An ordinary "</s>" is text that a model may write in the middle of an answer.
    if (types[id] !== TOKEN_TYPE.normal && END_TEXTS.includes(text)) byText.set(text, id);
  });
  // These models end a section of an answer, not the answer, with <|end|>.
  const sections = (byText.has("<|return|>") && byText.has("<|call|>")) ||
    (byText.has("<|flush|>") && byText.has("<|calls|>"));
  for (const [text, id] of byText) if (text !== "<|end|>" || !sections) ids.add(id);
  return [...ids];
}

function parseEmbedded(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CheckpointError(
      file,
      `Cannot read the tokenizer of "${file}": tokenizer.huggingface.json is not JSON: ${
        (error as Error).message
      }`,
      { cause: error },
    );
  }
}
