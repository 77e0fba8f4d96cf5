/**
 * The tokenizer against `@huggingface/transformers`, on vocabularies of real models: its AutoTokenizer
 * reads the same folders. And `tokenizerMode: "slow"`, which runs on that package, against "auto".
 */

import { AutoTokenizer, env } from "@huggingface/transformers";
import { assertEquals } from "@std/assert";
import { BackgroundTokenizer } from "../../lib/text/background_tokenizer.ts";
import { loadSlowEngine } from "../../lib/text/slow_engine.ts";
import { Tokenizer } from "../../lib/text/tokenizer.ts";
import { defaultCacheDir } from "../../tools/models/cache.ts";
import { vocabularyFolder } from "../../tools/models/vocabularies.ts";
import { minilmTest } from "../helpers/minilm.ts";
import {
  readTokenizerFiles,
  type TokenizerFiles,
  vocabularyTest,
} from "../helpers/real_vocabularies.ts";
import { TEXT_PIECES, withRandom } from "../text/vocabularies.ts";

const golden: { readonly texts: readonly string[] } = JSON.parse(
  Deno.readTextFileSync(new URL("../golden/tokenizers/real.json", import.meta.url)),
);

env.allowRemoteModels = false;

async function checkFolder(folder: string, { json, config }: TokenizerFiles): Promise<void> {
  const theirs = await AutoTokenizer.from_pretrained(folder);
  const auto = Tokenizer.fromHuggingFace(json, config, "tokenizer.json");
  const slow = Tokenizer.fromHuggingFace(json, config, "tokenizer.json", await loadSlowEngine());
  const options = { skipSpecialTokens: false };
  const check = (text: string) => {
    const ids = theirs.encode(text, { add_special_tokens: false });
    for (const ours of [auto, slow]) {
      assertEquals(ours.encode(text, { addSpecialTokens: false }), ids, JSON.stringify(text));
      const decoded = ids.length === 0
        ? ""
        : theirs.decode(ids, { clean_up_tokenization_spaces: false });
      assertEquals(ours.decode(ids, options), decoded, JSON.stringify(text));
    }
    const framed = { addSpecialTokens: true };
    assertEquals(slow.encode(text, framed), auto.encode(text, framed), JSON.stringify(text));
  };
  // Of rare ideographs the package leaves the spaces out; see `tokenizer.ts`.
  golden.texts.filter((text) => !text.includes("\u{20000}")).forEach(check);
  withRandom((random) => {
    for (let run = 0; run < 200; run++) {
      check(Array.from({ length: random.below(12) }, () => random.pick(TEXT_PIECES)).join(""));
    }
  });
  assertEquals(slow.vocabSize, auto.vocabSize);
  assertEquals(slow.specialTokens, auto.specialTokens);
}

for (const name of ["qwen3", "llama3_1", "gptoss", "gemma3"]) {
  vocabularyTest(name, `${name} is cut as @huggingface/transformers does`, async (files) => {
    await checkFolder(vocabularyFolder(defaultCacheDir(), name), files);
  });
}

minilmTest("MiniLM is cut as @huggingface/transformers does", async (folder) => {
  await checkFolder(folder, readTokenizerFiles(folder));
});

minilmTest(
  "In slow mode long texts go to a thread that cuts them by the same package",
  async (folder) => {
    const { json, config } = readTokenizerFiles(folder);
    const tokenizer = Tokenizer.fromHuggingFace(json, config, "x.json", await loadSlowEngine());
    using background = new BackgroundTokenizer(tokenizer, { mode: "slow", timeoutMs: 60_000 });
    const text = "The quick brown fox. ".repeat(2000);
    const options = { addSpecialTokens: true };
    assertEquals(await background.encode(text, options), tokenizer.encode(text, options));
  },
);
