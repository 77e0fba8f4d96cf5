/** Cohere's client against `/v2/rerank`, on a tiny Qwen3 reranker. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { CohereClientV2, CohereError } from "cohere-ai";
import { startReranker } from "./start_server.ts";

const QUERY = "the cat";
const DOCUMENTS = ["a", "the cat", "one two"];

Deno.test("Cohere: documents come back in order of relevance, as many as are asked for", async () => {
  await using server = await startReranker();
  const cohere = new CohereClientV2({ token: "EMPTY", environment: server.url, maxRetries: 0 });
  const ask = async (topN?: number) =>
    (await cohere.rerank({ model: "any", query: QUERY, documents: DOCUMENTS, ...topN && { topN } }))
      .results;
  const results = await ask();
  assertEquals(results.map(({ index }) => index).toSorted(), [0, 1, 2]);
  const scores = results.map(({ relevanceScore }) => relevanceScore);
  assertEquals(scores, scores.toSorted((a, b) => b - a));
  assert(scores.every((score) => score > 0 && score < 1), String(scores));
  assertEquals(await ask(2), results.slice(0, 2));
});

Deno.test("Cohere: a refusal is an error of the client with its status and our words", async () => {
  await using server = await startReranker();
  const cohere = new CohereClientV2({ token: "EMPTY", environment: server.url, maxRetries: 0 });
  const error = await assertRejects(
    () => cohere.rerank({ model: "any", query: QUERY, documents: [] }),
    CohereError,
    "documents",
  );
  assertEquals(error.statusCode, 400);
});
