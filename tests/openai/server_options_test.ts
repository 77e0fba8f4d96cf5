/** What the server's owner decides for all requests: names, origins, paths, ids, defaults. */

import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { handler, type HandlerOptions, VERSION } from "../../lib/openai/handler.ts";
import { classifierModel, embeddingModel } from "../helpers/fake_pooling.ts";
import { FakeLLM } from "./fake_llm.ts";
import { ask, CHAT, COMPLETIONS, events, get, HELLO, post, send } from "./requests.ts";

/** A body that each route for the model takes, and a model that serves it. */
const BODIES: readonly (readonly [path: string, body: object, llm: () => FakeLLM])[] = [
  [CHAT, HELLO, () => new FakeLLM()],
  [COMPLETIONS, { prompt: "a" }, () => new FakeLLM()],
  ["/tokenize", { prompt: "a" }, () => new FakeLLM()],
  ["/detokenize", { tokens: [65] }, () => new FakeLLM()],
  ["/v1/embeddings", { input: "a" }, () => new FakeLLM({ pooling: embeddingModel() })],
  ["/pooling", { input: "a" }, () => new FakeLLM({ pooling: embeddingModel() })],
  ["/score", { text_1: "a", text_2: "b" }, () => new FakeLLM({ pooling: classifierModel(1) })],
  ["/rerank", { query: "a", documents: ["b"] }, () => new FakeLLM({ pooling: classifierModel(1) })],
  ["/classify", { input: "a" }, () => new FakeLLM({ pooling: classifierModel(3) })],
];

Deno.test("Where names are strict, every route refuses another model with 404 and takes its own", async () => {
  const options = { strictModel: true, servedModelNames: ["org/name", "alias"] };
  for (const [path, body, llm] of BODIES) {
    const wrong = await ask(path, { ...body, model: "gpt-4o" }, llm(), options);
    assertEquals([path, wrong.status], [path, 404]);
    assertEquals(wrong.body.error, {
      message: "The model `gpt-4o` does not exist.",
      type: "NotFoundError",
      param: "model",
      code: 404,
    });
    for (const model of ["org/name", "alias", "", null, undefined]) {
      const { status } = await ask(path, { ...body, model }, llm(), options);
      assertEquals([path, model, status], [path, model, 200]);
    }
  }
});

Deno.test("Where they are not, any name will do", async () => {
  for (const [path, body, llm] of BODIES) {
    assertEquals((await ask(path, { ...body, model: "EMPTY" }, llm())).status, 200, path);
  }
});

Deno.test("Requests are answered with the root path and without it, each with and without a key", async () => {
  const options = { rootPath: "/llm", apiKeys: ["k"] };
  const status = async (path: string, authorization?: string) => {
    const headers = authorization === undefined ? {} : { authorization };
    const response = await send(get(path, { headers }), undefined, options);
    await response.body?.cancel();
    return response.status;
  };
  for (const prefix of ["", "/llm"]) {
    assertEquals(await status(`${prefix}/v1/models`), 401);
    assertEquals(await status(`${prefix}/v1/models`, "Bearer k"), 200);
    assertEquals(await status(`${prefix}/v1/models/fake%2Fmodel/`, "Bearer k"), 200);
    assertEquals(await status(`${prefix}/health`), 200);
  }
  assertThrows(() => handler(new FakeLLM(), { rootPath: "llm" }), RangeError, '"llm"');
  assertEquals(await status("/llmx/v1/models", "Bearer k"), 404);
  assertEquals(await status("/llm/llm/v1/models", "Bearer k"), 404);
  assertEquals(await status("/llm", "Bearer k"), 404);
});

Deno.test("Metrics count a request under its route, whatever stands before it, and so does the document", async () => {
  const answer = handler(new FakeLLM(), { rootPath: "/llm/" });
  for (const path of ["/llm/v1/models", "/v1/models"]) await (await answer(get(path))).text();
  const text = await (await answer(get("/llm/metrics"))).text();
  assertMatch(text, /http_requests_total\{[^}]*handler="\/v1\/models"[^}]*\} 2/);
  const document = await (await answer(get("/llm/openapi.json"))).json();
  assertEquals(document.servers, [{ url: "/llm" }]);
  const plain = await (await send(get("/openapi.json"))).json();
  assertEquals(plain.servers, undefined);
});

Deno.test("An answer has an X-Request-Id if its request had one; with the option every answer has", async () => {
  const id = async (headers: Record<string, string>, options: HandlerOptions) => {
    const response = await send(post(CHAT, HELLO, { headers }), undefined, options);
    const body = await response.json();
    return [response.headers.get("x-request-id"), body.id] as const;
  };
  const sent = { "x-request-id": "mine" };
  assertEquals(await id(sent, {}), ["mine", "chatcmpl-mine"]);
  assertEquals(await id(sent, { requestIdHeaders: true }), ["mine", "chatcmpl-mine"]);
  assertEquals((await id({}, {}))[0], null);
  const [header, body] = await id({}, { requestIdHeaders: true });
  assertMatch(header ?? "", /^[0-9a-f]{32}$/);
  assertEquals(body, `chatcmpl-${header}`);
  const refused = await send(get("/nothing"), undefined, { requestIdHeaders: true });
  assertMatch(refused.headers.get("x-request-id") ?? "", /^[0-9a-f]{32}$/);
  await refused.body?.cancel();
});

