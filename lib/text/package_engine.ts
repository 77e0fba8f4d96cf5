/** The package that cuts texts unless another one is asked for: the gate to `@huggingface/tokenizers`. */

import { Tokenizer as PackageTokenizer } from "@huggingface/tokenizers";
import type { TokenizerJson } from "./tokenizer_check.ts";
import type { EngineEncoding, EngineFactory, TokenizerEngine } from "./tokenizer_engine.ts";

/** Makes the engine that is always there. */
export const createPackageEngine: EngineFactory = (json, config) => new PackageEngine(json, config);

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
