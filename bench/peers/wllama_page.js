/** The page in the browser: does what the bench asks of it with wllama. */

// deno-lint-ignore-file -- this file is the browser's, which has no types and other globals
import { Wllama } from "/wllama/index.js";

const ASSETS = { default: "/wllama/wasm/wllama.wasm" };

let wllama;

/** Loads what the server has as its model now, with so many threads. */
async function load(threads) {
  await wllama?.exit();
  wllama = new Wllama(ASSETS, { suppressNativeLog: true });
  const model = await (await fetch("/model.gguf")).blob();
  await wllama.loadModel([model], { n_ctx: 1024, n_batch: 512, n_threads: threads });
  return {
    engine: "wllama",
    weightBytes: model.size,
    threads: [wllama.getNumThreads()],
    system: `threads: ${wllama.isMultithread()}, isolated: ${crossOriginIsolated}`,
  };
}

/** Runs a prompt and writes tokens after it; the times are those that wllama itself reports. */
async function complete(prompt, count) {
  const { timings } = await wllama.createCompletion({
    prompt,
    max_tokens: count,
    temperature: 0.8,
    top_k: 40,
    ignore_eos: true,
    cache_prompt: false,
  });
  return timings;
}

async function answer(question) {
  switch (question.ask) {
    case "load":
      return await load(navigator.hardwareConcurrency);
    case "prefill":
      return { ms: (await complete(question.prompt, 1)).prompt_ms };
    case "decode": {
      const timings = await complete(question.prompts[0], question.tokenCount);
      return { ms: timings.predicted_ms, tokens: timings.predicted_n };
    }
    case "unload":
      await wllama?.exit();
      wllama = undefined;
      return {};
    default:
      throw new Error(`wllama cannot be asked to ${question.ask}`);
  }
}

let reply = null;
for (;;) {
  const response = await fetch("/", { method: "POST", body: JSON.stringify(reply) });
  try {
    reply = { answer: await answer(await response.json()) };
  } catch (error) {
    reply = { error: String(error?.message ?? error) };
  }
}
