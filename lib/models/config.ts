/** config.json → a checked {@linkcode ModelConfig}: the border past which the numbers are trusted. */

import {
  BERT_MODEL_TYPE,
  ENCODER_ARCHITECTURES,
  isEncoderArchitecture,
  readEncoderConfig,
} from "./encoder_config.ts";
import { Fields } from "./fields.ts";
import {
  type Architecture,
  type DecoderArchitecture,
  type DecoderConfig,
  type HeadConfig,
  type ModelConfig,
  SIZE_RULES,
} from "./model_config.ts";
import { readLabelCount } from "./label_count.ts";
import { readQuantization } from "./quantization_config.ts";
import type { RopeConfig } from "./rope.ts";
import { readRopeConfig } from "./rope_config.ts";

/** What the classes of one architecture assume where config.json is silent, and what they always do. */
interface Family {
  readonly modelType: string;
  /** What stands on the last hidden state. */
  readonly head: HeadConfig["kind"];
  readonly vocabSize: number;
  readonly intermediateSize: number;
  readonly maxPositionEmbeddings: number;
  readonly kvHeadCount: "headCount" | number;
  readonly headDim: "hiddenSize / headCount" | number;
  /** Which projections `attention_bias` gives a bias; Qwen2 does not ask. */
  readonly attentionBias: "attention_bias" | "always on q, k and v";
  readonly mlpBias: boolean;
  readonly qkNorm: boolean;
  readonly slidingWindows: boolean;
  readonly bosTokenId: number | undefined;
  readonly endTokenIds: readonly number[];
}

