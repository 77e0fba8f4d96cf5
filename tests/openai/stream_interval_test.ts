/** `stream_interval`: the same answer in fewer chunks. */

import { assertEquals } from "@std/assert";
import { FakeLLM } from "./fake_llm.ts";
import { ask, CHAT, COMPLETIONS, events, HELLO, type Json, post, send } from "./requests.ts";

const SIZES: [number, number[]][] = [
  [1, [1, 1, 1, 1, 1, 1, 1, 1]],
  [3, [1, 3, 3, 1]],
  [7, [1, 7]],
  [100, [1, 7]],
];

Deno.test("The first token and the last come at once, the others so many at a time", async () => {
  const llm = new FakeLLM({ pieces: ["a", "b", "", "é", "d", "e", "f"] });
  const extra = { return_token_ids: true, logprobs: 1 };
  const { body } = await ask(COMPLETIONS, { prompt: "x", ...extra }, llm);
  const [whole] = body.choices;
  for (const [interval, sizes] of SIZES) {
    const request = { prompt: "x", ...extra, stream: true, stream_interval: interval };
    const chunks = (await events(await send(post(COMPLETIONS, request), llm))).slice(0, -1);
    const own: Json[] = chunks.map(({ choices: [choice] }) => choice);
    assertEquals(own.map(({ token_ids }) => token_ids.length), sizes);
    assertEquals(own.map(({ text }) => text).join(""), whole.text);
    assertEquals(own.flatMap(({ token_ids }) => token_ids), whole.token_ids);
    assertEquals(own.flatMap(({ logprobs }) => logprobs.tokens), whole.logprobs.tokens);
  }
});

Deno.test("Each choice of a chat has an interval of its own, and usage rises with every chunk", async () => {
  const options = { include_usage: true, continuous_usage_stats: true };
  const request = { ...HELLO, n: 2, stream: true, stream_interval: 4, stream_options: options };
  const chunks = (await events(await send(post(CHAT, request)))).slice(2, -2);
  const counts = (index: number) =>
    chunks.filter(({ choices: [choice] }) => choice.index === index)
      .map(({ usage }) => usage.completion_tokens);
  assertEquals([counts(0), counts(1)], [[1, 5, 6], [1, 5, 7]]);
});

Deno.test("Where a request is silent, the server's interval counts", async () => {
  const options = { streamInterval: 3 };
  const sizes = async (body: object) => {
    const request = { prompt: "x", return_token_ids: true, stream: true, ...body };
    const response = await send(post(COMPLETIONS, request), undefined, options);
    return (await events(response)).slice(0, -1)
      .map(({ choices: [choice] }) => choice.token_ids.length);
  };
  assertEquals(await sizes({}), [1, 3, 2]);
  assertEquals(await sizes({ stream_interval: 1 }), [1, 1, 1, 1, 1, 1]);
});

Deno.test("A whole answer knows no interval", async () => {
  const { status, body } = await ask(CHAT, { ...HELLO, stream_interval: 5 });
  assertEquals([status, body.choices[0].message.content], [200, "Hello world!"]);
});
