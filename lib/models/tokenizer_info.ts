/** What a checkpoint says of its tokenizer, for those who look from outside. */

import type { TextFiles } from "./text_files.ts";

/** Settings by their names in tokenizer_config.json. */
export type TokenizerInfo = Readonly<Record<string, unknown>>;

/** Settings that name a file or a folder of whoever saved the tokenizer. */
const PATHS = /(?:^|_)(?:file|path)$/;

/** What a GGUF file says of the tokens that are added to a text, and of the kind of tokenizer. */
const GGUF_SETTINGS: readonly string[] = ["add_bos_token", "add_eos_token", "model", "pre"];

/**
 * tokenizer_config.json without its paths; of a GGUF file, the special tokens and what it says of
 * adding them. Either way with `tokenizer_class`, and with the chat template that is used.
 */
export function tokenizerInfo(
  text: TextFiles,
  { specialTokens, chatTemplate }: {
    readonly specialTokens: Readonly<Record<string, string>>;
    readonly chatTemplate: string | undefined;
  },
): TokenizerInfo {
  const settings = text.kind === "gguf"
    ? [...Object.entries(specialTokens), ...ggufSettings(text.metadata)]
    : Object.entries(text.tokenizerConfig);
  return {
    tokenizer_class: "PreTrainedTokenizerFast",
    ...Object.fromEntries(settings.filter(([name]) => !PATHS.test(name))),
    ...(chatTemplate === undefined ? {} : { chat_template: chatTemplate }),
  };
}

function ggufSettings(metadata: ReadonlyMap<string, unknown>): [string, unknown][] {
  return GGUF_SETTINGS
    .map((name): [string, unknown] => [name, metadata.get(`tokenizer.ggml.${name}`)])
    .filter(([, value]) => value !== undefined);
}
