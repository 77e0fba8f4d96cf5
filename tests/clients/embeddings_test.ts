/** The clients' embeddings, on MiniLM; what MiniLM cannot show, on a fake model. */

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { OpenAIEmbeddings } from "@langchain/openai";
import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { embed, embedMany } from "ai";
import OpenAI from "openai";
import { embeddingModel } from "../helpers/fake_pooling.ts";
import { minilmTest } from "../helpers/minilm.ts";
import { minilmGolden } from "../helpers/minilm_golden.ts";
import { startModel, startServer } from "./start_server.ts";

const { sentences } = minilmGolden();
const TEXTS = sentences.map(({ text }) => text);

/** The vectors are those of sentence-transformers. */
function assertGolden(vectors: readonly (readonly number[])[]): void {
  assertEquals(vectors.map((vector) => vector.length), TEXTS.map(() => 384));
  for (const [i, { unit8 }] of sentences.entries()) {
    unit8.forEach((value, j) => assertAlmostEquals(vectors[i]![j]!, value, 1e-4, TEXTS[i]));
  }
}

minilmTest(
  "openai: embeddings in base64, which it asks for by itself, and as numbers",
  async (path) => {
    await using server = await startModel(path);
    const openai = new OpenAI({ baseURL: server.baseURL, apiKey: "EMPTY", maxRetries: 0 });
    const body = { model: "served", input: TEXTS };
    const { data, usage } = await openai.embeddings.create(body);
    assertEquals(data.map(({ index }) => index), TEXTS.map((_, i) => i));
    assertGolden(data.map(({ embedding }) => embedding));
    assert(usage.prompt_tokens > 0);
    const floats = await openai.embeddings.create({ ...body, encoding_format: "float" });
    assertEquals(floats.data.map((item) => item.embedding), data.map((item) => item.embedding));
    const error = await assertRejects(
      () => openai.chat.completions.create({ model: "served", messages: [] }),
      OpenAI.BadRequestError,
    );
    assertEquals(error.type, "model_not_supported");
  },
);

minilmTest("Vercel AI SDK: embed and embedMany", async (path) => {
  await using server = await startModel(path);
  const model = createOpenAICompatible({ name: "rngd", baseURL: server.baseURL })
    .embeddingModel("served");
  const { embeddings, usage } = await embedMany({ model, values: TEXTS });
  assertGolden(embeddings);
  assert(usage.tokens > 0);
  assertEquals((await embed({ model, value: TEXTS[0]! })).embedding, embeddings[0]);
});

minilmTest("LangChain: embedDocuments and embedQuery", async (path) => {
  await using server = await startModel(path);
  const { baseURL } = server;
  const model = new OpenAIEmbeddings({
    model: "served",
    apiKey: "EMPTY",
    configuration: { baseURL },
  });
  const vectors = await model.embedDocuments(TEXTS);
  assertGolden(vectors);
  assertEquals(await model.embedQuery(TEXTS[0]!), vectors[0]);
});

Deno.test("openai: embeddings of fewer dimensions, from a model that was trained for them", async () => {
  const pooling = embeddingModel({ lengths: { min: 1, only: undefined } });
  await using server = await startServer({}, { pooling });
  const openai = new OpenAI({ baseURL: server.baseURL, apiKey: "EMPTY", maxRetries: 0 });
  const short = await openai.embeddings.create({ model: "served", input: "one", dimensions: 2 });
  assertEquals(short.data[0]?.embedding.length, 2);
});
