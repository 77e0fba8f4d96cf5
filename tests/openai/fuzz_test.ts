/** Whatever is sent: an answer in the envelope, never a 500, nothing left running. */

import { assert, assertEquals } from "@std/assert";
import { handler } from "../../lib/openai/handler.ts";
import { FakeLLM } from "./fake_llm.ts";
import { get, post } from "./requests.ts";

const SEED = Number(Deno.env.get("RNGD_FUZZ_SEED") ?? 20260817);
const ROUNDS = 4000;

/** A small seeded generator of numbers in [0, 1): mulberry32. */
function generator(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = state + 0x6d2b79f5 | 0;
    let mixed = Math.imul(state ^ state >>> 15, 1 | state);
    mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed;
    return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32;
  };
}

// deno-fmt-ignore
const NAMES = [
  "messages", "prompt", "model", "stream", "stream_options", "n", "best_of", "temperature", "top_p",
  "top_k", "min_p", "repetition_penalty", "seed", "stop", "stop_token_ids", "ignore_eos",
  "max_tokens", "max_completion_tokens", "min_tokens", "logprobs", "top_logprobs",
  "prompt_logprobs", "skip_special_tokens", "return_token_ids", "return_tokens_as_token_ids",
  "response_format", "structured_outputs", "tools", "tool_choice", "functions", "function_call",
  "logit_bias", "bad_words", "allowed_token_ids", "echo", "suffix", "add_generation_prompt",
  "continue_final_message", "chat_template", "chat_template_kwargs", "documents", "priority",
  "request_id", "reasoning_effort", "cache_salt", "presence_penalty", "add_special_tokens",
  "frequency_penalty", "include_stop_str_in_output", "truncate_prompt_tokens", "length_penalty",
  "forced_output", "tokens", "return_token_strs", "use_beam_search", "early_stopping", "guided_json", "user",
  "stream_interval", "repetition_detection", "logprob_token_ids", "truncation_side", "modalities",
  "vllm_xargs", "metadata", "prediction", "thinking_token_budget", "return_prompt_text",
  "__proto__", "constructor", "toString",
];

function randomValue(random: () => number, depth = 0): unknown {
  const pick = <T>(...values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;
  const count = Math.floor(random() * 3);
  switch (Math.floor(random() * (depth > 3 ? 4 : 8))) {
    case 0:
      return pick(null, true, false);
    case 1:
      return pick(0, 1, -1, 2, 0.5, 20, 21, 511, 512, 1e400, -1e308, 2 ** 63, 1.5);
    case 2:
      return pick("", "a", "1", "0.5", "true", "none", "auto", "\u0000\ud800", "x".repeat(200));
    case 3:
      return pick({ include_usage: true }, { type: "text" }, { type: "json_object" }, {}, []);
    case 4:
      return Array.from({ length: count }, () => randomValue(random, depth + 1));
    case 5:
      return [{
        role: pick<unknown>("user", "assistant", 1),
        content: randomValue(random, depth + 1),
      }];
    default:
      return Object.fromEntries(
        Array.from({ length: count }, () => [
          pick("role", "content", "type", "text", "function", "arguments", "tool_calls", "name"),
          randomValue(random, depth + 1),
        ]),
      );
  }
}

function randomBody(random: () => number): string {
  const body: Record<string, unknown> = {};
  if (random() < 0.7) body["messages"] = [{ role: "user", content: "Hi" }];
  if (random() < 0.7) body["prompt"] = "Hi";
  const count = Math.floor(random() * 5);
  for (let index = 0; index < count; index++) {
    const name = NAMES[Math.floor(random() * NAMES.length)] as string;
    Object.defineProperty(body, name, {
      value: randomValue(random),
      enumerable: true,
      configurable: true,
    });
  }
  const text = random() < 0.05
    ? JSON.stringify(randomValue(random))
    : JSON.stringify(body).replaceAll("null,", random() < 0.5 ? "1e999," : "null,");
  if (random() > 0.1) return text;
  const at = Math.floor(random() * text.length); // a broken text now and then
  return text.slice(0, at) + String.fromCharCode(Math.floor(random() * 128)) + text.slice(at + 1);
}

Deno.test("No body makes the server fail: every answer is a 200 or a refusal in the envelope", async () => {
  const random = generator(SEED);
  const llm = new FakeLLM();
  const failures: unknown[] = [];
  const serve = handler(llm, { onError: (error) => failures.push(error) });
  const statuses = new Map<number, number>();
  for (let round = 0; round < ROUNDS; round++) {
    const path = ["/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"][round % 4];
    const text = randomBody(random);
    const response = await serve(post(path as string, text));
    const answer = await response.text();
    const told = `seed ${SEED}, round ${round}, ${path}: ${text} → ${answer}`;
    statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1);
    assert(response.status === 200 || response.status === 400, `${told} ${failures[0]}`);
    if (response.status === 400) {
      const { error } = JSON.parse(answer);
      assert(typeof error.message === "string" && error.message.length < 1000, told);
      assertEquals(Object.keys(error), ["message", "type", "param", "code"], told);
    }
    assert(!answer.includes("Internal server error"), `${told} ${failures[0]}`);
  }
  assertEquals(llm.running, 0);
  assert((statuses.get(200) ?? 0) > ROUNDS / 10, `too few good ones (seed ${SEED})`);
  assert((statuses.get(400) ?? 0) > ROUNDS / 10, `too few bad ones (seed ${SEED})`);
});

