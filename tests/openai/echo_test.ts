/** `echo`: the prompt in front of the answer, its tokens and log-probabilities too, streamed and whole. */

import { assert, assertEquals } from "@std/assert";
import type { LLM } from "../../mod.ts";
import { tinyTest } from "../helpers/tiny_llm.ts";
import { FakeLLM } from "./fake_llm.ts";
import { ask, CHAT, COMPLETIONS, events, type Json, post, send } from "./requests.ts";
import type { ServedModel } from "../../lib/openai/handler.ts";

/** The choices of a whole answer; the same ones are put together from a stream, and compared. */
async function choices(llm: ServedModel, body: object): Promise<Json[]> {
  const whole = await ask(COMPLETIONS, body, llm);
  assertEquals(whole.status, 200, JSON.stringify(whole.body));
  const options = { stream: true, stream_options: { include_usage: true } };
  const response = await send(post(COMPLETIONS, { ...body, ...options }), llm);
  const chunks = (await events(response)).slice(0, -1);
  assertEquals(withoutCache(chunks.at(-1).usage), withoutCache(whole.body.usage));
  for (const choice of whole.body.choices) {
    const own = chunks.flatMap((chunk) => chunk.choices)
      .filter(({ index }) => index === choice.index);
    assertEquals(own.map(({ text }) => text).join(""), choice.text);
    assertEquals(own.at(-1).finish_reason, choice.finish_reason);
    for (const key of ["tokens", "token_logprobs", "text_offset", "top_logprobs"]) {
      const streamed = own.flatMap(({ logprobs }) => logprobs?.[key] ?? []);
      assertEquals(streamed, choice.logprobs?.[key] ?? [], key);
    }
  }
  return whole.body.choices;
}

/** Whether keys and values were computed before is not the answer's. */
function withoutCache({ prompt_tokens_details: _, ...usage }: Json): Json {
  return usage;
}

Deno.test("A completion begins with its prompt where that is asked for", async () => {
  const llm = new FakeLLM();
  const texts = async (body: object) =>
    (await choices(llm, { echo: true, max_tokens: 2, ...body })).map(({ text }) => text);
  assertEquals(await texts({ prompt: "ab" }), ["abHello"]);
  assertEquals(await texts({ prompt: ["ab", "c"] }), ["abHello", "cHello"]);
  assertEquals(await texts({ prompt: "ab", n: 2 }), ["abHello", "ab1:Hel"]);
  // Ids are shown as they are, the begin token 1 too.
  assertEquals(await texts({ prompt: [1, 97] }), ["\u0001aHello"]);
  assertEquals(await texts({ prompt: [[97], [98, 99]] }), ["aHello", "bcHello"]);
  assertEquals(await texts({ prompt: "ab", echo: false }), ["Hello"]);
});

Deno.test("The log-probabilities of an echo begin with the prompt's, the first of them null", async () => {
  const llm = new FakeLLM();
  const [choice] = await choices(llm, { prompt: [97, 98], echo: true, logprobs: 1, max_tokens: 2 });
  assertEquals(choice.logprobs, {
    text_offset: [0, 1, 2, 5],
    token_logprobs: [null, -3, -0.5, -0.5],
    tokens: ["a", "b", "Hel", "lo"],
    top_logprobs: [null, { b: -3, "\u0002": -0.1 }, { Hel: -0.5 }, { lo: -0.5 }],
  });
  assertEquals(choice.prompt_logprobs.length, 2);
  const style = { return_tokens_as_token_ids: true };
  const request = { prompt: [97, 98], echo: true, logprobs: 0, max_tokens: 1, ...style };
  const [asIds] = await choices(llm, request);
  assertEquals(asIds.logprobs.tokens, ["token_id:97", "token_id:98", "token_id:256"]);
});

Deno.test("With no tokens asked for, an echo is the prompt alone; the one token is counted", async () => {
  const request = { prompt: "ab", echo: true, max_tokens: 0, logprobs: 0, n: 2 };
  const all = await choices(new FakeLLM(), request);
  for (const choice of all) {
    assertEquals([choice.text, choice.finish_reason], ["ab", "length"]);
    assertEquals(choice.logprobs.tokens, ["\u0001", "a", "b"]);
  }
  const { body } = await ask(COMPLETIONS, request);
  assertEquals(body.usage.completion_tokens, 2);
});

