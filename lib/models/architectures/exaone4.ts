/**
 * The post-norm decoder of EXAONE 4 as a graph: attention and MLP see the residual stream as it is,
 * and what they add to it is normed. In a hybrid model the layers that see everything do not rotate.
 */

import type { Graph } from "../../device/compiler/graph.ts";
import type { DecoderConfig } from "../model_config.ts";
import { DecoderParts } from "./decoder_parts.ts";

/** The graph of one step: token ids → the logits and the hidden states that are wanted. */
export function exaone4Graph(config: DecoderConfig, positionCount: number): Graph {
  const parts = new DecoderParts(config, positionCount);
  const hidden = parts.embed();
  for (let layer = 0; layer < config.layerCount; layer++) {
    const name = `model.layers.${layer}`;
    const attended = parts.attention(hidden, layer);
    parts.add(hidden, parts.norm(attended, `${name}.post_attention_layernorm`));
    const mixed = parts.mlp(hidden, layer);
    parts.add(hidden, parts.norm(mixed, `${name}.post_feedforward_layernorm`));
  }
  return parts.finish(hidden);
}
