/** The tokens that a GGUF file wants around a text. */

import type { GgufVocabulary } from "./gguf_reader.ts";
import { type Frame, framePostProcessor } from "./tokenizer_json.ts";

/** What holds where the file says nothing. */
export interface FrameDefaults {
  readonly addBegin: boolean;
  readonly addEnd: boolean;
  readonly pair: Frame["pair"];
}

/** The post-processor that adds the begin and end tokens; null when the file wants none. */
export function ggufPostProcessor(
  { reader, tokens }: GgufVocabulary,
  { addBegin, addEnd, pair }: FrameDefaults,
): unknown {
  const tokenOf = (flag: string, key: string, standard: boolean) => {
    const id = reader.tokenId(key, tokens.length);
    const wanted = reader.boolean(flag);
    if (wanted === true && id === undefined) reader.fail(flag, `is true, but ${key} is missing`);
    return (wanted ?? standard) && id !== undefined
      ? { id, text: tokens[id] as string }
      : undefined;
  };
  return framePostProcessor({
    begin: tokenOf("tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id", addBegin),
    end: tokenOf("tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id", addEnd),
    pair,
  });
}
