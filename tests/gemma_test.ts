/**
 * gemma-3-270m, if `deno run -A tools/models/gemma.ts` has fetched it: a real model with windows,
 * two rotary settings and a mixture of K types. Its licence is not ours to accept for others, so no
 * run may require it.
 */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { LLM, type RequestOutput, SamplingParams } from "../mod.ts";
import { defaultCacheDir } from "../tools/models/cache.ts";
import { gemmaPath } from "../tools/models/gemma.ts";

const path = gemmaPath(defaultCacheDir());
const ignore = !isFile(path);

/** Greedy continuations. llama.cpp's of the first two prompts are the same. */
const CONTINUATIONS = [
  ["Water freezes at", " 32 degrees Fahrenheit.\n\nWater freezes at 32 degrees Fahrenheit."],
  [
    "The opposite of hot is",
    " cold.\n\nThe opposite of cold is hot.\n\nThe opposite of hot is cold.",
  ],
  [
    "The capital of Italy is Rome. The capital of Spain is Madrid. The capital of France is",
    " Paris. The capital of Germany is Berlin.",
  ],
] as const;

/**
 * What llama.cpp makes of the first prompt, and of the tokens that it continues it with. It rounds
 * activations to eight bits, which is all that lies between its values and ours.
 */
const PROMPT_IDS = [2, 17390, 126521, 657];
const LOGPROBS = [
  [236743, -0.6484],
  [236800, -0.9894],
  [236778, -0.0502],
  [10674, -0.3911],
  [79741, -0.8947],
] as const;
const LOGPROB_TOLERANCE = 0.1;

Deno.test({
  name: `gemma-3-270m continues sentences as llama.cpp does${
    ignore ? " (skipped: it is not in the cache)" : ""
  }`,
  ignore,
  async fn() {
    await using llm = await LLM.load(path, { maxModelLength: 512 });
    assertEquals(llm.info.architecture, "Gemma3ForCausalLM");
    assertEquals(llm.info.parameterCount, 268_098_176);
    const params = new SamplingParams({ temperature: 0, maxTokens: 20, logprobs: 0 });
    const prompts = CONTINUATIONS.map(([prompt]) => prompt);
    const results = await llm.generate(prompts, params);
    for (const [i, [prompt, text]] of CONTINUATIONS.entries()) {
      const written = results[i]!.outputs[0]!.text;
      assert(written.startsWith(text), `"${prompt}" is continued with ${JSON.stringify(written)}`);
    }
    const [{ promptTokenIds, outputs }] = results as [RequestOutput];
    assertEquals(promptTokenIds, PROMPT_IDS);
    for (const [i, [id, expected]] of LOGPROBS.entries()) {
      const actual = outputs[0]!.logprobs![i]!.get(id)!.logprob;
      assertAlmostEquals(actual, expected, LOGPROB_TOLERANCE, `token ${i}`);
    }
  },
});

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