const QWEN2: Family = {
  modelType: "qwen2",
  head: "language",
  vocabSize: 151_936,
  intermediateSize: 22_016,
  maxPositionEmbeddings: 32_768,
  kvHeadCount: 32,
  headDim: "hiddenSize / headCount",
  attentionBias: "always on q, k and v",
  mlpBias: false,
  qkNorm: false,
  slidingWindows: true,
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

const FAMILIES: Readonly<Record<DecoderArchitecture, Family>> = {
  LlamaForCausalLM: {
    modelType: "llama",
    head: "language",
    vocabSize: 32_000,
    intermediateSize: 11_008,
    maxPositionEmbeddings: 2048,
    kvHeadCount: "headCount",
    headDim: "hiddenSize / headCount",
    attentionBias: "attention_bias",
    mlpBias: true,
    qkNorm: false,
    slidingWindows: false,
    bosTokenId: 1,
    endTokenIds: [2],
  },
  Qwen2ForCausalLM: QWEN2,
  Qwen3ForCausalLM: QWEN3,
  Qwen3Model: { ...QWEN3, head: "none" },
  Qwen3ForSequenceClassification: { ...QWEN3, head: "classifier" },
};

/** The supported architectures, for messages. */
export const ARCHITECTURES: readonly string[] = [
  ...Object.keys(FAMILIES),
  ...ENCODER_ARCHITECTURES,
];

/** Reads config.json, already parsed. `file` is its name for messages. */
export function readModelConfig(file: string, json: unknown): ModelConfig {
  const fields = Fields.ofJson(file, json);
  const architecture = readArchitecture(fields);
  readQuantization(fields);
  return isEncoderArchitecture(architecture)
    ? readEncoderConfig(fields, architecture)
    : readDecoderConfig(fields, architecture);
}

function readDecoderConfig(fields: Fields, architecture: DecoderArchitecture): DecoderConfig {
  const family = FAMILIES[architecture];
  const activation = fields.optionalString("hidden_act");
  if (activation !== undefined && activation !== "silu") {
    fields.fail("hidden_act", 'it must be "silu"');
  }

  const hiddenSize = fields.integer("hidden_size", SIZE_RULES.hiddenSize, 4096);
  const layerCount = fields.integer("num_hidden_layers", SIZE_RULES.layerCount, 32);
  const heads = readHeads(fields, family, hiddenSize);
  const maxPositionEmbeddings = fields.integer(
    "max_position_embeddings",
    SIZE_RULES.positions,
    family.maxPositionEmbeddings,
  );
  const rope = readRopeConfig(fields, { headDim: heads.headDim, maxPositionEmbeddings });
  const asksForBias = fields.boolean("attention_bias", false);
  const biasIsAsked = family.attentionBias === "attention_bias";
  return {
    kind: "decoder",
    architecture,
    head: family.head === "classifier"
      ? { kind: "classifier", labelCount: readLabelCount(fields) }
      : { kind: family.head },
    modelType: fields.optionalString("model_type") ?? family.modelType,
    vocabSize: fields.integer("vocab_size", SIZE_RULES.vocabSize, family.vocabSize),
    hiddenSize,
    intermediateSize: fields.integer(
      "intermediate_size",
      SIZE_RULES.intermediateSize,
      family.intermediateSize,
    ),
    layerCount,
    ...heads,
    rmsNormEpsilon: Math.fround(fields.number("rms_norm_eps", SIZE_RULES.epsilon, 1e-6)),
    maxPositionEmbeddings,
    contextLength: stretchedContext(maxPositionEmbeddings, rope),
    tieWordEmbeddings: fields.boolean("tie_word_embeddings", false),
    attentionBias: biasIsAsked ? asksForBias : true,
    attentionOutputBias: biasIsAsked ? asksForBias : false,
    mlpBias: family.mlpBias && fields.boolean("mlp_bias", false),
    qkNorm: family.qkNorm,
    windows: family.slidingWindows
      ? readWindows(fields, layerCount)
      : new Array<number>(layerCount).fill(0),
    rope,
    bosTokenId: fields.optionalInteger("bos_token_id", { min: 0 }) ??
      (fields.isNull("bos_token_id") ? undefined : family.bosTokenId),
    endTokenIds: fields.tokenIds("eos_token_id") ??
      (fields.isNull("eos_token_id") ? [] : family.endTokenIds),
    dtype: fields.optionalString("dtype") ?? fields.optionalString("torch_dtype"),
  };
}

/** The longest context that `rope` is meant for. */
export function stretchedContext(maxPositionEmbeddings: number, rope: RopeConfig): number {
  const { scaling } = rope;
  // A llama3 model states the stretched length itself; a yarn model may state either.
  const stretched = scaling.kind === "linear"
    ? maxPositionEmbeddings * scaling.factor
    : scaling.kind === "yarn"
    ? scaling.originalMaxPositions * scaling.factor
    : 0;
  return Math.min(Math.max(maxPositionEmbeddings, Math.floor(stretched)), SIZE_RULES.positions.max);
}

function readArchitecture(fields: Fields): Architecture {
  const supported = ARCHITECTURES.join(", ");
  const stated = fields.value("architectures");
  if (stated !== undefined) {
    const name = Array.isArray(stated) ? stated[0] : undefined;
    if (typeof name === "string" && ARCHITECTURES.includes(name)) return name as Architecture;
    fields.fail("architectures", `the supported architectures are ${supported}`);
  }
  const modelType = fields.optionalString("model_type");
  if (modelType === BERT_MODEL_TYPE) return "BertModel";
  for (const [name, family] of Object.entries(FAMILIES)) {
    if (family.modelType === modelType) return name as Architecture;
  }
  fields.fail("architectures", `it must name one of ${supported}`);
}

function readHeads(
  fields: Fields,
  family: Family,
  hiddenSize: number,
): Pick<DecoderConfig, "headCount" | "kvHeadCount" | "headDim"> {
  const headCount = fields.integer("num_attention_heads", SIZE_RULES.headCount, 32);
  // A null means "as many as heads" in every family; an absent key has the family's own default.
  const kvDefault = fields.isNull("num_key_value_heads") ? "headCount" : family.kvHeadCount;
  const kvHeadCount = fields.integer(
    "num_key_value_heads",
    SIZE_RULES.headCount,
    kvDefault === "headCount" ? headCount : kvDefault,
  );
  if (headCount % kvHeadCount !== 0) {
    fields.fail(
      "num_key_value_heads",
      `it must divide num_attention_heads ${headCount}` +
        (fields.value("num_key_value_heads") === undefined
          ? `; the default is ${kvHeadCount}`
          : ""),
    );
  }

  return { headCount, kvHeadCount, headDim: readHeadDim(fields, family, hiddenSize, headCount) };
}

function readHeadDim(
  fields: Fields,
  family: Family,
  hiddenSize: number,
  headCount: number,
): number {
  if (fields.value("head_dim") !== undefined) return fields.integer("head_dim", SIZE_RULES.headDim);
  if (family.headDim !== "hiddenSize / headCount") return family.headDim;
  const headDim = hiddenSize / headCount;
  if (!Number.isInteger(headDim) || headDim % 8 !== 0) {
    fields.fail(
      "num_attention_heads",
      `it makes heads of hidden_size ${hiddenSize} / ${headCount} = ${headDim}, ` +
        "which must be a multiple of 8, or head_dim must be given",
    );
  }
  return headDim;
}

/** An explicit list wins; else the layers from max_window_layers on slide, if the model slides at all. */
function readWindows(fields: Fields, layerCount: number): number[] {
  const slides = fields.boolean("use_sliding_window", false) && !fields.isNull("sliding_window");
  const window = slides ? fields.integer("sliding_window", SIZE_RULES.positions, 4096) : 0;
  const layerTypes = fields.value("layer_types");
  if (layerTypes === undefined) {
    const first = fields.integer("max_window_layers", { min: 0 }, 28);
    return Array.from({ length: layerCount }, (_, layer) => layer >= first ? window : 0);
  }
  if (!Array.isArray(layerTypes) || layerTypes.length !== layerCount) {
    fields.fail("layer_types", `it must be a list of num_hidden_layers ${layerCount} names`);
  }
  return layerTypes.map((layerType) => {
    if (layerType === "full_attention") return 0;
    if (layerType !== "sliding_attention") {
      fields.fail("layer_types", 'each must be "full_attention" or "sliding_attention"');
    }
    if (window === 0) {
      fields.fail(
        "layer_types",
        "sliding layers need use_sliding_window true and a sliding_window",
      );
    }
    return window;
  });
}
