/** What the text floor needs of a checkpoint: its tokenizer and chat template, as plain data. */

import type { GgufValue } from "./formats/gguf.ts";

/** The text part of a checkpoint, by the kind of checkpoint. */
export type TextFiles =
  | {
    readonly kind: "huggingface";
    /** tokenizer.json, parsed but not checked. */
    readonly tokenizer: unknown;
    /** tokenizer_config.json; empty where there is none. */
    readonly tokenizerConfig: Readonly<Record<string, unknown>>;
    readonly chatTemplate: string | undefined;
    /** Names for error messages; `chatTemplate` is the file that the template came from. */
    readonly files: {
      readonly tokenizer: string;
      readonly tokenizerConfig: string;
      readonly chatTemplate: string | undefined;
    };
  }
  | {
    readonly kind: "gguf";
    readonly metadata: ReadonlyMap<string, GgufValue>;
    readonly file: string;
  };
