/** What a model is: its shape and settings, whichever file they came from. */

import type { ExpertConfig } from "./expert_config.ts";
import type { NumberRule } from "./fields.ts";
import type { RopeConfig } from "./rope.ts";

/** The decoders that can be run, each by its class with a language head. */
export type DecoderArchitecture =
  | "LlamaForCausalLM"
  | "MistralForCausalLM"
  | "Qwen2ForCausalLM"
  | "Qwen3ForCausalLM"
  | "Qwen3MoeForCausalLM"
  | "GptOssForCausalLM"
  | "ExaoneForCausalLM"
  | "Exaone4ForCausalLM"
  | "ExaoneMoeForCausalLM"
  | "SolarOpenForCausalLM"
  | "Gemma3ForCausalLM";

/** The encoders that can be run, each by its class without a head. */
export type EncoderArchitecture = "BertModel" | "RobertaModel" | "XLMRobertaModel";

/** The architectures that can be run. */
export type Architecture = DecoderArchitecture | EncoderArchitecture;

/**
 * What stands on the hidden states: a product with the vocabulary, a classifier, or nothing. Only
 * the first is computed on the device and makes a model generate.
 */
export type HeadConfig =
  | { readonly kind: "language" }
  | { readonly kind: "none" }
  | {
    readonly kind: "classifier";
    readonly labelCount: number;
    /** The name of the layer, with a bias and tanh, before the classifier; undefined: there is none. */
    readonly dense: string | undefined;
    /** The name of the classifier. */
    readonly output: string;
  };

/** What every model has. */
interface AnyModelConfig {
  readonly modelType: string;
  /** The class that the checkpoint names: the architecture's, or one with another head. */
  readonly className: string;
  readonly head: HeadConfig;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layerCount: number;
  readonly headCount: number;
  /** Divides headCount. */
  readonly kvHeadCount: number;
  /** A multiple of 8; headCount · headDim need not be hiddenSize. */
  readonly headDim: number;
  readonly maxPositionEmbeddings: number;
  /** The longest context that the positions are meant for: maxPositionEmbeddings, stretched. */
  readonly contextLength: number;
  readonly tieWordEmbeddings: boolean;
  readonly bosTokenId: number | undefined;
  /** What the config itself says ends an answer. May be empty. */
  readonly endTokenIds: readonly number[];
  /** The precision the config states, if it does; each tensor says its own. */
  readonly dtype: string | undefined;
}

/** A decoder: each token sees those before it. Plain data. */
export interface DecoderConfig extends AnyModelConfig {
  readonly kind: "decoder";
  readonly architecture: DecoderArchitecture;
  /** Layers behind the last one that guess tokens further ahead: a file may have them, nothing here runs them. */
  readonly aheadLayerCount: number;
  /** Rounded to float32, as every framework uses it. */
  readonly rmsNormEpsilon: number;
  /** Query, key and value projections have a bias. */
  readonly attentionBias: boolean;
  /** The attention's output projection has a bias. */
  readonly attentionOutputBias: boolean;
  readonly mlpBias: boolean;
  /** Where attention and MLP have norms: on what they take, on what they add, or on both. */
  readonly norms: "before" | "after" | "around";
  /** What is added to the norms' weights as the checkpoint stores them. */
  readonly normOffset: 0 | 1;
  /** What the gate of the MLP goes through. */
  readonly activation: "silu" | "geluTanh";
  /** Factor of the scores. */
  readonly attentionScale: number;
  /** Queries and keys pass a norm, head by head, before they rotate. */
  readonly qkNorm: boolean;
  /** One a layer: how many keys a query sees, itself included. 0: all of them. */
  readonly windows: readonly number[];
  readonly rope: RopeConfig;
  /** The settings of layers with a window, where those are others. */
  readonly slidingRope: RopeConfig | undefined;
  /** Whether layers that see everything rotate queries and keys. Those with a window always do. */
  readonly fullLayersRotate: boolean;
  /** Factor of the embedded tokens. */
  readonly embeddingScale: number;
  /** Whether that is rounded to the type of the embedding's weights. */
  readonly roundsEmbeddingScale: boolean;
  /** Logits go through c · tanh(logit / c), c this number; 0: they stay as they are. */
  readonly logitSoftcap: number;
  /** Each head has a score of its own that takes part in the softmax and has no value. */
  readonly attentionSinks: boolean;
  /** What stands in place of the MLP in some layers or all of them; undefined: nothing does. */
  readonly experts: ExpertConfig | undefined;
}

/** An encoder: each token sees all tokens of its sequence. Plain data. */
export interface EncoderConfig extends AnyModelConfig {
  readonly kind: "encoder";
  readonly architecture: EncoderArchitecture;
  /** Rounded to float32, as every framework uses it. */
  readonly layerNormEpsilon: number;
  /** How many token types (segments) have an embedding. */
  readonly tokenTypeCount: number;
  /** The row of the position embeddings that the first token of a sequence gets. */
  readonly firstPosition: number;
}

/** Any model. */
export type ModelConfig = DecoderConfig | EncoderConfig;

interface SizeRule extends NumberRule {
  readonly min: number;
  readonly max: number;
}

type SizedField =
  | "vocabSize"
  | "hiddenSize"
  | "intermediateSize"
  | "layerCount"
  | "headCount"
  | "headDim"
  | "positions"
  | "tokenTypes"
  | "labels"
  | "epsilon";

/**
 * Sizes past which a config is taken for damaged. Each is several times the largest in use; eights
 * are what the device's panels and lanes come in.
 */
export const SIZE_RULES: Readonly<Record<SizedField, SizeRule>> = {
  vocabSize: { min: 1, max: 2 ** 22 },
  hiddenSize: { min: 8, max: 2 ** 16, multipleOf: 8 },
  intermediateSize: { min: 8, max: 2 ** 19, multipleOf: 8 },
  layerCount: { min: 1, max: 1024 },
  headCount: { min: 1, max: 2048 },
  headDim: { min: 8, max: 1024, multipleOf: 8 },
  /** Up to here a position is exact in float32. */
  positions: { min: 1, max: 2 ** 24 },
  tokenTypes: { min: 1, max: 1024 },
  labels: { min: 1, max: 2 ** 16 },
  /** An epsilon of 0 would divide by zero on a row of zeros. */
  epsilon: { min: 0, max: 1, aboveMin: true },
};
