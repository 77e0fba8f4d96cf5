/** `/v1/completions`: prompts of every form, batches, and streams as golden files. */

import { assert, assertEquals } from "@std/assert";
import { assertGolden } from "../helpers/golden.ts";
import { FakeLLM } from "./fake_llm.ts";
import { ask, COMPLETIONS, events, type Json, post, send, stable } from "./requests.ts";

async function streamed(body: object, llm: FakeLLM = new FakeLLM()): Promise<Json[]> {
  return await events(await send(post(COMPLETIONS, { stream: true, ...body }), llm));
}

Deno.test("A completion has every key of the wire format", async () => {
  const body = { prompt: "ab", return_token_ids: true, logprobs: 1, prompt_logprobs: 0 };
  const response = await send(post(COMPLETIONS, body));
  await assertGolden("openai/completion.json", stable(await response.text()) + "\n");
});

Deno.test("A completion stream has text in every chunk, then usage, then [DONE]", async () => {
  const body = {
    prompt: "ab",
    stream: true,
    logprobs: 2,
    return_token_ids: true,
    stream_options: { include_usage: true },
  };
  const response = await send(post(COMPLETIONS, body));
  await assertGolden("openai/completion_stream.txt", stable(await response.text()));
});

Deno.test("A prompt is a text, texts, ids, or lists of ids", async () => {
  for (
    const [prompt, inputs] of [
      ["ab", ["ab"]],
      [["ab", "c"], ["ab", "c"]],
      [[5, 6], [{ promptTokenIds: [5, 6] }]],
      [[[5], [6, 7]], [{ promptTokenIds: [5] }, { promptTokenIds: [6, 7] }]],
    ] as [Json, Json][]
  ) {
    const llm = new FakeLLM();
    const { status, body } = await ask(COMPLETIONS, { prompt }, llm);
    assertEquals(status, 200);
    assertEquals(llm.calls.map((call) => call.input), inputs);
    assertEquals(
      body.choices.map((choice: Json) => choice.index),
      inputs.map((_: Json, i: number) => i),
    );
  }
});

Deno.test("A batch keeps the order of its prompts and sums their usage", async () => {
  const body = { prompt: ["a", "bcd", "ef"], return_token_ids: true, max_tokens: 2 };
  const answer = await ask(COMPLETIONS, body, new FakeLLM({ cachedTokens: 1 }));
  const ids = answer.body.choices.map((choice: Json) => choice.prompt_token_ids.length);
  assertEquals(ids, [2, 4, 3]);
  assertEquals(answer.body.usage.prompt_tokens, 9);
  assertEquals(answer.body.usage.completion_tokens, 6);
  assertEquals(answer.body.usage.prompt_tokens_details.cached_tokens, 3);
});

Deno.test("A streamed batch has one choice a chunk and the same texts as the whole answer", async () => {
  const prompt = ["a", "b", "c"];
  const { body } = await ask(COMPLETIONS, { prompt, logprobs: 2 });
  const chunks = (await streamed({ prompt, logprobs: 2 })).slice(0, -1);
  const texts = ["", "", ""];
  const offsets: number[][] = [[], [], []];
  for (const chunk of chunks) {
    assertEquals(chunk.choices.length, 1);
    const [choice] = chunk.choices;
    texts[choice.index] += choice.text;
    offsets[choice.index]?.push(...choice.logprobs.text_offset);
  }
  assertEquals(texts, body.choices.map((choice: Json) => choice.text));
  assertEquals(offsets, body.choices.map((choice: Json) => choice.logprobs.text_offset));
  assertEquals(chunks.filter((chunk) => chunk.choices[0].finish_reason).length, 3);
  assertEquals(chunks.filter((chunk) => chunk.system_fingerprint).length, 1);
});

Deno.test("Text offsets run on over the chunks of a stream", async () => {
  const chunks = await streamed({ prompt: "a", logprobs: 0 });
  const offsets = chunks.slice(0, -1).map((chunk) => chunk.choices[0].logprobs.text_offset[0]);
  assertEquals(offsets, [0, 3, 5, 9, 11, 12]);
});

Deno.test("Completion log-probabilities: none, chosen only, and k with the chosen first", async () => {
  assertEquals((await ask(COMPLETIONS, { prompt: "a" })).body.choices[0].logprobs, null);
  const zero = (await ask(COMPLETIONS, { prompt: "a", logprobs: 0 })).body.choices[0].logprobs;
  assertEquals(zero.top_logprobs[0], { Hel: -0.5 });
  const response = await send(post(COMPLETIONS, { prompt: "a", logprobs: 5 }));
  const text = await response.text();
  assert(text.includes('{"Hel":-0.5,"7":-2,"6":-3,"5":-4,"4":-9999}'), "order kept, floor applied");
});

