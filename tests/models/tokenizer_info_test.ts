import { assertEquals } from "@std/assert";
import { tokenizerInfo } from "../../lib/models/tokenizer_info.ts";

Deno.test("A tokenizer's settings are its config's, without paths, with the template in use", () => {
  const text = {
    kind: "huggingface",
    tokenizer: {},
    tokenizerConfig: {
      tokenizer_class: "GPT2Tokenizer",
      model_max_length: 8192,
      name_or_path: "somebody/model",
      special_tokens_map_file: "somebody/map.json",
      vocab_file: "vocab.json",
      chat_template: "the checkpoint's",
    },
    chatTemplate: "the checkpoint's",
    files: { tokenizer: "t", tokenizerConfig: "c", chatTemplate: undefined },
  } as const;
  const given = { specialTokens: {}, chatTemplate: "the one given" };
  assertEquals(tokenizerInfo(text, given), {
    tokenizer_class: "GPT2Tokenizer",
    model_max_length: 8192,
    chat_template: "the one given",
  });
});

Deno.test("A GGUF file's tokenizer has settings too", () => {
  const metadata = new Map<string, string | boolean>([
    ["tokenizer.ggml.model", "gpt2"],
    ["tokenizer.ggml.pre", "smollm"],
    ["tokenizer.ggml.add_bos_token", false],
    ["general.name", "other"],
  ]);
  const given = { specialTokens: { eos_token: "<|im_end|>" }, chatTemplate: undefined };
  assertEquals(tokenizerInfo({ kind: "gguf", metadata, file: "f.gguf" }, given), {
    tokenizer_class: "PreTrainedTokenizerFast",
    eos_token: "<|im_end|>",
    add_bos_token: false,
    model: "gpt2",
    pre: "smollm",
  });
});
