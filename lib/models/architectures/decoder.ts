/**
 * The pre-norm decoder of the Llama, Mistral, Qwen 2 and Qwen 3 families as a graph. The families
 * differ in what their config switches on: biases, norms on queries and keys, windows.
 */

import type { Graph } from "../../device/compiler/graph.ts";
import type { DecoderConfig } from "../model_config.ts";
import { DecoderParts } from "./decoder_parts.ts";

/** The graph of one decoder step: token ids → the logits and the hidden states that are wanted. */
export function decoderGraph(config: DecoderConfig, positionCount: number): Graph {
  const parts = new DecoderParts(config, positionCount);
  const hidden = parts.embed();
  for (let layer = 0; layer < config.layerCount; layer++) {
    const name = `model.layers.${layer}`;
    parts.add(hidden, parts.attention(parts.norm(hidden, `${name}.input_layernorm`), layer));
    parts.add(hidden, parts.mlp(parts.norm(hidden, `${name}.post_attention_layernorm`), layer));
  }
  return parts.finish(hidden);
}
