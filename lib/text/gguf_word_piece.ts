/** BERT's WordPiece ("bert") from a GGUF file. */

import { type GgufVocabulary, TOKEN_TYPE } from "./gguf_reader.ts";
import {
  addedToken,
  type AddedTokenJson,
  framePostProcessor,
  type FrameToken,
  wordPieceJson,
} from "./tokenizer_json.ts";

/** How the format marks the beginning of a word. */
const WORD_START = "\u2581";

/**
 * The format marks the pieces that begin a word; WordPiece marks the others. So "▁play" and "ing"
 * become "play" and "##ing" again.
 */
export function wordPieceFromGguf(vocabulary: GgufVocabulary): unknown {
  const { reader, tokens, types } = vocabulary;
  const marksStarts = tokens.some((token, id) =>
    types[id] === TOKEN_TYPE.normal && token.startsWith(WORD_START)
  );
  const vocab: Record<string, number> = Object.create(null);
  const addedTokens: AddedTokenJson[] = [];
  tokens.forEach((token, id) => {
    const type = types[id];
    if (type === TOKEN_TYPE.unused) return;
    const isPlain = type === TOKEN_TYPE.normal;
    const piece = isPlain && marksStarts ? respell(token) : token;
    // A text that looks like an added token would otherwise take its place.
    if (vocab[piece] === undefined || !isPlain) vocab[piece] = id;
    if (!isPlain) addedTokens.push(addedToken(id, token, type !== TOKEN_TYPE.userDefined));
  });
  const lowercase = reader.boolean("tokenizer.ggml.normalizer.lowercase") ??
    !tokens.some((token, id) => types[id] === TOKEN_TYPE.normal && isCased(token));
  return wordPieceJson({
    vocab,
    addedTokens,
    unknownToken: tokenOf(vocabulary, ["unknown"], "[UNK]").text,
    lowercase,
    stripAccents: reader.boolean("tokenizer.ggml.normalizer.strip_accents") ?? null,
    spaceChinese: true,
    postProcessor: framePostProcessor({
      begin: reader.boolean("tokenizer.ggml.add_bos_token") === false
        ? undefined
        : tokenOf(vocabulary, ["cls", "bos"], "[CLS]"),
      // "seperator" is how the format spells it.
      end: reader.boolean("tokenizer.ggml.add_sep_token") === false
        ? undefined
        : tokenOf(vocabulary, ["seperator", "eos"], "[SEP]"),
      pair: "bert",
    }),
  });
}

function respell(token: string): string {
  return token.startsWith(WORD_START) ? token.slice(WORD_START.length) : `##${token}`;
}

/** A file need not say whether it lowers case; but a vocabulary without capitals needs it. */
function isCased(token: string): boolean {
  return /[A-Z]/.test(token) && !/^(?:\u2581|##)?\[[^\]]+\]$/.test(token);
}

/** A token named by one of the roles, else the one that is spelled `text`. */
function tokenOf(
  { reader, tokens }: GgufVocabulary,
  roles: readonly string[],
  text: string,
): FrameToken {
  for (const role of roles) {
    const id = reader.tokenId(`tokenizer.ggml.${role}_token_id`, tokens.length);
    if (id !== undefined) return { id, text: tokens[id] as string };
  }
  const id = tokens.indexOf(text);
  const key = `tokenizer.ggml.${roles[0]}_token_id`;
  if (id < 0) reader.fail(key, `is missing, and no token is spelled ${JSON.stringify(text)}`);
  return { id, text };
}
