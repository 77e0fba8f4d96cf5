/** A loop of one's own that takes requests at any time: `deno run -A examples/engine.ts MODEL`. */

import { LLM, LLMEngine, SamplingParams } from "../mod.ts";

const [model] = Deno.args;
if (model === undefined) {
  console.error("Name a model: a GGUF file or a model's folder");
  Deno.exit(2);
}

await using llm = await LLM.load(model);
await using engine = LLMEngine.fromLLM(llm);

// DELTA: each output holds what is new. CUMULATIVE, the default: all so far. FINAL: one output.
const params = new SamplingParams({ temperature: 0, maxTokens: 12, outputKind: "DELTA" });
engine.addRequest("rain", "The rain falls on", params);
engine.addRequest("wind", "The wind blows through", params);

let stepCount = 0;
while (engine.hasUnfinishedRequests()) {
  for (const { requestId, outputs, finished } of await engine.step()) {
    // A request with PoolingParams gives data instead of texts.
    if ("data" in outputs) continue;
    console.log(`${requestId} ${JSON.stringify(outputs[0]?.text)}${finished ? " (the end)" : ""}`);
  }
  // Others join while the first ones run.
  if (++stepCount === 3) engine.addRequest("late", "The sun comes out", params);
}
