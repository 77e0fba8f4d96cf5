/** The prompt that Qwen3-Reranker was trained on, token by token as its model card has it. */

import type { BackgroundTokenizer } from "./text/background_tokenizer.ts";
import type { Tokenizer } from "./text/tokenizer.ts";

/** What documents are searched for where nothing else is said: the model card's sentence. */
export const DEFAULT_INSTRUCTION =
  "Given a web search query, retrieve relevant passages that answer the query";

/** The answers whose logits make the score: no, then yes. */
export const ANSWERS_OF_QWEN3: readonly [no: string, yes: string] = ["no", "yes"];

const PREFIX = "<|im_start|>system\n" +
  "Judge whether the Document meets the requirements based on the Query and the Instruct " +
  'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n' +
  "<|im_start|>user\n";

const SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

/** One question about one document. */
export interface RerankerQuestion {
  readonly instruction: string;
  readonly query: string;
  readonly document: string;
}

/** Whether a model is a Qwen3-Reranker: the original's files do not tell it from a chat model. */
export function isQwen3Reranker(name: string): boolean {
  return /qwen3-reranker/i.test(name);
}

/** The whole prompt as text. */
export function rerankerPrompt(question: RerankerQuestion): string {
  return PREFIX + body(question) + SUFFIX;
}

/**
 * The prompt as token ids. What does not fit into `limit` is cut from the end of the document, or
 * further back; the frame always stays, and is encoded once for many questions.
 *
 * @returns A function that gives the ids, or undefined where the frame alone does not fit.
 */
export function rerankerEncoder(
  tokenizer: Tokenizer,
  background: BackgroundTokenizer,
): (
  question: RerankerQuestion,
  limit: number,
  signal: AbortSignal,
) => Promise<number[] | undefined> {
  const [prefix, suffix] = [PREFIX, SUFFIX].map((text) =>
    tokenizer.encode(text, { addSpecialTokens: false })
  ) as [number[], number[]];
  return async (question, limit, signal) => {
    const room = limit - prefix.length - suffix.length;
    if (room < 1) return undefined;
    const ids = await background.encode(body(question), { addSpecialTokens: false, signal });
    return [...prefix, ...ids.slice(0, room), ...suffix];
  };
}

function body({ instruction, query, document }: RerankerQuestion): string {
  return `<Instruct>: ${instruction}\n<Query>: ${query}\n<Document>: ${document}`;
}
