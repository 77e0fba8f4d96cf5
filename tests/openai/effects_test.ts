/** What each parameter does to the answers of a real model, asked for over HTTP by both routes. */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import type { LLM } from "../../mod.ts";
import { tinyTest } from "../helpers/tiny_llm.ts";
import { ask, CHAT, COMPLETIONS, HELLO, type Json } from "./requests.ts";

/** Long enough to show an effect, the most likely tokens unless told otherwise. */
const LONG = { temperature: 0, max_tokens: 24, ignore_eos: true, return_token_ids: true };

const ROUTES: readonly [path: string, base: object][] = [
  [CHAT, HELLO],
  [COMPLETIONS, { prompt: "the cat" }],
];

/** The first choice, with the whole answer beside it. */
async function choose(llm: LLM, path: string, body: object): Promise<[choice: Json, answer: Json]> {
  const { status, body: answer } = await ask(path, body, llm);
  assertEquals(status, 200, JSON.stringify(answer));
  return [answer.choices[0], answer];
}

/** For each route a function from further fields to the ids of an answer. */
function askers(llm: LLM): readonly ((extra: object) => Promise<number[]>)[] {
  return ROUTES.map(([path, base]) => async (extra) => {
    const [choice] = await choose(llm, path, { ...base, ...LONG, ...extra });
    return choice.token_ids;
  });
}

tinyTest("Tokens that are allowed, banned, biased or bad are said accordingly", async (llm) => {
  for (const say of askers(llm)) {
    const free = await say({});
    const allowed = await say({ allowed_token_ids: [40, 50] });
    assert(allowed.every((id) => id === 40 || id === 50), allowed.join());
    const biased = await say({ logit_bias: { 41: 100 } });
    assertEquals(biased, Array(24).fill(41));
    const [first] = free as [number];
    assert(!(await say({ logit_bias: { [first]: -100 } })).includes(first));
    const word = free.map((id) => llm.detokenize([id])).find((text) => /^[a-z]+$/i.test(text));
    assert(word !== undefined, "the model says a letter");
    const [bad] = llm.tokenize(word, { addSpecialTokens: false });
    assert(free.includes(bad!));
    assert(!(await say({ bad_words: [word] })).includes(bad!));
  }
});

tinyTest("An answer ends where it is told to, and not before", async (llm) => {
  for (const [path, base] of ROUTES) {
    const body = { ...base, ...LONG };
    const [free] = await choose(llm, path, body);
    assertEquals([free.token_ids.length, free.finish_reason], [24, "length"]);
    const limit = path === CHAT ? "max_completion_tokens" : "max_tokens";
    assertEquals((await choose(llm, path, { ...body, [limit]: 5 }))[0].token_ids.length, 5);

    const stopAt = free.token_ids[3];
    const until = free.token_ids.indexOf(stopAt) + 1;
    const [stopped] = await choose(llm, path, { ...body, stop_token_ids: [stopAt] });
    assertEquals(
      [stopped.token_ids, stopped.finish_reason, stopped.stop_reason],
      [free.token_ids.slice(0, until), "stop", stopAt],
    );
    const late = { ...body, stop_token_ids: [stopAt], min_tokens: 8 };
    const [later] = await choose(llm, path, late);
    assert(later.token_ids.slice(0, 8).every((id: number) => id !== stopAt));

    const ending = { ...body, logit_bias: { 2: 100 } };
    assertEquals((await choose(llm, path, ending))[0].token_ids.length, 24, "ends are ignored");
    const [ended] = await choose(llm, path, { ...ending, ignore_eos: false });
    assertEquals([ended.token_ids, ended.stop_reason], [[2], null]);
    const [patient] = await choose(llm, path, { ...ending, ignore_eos: false, min_tokens: 3 });
    assertEquals([patient.token_ids.length, patient.token_ids.at(-1)], [4, 2]);
    const shown = { ...ending, max_tokens: 1, skip_special_tokens: false };
    const [special] = await choose(llm, path, shown);
    assertEquals(special.text ?? special.message.content, "<|im_end|>");
  }
});

