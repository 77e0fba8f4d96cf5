/** The SDK on a tiny golden model: shapes of answers, streams, aborts, options and their errors. */

import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import {
  ChatTemplateError,
  CheckpointError,
  ClosedError,
  ContextLengthError,
  InvalidParameterError,
  LLM,
  type LLMOptions,
  ModelNotFoundError,
  QueueFullError,
  SamplingParams,
} from "../mod.ts";
import { goldenModel } from "./helpers/golden_models.ts";
import { collect, idle, tinyTest } from "./helpers/tiny_llm.ts";
import { writeTinyModel } from "./helpers/tiny_model.ts";

const MESSAGES = [{ role: "user", content: "hello" }];
const GREEDY = new SamplingParams({ temperature: 0, maxTokens: 12, ignoreEos: true });

tinyTest("One prompt gives one output, a list gives a list in its order", async (llm) => {
  const one = await llm.generate("the cat", GREEDY);
  assertEquals(one.outputs.length, 1);
  assertEquals(one.prompt, "the cat");
  const list = await llm.generate(["the cat", "a dog", { promptTokenIds: [5, 6, 7] }], GREEDY);
  assertEquals(list.map((output) => output.prompt).slice(0, 2), ["the cat", "a dog"]);
  assertEquals(list[0]?.outputs, one.outputs);
  assertEquals(list[2]?.promptTokenIds, [5, 6, 7]);
  assertEquals(await llm.generate([], GREEDY), []);
  const chats = await llm.chat([MESSAGES, MESSAGES], GREEDY);
  assertEquals(chats[0]?.outputs, (await llm.chat(MESSAGES, GREEDY)).outputs);
});

tinyTest("The whole answer is the fold of the stream", async (llm) => {
  const params = new SamplingParams({
    temperature: 1,
    seed: 3,
    maxTokens: 40,
    logprobs: 2,
    promptLogprobs: 1,
  });
  const whole = await llm.generate("the cat", params);
  const deltas = await collect(llm.stream("the cat", params));
  const [output] = whole.outputs;
  assertEquals(deltas.map((delta) => delta.text).join(""), output?.text);
  assertEquals(deltas.flatMap((delta) => delta.tokenIds), output?.tokenIds);
  assertEquals(deltas.flatMap((delta) => delta.logprobs ?? []), output?.logprobs);
  assertEquals(deltas.at(-1)?.finishReason, output?.finishReason);
  assertEquals(deltas[0]?.prompt?.tokenIds, whole.promptTokenIds);
  assertEquals(deltas[0]?.prompt?.logprobs, whole.promptLogprobs);
  assert(
    deltas.slice(1).every((delta) =>
      delta.prompt === undefined && delta.finishReason === null || delta === deltas.at(-1)
    ),
  );
});

tinyTest("Defaults: 16 tokens for generate, the room left for chat", async (llm) => {
  const endless = new SamplingParams({ temperature: 0, ignoreEos: true });
  const generated = await llm.generate("the", endless);
  assertEquals(generated.outputs[0]?.tokenIds.length, 16);
  const chatted = await llm.chat(MESSAGES, endless);
  const room = llm.info.maxContextLength - chatted.promptTokenIds.length;
  assertEquals(chatted.outputs[0]?.tokenIds.length, room);
  assertEquals(chatted.outputs[0]?.finishReason, "length");
});

tinyTest("An end token ends the answer and is not shown", async (llm) => {
  const params = new SamplingParams({ temperature: 1.9, seed: 5, maxTokens: 200 });
  const { outputs: [output] } = await llm.generate("the", params);
  assertEquals(output?.finishReason, "stop");
  assert(output?.tokenIds.at(-1) === 0 || output?.tokenIds.at(-1) === 2);
  assert(!output.text.includes("<|"));
  const stopAt = output.tokenIds[2] as number;
  const stopped = await llm.generate(
    "the",
    new SamplingParams({ ...params, stopTokenIds: [stopAt] }),
  );
  assertEquals(
    stopped.outputs[0]?.tokenIds,
    output.tokenIds.slice(0, output.tokenIds.indexOf(stopAt) + 1),
  );
  assertEquals(stopped.outputs[0]?.stopReason, stopAt);
});