Deno.test("Where token ids are returned, an echo repeats no text", async () => {
  const request = { prompt: "ab", echo: true, max_tokens: 1, return_token_ids: true, logprobs: 0 };
  const [choice] = await choices(new FakeLLM(), request);
  assertEquals(
    [choice.text, choice.prompt_token_ids, choice.token_ids],
    ["Hel", [1, 97, 98], [256]],
  );
  assertEquals(choice.logprobs.tokens, ["\u0001", "a", "b", "Hel"]);
});

const OPEN = {
  messages: [{ role: "user", content: "Hi" }, { role: "assistant", content: "I say " }],
  add_generation_prompt: false,
  continue_final_message: true,
  echo: true,
};

Deno.test("A chat that goes on with its last message can repeat that first", async () => {
  const { body } = await ask(CHAT, OPEN);
  assertEquals(body.choices[0].message.content, "I say Hello world!");
  const parts = [{ type: "text", text: "I" }, "say "];
  const messages = [OPEN.messages[0], { role: "assistant", content: parts }];
  const joined = await ask(CHAT, { ...OPEN, messages });
  assertEquals(joined.body.choices[0].message.content, "I\nsay Hello world!");
});

Deno.test("An echo in a stream of a chat is a chunk of its own behind the role, for each choice", async () => {
  const options = { include_usage: true, continuous_usage_stats: true };
  const request = { ...OPEN, n: 2, stream: true, stream_options: options };
  const chunks = await events(await send(post(CHAT, request)));
  const first = chunks.slice(0, 4).map(({ choices: [choice], usage }) => [
    choice.index,
    choice.delta,
    usage.completion_tokens,
  ]);
  assertEquals(first, [
    [0, { role: "assistant", content: "" }, 0],
    [1, { role: "assistant", content: "" }, 0],
    [0, { content: "I say " }, 0],
    [1, { content: "I say " }, 0],
  ]);
});

Deno.test("A chat repeats no message of another role, and nothing unless it is asked to", async () => {
  for (
    const extra of [
      { echo: false },
      {
        messages: [{ role: "user", content: "Hi" }],
        add_generation_prompt: true,
        continue_final_message: false,
      },
    ]
  ) {
    const { body } = await ask(CHAT, { ...OPEN, ...extra });
    assertEquals(body.choices[0].message.content, "Hello world!");
  }
});

tinyTest("Echoed log-probabilities are the prompt's own and the answer's own", async (llm: LLM) => {
  const own = { prompt: "the cat", max_tokens: 3, temperature: 0, logprobs: 2 };
  const [plain] = await choices(llm, own);
  const [echo] = await choices(llm, { ...own, echo: true });
  const count = echo.prompt_logprobs.length;
  assertEquals(echo.text, "the cat" + plain.text);
  assertEquals(echo.logprobs.tokens.length, count + 3);
  assertEquals(echo.logprobs.tokens.slice(count), plain.logprobs.tokens);
  assertEquals(echo.logprobs.token_logprobs.slice(count), plain.logprobs.token_logprobs);
  assertEquals(echo.logprobs.top_logprobs[0], null);
  for (let at = 1; at < count; at++) {
    const [first] = Object.values<Json>(echo.prompt_logprobs[at])
      .filter(({ decoded_token }) => decoded_token === echo.logprobs.tokens[at]);
    assertEquals(echo.logprobs.token_logprobs[at], first.logprob);
    const size = Object.keys(echo.logprobs.top_logprobs[at]).length;
    assert(size >= 1 && size <= 3, `${size} entries`);
  }
  const [asked] = await choices(llm, { ...own, echo: true, max_tokens: 0, n: 1 });
  assertEquals([asked.text, asked.logprobs.tokens.length], ["the cat", count]);
  const ids = { ...own, prompt: llm.tokenize("the cat"), echo: true };
  const [fromIds] = await choices(llm, ids);
  assertEquals(fromIds.logprobs, echo.logprobs);
});
