/** A tiny Qwen3 reranker of random weights as a folder: a real model, whose scores say nothing. */

import { goldenModel } from "../helpers/golden_models.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

/** Writes it into a new folder, which the caller removes. */
export async function writeTinyReranker(): Promise<string> {
  const folder = await Deno.makeTempDir();
  const decoder = goldenModel("qwen3");
  writeTinyModel(folder, {
    ...decoder,
    architectures: ["Qwen3ForSequenceClassification"],
    // Room for the reranker's frame, letter by letter.
    config: { ...decoder.config, num_labels: 1, max_position_embeddings: 512 },
  });
  return folder;
}