tinyTest(
  "Logprob entries show the chosen token first, ranks, and whole characters only",
  async (llm) => {
    const params = new SamplingParams({
      temperature: 2,
      seed: 11,
      maxTokens: 60,
      logprobs: 3,
      ignoreEos: true,
    });
    const { outputs: [output] } = await llm.generate("the", params);
    assertEquals(output?.logprobs?.length, 60);
    let sum = 0;
    for (const [i, map] of (output?.logprobs ?? []).entries()) {
      const [first] = map;
      assertEquals(first?.[0], output?.tokenIds[i]);
      assert(map.size >= 3 && map.size <= 4);
      for (const { rank, decodedToken } of map.values()) {
        assert(rank >= 1);
        assert(!decodedToken.includes("\uFFFD"), `a broken character at ${i}`);
      }
      sum += first?.[1].logprob as number;
    }
    assertEquals(output?.cumulativeLogprob, sum);
  },
);

tinyTest("A signal ends a request with its reason, before and during the stream", async (llm) => {
  const long = new SamplingParams({ temperature: 0, maxTokens: 200, ignoreEos: true });
  await assertRejects(
    () => llm.generate("the", long, { signal: AbortSignal.abort(new RangeError("too late")) }),
    RangeError,
    "too late",
  );
  const controller = new AbortController();
  let seen = 0;
  await assertRejects(
    async () => {
      for await (const _ of llm.stream("the", long, { signal: controller.signal })) {
        if (++seen === 3) controller.abort(new TypeError("enough"));
      }
    },
    TypeError,
    "enough",
  );
  assert(seen >= 3 && seen < 200);
  await idle(llm);
});

tinyTest("Leaving a stream frees its blocks", async (llm) => {
  for await (
    const _ of llm.stream("the", new SamplingParams({ maxTokens: 200, ignoreEos: true }))
  ) break;
  await idle(llm);
});

tinyTest("One failing prompt of a list fails the call and leaves nothing behind", async (llm) => {
  await assertRejects(
    () => llm.generate(["the", { promptTokenIds: [1, 9999] }, "cat"], GREEDY),
    InvalidParameterError,
    "9999",
  );
  await idle(llm);
});

tinyTest("Parameters that nobody has checked are refused", async (llm) => {
  const plain = { temperature: 99 } as unknown as SamplingParams;
  const calls = [
    async () => await llm.generate("the", plain),
    async () => await llm.generate(["the", "cat"], plain),
    async () => await llm.generate(["the", "cat"], [GREEDY, plain]),
    async () => await llm.chat(MESSAGES, plain),
    async () => await llm.stream("the", plain).next(),
    async () => await llm.stream(MESSAGES, plain).next(),
    async () => await llm.submit("the", plain).next(),
  ];
  for (const call of calls) await assertRejects(call, TypeError, "new SamplingParams");
  await idle(llm);
});

