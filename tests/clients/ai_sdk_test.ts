/** The Vercel AI SDK with its provider for compatible servers, over a socket. */

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { APICallError, generateText, streamText } from "ai";
import { startServer } from "./start_server.ts";
import { delay, until, untilAborted } from "./wait.ts";

const ASK = { prompt: "Why is the sky blue?", temperature: 0, maxOutputTokens: 4, maxRetries: 0 };

function provider(baseURL: string, apiKey = "EMPTY") {
  return createOpenAICompatible({ name: "rngd", baseURL, apiKey, includeUsage: true });
}

Deno.test("generateText gets text, usage and a finish reason", async () => {
  await using server = await startServer();
  const model = provider(server.baseURL)("served");
  const { text, usage, finishReason } = await generateText({ model, ...ASK });
  assert(text.length > 0);
  if (server.fake) assertEquals(text, "Hello world");
  assertEquals([usage.outputTokens, finishReason], [4, "length"]);
});

Deno.test("generateText works on completions too", async () => {
  await using server = await startServer();
  const model = provider(server.baseURL).completionModel("served");
  const { text, usage } = await generateText({ model, ...ASK });
  assert(text.length > 0);
  assertEquals(usage.outputTokens, 4);
});

Deno.test("streamText gives the same text in pieces, then usage and a finish reason", async () => {
  await using server = await startServer();
  const model = provider(server.baseURL)("served");
  const whole = await generateText({ model, ...ASK });
  const stream = streamText({ model, ...ASK });
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  assertEquals(text, whole.text);
  assertEquals(await stream.finishReason, "length");
  // The prompt was cached meanwhile: of how the tokens were counted only the sums are the same.
  const { inputTokens, outputTokens } = await stream.usage;
  assertEquals([inputTokens, outputTokens], [whole.usage.inputTokens, whole.usage.outputTokens]);
});

Deno.test("A refusal is an APICallError with the status and our words", async () => {
  await using server = await startServer({ apiKeys: ["right"] });
  const ask = (key: string, extra: object) =>
    generateText({ model: provider(server.baseURL, key)("served"), ...ASK, ...extra });
  const unknown = await assertRejects(() => ask("wrong", {}), APICallError, "Unauthorized");
  assertEquals([unknown.statusCode, unknown.isRetryable], [401, false]);
  const words = "temperature must be in [0, 2], got 9";
  const refused = await assertRejects(() => ask("right", { temperature: 9 }), APICallError, words);
  assertEquals(refused.statusCode, 400);
});

Deno.test("A stream that is aborted ends its generation", async () => {
  const before = (step: number, signal?: AbortSignal) =>
    step < 3 ? undefined : untilAborted(signal);
  await using server = await startServer({}, { before });
  if (server.fake === undefined) return; // a real model does not wait to be left
  const { fake } = server;
  const leaving = new AbortController();
  const errors: unknown[] = [];
  const stream = streamText({
    model: provider(server.baseURL)("served"),
    ...ASK,
    abortSignal: leaving.signal,
    onError: ({ error }) => void errors.push(error),
  });
  let text = "";
  const reading = (async () => {
    for await (const piece of stream.textStream) text += piece;
  })();
  await until(() => text === "Hello wor");
  assertEquals(fake.running, 1);
  await delay(20);
  leaving.abort();
  await reading;
  await until(() => fake.running === 0);
  assertEquals([fake.running, text, errors], [0, "Hello wor", []]);
});