tinyTest("Every way to leave only the most likely token is greedy", async (llm) => {
  for (const say of askers(llm)) {
    const greedy = await say({});
    const hot = { temperature: 2, seed: 3 };
    assertNotEquals(await say(hot), greedy);
    for (const narrow of [{ top_k: 1 }, { top_p: 1e-9 }, { min_p: 1 }]) {
      assertEquals(await say({ ...hot, ...narrow }), greedy, JSON.stringify(narrow));
    }
    assertEquals(await say({ temperature: 1e-6, seed: 3 }), greedy);
    assertEquals(await say({ ...hot, top_k: 0 }), await say({ ...hot, top_k: -1 }));
  }
});

tinyTest("A seed repeats an answer, another seed gives another one", async (llm) => {
  for (const say of askers(llm)) {
    const one = await say({ temperature: 2, seed: 1 });
    assertEquals(await say({ temperature: 2, seed: 1 }), one);
    assertNotEquals(await say({ temperature: 2, seed: 2 }), one);
    assertNotEquals(await say({ temperature: 2 }), await say({ temperature: 2 }));
  }
});

tinyTest(
  "Penalties keep an answer from repeating itself, one of them the prompt too",
  async (llm) => {
    const few = { allowed_token_ids: [40, 41, 42, 43, 100] };
    for (const [path, base] of ROUTES) {
      const body = { ...base, ...LONG, ...few, max_tokens: 5 };
      const distinct = async (extra: object) =>
        new Set((await choose(llm, path, { ...body, ...extra }))[0].token_ids).size;
      const bias = { logit_bias: { 40: 0.5 } };
      assertEquals(await distinct({ logit_bias: { 40: 100 } }), 1);
      for (const penalty of ["presence_penalty", "frequency_penalty"]) {
        const [plain, penalized] = [
          await distinct(bias),
          await distinct({ ...bias, [penalty]: 2 }),
        ];
        assert(penalized > plain, `${penalty}: ${penalized} of ${plain}`);
      }
    }
    const said = "the the the";
    const biased = { ...LONG, max_tokens: 1, allowed_token_ids: [40, 100] };
    const favoured = { ...biased, logit_bias: { 40: 50, 100: 70 } };
    for (
      const [path, prompt] of [
        [CHAT, { messages: [{ role: "user", content: said }] }],
        [COMPLETIONS, { prompt: said }],
      ] as const
    ) {
      const first = async (extra: object) =>
        (await choose(llm, path, { ...prompt, ...favoured, ...extra }))[0].token_ids;
      assertEquals(await first({}), [100]);
      assertEquals(await first({ repetition_penalty: 10 }), [40]);
    }
  },
);

tinyTest("A search and the best of several are likelier than what is drawn", async (llm) => {
  const sumOf = ({ logprobs }: Json): number =>
    (logprobs.token_logprobs ?? logprobs.content.map(({ logprob }: Json) => logprob))
      .reduce((sum: number, value: number) => sum + value, 0);
  for (const [path, base] of ROUTES) {
    const body = { ...base, ...LONG, max_tokens: 6, temperature: 1, seed: 4, logprobs: true };
    const all = (await ask(path, { ...body, n: 4 }, llm)).body.choices.map(sumOf);
    const best = (await ask(path, { ...body, n: 2, best_of: 4 }, llm)).body.choices.map(sumOf);
    assertEquals(best, all.toSorted((a: number, b: number) => b - a).slice(0, 2));
    const search = { ...body, n: 2, best_of: 4, use_beam_search: true, seed: null };
    const beams = (await ask(path, search, llm)).body.choices.map(sumOf);
    assert(beams[0] >= beams[1] && beams[1] >= all[0], `${beams} of ${all}`);
  }
});

tinyTest("Only the last tokens of a prompt are kept where that is asked for", async (llm) => {
  for (const [path, base] of ROUTES) {
    const body = { ...base, ...LONG, truncate_prompt_tokens: 3 };
    const [choice, answer] = await choose(llm, path, body);
    const [whole, full] = await choose(llm, path, { ...base, ...LONG });
    const [kept, all] = path === CHAT
      ? [answer.prompt_token_ids, full.prompt_token_ids]
      : [choice.prompt_token_ids, whole.prompt_token_ids];
    assertEquals([kept, answer.usage.prompt_tokens], [all.slice(-3), 3]);
    assertEquals(
      choice.token_ids,
      (await choose(llm, COMPLETIONS, { ...LONG, prompt: kept }))[0].token_ids,
    );
  }
});
