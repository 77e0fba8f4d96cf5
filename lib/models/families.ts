/** What the decoders' families differ in: one row an architecture. */

import type { ExpertFamily } from "./read_experts.ts";
import type { WindowRule } from "./layer_windows.ts";
import type { DecoderArchitecture, DecoderConfig } from "./model_config.ts";

/** What the classes of one architecture assume where config.json is silent, and what they always do. */
export interface Family {
  readonly modelType: string;
  /** What the names of its other classes begin with. Default: as that of its class here. */
  readonly stem?: string;
  readonly vocabSize: number;
  readonly intermediateSize: "4 · hiddenSize" | number;
  readonly maxPositionEmbeddings: number;
  readonly kvHeadCount: "headCount" | number;
  readonly headDim: "hiddenSize / headCount" | number;
  /** Which projections `attention_bias` gives a bias; Qwen2 does not ask. */
  readonly attentionBias:
    | "attention_bias"
    | "attention_bias, on q, k and v"
    | "always on q, k and v"
    | "none";
  /** Fields of which any one asks for the biases of attention. */
  readonly attentionBiasKeys: readonly string[];
  /** What they are where the file is silent. */
  readonly attentionBiasDefault: boolean;
  readonly attentionSinks: boolean;
  readonly experts: ExpertFamily;
  /** Whether the file must say how positions are scaled, as the class scales them by default. */
  readonly statesRope: boolean;
  readonly mlpBias: boolean;
  readonly norms: DecoderConfig["norms"];
  readonly normOffset: DecoderConfig["normOffset"];
  /** The field of the MLP's activation, and the one value that it may have. */
  readonly activation: {
    readonly key: "hidden_act" | "hidden_activation" | "activation_function";
    readonly name: string;
    readonly kind: DecoderConfig["activation"];
  };
  readonly qkNorm: boolean;
  readonly windows: WindowRule;
  /** θ where the file is silent; `sliding`: layers with a window have settings of their own. */
  readonly ropeTheta: { readonly full: number; readonly sliding?: number };
  /** Whether layers without a window rotate in a model in which others have one. */
  readonly fullLayersRotate: boolean;
  readonly rmsNormEpsilon: number;
  /** What the file calls that. */
  readonly epsilonKey: "rms_norm_eps" | "layer_norm_epsilon";
  readonly hiddenSize: number;
  readonly layerCount: number;
  /** What the file calls that; where it has several of the names, they must agree. */
  readonly layerCountKeys: readonly string[];
  readonly headCount: number;
  readonly tieWordEmbeddings: boolean;
  /** `query_pre_attn_scalar` where the file is silent; undefined: scores are divided by √headDim. */
  readonly queryScalar: number | undefined;
  /** Whether embedded tokens are multiplied with √hiddenSize. */
  readonly scalesEmbedding: boolean;
  /** Whether `final_logit_softcapping` is looked at. */
  readonly capsLogits: boolean;
  readonly bosTokenId: number | undefined;
  readonly endTokenIds: readonly number[];
}

const SILU: Family["activation"] = { key: "hidden_act", name: "silu", kind: "silu" };

/** What most families have in common. */
const COMMON = {
  headDim: "hiddenSize / headCount",
  attentionBias: "none",
  attentionBiasKeys: ["attention_bias"],
  attentionBiasDefault: false,
  attentionSinks: false,
  experts: "none",
  statesRope: false,
  mlpBias: false,
  norms: "before",
  normOffset: 0,
  activation: SILU,
  qkNorm: false,
  windows: { kind: "none" },
  ropeTheta: { full: 10_000 },
  fullLayersRotate: true,
  rmsNormEpsilon: 1e-6,
  epsilonKey: "rms_norm_eps",
  hiddenSize: 4096,
  layerCount: 32,
  layerCountKeys: ["num_hidden_layers"],
  headCount: 32,
  tieWordEmbeddings: false,
  queryScalar: undefined,
  scalesEmbedding: false,
  capsLogits: false,
} as const;

const QWEN2: Family = {
  ...COMMON,
  modelType: "qwen2",
  vocabSize: 151_936,
  intermediateSize: 22_016,
  maxPositionEmbeddings: 32_768,
  kvHeadCount: 32,
  attentionBias: "always on q, k and v",
  windows: { kind: "from a layer on" },
  bosTokenId: undefined,
  endTokenIds: [],
};

const QWEN3: Family = {
  ...QWEN2,
  modelType: "qwen3",
  headDim: 128,
  attentionBias: "attention_bias",
  qkNorm: true,
};

