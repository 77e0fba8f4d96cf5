/**
 * A tokenizer.json, checked: the package takes it on trust, and what it takes wrong shows as texts
 * that lack something.
 */

import { CheckpointError } from "../base/errors.ts";
import { isRecord } from "../base/record.ts";

/** A token that is found in a text as it is. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special?: unknown;
}

/** As much as is read of a tokenizer.json; the package knows the rest. */
export interface TokenizerJson {
  readonly model: Readonly<Record<string, unknown>>;
  readonly added_tokens: readonly AddedToken[];
  readonly decoder: unknown;
  readonly [key: string]: unknown;
}

/** Parts that older files leave out, and the package asks for. */
const ABSENT = {
  normalizer: null,
  pre_tokenizer: null,
  post_processor: null,
  decoder: null,
  added_tokens: [],
} as const;

/** Larger ids are a mistake of the file: tables of this length are built from them. */
const ID_MAX = 16 * 1024 * 1024;

/** Old files leave the type out; the package tells them by their parts. */
const MODEL_TYPES: readonly string[] = ["BPE", "WordPiece", "Unigram", "WordLevel"];

/**
 * Checks what the package takes on trust.
 *
 * @throws {CheckpointError} if it is malformed.
 */
export function checkTokenizerJson(value: unknown, file: string): TokenizerJson {
  if (!isRecord(value)) refuseTokenizer(file, "it must hold a JSON object");
  const json: Record<string, unknown> = { ...ABSENT, ...value };
  for (const key of ["normalizer", "pre_tokenizer", "post_processor", "decoder"]) {
    checkComponent(json[key], key, file);
  }
  const { model, added_tokens: added } = json;
  if (!isRecord(model)) refuseTokenizer(file, `"model" must be an object`);
  checkModel(model, file);
  if (!Array.isArray(added)) refuseTokenizer(file, `"added_tokens" must be a list`);
  added.forEach((token: unknown, index: number) => {
    const where = `"added_tokens" entry ${index}`;
    if (!isRecord(token)) refuseTokenizer(file, `${where} must be an object`);
    if (typeof token["content"] !== "string" || token["content"] === "") {
      refuseTokenizer(file, `the "content" of ${where} must be a string that is not empty`);
    }
    checkId(token["id"], where, file);
  });
  return json as unknown as TokenizerJson;
}

/** Where a component of type "Sequence" keeps its parts. */
const SEQUENCE_KEYS: Readonly<Record<string, string>> = {
  normalizer: "normalizers",
  pre_tokenizer: "pretokenizers",
  post_processor: "processors",
  decoder: "decoders",
};

function checkComponent(value: unknown, key: string, file: string): void {
  if (value === null) return;
  if (!isRecord(value) || typeof value["type"] !== "string") {
    refuseTokenizer(file, `"${key}" must be null or an object with a "type"`);
  }
  if (value["type"] !== "Sequence") return;
  const partsKey = SEQUENCE_KEYS[key] as string;
  const parts = value[partsKey];
  if (!Array.isArray(parts)) refuseTokenizer(file, `"${key}.${partsKey}" must be a list`);
  for (const part of parts) checkComponent(part, key, file);
}

function checkModel(model: Record<string, unknown>, file: string): void {
  const { type, vocab, merges } = model;
  if (type !== undefined && !MODEL_TYPES.includes(type as string)) {
    refuseTokenizer(
      file,
      `"model.type" is ${JSON.stringify(type)}: known are ${MODEL_TYPES.join(", ")}`,
    );
  }
  if (Array.isArray(vocab)) { // Unigram: [token, score], the id is the index
    const wrong = vocab.findIndex((entry) =>
      !Array.isArray(entry) || typeof entry[0] !== "string" || typeof entry[1] !== "number"
    );
    if (wrong >= 0) {
      refuseTokenizer(file, `"model.vocab" entry ${wrong} must be a token and its score`);
    }
  } else if (isRecord(vocab)) {
    for (const token of Object.keys(vocab)) {
      const id = vocab[token];
      // Spelled out only for a fault: a vocabulary has a hundred thousand entries.
      if (!isId(id)) checkId(id, `"model.vocab" entry ${JSON.stringify(token)}`, file);
    }
  } else {
    refuseTokenizer(file, `"model.vocab" must be an object of ids, or a list of tokens and scores`);
  }
  if (type !== "BPE" && merges === undefined) return;
  if (!Array.isArray(merges)) refuseTokenizer(file, `"model.merges" must be a list`);
  const wrong = merges.findIndex((merge) =>
    typeof merge === "string"
      ? merge.indexOf(" ") < 1 || merge.endsWith(" ")
      : !Array.isArray(merge) || merge.length !== 2 ||
        typeof merge[0] !== "string" || typeof merge[1] !== "string"
  );
  if (wrong >= 0) {
    refuseTokenizer(
      file,
      `"model.merges" entry ${wrong} is ${JSON.stringify(merges[wrong])}: ` +
        "two parts are needed",
    );
  }
  if (isRecord(vocab)) checkMergedTokens(model, vocab, file);
}

/** The parts of a merge and what they become are tokens; an unknown one would vanish from texts. */
function checkMergedTokens(
  { merges, continuing_subword_prefix: prefix }: Record<string, unknown>,
  vocab: Readonly<Record<string, unknown>>,
  file: string,
): void {
  const inner = typeof prefix === "string" ? prefix.length : 0;
  for (const [index, merge] of (merges as readonly (string | readonly string[])[]).entries()) {
    const space = typeof merge === "string" ? merge.indexOf(" ", 1) : 0;
    const [left, right] = typeof merge === "string"
      ? [merge.slice(0, space), merge.slice(space + 1)]
      : merge as readonly [string, string];
    const whole = left + right.slice(inner);
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

/** Refuses a tokenizer for a problem of its files. */
export function refuseTokenizer(file: string, problem: string): never {
  throw new CheckpointError(file, `Cannot read the tokenizer of "${file}": ${problem}`);
}
