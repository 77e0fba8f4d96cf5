/** Several answers, the best of several, and a beam search: `deno run -A examples/samples.ts MODEL [PROMPT]`. */

import { LLM, SamplingParams } from "../mod.ts";

const [model, prompt = "The best thing about rain is"] = Deno.args;
if (model === undefined) {
  console.error("Name a model: a GGUF file or a model's folder");
  Deno.exit(2);
}

await using llm = await LLM.load(model);
const base = new SamplingParams({ temperature: 0.8, maxTokens: 20, logprobs: 0 });
const ways = {
  // Number i is what seed 1 + i says by itself.
  "Three samples": base.clone({ n: 3, seed: 1 }),
  "The most likely of five samples": base.clone({ bestOf: 5, seed: 1 }),
  // A search draws nothing: temperature and seed do not count.
  "The two best of four beams": base.clone({ n: 2, bestOf: 4, useBeamSearch: true }),
};

for (const [title, params] of Object.entries(ways)) {
  const { outputs } = await llm.generate(prompt, params);
  console.log(`\n${title}`);
  for (const { text, cumulativeLogprob } of outputs) {
    console.log(`${cumulativeLogprob?.toFixed(1).padStart(6)} ${JSON.stringify(text)}`);
  }
}
