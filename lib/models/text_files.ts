/** What the text floor needs of a checkpoint: its tokenizer and chat template, as plain data. */

import type { GgufValue } from "./formats/gguf.ts";

/** Files that came before tokenizer.json. */
export type StoredVocabulary =
  /** vocab.txt. */
  | { readonly kind: "wordPiece"; readonly vocab: string; readonly file: string }
  /** vocab.json and merges.txt, parsed but not checked; added_tokens.json where there is one. */
  | {
    readonly kind: "byteLevel";
    readonly vocab: unknown;
    readonly file: string;
    readonly merges: string;
    readonly mergesFile: string;
    readonly addedTokens: unknown;
    readonly modelType: string;
  };

/** The text part of a checkpoint, by the kind of checkpoint. */
export type TextFiles =
  | {
    readonly kind: "huggingface";
    /** tokenizer.json, parsed but not checked; undefined where `vocabulary` stands in for it. */
    readonly tokenizer: unknown;
    /** The files of an older repository, which has no tokenizer.json. */
    readonly vocabulary?: StoredVocabulary;
    /** tokenizer_config.json; empty where there is none. */
    readonly tokenizerConfig: Readonly<Record<string, unknown>>;
    readonly chatTemplate: string | undefined;
    /** Further templates by name; "tool_use" is for conversations with tools. */
    readonly namedTemplates?: ReadonlyMap<string, string>;
    /** Names for error messages; `chatTemplate` is the file that the template came from. */
    readonly files: {
      readonly tokenizer: string;
      readonly tokenizerConfig: string;
      readonly chatTemplate: string | undefined;
      /** What "tool_use" came from, where that is another file. */
      readonly toolTemplate?: string;
    };
  }
  | {
    readonly kind: "gguf";
    readonly metadata: ReadonlyMap<string, GgufValue>;
    readonly file: string;
  };
