/**
 * The pre-norm decoder with experts of Qwen 3 MoE, GPT-OSS, EXAONE MoE and Solar Open as a graph:
 *
 * ```text
 * x ─▶ router ─▶ choices ──┐
 * x ─▶ a row for each choice ─▶ gate, up ─▶ down ─▶ sum by weight ─▶ +
 * x ─▶ shared experts, an MLP like others, where there are any ─────▶ +
 * ```
 *
 * The families differ in how they score and weigh, in biases, and in which layers have experts.
 */

import type { Graph } from "../../device/compiler/graph.ts";
import type { DecoderConfig } from "../model_config.ts";
import { DecoderParts } from "./decoder_parts.ts";

/** The graph of one step: token ids → the logits and the hidden states that are wanted. */
export function expertDecoderGraph(config: DecoderConfig, positionCount: number): Graph {
  const parts = new DecoderParts(config, positionCount);
  const hidden = parts.embed();
  for (let layer = 0; layer < config.layerCount; layer++) {
    const name = `model.layers.${layer}`;
    parts.add(hidden, parts.attention(parts.norm(hidden, `${name}.input_layernorm`), layer));
    const x = parts.norm(hidden, `${name}.post_attention_layernorm`);
    if (config.experts?.layers[layer] !== true) {
      parts.add(hidden, parts.mlp(x, layer));
      continue;
    }
    const mixed = parts.experts(x, layer, config.experts);
    const shared = parts.sharedExperts(x, layer, config.experts);
    if (shared !== null) parts.add(mixed, shared);
    parts.add(hidden, mixed);
  }
  return parts.finish(hidden);
}
