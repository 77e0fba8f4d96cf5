/** Several answers to one prompt, from the SDK's side: seeds, ranking, beams, stops, streams. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { AsyncLLMEngine, LLMEngine, SamplingParams } from "../mod.ts";
import { collect, idle, tinyTest } from "./helpers/tiny_llm.ts";

const PARAMS = new SamplingParams({ temperature: 1.1, seed: 40, maxTokens: 24, logprobs: 1 });

tinyTest("Answer number i of several is the single answer with seed + i", async (llm) => {
  const { outputs } = await llm.generate("the cat", PARAMS.clone({ n: 4 }));
  assertEquals(outputs.map(({ index }) => index), [0, 1, 2, 3]);
  for (const output of outputs) {
    const { outputs: [alone] } = await llm.generate(
      "the cat",
      PARAMS.clone({ seed: 40 + output.index }),
    );
    assertEquals(output, { ...alone, index: output.index });
  }
  assert(new Set(outputs.map(({ text }) => text)).size > 1, "they differ");
});

tinyTest(
  "The stream of several answers is their pieces, one interleaved with another",
  async (llm) => {
    const params = PARAMS.clone({ n: 3, stop: ["e", "th"], minTokens: 2 });
    const { outputs } = await llm.generate("the cat", params);
    const deltas = await collect(llm.stream("the cat", params));
    for (const output of outputs) {
      const own = deltas.filter(({ index }) => index === output.index);
      assertEquals(own.map(({ text }) => text).join(""), output.text);
      assertEquals(own.flatMap(({ tokenIds }) => tokenIds), output.tokenIds);
      assertEquals(own.at(-1)?.stopReason, output.stopReason);
    }
    assertEquals(deltas.slice(0, 3).map(({ index }) => index), [0, 1, 2]);
    assertEquals(deltas.filter(({ prompt }) => prompt !== undefined).length, 1);
    await idle(llm);
  },
);

tinyTest("Of more answers the most likely are returned, the best first", async (llm) => {
  const all = await llm.generate("the cat", PARAMS.clone({ n: 6 }));
  const best = [...all.outputs]
    .sort((a, b) => (b.cumulativeLogprob ?? 0) - (a.cumulativeLogprob ?? 0))
    .slice(0, 2);
  const ranked = await llm.generate("the cat", PARAMS.clone({ n: 2, bestOf: 6 }));
  assertEquals(ranked.outputs, best.map((output, index) => ({ ...output, index })));
  const silent = await llm.generate(
    "the cat",
    PARAMS.clone({ n: 2, bestOf: 6, logprobs: undefined }),
  );
  assertEquals(
    silent.outputs.map(({ text, logprobs, cumulativeLogprob }) => [
      text,
      logprobs,
      cumulativeLogprob,
    ]),
    best.map(({ text }) => [text, null, null]),
  );
});

tinyTest(
  "A beam search returns n answers of its width, and cuts them at a stop string",
  async (llm) => {
    const params = new SamplingParams({ useBeamSearch: true, n: 2, bestOf: 4, maxTokens: 12 });
    const { outputs, finished } = await llm.generate("the cat", params.clone({ logprobs: 0 }));
    assertEquals([outputs.length, finished], [2, true]);
    const [best = NaN, second = NaN] = outputs.map(({ cumulativeLogprob, tokenIds }) =>
      (cumulativeLogprob ?? NaN) / tokenIds.length
    );
    assert(best >= second, `${best} before ${second}`);
    const text = outputs[0]?.text ?? "";
    const stop = text.slice(2, 4);
    const cut = await llm.generate("the cat", params.clone({ stop }));
    assertEquals(cut.outputs[0]?.text, text.slice(0, text.indexOf(stop)));
    assertEquals(cut.outputs[0]?.stopReason, stop);
    await idle(llm);
  },
);

tinyTest("A bad word is not said", async (llm) => {
  const params = new SamplingParams({ temperature: 0, maxTokens: 20, ignoreEos: true });
  const { outputs: [free] } = await llm.generate("the cat", params);
  const ids = free?.tokenIds ?? [];
  const said = ids.map((id) => llm.detokenize([id])).find((text) => /^[a-z]$/i.test(text)) ?? "";
  const [banned = -1] = llm.tokenize(said, { addSpecialTokens: false });
  assert(ids.includes(banned));
  const { outputs: [output] } = await llm.generate("the cat", params.clone({ badWords: [said] }));
  assertEquals([output?.tokenIds.length, output?.tokenIds.includes(banned)], [20, false]);
});

tinyTest("A sequence that has met its stop string is not computed any further", async (llm) => {
  const params = PARAMS.clone({ n: 4, maxTokens: 60, ignoreEos: true });
  const { outputs: [first] } = await llm.generate("the cat", params);
  const stop = first?.text.slice(2, 5) ?? "";
  const { generatedTokens } = llm.stats().engine;
  const { outputs } = await llm.generate("the cat", params.clone({ stop }));
  await idle(llm);
  const counts = outputs.map(({ tokenIds }) => tokenIds.length);
  assert(outputs[0]?.stopReason === stop && Math.max(...counts) === 60, `${counts}`);
  assertEquals(
    llm.stats().engine.generatedTokens - generatedTokens,
    counts.reduce((sum, count) => sum + count, 0),
  );
});

tinyTest(
  "A search that finds fewer answers than asked for is finished all the same",
  async (llm) => {
    const params = new SamplingParams({
      n: 4,
      useBeamSearch: true,
      allowedTokenIds: [5],
      maxTokens: 3,
    });
    const whole = await llm.generate("the cat", params);
    assertEquals([whole.outputs.length, whole.finished], [1, true]);
    for (const outputKind of ["FINAL", "CUMULATIVE", "DELTA"] as const) {
      const engine = LLMEngine.fromLLM(llm);
      engine.addRequest("few", "the cat", params.clone({ outputKind }));
      const steps = [];
      while (engine.hasUnfinishedRequests()) steps.push(...await engine.step());
      assertEquals(steps.at(-1)?.finished, true, outputKind);
      const outputs = await collect(
        AsyncLLMEngine.fromLLM(llm).generate("the cat", params.clone({ outputKind }), "few"),
      );
      assertEquals(outputs.at(-1)?.finished, true, outputKind);
    }
  },
);

tinyTest("What only looks like parameters is refused before anything is queued", async (llm) => {
  for (const params of [null, {}, { temperature: NaN }, "x", [PARAMS]]) {
    const wrong = params as never;
    await assertRejects(() => collect(llm.stream("the cat", wrong)), TypeError, "SamplingParams");
    await assertRejects(() => llm.generate(["a", "b"], wrong), TypeError, "SamplingParams");
    await assertRejects(async () => await llm.generate("a", wrong), TypeError, "SamplingParams");
  }
  await idle(llm);
  assertEquals(llm.stats().engine.promptTokens, 0);
});
