/** The same prompt gives the same tokens and the same log-probability bits, whatever goes on around it. */

import { assert, assertEquals } from "@std/assert";
import { LLM, type LLMOptions, type RequestOutput, SamplingParams } from "../mod.ts";
import { modelTest } from "./helpers/smollm2.ts";

const PROMPT =
  "Once upon a time, in a village by the river, there lived a baker who rose before the sun. " +
  "Every morning she lit the oven, and every morning the same cat came to sit by the door. One day";
const GREEDY = new SamplingParams({ temperature: 0, maxTokens: 24, logprobs: 3, ignoreEos: true });
const SEEDED = new SamplingParams({
  temperature: 0.9,
  topP: 0.95,
  topK: 40,
  repetitionPenalty: 1.1,
  seed: 4321,
  maxTokens: 24,
  logprobs: 3,
  ignoreEos: true,
});

/** A draw from all tokens, some of whose logits are changed. */
const PENALIZED = new SamplingParams({
  temperature: 0.8,
  repetitionPenalty: 1.1,
  frequencyPenalty: 0.3,
  presencePenalty: 0.2,
  logitBias: { 253: 2, 28: -100 },
  seed: 99,
  maxTokens: 24,
  logprobs: 3,
  ignoreEos: true,
});

/** Everything of an output that must not move, numbers to the last bit. */
function bits({ promptTokenIds, outputs }: RequestOutput): string {
  return JSON.stringify({
    promptTokenIds,
    outputs: outputs.map(({ text, tokenIds, logprobs }) => ({
      text,
      tokenIds,
      logprobs: logprobs?.map((map) =>
        [...map].map(([id, { logprob, rank }]) => [id, logprob, rank])
      ),
    })),
  });
}

/** The three requests under test, alone or among eight others of mixed length. */
async function ask(llm: LLM, crowd: boolean): Promise<string[]> {
  const others = crowd
    ? Array.from({ length: 8 }, (_, i) =>
      llm.generate(
        `${"The quick brown fox jumps over the lazy dog. ".repeat(1 + i * 2)}Story ${i}:`,
        new SamplingParams({
          temperature: i % 2,
          seed: i,
          maxTokens: 4 + 3 * i,
          ignoreEos: true,
          ...(i % 3 === 0 ? { promptLogprobs: 1 } : {}),
        }),
      ))
    : [];
  const asked = [GREEDY, SEEDED, PENALIZED].map((params) => llm.generate(PROMPT, params));
  const answers = (await Promise.all(asked)).map(bits);
  await Promise.all(others);
  return answers;
}

modelTest(
  "SmolLM2 with integer activations answers to the bit: alone, in a crowd, chunked, on 1 and 2 threads",
  async (path) => {
    for (const activationDtype of ["int8", "int16"] as const) {
      const load = (options: LLMOptions) =>
        LLM.load(path, { maxModelLength: 1024, activationDtype, ...options });
      await using llm = await load({ threads: 2 });
      const expected = await ask(llm, false);
      assertEquals(await ask(llm, true), expected, `${activationDtype} in a crowd`);
      await using chunked = await load({ threads: 1, maxTokensPerStep: 16, maxBatchSize: 4 });
      assertEquals(await ask(chunked, false), expected, `${activationDtype} in chunks`);
    }
  },
);

modelTest(
  "SmolLM2 answers to the bit: alone, in a crowd, chunked, cached, preempted, on 0 to 3 threads",
  async (path) => {
    let expected: string[] | undefined;
    const check = (answers: string[], what: string) => {
      expected ??= answers;
      assertEquals(answers, expected, what);
    };
    const load = (options: LLMOptions) => LLM.load(path, { maxModelLength: 1024, ...options });
    for (const threads of [2, 1, 3, 0]) {
      await using llm = await load({ threads });
      check(await ask(llm, false), `${threads} threads, alone`);
      check(await ask(llm, false), `${threads} threads, with a cached prefix`);
      assert(llm.stats().engine.prefixHitTokens > 0, "no prefix was reused");
      if (threads > 0) check(await ask(llm, true), `${threads} threads, in a crowd`);
    }
    {
      await using llm = await load({
        enablePrefixCaching: false,
        maxTokensPerStep: 16,
        maxBatchSize: 4,
      });
      check(await ask(llm, true), "in chunks of 16 tokens, without prefix cache");
      assertEquals(llm.stats().engine.prefixHitTokens, 0);
    }
    {
      // 24 blocks hold the crowd only by sending some of it back to the queue.
      const kvCacheBytes = 24 * 30 * 2 * 3 * 64 * 16 * 2;
      await using llm = await LLM.load(path, { kvCacheBytes, enablePrefixCaching: false });
      check(await ask(llm, true), "after preemption");
      assert(llm.stats().engine.preemptionCount > 0, "nothing was preempted");
    }
  },
);
