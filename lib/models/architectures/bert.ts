/**
 * The post-norm encoder of BERT, RoBERTa and XLM-RoBERTa as a graph: token ids, types and positions → hidden
 * states. Every token sees all tokens of its sequence, and nothing outlives the step: so all layers
 * share the keys and values of one.
 */

import { type Graph, GraphBuilder, type Value } from "../../device/compiler/graph.ts";
import type { EncoderConfig } from "../model_config.ts";

/** Builds an encoder's graph, one method a block. */
class Encoder {
  readonly #config: EncoderConfig;
  readonly #builder: GraphBuilder;
  readonly #kv: number;

  constructor(config: EncoderConfig) {
    this.#config = config;
    this.#builder = new GraphBuilder(config.architecture);
    const { kvHeadCount, headDim } = config;
    this.#kv = this.#builder.kvLayer({ kvHeads: kvHeadCount, headDim });
  }

  build(): Graph {
    const hidden = this.#embeddings();
    for (let layer = 0; layer < this.#config.layerCount; layer++) {
      const name = `encoder.layer.${layer}`;
      this.#attention(hidden, `${name}.attention`);
      this.#mlp(hidden, name);
    }
    return this.#builder.finish(null, { hidden: this.#builder.takeHiddenRows(hidden) });
  }

  /** In the order in which the family's classes add them up. */
  #embeddings(): Value {
    const { vocabSize, tokenTypeCount, contextLength, hiddenSize } = this.#config;
    const builder = this.#builder;
    const table = (which: string, rows: number) =>
      builder.matrix(`embeddings.${which}_embeddings.weight`, rows, hiddenSize);
    const hidden = builder.embed(table("word", vocabSize));
    const types = builder.embed(table("token_type", tokenTypeCount), "tokenTypes");
    // The checkpoint may have more rows, before these: the first one here is of the first position.
    const positions = builder.embed(table("position", contextLength), "positions");
    builder.add(hidden, types);
    builder.add(hidden, positions);
    this.#norm(hidden, "embeddings.LayerNorm");
    return hidden;
  }

  #attention(hidden: Value, name: string): void {
    const builder = this.#builder;
    const project = (which: string) => this.#linear(hidden, `${name}.self.${which}`, hidden.width);
    const q = project("query");
    const k = project("key");
    const v = project("value");
    builder.writeKv(this.#kv, k, v);
    const scale = 1 / Math.sqrt(this.#config.headDim);
    const attended = builder.attention(this.#kv, q, { scale, sees: "all" });
    this.#addAndNorm(hidden, attended, `${name}.output`);
  }

  #mlp(hidden: Value, name: string): void {
    const { intermediateSize } = this.#config;
    const inner = this.#linear(hidden, `${name}.intermediate.dense`, intermediateSize);
    this.#builder.gelu(inner);
    this.#addAndNorm(hidden, inner, `${name}.output`);
  }

  #addAndNorm(hidden: Value, x: Value, name: string): void {
    this.#builder.add(hidden, this.#linear(x, `${name}.dense`, hidden.width));
    this.#norm(hidden, `${name}.LayerNorm`);
  }

  #linear(x: Value, name: string, outputs: number): Value {
    const y = this.#builder.matmul(x, this.#builder.matrix(`${name}.weight`, outputs, x.width));
    this.#builder.addBias(y, this.#builder.vector(`${name}.bias`, outputs));
    return y;
  }

  #norm(x: Value, name: string): void {
    const weight = this.#builder.vector(`${name}.weight`, x.width);
    const bias = this.#builder.vector(`${name}.bias`, x.width);
    this.#builder.layerNorm(x, weight, bias, this.#config.layerNormEpsilon);
  }
}

/** The graph of one encoder step. */
export function bertGraph(config: EncoderConfig): Graph {
  return new Encoder(config).build();
}
