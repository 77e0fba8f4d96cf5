/** LangChain.js over a socket. */

import { ChatOpenAI, OpenAI } from "@langchain/openai";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { startServer } from "./start_server.ts";
import { delay, until, untilAborted } from "./wait.ts";

const QUESTION = "Why is the sky blue?";

function chat(baseURL: string, fields: object = {}): ChatOpenAI {
  return new ChatOpenAI({ ...settings(baseURL), ...fields });
}

function settings(baseURL: string) {
  return {
    model: "served",
    apiKey: "EMPTY",
    configuration: { baseURL },
    temperature: 0,
    maxTokens: 4,
    maxRetries: 0,
  };
}

Deno.test("invoke gets a message with usage and a finish reason", async () => {
  await using server = await startServer();
  const message = await chat(server.baseURL).invoke(QUESTION);
  assert(message.text.length > 0);
  if (server.fake) assertEquals(message.text, "Hello world");
  assertEquals(outputTokensOf(message), 4);
  assertEquals(message.response_metadata["finish_reason"], "length");
});

Deno.test("stream gives the same message in pieces, and its usage", async () => {
  await using server = await startServer();
  const model = chat(server.baseURL);
  const whole = await model.invoke(QUESTION);
  let text = "";
  let outputTokens = 0;
  for await (const piece of await model.stream(QUESTION)) {
    text += piece.text;
    outputTokens += outputTokensOf(piece);
  }
  assertEquals([text, outputTokens], [whole.text, 4]);
});

Deno.test("Completions: invoke, and a stream of the same text", async () => {
  await using server = await startServer();
  const model = new OpenAI({ ...settings(server.baseURL) });
  const whole = await model.invoke("The sky is");
  let text = "";
  for await (const piece of await model.stream("The sky is")) text += piece;
  assertEquals(text, whole);
});

Deno.test("Refusals have the status and LangChain's own code", async () => {
  await using server = await startServer({ apiKeys: ["right"] });
  const ask = (fields: object) => () => chat(server.baseURL, fields).invoke(QUESTION);
  const unknown = await assertRejects(ask({ apiKey: "wrong" }), Error, "Unauthorized");
  assertEquals(codeOf(unknown), "MODEL_AUTHENTICATION");
  await assertRejects(ask({ apiKey: "right", temperature: 9 }), Error, "must be in [0, 2], got 9");
});

Deno.test("A prompt that is too long is known as such", async () => {
  await using server = await startServer();
  if (server.fake !== undefined) return; // takes prompts of any length
  const long = "word ".repeat(9000);
  const error = await assertRejects(() => chat(server.baseURL).invoke(long), Error);
  assertEquals(error.name, "ContextOverflowError");
});

Deno.test("A stream that is aborted ends its generation", async () => {
  const before = (step: number, signal?: AbortSignal) =>
    step < 3 ? undefined : untilAborted(signal);
  await using server = await startServer({}, { before });
  if (server.fake === undefined) return; // a real model does not wait to be left
  const { fake } = server;
  const leaving = new AbortController();
  let text = "";
  const reading = (async () => {
    const stream = await chat(server.baseURL).stream(QUESTION, { signal: leaving.signal });
    for await (const piece of stream) text += piece.text;
  })();
  await until(() => text === "Hello wor");
  assertEquals(fake.running, 1);
  await delay(20);
  leaving.abort();
  await assertRejects(() => reading, Error, "abort");
  await until(() => fake.running === 0);
  assertEquals(fake.running, 0);
});

function codeOf(error: Error): unknown {
  return "lc_error_code" in error ? error.lc_error_code : undefined;
}

/** The client's own type of this field is `never` under `exactOptionalPropertyTypes`. */
function outputTokensOf(message: object): number {
  const { usage_metadata: usage } = message as { usage_metadata?: { output_tokens: number } };
  return usage?.output_tokens ?? 0;
}