tinyTest("Prompts that cannot run are refused with what would be right", async (llm) => {
  const limit = llm.info.maxContextLength;
  await assertRejects(
    () => llm.generate({ promptTokenIds: Array(limit + 1).fill(3) }, GREEDY),
    ContextLengthError,
    `${limit}`,
  );
  await assertRejects(
    () => llm.generate({ promptTokenIds: Array(limit - 3).fill(3) }, GREEDY),
    ContextLengthError,
  );
  await assertRejects(
    () => llm.generate({ promptTokenIds: [] }, GREEDY),
    InvalidParameterError,
    "no tokens",
  );
  await assertRejects(() => llm.generate("", GREEDY), InvalidParameterError, "no tokens");
  await assertRejects(
    () => llm.generate(5 as unknown as string, GREEDY),
    TypeError,
    "A prompt must be",
  );
  await assertRejects(
    () => llm.generate(MESSAGES as unknown as string[], GREEDY),
    TypeError,
    "messages go to chat",
  );
  await assertRejects(
    async () => await llm.chat("Hello" as unknown as [], GREEDY),
    TypeError,
    "a text goes to generate",
  );
  await assertRejects(
    () => llm.generate({ promptTokenIds: [1.5] }, GREEDY),
    TypeError,
    "array of integers",
  );
  await assertRejects(() => llm.generate(["a", "b"], [GREEDY]), TypeError, "not 1");
  await assertRejects(
    () =>
      llm.chat([{ role: "user", content: "x" }], GREEDY, {
        chatTemplate: "{{ raise_exception('no') }}",
      }),
    ChatTemplateError,
    "no",
  );
  // What the template refuses before it looks at messages is told, whatever these are.
  for (const content of [{}, [null], 5]) {
    const messages = [{ role: "user", content }] as unknown as typeof MESSAGES;
    await assertRejects(
      () => llm.chat(messages, GREEDY, { chatTemplateKwargs: { messages: 1 } }),
      ChatTemplateError,
      'Cannot pass "messages"',
    );
  }
  await assertRejects(
    () => llm.chat(MESSAGES, GREEDY, { addGenerationPrompt: true, continueFinalMessage: true }),
    TypeError,
    "continueFinalMessage",
  );
  await idle(llm);
});

tinyTest("A full queue refuses the next request and serves the others", async (llm) => {
  const outputs = Array.from({ length: 3 }, () => llm.generate("the", GREEDY));
  const results = await Promise.allSettled(outputs);
  const refused = results.filter((result) => result.status === "rejected");
  assertEquals(refused.length, 1);
  assert(refused[0]?.reason instanceof QueueFullError);
}, { maxWaitingRequests: 2 });

tinyTest(
  "Closing fails what is under way with a ClosedError, and what comes later",
  async (llm) => {
    const running = assertRejects(
      () => llm.generate("the", new SamplingParams({ maxTokens: 200, ignoreEos: true })),
      ClosedError,
    );
    await new Promise((resolve) => setTimeout(resolve, 5));
    await llm.close();
    await running;
    await assertRejects(() => llm.generate("the", GREEDY), ClosedError);
    await llm.close();
  },
);

tinyTest("Text and tokens round trip", async (llm) => {
  const ids = llm.tokenize("the cat");
  assertEquals(llm.detokenize(ids), "the cat");
  assertEquals(llm.tokenStrings(ids).length, ids.length);
  assertStringIncludes(llm.detokenize(await llm.tokenizeChat(MESSAGES)), "hello");
});

tinyTest("A stop string ends the answer at the same place, streamed and whole", async (llm) => {
  const params = new SamplingParams({ temperature: 1.2, seed: 8, maxTokens: 60, ignoreEos: true });
  const { outputs: [free] } = await llm.generate("the", params);
  const text = free?.text ?? "";
  assert(text.length > 12, text);
  const stop = text.slice(6, 9);
  const stopped = params.clone({ stop: [stop, "never there, and long"] });
  const { outputs: [output] } = await llm.generate("the", stopped);
  assertEquals(output?.text, text.slice(0, text.indexOf(stop)));
  assertEquals([output?.finishReason, output?.stopReason], ["stop", stop]);
  const tokenCount = output?.tokenIds.length ?? 0;
  assert(tokenCount < 60, "the engine was told to end it");
  assertEquals(output?.tokenIds, free?.tokenIds.slice(0, tokenCount));
  const shown = stopped.clone({ includeStopStrInOutput: true });
  assertEquals(
    (await llm.generate("the", shown)).outputs[0]?.text,
    text.slice(0, text.indexOf(stop) + stop.length),
  );
  for (const one of [stopped, shown]) {
    const deltas = await collect(llm.stream("the", one));
    const whole = await llm.generate("the", one);
    assertEquals(deltas.map((delta) => delta.text).join(""), whole.outputs[0]?.text);
  }
  await idle(llm);
});

