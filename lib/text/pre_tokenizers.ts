/** The regular expressions by which byte-level vocabularies cut a text before they merge. */

/** How text is cut before merging. */
export interface PreTokenizer {
  /** Applied one after another; every match becomes a piece of its own. */
  readonly patterns: readonly string[];
  readonly nfc?: boolean;
  /** A piece that is in the vocabulary is a token, whatever the merges say. */
  readonly ignoreMerges?: boolean;
  /** A begin token is added unless the file says otherwise. */
  readonly addBos?: boolean;
}

/** Cuts as GPT-2 does; contractions are lower case only. */
export const GPT2: string = String
  .raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;
const CONTRACTION = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)`;
const LLAMA3 = words(String.raw`\p{N}{1,3}`);
/** Cuts as Qwen 2 and 3 do. */
export const QWEN2: string = words(String.raw`\p{N}`);
const EXAONE_MOE = CONTRACTION +
  String.raw`|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}` +
  String.raw`| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+`;
const DIGIT = String.raw`\p{N}`;

/** `tokenizer.ggml.pre` → how text is cut before merging. */
export const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map<string, PreTokenizer>([
  ["default", { patterns: [GPT2] }],
  ["gpt-2", { patterns: [GPT2] }],
  ["roberta-bpe", { patterns: [GPT2] }],
  ["exaone4", { patterns: [GPT2] }],
  ["smollm", { patterns: [DIGIT, GPT2] }],
  ["exaone", { patterns: [DIGIT, GPT2] }],
  ["exaone-moe", { patterns: [EXAONE_MOE] }],
  ["llama-bpe", { patterns: [LLAMA3], ignoreMerges: true, addBos: true }],
  ["llama3", { patterns: [LLAMA3], ignoreMerges: true, addBos: true }],
  ["llama-v3", { patterns: [LLAMA3], ignoreMerges: true, addBos: true }],
  ["qwen2", { patterns: [QWEN2], nfc: true }],
  ["deepseek-r1-qwen", { patterns: [QWEN2], nfc: true }], // Qwen's own tokenizer under another name
  ["solar-open", { patterns: [QWEN2] }],
  ["tekken", { patterns: [casedWords("", DIGIT)], ignoreMerges: true, addBos: true }],
  ["gpt-4o", { patterns: [casedWords(`${CONTRACTION}?`, String.raw`\p{N}{1,3}`)] }],
  ["o200k", { patterns: [casedWords(`${CONTRACTION}?`, String.raw`\p{N}{1,3}`)] }],
]);

/** Words without regard to case, as Llama 3 and Qwen cut them; `numbers` says how digits group. */
function words(numbers: string): string {
  return CONTRACTION + String.raw`|[^\r\n\p{L}\p{N}]?\p{L}+|` + numbers +
    String.raw`| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
}

/** Words cut where lower case turns to upper case. */
function casedWords(suffix: string, numbers: string): string {
  const upper = String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`;
  const lower = String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`;
  const lead = String.raw`[^\r\n\p{L}\p{N}]?`;
  return `${lead}${upper}*${lower}+${suffix}|${lead}${upper}+${lower}*${suffix}|${numbers}` +
    String.raw`| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
}
