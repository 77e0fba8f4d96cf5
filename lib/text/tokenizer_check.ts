/** What a tokenizer.json must be before anything is built from it: its vocabulary, and what is added. */

import { CheckpointError } from "../base/errors.ts";
import { isRecord } from "../base/record.ts";

/** A token that is found in a text as it is. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special?: unknown;
}

/** A checked tokenizer.json. */
export interface TokenizerJson {
  readonly model: Readonly<Record<string, unknown>>;
  readonly added_tokens: readonly AddedToken[];
  readonly normalizer: unknown;
  readonly pre_tokenizer: unknown;
  readonly post_processor: unknown;
  readonly decoder: unknown;
  readonly [key: string]: unknown;
}

/** Larger ids are a mistake of the file: tables of this length are built from them. */
const ID_MAX = 16 * 1024 * 1024;

/** Parts that older files leave out, and the package asks for. */
const ABSENT = {
  normalizer: null,
  pre_tokenizer: null,
  post_processor: null,
  decoder: null,
  added_tokens: [],
} as const;

const MODEL_TYPES: readonly string[] = ["BPE", "WordPiece", "Unigram", "WordLevel"];

/** Checks what the package takes on trust. The model of the result says its type. */
export function checkJson(value: unknown, file: string): TokenizerJson {
  if (!isRecord(value)) refuseTokenizer(file, "it must hold a JSON object");
  const json: Record<string, unknown> = { ...ABSENT, ...value };
  const { model, added_tokens: added } = json;
  if (!isRecord(model)) refuseTokenizer(file, `"model" must be an object`);
  if (!Array.isArray(added)) refuseTokenizer(file, `"added_tokens" must be a list`);
  added.forEach((token: unknown, index: number) =>
    checkAddedToken(token, `"added_tokens" entry ${index}`, file)
  );
  const typed = { ...model, type: modelType(model, file) };
  checkModel(typed, added as readonly AddedToken[], file);
  return { ...json, model: typed } as unknown as TokenizerJson;
}

/**
 * Refuses a file in which a token has two ids, or an id two tokens: no one could tell which is meant.
 * For files that others made: here one id may well be given two spellings on purpose.
 */
export function checkIds(json: TokenizerJson, file: string): void {
  const { model: { vocab }, added_tokens: added } = json;
  const idOf = vocabularyIds(vocab, file);
  const own = ownIds(vocab, file);
  const others = new Map<number, string>();
  const ids = new Map<string, number>();
  for (const { content, id } of added) {
    const place = `"added_tokens" entry ${JSON.stringify(content)}`;
    const [otherId, other] = [ids.get(content) ?? idOf(content), others.get(id)];
    if (otherId !== undefined && otherId !== id) {
      refuseTokenizer(file, `${place} has the id ${id}, and elsewhere the id ${otherId}`);
    }
    if ((other !== undefined && other !== content) || (own[id] === 1 && otherId === undefined)) {
      refuseTokenizer(file, `${place} has the id ${id}, which is another token's`);
    }
    others.set(id, content);
    ids.set(content, id);
  }
}

/** Finds the id of a token of the vocabulary without what was added. */
function vocabularyIds(vocab: unknown, file: string): (token: string) => number | undefined {
  if (!Array.isArray(vocab)) {
    const record = vocab as Readonly<Record<string, number>>;
    return (token) => Object.hasOwn(record, token) ? record[token] : undefined;
  }
  const ids = new Map<string, number>();
  for (const [id, [token]] of (vocab as readonly (readonly [string, number])[]).entries()) {
    const other = ids.get(token);
    if (other !== undefined) {
      refuseTokenizer(
        file,
        `"model.vocab" holds ${JSON.stringify(token)} as entry ${other} and ${id}`,
      );
    }
    ids.set(token, id);
  }
  return (token) => ids.get(token);
}

/** 1 for every id that the vocabulary has; a vocabulary is too long for a map of them. */
function ownIds(vocab: unknown, file: string): Uint8Array {
  if (Array.isArray(vocab)) return new Uint8Array(vocab.length).fill(1);
  const record = vocab as Readonly<Record<string, number>>;
  const ids = Object.values(record);
  const own = new Uint8Array(ids.reduce((largest, id) => Math.max(largest, id), -1) + 1);
  for (const id of ids) {
    if (own[id] === 1) {
      const tokens = Object.keys(record).filter((token) => record[token] === id);
      const names = tokens.map((token) => JSON.stringify(token)).join(" and ");
      refuseTokenizer(file, `"model.vocab" has the id ${id} for ${names}`);
    }
    own[id] = 1;
  }
  return own;
}

