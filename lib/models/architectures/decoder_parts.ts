/** What the decoders' graphs are put together from: embedding, attention, MLP, norms and head. */

import {
  type Graph,
  GraphBuilder,
  type MatmulOptions,
  type Value,
} from "../../device/compiler/graph.ts";
import type { ExpertConfig } from "../expert_config.ts";
import { expertBiasName, type ExpertProjection, expertStackName } from "../expert_names.ts";
import type { DecoderConfig } from "../model_config.ts";

/** The name under which the rotary table is uploaded: of all layers, or of those without a window. */
export const ROPE_TABLE = "rope";

/** The table of layers with a window, where that is another one. */
export const SLIDING_ROPE_TABLE = "rope.sliding";

/** Builds a decoder's graph part by part, in the order of the calls. */
export class DecoderParts {
  readonly config: DecoderConfig;
  readonly #builder: GraphBuilder;
  readonly #positionCount: number;

  constructor(config: DecoderConfig, positionCount: number) {
    this.config = config;
    this.#positionCount = positionCount;
    this.#builder = new GraphBuilder(config.architecture);
  }

  /** The residual stream: the step's tokens, embedded. */
  embed(): Value {
    const hidden = this.#builder.embed(this.#embedding());
    const { embeddingScale } = this.config;
    if (embeddingScale !== 1) this.#builder.scale(hidden, embeddingScale);
    return hidden;
  }

  /** What the attention of a layer makes of x. */
  attention(x: Value, layer: number): Value {
    const { headCount, kvHeadCount, headDim, attentionBias, attentionOutputBias, qkNorm } =
      this.config;
    const name = `model.layers.${layer}.self_attn`;
    const builder = this.#builder;
    const window = this.config.windows[layer] ?? 0;
    // A sixth of SmolLM2's weights, and more than a third of what activations of eight bits cost.
    const isSensitive = true;
    const project = (which: string, heads: number) =>
      this.#linear(x, `${name}.${which}_proj`, heads * headDim, attentionBias, { isSensitive });
    const q = project("q", headCount);
    const k = project("k", kvHeadCount);
    const v = project("v", kvHeadCount);
    if (qkNorm) {
      this.#headNorm(q, `${name}.q_norm.weight`, headCount);
      this.#headNorm(k, `${name}.k_norm.weight`, kvHeadCount);
    }
    const table = this.#ropeTable(window > 0);
    if (table !== null) {
      builder.rope(q, headCount, table);
      builder.rope(k, kvHeadCount, table);
    }
    const pool = window > 0 ? "window" : "global";
    const kv = builder.kvLayer({ kvHeads: kvHeadCount, headDim, pool });
    builder.writeKv(kv, k, v);
    const sinks = this.config.attentionSinks ? builder.vector(`${name}.sinks`, headCount) : null;
    const scale = this.config.attentionScale;
    const attended = builder.attention(kv, q, { scale, window, sinks });
    return this.#linear(attended, `${name}.o_proj`, x.width, attentionOutputBias);
  }

  /** What the gated MLP of a layer makes of x. */
  mlp(x: Value, layer: number): Value {
    return this.#gatedMlp(x, `model.layers.${layer}.mlp`, this.config.intermediateSize);
  }

  /** What the MLP that all tokens of a layer with experts pass makes of x; null: there is none. */
  sharedExperts(x: Value, layer: number, { sharedIntermediateSize }: ExpertConfig): Value | null {
    if (sharedIntermediateSize === 0) return null;
    return this.#gatedMlp(x, `model.layers.${layer}.mlp.shared_experts`, sharedIntermediateSize);
  }

