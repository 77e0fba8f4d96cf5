/** Input that is meant to hurt: it is refused by name, and the server answers the next request. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { handler, type HandlerOptions, type ServedModel } from "../../lib/openai/handler.ts";
import { idle, tinyTest } from "../helpers/tiny_llm.ts";
import { FakeLLM } from "./fake_llm.ts";
import { ask, CHAT, COMPLETIONS, HELLO, type Json, post } from "./requests.ts";

/** A body as text, with a member in front that `JSON.stringify` could not write. */
function bodyWith(path: string, member: string): string {
  const base = path === CHAT ? HELLO : { prompt: "Hi" };
  return JSON.stringify(base).replace("{", `{${member},`);
}

/** Sends a body to a server, and then a good one, which must be answered. */
async function survived(
  path: string,
  body: string,
  llm: ServedModel = new FakeLLM(),
  options: HandlerOptions = {},
): Promise<{ readonly status: number; readonly body: Json }> {
  const failures: unknown[] = [];
  const serve = handler(llm, { ...options, onError: (error) => failures.push(error) });
  const response = await serve(post(path, body));
  const answer = { status: response.status, body: await response.json() };
  const next = await serve(post(path, path === CHAT ? HELLO : { prompt: "Hi", max_tokens: 1 }));
  assertEquals([next.status, failures], [200, []]);
  await next.body?.cancel();
  return answer;
}

const many = (count: number, item: (index: number) => string) =>
  Array.from({ length: count }, (_, index) => item(index)).join(",");

const REFUSED: readonly [string, string, string][] = [
  [`"x":${"[".repeat(100_000)}`, "body.", "nests deeper than 128 levels"],
  [`"x":${'{"a":'.repeat(129)}1${"}".repeat(129)}`, "body.", "nests deeper than 128 levels"],
  ['"temperature":NaN', "body.", "json_invalid"],
  ['"temperature":Infinity', "body.", "json_invalid"],
  ['"temperature":1e999', "temperature", "must be a finite number, got Infinity"],
  ['"top_p":1e999', "top_p", "top_p must be in (0, 1]"],
  ['"min_p":-1e999', "min_p", "min_p must be in [0, 1]"],
  ['"repetition_penalty":1e999', "repetition_penalty", "must be"],
  ['"presence_penalty":1e999', "presence_penalty", "must be in [-2, 2]"],
  ['"length_penalty":1e999,"use_beam_search":true,"n":2', "length_penalty", "a finite number"],
  ['"max_tokens":1e999', "body.max_tokens", "int_from_float"],
  ['"top_k":1e999', "body.top_k", "int_from_float"],
  ['"seed":1e999', "body.seed", "int_from_float"],
  ['"n":1e999', "body.n", "int_from_float"],
  ['"n":1000000000', "n", "n must be at most 128, got 1000000000."],
  ['"best_of":1000000000', "best_of", "must be at most 128"],
  ['"max_tokens":1000000000', "max_tokens", "cannot be greater than max_model_len"],
  ['"stop_token_ids":[1e999]', "body.stop_token_ids.0", "int_from_float"],
  [`"logit_bias":{${many(100_000, (id) => `"${id}":1`)}}`, "logit_bias", "… 99456 more"],
  [`"logit_bias":{${many(100_000, (id) => `"k${id}":1`)}}`, "logit_bias", "… 99968 more"],
  [`"logit_bias":{"5":"${"9".repeat(400)}x"}`, "body.logit_bias.5", "float_parsing"],
  [`"allowed_token_ids":[${many(100_000, String)}]`, "allowed_token_ids", "out-of-vocab"],
  [`"stop":[${many(100_000, () => '"a"')}]`, "body.stop", "too_long"],
  ['"user":"\\ud800"', "body.user", "half a surrogate pair (string_unicode)"],
  ['"x":{"y":["a","\\uDC00b"]}', "body.x.y.1", "string_unicode"],
  ['"x":{"\\ud83d":1}', "body.x.\ufffd", "string_unicode"],
];

for (const path of [CHAT, COMPLETIONS]) {
  for (const [member, param, words] of REFUSED) {
    Deno.test(`${path} survives ${member.slice(0, 50)}`, async () => {
      const { status, body: { error } } = await survived(path, bodyWith(path, member));
      assertEquals(status, 400);
      assertStringIncludes(error.message, words);
      assert(error.message.length < 2000, "the message is as long as what was sent");
      if (param === "body.") assert(error.param.startsWith("body."));
      else assertEquals(error.param, param);
    });
  }
}

Deno.test("Whole characters may be written as escapes, and of a key that comes twice the last counts", async () => {
  const llm = new FakeLLM();
  const body = bodyWith(COMPLETIONS, '"max_tokens":2,"user":"\\ud83d\\ude80","max_tokens":3');
  assertEquals((await survived(COMPLETIONS, body, llm)).status, 200);
  assertEquals(llm.calls[0]?.params?.maxTokens, 3);
});

Deno.test("Half a character in a message is refused where it stands", async () => {
  const body = '{"messages":[{"role":"user","content":[{"type":"text","text":"\\ud800"}]}]}';
  const { body: { error } } = await survived(CHAT, body);
  assertEquals(error.param, "body.messages.0.content.0.text");
});

tinyTest("A conversation of ten thousand messages is refused for its length", async (llm) => {
  const message = '{"role":"user","content":"How are you?"}';
  const body = `{"messages":[${many(10_000, () => message)}]}`;
  const { status, body: { error } } = await survived(CHAT, body, llm);
  assertEquals([status, error.param], [400, "input_tokens"]);
  assertStringIncludes(error.message, "This model's maximum context length is");
  await idle(llm);
});

tinyTest("A template of the request that loops ends at a limit", async (llm) => {
  const loop = "{% for i in range(100000) %}{% for j in range(100000) %}0123456789" +
    "{% endfor %}{% endfor %}";
  const body = bodyWith(CHAT, `"chat_template":${JSON.stringify(loop)}`);
  const options = { trustRequestChatTemplate: true };
  const { status, body: { error } } = await survived(CHAT, body, llm, options);
  assertEquals([status, error.param], [400, "chat_template"]);
  assertStringIncludes(error.message, "Cannot render the chat template");
});

tinyTest(
  "Whatever is wrong with the template of a request is said of chat_template",
  async (llm) => {
    const options = { trustRequestChatTemplate: true };
    for (
      const [template, words] of [
        ["{% for %}", "Cannot use chat_template: "],
        ["{{ messages | nothing }}", "Cannot render the chat template: "],
        ["{{ raise_exception('no roles') }}", "no roles"],
      ] as const
    ) {
      for (const path of [CHAT, "/tokenize"]) {
        const body = { ...HELLO, ["chat_template"]: template };
        const { status, body: { error } } = await ask(path, body, llm, options);
        assertEquals([status, error.param], [400, "chat_template"], template);
        assertStringIncludes(error.message, words);
        assertEquals(error.message.includes("chatTemplate"), false);
      }
    }
    await idle(llm);
  },
);
