/** Text ↔ token ids. */

import { CheckpointError } from "../base/errors.ts";
import {
  checkFrameTokens,
  readSpecialTokens,
  withConfiguredFrame,
  withConfiguredTokens,
} from "./configured_tokenizer.ts";
import { tokenizerFromGguf, type TokenizerSource } from "./gguf_tokenizer.ts";
import { createPackageEngine } from "./package_engine.ts";
import { joinPair, type PairEncoding, type PairTemplate, pairTemplateOf } from "./pair_template.ts";
import { decodeStrictly, encodeUtf8, TokenSpelling } from "./token_spelling.ts";
import {
  checkIds,
  checkJson,
  idOfToken,
  largestId,
  type TokenizerJson,
} from "./tokenizer_check.ts";
import { packageComponents } from "./tokenizer_components.ts";
import type { EngineFactory, TokenizerEngine } from "./tokenizer_engine.ts";

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
  #spelling: TokenSpelling;
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
    this.#spelling = new TokenSpelling(json.decoder);
    this.isByteLevel = this.#spelling.isByteLevel;
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

  /** The beginning-of-sequence token's text. */
  get bosToken(): string | undefined {
    return this.specialTokens["bos_token"];
  }

  /** The padding token's text. */
  get padToken(): string | undefined {
    return this.specialTokens["pad_token"];
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
      const { lengthens } = this.#spelling;
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
    return this.#spelling.bytes(this.tokenString(id));
  }

  /** The byte that a token like `<0x0A>` stands for; undefined for every other token. */
  byteValue(id: number): number | undefined {
    return this.#spelling.byteValue(this.tokenString(id));
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

function createEngine(
  json: TokenizerJson,
  config: Record<string, unknown>,
  { file, create }: { readonly file: string; readonly create: EngineFactory },
): TokenizerEngine {
  const components = packageComponents(json, (text) => idOfToken(json, text), file);
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
