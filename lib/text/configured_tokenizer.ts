/** What a model's tokenizer_config.json adds to its tokenizer.json. */

import { isRecord } from "../base/record.ts";
import { configuredPostProcessor } from "./sentence_piece_frame.ts";
import {
  checkIds,
  checkJson,
  idOfToken,
  refuseTokenizer,
  type TokenizerJson,
} from "./tokenizer_check.ts";
import type { TokenizerEngine } from "./tokenizer_engine.ts";

/**
 * With the added tokens of `added_tokens_decoder` that its own list lacks: Hugging Face's classes add
 * them. One that both have must have the same id in both.
 */
export function withConfiguredTokens(
  json: TokenizerJson,
  config: Readonly<Record<string, unknown>>,
  file: string,
): TokenizerJson {
  const decoder = config["added_tokens_decoder"] ?? {};
  if (!isRecord(decoder)) {
    refuseTokenizer(file, `"added_tokens_decoder" of its configuration must be an object`);
  }
  const known = new Set(json.added_tokens.map(({ id, content }) => `${id} ${content}`));
  const others = Object.entries(decoder).flatMap(([key, token]) => {
    const content = isRecord(token) ? token["content"] : undefined;
    if (!/^\d{1,8}$/.test(key) || typeof content !== "string" || content === "") {
      refuseTokenizer(
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
export function withConfiguredFrame(
  json: TokenizerJson,
  config: Readonly<Record<string, unknown>>,
  file: string,
): TokenizerJson {
  const frame = configuredPostProcessor(config, (text) => idOfToken(json, text), file);
  return frame === undefined ? json : { ...json, post_processor: frame };
}

/** Roles of tokens in a tokenizer_config.json. */
const SPECIAL_TOKEN_NAMES = [
  "bos_token",
  "eos_token",
  "unk_token",
  "sep_token",
  "pad_token",
  "cls_token",
  "mask_token",
] as const;

/** A special token is written as its text, or as an object that holds it. */
export function readSpecialTokens(
  config: Readonly<Record<string, unknown>>,
  file: string,
): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const name of SPECIAL_TOKEN_NAMES) {
    const value = config[name];
    if (value === undefined || value === null) continue;
    const text = isRecord(value) ? value["content"] : value;
    if (typeof text !== "string") {
      refuseTokenizer(file, `"${name}" of its configuration must be a text`);
    }
    tokens[name] = text;
  }
  return tokens;
}

/**
 * Texts begin and end with these: templates write them, and answers end by them. As a text that is
 * no token they would be neither. "" is how some configurations say that there is none.
 */
export function checkFrameTokens(
  tokens: Readonly<Record<string, string>>,
  engine: TokenizerEngine,
  file: string,
): void {
  for (const name of ["bos_token", "eos_token"]) {
    const text = tokens[name] ?? "";
    if (text === "" || engine.idOf(text) !== undefined) continue;
    refuseTokenizer(
      file,
      `"${name}" of its configuration is ${
        JSON.stringify(text)
      }, which is no token of its vocabulary`,
    );
  }
}
