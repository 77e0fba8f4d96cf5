/** A salt decides whose keys and values a request finds, and nothing else. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { InvalidParameterError, type LLM, PoolingParams, SamplingParams } from "../mod.ts";
import { idle, tinyTest } from "./helpers/tiny_llm.ts";
import { ask, COMPLETIONS, type Json } from "./openai/requests.ts";

/** Two full blocks, and the last one's row. */
const PROMPT = { promptTokenIds: Array.from({ length: 40 }, (_, i) => 3 + i) };
const CACHED = 32;
const PARAMS = new SamplingParams({ temperature: 0, maxTokens: 6, ignoreEos: true, logprobs: 3 });

function generate(llm: LLM, cacheSalt?: string) {
  return llm.generate(PROMPT, PARAMS, cacheSalt === undefined ? {} : { cacheSalt });
}

tinyTest(
  "Requests share blocks with those of the same salt only, and answer the same",
  async (llm) => {
    const salts = [undefined, "a", "b", undefined, "a", "b", "c", "a "];
    const outputs = [];
    for (const salt of salts) outputs.push(await generate(llm, salt));
    assertEquals(
      outputs.map(({ cachedTokens }) => cachedTokens),
      [0, 0, 0, CACHED, CACHED, CACHED, 0, 0],
    );
    // The same tokens, and the same bits: log-probabilities are compared exactly.
    for (const { outputs: answers } of outputs) assertEquals(answers, outputs[0]!.outputs);
    const { prefixHitTokens, prefixQueryTokens } = llm.stats().engine;
    assertEquals([prefixHitTokens, prefixQueryTokens], [3 * CACHED, salts.length * 40]);
  },
);

tinyTest("Running requests of different salts do not meet, those of one salt do", async (llm) => {
  const salts = ["x", "y", "x", undefined];
  const together = await Promise.all(salts.map((salt) => generate(llm, salt)));
  for (const { outputs } of together) assertEquals(outputs, together[0]!.outputs);
  // Two requests of one salt keep one copy of their blocks.
  await idle(llm);
  assertEquals(llm.stats().engine.cachedBlockCount, 3 * 2);
});

tinyTest("Several sequences and a chat find what their salt has", async (llm) => {
  const several = PARAMS.clone({ temperature: 1, n: 3 });
  const messages = [{ role: "user", content: "the cat the dog the cat the dog the cat the dog" }];
  for (const cacheSalt of [undefined, "s"]) {
    const options = cacheSalt === undefined ? {} : { cacheSalt };
    const runs = [
      await llm.generate(PROMPT, several, options),
      await llm.generate(PROMPT, several, options),
      await llm.chat(messages, PARAMS, options),
      await llm.chat(messages, PARAMS, options),
    ];
    const cached = runs.map(({ cachedTokens }) => cachedTokens);
    assertEquals(cached.slice(0, 3), [0, CACHED, 0]);
    assert(cached[3]! > 0);
  }
});

tinyTest(
  "Any number of salts fits: blocks that nobody uses make room, and their salts go",
  async (llm) => {
    const { blockCount } = llm.stats().engine;
    for (let i = 0; i < blockCount; i++) await generate(llm, `salt ${i}`);
    await idle(llm);
    const { cachedBlockCount, usedBlockCount } = llm.stats().engine;
    assert(cachedBlockCount <= blockCount && usedBlockCount === 0);
    assertEquals((await generate(llm, "salt 0")).cachedTokens, 0);
    assertEquals((await generate(llm, `salt ${blockCount - 1}`)).cachedTokens, CACHED);
    assertEquals(llm.resetPrefixCache(), true);
    assertEquals(llm.stats().engine.cachedBlockCount, 0);
    assertEquals((await generate(llm, `salt ${blockCount - 1}`)).cachedTokens, 0);
  },
  { maxModelLength: 64, kvCacheBytes: 12 * 16 * 1024 },
);

tinyTest("A salt is a text of 1 to 1024 characters", async (llm) => {
  for (const salt of ["", "s".repeat(1025), 5, null] as Json[]) {
    await assertRejects(() => generate(llm, salt), InvalidParameterError, "cacheSalt");
    await assertRejects(
      () => llm.generate([PROMPT, PROMPT], PARAMS, { cacheSalt: salt }),
      InvalidParameterError,
      "must be a string of 1 to 1024 characters",
    );
  }
  await generate(llm, "s".repeat(1024));
  await idle(llm);
});

tinyTest("Requests that pool keep to their salts", async (llm) => {
  const embed = (cacheSalt?: string) =>
    llm.embed(PROMPT, new PoolingParams(), cacheSalt === undefined ? {} : { cacheSalt });
  const outputs = [
    await embed(),
    await embed("a"),
    await embed("a"),
    await embed(),
    await embed("b"),
  ];
  assertEquals(outputs.map(({ cachedTokens }) => cachedTokens), [0, 0, CACHED, CACHED, 0]);
  for (const output of outputs) assertEquals(output.outputs, outputs[0]!.outputs);
  const pair = await llm.score("the cat the cat the cat", "a dog", undefined, { cacheSalt: "a" });
  const other = await llm.score("the cat the cat the cat", "a dog", undefined, { cacheSalt: "b" });
  assertEquals(pair[0]!.outputs, other[0]!.outputs);
  await assertRejects(() => embed(""), InvalidParameterError, "cacheSalt");
}, { task: "embed" });

tinyTest("Over HTTP cache_salt shows in cached_tokens", async (llm) => {
  const body = { prompt: PROMPT.promptTokenIds, max_tokens: 4, temperature: 0 };
  const run = async (cache_salt?: string) =>
    (await ask(COMPLETIONS, { ...body, cache_salt }, llm)).body;
  const answers = [await run(), await run("a"), await run("a"), await run(), await run("b")];
  assertEquals(
    answers.map(({ usage }) => usage.prompt_tokens_details.cached_tokens),
    [0, 0, CACHED, CACHED, 0],
  );
  for (const { choices } of answers) assertEquals(choices, answers[0].choices);
});