Deno.test("Prompt log-probabilities and prompt ids stand in each choice", async () => {
  const body = { prompt: ["a", "b"], prompt_logprobs: 1, return_token_ids: true };
  const answer = await ask(COMPLETIONS, body);
  for (const choice of answer.body.choices) {
    assertEquals(choice.prompt_logprobs[0], null);
    assertEquals(choice.prompt_logprobs.length, choice.prompt_token_ids.length);
  }
});

Deno.test("Special tokens are added unless the request says no", async () => {
  const llm = new FakeLLM();
  const [plain, bare] = [{ prompt: "a" }, { prompt: "a", add_special_tokens: false }];
  assertEquals((await ask(COMPLETIONS, plain, llm)).body.usage.prompt_tokens, 2);
  assertEquals((await ask(COMPLETIONS, bare, llm)).body.usage.prompt_tokens, 1);
});

Deno.test("Several choices a prompt: those of the first prompt come first, streamed and whole", async () => {
  const request = { prompt: ["a", "bc"], n: 2, logprobs: 1, return_token_ids: true };
  const { body } = await ask(COMPLETIONS, request);
  assertEquals(
    body.choices.map((choice: Json) => [choice.index, choice.text, choice.prompt_token_ids.length]),
    [
      [0, "Hello world!", 2],
      [1, "1:Hello world!", 2],
      [2, "Hello world!", 3],
      [3, "1:Hello world!", 3],
    ],
  );
  assertEquals([body.usage.prompt_tokens, body.usage.completion_tokens], [5, 2 * (6 + 7)]);

  const chunks = await streamed({ ...request, stream_options: { include_usage: true } });
  assertEquals(chunks.at(-2).usage, body.usage);
  for (const whole of body.choices) {
    const own = chunks.flatMap((chunk) => chunk.choices ?? [])
      .filter((choice) => choice.index === whole.index);
    assertEquals(own.map((choice) => choice.text).join(""), whole.text);
    assertEquals(own.flatMap((choice) => choice.token_ids), whole.token_ids);
    assertEquals(
      own.flatMap((choice) => choice.logprobs.text_offset),
      whole.logprobs.text_offset,
    );
    assertEquals(
      own.map((choice) => choice.prompt_token_ids?.length),
      own.map((_, at) => at === 0 ? whole.prompt_token_ids.length : undefined),
    );
    assertEquals(own.at(-1)?.finish_reason, whole.finish_reason);
  }
});

Deno.test("The parameters of a request reach the model, scalars as their types, biases clamped", async () => {
  const llm = new FakeLLM();
  const body = {
    prompt: "a",
    n: "2",
    best_of: 3,
    presence_penalty: -2,
    frequency_penalty: "0.5",
    logit_bias: { 7: 1e9, " 8": -0.5 },
    allowed_token_ids: [7, 8, 7],
    bad_words: ["x", "x"],
    stop: "END",
    include_stop_str_in_output: 1,
    truncate_prompt_tokens: 1,
    temperature: 1,
    min_tokens: 0,
  };
  assertEquals((await ask(COMPLETIONS, body, llm)).status, 200);
  assertEquals({ ...llm.calls[0]?.params }, {
    n: 2,
    bestOf: 3,
    presencePenalty: -2,
    frequencyPenalty: 0.5,
    logitBias: new Map([[7, 100], [8, -0.5]]),
    allowedTokenIds: [7, 8],
    badWords: ["x"],
    stop: ["END"],
    includeStopStrInOutput: true,
    truncatePromptTokens: 1,
    temperature: 1,
    minTokens: 0,
  });
  const beam = {
    prompt: "a",
    n: 2,
    best_of: 4,
    use_beam_search: true,
    length_penalty: 0.5,
    early_stopping: "never",
    temperature: 0,
  };
  await ask(COMPLETIONS, beam, llm);
  assertEquals({ ...llm.calls[1]?.params }, {
    n: 2,
    bestOf: 4,
    useBeamSearch: true,
    lengthPenalty: 0.5,
    earlyStopping: "never",
    temperature: 0,
  });
  await ask(COMPLETIONS, { prompt: "a", forced_output: "say<|end|>" }, llm);
  await ask(COMPLETIONS, { prompt: "a", forced_output: [5, 6] }, llm);
  await ask(COMPLETIONS, { prompt: "a", stop: [], bad_words: [], logit_bias: {} }, llm);
  assertEquals(llm.calls.slice(2).map(({ params }) => ({ ...params })), [
    { forcedOutput: "say<|end|>" },
    { forcedOutput: [5, 6] },
    {},
  ]);
});
