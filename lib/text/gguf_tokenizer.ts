/** The tokenizer inside a GGUF file's metadata, rebuilt as the tokenizer.json it once was. */

import { CheckpointError } from "../base/errors.ts";

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

interface PreTokenizer {
  /** Applied one after another; every match becomes a piece of its own. */
  readonly patterns: readonly string[];
  readonly nfc?: boolean;
  /** A piece that is in the vocabulary is a token, whatever the merges say. */
  readonly ignoreMerges?: boolean;
  readonly addBos?: boolean;
}

const GPT2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;
const CONTRACTION = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)`;
const LLAMA3 = words(String.raw`\p{N}{1,3}`);
const QWEN2 = words(String.raw`\p{N}`);
const EXAONE_MOE = CONTRACTION +
  String.raw`|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}` +
  String.raw`| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+`;
const DIGIT = String.raw`\p{N}`;

/** `tokenizer.ggml.pre` → how text is cut before merging. */
const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map<string, PreTokenizer>([
  ["default", { patterns: [GPT2] }],
  ["gpt-2", { patterns: [GPT2] }],
  ["exaone4", { patterns: [GPT2] }],
  ["smollm", { patterns: [DIGIT, GPT2] }],
  ["exaone", { patterns: [DIGIT, GPT2] }],
  ["exaone-moe", { patterns: [EXAONE_MOE] }],
  ["llama-bpe", { patterns: [LLAMA3], ignoreMerges: true, addBos: true }],
  ["llama3", { patterns: [LLAMA3], ignoreMerges: true, addBos: true }],
  ["llama-v3", { patterns: [LLAMA3], ignoreMerges: true, addBos: true }],
  ["qwen2", { patterns: [QWEN2], nfc: true }],
  ["deepseek-r1-qwen", { patterns: [QWEN2], nfc: true }], // Qwen's own tokenizer under another name
  ["solar-open", { patterns: [QWEN2] }],
  ["tekken", { patterns: [casedWords("", DIGIT)], ignoreMerges: true, addBos: true }],
  ["gpt-4o", { patterns: [casedWords(`${CONTRACTION}?`, String.raw`\p{N}{1,3}`)] }],
  ["o200k", { patterns: [casedWords(`${CONTRACTION}?`, String.raw`\p{N}{1,3}`)] }],
]);

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

/** Values of `tokenizer.ggml.token_type`. */
const NORMAL = 1;
const CONTROL = 3;
const USER_DEFINED = 4;

const ROLES = ["bos", "eos", "unk", "sep", "pad", "mask"] as const;

/** Role → metadata key. "seperator" is how the format spells it. */
const ROLE_KEYS: Readonly<Record<(typeof ROLES)[number], string>> = {
  bos: "tokenizer.ggml.bos_token_id",
  eos: "tokenizer.ggml.eos_token_id",
  unk: "tokenizer.ggml.unknown_token_id",
  sep: "tokenizer.ggml.seperator_token_id",
  pad: "tokenizer.ggml.padding_token_id",
  mask: "tokenizer.ggml.mask_token_id",
};

/**
 * Reads the `tokenizer.*` entries of `metadata`.
 *
 * Byte-level BPE ("gpt2") is rebuilt; any model is taken whose whole tokenizer.json lies in the
 * file. Control and user-defined tokens go into the vocabulary *and* among the added tokens:
 * readers in other languages number added tokens that the vocabulary lacks from its end upwards.
 */
export function tokenizerFromGguf(
  metadata: ReadonlyMap<string, unknown>,
  file: string,
): TokenizerSource {
  const reader = new Reader(metadata, file);
  const tokens = reader.strings("tokenizer.ggml.tokens");
  const types = reader.types(tokens.length);
  const endTokenIds = findEndTokens(reader, tokens, types);
  const config: Record<string, unknown> = {};
  for (const role of ROLES) {
    const id = reader.tokenId(ROLE_KEYS[role], tokens.length);
    if (id !== undefined) config[`${role}_token`] = tokens[id];
  }
  const embedded = metadata.get("tokenizer.huggingface.json");
  const json = typeof embedded === "string"
    ? parseEmbedded(embedded, file)
    : rebuild(reader, tokens, types);
  return { json, config, vocabSize: tokens.length, endTokenIds };
}

function rebuild(reader: Reader, tokens: readonly string[], types: readonly number[]): unknown {
  const model = reader.string("tokenizer.ggml.model");
  if (model !== "gpt2") {
    reader.fail(
      "tokenizer.ggml.model",
      `is ${JSON.stringify(model)}: only "gpt2", byte-level BPE, can be rebuilt`,
    );
  }
  const name = reader.has("tokenizer.ggml.pre") ? reader.string("tokenizer.ggml.pre") : "default";
  const pre = PRE_TOKENIZERS.get(name) ?? reader.fail(
    "tokenizer.ggml.pre",
    `is ${JSON.stringify(name)}: known are ${[...PRE_TOKENIZERS.keys()].join(", ")}`,
  );
  // Without a prototype "__proto__" is a token like any other.
  const vocab: Record<string, number> = Object.create(null);
  const added: unknown[] = [];
  tokens.forEach((content, id) => {
    const type = types[id];
    if (type === NORMAL || type === CONTROL || type === USER_DEFINED) vocab[content] = id;
    if (type === CONTROL || type === USER_DEFINED) {
      added.push({ ...PLAIN_ADDED_TOKEN, id, content, special: type === CONTROL });
    }
  });
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: pre.nfc === true ? { type: "NFC" } : null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        ...pre.patterns.map((Regex) => ({
          type: "Split",
          pattern: { Regex },
          behavior: "Isolated",
          invert: false,
        })),
        { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    },
    post_processor: postProcessor(reader, tokens, pre.addBos === true),
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null, // also where the file names one: bytes leave nothing unknown
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: pre.ignoreMerges === true,
      vocab,
      merges: readMerges(reader),
    },
  };
}

const PLAIN_ADDED_TOKEN = {
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
} as const;

/** The begin and end tokens that encoding adds; null when it adds none. */
function postProcessor(
  reader: Reader,
  tokens: readonly string[],
  addBosDefault: boolean,
): unknown {
  const begin = added("tokenizer.ggml.add_bos_token", ROLE_KEYS.bos, addBosDefault);
  const end = added("tokenizer.ggml.add_eos_token", ROLE_KEYS.eos, false);
  if (begin === undefined && end === undefined) return null;
  const around = (sequence: string, typeId: number) => [
    ...(begin === undefined ? [] : [special(begin, typeId)]),
    { Sequence: { id: sequence, type_id: typeId } },
    ...(end === undefined ? [] : [special(end, typeId)]),
  ];
  const ids = [...new Set([begin, end])].filter((id) => id !== undefined);
  return {
    type: "TemplateProcessing",
    single: around("A", 0),
    pair: [...around("A", 0), ...around("B", 1)],
    special_tokens: Object.fromEntries(
      ids.map((id) => [tokens[id], { id: tokens[id], ids: [id], tokens: [tokens[id]] }]),
    ),
  };

  function added(flag: string, key: string, fallback: boolean): number | undefined {
    const id = reader.tokenId(key, tokens.length);
    const wanted = reader.boolean(flag);
    if (wanted === true && id === undefined) reader.fail(flag, `is true, but ${key} is missing`);
    return wanted ?? fallback ? id : undefined;
  }

  function special(id: number, typeId: number): unknown {
    return { SpecialToken: { id: tokens[id], type_id: typeId } };
  }
}

function readMerges(reader: Reader): [string, string][] {
  const key = "tokenizer.ggml.merges";
  return reader.strings(key).map((merge, index) => {
    const space = merge.indexOf(" "); // a space inside a part is spelled otherwise, so the first one cuts
    if (space < 1 || space === merge.length - 1) {
      reader.fail(key, `holds ${JSON.stringify(merge)} at index ${index}: two parts are needed`);
    }
    return [merge.slice(0, space), merge.slice(space + 1)];
  });
}

/** The end tokens named by id, then those known by their text. */
function findEndTokens(
  reader: Reader,
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
    if (types[id] !== NORMAL && END_TEXTS.includes(text)) byText.set(text, id);
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

/** Words without regard to case, as Llama 3 and Qwen cut them; `numbers` says how digits group. */
function words(numbers: string): string {
  return CONTRACTION + String.raw`|[^\r\n\p{L}\p{N}]?\p{L}+|` + numbers +
    String.raw`| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
}

