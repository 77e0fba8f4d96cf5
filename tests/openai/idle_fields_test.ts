/** Fields without an effect: they are taken at any value of their type, and refused at another. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { classifierModel, embeddingModel } from "../helpers/fake_pooling.ts";
import { FakeLLM } from "./fake_llm.ts";
import { ask, refusal } from "./requests.ts";

const embedder = () => new FakeLLM({ pooling: embeddingModel() });
const scorer = () => new FakeLLM({ pooling: classifierModel(1) });

const PAIR = { text_1: "a", text_2: "b" };
const QUERY = { query: "q", documents: ["a"] };
const POOLED = { model: "any", user: "u", mm_processor_kwargs: {} };

const CARRIERS = [
  ["/v1/embeddings", { input: "a" }, embedder, POOLED],
  ["/pooling", { input: "a" }, embedder, POOLED],
  ["/classify", { input: "a" }, scorer, POOLED],
  ["/score", PAIR, scorer, { ...POOLED, use_qwen3_template: true }],
  ["/rerank", QUERY, scorer, {
    ...POOLED,
    use_qwen3_template: true,
    return_documents: false,
    rank_fields: ["text"],
    max_chunks_per_doc: 3,
  }],
  ["/tokenize", { prompt: "a" }, embedder, {
    model: "any",
    mm_processor_kwargs: {},
    media_io_kwargs: {},
  }],
  ["/detokenize", { tokens: [97] }, embedder, { model: "any" }],
] as const;

Deno.test("A field without an effect is taken at a value of its type or null, and refused at another", async () => {
  for (const [path, body, model, fields] of CARRIERS) {
    for (const [name, value] of Object.entries(fields)) {
      for (const taken of [value, null]) {
        const { status } = await ask(path, { ...body, [name]: taken }, model());
        assertEquals(status, 200, `${path} ${name} ${JSON.stringify(taken)}`);
      }
      // A string is nothing else than a string here, and an array is no string.
      const wrong = typeof value === "string" ? [] : "no";
      if (typeof value === "boolean") continue; // "no" is a boolean; the next one is tried below
      const { code, param, message } = await refusal(path, { ...body, [name]: wrong }, model());
      assertEquals([code, param], [400, `body.${name}`], path);
      assertStringIncludes(message, name);
    }
  }
});

Deno.test("A switch without an effect must be true or false all the same", async () => {
  for (const name of ["return_documents", "use_qwen3_template"]) {
    const { code, param } = await refusal("/rerank", { ...QUERY, [name]: "maybe" }, scorer());
    assertEquals([code, param], [400, `body.${name}`]);
  }
});
