/**
 * A real byte-level BPE tokenizer of 101 tokens, as a checkpoint carries one.
 *
 * Ids 0 to 2 are `<|endoftext|>`, `<|im_start|>` and `<|im_end|>`; then come single bytes: most of
 * printable ASCII, the line feed, and the bytes of "é" and "🚀", so that random tokens form broken
 * characters too; 99 is "th" and 100 is "the". Bytes that it lacks vanish, as in real vocabularies.
 */

/** The special tokens, by id. */
export const TINY_SPECIAL_TOKENS: readonly string[] = [
  "<|endoftext|>",
  "<|im_start|>",
  "<|im_end|>",
];

/** The merges, in order. */
export const TINY_MERGES: readonly string[] = ["t h", "th e"];

/** A chat template in the manner of ChatML. */
export const TINY_CHAT_TEMPLATE: string =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + " +
  "'<|im_end|>\\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/** Every token in the vocabulary's own spelling, by id. */
export function tinyTokens(): string[] {
  const left = new Set("`^~\\$%");
  const printable = Array.from({ length: 94 }, (_, i) => String.fromCharCode(0x21 + i))
    .filter((character) => !left.has(character));
  // In the byte-level alphabet a space is Ġ and a line feed is Ċ; "é" is Ã©, and "🚀" is ðŁļĢ.
  return [...TINY_SPECIAL_TOKENS, "Ċ", "Ġ", ...printable, ..."Ã©ðŁļĢ", "th", "the"];
}

/** The content of tokenizer.json. */
export function tinyTokenizerJson(): Record<string, unknown> {
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: TINY_SPECIAL_TOKENS.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: {
      type: "ByteLevel",
      add_prefix_space: false,
      trim_offsets: true,
      use_regex: true,
    },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tinyTokens().map((token, id) => [token, id])),
      merges: TINY_MERGES,
    },
  };
}

/** The content of tokenizer_config.json. */
export function tinyTokenizerConfig(): Record<string, unknown> {
  return {
    tokenizer_class: "PreTrainedTokenizerFast",
    bos_token: TINY_SPECIAL_TOKENS[1],
    eos_token: TINY_SPECIAL_TOKENS[2],
    unk_token: TINY_SPECIAL_TOKENS[0],
    clean_up_tokenization_spaces: false,
    chat_template: TINY_CHAT_TEMPLATE,
  };
}