tinyTest("Prompts are cut to their last tokens where that is asked for", async (llm) => {
  const promptTokenIds = Array.from(
    { length: llm.info.maxContextLength + 20 },
    (_, i) => 5 + i % 80,
  );
  const ask = (truncatePromptTokens: number, maxTokens = 4) =>
    llm.generate(
      { promptTokenIds },
      new SamplingParams({ temperature: 0, maxTokens, truncatePromptTokens }),
    );
  assertEquals((await ask(7)).promptTokenIds, promptTokenIds.slice(-7));
  assertEquals((await ask(-1)).promptTokenIds.length, llm.info.maxContextLength - 4);
  await assertRejects(
    () => ask(llm.info.maxContextLength - 3),
    InvalidParameterError,
    "truncatePromptTokens",
  );
  const chat = new SamplingParams({ temperature: 0, maxTokens: 2, truncatePromptTokens: 3 });
  const { promptTokenIds: kept } = await llm.chat(MESSAGES, chat);
  assertEquals(kept, (await llm.tokenizeChat(MESSAGES)).slice(-3));
});

tinyTest("submit queues at once and refuses at once", async (llm) => {
  const deltas = llm.submit("the cat", GREEDY, { requestId: "a" });
  assertEquals(llm.stats().engine.waitingCount, 1);
  const refused = () => llm.submit("the cat", GREEDY, { requestId: "a" });
  assertThrows(refused, InvalidParameterError, '"a"');
  assertThrows(
    () => llm.submit({ promptTokenIds: [] }, GREEDY),
    InvalidParameterError,
    "no tokens",
  );
  const text = (await collect(deltas)).map((delta) => delta.text).join("");
  assertEquals(text, (await llm.generate("the cat", GREEDY)).outputs[0]?.text);
});

Deno.test("Options out of range are refused by name before anything is read", async () => {
  const refuse = (options: LLMOptions, name: string) =>
    assertRejects(() => LLM.load("/nowhere", options), InvalidParameterError, name);
  await refuse({ threads: -1 }, "threads");
  await refuse({ threads: 1.5 }, "threads");
  await refuse({ kernels: "gpu" as "simd" }, "kernels");
  await refuse({ kvCacheDtype: "int8" as "float32" }, "kvCacheDtype");
  await refuse({ activationDtype: "int4" as "int8" }, "activationDtype");
  await refuse({ generationConfig: "no/such/folder" }, "generationConfig");
  await refuse({ generationConfig: "" }, "generationConfig");
  await refuse({ overrideGenerationConfig: { topP: 2 } }, "overrideGenerationConfig");
  await refuse({ chatTemplateContentFormat: "text" as "string" }, "chatTemplateContentFormat");
  await refuse({ kvCacheBytes: 0 }, "kvCacheBytes");
  await refuse({ maxBatchSize: 0 }, "maxBatchSize");
  await refuse({ maxTokensPerStep: Number.NaN }, "maxTokensPerStep");
  await refuse({ maxModelLength: 2.5 }, "maxModelLength");
  await refuse({ maxWaitingRequests: 0 }, "maxWaitingRequests");
});

