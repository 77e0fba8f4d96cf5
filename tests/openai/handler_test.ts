/** The handler itself: routes, methods, keys, origins, models, tokenizing. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { VERSION } from "../../lib/openai/handler.ts";
import { FakeLLM } from "./fake_llm.ts";
import { ask, CHAT, get, HELLO, post, send } from "./requests.ts";

Deno.test("The version in code is the version in deno.json", async () => {
  const config = JSON.parse(await Deno.readTextFile(new URL("../../deno.json", import.meta.url)));
  assertEquals(VERSION, config.version);
});

Deno.test("Health and ping answer 200 with an empty body, by GET, HEAD and, for ping, POST", async () => {
  for (
    const request of [
      get("/health"),
      get("/health", { method: "HEAD" }),
      get("/ping"),
      get("/ping", { method: "POST" }),
    ]
  ) {
    const response = await send(request);
    assertEquals([response.status, await response.text()], [200, ""]);
  }
});

Deno.test("A server whose model was closed is not healthy, and says so without a body", async () => {
  const llm = new FakeLLM();
  llm.isClosed = true;
  for (const path of ["/health", "/ping"]) {
    const response = await send(get(path), llm);
    assertEquals([response.status, await response.text()], [503, ""]);
  }
});

Deno.test("The version names ours and the parts a Furiosa-LLM client looks for", async () => {
  const body = await (await send(get("/version"))).json();
  assertEquals(body.version, VERSION);
  assertEquals(body["furiosa-llm"].version, "2026.1.0");
  assertEquals(body["furiosa-llm"].stage, "emulated");
  assert("furiosa-runtime" in body && "npu-ir" in body);
});

Deno.test("A model card has the keys of vLLM and of Furiosa-LLM", async () => {
  const response = await send(get("/v1/models"));
  const { object, data } = await response.json();
  assertEquals([object, data.length], ["list", 1]);
  const [card] = data;
  assertEquals([card.id, card.root, card.parent], ["fake/model", "fake/model", null]);
  assertEquals([card.max_model_len, card.max_context_len, card.max_prompt_len], [128, 128, 96]);
  assertMatch(
    card.artifact_id,
    /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
  );
  assertMatch(card.permission[0].id, /^modelperm-[0-9a-f]{32}$/);
  assertEquals(card.runtime_config, {
    prefill_buckets: [{ batch_size: 1, attention_size: 64, kv_cache_size: 0 }],
    decode_buckets: [{ batch_size: 4, attention_size: 128, kv_cache_size: 127 }],
    append_buckets: [{ batch_size: 1, attention_size: 96, kv_cache_size: 64 }],
    tokenwise_buckets: [1, 8],
    tensor_parallel_size: 2,
    pipeline_parallel_size: 1,
    data_parallel_size: 1,
  });
});

Deno.test("Each served name has a card, found encoded and plain; others are 404", async () => {
  const options = { servedModelNames: ["org/name", "alias"] };
  const list = await (await send(get("/v1/models/"), undefined, options)).json();
  assertEquals(list.data.map((card: { id: string }) => card.id), ["org/name", "alias"]);
  for (const path of ["org%2Fname", "org/name", "org/name/", "org/name?x=1", "alias"]) {
    const response = await send(get(`/v1/models/${path}`), undefined, options);
    assertEquals(response.status, 200, path);
    assertEquals((await response.json()).root, "fake/model");
  }
  for (const [path, name] of [["none", "none"], ["%zz", "%zz"]]) {
    const response = await send(get(`/v1/models/${path}`), undefined, options);
    const { error } = await response.json();
    assertEquals([response.status, error.type, error.param], [404, "NotFoundError", "model"]);
    assertEquals(error.message, `The model \`${name}\` does not exist.`);
  }
});

Deno.test("An unknown route is a 404 and a wrong method a 405 that says what is allowed", async () => {
  const lost = await send(get("/v1/nothing"));
  assertEquals(lost.status, 404);
  assertStringIncludes(
    (await lost.json()).error.message,
    "Not Found: there is no route /v1/nothing",
  );
  const wrong = await send(get(CHAT));
  assertEquals([wrong.status, wrong.headers.get("allow")], [405, "POST, OPTIONS"]);
  assertEquals((await wrong.json()).error.code, 405);
  const put = await send(get("/health", { method: "PUT" }));
  assertEquals([put.status, put.headers.get("allow")], [405, "GET, HEAD, OPTIONS"]);
  await put.body?.cancel();
});

Deno.test("A trailing slash leads to the same route", async () => {
  const response = await send(post("/v1/completions/", { prompt: "a" }));
  assertEquals(response.status, 200);
  await response.body?.cancel();
});

Deno.test("A key guards every route but health, ping, version and preflights", async () => {
  const options = { apiKeys: ["one", "two"] };
  const status = async (request: Request) => {
    const response = await send(request, new FakeLLM(), options);
    await response.body?.cancel();
    return response.status;
  };
  for (const path of ["/health", "/ping", "/version"]) assertEquals(await status(get(path)), 200);
  assertEquals(await status(get(CHAT, { method: "OPTIONS" })), 204);
  for (const path of ["/v1/models", "/v1/nothing", "/tokenize", "/nothing"]) {
    assertEquals(await status(get(path)), 401, path);
  }
  for (
    const [authorization, expected] of [
      ["Bearer one", 200],
      ["bearer two", 200],
      ["BEARER one", 200],
      ["Bearer onetwo", 401],
      ["Bearer ", 401],
      ["Bearer", 401],
      ["Basic one", 401],
      ["one", 401],
      ["Bearer  one", 401],
    ] as const
  ) {
    const request = get("/v1/models", { headers: { authorization } });
    assertEquals(await status(request), expected, authorization);
  }
});

Deno.test("A 401 is an envelope with a challenge, readable across origins", async () => {
  const request = post(CHAT, HELLO, { headers: { origin: "https://a.example" } });
  const response = await send(request, new FakeLLM(), { apiKeys: ["k"] });
  assertEquals(response.status, 401);
  assertEquals(response.headers.get("www-authenticate"), "Bearer");
  assertEquals(response.headers.get("access-control-allow-origin"), "*");
  assertEquals((await response.json()).error.message, "Unauthorized");
});

Deno.test("An empty key is no key, and without keys any header passes", async () => {
  for (const apiKeys of [[], [""]]) {
    const request = get("/v1/models", { headers: { authorization: "Bearer EMPTY" } });
    const response = await send(request, new FakeLLM(), { apiKeys });
    assertEquals(response.status, 200);
    await response.body?.cancel();
  }
});

Deno.test("A preflight is told the methods and gets back the headers it asked for", async () => {
  const response = await send(get(CHAT, {
    method: "OPTIONS",
    headers: {
      origin: "https://a.example",
      "access-control-request-method": "POST",
      "access-control-request-headers": "authorization, content-type",
    },
  }));
  assertEquals(response.status, 204);
  assertEquals(response.headers.get("access-control-allow-origin"), "*");
  assertEquals(response.headers.get("access-control-allow-methods"), "POST, OPTIONS");
  assertEquals(response.headers.get("access-control-allow-headers"), "authorization, content-type");
  assertEquals(response.headers.get("access-control-max-age"), "600");
});

Deno.test("Only listed origins may read answers when origins are listed", async () => {
  const options = { allowedOrigins: ["https://a.example"] };
  const allowed = async (origin: string) => {
    const response = await send(get("/health", { headers: { origin } }), undefined, options);
    assertEquals(response.headers.get("vary"), "Origin");
    return response.headers.get("access-control-allow-origin");
  };
  assertEquals(await allowed("https://a.example"), "https://a.example");
  assertEquals(await allowed("https://b.example"), null);
});

Deno.test("Without an origin, answers say nothing about origins", async () => {
  const response = await send(get("/health"));
  assertEquals(response.headers.get("access-control-allow-origin"), null);
});

Deno.test("Tokenize counts a text's tokens, special ones on request, and shows their spelling", async () => {
  const { body } = await ask("/tokenize", { prompt: "ab" });
  assertEquals(body, { count: 3, max_model_len: 128, tokens: [1, 97, 98], token_strs: null });
  const bare = { prompt: "ab", add_special_tokens: false, return_token_strs: true };
  assertEquals((await ask("/tokenize", bare)).body, {
    count: 2,
    max_model_len: 128,
    tokens: [97, 98],
    token_strs: ["a", "b"],
  });
  assertEquals((await ask("/tokenize", { prompt: "" })).body.count, 1);
});

Deno.test("Tokenize renders messages, with and without the assistant's header", async () => {
  const messages = [{ role: "user", content: "Hi" }];
  const text = async (body: object) => {
    const { body: { tokens } } = await ask("/tokenize", body);
    return (await ask("/detokenize", { tokens })).body.prompt;
  };
  assertEquals(await text({ messages }), "<user>Hi<assistant>");
  assertEquals(await text({ messages, add_generation_prompt: false }), "<user>Hi");
  assertEquals(await text({ messages, prompt: "not this" }), "<user>Hi<assistant>");
});

Deno.test("Tokenize and detokenize refuse what they cannot read", async () => {
  for (
    const [path, body, words] of [
      ["/tokenize", {}, "Field required"],
      ["/tokenize", { prompt: 5 }, "string_type"],
      ["/tokenize", { messages: [] }, "Cannot render no messages"],
      ["/detokenize", {}, "Field required"],
      ["/detokenize", { tokens: "a" }, "list_type"],
      ["/detokenize", { tokens: [1, -1] }, "greater_than_equal"],
      ["/detokenize", { tokens: [1.5] }, "int_type"],
      ["/detokenize", { tokens: [1e12] }, "out of vocabulary"],
    ] as const
  ) {
    const answer = await ask(path, body);
    assertEquals(answer.status, 400);
    assertStringIncludes(answer.body.error.message, words);
  }
});

Deno.test("A chat template of the request is used once it is trusted", async () => {
  const llm = new FakeLLM();
  const options = { trustRequestChatTemplate: true };
  const { status } = await ask(CHAT, { ...HELLO, chat_template: "{{ x }}" }, llm, options);
  assertEquals([status, llm.calls[0]?.options.chatTemplate], [200, "{{ x }}"]);
});

Deno.test("With no limit on log-probabilities the whole vocabulary may be asked for", async () => {
  const llm = new FakeLLM();
  const body = { ...HELLO, logprobs: true, top_logprobs: -1, prompt_logprobs: -1 };
  await ask(CHAT, body, llm, { maxLogprobs: -1 });
  assertEquals(llm.calls[0]?.params?.logprobs, 512);
  assertEquals(llm.calls[0]?.params?.promptLogprobs, -1);
});