  /** The weighted sum of what the chosen experts of a layer make of x. */
  experts(x: Value, layer: number, config: ExpertConfig): Value {
    const builder = this.#builder;
    const { count, choiceCount, intermediateSize, router, routerBias, swigluLimit } = config;
    const isSensitive = true;
    const name = `model.layers.${layer}.${config.routerName}`;
    const scores = this.#linear(x, name, count, routerBias, { isSensitive });
    const bias = config.choiceBias
      ? builder.vector(`model.layers.${layer}.mlp.gate.e_score_correction_bias`, count)
      : null;
    const routing = builder.route(scores, { router, choiceCount, bias });
    const project = (rows: Value, projection: ExpertProjection, outputs: number): Value => {
      const stack = expertStackName(layer, projection);
      const weight = builder.experts(stack, count, outputs, rows.width);
      const y = builder.expertMatmul(rows, routing, weight);
      if (config.biases) {
        const biases = builder.table(expertBiasName(layer, projection), count, outputs);
        builder.addExpertBias(y, routing, biases);
      }
      return y;
    };
    const rows = builder.takeChoices(x, routing);
    const gate = project(rows, "gate_proj", intermediateSize);
    const up = project(rows, "up_proj", intermediateSize);
    if (swigluLimit === undefined) builder.siluMultiply(gate, up);
    else builder.clampedSwiglu(gate, up, swigluLimit);
    return builder.sumExperts(project(gate, "down_proj", x.width), routing);
  }

  #gatedMlp(x: Value, name: string, intermediateSize: number): Value {
    const { mlpBias, activation } = this.config;
    const gate = this.#linear(x, `${name}.gate_proj`, intermediateSize, mlpBias);
    const up = this.#linear(x, `${name}.up_proj`, intermediateSize, mlpBias);
    if (activation === "silu") this.#builder.siluMultiply(gate, up);
    else this.#builder.geluTanhMultiply(gate, up);
    return this.#linear(gate, `${name}.down_proj`, x.width, mlpBias);
  }

  /** A norm over whole rows, as a new value. `name` is that of its weight without the suffix. */
  norm(x: Value, name: string): Value {
    const weight = this.#builder.vector(`${name}.weight`, x.width);
    return this.#builder.rmsNorm(x, weight, this.config.rmsNormEpsilon);
  }

  /** hidden += x */
  add(hidden: Value, x: Value): void {
    this.#builder.add(hidden, x);
  }

  /** The last norm, and the head if there is one on the device. */
  finish(hidden: Value): Graph {
    const { vocabSize, hiddenSize, tieWordEmbeddings, head, logitSoftcap } = this.config;
    const builder = this.#builder;
    // A step that wants no hidden states, or no logits, computes none: there are no rows then.
    const states = builder.takeHiddenRows(hidden);
    this.#headNorm(states, "model.norm.weight", 1);
    if (head.kind !== "language") return builder.finish(null, { hidden: states });
    const last = this.norm(builder.takeOutputRows(hidden), "model.norm");
    const weight = tieWordEmbeddings
      ? this.#embedding()
      : builder.matrix("lm_head.weight", vocabSize, hiddenSize);
    const logits = builder.matmul(last, weight);
    if (logitSoftcap !== 0) builder.softcap(logits, logitSoftcap);
    return builder.finish(logits, { summarize: true, hidden: states });
  }

  #embedding(): string {
    const { vocabSize, hiddenSize } = this.config;
    return this.#builder.matrix("model.embed_tokens.weight", vocabSize, hiddenSize);
  }

  /** null: the layer's queries and keys do not rotate. */
  #ropeTable(slides: boolean): string | null {
    const { rope, slidingRope, fullLayersRotate } = this.config;
    if (!slides && !fullLayersRotate) return null;
    const isOwn = slides && slidingRope !== undefined;
    const { rotaryDim } = isOwn ? slidingRope : rope;
    const name = isOwn ? SLIDING_ROPE_TABLE : ROPE_TABLE;
    return this.#builder.table(name, this.#positionCount, rotaryDim);
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

  #headNorm(x: Value, name: string, heads: number): void {
    const weight = this.#builder.vector(name, x.width / heads);
    this.#builder.headNorm(x, weight, this.config.rmsNormEpsilon, heads);
  }
}
