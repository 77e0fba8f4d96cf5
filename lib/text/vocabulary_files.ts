/** A tokenizer.json made of the files that older repositories have in its place. */

import { isRecord } from "../base/record.ts";
import { GPT2, QWEN2 } from "./pre_tokenizers.ts";
import { refuseTokenizer } from "./tokenizer_check.ts";
import {
  addedToken,
  type AddedTokenJson,
  byteLevelJson,
  framePostProcessor,
  type FrameToken,
  wordPieceJson,
} from "./tokenizer_json.ts";

/** The files, as they were read. */
export type VocabularyFiles =
  /** vocab.txt: a token a line, the line's number is its id. */
  | { readonly kind: "wordPiece"; readonly vocab: string; readonly file: string }
  /** vocab.json: token → id; merges.txt: two parts a line, the first line wins. */
  | {
    readonly kind: "byteLevel";
    readonly vocab: unknown;
    readonly file: string;
    readonly merges: string;
    readonly mergesFile: string;
    /** added_tokens.json: token → id; undefined where there is none. */
    readonly addedTokens: unknown;
    /** `model_type` of config.json, for repositories that name no `tokenizer_class`. */
    readonly modelType: string;
  };

type Config = Readonly<Record<string, unknown>>;

/** Builds the tokenizer.json. */
export function jsonOfVocabularyFiles(files: VocabularyFiles, config: Config): unknown {
  return files.kind === "wordPiece" ? wordPiece(files, config) : byteLevel(files, config);
}

function wordPiece(
  { vocab: text, file }: Extract<VocabularyFiles, { kind: "wordPiece" }>,
  config: Config,
): unknown {
  const lines = text.replace(/\r?\n$/, "").split(/\r?\n/);
  const vocab: Record<string, number> = Object.create(null);
  lines.forEach((token, id) => {
    const other = vocab[token];
    if (other !== undefined) {
      refuseTokenizer(file, `lines ${other + 1} and ${id + 1} both are ${JSON.stringify(token)}`);
    }
    vocab[token] = id;
  });
  const special = (role: string, standard: string): FrameToken => {
    const token = tokenText(config[role]) ?? standard;
    const id = vocab[token];
    if (id === undefined) {
      refuseTokenizer(file, `it has no line ${JSON.stringify(token)}, which is its ${role}`);
    }
    return { id, text: token };
  };
  const roles = {
    unknown: special("unk_token", "[UNK]"),
    begin: special("cls_token", "[CLS]"),
    end: special("sep_token", "[SEP]"),
    pad: special("pad_token", "[PAD]"),
  };
  const mask = tokenText(config["mask_token"]) ?? "[MASK]";
  const added = [...Object.values(roles).map(({ id }) => id), vocab[mask]]
    .filter((id) => id !== undefined)
    .map((id) => addedToken(id, lines[id] as string, true));
  return wordPieceJson({
    vocab,
    addedTokens: added,
    unknownToken: roles.unknown.text,
    lowercase: flag(config, "do_lower_case", file) ?? true,
    stripAccents: flag(config, "strip_accents", file) ?? null,
    spaceChinese: flag(config, "tokenize_chinese_chars", file) ?? true,
    postProcessor: framePostProcessor({ begin: roles.begin, end: roles.end, pair: "bert" }),
  });
}

interface ByteLevelKind {
  readonly patterns: readonly string[];
  readonly nfc: boolean;
  /** Whether the begin and end tokens are put around texts, and how pairs are joined. */
  readonly framed: boolean;
}

const GPT2_KIND: ByteLevelKind = { patterns: [GPT2], nfc: false, framed: false };
const QWEN2_KIND: ByteLevelKind = { patterns: [QWEN2], nfc: true, framed: false };
const ROBERTA_KIND: ByteLevelKind = { patterns: [GPT2], nfc: false, framed: true };

/** `tokenizer_class`, or else `model_type` → the rules that the files themselves do not state. */
const BYTE_LEVEL_KINDS: ReadonlyMap<string, ByteLevelKind> = new Map([
  ["GPT2Tokenizer", GPT2_KIND],
  ["gpt2", GPT2_KIND],
  ["Qwen2Tokenizer", QWEN2_KIND],
  ["qwen2", QWEN2_KIND],
  ["qwen3", QWEN2_KIND],
  ["qwen3_moe", QWEN2_KIND],
  ["RobertaTokenizer", ROBERTA_KIND],
  ["roberta", ROBERTA_KIND],
]);