Deno.test("A model that is not there, or contradicts its options, is refused in a sentence", async () => {
  await assertRejects(() => LLM.load("./no/such/folder"), ModelNotFoundError, "./no/such/folder");
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(dir, goldenModel("llama"), { tokenizer: false });
    await assertRejects(() => LLM.load(dir), CheckpointError, "tokenizer.json");
    writeTinyModel(dir, goldenModel("llama"));
    await assertRejects(
      () => LLM.load(dir, { maxModelLength: 100_000 }),
      InvalidParameterError,
      "at most",
    );
    await assertRejects(
      () => LLM.load(dir, { kvCacheBytes: 100 }),
      InvalidParameterError,
      "one block",
    );
    await assertRejects(
      () => LLM.load(dir, { kvCacheBytes: 20_000, maxModelLength: 256 }),
      InvalidParameterError,
      "kvCacheBytes",
    );
    await assertRejects(
      () => LLM.load(dir, { activationDtype: "int8" }),
      InvalidParameterError,
      'Cannot use activationDtype "int8" with dtype "auto": no weight of this model is quantised',
    );
    const reads: number[] = [];
    await using llm = await LLM.load(dir, {
      threads: 0,
      onProgress: ({ stage, done, total }) => {
        if (stage === "read") reads.push(done / total);
      },
    });
    assertEquals(llm.info.threads, 0);
    assertEquals(reads.at(-1), 1);
    assert(reads.every((share, i) => i === 0 || share >= (reads[i - 1] as number)));
    await assertRejects(
      () => LLM.load(dir, { signal: AbortSignal.abort(new RangeError("stop")) }),
      RangeError,
      "stop",
    );
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

tinyTest("A call's template that loops holds up no other, and ends with its call", async (llm) => {
  const loop = "{% for i in range(100000) %}{% endfor %}";
  const chatTemplate = "{% for i in range(100000) %}" + loop + "{% endfor %}";
  const left = new AbortController();
  const looping = [1, 2].map(() =>
    assertRejects(() => llm.tokenizeChat(MESSAGES, { chatTemplate, signal: left.signal }))
  );
  const begun = performance.now();
  assert((await llm.tokenizeChat(MESSAGES)).length > 0);
  left.abort();
  await Promise.all(looping);
  const took = performance.now() - begun;
  assert(took < 4000, `${took} ms, where one loop alone may take 5000`);
}, { chatTemplate: "{{ messages[0].content }}" });

tinyTest(
  "Templates get content in the form that was set, those of a call too",
  async (llm) => {
    const chatTemplate = "{{ messages[0].content is string }}";
    const one = new SamplingParams({ maxTokens: 1 });
    assertEquals((await llm.chat(MESSAGES, one)).prompt, "False");
    assertEquals((await llm.chat(MESSAGES, one, { chatTemplate })).prompt, "False");
    await assertRejects(
      () => LLM.load("nowhere", { chatTemplateContentFormat: "list" as never }),
      InvalidParameterError,
      '"auto" or "string" or "openai"',
    );
  },
  {
    chatTemplate: "{{ messages[0].content is string }}",
    chatTemplateContentFormat: "openai",
  },
);

tinyTest("A conversation's special tokens are added where that is asked for", async (llm) => {
  const chatTemplate = "hello";
  const plain = await llm.tokenizeChat(MESSAGES, { chatTemplate });
  const more = await llm.tokenizeChat(MESSAGES, { chatTemplate, addSpecialTokens: true });
  assertEquals(plain, llm.tokenize("hello", { addSpecialTokens: false }));
  assertEquals(more, llm.tokenize("hello"));
});

tinyTest(
  "A list may be longer than the queue, and each of it is answered as if alone",
  async (llm) => {
    const prompts = Array.from({ length: 12 }, (_, i) => ({ promptTokenIds: [5 + i, 6, 7] }));
    const list = await llm.generate(prompts, GREEDY);
    for (const [i, prompt] of prompts.entries()) {
      assertEquals(list[i]?.outputs, (await llm.generate(prompt, GREEDY)).outputs, `prompt ${i}`);
    }
    await idle(llm);
  },
  { maxWaitingRequests: 2, maxBatchSize: 2 },
);

tinyTest("A prompt of a list that is refused ends the others", async (llm) => {
  const prompts = [...Array<string>(8).fill("the cat"), { promptTokenIds: [-1] }];
  await assertRejects(() => llm.generate(prompts, GREEDY), InvalidParameterError);
  await idle(llm);
}, { maxWaitingRequests: 1 });

tinyTest("Options that there are not are refused by name", async (llm) => {
  for (const option of ["abortSignal", "request_id"]) {
    const options = { [option]: "x" };
    const error = await assertRejects(
      () => llm.generate("the", GREEDY, options),
      InvalidParameterError,
      "no such field",
    );
    assertEquals(error.parameter, option);
  }
  await assertRejects(
    () => LLM.load("nowhere", { max_model_length: 5 } as LLMOptions),
    InvalidParameterError,
    'write "maxModelLength"',
  );
});
