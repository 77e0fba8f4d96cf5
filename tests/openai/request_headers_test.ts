/** Headers that say how a request is to be treated: priority, ids, load reports, traces. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { handler } from "../../lib/openai/handler.ts";
import { addLoadReport } from "../../lib/openai/load_report.ts";
import { PoolingParams } from "../../mod.ts";
import { embeddingModel } from "../helpers/fake_pooling.ts";
import { idle, tinyTest } from "../helpers/tiny_llm.ts";
import { FakeLLM } from "./fake_llm.ts";
import { CHAT, COMPLETIONS, events, get, HELLO, post, send, until } from "./requests.ts";

const ENDPOINTS = [[CHAT, HELLO], [COMPLETIONS, { prompt: "Hi" }]] as const;

function withHeaders(path: string, body: unknown, headers: Record<string, string>): Request {
  return post(path, body, { headers });
}

Deno.test("X-Vllm-Priority beats the body's priority", async () => {
  for (const [path, base] of ENDPOINTS) {
    const llm = new FakeLLM();
    const body = { ...base, priority: 9 };
    for (const value of ["-3", "+7", "0", " 12 "]) {
      await (await send(withHeaders(path, body, { "x-vllm-priority": value }), llm)).text();
    }
    await (await send(post(path, body), llm)).text();
    await (await send(post(path, base), llm)).text();
    const priorities = llm.calls.map(({ options }) => options.priority);
    assertEquals(priorities, [-3, 7, 0, 12, 9, undefined]);
  }
});

Deno.test("An X-Vllm-Priority that is no integer is refused by its name", async () => {
  for (const [path, base] of ENDPOINTS) {
    for (const value of ["high", "1.5", "", "1e3", "0x10", "9007199254740993", "--1", "1, 2"]) {
      const llm = new FakeLLM();
      const response = await send(withHeaders(path, base, { "x-vllm-priority": value }), llm);
      const { error } = await response.json();
      assertEquals([response.status, error.param], [400, "X-Vllm-Priority"], value);
      assertStringIncludes(error.message, `${JSON.stringify(value)}: it must be an integer`);
      assertEquals(llm.calls.length, 0);
    }
  }
});

Deno.test("A wrong priority of the body is refused even where the header beats it", async () => {
  const request = withHeaders(CHAT, { ...HELLO, priority: "x" }, { "x-vllm-priority": "1" });
  const { error } = await (await send(request)).json();
  assertEquals(error.param, "body.priority");
});

tinyTest("A waiting request of a lower number overtakes the others", async (llm) => {
  const body = { ...HELLO, temperature: 0, ignore_eos: true };
  const long = await send(post(CHAT, { ...body, stream: true }), llm); // to the context's end
  const order: string[] = [];
  const ask = async (name: string, headers: Record<string, string>, more: object) => {
    const response = await send(
      withHeaders(CHAT, { ...body, max_tokens: 2, ...more }, headers),
      llm,
    );
    assertEquals(response.status, 200);
    await response.text();
    order.push(name);
  };
  const waiting = (count: number) =>
    until(() => llm.stats().engine.waitingCount === count, `${count} requests wait`);
  const all = [ask("first", {}, {})];
  await waiting(1);
  all.push(ask("less urgent", {}, { priority: 2 }));
  await waiting(2);
  all.push(ask("urgent", { "x-vllm-priority": "-1" }, { priority: 5 }));
  await waiting(3);
  all.push(ask("most urgent", {}, { priority: -2 }));
  await waiting(4);
  await long.text();
  await Promise.all(all);
  assertEquals(order, ["most urgent", "urgent", "first", "less urgent"]);
  await idle(llm);
}, { maxBatchSize: 1 });

Deno.test("X-Session-ID and other headers of gateways change nothing", async () => {
  const headers = {
    "x-session-id": "s-1",
    "x-data-parallel-rank": "0",
    "tracestate": "vendor=x",
    "baggage": "a=b",
  };
  const llm = new FakeLLM();
  const response = await send(withHeaders(CHAT, HELLO, headers), llm);
  assertEquals((await response.json()).choices[0].message.content, "Hello world!");
  assertEquals(response.headers.get("x-session-id"), null);
});

Deno.test("traceparent goes to the model with the answer's id and name, as it was sent", async () => {
  const llm = new FakeLLM();
  const options = { servedModelNames: ["served", "other"] };
  const request = withHeaders(CHAT, { ...HELLO, request_id: "r" }, { traceparent: "anything" });
  await (await send(request, llm, options)).text();
  const trace = { requestId: "chatcmpl-r", model: "served", traceparent: "anything" };
  assertEquals(llm.calls[0]?.options.trace, trace);
});

/** Ids as clients and gateways make them up. */
const ODD_IDS = [
  "a b c",
  'quote " and \\ backslash',
  "<script>alert(1)</script>",
  "\t tab inside \t x",
  "é is one byte of Latin-1: \u00ff\u0080",
  "__proto__",
  "../../etc/passwd",
  "%00%0a%0d",
  "a, b",
  "x".repeat(256),
];

