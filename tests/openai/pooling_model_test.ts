/** The pooling routes on real models: a tiny generative one, and MiniLM with its golden vectors. */

import { assertAlmostEquals, assertEquals } from "@std/assert";
import { LLM, SamplingParams } from "../../mod.ts";
import { goldenEncoder, goldenModel, goldenPrompt } from "../helpers/golden_models.ts";
import { minilmTest } from "../helpers/minilm.ts";
import { minilmGolden } from "../helpers/minilm_golden.ts";
import { idle, tinyTest } from "../helpers/tiny_llm.ts";
import { type TinyModel, writeTinyModel } from "../helpers/tiny_model.ts";
import { ask, get, type Json, refusal, send } from "./requests.ts";

const PROMPT = goldenPrompt(goldenModel("llama"));

tinyTest(
  "A generative model loaded for embeddings serves them, scores and pooling",
  async (llm) => {
    const body = { input: [PROMPT, PROMPT.slice(0, 5)], encoding_format: "base64" };
    const { status, body: answer } = await ask("/v1/embeddings", body, llm);
    assertEquals(status, 200);
    assertEquals(answer.usage.prompt_tokens, PROMPT.length + 5);
    const expected = await llm.embed([
      { promptTokenIds: PROMPT },
      { promptTokenIds: PROMPT.slice(0, 5) },
    ]);
    for (const [index, { embedding }] of answer.data.entries()) {
      const floats = new Float32Array(Uint8Array.fromBase64(embedding).buffer);
      assertEquals(floats, expected[index]!.outputs.embedding);
    }
    const pooled = await ask("/pooling", { input: PROMPT, task: "token_embed" }, llm);
    assertEquals(pooled.body.data[0].data.length, PROMPT.length);
    assertEquals(pooled.body.data[0].data.at(-1), [...expected[0]!.outputs.embedding]);
    const { body: { results } } = await ask("/rerank", {
      query: "the cat",
      documents: ["a", "the cat"],
    }, llm);
    assertEquals(results[0].index, 1);
    assertAlmostEquals(results[0].relevance_score, 1, 1e-5);
    const { type } = await refusal("/v1/completions", { prompt: "a" }, llm);
    assertEquals(type, "model_not_supported");
    await idle(llm);
  },
  { task: "embed" },
);

tinyTest("What a model cannot embed is named by the field it came in", async (llm) => {
  const error = await refusal("/v1/embeddings", { input: "", add_special_tokens: false }, llm);
  assertEquals([error.code, error.param], [400, "input"]);
  const pair = { text_1: "", text_2: "a" };
  assertEquals((await refusal("/score", pair, llm)).code, 400);
  const tooLong = await refusal("/v1/embeddings", { input: Array(9999).fill(3) }, llm);
  assertEquals([tooLong.code, tooLong.param], [400, "input_tokens"]);
  await idle(llm);
}, { task: "embed" });

tinyTest("The prefix cache of a model is forgotten, and computed anew", async (llm) => {
  const reset = () => send(get("/reset_prefix_cache", { method: "POST" }), llm, { devMode: true });
  const cached = async () => {
    const { body } = await ask(
      "/v1/completions",
      { prompt: Array(40).fill(5), max_tokens: 1 },
      llm,
    );
    return body.usage.prompt_tokens_details.cached_tokens;
  };
  assertEquals([await cached(), await cached()], [0, 32]);
  const stream = llm.stream("a", new SamplingParams({ maxTokens: 9, ignoreEos: true }));
  await stream.next();
  assertEquals([(await reset()).status, await cached()], [409, 32]);
  await stream.return();
  await idle(llm);
  assertEquals((await reset()).status, 200);
  assertEquals([await cached(), llm.stats().engine.usedBlockCount], [0, 0]);
});

tinyTest("The tokenizer's settings are the checkpoint's, without paths", async (llm) => {
  const info = await (await send(get("/tokenizer_info"), llm)).json();
  assertEquals(info, JSON.parse(JSON.stringify(llm.tokenizerInfo())));
  assertEquals(typeof info.tokenizer_class, "string");
  assertEquals(typeof info.chat_template, "string");
  for (const name of Object.keys(info)) assertEquals(/(?:file|path)$/.test(name), false, name);
});

Deno.test("A classifier's labels and a reranker's scores over HTTP are those of the program", async () => {
  const encoder = goldenEncoder();
  const decoder = goldenModel("qwen3");
  const classifier = {
    ...encoder,
    architectures: ["BertForSequenceClassification"],
    config: { ...encoder.config, id2label: { "0": "bad", "1": "fair", "2": "good" } },
  };
  const reranker = {
    ...decoder,
    architectures: ["Qwen3ForSequenceClassification"],
    // Room for the reranker's frame, letter by letter.
    config: { ...decoder.config, num_labels: 1, max_position_embeddings: 512 },
  };
  await withTiny(classifier, async (llm) => {
    const { body } = await ask("/classify", { input: ["the cat", "a"] }, llm);
    const expected = await llm.classify(["the cat", "a"]);
    assertEquals(
      body.data.map(({ label, probs }: Json) => [label, probs]),
      expected.map(({ outputs: { label, probs } }) => [label, [...probs]]),
    );
    const { type } = await refusal("/score", { text_1: "a", text_2: "b" }, llm);
    assertEquals(type, "model_not_supported");
  });
  await withTiny(reranker, async (llm) => {
    const query = "the cat";
    const documents = ["a", "the cat", "one two"];
    const expected = await llm.score(query, documents);
    const { body } = await ask("/v1/score", { text_1: query, text_2: documents }, llm);
    assertEquals(
      body.data.map(({ score }: Json) => score),
      expected.map(({ outputs }) => outputs.score),
    );
    assertEquals(
      body.usage.total_tokens,
      expected.flatMap(({ promptTokenIds }) => promptTokenIds).length,
    );
    const ranked = await ask("/v2/rerank", { query, documents, top_n: 2 }, llm);
    assertEquals(
      ranked.body.results.map(({ index }: Json) => index),
      (await llm.rerank(query, documents, { topN: 2 })).map(({ index }) => index),
    );
  });
});

async function withTiny(model: TinyModel, use: (llm: LLM) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(dir, model);
    await using llm = await LLM.load(dir, { threads: 1 });
    await use(llm);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

minilmTest(
  "MiniLM's embeddings and scores over HTTP are sentence-transformers' own",
  async (path) => {
    const { sentences, similarity } = minilmGolden();
    await using llm = await LLM.load(path);
    const texts = sentences.map(({ text }) => text);
    const { body: { data, usage } } = await ask("/v1/embeddings", { input: texts }, llm);
    assertEquals(usage.prompt_tokens, sentences.flatMap(({ ids }) => ids).length);
    for (const [i, { unit8 }] of sentences.entries()) {
      assertEquals(data[i].embedding.length, 384);
      unit8.forEach((value, j) => assertAlmostEquals(data[i].embedding[j], value, 1e-4, texts[i]));
    }
    const scored = await ask("/v1/score", { text_1: texts[0], text_2: texts }, llm);
    scored.body.data.forEach(({ score }: Json, i: number) =>
      assertAlmostEquals(score, similarity[0]![i]!, 1e-4)
    );
    const documents = texts.filter((_, i) => i !== 4);
    const ranked = await ask("/v2/rerank", { query: texts[4], documents, top_n: 1 }, llm);
    assertEquals(ranked.body.results.map((result: Json) => result.document.text), [texts[5]]);
    const { type, param } = await refusal("/classify", { input: "a" }, llm);
    assertEquals([type, param], ["model_not_supported", "model"]);
  },
);