const EXAONE4: Family = {
  ...COMMON,
  modelType: "exaone4",
  vocabSize: 102_400,
  intermediateSize: 16_384,
  maxPositionEmbeddings: 2048,
  kvHeadCount: 32,
  norms: "after",
  qkNorm: true,
  windows: { kind: "all but every n-th", window: 4096, period: 4 },
  fullLayersRotate: false,
  rmsNormEpsilon: 1e-5,
  bosTokenId: 0,
  endTokenIds: [2],
};

/** The decoders, one row each. */
export const FAMILIES: Readonly<Record<DecoderArchitecture, Family>> = {
  LlamaForCausalLM: {
    ...COMMON,
    modelType: "llama",
    vocabSize: 32_000,
    intermediateSize: 11_008,
    maxPositionEmbeddings: 2048,
    kvHeadCount: "headCount",
    attentionBias: "attention_bias",
    mlpBias: true,
    bosTokenId: 1,
    endTokenIds: [2],
  },
  MistralForCausalLM: {
    ...COMMON,
    modelType: "mistral",
    vocabSize: 32_000,
    intermediateSize: 14_336,
    maxPositionEmbeddings: 131_072,
    kvHeadCount: 8,
    windows: { kind: "all layers", window: 4096 },
    bosTokenId: 1,
    endTokenIds: [2],
  },
  Qwen2ForCausalLM: QWEN2,
  Qwen3ForCausalLM: QWEN3,
  Qwen3MoeForCausalLM: {
    ...QWEN3,
    modelType: "qwen3_moe",
    hiddenSize: 2048,
    layerCount: 24,
    intermediateSize: 6144,
    kvHeadCount: 4,
    headDim: "hiddenSize / headCount",
    experts: "qwen3_moe",
  },
  ExaoneForCausalLM: {
    ...COMMON,
    modelType: "exaone",
    vocabSize: 102_400,
    hiddenSize: 2048,
    intermediateSize: "4 · hiddenSize",
    maxPositionEmbeddings: 2048,
    kvHeadCount: "headCount",
    layerCountKeys: ["num_layers", "num_hidden_layers"],
    attentionBias: "attention_bias",
    attentionBiasKeys: ["attention_bias", "bias"],
    mlpBias: true,
    activation: { key: "activation_function", name: "silu", kind: "silu" },
    epsilonKey: "layer_norm_epsilon",
    tieWordEmbeddings: true,
    bosTokenId: 0,
    endTokenIds: [2],
  },
  GptOssForCausalLM: {
    ...COMMON,
    modelType: "gpt_oss",
    vocabSize: 201_088,
    hiddenSize: 2880,
    intermediateSize: 2880,
    layerCount: 36,
    headCount: 64,
    kvHeadCount: 8,
    headDim: 64,
    maxPositionEmbeddings: 131_072,
    attentionBias: "attention_bias",
    attentionBiasDefault: true,
    attentionSinks: true,
    windows: { kind: "all but every n-th", window: 128, period: 2 },
    ropeTheta: { full: 150_000 },
    statesRope: true,
    rmsNormEpsilon: 1e-5,
    experts: "gpt_oss",
    bosTokenId: undefined,
    endTokenIds: [],
  },
  Exaone4ForCausalLM: EXAONE4,
  ExaoneMoeForCausalLM: {
    ...EXAONE4,
    modelType: "exaone_moe",
    norms: "before",
    experts: "exaone_moe",
    bosTokenId: 1,
    endTokenIds: [53],
  },
  SolarOpenForCausalLM: {
    ...COMMON,
    modelType: "solar_open",
    vocabSize: 196_608,
    // No layer has an MLP of this size.
    intermediateSize: 10_240,
    layerCount: 48,
    headCount: 64,
    kvHeadCount: 8,
    headDim: 128,
    maxPositionEmbeddings: 131_072,
    attentionBias: "attention_bias, on q, k and v",
    ropeTheta: { full: 1_000_000 },
    rmsNormEpsilon: 1e-5,
    experts: "solar_open",
    bosTokenId: undefined,
    endTokenIds: [],
  },
  Gemma3ForCausalLM: {
    ...COMMON,
    modelType: "gemma3_text",
    stem: "Gemma3Text",
    vocabSize: 262_208,
    intermediateSize: 9216,
    maxPositionEmbeddings: 131_072,
    hiddenSize: 2304,
    layerCount: 26,
    headCount: 8,
    kvHeadCount: 4,
    headDim: 256,
    attentionBias: "attention_bias",
    norms: "around",
    normOffset: 1,
    activation: { key: "hidden_activation", name: "gelu_pytorch_tanh", kind: "geluTanh" },
    qkNorm: true,
    windows: { kind: "all but every n-th", window: 4096, period: 6 },
    ropeTheta: { full: 1_000_000, sliding: 10_000 },
    tieWordEmbeddings: true,
    queryScalar: 256,
    scalesEmbedding: true,
    capsLogits: true,
    bosTokenId: 2,
    endTokenIds: [1],
  },
};
