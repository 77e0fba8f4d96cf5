/**
 * A model whose answers a test writes: `deno run -A examples/scripted.ts MODEL`.
 *
 * The model runs as ever, only what it says is decided beforehand: tokens, log-probabilities,
 * streaming and the end of the output are real, so that what is built on them is tested too.
 */

import { LLM, SamplingParams } from "../mod.ts";

const [model] = Deno.args;
if (model === undefined) {
  console.error("Name a model: a GGUF file or a model's folder");
  Deno.exit(2);
}

/** The program under test: it asks the model for a mark, and reads the mark from the answer. */
async function markOf(llm: LLM, essay: string, params: SamplingParams): Promise<number> {
  const question = `Give this essay a mark from 1 to 6:\n${essay}`;
  const { outputs: [answer] } = await llm.chat([{ role: "user", content: question }], params);
  const mark = /\b[1-6]\b/.exec(answer?.text ?? "")?.[0];
  if (mark === undefined) throw new Error(`There is no mark in "${answer?.text}"`);
  return Number(mark);
}

await using llm = await LLM.load(model);
// In a file that `deno test` runs, each of these would be a test of its own.
for (const [says, expected] of [["I give it a 2.", 2], ["6", 6]] as const) {
  const mark = await markOf(llm, "Tides.", new SamplingParams({ forcedOutput: says }));
  if (mark !== expected) throw new Error(`"${says}" was read as ${mark}`);
  console.log(`"${says}" is read as ${mark}`);
}
const evasive = new SamplingParams({ forcedOutput: "I would rather not say." });
const failure = await markOf(llm, "Tides.", evasive).catch((error: Error) => error.message);
console.log(failure);
