/** What holds for every route, and the small ones: methods, media types, tasks, load, API document. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { ROUTES } from "../../lib/openai/routes.ts";
import { handler } from "../../lib/openai/handler.ts";
import { classifierModel, embeddingModel, FakePoolingEngine } from "../helpers/fake_pooling.ts";
import { door, FakeLLM } from "./fake_llm.ts";
import { ask, CHAT, events, get, HELLO, type Json, post, send, until } from "./requests.ts";

/** A body that each POST route with one can serve, on some model. */
const BODIES: Readonly<Record<string, object>> = {
  generate: { ...HELLO, prompt: "a" },
  embed: { input: "a" },
  pool: { input: "a" },
  classify: { input: "a" },
  score: { text_1: "a", text_2: "b" },
  rerank: { query: "a", documents: ["b"] },
};

const url = (path: string) => path.replace("*", "fake%2Fmodel");
const methodsOf = (path: string) =>
  new Set(ROUTES.filter((route) => route.path === path).map(({ method }) => method));

Deno.test("Every route answers OPTIONS, refuses other methods with a 405, and HEAD is a GET without a body", async () => {
  for (const { path } of ROUTES) {
    const methods = methodsOf(path);
    const options = { devMode: true };
    const asked = await send(get(url(path), { method: "OPTIONS" }), undefined, options);
    assertEquals(asked.status, 204, path);
    const allow = asked.headers.get("allow") ?? "";
    for (const method of ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] as const) {
      const isAllowed = methods.has(method === "HEAD" ? "GET" : method as "GET" | "POST");
      assertEquals(allow.split(", ").includes(method), isAllowed, `${method} ${path}`);
      if (isAllowed) continue;
      const refused = await send(get(url(path), { method }), undefined, options);
      assertEquals([refused.status, refused.headers.get("allow")], [405, allow]);
      if (method === "HEAD") {
        await refused.body?.cancel();
      } else {
        const { error } = await refused.json();
        assertEquals([error.code, error.type, error.param], [405, "MethodNotAllowedError", null]);
      }
    }
    if (!methods.has("GET")) continue;
    const head = await send(get(url(path), { method: "HEAD" }), undefined, options);
    const whole = await send(get(url(path)), undefined, options);
    const size = (await whole.arrayBuffer()).byteLength;
    assertEquals([head.status, head.body, head.headers.get("content-length")], [
      whole.status,
      null,
      `${size}`,
    ]);
  }
});

Deno.test("Every route that takes a body refuses other media types, too much and what is not JSON", async () => {
  for (const { path, body, task } of ROUTES) {
    if (body === undefined) continue;
    const llm = servedBy(task);
    const options = { devMode: true, bodySizeLimit: 64 };
    const status = async (request: Request) => {
      const response = await send(request, llm, options);
      const { error } = await response.json();
      assertEquals(error.code, response.status);
      return [response.status, error.type];
    };
    const xml = { headers: { "content-type": "text/xml" } };
    assertEquals(await status(post(path, "<a/>", xml)), [415, "UnsupportedMediaTypeError"], path);
    assertEquals(await status(post(path, " ".repeat(65))), [413, "PayloadTooLargeError"], path);
    assertEquals(await status(post(path, "{")), [400, "Bad Request"], path);
    assertEquals(await status(post(path, "[]")), [400, "Bad Request"], path);
  }
});

Deno.test("A route that the model cannot serve says so before it looks at the request", async () => {
  const embedder = () => new FakeLLM({ pooling: embeddingModel() });
  const models = {
    generate: () => new FakeLLM(),
    embed: embedder,
    score: () => new FakeLLM({ pooling: classifierModel(1) }),
    classify: () => new FakeLLM({ pooling: classifierModel(3) }),
  };
  const served: Readonly<Record<string, readonly string[]>> = {
    generate: ["generate"],
    embed: ["embed", "pool", "score", "rerank"],
    score: ["score", "rerank", "classify", "pool"],
    classify: ["classify", "pool"],
  };
  for (const [kind, model] of Object.entries(models)) {
    for (const { path, task } of ROUTES) {
      if (task === undefined) continue;
      const isServed = served[kind]!.includes(task);
      const answer = await ask(path, BODIES[task], model());
      if (isServed) {
        assertEquals(answer.status, 200, `${path} by ${kind}: ${JSON.stringify(answer.body)}`);
        continue;
      }
      for (const request of [post(path, BODIES[task]), post(path, "?", { headers: {} })]) {
        const response = await send(request, model());
        const { error } = await response.json();
        assertEquals([response.status, error.code], [400, 400], `${path} by ${kind}`);
        assertEquals([error.type, error.param], ["model_not_supported", "model"]);
        assertMatch(error.message, /^The model does not support [a-z ]+ task\. It was loaded for /);
      }
    }
  }
});

