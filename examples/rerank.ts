/** The documents that answer a question, best first: `deno run -A examples/rerank.ts MODEL [QUERY]`. */

import { LLM } from "../mod.ts";

const [model, query = "Where does the power of a tide mill come from?"] = Deno.args;
if (model === undefined) {
  console.error("Name a reranker's or an embedding model's folder, such as Qwen3-Reranker-0.6B");
  Deno.exit(2);
}

const documents = [
  "A cat sleeps for most of the day.",
  "The rising tide fills a pond; the water that leaves it turns the wheel.",
  "Windmills were built where there were no streams.",
  "Share prices dropped this afternoon.",
];

// A reranker reads query and document together; of an embedding model the cosine is taken.
await using llm = await LLM.load(model);
for (const { index, document, relevanceScore } of await llm.rerank(query, documents, { topN: 3 })) {
  console.log(`${relevanceScore.toFixed(3)}  ${document} (number ${index})`);
}
