/** Both endpoints on a real model: what it is made to say arrives, in every way of asking. */

import { assertEquals } from "@std/assert";
import type { LLM } from "../../mod.ts";
import { idle, tinyTest } from "../helpers/tiny_llm.ts";
import { ask, CHAT, COMPLETIONS, events, HELLO, type Json, post, send } from "./requests.ts";

const SAID = "one two é🚀 three";

/** The texts of all choices, whole, and the same put together from a stream. */
async function answers(llm: LLM, path: string, body: object): Promise<[string[], string[]]> {
  const whole = await ask(path, body, llm);
  assertEquals(whole.status, 200, JSON.stringify(whole.body));
  const streamed = whole.body.choices.map(() => "");
  for (const event of await events(await send(post(path, { ...body, stream: true }), llm))) {
    for (const { index, delta, text } of event.choices ?? []) {
      streamed[index] += text ?? delta.content ?? "";
    }
  }
  return [
    whole.body.choices.map((choice: Json) => choice.text ?? choice.message.content),
    streamed,
  ];
}

tinyTest(
  "A forced output and its stop strings are the same streamed and whole, chat and completion",
  async (llm) => {
    for (const [path, base] of [[CHAT, HELLO], [COMPLETIONS, { prompt: "Hi" }]] as const) {
      for (
        const [extra, text] of [
          [{}, SAID],
          [{ stop: "🚀" }, "one two é"],
          [{ stop: ["three", "wo é"], include_stop_str_in_output: true }, "one two é"],
          [{ stop: "e t", min_tokens: 11 }, SAID],
          [{ max_tokens: 4 }, "one "],
          [{ n: 2, temperature: 1, stop: ["two"] }, "one "],
        ] as const
      ) {
        const count = "n" in extra ? extra.n : 1;
        const texts = Array<string>(count).fill(text);
        const body = { ...base, forced_output: SAID, ...extra };
        assertEquals(await answers(llm, path, body), [texts, texts], JSON.stringify(extra));
      }
    }
    await idle(llm);
  },
);

tinyTest("Several choices are drawn with seeds of their own, streamed and whole", async (llm) => {
  const body = { prompt: ["the", "a cat"], n: 3, seed: 5, max_tokens: 12, temperature: 1.5 };
  const [whole, streamed] = await answers(llm, COMPLETIONS, body);
  assertEquals([whole.length, new Set(whole).size > 3], [6, true]);
  assertEquals(streamed, whole);
  const [ranked] = (await ask(COMPLETIONS, { ...body, n: 1, best_of: 3 }, llm)).body.choices;
  assertEquals(whole.slice(0, 3).includes(ranked.text), true);
  const beams = { prompt: "the", n: 2, best_of: 3, use_beam_search: true, max_tokens: 5 };
  const answer = await ask(COMPLETIONS, beams, llm);
  assertEquals(answer.body.choices.map(({ index }: Json) => index), [0, 1]);
  await idle(llm);
});

tinyTest("Refusals of the model come as a 400, streamed or not", async (llm) => {
  for (const stream of [false, true]) {
    for (
      const [extra, param] of [
        [{ forced_output: "서울" }, "forced_output"],
        [{ bad_words: Array.from({ length: 129 }, (_, i) => `w${i}`) }, "bad_words"],
      ] as const
    ) {
      const response = await send(post(CHAT, { ...HELLO, ...extra, stream }), llm);
      const { error } = await response.json();
      assertEquals([response.status, error.param, error.code], [400, param, 400]);
    }
  }
});

tinyTest("A search that finds fewer answers than asked for gives no empty choices", async (llm) => {
  const search = { use_beam_search: true, n: 4, allowed_token_ids: [5], max_tokens: 3 };
  for (const [path, base] of [[CHAT, HELLO], [COMPLETIONS, { prompt: ["Hi", "you"] }]] as const) {
    const { status, body } = await ask(path, { ...base, ...search }, llm);
    assertEquals(status, 200);
    assertEquals(
      body.choices.map((choice: Json) => [choice.index, choice.finish_reason]),
      path === CHAT ? [[0, "length"]] : [[0, "length"], [4, "length"]],
    );
  }
});
