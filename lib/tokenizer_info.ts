/** What a checkpoint says of its tokenizer, for those who look from outside. */

import type { TextFiles } from "./models/text_files.ts";
import type { Tokenizer } from "./text/tokenizer.ts";

/** Settings by their names in tokenizer_config.json. */
export type TokenizerInfo = Readonly<Record<string, unknown>>;

/** Settings that name a file or a folder of whoever saved the tokenizer. */
const PATHS = /(?:^|_)(?:file|path)$/;

/**
 * tokenizer_config.json without its paths; of a GGUF file, the special tokens and what it says of
 * adding them. Either way with `tokenizer_class`, and with the chat template that is used.
 */
export function tokenizerInfo(
  text: TextFiles,
  tokenizer: Tokenizer,
  chatTemplate: string | undefined,
): TokenizerInfo {
  const settings = text.kind === "gguf"
    ? ggufSettings(text.metadata, tokenizer)
    : Object.entries(text.tokenizerConfig);
  return {
    tokenizer_class: "PreTrainedTokenizerFast",
    ...Object.fromEntries(settings.filter(([name]) => !PATHS.test(name))),
    ...(chatTemplate === undefined ? {} : { chat_template: chatTemplate }),
  };
}

function ggufSettings(
  metadata: ReadonlyMap<string, unknown>,
  tokenizer: Tokenizer,
): [string, unknown][] {
  const stated = ["add_bos_token", "add_eos_token", "model", "pre"].flatMap((
    name,
  ): [string, unknown][] => {
    const value = metadata.get(`tokenizer.ggml.${name}`);
    return value === undefined ? [] : [[name, value]];
  });
  return [...Object.entries(tokenizer.specialTokens), ...stated];
}