Deno.test("Load counts requests for the model from their arrival to the end of their answer", async () => {
  const gate = door();
  const llm = new FakeLLM({ before: (step, signal) => step === 1 ? gate.wait(signal) : undefined });
  const serve = handler(llm);
  const load = async () => (await (await serve(get("/load"))).json()).server_load;
  assertEquals(await load(), 0);
  const streams = await Promise.all(
    [true, true, false].map((stream) => serve(post(CHAT, { ...HELLO, stream }))),
  );
  assertEquals(await load(), 3);
  await streams[0]!.body?.cancel();
  assertEquals(await load(), 2);
  gate.open();
  await events(streams[1]!);
  assertEquals(await load(), 1);
  await streams[2]!.json();
  assertEquals(await load(), 0);
  await (await serve(post(CHAT, { messages: 5 }))).body?.cancel();
  await (await serve(post("/v1/embeddings", {}))).body?.cancel();
  assertEquals(await load(), 0, "refused requests have ended");
});

Deno.test("Load counts pooling requests until they are answered or their client leaves", async () => {
  const engine = new FakePoolingEngine({ stuck: true });
  const serve = handler(new FakeLLM({ pooling: embeddingModel(), engine }));
  const load = async () => (await (await serve(get("/load"))).json()).server_load;
  const leaving = new AbortController();
  const answer = serve(post("/v1/embeddings", { input: "a" }, { signal: leaving.signal }));
  await until(() => engine.liveCount === 1, "the prompt is in the engine");
  assertEquals(await load(), 1);
  leaving.abort();
  await answer;
  assertEquals(await load(), 0);
});

Deno.test("Load goes back when an answer fails in its middle", async () => {
  const serve = handler(
    new FakeLLM({
      before(step) {
        if (step === 2) throw new Error("broken");
      },
    }),
  );
  await events(await serve(post(CHAT, { ...HELLO, stream: true })));
  await (await serve(post(CHAT, HELLO))).text().catch(() => "broken off");
  assertEquals(await (await serve(get("/load"))).json(), { server_load: 0 });
});

Deno.test("The tokenizer's settings are always there", async () => {
  const body = await (await send(get("/tokenizer_info"))).json();
  assertEquals(body, {
    tokenizer_class: "FakeTokenizer",
    model_max_length: 128,
    chat_template: "{{ x }}",
  });
});

Deno.test("The prefix cache can be reset in development mode only, and not while it is used", async () => {
  const gate = door();
  const llm = new FakeLLM({ before: (_, signal) => gate.wait(signal) });
  const path = "/reset_prefix_cache";
  const hidden = await send(get(path, { method: "POST" }), llm);
  assertEquals(hidden.status, 404);
  await hidden.body?.cancel();
  const serve = handler(llm, { devMode: true });
  const bodiless = { "content-length": "0", "content-type": "application/json" };
  for (
    const request of [
      get(path, { method: "POST" }),
      get(path, { method: "POST", headers: bodiless }),
      post(path, { target: "all" }),
    ]
  ) {
    const response = await serve(request);
    assertEquals([response.status, await response.text()], [200, ""]);
  }
  const refused = await serve(post(path, { target: "host" }));
  const { error } = await refused.json();
  assertEquals([refused.status, error.param], [400, "body.target"]);
  assertStringIncludes(error.message, `"host": Input should be 'all' or 'npu'`);
  const leaving = new AbortController();
  const running = serve(post(CHAT, HELLO, { signal: leaving.signal }));
  await until(() => llm.running === 1, "a request runs");
  const busy = await serve(post(path, {}));
  assertEquals([busy.status, await busy.text()], [409, ""]);
  leaving.abort();
  await running;
});

