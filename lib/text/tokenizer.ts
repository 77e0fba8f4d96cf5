/** Text ↔ token ids: the gate to `@huggingface/tokenizers`. */

import { Tokenizer as PackageTokenizer } from "@huggingface/tokenizers";
import { CheckpointError } from "../base/errors.ts";
import { bytesOfPiece } from "./byte_alphabet.ts";
import { tokenizerFromGguf, type TokenizerSource } from "./gguf_tokenizer.ts";
import { checkIds, checkJson, type TokenizerJson } from "./tokenizer_check.ts";
import { packageComponents } from "./tokenizer_components.ts";
import { configuredPostProcessor } from "./sentence_piece_frame.ts";
import { joinPair, type PairEncoding, type PairTemplate, pairTemplateOf } from "./pair_template.ts";
import type { EngineEncoding, EngineFactory, TokenizerEngine } from "./tokenizer_engine.ts";

/** The package that is always there. */
class PackageEngine implements TokenizerEngine {
  #tokenizer: PackageTokenizer;

  constructor(json: object, config: Readonly<Record<string, unknown>>) {
    // Of the settings only this one counts: others are those of older classes, which have put them
    // into their tokenizer.json.
    const { model } = json as TokenizerJson;
    this.#tokenizer = new PackageTokenizer(withSpacedIdeographs(json), {
      unk_token: model["unk_token"] ?? config["unk_token"],
      clean_up_tokenization_spaces: false,
    });
  }

  encode(text: string, pair: string | null, addSpecialTokens: boolean): EngineEncoding {
    const { ids, token_type_ids: typeIds } = this.#tokenizer.encode(text, {
      text_pair: pair,
      add_special_tokens: addSpecialTokens,
      return_token_type_ids: pair !== null,
    });
    return { ids, typeIds };
  }

  decode(ids: number[]): string {
    return this.#tokenizer.decode(ids, {
      skip_special_tokens: false,
      clean_up_tokenization_spaces: false, // else the package's default, which is true
    });
  }

  tokenOf(id: number): string | undefined {
    return this.#tokenizer.id_to_token(id);
  }

  idOf(token: string): number | undefined {
    return this.#tokenizer.token_to_id(token);
  }
}

/** Chinese characters beyond U+FFFF: they are two code units, and the package looks at one. */
const RARE_IDEOGRAPHS =
  "[\\u{20000}-\\u{2a6df}\\u{2a700}-\\u{2b81f}\\u{2b920}-\\u{2ceaf}\\u{2f800}-\\u{2fa1f}]";

/** BERT puts spaces around every Chinese character; the package leaves out the rare ones. */
function withSpacedIdeographs(json: object): object {
  const { normalizer } = json as { readonly normalizer?: Readonly<Record<string, unknown>> | null };
  if (normalizer?.["type"] !== "BertNormalizer" || normalizer["handle_chinese_chars"] !== true) {
    return json;
  }
  const space = { type: "Replace", pattern: { Regex: RARE_IDEOGRAPHS }, content: " $& " };
  return { ...json, normalizer: { type: "Sequence", normalizers: [space, normalizer] } };
}

const createPackageEngine: EngineFactory = (json, config) => new PackageEngine(json, config);

const SPECIAL_TOKEN_NAMES = [
  "bos_token",
  "eos_token",
  "unk_token",
  "sep_token",
  "pad_token",
  "cls_token",
  "mask_token",
] as const;

/** A model's vocabulary, and the rules that cut text into it. */
export class Tokenizer {
  #engine: TokenizerEngine;
  /** What it was built from; the package keeps the same objects. */
  readonly source: TokenizerSource;
  /** The file it comes from, as errors name it. */
  readonly file: string;
  /** Added tokens are found as they are in a text, and spell themselves, not bytes. */
  #added: ReadonlyMap<number, string>;
  #special: ReadonlySet<number>;
  #decoders: readonly Decoder[];
  /** Whether encoding puts the begin token in front. */
  #addsBegin: boolean;

