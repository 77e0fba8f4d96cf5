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

tinyTest(
  "A seed of 64 bits draws the same again, and its neighbour what a second answer draws",
  async (llm) => {
    const drawn = async (seed: string, n = 1): Promise<string[]> => {
      const body = `{"prompt":"the","max_tokens":8,"temperature":1.5,"n":${n},"seed":${seed}}`;
      const answer = await ask(COMPLETIONS, body, llm);
      return answer.body.choices.map(({ text }: Json) => text);
    };
    const [first, second] = await drawn("9223372036854775806", 2);
    assertEquals(await drawn("9223372036854775806"), [first]);
    assertEquals(await drawn("9223372036854775807"), [second]);
    assertEquals(first === second, false);
  },
);

tinyTest("A prompt is cut at the side that is asked for", async (llm) => {
  const prompt = [5, 6, 7, 8, 9];
  for (const [side, kept] of [["left", [7, 8, 9]], ["right", [5, 6, 7]], [null, [7, 8, 9]]]) {
    const truncation = { truncate_prompt_tokens: 3, truncation_side: side };
    const request = { prompt, max_tokens: 1, return_token_ids: true, ...truncation };
    const { body } = await ask(COMPLETIONS, request, llm);
    assertEquals(body.choices[0].prompt_token_ids, kept);
    const messages = await ask(CHAT, { ...HELLO, ...request }, llm);
    assertEquals(messages.body.prompt_token_ids.length, 3);
  }
});

tinyTest("An answer that repeats itself is ended, streamed and whole", async (llm) => {
  const repetition_detection = { max_pattern_size: 2, min_count: 4 };
  const request = { allowed_token_ids: [5], max_tokens: 9, repetition_detection };
  for (const [path, base] of [[CHAT, HELLO], [COMPLETIONS, { prompt: "Hi" }]] as const) {
    const { body } = await ask(path, { ...base, ...request }, llm);
    const [{ finish_reason, stop_reason }] = body.choices;
    assertEquals([finish_reason, stop_reason], ["repetition", "repetition_detected"]);
    assertEquals(body.usage.completion_tokens, 4);
    const streamed = await events(
      await send(post(path, { ...base, ...request, stream: true }), llm),
    );
    const last = streamed.at(-2).choices[0];
    assertEquals([last.finish_reason, last.stop_reason], ["repetition", "repetition_detected"]);
  }
  await idle(llm);
});

tinyTest(
  "Log-probabilities of tokens by id: those and the chosen one, in chats and completions",
  async (llm) => {
    const request = {
      allowed_token_ids: [9],
      max_tokens: 2,
      logprob_token_ids: [7, 9, 11],
      return_tokens_as_token_ids: true,
    };
    const names = ["token_id:9", "token_id:7", "token_id:11"];
    const completion = await ask(COMPLETIONS, { ...request, prompt: "Hi", logprobs: 1 }, llm);
    const [choice] = completion.body.choices;
    assertEquals(choice.logprobs.tokens, ["token_id:9", "token_id:9"]);
    const all = await ask(COMPLETIONS, {
      ...request,
      prompt: "Hi",
      logprob_token_ids: null,
      prompt_logprobs: null,
      logprobs: 20,
    }, llm);
    for (const [at, top] of choice.logprobs.top_logprobs.entries()) {
      assertEquals(Object.keys(top), names);
      assertEquals(top["token_id:9"], all.body.choices[0].logprobs.token_logprobs[at]);
    }
    const chat = await ask(CHAT, { ...HELLO, ...request, logprobs: true }, llm);
    for (const entry of chat.body.choices[0].logprobs.content) {
      assertEquals(entry.top_logprobs.map(({ token }: Json) => token), names);
    }
  },
);

