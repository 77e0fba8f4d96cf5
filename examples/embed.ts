/** Which sentences mean the same: `deno run -A examples/embed.ts MODEL [SENTENCE …]`. */

import { LLM } from "../mod.ts";

const [model, ...given] = Deno.args;
if (model === undefined) {
  console.error("Name an embedding model's folder, such as all-MiniLM-L6-v2");
  Deno.exit(2);
}

const sentences = given.length > 1 ? given : [
  "How do I reset my password?",
  "I forgot my login and want to change it.",
  "Paris is the capital of France.",
];

await using llm = await LLM.load(model);
const embeddings = (await llm.embed(sentences)).map(({ outputs }) => outputs.embedding);

// Embeddings have the length 1, so that their product is the cosine of the angle between them.
const cosine = (a: Float32Array, b: Float32Array) =>
  a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);

for (const [i, a] of embeddings.entries()) {
  const row = embeddings.map((b) => cosine(a, b).toFixed(2).padStart(5));
  console.log(`${row.join(" ")}  ${sentences[i]}`);
}
