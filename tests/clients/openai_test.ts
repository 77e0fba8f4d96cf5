/** OpenAI's own JavaScript client against our server, over a socket. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import OpenAI from "openai";
import type { LLM } from "../../mod.ts";
import { startServer } from "./start_server.ts";
import { delay, until, untilAborted } from "./wait.ts";

const MESSAGES = [{ role: "user" as const, content: "Why is the sky blue?" }];
const GREEDY = { model: "served", temperature: 0, max_tokens: 4 };

function client(baseURL: string, apiKey = "EMPTY"): OpenAI {
  return new OpenAI({ baseURL, apiKey, maxRetries: 0 });
}

Deno.test("The client gets a chat answer with usage and a finish reason", async () => {
  await using server = await startServer();
  const answer = await client(server.baseURL).chat.completions.create({
    ...GREEDY,
    messages: MESSAGES,
  });
  const [choice] = answer.choices;
  assertEquals([answer.object, answer.model, choice?.finish_reason], [
    "chat.completion",
    "served",
    "length",
  ]);
  assertEquals(choice?.message.role, "assistant");
  assertEquals(answer.usage?.completion_tokens, 4);
  assert((choice?.message.content ?? "").length > 0);
  if (server.fake) assertEquals(choice?.message.content, "Hello world");
});

/** Conversations with the types of the client go to `LLM` as they are; this needs only to compile. */
export async function askDirectly(
  llm: LLM,
  messages: OpenAI.ChatCompletionMessageParam[],
): Promise<void> {
  await llm.chat(messages);
  await llm.chat([messages, messages]);
  for await (const _ of llm.stream(messages));
}

Deno.test("A streamed chat is the whole chat in pieces, and its usage comes last", async () => {
  await using server = await startServer();
  const openai = client(server.baseURL);
  const body = { ...GREEDY, messages: MESSAGES };
  const whole = await openai.chat.completions.create(body);
  const stream = await openai.chat.completions.create({
    ...body,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage: OpenAI.CompletionUsage | null | undefined;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage;
  }
  assertEquals(text, whole.choices[0]?.message.content);
  assertEquals(usage?.total_tokens, whole.usage?.total_tokens);
});

Deno.test("The client's stream helper puts the same message together", async () => {
  await using server = await startServer();
  const stream = client(server.baseURL).chat.completions.stream({ ...GREEDY, messages: MESSAGES });
  const final = await stream.finalChatCompletion();
  assertEquals(final.choices[0]?.finish_reason, "length");
  assertEquals(final.choices[0]?.message.content, await stream.finalContent());
});

Deno.test("Log-probabilities arrive as the client's types say", async () => {
  await using server = await startServer();
  const answer = await client(server.baseURL).chat.completions.create({
    ...GREEDY,
    messages: MESSAGES,
    logprobs: true,
    top_logprobs: 3,
  });
  const content = answer.choices[0]?.logprobs?.content ?? [];
  assertEquals(content.length, 4);
  for (const entry of content) {
    assertEquals(entry.top_logprobs.length, 3);
    assertEquals(new TextDecoder().decode(new Uint8Array(entry.bytes ?? [])), entry.token);
  }
});

Deno.test("Completions: a text, a batch, and a stream", async () => {
  await using server = await startServer();
  const { completions } = client(server.baseURL);
  const batch = await completions.create({ ...GREEDY, prompt: ["The sky is", "Water is"] });
  assertEquals(batch.choices.map((choice) => choice.index), [0, 1]);
  const one = await completions.create({ ...GREEDY, prompt: "The sky is", logprobs: 2 });
  assertEquals(one.choices[0]?.text, batch.choices[0]?.text);
  assertEquals(one.choices[0]?.logprobs?.tokens?.length, 4);
  let text = "";
  for await (
    const chunk of await completions.create({ ...GREEDY, prompt: "The sky is", stream: true })
  ) text += chunk.choices[0]?.text;
  assertEquals(text, one.choices[0]?.text);
});

Deno.test("Models are listed and retrieved, names with slashes too", async () => {
  await using server = await startServer({ servedModelNames: ["org/name", "alias"] });
  const { models } = client(server.baseURL);
  const ids: string[] = [];
  for await (const model of models.list()) ids.push(model.id);
  assertEquals(ids, ["org/name", "alias"]);
  assertEquals((await models.retrieve("org/name")).id, "org/name");
  await assertRejects(() => models.retrieve("none"), OpenAI.NotFoundError, "does not exist");
});

Deno.test("Refusals become the client's error classes", async () => {
  await using server = await startServer({ apiKeys: ["right"] });
  const ask = (key: string, extra: object) =>
    client(server.baseURL, key).chat.completions.create({
      ...GREEDY,
      messages: MESSAGES,
      ...extra,
    });
  await assertRejects(() => ask("wrong", {}), OpenAI.AuthenticationError, "Unauthorized");
  const error = await assertRejects(() => ask("right", { temperature: 9 }), OpenAI.BadRequestError);
  assertStringIncludes(error.message, "temperature must be in [0, 2], got 9");
  assertEquals(error.param, "temperature");
  await assertRejects(
    () => ask("right", { stream: true, n: 2 }),
    OpenAI.BadRequestError,
    "n must be 1 when using greedy sampling",
  );
  assertEquals((await ask("right", {})).choices.length, 1);
});

Deno.test("An error in the middle of a stream is thrown by the client", async () => {
  const before = (step: number) => {
    if (step === 2) throw new Error("broken");
  };
  await using server = await startServer({}, { before });
  if (server.fake === undefined) return; // a real model does not break on request
  const stream = await client(server.baseURL).chat.completions.create({
    ...GREEDY,
    messages: MESSAGES,
    stream: true,
  });
  let text = "";
  const read = async () => {
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  };
  await assertRejects(read, OpenAI.APIError, "Internal server error");
  assertEquals(text, "Hello");
});

Deno.test("A client that aborts ends its generation, whole or streamed, once the first token is there", async () => {
  for (const [firstSlowStep, stream] of [[1, false], [1, true], [3, true]] as const) {
    const before = (step: number, signal?: AbortSignal) =>
      step < firstSlowStep ? undefined : untilAborted(signal);
    await using server = await startServer({}, { before });
    if (server.fake === undefined) return;
    const { fake } = server;
    const leaving = new AbortController();
    const { completions } = client(server.baseURL).chat;
    const options = { signal: leaving.signal };
    const reading = (async () => {
      if (!stream) {
        await completions.create({ ...GREEDY, messages: MESSAGES }, options);
        return;
      }
      const chunks = await completions.create({ ...GREEDY, messages: MESSAGES, stream }, options);
      for await (const _ of chunks);
    })().catch(() => {});
    await until(() => fake.running > 0);
    assertEquals(fake.running, 1);
    await delay(20);
    leaving.abort();
    await reading;
    await until(() => fake.running === 0);
    assertEquals(fake.running, 0);
  }
});
