/** The factor of embedded tokens in the precision of the reference. */

import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from "../device/dtype.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { ModelConfig } from "./model_config.ts";
import type { WeightDtype } from "./weights.ts";

/**
 * The checkpoint's config with the factor rounded as the reference rounds it: to the type that it
 * computes in, which is the one its weights are loaded as. Asked to hold the weights as float32, it
 * keeps the factor in float32 too. Quantised on the way, weights are still those of the checkpoint.
 */
export function roundEmbeddingScale(
  { config, tensors }: Pick<Checkpoint, "config" | "tensors">,
  dtype: WeightDtype,
): ModelConfig {
  if (config.kind !== "decoder" || !config.roundsEmbeddingScale) return config;
  const scale = Math.fround(config.embeddingScale);
  const stored = tensors.get("model.embed_tokens.weight")?.format;
  const type = dtype === "bfloat16" ? "bf16" : dtype === "float16" ? "f16" : stored;
  if (dtype === "float32" || (type !== "bf16" && type !== "f16")) {
    return { ...config, embeddingScale: scale };
  }
  const rounded = type === "bf16" ? bf16ToF32(f32ToBf16(scale)) : f16ToF32(f32ToF16(scale));
  return { ...config, embeddingScale: rounded };
}
