/** SentencePiece vocabularies from a GGUF file: BPE with scores ("llama") and Unigram ("t5"). */

import { ggufPostProcessor } from "./gguf_frame.ts";
import { type GgufVocabulary, TOKEN_TYPE } from "./gguf_reader.ts";
import { addedToken, type AddedTokenJson, BYTE_PIECES } from "./tokenizer_json.ts";

/** What SentencePiece writes for a space. */
const SPACE = "\u2581";
/** A run of spaces, as new and as old files spell it. */
const SPACES = /^(?: +|\u2581+)$/;

/**
 * SentencePiece merges the neighbours whose whole has the highest score. As a list of merges: every
 * way to cut a piece into two, in the order of the pieces' scores.
 */
function scoredMerges(scores: ReadonlyMap<string, number>): [string, string][] {
  const ids = new Map([...scores.keys()].map((piece, index) => [piece, index]));
  const merges: { left: string; right: string; score: number }[] = [];
  for (const [piece, score] of scores) {
    const local: typeof merges = [];
    let cut = 0;
    for (const character of piece) {
      cut += character.length;
      const [left, right] = [piece.slice(0, cut), piece.slice(cut)];
      if (ids.has(left) && ids.has(right)) local.push({ left, right, score });
    }
    local.sort((a, b) =>
      (ids.get(a.left) as number) - (ids.get(b.left) as number) ||
      (ids.get(a.right) as number) - (ids.get(b.right) as number)
    );
    merges.push(...local);
  }
  merges.sort((a, b) =>
    b.score - a.score || b.left.length - a.left.length || b.right.length - a.right.length
  );
  return merges.map(({ left, right }) => [left, right]);
}

/** BPE with scores, as Llama 2, Mistral and Gemma have it. */
export function scoredBpeFromGguf(vocabulary: GgufVocabulary): unknown {
  const { reader, tokens, types } = vocabulary;
  const scores = reader.numbers("tokenizer.ggml.scores", tokens.length);
  const vocab: Record<string, number> = Object.create(null);
  const mergeable = new Map<string, number>();
  tokens.forEach((token, id) => {
    if (types[id] === TOKEN_TYPE.unused) return;
    const isNamedRun = types[id] === TOKEN_TYPE.userDefined && SPACES.test(token);
    const piece = isNamedRun ? SPACE.repeat(token.length) : token;
    vocab[piece] = id;
    // What is left of a run beside other characters still becomes one token, before all else.
    if (isNamedRun) mergeable.set(piece, Number.MAX_VALUE);
    else if (types[id] === TOKEN_TYPE.normal) mergeable.set(piece, scores[id] as number);
  });
  const spacePrefix = reader.boolean("tokenizer.ggml.add_space_prefix") ?? true;
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: addedTokens(vocabulary),
    normalizer: {
      type: "Sequence",
      normalizers: [
        ...(spacePrefix ? [{ type: "Prepend", prepend: SPACE }] : []),
        { type: "Replace", pattern: { String: " " }, content: SPACE },
      ],
    },
    pre_tokenizer: null,
    post_processor: ggufPostProcessor(vocabulary, { addBegin: true, addEnd: false, pair: "twice" }),
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: SPACE }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(spacePrefix ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: tokens[unknownId(vocabulary)] ?? null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: BYTE_PIECES.every((piece) => vocab[piece] !== undefined),
      ignore_merges: false,
      vocab,
      merges: scoredMerges(mergeable),
    },
  };
}

/** Unigram, as T5 and XLM-RoBERTa have it. */
export function unigramFromGguf(vocabulary: GgufVocabulary): unknown {
  const { reader, tokens, types } = vocabulary;
  const scores = reader.numbers("tokenizer.ggml.scores", tokens.length);
  const trimmed = reader.boolean("tokenizer.ggml.remove_extra_whitespaces") ?? false;
  const spacePrefix = reader.boolean("tokenizer.ggml.add_space_prefix") ?? false;
  // Ids are positions in this model, so only fillers at the end can be left out.
  const count = types.findLastIndex((type) => type !== TOKEN_TYPE.unused) + 1;
  const unknown = unknownId(vocabulary);
  if (tokens[unknown] === undefined) {
    reader.fail(
      "tokenizer.ggml.unknown_token_id",
      "is missing, and no token is of the type for it",
    );
  }
  const metaspace = {
    type: "Metaspace",
    replacement: SPACE,
    add_prefix_space: spacePrefix,
    prepend_scheme: spacePrefix ? "always" : "never",
  };
  const charsmap = "tokenizer.ggml.precompiled_charsmap";
  const normalizers = [
    ...(reader.has(charsmap)
      ? [{ type: "Precompiled", precompiled_charsmap: toBase64(reader.bytes(charsmap)) }]
      : []),
    ...(trimmed ? [{ type: "Replace", pattern: { Regex: " {2,}" }, content: " " }] : []),
  ];
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: addedTokens(vocabulary),
    normalizer: normalizers.length === 0 ? null : { type: "Sequence", normalizers },
    pre_tokenizer: trimmed
      ? { type: "Sequence", pretokenizers: [{ type: "WhitespaceSplit" }, metaspace] }
      : metaspace,
    post_processor: ggufPostProcessor(vocabulary, {
      addBegin: false,
      addEnd: true,
      pair: reader.boolean("tokenizer.ggml.add_bos_token") === true ? "roberta" : "twice",
    }),
    decoder: metaspace,
    model: {
      type: "Unigram",
      unk_id: unknown,
      byte_fallback: false,
      vocab: tokens.slice(0, count).map((token, id) => [token, scores[id]]),
    },
  };
}

function addedTokens({ tokens, types }: GgufVocabulary): AddedTokenJson[] {
  return tokens.flatMap((token, id) => {
    const type = types[id];
    if (type === TOKEN_TYPE.control || type === TOKEN_TYPE.unknown) {
      return [addedToken(id, token, true)];
    }
    if (type !== TOKEN_TYPE.userDefined) return [];
    if (!SPACES.test(token)) return [addedToken(id, token, false)];
    // A run of spaces is found before spaces are respelled, and where a text spells it that way
    // itself. The last of the two is what the id is decoded to.
    return [SPACE, " "].map((space) => addedToken(id, space.repeat(token.length), false));
  });
}

/** −1 where there is none. */
function unknownId({ reader, tokens, types }: GgufVocabulary): number {
  return reader.tokenId("tokenizer.ggml.unknown_token_id", tokens.length) ??
    types.indexOf(TOKEN_TYPE.unknown);
}

function toBase64(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}