/** A path that is, or nearly is, one of the server's. */
function randomPath(random: () => number, paths: readonly string[]): string {
  const known = (paths[Math.floor(random() * paths.length)] as string)
    .replace(
      "*",
      ["", "fake/model", "%00", "%E0%A4%A", "..", "ü".repeat(500)][
        Math.floor(random() * 6)
      ] as string,
    );
  const at = Math.floor(random() * known.length);
  const forms = [
    known,
    known,
    `${known}/`,
    `/${known}`,
    `${known}?a=%ff&a`,
    `${known.slice(0, at)}%2e${known.slice(at)}`,
    known.slice(0, at + 1),
    known.toUpperCase(),
    `${known}/${"a/".repeat(50)}`,
  ];
  return forms[Math.floor(random() * forms.length)] as string;
}

/** Headers that the server looks at, with values that it may not expect. */
function randomHeaders(random: () => number): Headers {
  const headers = new Headers();
  const values = [
    "",
    "application/json",
    "application/json; charset=utf-16",
    "gzip",
    "identity",
    "Bearer",
    "Bearer \u00ff",
    "-1",
    "1e9",
    "*",
    "http://a",
    "\u00ff\u0080",
    "a".repeat(10_000),
  ];
  for (
    const name of [
      "content-type",
      "content-encoding",
      "content-length",
      "authorization",
      "origin",
      "access-control-request-method",
      "access-control-request-headers",
      "x-request-id",
      "accept",
    ]
  ) {
    if (random() < 0.3) {
      headers.set(name, values[Math.floor(random() * values.length)] as string);
    }
  }
  return headers;
}

Deno.test("No method, path or header makes the server fail, on any route", async () => {
  const random = generator(SEED);
  const llm = new FakeLLM();
  const failures: unknown[] = [];
  const onError = (error: unknown) => void failures.push(error);
  const servers = [{}, { apiKeys: ["secret"] }, { devMode: true, allowedOrigins: ["http://a"] }]
    .map((options) => handler(llm, { ...options, onError }));
  const document = await (await servers[0]!(get("/openapi.json"))).json();
  const paths = Object.keys(document.paths).map((path) => path.replace(/\{.*\}/, "*"));
  assert(paths.length > 10, `the API document names ${paths}`);
  const methods = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "BREW"];
  const statuses = new Set<number>();
  for (let round = 0; round < ROUNDS; round++) {
    const method = methods[Math.floor(random() * methods.length)] as string;
    const path = randomPath(random, paths);
    const headers = randomHeaders(random);
    const body = method === "GET" || method === "HEAD" || random() < 0.3
      ? {}
      : { body: randomBody(random) };
    const request = new Request(`http://localhost${path}`, { method, headers, ...body });
    const response = await servers[round % servers.length]!(request);
    const answer = await response.text();
    const told = `seed ${SEED}, round ${round}: ${method} ${path} ${JSON.stringify([...headers])}`;
    statuses.add(response.status);
    assert(response.status < 500, `${told} → ${response.status} ${answer} ${failures[0]}`);
    if (response.status >= 400 && method !== "HEAD") {
      assert(typeof JSON.parse(answer).error.message === "string", `${told} → ${answer}`);
    }
  }
  assertEquals(failures, []);
  assertEquals(llm.running, 0);
  for (const status of [200, 204, 400, 401, 404, 405, 415]) {
    assert(statuses.has(status), `${status}`);
  }
});