Deno.test("Whatever an X-Request-Id holds comes back, in the id and in the header", async () => {
  for (const id of ODD_IDS) {
    const sent = new Headers({ "x-request-id": id }).get("x-request-id"); // edges are trimmed
    const headers = { "x-request-id": id };
    const whole = await send(withHeaders(CHAT, HELLO, headers));
    assertEquals(whole.headers.get("x-request-id"), sent);
    assertEquals((await whole.json()).id, `chatcmpl-${sent}`);
    const stream = await send(withHeaders(CHAT, { ...HELLO, stream: true }, headers));
    for (const event of (await events(stream)).slice(0, -1)) {
      assertEquals(event.id, `chatcmpl-${sent}`);
    }
    const refused = await send(withHeaders(CHAT, { messages: 5 }, headers));
    assertEquals([refused.status, refused.headers.get("x-request-id")], [400, sent]);
  }
});

Deno.test("An X-Request-Id of more than 256 characters is refused by its name, where it would be an id", async () => {
  const headers = { "x-request-id": "x".repeat(10_000) };
  const pooling = new FakeLLM({ pooling: embeddingModel() });
  for (
    const [path, body, llm] of [
      ...ENDPOINTS.map(([path, body]) => [path, body, new FakeLLM()] as const),
      ["/v1/embeddings", { input: "a" }, pooling] as const,
    ]
  ) {
    const response = await send(withHeaders(path, body, headers), llm);
    const { error } = await response.json();
    assertEquals([response.status, error.param], [400, "X-Request-Id"]);
    assertStringIncludes(error.message, "of 10000 characters: it must have at most 256");
    assert(error.message.length < 300);
    assertEquals(response.headers.get("x-request-id"), null);
  }
  // Routes without an id of their own do not care.
  const health = await send(get("/health", { headers }));
  assertEquals([health.status, health.headers.get("x-request-id")], [200, null]);
});

Deno.test("A request_id of the body has the same limit", async () => {
  for (const [path, base] of ENDPOINTS) {
    const ask = (request_id: string) => send(post(path, { ...base, request_id }));
    const { error } = await (await ask("x".repeat(257))).json();
    assertEquals(error.param, "request_id");
    assertStringIncludes(error.message, "of 257 characters: it must have at most 256");
    assertEquals((await (await ask("x".repeat(256))).json()).id.endsWith("x".repeat(256)), true);
  }
});

Deno.test("Over a socket the bytes of an X-Request-Id come back as they came", async () => {
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    handler(new FakeLLM()),
  );
  const body = JSON.stringify(HELLO);
  for (const id of [[0x61, 0xff, 0x80, 0x62], [...new TextEncoder().encode("é🚀\tx")]]) {
    using connection = await Deno.connect({ hostname: "127.0.0.1", port: server.addr.port });
    const head = `POST ${CHAT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n` +
      `Content-Type: application/json\r\nContent-Length: ${body.length}\r\nX-Request-Id: `;
    const encode = (text: string) => new TextEncoder().encode(text);
    const request = [...encode(head), ...id, ...encode(`\r\n\r\n${body}`)];
    await connection.write(Uint8Array.from(request));
    const answer = (await Array.fromAsync(connection.readable)).flatMap((chunk) => [...chunk]);
    const text = String.fromCharCode(...answer); // a character a byte
    assertStringIncludes(text, "HTTP/1.1 200 OK");
    assertStringIncludes(text, `\r\nx-request-id: ${String.fromCharCode(...id)}\r\n`);
  }
  await server.shutdown();
});

Deno.test("Two requests may have one X-Request-Id at the same time", async () => {
  const llm = new FakeLLM();
  const request = () => send(withHeaders(CHAT, HELLO, { "x-request-id": "same" }), llm);
  const answers = await Promise.all([request(), request()]);
  for (const answer of answers) assertEquals((await answer.json()).id, "chatcmpl-same");
});