  /** One more than the largest id. Ids below it may have no token. */
  readonly vocabSize: number;
  /** The id of the beginning-of-sequence token. */
  readonly bosTokenId: number | undefined;
  /** The id of the end-of-sequence token. */
  readonly eosTokenId: number | undefined;
  /** The ids that end an answer as far as the tokenizer knows; the checkpoint may name more. */
  readonly endTokenIds: readonly number[];
  /** `bos_token`, `eos_token` and so on, as chat templates know them; only those that there are. */
  readonly specialTokens: Readonly<Record<string, string>>;
  /** Whether tokens are pieces of a byte stream, as against pieces of text put together by rules. */
  readonly isByteLevel: boolean;

  /** Found when it is first asked for: most prompts are far too short to need it. */
  #longestTokenBytes = 0;
  /** Found when it is first asked for: generative models have no pairs. */
  #pairTemplate: PairTemplate | undefined;

  private constructor(
    source: TokenizerSource,
    file: string,
    create: EngineFactory,
    { isForeign }: { readonly isForeign: boolean } = { isForeign: false },
  ) {
    const checked = checkJson(source.json, file);
    if (isForeign) checkIds(checked, file);
    const whole = isForeign ? withConfiguredTokens(checked, source.config, file) : checked;
    const json = withConfiguredFrame(whole, source.config, file);
    this.source = { ...source, json };
    this.file = file;
    this.#engine = createEngine(json, source.config, { file, create });
    this.#added = new Map(json.added_tokens.map((token) => [token.id, token.content]));
    this.#special = new Set(
      json.added_tokens.filter((token) => token.special === true).map((token) => token.id),
    );
    this.#decoders = flattenDecoder(json.decoder);
    this.isByteLevel = this.#decoders.length === 1 && this.#decoders[0]?.type === "ByteLevel";
    this.vocabSize = Math.max(source.vocabSize ?? 0, largestId(json) + 1);
    this.specialTokens = readSpecialTokens(source.config, file);
    this.bosTokenId = this.#idOf("bos_token");
    this.eosTokenId = this.#idOf("eos_token");
    if (isForeign) checkFrameTokens(this.specialTokens, this.#engine, file);
    this.endTokenIds = source.endTokenIds ??
      (this.eosTokenId === undefined ? [] : [this.eosTokenId]);
    this.#addsBegin = this.bosTokenId !== undefined &&
      this.#encode("a", true)[0] === this.bosTokenId &&
      this.#encode("a", false)[0] !== this.bosTokenId;
  }

  /**
   * From the contents of tokenizer.json and tokenizer_config.json.
   *
   * @param file The tokenizer.json, as errors name it.
   * @param create What cuts texts. Default: the package that is always there.
   * @throws {CheckpointError} if the contents are malformed.
   */
  static fromHuggingFace(
    tokenizerJson: unknown,
    tokenizerConfig: Record<string, unknown>,
    file: string,
    create: EngineFactory = createPackageEngine,
  ): Tokenizer {
    const source = { json: tokenizerJson, config: tokenizerConfig };
    return new Tokenizer(source, file, create, { isForeign: true });
  }

  /**
   * From the metadata of a GGUF file.
   *
   * @throws {CheckpointError} if it is malformed, or of a kind that cannot be rebuilt.
   */
  static fromGguf(
    metadata: ReadonlyMap<string, unknown>,
    file: string,
    create: EngineFactory = createPackageEngine,
  ): Tokenizer {
    const source = tokenizerFromGguf(metadata, file);
    return new Tokenizer(source, file, create, {
      isForeign: metadata.has("tokenizer.huggingface.json"),
    });
  }

  /** From the {@linkcode Tokenizer.source} of another one. */
  static fromSource(
    source: TokenizerSource,
    file: string,
    create: EngineFactory = createPackageEngine,
  ): Tokenizer {
    return new Tokenizer(source, file, create);
  }

