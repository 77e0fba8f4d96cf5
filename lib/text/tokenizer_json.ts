/** Parts of a tokenizer.json, as those write them that build one from something else. */

/** A token that is found in a text as it is, before anything is cut. */
export interface AddedTokenJson {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
  readonly single_word: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly normalized: boolean;
}

/** An added token; special ones are left out of text where those are skipped. */
export function addedToken(id: number, content: string, special: boolean): AddedTokenJson {
  return {
    id,
    content,
    special,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  };
}

/** A token that is put around texts. */
export interface FrameToken {
  readonly id: number;
  readonly text: string;
}

/** What is put around a text, and around a pair of texts. */
export interface Frame {
  readonly begin: FrameToken | undefined;
  readonly end: FrameToken | undefined;
  /**
   * How a pair is joined:
   *
   * - `"twice"`: each text gets the whole frame, as generative models have it
   * - `"bert"`: [CLS] A [SEP] B [SEP], the second text being segment 1
   * - `"roberta"`: <s> A </s></s> B </s>, all of it segment 0
   */
  readonly pair: "twice" | "bert" | "roberta";
}

/** A frame as a post-processor; null when nothing is added. */
export function framePostProcessor({ begin, end, pair }: Frame): unknown {
  if (begin === undefined && end === undefined) return null;
  const special = (token: FrameToken | undefined, segment: number) =>
    token === undefined ? [] : [{ SpecialToken: { id: token.text, type_id: segment } }];
  const text = (id: "A" | "B", segment: number) => [{ Sequence: { id, type_id: segment } }];
  const first = [...special(begin, 0), ...text("A", 0), ...special(end, 0)];
  const segment = pair === "roberta" ? 0 : 1;
  const second = [
    ...(pair === "twice" ? special(begin, segment) : []),
    ...(pair === "roberta" ? special(end, segment) : []),
    ...text("B", segment),
    ...special(end, segment),
  ];
  const tokens = [begin, end].filter((token) => token !== undefined);
  return {
    type: "TemplateProcessing",
    single: first,
    pair: [...first, ...second],
    special_tokens: Object.fromEntries(
      tokens.map(({ id, text }) => [text, { id: text, ids: [id], tokens: [text] }]),
    ),
  };
}

/** What a byte-level tokenizer is built from. */
export interface ByteLevelParts {
  readonly vocab: Readonly<Record<string, number>>;
  readonly merges: readonly (readonly [string, string])[];
  readonly addedTokens: readonly AddedTokenJson[];
  /** Regular expressions that cut a text, one after another. */
  readonly patterns: readonly string[];
  readonly nfc: boolean;
  readonly addPrefixSpace: boolean;
  readonly ignoreMerges: boolean;
  readonly postProcessor: unknown;
}

/** A tokenizer.json of byte-level BPE. */
export function byteLevelJson(parts: ByteLevelParts): Record<string, unknown> {
  const split = (Regex: string) => ({
    type: "Split",
    pattern: { Regex },
    behavior: "Isolated",
    invert: false,
  });
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: parts.addedTokens,
    normalizer: parts.nfc ? { type: "NFC" } : null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        ...parts.patterns.map(split),
        {
          type: "ByteLevel",
          add_prefix_space: parts.addPrefixSpace,
          trim_offsets: true,
          use_regex: false,
        },
      ],
    },
    post_processor: parts.postProcessor,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null, // bytes leave nothing unknown
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: parts.ignoreMerges,
      vocab: parts.vocab,
      merges: parts.merges,
    },
  };
}

/** What a WordPiece tokenizer is built from. */
export interface WordPieceParts {
  /** Pieces inside a word begin with "##". */
  readonly vocab: Readonly<Record<string, number>>;
  readonly addedTokens: readonly AddedTokenJson[];
  readonly unknownToken: string;
  readonly lowercase: boolean;
  /** null: as `lowercase`. */
  readonly stripAccents: boolean | null;
  readonly spaceChinese: boolean;
  readonly postProcessor: unknown;
}

/** A tokenizer.json of BERT's WordPiece. */
export function wordPieceJson(parts: WordPieceParts): Record<string, unknown> {
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: parts.addedTokens,
    normalizer: {
      type: "BertNormalizer",
      clean_text: true,
      handle_chinese_chars: parts.spaceChinese,
      strip_accents: parts.stripAccents,
      lowercase: parts.lowercase,
    },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: parts.postProcessor,
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    model: {
      type: "WordPiece",
      unk_token: parts.unknownToken,
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 100,
      vocab: parts.vocab,
    },
  };
}

/** How a SentencePiece vocabulary spells the 256 bytes. */
export const BYTE_PIECES: readonly string[] = Array.from(
  { length: 256 },
  (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
);
