/**
 * The pre-norm decoder of the Llama, Qwen 2 and Qwen 3 families as a graph. The families differ in
 * what their config switches on: biases, norms on queries and keys, windows.
 */

import {
  type Graph,
  GraphBuilder,
  type MatmulOptions,
  type Value,
} from "../../device/compiler/graph.ts";
import type { DecoderConfig } from "../model_config.ts";

/** The name under which the rotary table is uploaded. */
export const ROPE_TABLE = "rope";

/** Builds weights' and layers' parts of a decoder's graph, one method a block. */
class Decoder {
  readonly #config: DecoderConfig;
  readonly #builder: GraphBuilder;
  readonly #rope: string;

  constructor(config: DecoderConfig, positionCount: number) {
    this.#config = config;
    this.#builder = new GraphBuilder(config.architecture);
    this.#rope = this.#builder.table(ROPE_TABLE, positionCount, config.rope.rotaryDim);
  }

  build(): Graph {
    const { vocabSize, hiddenSize, layerCount, tieWordEmbeddings } = this.#config;
    const embedding = this.#builder.matrix("model.embed_tokens.weight", vocabSize, hiddenSize);
    const hidden = this.#builder.embed(embedding);
    for (let layer = 0; layer < layerCount; layer++) {
      this.#attention(hidden, layer);
      this.#mlp(hidden, `model.layers.${layer}`);
    }
    // A step that wants no hidden states, or no logits, computes none: there are no rows then.
    const states = this.#builder.takeHiddenRows(hidden);
    this.#headNorm(states, "model.norm.weight", 1);
    if (this.#config.head.kind !== "language") {
      return this.#builder.finish(null, { hidden: states });
    }
    const last = this.#norm(this.#builder.takeOutputRows(hidden), "model.norm.weight");
    const head = tieWordEmbeddings
      ? embedding
      : this.#builder.matrix("lm_head.weight", vocabSize, hiddenSize);
    return this.#builder.finish(this.#builder.matmul(last, head), {
      summarize: true,
      hidden: states,
    });
  }

  #attention(hidden: Value, layer: number): void {
    const { headCount, kvHeadCount, headDim, attentionBias, attentionOutputBias, qkNorm, windows } =
      this.#config;
    const name = `model.layers.${layer}`;
    const builder = this.#builder;
    const x = this.#norm(hidden, `${name}.input_layernorm.weight`);
    // A sixth of SmolLM2's weights, and more than a third of what activations of eight bits cost.
    const isSensitive = true;
    const project = (which: string, heads: number) => {
      const weight = `${name}.self_attn.${which}_proj`;
      return this.#linear(x, weight, heads * headDim, attentionBias, { isSensitive });
    };
    const q = project("q", headCount);
    const k = project("k", kvHeadCount);
    const v = project("v", kvHeadCount);
    if (qkNorm) {
      this.#headNorm(q, `${name}.self_attn.q_norm.weight`, headCount);
      this.#headNorm(k, `${name}.self_attn.k_norm.weight`, kvHeadCount);
    }
    builder.rope(q, headCount, this.#rope);
    builder.rope(k, kvHeadCount, this.#rope);
    const kv = builder.kvLayer({ kvHeads: kvHeadCount, headDim });
    builder.writeKv(kv, k, v);
    const attended = builder.attention(kv, q, {
      scale: 1 / Math.sqrt(headDim),
      window: windows[layer] ?? 0,
    });
    const out = `${name}.self_attn.o_proj`;
    builder.add(hidden, this.#linear(attended, out, hidden.width, attentionOutputBias));
  }

  #mlp(hidden: Value, name: string): void {
    const { intermediateSize, mlpBias } = this.#config;
    const x = this.#norm(hidden, `${name}.post_attention_layernorm.weight`);
    const gate = this.#linear(x, `${name}.mlp.gate_proj`, intermediateSize, mlpBias);
    const up = this.#linear(x, `${name}.mlp.up_proj`, intermediateSize, mlpBias);
    this.#builder.siluMultiply(gate, up);
    const down = this.#linear(gate, `${name}.mlp.down_proj`, hidden.width, mlpBias);
    this.#builder.add(hidden, down);
  }

  #linear(
    x: Value,
    name: string,
    outputs: number,
    hasBias: boolean,
    options: MatmulOptions = {},
  ): Value {
    const weight = this.#builder.matrix(`${name}.weight`, outputs, x.width);
    const y = this.#builder.matmul(x, weight, options);
    if (hasBias) this.#builder.addBias(y, this.#builder.vector(`${name}.bias`, outputs));
    return y;
  }

  #norm(x: Value, name: string): Value {
    const weight = this.#builder.vector(name, x.width);
    return this.#builder.rmsNorm(x, weight, this.#config.rmsNormEpsilon);
  }

  #headNorm(x: Value, name: string, heads: number): void {
    const weight = this.#builder.vector(name, x.width / heads);
    this.#builder.headNorm(x, weight, this.#config.rmsNormEpsilon, heads);
  }
}

/** The graph of one decoder step: token ids → the logits and the hidden states that are wanted. */
export function decoderGraph(config: DecoderConfig, positionCount: number): Graph {
  return new Decoder(config, positionCount).build();
}
