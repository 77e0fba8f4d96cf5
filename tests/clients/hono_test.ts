/** The handler inside a Hono application (examples/hono.ts): without a socket, and over one. */

import { assertEquals } from "@std/assert";
import OpenAI from "openai";
import { createApp } from "../../examples/hono.ts";
import { FakeLLM } from "../openai/fake_llm.ts";
import { delay, until, untilAborted } from "./wait.ts";

const ASK = {
  model: "any",
  messages: [{ role: "user" as const, content: "Why is the sky blue?" }],
  temperature: 0,
  max_tokens: 4,
};

function request(path: string, body: unknown, signal?: AbortSignal): Request {
  return new Request(`http://localhost${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    ...signal && { signal },
  });
}

Deno.test("Hono: the model answers below its prefix, the application everywhere else", async () => {
  const app = createApp(new FakeLLM());
  const answer = await app.request(request("/ai/v1/chat/completions", ASK));
  assertEquals(answer.status, 200);
  const { model, choices } = await answer.json();
  assertEquals([model, choices[0].message.content], ["house-model", "Hello world"]);
  assertEquals(await (await app.request("/")).text(), "Hello from my own server\n");
  const models = await (await app.request("/ai/v1/models")).json();
  assertEquals(models.data[0].id, "house-model");
  const outside = await app.request(request("/v1/chat/completions", ASK));
  assertEquals(outside.status, 404);
  const unknown = await app.request("/ai/v1/nothing");
  assertEquals([unknown.status, (await unknown.json()).error.code], [404, 404]);
});

Deno.test("Hono: a stream comes in pieces, each as soon as it is there", async () => {
  const gate = Promise.withResolvers<void>();
  const before = (step: number) => step < 2 ? undefined : gate.promise;
  const app = createApp(new FakeLLM({ before }));
  const answer = await app.request(request("/ai/v1/chat/completions", { ...ASK, stream: true }));
  assertEquals(answer.headers.get("content-type")?.startsWith("text/event-stream"), true);
  let text = "";
  for await (const piece of answer.body!.pipeThrough(new TextDecoderStream())) {
    text += piece;
    if (text.includes('"lo"')) gate.resolve(); // the third token waits for the second to be read
  }
  assertEquals(text.endsWith("data: [DONE]\n\n"), true);
});

Deno.test("Hono: a client that leaves ends its generation, before the head and in a stream", async () => {
  for (const [firstSlowStep, stream] of [[1, false], [3, true]] as const) {
    const before = (step: number, signal?: AbortSignal) =>
      step < firstSlowStep ? undefined : untilAborted(signal);
    const fake = new FakeLLM({ before });
    const { fetch } = createApp(fake);
    await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, fetch);
    const baseURL = `http://127.0.0.1:${server.addr.port}/ai/v1`;
    const openai = new OpenAI({ baseURL, apiKey: "EMPTY", maxRetries: 0 });
    const leaving = new AbortController();
    const options = { signal: leaving.signal };
    let text = "";
    const reading = (async () => {
      if (!stream) return void await openai.chat.completions.create(ASK, options);
      const chunks = await openai.chat.completions.create({ ...ASK, stream }, options);
      for await (const chunk of chunks) text += chunk.choices[0]?.delta.content ?? "";
    })().catch(() => {});
    await until(() => stream ? text === "Hello wor" : fake.running === 1);
    assertEquals(fake.running, 1);
    await delay(20);
    leaving.abort();
    await reading;
    await until(() => fake.running === 0);
    assertEquals(fake.running, 0);
  }
});

Deno.test("Hono: without a socket too, by the signal before the head and by the body after it", async () => {
  for (const firstSlowStep of [0, 1]) {
    const before = (step: number, signal?: AbortSignal) =>
      step < firstSlowStep ? undefined : untilAborted(signal);
    const fake = new FakeLLM({ before });
    const leaving = new AbortController();
    const path = "/ai/v1/chat/completions";
    const answering = createApp(fake).request(request(path, ASK, leaving.signal));
    await until(() => fake.running === 1);
    assertEquals(fake.running, 1);
    if (firstSlowStep === 0) leaving.abort();
    await (await answering).body?.cancel();
    await until(() => fake.running === 0);
    assertEquals(fake.running, 0);
  }
});
