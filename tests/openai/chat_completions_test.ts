/** `/v1/chat/completions`: whole answers, streams as golden files, and that one is the fold of the other. */

import { assert, assertEquals } from "@std/assert";
import { assertGolden } from "../helpers/golden.ts";
import { FakeLLM } from "./fake_llm.ts";
import { ask, CHAT, events, HELLO, type Json, post, send, stable } from "./requests.ts";

async function streamed(body: object, llm: FakeLLM = new FakeLLM()): Promise<Json[]> {
  const response = await send(post(CHAT, { ...HELLO, stream: true, ...body }), llm);
  assertEquals(response.status, 200);
  assertEquals(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  return await events(response);
}

/** Puts the chunks of a stream together as a client does. */
function joined(chunks: readonly Json[]): Json {
  const answer: Json = { content: "", logprobs: [], token_ids: [] };
  for (const chunk of chunks) {
    const choice = chunk.choices?.[0];
    if (choice === undefined) continue;
    answer.content += choice.delta.content ?? "";
    answer.logprobs.push(...choice.logprobs?.content ?? []);
    answer.token_ids.push(...choice.token_ids ?? []);
    answer.finish_reason = choice.finish_reason;
    answer.stop_reason = choice.stop_reason;
  }
  return answer;
}

Deno.test("A chat answer has every key of the wire format", async () => {
  const response = await send(post(CHAT, { ...HELLO, return_token_ids: true, logprobs: true }));
  assertEquals(response.headers.get("content-type"), "application/json");
  await assertGolden("openai/chat.json", stable(await response.text()) + "\n");
});

Deno.test("A chat stream is a role chunk, content chunks, a last one with its text, and [DONE]", async () => {
  const response = await send(post(CHAT, { ...HELLO, stream: true, max_tokens: 3 }));
  await assertGolden("openai/chat_stream.txt", stable(await response.text()));
});

Deno.test("A chat stream with everything asked for carries ids, log-probabilities and usage", async () => {
  const body = {
    ...HELLO,
    stream: true,
    logprobs: true,
    top_logprobs: 2,
    return_token_ids: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
  };
  const response = await send(post(CHAT, body), new FakeLLM({ cachedTokens: 4 }));
  await assertGolden("openai/chat_stream_full.txt", stable(await response.text()));
});

Deno.test("A streamed chat is the whole chat in pieces, empty pieces included", async () => {
  const llm = new FakeLLM({ pieces: ["", "", "é", "", "日本"] });
  const extra = { logprobs: true, top_logprobs: 3, return_token_ids: true };
  const { body } = await ask(CHAT, { ...HELLO, ...extra }, llm);
  const chunks = await streamed(extra, llm);
  const [choice] = body.choices;
  assertEquals(joined(chunks), {
    content: choice.message.content,
    logprobs: choice.logprobs.content,
    token_ids: choice.token_ids,
    finish_reason: choice.finish_reason,
    stop_reason: choice.stop_reason,
  });
  assertEquals(choice.message.content, "é日本");
  assertEquals(chunks.at(-1), "[DONE]");
  assertEquals(chunks[0].prompt_token_ids, body.prompt_token_ids);
});

Deno.test("The finishing chunk of a chat cut by its length carries the last text", async () => {
  const chunks = await streamed({ max_tokens: 3 });
  const last = chunks.at(-2).choices[0];
  assertEquals([last.delta.content, last.finish_reason, last.stop_reason], [
    " wor",
    "length",
    null,
  ]);
  assertEquals(chunks.filter((chunk) => chunk.choices?.[0].finish_reason).length, 1);
});

Deno.test("Usage counts prompt, answer, cached and reasoning tokens", async () => {
  const { body } = await ask(CHAT, HELLO, new FakeLLM({ cachedTokens: 5 }));
  assertEquals(body.usage, {
    prompt_tokens: 19,
    total_tokens: 25,
    completion_tokens: 6,
    prompt_tokens_details: { cached_tokens: 5 },
    completion_tokens_details: { reasoning_tokens: 0 },
  });
});

Deno.test("The usage chunk comes last, with an object and no choices, and only when asked for", async () => {
  const chunks = await streamed({ stream_options: { include_usage: true } });
  const last = chunks.at(-2);
  assertEquals([last.object, last.choices, last.usage.total_tokens], [
    "chat.completion.chunk",
    [],
    25,
  ]);
  assert(chunks.slice(0, -2).every((chunk) => chunk.usage === undefined));
  assertEquals(chunks.filter((chunk) => chunk.system_fingerprint).length, 1);
  const without = await streamed({ stream_options: { include_usage: false } });
  assert(without.every((chunk) => chunk.usage === undefined));
  assert(typeof without.at(-2).system_fingerprint === "string");
});

Deno.test("Continuous usage starts at 0 and rises with every chunk up to the true count", async () => {
  const options = { include_usage: true, continuous_usage_stats: true };
  const chunks = (await streamed({ stream_options: options })).slice(0, -1);
  const counts = chunks.map((chunk) => chunk.usage.completion_tokens);
  assertEquals(counts, [0, 1, 2, 3, 4, 5, 6, 6]);
  for (const { usage } of chunks) {
    assertEquals(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  }
});

Deno.test("Continuous usage without include_usage has no effect", async () => {
  const chunks = await streamed({ stream_options: { continuous_usage_stats: true } });
  assert(chunks.every((chunk) => chunk.usage === undefined));
});

Deno.test("Chat log-probabilities: absent, chosen token only, and exactly the number asked for", async () => {
  const none = await ask(CHAT, { ...HELLO, logprobs: false });
  assertEquals(none.body.choices[0].logprobs, null);
  const zero = await ask(CHAT, { ...HELLO, logprobs: true, top_logprobs: 0 });
  const [first] = zero.body.choices[0].logprobs.content;
  assertEquals(first, { token: "Hel", logprob: -0.5, bytes: [72, 101, 108], top_logprobs: [] });
  const five = await ask(CHAT, { ...HELLO, logprobs: true, top_logprobs: 5 });
  for (const entry of five.body.choices[0].logprobs.content) {
    assertEquals(entry.top_logprobs.length, 5);
    assertEquals(entry.top_logprobs[0].token, entry.token);
    assertEquals(entry.top_logprobs[4].logprob, -9999);
  }
});

Deno.test("Tokens can be written as their ids", async () => {
  const body = { ...HELLO, logprobs: true, return_tokens_as_token_ids: true };
  const answer = await ask(CHAT, body);
  const tokens = answer.body.choices[0].logprobs.content.map((entry: Json) => entry.token);
  assertEquals(tokens.slice(0, 2), ["token_id:256", "token_id:257"]);
});

Deno.test("Prompt log-probabilities stand at the top, the prompt's own token first", async () => {
  const response = await send(post(CHAT, { ...HELLO, prompt_logprobs: 1 }));
  const text = await response.text();
  const { prompt_logprobs } = JSON.parse(text);
  assertEquals(prompt_logprobs.length, 19);
  assertEquals(prompt_logprobs[0], null);
  assertEquals(prompt_logprobs[1]["117"], { logprob: -3, rank: 7, decoded_token: "u" });
  assert(text.includes('{"117":{"logprob":-3,"rank":7,"decoded_token":"u"},"2":'), "order kept");
  const zero = await ask(CHAT, { ...HELLO, prompt_logprobs: 0 });
  assertEquals(Object.keys(zero.body.prompt_logprobs[1]).length, 1);
});

Deno.test("A request's fields reach the model under the SDK's names", async () => {
  const llm = new FakeLLM();
  await ask(CHAT, {
    ...HELLO,
    temperature: "0.5",
    top_p: 0.9,
    top_k: 5.0,
    min_p: 0.1,
    repetition_penalty: 1.2,
    seed: 7,
    stop_token_ids: [3],
    ignore_eos: "true",
    max_tokens: 50,
    max_completion_tokens: 4,
    min_tokens: 2,
    logprobs: true,
    top_logprobs: 3,
    prompt_logprobs: 2,
    skip_special_tokens: false,
    priority: -1,
    chat_template_kwargs: { depth: 1 },
    reasoning_effort: "low",
    documents: [{ text: "d" }],
  }, llm);
  const call = llm.calls[0];
  assertEquals({ ...call?.params }, {
    temperature: 0.5,
    topP: 0.9,
    topK: 5,
    minP: 0.1,
    repetitionPenalty: 1.2,
    seed: 7,
    stopTokenIds: [3],
    ignoreEos: true,
    maxTokens: 4,
    minTokens: 2,
    logprobs: 3,
    promptLogprobs: 2,
    skipSpecialTokens: false,
  });
  assertEquals(call?.options.priority, -1);
  assertEquals(call?.options.documents, [{ text: "d" }]);
  assertEquals(call?.options.chatTemplateKwargs, {
    enable_thinking: true,
    reasoning_effort: "low",
    depth: 1,
  });
});

Deno.test("Absent and null fields stay absent, so that the model's own defaults count", async () => {
  const llm = new FakeLLM();
  await ask(CHAT, { ...HELLO, temperature: null, max_tokens: null, top_k: null, n: null }, llm);
  assertEquals({ ...llm.calls[0]?.params }, {});
});

Deno.test("Content parts, custom roles and further message keys are accepted", async () => {
  const llm = new FakeLLM();
  const { status } = await ask(CHAT, {
    messages: [
      {
        role: "developer",
        content: [{ type: "text", text: "a" }, "b", { type: "refusal", refusal: "c" }],
      },
      { role: "my-custom-role", content: null, mood: "good" },
      { role: "assistant", tool_calls: [{ id: "1", function: { name: "f", arguments: "{}" } }] },
      { role: "tool", content: "42", tool_call_id: "1" },
    ],
  }, llm);
  assertEquals(status, 200);
  const messages = llm.calls[0]?.input as Json[];
  assertEquals(messages[0].content, [
    { type: "text", text: "a" },
    "b",
    { type: "text", text: "c" },
  ]);
  assertEquals(messages[1], { role: "my-custom-role", content: null, mood: "good" });
});

Deno.test("Further keys of text parts stay, thoughts are text, and a system's pictures are let pass", async () => {
  const llm = new FakeLLM();
  const image = { type: "image_url", image_url: { url: "u" } };
  const { status } = await ask(CHAT, {
    messages: [
      { role: "system", content: [image, { type: "text", text: "a", mark: 1 }] },
      { role: "assistant", content: [{ type: "thinking", thinking: "b", closed: true }] },
      { role: "user", name: "Ann", content: [{ type: "input_text", text: "c" }] },
      { role: "function", name: "f", content: "d", reasoning: "e" },
    ],
  }, llm);
  assertEquals(status, 200);
  assertEquals(llm.calls[0]?.input as Json, [
    { role: "system", content: [image, { type: "text", text: "a", mark: 1 }] },
    { role: "assistant", content: [{ type: "text", text: "b" }] },
    { role: "user", name: "Ann", content: [{ type: "text", text: "c" }] },
    { role: "function", name: "f", content: "d", reasoning: "e" },
  ]);
});

Deno.test("With a last message left open the answer has that message's role", async () => {
  const llm = new FakeLLM();
  const { body } = await ask(CHAT, {
    messages: [{ role: "critic", content: "Well" }],
    continue_final_message: true,
    add_generation_prompt: false,
  }, llm);
  assertEquals(body.choices[0].message.role, "critic");
  assertEquals(llm.calls[0]?.options.continueFinalMessage, true);
});

Deno.test("The answer's id is the header's, else the body's, else a random one", async () => {
  const request = post(CHAT, { ...HELLO, request_id: "b" }, { headers: { "x-request-id": "h" } });
  const response = await send(request);
  assertEquals(response.headers.get("x-request-id"), "h");
  assertEquals((await response.json()).id, "chatcmpl-h");
  assertEquals((await ask(CHAT, { ...HELLO, request_id: "b" })).body.id, "chatcmpl-b");
  const random = await send(post(CHAT, HELLO));
  assertEquals(random.headers.get("x-request-id"), null);
  assert(/^chatcmpl-[0-9a-f]{32}$/.test((await random.json()).id));
});

Deno.test("The model in a request is ignored and the first served name answers", async () => {
  const options = { servedModelNames: ["first", "second"] };
  const { body } = await ask(CHAT, { ...HELLO, model: "gpt-9" }, new FakeLLM(), options);
  assertEquals(body.model, "first");
});

/** The chunks of each choice, put together. */
function joinedChoices(chunks: readonly Json[], count: number): Json[] {
  return Array.from(
    { length: count },
    (_, index) => joined(chunks.filter((chunk) => chunk.choices?.[0]?.index === index)),
  );
}

Deno.test("Several choices are in the order of their indices, and each is its stream's pieces", async () => {
  const extra = { n: 3, logprobs: true, top_logprobs: 2, return_token_ids: true };
  const { body } = await ask(CHAT, { ...HELLO, ...extra });
  assertEquals(
    body.choices.map((choice: Json) => [choice.index, choice.message.content]),
    [[0, "Hello world!"], [1, "1:Hello world!"], [2, "2:Hello world!+"]],
  );
  const chunks = await streamed(extra);
  for (const [index, answer] of joinedChoices(chunks, 3).entries()) {
    const choice = body.choices[index];
    assertEquals(answer, {
      content: choice.message.content,
      logprobs: choice.logprobs.content,
      token_ids: choice.token_ids,
      finish_reason: choice.finish_reason,
      stop_reason: choice.stop_reason,
    });
  }
});

Deno.test("A stream of several choices has a role chunk for each, then their content interleaved", async () => {
  const options = { include_usage: true, continuous_usage_stats: true };
  const chunks = (await streamed({ n: 2, stream_options: options })).slice(0, -1);
  const indices = chunks.map((chunk) => chunk.choices[0]?.index);
  assertEquals(indices, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1, undefined]);
  assertEquals(chunks.slice(0, 2).map((chunk) => chunk.choices[0].delta.role), [
    "assistant",
    "assistant",
  ]);
  assert(chunks.every((chunk) => chunk.choices.length <= 1));
  for (const index of [0, 1]) {
    const own = chunks.filter((chunk) => chunk.choices[0]?.index === index);
    const counts = own.map((chunk) => chunk.usage.completion_tokens);
    assertEquals(counts, counts.map((_, step) => step), "a count of its own, rising by one");
    assertEquals(own.filter((chunk) => chunk.choices[0].finish_reason).length, 1);
  }
});

Deno.test("A chat stream of two choices, as it is sent", async () => {
  const body = { ...HELLO, stream: true, n: 2, max_tokens: 2, return_token_ids: true };
  const response = await send(post(CHAT, body));
  await assertGolden("openai/chat_stream_choices.txt", stable(await response.text()));
});

Deno.test("Usage of several choices sums their tokens and counts the prompt once", async () => {
  const one = (await ask(CHAT, HELLO)).body.usage;
  const three = (await ask(CHAT, { ...HELLO, n: 3 })).body.usage;
  assertEquals([three.prompt_tokens, three.completion_tokens], [one.prompt_tokens, 6 + 7 + 8]);
  const chunks = await streamed({ n: 3, stream_options: { include_usage: true } });
  assertEquals(chunks.at(-2).usage, three);
  const finished = (await streamed({ n: 3 })).filter((chunk) => chunk.system_fingerprint);
  assertEquals(finished.length, 1);
});
