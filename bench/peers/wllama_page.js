/** The page in the browser: does what the bench asks of it with wllama. */

// deno-lint-ignore-file -- this file is the browser's, which has no types and other globals
import { Wllama } from "/wllama/index.js";

const ASSETS = { default: "/wllama/wasm/wllama.wasm" };

let wllama;

/** Loads what the server has as its model now, with so many threads. */
async function load(threads) {
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

/** Each is one token of the model when a space stands before it. */
const WORDS = [
  ...["time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world"],
  ...["school", "state", "family", "student", "group", "country", "problem", "hand", "part"],
  ...["place", "case", "week", "company", "system", "program", "question", "work", "night"],
  ...["point", "home", "water", "room", "mother", "area", "money", "story", "fact", "month"],
];

/** wllama takes text only: a text of about as many tokens, a different one for different ids. */
function textOf(prompt) {
  return prompt.map((id) => ` ${WORDS[id % WORDS.length]}`).join("");
}

/** Runs a prompt and writes tokens after it; the times are those that wllama itself reports. */
async function complete(prompt, count) {
  const { timings } = await wllama.createCompletion({
    prompt: textOf(prompt),
    max_tokens: count,
    temperature: 0.8,
    top_k: 40,
    ignore_eos: true,
  });
  return timings;
}

/** As many tokens as were computed took so long: none that were known from before count. */
async function prefill(prompt) {
  const { prompt_ms, prompt_n } = await complete(prompt, 1);
  if (prompt_n < prompt.length / 2) throw new Error(`only ${prompt_n} tokens were computed`);
  return { ms: prompt_ms / prompt_n * prompt.length };
}

async function answer(question) {
  switch (question.ask) {
    case "load":
      return await load(question.options.threads);
    case "prefill":
      return await prefill(question.prompt);
    case "decode": {
      const timings = await complete(question.prompts[0], question.tokenCount);
      return { ms: timings.predicted_ms, tokens: timings.predicted_n };
    }
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