/** Words cut where lower case turns to upper case. */
function casedWords(suffix: string, numbers: string): string {
  const upper = String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`;
  const lower = String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`;
  const lead = String.raw`[^\r\n\p{L}\p{N}]?`;
  return `${lead}${upper}*${lower}+${suffix}|${lead}${upper}+${lower}*${suffix}|${numbers}` +
    String.raw`| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
}

/** Checked access to the metadata of one file. */
class Reader {
  #metadata: ReadonlyMap<string, unknown>;
  #file: string;

  constructor(metadata: ReadonlyMap<string, unknown>, file: string) {
    this.#metadata = metadata;
    this.#file = file;
  }

  has(key: string): boolean {
    return this.#metadata.has(key);
  }

  string(key: string): string {
    const value = this.#metadata.get(key);
    return typeof value === "string" ? value : this.fail(key, "must be a string");
  }

  boolean(key: string): boolean | undefined {
    const value = this.#metadata.get(key);
    if (value === undefined || typeof value === "boolean") return value;
    return this.fail(key, "must be a boolean");
  }

  strings(key: string): readonly string[] {
    const value = this.#metadata.get(key);
    if (!Array.isArray(value)) return this.fail(key, "must be a list of strings");
    const wrong = value.findIndex((item) => typeof item !== "string");
    if (wrong >= 0) this.fail(key, `must be a list of strings, but entry ${wrong} is none`);
    return value;
  }

  /** The type of every token; a file without types has only normal ones. */
  types(tokenCount: number): readonly number[] {
    const key = "tokenizer.ggml.token_type";
    const value = this.#metadata.get(key);
    if (value === undefined) return new Array(tokenCount).fill(NORMAL);
    if (!Array.isArray(value) || value.length !== tokenCount) {
      return this.fail(key, `must be a list of ${tokenCount} numbers, one a token`);
    }
    return value.map(Number);
  }

  tokenId(key: string, tokenCount: number): number | undefined {
    const value = this.#metadata.get(key);
    if (value === undefined) return undefined;
    const id = typeof value === "bigint" ? Number(value) : value;
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id >= tokenCount) {
      return this.fail(key, `is ${value}: it must be one of the ${tokenCount} token ids`);
    }
    return id;
  }

  fail(key: string, problem: string): never {
    throw new CheckpointError(
      this.#file,
      `Cannot read the tokenizer of "${this.#file}": ${key} ${problem}`,
    );
  }
}