function byteLevel(
  files: Extract<VocabularyFiles, { kind: "byteLevel" }>,
  config: Config,
): unknown {
  const { file } = files;
  const named = config["tokenizer_class"];
  const name = typeof named === "string" ? named.replace(/Fast$/, "") : files.modelType;
  const kind = BYTE_LEVEL_KINDS.get(name) ?? refuseTokenizer(
    file,
    `how the tokenizer ${JSON.stringify(name)} cuts texts is not known, only that of ` +
      `${[...BYTE_LEVEL_KINDS.keys()].join(", ")}; a tokenizer.json would say it`,
  );
  const vocab = readIds(files.vocab, file, "it");
  const addedTokens = readAdded(files, config);
  const ids = new Map([
    ...Object.entries(vocab),
    ...addedTokens.map(({ id, content }) => [content, id] as const),
  ]);
  const special = (role: string): FrameToken => {
    const text = tokenText(config[role]) ?? (role === "bos_token" ? "<s>" : "</s>");
    const id = ids.get(text) ??
      refuseTokenizer(file, `it has no ${JSON.stringify(text)}, its ${role}`);
    return { id, text };
  };
  return byteLevelJson({
    vocab,
    merges: readMerges(files.merges, files.mergesFile),
    addedTokens,
    patterns: kind.patterns,
    nfc: kind.nfc,
    addPrefixSpace: flag(config, "add_prefix_space", file) ?? false,
    ignoreMerges: false,
    postProcessor: kind.framed
      ? framePostProcessor({
        begin: special("bos_token"),
        end: special("eos_token"),
        pair: "roberta",
      })
      : null,
  });
}

/** Of tokenizer_config.json, else of added_tokens.json with all of them special. */
function readAdded(
  { addedTokens, file, vocab }: Extract<VocabularyFiles, { kind: "byteLevel" }>,
  config: Config,
): AddedTokenJson[] {
  const decoder = config["added_tokens_decoder"];
  if (isRecord(decoder)) {
    return Object.entries(decoder).map(([key, value]) => {
      const id = Number(key);
      const content = tokenText(value);
      if (!Number.isInteger(id) || id < 0 || content === undefined || content === "") {
        refuseTokenizer(
          file,
          `"added_tokens_decoder" entry ${JSON.stringify(key)} must be a token with an id`,
        );
      }
      const { special, single_word: isWord } = value as Config;
      if (isWord === true) {
        refuseTokenizer(
          file,
          `"added_tokens_decoder" entry ${
            JSON.stringify(key)
          } has "single_word" true: tokens that ` +
            "must be whole words are not supported",
        );
      }
      return { ...addedToken(id, content, special === true), ...readSides(value as Config) };
    });
  }
  const listed = addedTokens === undefined ? {} : readIds(addedTokens, file, "added_tokens.json");
  const known = vocab as Readonly<Record<string, number>>;
  const roles = ["bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "mask_token"]
    .map((role) => tokenText(config[role]))
    .filter((text) => text !== undefined && Object.hasOwn(known, text))
    .map((text) => [text as string, known[text as string] as number] as const);
  return [...new Map([...roles, ...Object.entries(listed)])]
    .map(([content, id]) => addedToken(id, content, true));
}

/** White space that a token swallows. */
function readSides(token: Config): { lstrip: boolean; rstrip: boolean } {
  return { lstrip: token["lstrip"] === true, rstrip: token["rstrip"] === true };
}

function readIds(value: unknown, file: string, what: string): Record<string, number> {
  if (!isRecord(value)) refuseTokenizer(file, `${what} must be an object of tokens and ids`);
  for (const [token, id] of Object.entries(value)) {
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0) {
      refuseTokenizer(
        file,
        `the id of ${JSON.stringify(token)} is ${JSON.stringify(id)}: a whole number is needed`,
      );
    }
  }
  return value as Record<string, number>;
}

function readMerges(text: string, file: string): [string, string][] {
  const lines = text.split(/\r?\n/);
  return lines.flatMap((line, index): [string, string][] => {
    if (line === "" || (index === 0 && line.startsWith("#version"))) return [];
    const parts = line.split(" ");
    if (parts.length !== 2 || parts.includes("")) {
      refuseTokenizer(file, `line ${index + 1} is ${JSON.stringify(line)}: two parts are needed`);
    }
    return [[parts[0] as string, parts[1] as string]];
  });
}

function flag(config: Config, name: string, file: string): boolean | undefined {
  const value = config[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value === "boolean") return value;
  refuseTokenizer(
    file,
    `"${name}" of its configuration is ${JSON.stringify(value)}: it must be true or false`,
  );
}

/** A special token is written as its text, or as an object that holds it. */
function tokenText(value: unknown): string | undefined {
  const text = isRecord(value) ? value["content"] : value;
  return typeof text === "string" ? text : undefined;
}