function checkAddedToken(token: unknown, where: string, file: string): void {
  if (!isRecord(token)) refuseTokenizer(file, `${where} must be an object`);
  if (typeof token["content"] !== "string" || token["content"] === "") {
    refuseTokenizer(file, `the "content" of ${where} must be a string that is not empty`);
  }
  checkId(token["id"], where, file);
  for (const key of ["special", "single_word", "lstrip", "rstrip", "normalized"]) {
    const value = token[key] ?? false;
    if (typeof value !== "boolean") {
      refuseTokenizer(
        file,
        `"${key}" of ${where} is ${JSON.stringify(value)}: it must be true or false`,
      );
    }
  }
  if (token["single_word"] === true) {
    refuseTokenizer(
      file,
      `"single_word" of ${where} is true: tokens that must be whole words are not supported`,
    );
  }
}

/** Old files leave the type out: their parts tell it. */
function modelType(model: Readonly<Record<string, unknown>>, file: string): string {
  const { type } = model;
  if (type === undefined || type === null) {
    if (model["merges"] !== undefined) return "BPE";
    if (Array.isArray(model["vocab"])) return "Unigram";
    return model["max_input_chars_per_word"] !== undefined ||
        model["continuing_subword_prefix"] !== undefined
      ? "WordPiece"
      : "WordLevel";
  }
  if (typeof type === "string" && MODEL_TYPES.includes(type)) return type;
  return refuseTokenizer(
    file,
    `"model.type" is ${JSON.stringify(type)}: known are ${MODEL_TYPES.join(", ")}`,
  );
}

function checkModel(
  model: Readonly<Record<string, unknown>>,
  added: readonly AddedToken[],
  file: string,
): void {
  const { type, vocab } = model;
  if (type === "Unigram") return checkUnigram(model, file);
  if (!isRecord(vocab)) refuseTokenizer(file, `"model.vocab" of ${type} must be an object of ids`);
  const tokens = Object.keys(vocab);
  if (tokens.length === 0) refuseTokenizer(file, `"model.vocab" must not be empty`);
  for (const token of tokens) {
    const id = vocab[token];
    // Spelled out only for a fault: a vocabulary has a hundred thousand entries.
    if (!isId(id)) checkId(id, `"model.vocab" entry ${JSON.stringify(token)}`, file);
  }
  checkUnknownToken(
    model,
    (token) => Object.hasOwn(vocab, token) || added.some(({ content }) => content === token),
    file,
  );
  if (type === "BPE") checkBpe(model, vocab, file);
  if (type === "WordPiece") checkWordPiece(model, file);
}

/**
 * What stands for unknown pieces must itself be known. WordPiece and WordLevel cannot do without; of
 * BPE null says that there is none, and so does "".
 */
function checkUnknownToken(
  { type, unk_token: unknown }: Readonly<Record<string, unknown>>,
  has: (token: string) => boolean,
  file: string,
): void {
  if (type === "BPE" && (unknown ?? "") === "") return;
  if (typeof unknown === "string" && has(unknown)) return;
  refuseTokenizer(
    file,
    `"model.unk_token" is ${
      JSON.stringify(unknown) ?? "missing"
    }: it must be a token of the vocabulary`,
  );
}

function checkUnigram(model: Readonly<Record<string, unknown>>, file: string): void {
  const { vocab, unk_id: unknown } = model;
  if (!Array.isArray(vocab) || vocab.length === 0) {
    refuseTokenizer(file, `"model.vocab" of Unigram must be a list of tokens and scores`);
  }
  const wrong = vocab.findIndex((entry) =>
    !Array.isArray(entry) || typeof entry[0] !== "string" || typeof entry[1] !== "number"
  );
  if (wrong >= 0) {
    refuseTokenizer(file, `"model.vocab" entry ${wrong} must be a token and its score`);
  }
  if (vocab.length > ID_MAX) {
    refuseTokenizer(
      file,
      `"model.vocab" has ${vocab.length} tokens: there may be at most ${ID_MAX}`,
    );
  }
  if (!isId(unknown) || unknown >= vocab.length) {
    refuseTokenizer(
      file,
      `"model.unk_id" is ${JSON.stringify(unknown) ?? "missing"}: it must be one of the ` +
        `${vocab.length} ids`,
    );
  }
  if (model["byte_fallback"] === true) {
    refuseTokenizer(file, `"model.byte_fallback" is true: of Unigram that is not supported`);
  }
}

function checkWordPiece(model: Readonly<Record<string, unknown>>, file: string): void {
  const { continuing_subword_prefix: prefix, max_input_chars_per_word: longest } = model;
  if (typeof prefix !== "string") {
    refuseTokenizer(
      file,
      `"model.continuing_subword_prefix" is ${JSON.stringify(prefix) ?? "missing"}: ` +
        "it must be a text",
    );
  }
  if (longest !== undefined && (!Number.isSafeInteger(longest) || (longest as number) < 1)) {
    refuseTokenizer(
      file,
      `"model.max_input_chars_per_word" is ${JSON.stringify(longest)}: ` +
        "it must be an integer of at least 1",
    );
  }
}