Deno.test("The API document describes exactly the routes there are, each with its errors", async () => {
  for (const options of [{}, { devMode: true }, { apiKeys: ["k"] }, { strictModel: true }]) {
    const headers = { authorization: "Bearer k" };
    const response = await send(get("/openapi.json", { headers }), undefined, options);
    assertEquals(response.headers.get("content-type"), "application/json");
    const document = await response.json();
    assertEquals([document.openapi, document.info.title], ["3.1.0", "@rngd/llm"]);
    const described = Object.entries(document.paths as Json).flatMap(([path, item]) =>
      Object.keys(item as Json).map((method) => `${method.toUpperCase()} ${path}`)
    );
    const expected = ROUTES.filter((route) => "devMode" in options || !route.dev)
      .map(({ method, path }) => `${method} ${path.replace("*", "{model}")}`);
    assertEquals(described.toSorted(), expected.toSorted());
    checkDocument(document, "apiKeys" in options);
    const reading = Object.entries<Json>(document.paths).filter(([, { post }]) =>
      post?.requestBody
    );
    for (const [path, { post }] of reading) {
      assertEquals("404" in post.responses, "strictModel" in options, path);
      assertEquals("409" in post.responses, path === "/reset_prefix_cache", path);
    }
    for (const path of ["/health", "/ping"]) {
      assertEquals(Object.keys(document.paths[path].get.responses), ["200", "503"]);
    }
  }
});

Deno.test("The API document can be closed, and then it is no route", async () => {
  const response = await send(get("/openapi.json"), undefined, { apiDocument: false });
  assertEquals([response.status, (await response.json()).error.code], [404, 404]);
});

Deno.test("The API document names every field that a schema requires, and is never read for checks", () => {
  for (const { path, body } of ROUTES) {
    if (body === undefined) continue;
    const { properties, required = [], anyOf = [] } = body as Json;
    const needed = [...required, ...anyOf.flatMap((choice: Json) => choice.required)];
    for (const name of needed) assert(name in properties, `${path}: ${name}`);
  }
});

/** A model that serves a route. */
function servedBy(task: string | undefined): FakeLLM {
  if (task === undefined || task === "generate") return new FakeLLM();
  if (task === "embed") return new FakeLLM({ pooling: embeddingModel() });
  return new FakeLLM({ pooling: classifierModel(1) });
}

/** The rules of OpenAPI 3.1 that concern what the document uses. */
function checkDocument(document: Json, needsKey: boolean): void {
  const ids = new Set<string>();
  for (const [path, item] of Object.entries<Json>(document.paths)) {
    assertMatch(path, /^\/[a-z0-9_./{}]*$/);
    for (const [method, operation] of Object.entries<Json>(item)) {
      const where = `${method} ${path}`;
      assert(!ids.has(operation.operationId), `${where} has an id of its own`);
      ids.add(operation.operationId);
      const templated = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      const inPath = (operation.parameters ?? []).map((parameter: Json) => {
        assertEquals([parameter.in, parameter.required], ["path", true], where);
        return parameter.name;
      });
      assertEquals(inPath, templated, where);
      if (method === "get") assertEquals(operation.requestBody, undefined, where);
      assert("200" in operation.responses, where);
      if (path === "/metrics") {
        assertEquals(Object.keys(operation.responses["200"].content), ["text/plain"]);
      }
      for (const [status, answer] of Object.entries<Json>(operation.responses)) {
        assertMatch(status, /^[1-5]\d\d$/);
        assertEquals(typeof answer.description, "string", `${where} ${status}`);
        if (status !== "200" && "content" in answer) {
          const schema = answer.content["application/json"].schema;
          assertEquals(schema, { $ref: "#/components/schemas/Error" });
        }
      }
      assertEquals("401" in operation.responses, "security" in operation, where);
      if (!needsKey) assert(!("security" in operation), where);
      for (const name of Object.keys(operation.security?.[0] ?? {})) {
        assert(name in document.components.securitySchemes, where);
      }
      checkSchema(operation.requestBody?.content["application/json"].schema, where);
    }
  }
}

const TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"];

/** A schema has nothing but words of JSON Schema, with values of the right kinds. */
function checkSchema(schema: Json, where: string): void {
  if (schema === undefined) return;
  for (const [word, value] of Object.entries<Json>(schema)) {
    const at = `${where}/${word}`;
    switch (word) {
      case "type":
        for (const type of [value].flat()) assert(TYPES.includes(type), at);
        break;
      case "properties":
        for (const [name, property] of Object.entries(value)) {
          checkSchema(property, `${at}/${name}`);
        }
        break;
      case "items":
      case "additionalProperties":
        checkSchema(value, at);
        break;
      case "anyOf":
        assert(value.length > 0, at);
        value.forEach((choice: Json, index: number) => checkSchema(choice, `${at}/${index}`));
        break;
      case "required":
      case "enum":
        assertEquals(new Set(value).size, value.length, at);
        break;
      case "minimum":
      case "maximum":
      case "exclusiveMinimum":
      case "maxItems":
        assertEquals(typeof value, "number", at);
        break;
      case "description":
        assertEquals(typeof value, "string", at);
        break;
      case "const":
        break;
      default:
        throw new Error(`${at} is no word of JSON Schema that is used here`);
    }
  }
}