/** The headers of a preflight's answer. */
async function preflight(options: HandlerOptions): Promise<Headers> {
  const headers = {
    origin: "https://a.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "x-mine",
  };
  const response = await send(get(CHAT, { method: "OPTIONS", headers }), undefined, options);
  assertEquals(response.status, 204);
  return response.headers;
}

Deno.test("Only listed methods and headers are offered to pages of other origins", async () => {
  const headers = await preflight({
    allowedMethods: ["GET", "POST"],
    allowedHeaders: ["authorization", "content-type"],
  });
  assertEquals(headers.get("access-control-allow-methods"), "POST");
  assertEquals(headers.get("access-control-allow-headers"), "authorization, content-type");
  assertEquals(headers.get("allow"), "POST, OPTIONS");
  assertEquals(headers.get("access-control-allow-credentials"), null);
});

Deno.test("With credentials a page is told its own origin, and one that is not listed nothing", async () => {
  const all = await preflight({ allowCredentials: true });
  assertEquals(all.get("access-control-allow-origin"), "https://a.example");
  assertEquals(all.get("access-control-allow-credentials"), "true");
  assertEquals(all.get("vary"), "Origin");
  const other = await preflight({ allowCredentials: true, allowedOrigins: ["https://b.example"] });
  assertEquals(other.get("access-control-allow-origin"), null);
  assertEquals(other.get("access-control-allow-credentials"), null);
});

Deno.test("Usage can be forced on streams, and leaves whole answers alone", async () => {
  const options = { forceIncludeUsage: true };
  for (const [path, body] of [[CHAT, HELLO], [COMPLETIONS, { prompt: "a" }]] as const) {
    for (const extra of [{}, { stream_options: { include_usage: false } }]) {
      const streamed = { ...body, ...extra, stream: true };
      const chunks = await events(await send(post(path, streamed), undefined, options));
      assertEquals([chunks.at(-2).choices, typeof chunks.at(-2).usage], [[], "object"]);
      const plain = await events(await send(post(path, streamed)));
      assertEquals(plain.at(-2).choices.length, 1);
    }
    assertEquals((await ask(path, body, undefined, options)).status, 200);
  }
});

Deno.test("Tokens are written as ids where the server says so and the request does not say otherwise", async () => {
  const options = { returnTokensAsTokenIds: true };
  const token = async (extra: object) => {
    const body = { ...HELLO, logprobs: true, ...extra };
    const answer = await ask(CHAT, body, undefined, options);
    return answer.body.choices[0].logprobs.content[0].token.startsWith("token_id:");
  };
  assertEquals(await token({}), true);
  assertEquals(await token({ return_tokens_as_token_ids: false }), false);
  const completion = await ask(COMPLETIONS, { prompt: "a", logprobs: 0 }, undefined, options);
  assertMatch(completion.body.choices[0].logprobs.tokens[0], /^token_id:\d+$/);
});

Deno.test("The server's template variables lie beneath those of the request", async () => {
  const llm = new FakeLLM();
  const options = { defaultChatTemplateKwargs: { enable_thinking: false, style: "short" } };
  await ask(CHAT, HELLO, llm, options);
  await ask(CHAT, { ...HELLO, chat_template_kwargs: { enable_thinking: true } }, llm, options);
  await ask(CHAT, HELLO, llm);
  assertEquals(llm.calls.map((call) => call.options.chatTemplateKwargs), [
    { enable_thinking: false, style: "short" },
    { enable_thinking: true, style: "short" },
    {},
  ]);
});

Deno.test("The role of answers is the server's to choose", async () => {
  const answer = await ask(CHAT, HELLO, undefined, { responseRole: "model" });
  assertEquals(answer.body.choices[0].message.role, "model");
});

Deno.test("The fingerprint of answers says all, the hash alone, or nothing", async () => {
  for (
    const [options, expected] of [
      [{}, `rngd-llm-${VERSION}-f00dfeed`],
      [{ fingerprintMode: "hash" }, "f00dfeed"],
      [{ fingerprintMode: "none" }, null],
      [{ fingerprintMode: "none", systemFingerprint: "mine" }, "mine"],
    ] as const
  ) {
    for (const [path, body] of [[CHAT, HELLO], [COMPLETIONS, { prompt: "a" }]] as const) {
      const whole = await ask(path, body, undefined, options);
      assertEquals(whole.body.system_fingerprint, expected);
      const streamed = await send(post(path, { ...body, stream: true }), undefined, options);
      assertEquals((await events(streamed)).at(-2).system_fingerprint, expected);
    }
  }
});

Deno.test("A slash at the end of a path means nothing, so /v1/models/ is the list", async () => {
  const { object, data } = await (await send(get("/v1/models/"))).json();
  assertEquals([object, data.length], ["list", 1]);
});