tinyTest("So they may on an engine, whose own ids have to differ", async (llm) => {
  const request = () =>
    send(withHeaders(CHAT, { ...HELLO, max_tokens: 4 }, { "x-request-id": "same" }), llm);
  const answers = await Promise.all([request(), request(), request()]);
  for (const answer of answers) assertEquals((await answer.json()).id, "chatcmpl-same");
});

Deno.test("endpoint-load-metrics-format asks for a report of the load, with a whole answer", async () => {
  for (const [path, body] of ENDPOINTS) {
    const report = async (format: string, more: object = {}) => {
      const headers = { "endpoint-load-metrics-format": format };
      const response = await send(withHeaders(path, { ...body, ...more }, headers));
      assertEquals(response.status, 200);
      await response.text();
      return response.headers.get("endpoint-load-metrics");
    };
    const text = "TEXT named_metrics.kv_cache_usage_perc=0, named_metrics.num_requests_waiting=0";
    assertEquals([await report("TEXT"), await report("text")], [text, text]);
    const json = await report("JSON");
    assertEquals(json?.slice(0, 5), "JSON ");
    assertEquals(JSON.parse(json!.slice(5)), {
      named_metrics: { kv_cache_usage_perc: 0, num_requests_waiting: 0 },
    });
    // As in vLLM: neither other formats nor streams have one.
    assertEquals([await report("BIN"), await report("")], [null, null]);
    assertEquals(await report("TEXT", { stream: true }), null);
    const unasked = await send(post(path, body));
    await unasked.text();
    assertEquals(unasked.headers.get("endpoint-load-metrics"), null);
  }
});

tinyTest("The report tells of the engine as it is", async (llm) => {
  const endless = { ...HELLO, ignore_eos: true, stream: true };
  const running = await send(post(CHAT, endless), llm);
  const waiting = [1, 2].map(() => send(post(CHAT, endless), llm));
  await until(() => llm.stats().engine.waitingCount > 0, "a request waits");
  const { waitingCount, usedBlockCount, blockCount } = llm.stats().engine;
  const request = withHeaders(CHAT, HELLO, { "endpoint-load-metrics-format": "JSON" });
  const { headers } = addLoadReport(new Response(), { request, llm });
  assertEquals(JSON.parse(headers.get("endpoint-load-metrics")!.slice(5)), {
    named_metrics: {
      kv_cache_usage_perc: usedBlockCount / blockCount,
      num_requests_waiting: waitingCount,
    },
  });
  assert(usedBlockCount > 0 && waitingCount > 0);
  await running.body?.cancel();
  for (const response of waiting) await (await response).body?.cancel();
  await idle(llm);
}, { maxBatchSize: 1 });

Deno.test("Requests that pool carry priority, salt and trace too", async () => {
  const llm = new FakeLLM({ pooling: embeddingModel() });
  const headers = { "x-vllm-priority": "-4" };
  const body = { input: ["a", "b"], cache_salt: "s" };
  await (await send(withHeaders("/v1/embeddings", body, headers), llm)).json();
  await llm.embed(["c"], new PoolingParams(), {});
  assertEquals(
    llm.engine.requests.map(({ priority, cacheSalt }) => [priority, cacheSalt]),
    [[-4, "s"], [-4, "s"], [0, undefined]],
  );
});

Deno.test("cache_salt goes to the model; one that is none is refused", async () => {
  const pooling = () => new FakeLLM({ pooling: embeddingModel() });
  for (const [path, base] of [...ENDPOINTS, ["/v1/embeddings", { input: "a" }] as const]) {
    const isPooling = path === "/v1/embeddings";
    for (
      const [cache_salt, word] of [
        ["", "string_too_short"],
        ["s".repeat(1025), "string_too_long"],
        [5, "string_type"],
        [["a"], "string_type"],
      ] as const
    ) {
      const llm = isPooling ? pooling() : new FakeLLM();
      const response = await send(post(path, { ...base, cache_salt }), llm);
      const { error } = await response.json();
      assertEquals([response.status, error.param], [400, "body.cache_salt"], path);
      assertStringIncludes(error.message, word);
    }
    const llm = isPooling ? pooling() : new FakeLLM();
    for (const cache_salt of ["tenant 1", null]) {
      await (await send(post(path, { ...base, cache_salt }), llm)).text();
    }
    const salts = isPooling
      ? llm.engine.requests.map(({ cacheSalt }) => cacheSalt)
      : llm.calls.map(({ options }) => options.cacheSalt);
    assertEquals(salts, ["tenant 1", undefined]);
  }
});