  /** The algorithm: "BPE", "WordPiece", "Unigram" or "WordLevel". */
  get kind(): string {
    return (this.source.json as TokenizerJson).model["type"] as string;
  }

  /**
   * The largest id that a text may come to without spelling an added token, or −1 where there is no
   * such id. A model must have rows for all of them.
   */
  get largestPlainId(): number {
    const { model: { vocab } } = this.source.json as TokenizerJson;
    const added = new Set(this.#added.values());
    let largest = -1;
    if (Array.isArray(vocab)) {
      return (vocab as readonly (readonly [string])[]).findLastIndex(([token]) =>
        !added.has(token)
      );
    }
    const record = vocab as Readonly<Record<string, number>>;
    for (const token of Object.keys(record)) {
      const id = record[token] as number;
      if (id > largest && !added.has(token)) largest = id;
    }
    return largest;
  }

  /** Ids of the tokens that `isSpecial`, ascending as the file lists them. */
  get specialIds(): readonly number[] {
    return [...this.#special];
  }

  /** The beginning-of-sequence token's text. */
  get bosToken(): string | undefined {
    return this.specialTokens["bos_token"];
  }

  /** The end-of-sequence token's text. */
  get eosToken(): string | undefined {
    return this.specialTokens["eos_token"];
  }

  /** The padding token's text. */
  get padToken(): string | undefined {
    return this.specialTokens["pad_token"];
  }

  /** The unknown token's text. */
  get unkToken(): string | undefined {
    return this.specialTokens["unk_token"];
  }

  /**
   * Text → ids. Special tokens that are spelled out in the text become their ids in any case;
   * `addSpecialTokens` is about those that the model's rules put around a text. A begin token
   * that the text already carries is not doubled.
   */
  encode(text: string, options: { readonly addSpecialTokens: boolean }): number[] {
    const ids = this.#encode(text, options.addSpecialTokens);
    const doubled = options.addSpecialTokens && this.#addsBegin &&
      ids[0] === this.bosTokenId && ids[1] === this.bosTokenId &&
      text.startsWith(this.bosToken as string);
    return doubled ? ids.slice(1) : ids;
  }

  /**
   * Two texts, each encoded without special tokens, → the ids of the pair: what the model's rules
   * put before, between and after them, and the segment that each id belongs to.
   *
   * @throws {CheckpointError} The tokenizer has no rule that holds two texts.
   */
  encodePair(first: readonly number[], second: readonly number[]): PairEncoding {
    this.#pairTemplate ??= pairTemplateOf((a, b) => this.#encodeBoth(a, b), this.file);
    return joinPair(this.#pairTemplate, first, second);
  }

  /**
   * Ids → text, exactly as the model's rules put it together: incomplete characters show as
   * U+FFFD, and spaces are never cleaned up. Ids without a token add nothing.
   */
  decode(ids: readonly number[], options: { readonly skipSpecialTokens: boolean }): string {
    const shown = ids.filter((id) =>
      this.#engine.tokenOf(id) !== undefined &&
      !(options.skipSpecialTokens && this.#special.has(id))
    );
    if (shown.length === 0) return ""; // the package refuses an empty list
    return this.#engine.decode(shown);
  }

  /** The vocabulary's own spelling of a token; "" for an id without one. */
  tokenString(id: number): string {
    return this.#engine.tokenOf(id) ?? "";
  }

  /** The token decoded alone, special or not; "" when its bytes are not whole characters. */
  tokenText(id: number): string {
    if (this.isByteLevel || this.byteValue(id) !== undefined) {
      return decodeStrictly(this.tokenBytes(id));
    }
    return this.decode([id], { skipSpecialTokens: false });
  }

  /** Bytes of the longest token: a text of n tokens has at most n times as many. */
  get longestTokenBytes(): number {
    if (this.#longestTokenBytes === 0) {
      let longest = 1;
      const lengthens = this.#decoders.some(canLengthen);
      for (let id = 0; id < this.vocabSize; id++) {
        // A code unit has at most three bytes, so most tokens need no closer look.
        if (this.tokenString(id).length * 3 <= longest && !lengthens) continue;
        longest = Math.max(longest, this.tokenBytes(id).length);
      }
      this.#longestTokenBytes = longest;
    }
    return this.#longestTokenBytes;
  }

  /** The bytes that a token adds to a text; none for an id without a token. */
  tokenBytes(id: number): Uint8Array {
    const added = this.#added.get(id);
    if (added !== undefined) return encodeUtf8(added);
    const piece = this.tokenString(id);
    if (this.isByteLevel) return bytesOfPiece(piece) ?? encodeUtf8(piece);
    const byte = this.byteValue(id);
    if (byte !== undefined) return Uint8Array.of(byte);
    return encodeUtf8(this.#decoders.reduce(plainSpelling, piece));
  }

  /** The byte that a token like `<0x0A>` stands for; undefined for every other token. */
  byteValue(id: number): number | undefined {
    if (!this.#decoders.some((decoder) => decoder.type === "ByteFallback")) return undefined;
    const match = /^<0x([0-9A-Fa-f]{2})>$/.exec(this.tokenString(id));
    return match === null ? undefined : parseInt(match[1] as string, 16);
  }

  /** Whether the token is left out of text where special tokens are skipped. */
  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }

  /** The id of the token spelled `text` in the vocabulary. */
  tokenId(text: string): number | undefined {
    return this.#engine.idOf(text);
  }

  #encode(text: string, addSpecialTokens: boolean): number[] {
    const { ids } = this.#engine.encode(text, null, addSpecialTokens);
    return ids.filter((id) => id !== undefined);
  }

  #encodeBoth(first: string, second: string | null): PairEncoding {
    const { ids: found, typeIds } = this.#engine.encode(first, second, second !== null);
    const ids = found.filter((id) => id !== undefined);
    return { ids, typeIds: [...typeIds ?? ids.map(() => 0)] };
  }

  #idOf(name: string): number | undefined {
    const text = this.specialTokens[name];
    return text === undefined ? undefined : this.tokenId(text);
  }
}

interface Decoder {
  readonly type: string;
  readonly [key: string]: unknown;
}

/**
 * With the added tokens of `added_tokens_decoder` that its own list lacks: Hugging Face's classes add
 * them. One that both have must have the same id in both.
 */
function withConfiguredTokens(
  json: TokenizerJson,
  config: Readonly<Record<string, unknown>>,
  file: string,
): TokenizerJson {
  const decoder = config["added_tokens_decoder"] ?? {};
  if (!isRecord(decoder)) {
    fail(file, `"added_tokens_decoder" of its configuration must be an object`);
  }
  const known = new Set(json.added_tokens.map(({ id, content }) => `${id} ${content}`));
  const others = Object.entries(decoder).flatMap(([key, token]) => {
    const content = isRecord(token) ? token["content"] : undefined;
    if (!/^\d{1,8}$/.test(key) || typeof content !== "string" || content === "") {
      fail(
        file,
        `"added_tokens_decoder" of its configuration has ${JSON.stringify(key)} as ` +
          `${JSON.stringify(token)?.slice(0, 100)}: it must be an id with a token`,
      );
    }
    return known.has(`${key} ${content}`) ? [] : [{ ...token as object, id: Number(key) }];
  });
  if (others.length === 0) return json;
  const whole = checkJson({ ...json, added_tokens: [...json.added_tokens, ...others] }, file);
  checkIds(whole, file);
  return whole;
}

/** With the tokens around a text that its configuration asks for, if it has a say. */
function withConfiguredFrame(
  json: TokenizerJson,
  config: Readonly<Record<string, unknown>>,
  file: string,
): TokenizerJson {
  const frame = configuredPostProcessor(config, (text) => idOf(json, text), file);
  return frame === undefined ? json : { ...json, post_processor: frame };
}

/** The id of a token of the file, an added one or one of its vocabulary. */
function idOf({ added_tokens: added, model: { vocab } }: TokenizerJson, text: string) {
  const id = added.find((token) => token.content === text)?.id;
  if (id !== undefined) return id;
  if (isRecord(vocab)) return Object.hasOwn(vocab, text) ? vocab[text] as number : undefined;
  const at = (vocab as readonly (readonly unknown[])[]).findIndex(([token]) => token === text);
  return at < 0 ? undefined : at;
}

function createEngine(
  json: TokenizerJson,
  config: Record<string, unknown>,
  { file, create }: { readonly file: string; readonly create: EngineFactory },
): TokenizerEngine {
  const components = packageComponents(json, (text) => idOf(json, text), file);
  try {
    const engine = create({ ...json, ...components }, {
      ...config,
      clean_up_tokenization_spaces: false,
    });
    const { ids } = engine.encode("a b", null, true); // a part that lacks something fails when it is first used
    if (ids[0] !== undefined) engine.decode([ids[0]]);
    return engine;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new CheckpointError(file, `Cannot build the tokenizer of "${file}": ${reason}`, {
      cause: error,
    });
  }
}

function largestId(json: TokenizerJson): number {
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

/** A special token is written as its text, or as an object that holds it. */
function readSpecialTokens(
  config: Readonly<Record<string, unknown>>,
  file: string,
): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const name of SPECIAL_TOKEN_NAMES) {
    const value = config[name];
    if (value === undefined || value === null) continue;
    const text = isRecord(value) ? value["content"] : value;
    if (typeof text !== "string") fail(file, `"${name}" of its configuration must be a text`);
    tokens[name] = text;
  }
  return tokens;
}

/**
 * Texts begin and end with these: templates write them, and answers end by them. As a text that is
 * no token they would be neither. "" is how some configurations say that there is none.
 */
function checkFrameTokens(
  tokens: Readonly<Record<string, string>>,
  engine: TokenizerEngine,
  file: string,
): void {
  for (const name of ["bos_token", "eos_token"]) {
    const text = tokens[name] ?? "";
    if (text === "" || engine.idOf(text) !== undefined) continue;
    fail(
      file,
      `"${name}" of its configuration is ${
        JSON.stringify(text)
      }, which is no token of its vocabulary`,
    );
  }
}

/** A decoder as the list of its steps. */
function flattenDecoder(decoder: unknown): Decoder[] {
  if (!isRecord(decoder)) return [];
  const steps = decoder["decoders"];
  if (decoder["type"] === "Sequence" && Array.isArray(steps)) return steps.flatMap(flattenDecoder);
  return [decoder as Decoder];
}

/** What one step of a decoder makes of a token in the middle of a text, where that is plain. */
function plainSpelling(piece: string, decoder: Decoder): string {
  switch (decoder.type) {
    case "Metaspace":
      return piece.replaceAll(String(decoder["replacement"] ?? "▁"), " ");
    case "Replace": {
      const pattern = isRecord(decoder["pattern"]) ? decoder["pattern"]["String"] : undefined;
      return typeof pattern === "string"
        ? piece.replaceAll(pattern, String(decoder["content"] ?? ""))
        : piece;
    }
    case "WordPiece": {
      const prefix = String(decoder["prefix"] ?? "##");
      return piece.startsWith(prefix) ? piece.slice(prefix.length) : piece;
    }
    default:
      return piece;
  }
}

/** Whether {@linkcode plainSpelling} may make a token longer. */
function canLengthen({ type, pattern, content }: Decoder): boolean {
  if (type !== "Replace" || !isRecord(pattern)) return false;
  return String(content ?? "").length > String(pattern["String"] ?? "").length;
}

function encodeUtf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function decodeStrictly(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return ""; // the answer to "is it whole?", not a failure
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function fail(file: string, problem: string): never {
  throw new CheckpointError(file, `Cannot read the tokenizer of "${file}": ${problem}`);
}