tinyTest(
  "A conversation of no messages is the assistant's header, and an empty prompt none",
  async (llm) => {
    const { status, body } = await ask(CHAT, { messages: [], max_tokens: 1 }, llm);
    assertEquals([status, body.usage.completion_tokens], [200, 1]);
    const nothing = { messages: [], max_tokens: 1, add_generation_prompt: false };
    const refused = await ask(CHAT, nothing, llm);
    const { message, param } = refused.body.error;
    assertEquals([refused.status, message, param], [
      400,
      "The decoder prompt cannot be empty",
      "messages",
    ]);
    const options = { add_special_tokens: false, max_tokens: 1 };
    for (const [prompt, field] of [[["a", ""], "prompt.1"], [[""], "prompt.0"]] as const) {
      const { status, body: { error } } = await ask(COMPLETIONS, { ...options, prompt }, llm);
      assertEquals([status, error.message, error.param], [400, message, field]);
    }
  },
);

tinyTest(
  "An answer that must be longer than may be is refused, whatever the limit is",
  async (llm) => {
    const max = llm.info.maxContextLength;
    const words = (limit: number, least: number) =>
      `min_tokens must be less than or equal to max_tokens=${limit}, got ${least}.`;
    for (
      const [path, body, message] of [
        [COMPLETIONS, { prompt: [5, 6, 7], max_tokens: 4, min_tokens: 5 }, words(4, 5)],
        [COMPLETIONS, { prompt: [5, 6, 7], min_tokens: 17 }, words(16, 17)],
        // The default is cut to the room left.
        [COMPLETIONS, { prompt: Array(max - 8).fill(5), min_tokens: 9 }, words(8, 9)],
        [CHAT, { messages: [], add_generation_prompt: true, min_tokens: max }, undefined],
      ] as const
    ) {
      for (const stream of [false, true]) {
        const { status, body: { error } } = await ask(path, { ...body, stream }, llm);
        assertEquals([status, error.param], [400, "min_tokens"]);
        if (message !== undefined) assertEquals(error.message, message);
      }
    }
    const fits = { prompt: Array(max - 8).fill(5), min_tokens: 8, temperature: 0 };
    assertEquals((await ask(COMPLETIONS, fits, llm)).body.usage.completion_tokens, 8);
  },
);

tinyTest("A system's pictures are let pass, with and without their type", async (llm) => {
  const text = { type: "text", text: "a" };
  const url = { image_url: { url: "u" } };
  const ids: Json[] = [];
  for (const pictures of [[], [{ type: "image_url", ...url }], [url], [{ uuid: "1", ...url }]]) {
    const messages = [{ role: "system", content: [...pictures, text] }];
    const { status, body } = await ask(
      CHAT,
      { messages, return_token_ids: true, max_tokens: 1 },
      llm,
    );
    assertEquals(status, 200);
    ids.push(body.prompt_token_ids);
  }
  for (const own of ids) assertEquals(own, ids[0]);
});

tinyTest("More than a template may write is too long for the context", async (llm) => {
  const max = llm.info.maxContextLength;
  for (
    const content of [
      "ab ".repeat(2 ** 21),
      ["ab ", "cd "].map((text) => text.repeat(2 ** 20)),
    ]
  ) {
    const { status, body: { error } } = await ask(
      CHAT,
      { messages: [{ role: "user", content }] },
      llm,
    );
    assertEquals([status, error.param], [400, "input_tokens"]);
    const words = `This model's maximum context length is ${max} tokens.`;
    assertEquals(error.message.slice(0, words.length), words);
  }
});

tinyTest("Too many tokens asked for behind a prompt are counted in the refusal", async (llm) => {
  const max = llm.info.maxContextLength;
  const request = { prompt: [5, 6, 7], max_tokens: max };
  const { body: { error } } = await ask(COMPLETIONS, request, llm);
  assertEquals(error.param, "input_tokens");
  const words = `This model's maximum context length is ${max} tokens. However, you requested ` +
    `${max} output tokens and your prompt contains 3 input tokens, for a total of ${
      max + 3
    } tokens.`;
  assertEquals(error.message.slice(0, words.length), words);
});

tinyTest(
  "A variable whose name the template's language has is refused as the request's field",
  async (llm) => {
    for (
      const [path, body] of [["/tokenize", HELLO], [CHAT, { ...HELLO, max_tokens: 1 }]] as const
    ) {
      const request = { ...body, chat_template_kwargs: { raise_exception: 1 } };
      const { status, body: { error } } = await ask(path, request, llm);
      assertEquals([status, error.param], [400, "chat_template_kwargs"]);
    }
  },
);
