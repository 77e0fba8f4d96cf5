/** Byte-level BPE ("gpt2") from a GGUF file. */

import { ggufPostProcessor } from "./gguf_frame.ts";
import { type GgufReader, type GgufVocabulary, TOKEN_TYPE } from "./gguf_reader.ts";
import { PRE_TOKENIZERS } from "./pre_tokenizers.ts";
import { addedToken, type AddedTokenJson, byteLevelJson } from "./tokenizer_json.ts";

/**
 * Control and user-defined tokens go into the vocabulary *and* among the added tokens: readers in
 * other languages number added tokens that the vocabulary lacks from its end upwards.
 */
export function byteLevelFromGguf(vocabulary: GgufVocabulary): unknown {
  const { reader, tokens, types } = vocabulary;
  const name = reader.has("tokenizer.ggml.pre") ? reader.string("tokenizer.ggml.pre") : "default";
  const pre = PRE_TOKENIZERS.get(name) ?? reader.fail(
    "tokenizer.ggml.pre",
    `is ${JSON.stringify(name)}: known are ${[...PRE_TOKENIZERS.keys()].join(", ")}`,
  );
  // Without a prototype "__proto__" is a token like any other.
  const vocab: Record<string, number> = Object.create(null);
  const addedTokens: AddedTokenJson[] = [];
  tokens.forEach((content, id) => {
    const type = types[id];
    const isAdded = type === TOKEN_TYPE.control || type === TOKEN_TYPE.userDefined;
    if (type === TOKEN_TYPE.normal || isAdded) vocab[content] = id;
    if (isAdded) addedTokens.push(addedToken(id, content, type === TOKEN_TYPE.control));
  });
  return byteLevelJson({
    vocab,
    merges: readMerges(reader),
    addedTokens,
    patterns: pre.patterns,
    nfc: reader.boolean("tokenizer.ggml.normalizer.nfc") ?? pre.nfc === true,
    addPrefixSpace: reader.boolean("tokenizer.ggml.add_space_prefix") ?? false,
    ignoreMerges: pre.ignoreMerges === true,
    postProcessor: ggufPostProcessor(vocabulary, {
      addBegin: pre.addBos === true,
      addEnd: false,
      pair: name === "roberta-bpe" ? "roberta" : "twice",
    }),
  });
}

function readMerges(reader: GgufReader): [string, string][] {
  const key = "tokenizer.ggml.merges";
  return reader.strings(key).map((merge, index) => {
    const space = merge.indexOf(" "); // a space inside a part is spelled otherwise, so the first one cuts
    if (space < 1 || space === merge.length - 1) {
      reader.fail(key, `holds ${JSON.stringify(merge)} at index ${index}: two parts are needed`);
    }
    return [merge.slice(0, space), merge.slice(space + 1)];
  });
}
