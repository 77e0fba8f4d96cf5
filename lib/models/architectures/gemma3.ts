/** The decoder of Gemma 3 as a graph: norms before and after attention and MLP. */

import type { Graph } from "../../device/compiler/graph.ts";
import type { DecoderConfig } from "../model_config.ts";
import { DecoderParts } from "./decoder_parts.ts";

/** The graph of one step: token ids → the logits and the hidden states that are wanted. */
export function gemma3Graph(config: DecoderConfig, positionCount: number): Graph {
  const parts = new DecoderParts(config, positionCount);
  const hidden = parts.embed();
  for (let layer = 0; layer < config.layerCount; layer++) {
    const name = `model.layers.${layer}`;
    const attended = parts.attention(parts.norm(hidden, `${name}.input_layernorm`), layer);
    parts.add(hidden, parts.norm(attended, `${name}.post_attention_layernorm`));
    const mixed = parts.mlp(parts.norm(hidden, `${name}.pre_feedforward_layernorm`), layer);
    parts.add(hidden, parts.norm(mixed, `${name}.post_feedforward_layernorm`));
  }
  return parts.finish(hidden);
}
