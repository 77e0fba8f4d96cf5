/** Text as it is written, and how fast: `deno run -A examples/stream.ts MODEL [PROMPT]`. */

import { LLM, SamplingParams } from "../mod.ts";

const [model, prompt = "The three primary colours are"] = Deno.args;
if (model === undefined) {
  console.error("Name a model: a GGUF file or a model's folder");
  Deno.exit(2);
}

await using llm = await LLM.load(model);
const params = new SamplingParams({ temperature: 0.7, topP: 0.9, seed: 1, maxTokens: 60 });
const encoder = new TextEncoder();

// Leaving the loop, or aborting this signal, ends the generation and frees what it held.
const signal = AbortSignal.timeout(60_000);
const started = performance.now();
let tokenCount = 0;
let finishReason: string | null = null;
await Deno.stdout.write(encoder.encode(prompt));
for await (const delta of llm.stream(prompt, params, { signal })) {
  await Deno.stdout.write(encoder.encode(delta.text));
  tokenCount += delta.tokenIds.length;
  finishReason = delta.finishReason;
}
const seconds = (performance.now() - started) / 1000;
console.log(
  `\n\n${finishReason}: ${tokenCount} tokens, ${(tokenCount / seconds).toFixed(1)} a second`,
);
