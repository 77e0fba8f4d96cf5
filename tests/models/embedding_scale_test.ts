/** Gemma's factor of embedded tokens is rounded as the reference rounds it. */

import { assertEquals } from "@std/assert";
import type { WeightFormat } from "../../lib/device/block_formats.ts";
import { readModelConfig } from "../../lib/models/config.ts";
import { roundEmbeddingScale } from "../../lib/models/embedding_scale.ts";
import type { WeightDtype } from "../../lib/models/weights.ts";
import { goldenModel } from "../helpers/golden_models.ts";
import { tinyConfig } from "../helpers/tiny_model.ts";

const config = readModelConfig("config.json", {
  ...tinyConfig(goldenModel("gemma3")),
  hidden_size: 640,
});

function scaleOf(format: WeightFormat, dtype: WeightDtype, change = {}): number | undefined {
  const name = "model.embed_tokens.weight";
  const tensors = new Map([[name, { name, format, shape: [8, 640], sizeBytes: 0 }]]);
  const rounded = roundEmbeddingScale({ config: { ...config, ...change }, tensors }, dtype);
  return rounded.kind === "decoder" ? rounded.embeddingScale : undefined;
}

Deno.test("The embedding's factor √640 has the type of the weights, or that they are asked to have", () => {
  const exact = Math.fround(Math.sqrt(640));
  assertEquals(scaleOf("bf16", "auto"), 25.25);
  assertEquals(scaleOf("f16", "auto"), 25.296875);
  assertEquals(scaleOf("f32", "auto"), exact);
  assertEquals(scaleOf("bf16", "float32"), exact);
  assertEquals(scaleOf("f32", "bfloat16"), 25.25);
  assertEquals(scaleOf("f32", "float16"), 25.296875);
});

Deno.test("Quantising on the way keeps the checkpoint's type, GGUF files keep float32", () => {
  const exact = Math.fround(Math.sqrt(640));
  assertEquals(scaleOf("bf16", "q8"), 25.25);
  assertEquals(scaleOf("q8_0", "auto"), exact);
  assertEquals(scaleOf("bf16", "auto", { roundsEmbeddingScale: false }), Math.sqrt(640));
});
