/** What cuts texts: as much of a package's tokenizer as this library uses. */

/** Ids of a text or of a pair; a vocabulary without an unknown token has nothing for some texts. */
export interface EngineEncoding {
  readonly ids: readonly (number | undefined)[];
  /** The segment of each id, where the engine tells. */
  readonly typeIds: readonly number[] | undefined;
}

/** One tokenizer of a package. */
export interface TokenizerEngine {
  encode(text: string, pair: string | null, addSpecialTokens: boolean): EngineEncoding;
  /** Special tokens are shown and spaces are left alone; `ids` is not empty. */
  decode(ids: number[]): string;
  tokenOf(id: number): string | undefined;
  idOf(token: string): number | undefined;
}

/** Makes an engine from the contents of tokenizer.json and tokenizer_config.json. */
export type EngineFactory = (
  json: object,
  config: Readonly<Record<string, unknown>>,
) => TokenizerEngine;

/** Which package cuts texts: "auto" the small one, "slow" `@huggingface/transformers`. */
export type TokenizerMode = "auto" | "slow";