function checkBpe(
  model: Readonly<Record<string, unknown>>,
  vocab: Readonly<Record<string, unknown>>,
  file: string,
): void {
  const { merges, dropout, continuing_subword_prefix: prefix, end_of_word_suffix: suffix } = model;
  for (const key of ["fuse_unk", "byte_fallback", "ignore_merges"]) {
    const value = model[key] ?? false;
    if (typeof value !== "boolean") {
      refuseTokenizer(file, `"model.${key}" is ${JSON.stringify(value)}: it must be true or false`);
    }
  }
  if ((dropout ?? 0) !== 0) {
    refuseTokenizer(
      file,
      `"model.dropout" is ${
        JSON.stringify(dropout)
      }: it must be null, as texts are cut in one way only`,
    );
  }
  if ((prefix ?? "") !== "") {
    refuseTokenizer(
      file,
      `"model.continuing_subword_prefix" is ${JSON.stringify(prefix)}: of BPE none is supported`,
    );
  }
  if (typeof (suffix ?? "") !== "string") {
    refuseTokenizer(
      file,
      `"model.end_of_word_suffix" is ${JSON.stringify(suffix)}: it must be a text`,
    );
  }
  if (!Array.isArray(merges)) refuseTokenizer(file, `"model.merges" must be a list`);
  const isText = typeof merges[0] === "string";
  const wrong = merges.findIndex((merge) => isText ? !isTextMerge(merge) : !isPairMerge(merge));
  if (wrong >= 0) {
    refuseTokenizer(
      file,
      `"model.merges" entry ${wrong} is ${JSON.stringify(merges[wrong])}: two parts are needed, ` +
        (isText ? "with one space between them" : "in a list") + " as in entry 0",
    );
  }
  checkMergedTokens(merges as readonly (string | readonly string[])[], vocab, file);
}

function isTextMerge(merge: unknown): boolean {
  if (typeof merge !== "string") return false;
  const space = merge.indexOf(" ");
  return space > 0 && space < merge.length - 1 && merge.indexOf(" ", space + 1) < 0;
}

function isPairMerge(merge: unknown): boolean {
  return Array.isArray(merge) && merge.length === 2 && typeof merge[0] === "string" &&
    typeof merge[1] === "string";
}

/** The parts of a merge and what they become are tokens; an unknown one would vanish from texts. */
function checkMergedTokens(
  merges: readonly (string | readonly string[])[],
  vocab: Readonly<Record<string, unknown>>,
  file: string,
): void {
  for (const [index, merge] of merges.entries()) {
    const space = typeof merge === "string" ? merge.indexOf(" ") : 0;
    const [left, right] = typeof merge === "string"
      ? [merge.slice(0, space), merge.slice(space + 1)]
      : merge as readonly [string, string];
    const whole = left + right;
    if (isId(vocab[left]) && isId(vocab[right]) && isId(vocab[whole])) continue;
    const unknown = [left, right, whole].find((token) => !isId(vocab[token]));
    refuseTokenizer(
      file,
      `"model.merges" entry ${index} is ${JSON.stringify(merge)}: ` +
        `${JSON.stringify(unknown)} is not in "model.vocab"`,
    );
  }
}

function isId(id: unknown): id is number {
  return typeof id === "number" && Number.isInteger(id) && id >= 0 && id <= ID_MAX;
}

function checkId(id: unknown, where: string, file: string): void {
  if (!isId(id)) {
    refuseTokenizer(
      file,
      `the id of ${where} is ${JSON.stringify(id)}: it must be an integer from 0 to ` +
        `${ID_MAX}`,
    );
  }
}

/** The largest id that is given to a token. */
export function largestId(json: TokenizerJson): number {
  const { vocab } = json.model;
  let largest = Array.isArray(vocab) ? vocab.length - 1 : -1;
  if (!Array.isArray(vocab)) {
    for (const id of Object.values(vocab as Record<string, number>)) {
      largest = Math.max(largest, id);
    }
  }
  for (const token of json.added_tokens) largest = Math.max(largest, token.id);
  return largest;
}

/** The id of a token of the file, an added one or one of its vocabulary. */
export function idOfToken(
  { added_tokens: added, model: { vocab } }: TokenizerJson,
  text: string,
): number | undefined {
  const id = added.find((token) => token.content === text)?.id;
  if (id !== undefined) return id;
  if (isRecord(vocab)) return Object.hasOwn(vocab, text) ? vocab[text] as number : undefined;
  const at = (vocab as readonly (readonly unknown[])[]).findIndex(([token]) => token === text);
  return at < 0 ? undefined : at;
}

/** Refuses a tokenizer for a problem of its files. */
export function refuseTokenizer(file: string, problem: string): never {
  throw new CheckpointError(file, `Cannot read the tokenizer of "${file}": ${problem}`);
}
