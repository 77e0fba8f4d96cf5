/** The reranker's prompt on a real vocabulary: put together from pieces, it is what the whole text gives. */

import { assertEquals } from "@std/assert";
import { openCheckpoint } from "../lib/models/checkpoint.ts";
import {
  isQwen3Reranker,
  rerankerEncoder,
  rerankerPrompt,
  type RerankerQuestion,
} from "../lib/reranker_prompt.ts";
import { BackgroundTokenizer } from "../lib/text/background_tokenizer.ts";
import { Tokenizer } from "../lib/text/tokenizer.ts";
import { modelTest } from "./helpers/smollm2.ts";
import { withRandom } from "./text/vocabularies.ts";

const PIECES = [
  "a",
  " cat",
  "\n",
  "\n\n",
  " ",
  "  ",
  "é",
  "🚀",
  "<|im_end|>",
  "<",
  ">:",
  "12",
  "—",
];

modelTest(
  "The prompt's tokens are those of its whole text, whatever the texts are",
  async (path) => {
    using checkpoint = await openCheckpoint(path);
    const { text } = checkpoint;
    if (text.kind !== "gguf") throw new Error("SmolLM2 is a GGUF file");
    const tokenizer = Tokenizer.fromGguf(text.metadata, text.file);
    using background = new BackgroundTokenizer(tokenizer);
    const encode = rerankerEncoder(tokenizer, background);
    const { signal } = new AbortController();
    const questions: RerankerQuestion[] = [];
    withRandom(({ below, pick }) => {
      const some = () => Array.from({ length: below(12) }, () => pick(PIECES)).join("");
      for (let i = 0; i < 200; i++) {
        questions.push({ instruction: some(), query: some(), document: some() });
      }
    });
    for (const question of questions) {
      const whole = tokenizer.encode(rerankerPrompt(question), { addSpecialTokens: false });
      const about = JSON.stringify(question);
      assertEquals(await encode(question, Infinity, signal), whole, about);
      const shorter = await encode(question, whole.length - 1, signal) ?? [];
      assertEquals(shorter.length, whole.length - 1, about);
      assertEquals(shorter.slice(-5), whole.slice(-5), about);
    }
  },
);

Deno.test("A Qwen3-Reranker is known by its name", () => {
  assertEquals(isQwen3Reranker("Qwen/Qwen3-Reranker-0.6B"), true);
  assertEquals(isQwen3Reranker("./qwen3-reranker-0.6b-q8_0.gguf"), true);
  assertEquals(isQwen3Reranker("Qwen/Qwen3-0.6B"), false);
});
