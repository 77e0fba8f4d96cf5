/** config.json → a checked {@linkcode ModelConfig}: the border past which the numbers are trusted. */

import { Fields, type NumberRule } from "./fields.ts";
import type { RopeConfig } from "./rope.ts";
import { readRopeConfig } from "./rope_config.ts";

/** The architectures that can be run. */
export type Architecture = "LlamaForCausalLM" | "Qwen2ForCausalLM" | "Qwen3ForCausalLM";

/** A decoder's shape and settings, whichever file they came from. Plain data. */
export interface ModelConfig {
  readonly architecture: Architecture;
  readonly modelType: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layerCount: number;
  readonly headCount: number;
  /** Divides headCount. */
  readonly kvHeadCount: number;
  /** A multiple of 8; headCount · headDim need not be hiddenSize. */
  readonly headDim: number;
  /** Rounded to float32, as every framework uses it. */
  readonly rmsNormEpsilon: number;
  readonly maxPositionEmbeddings: number;
  /** The longest context the rope settings are meant for: maxPositionEmbeddings, stretched. */
  readonly contextLength: number;
  readonly tieWordEmbeddings: boolean;
  /** Query, key and value projections have a bias. */
  readonly attentionBias: boolean;
  /** The attention's output projection has a bias. */
  readonly attentionOutputBias: boolean;
  readonly mlpBias: boolean;
  /** Queries and keys pass a norm, head by head, before they rotate. */
  readonly qkNorm: boolean;
  /** One a layer: how many keys a query sees, itself included. 0: all of them. */
  readonly windows: readonly number[];
  readonly rope: RopeConfig;
  readonly bosTokenId: number | undefined;
  /** What the config itself says ends an answer. May be empty. */
  readonly endTokenIds: readonly number[];
  /** The precision the config states, if it does; each tensor says its own. */
  readonly dtype: string | undefined;
}

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
  /** An epsilon of 0 would divide by zero on a row of zeros. */
  epsilon: { min: 0, max: 1, aboveMin: true },
};

/** What the classes of one architecture assume where config.json is silent, and what they always do. */
interface Family {
  readonly modelType: string;
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

const FAMILIES: Readonly<Record<Architecture, Family>> = {
  LlamaForCausalLM: {
    modelType: "llama",
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
  Qwen3ForCausalLM: {
    ...QWEN2,
    modelType: "qwen3",
    headDim: 128,
    attentionBias: "attention_bias",
    qkNorm: true,
  },
};

/** The supported architectures, for messages. */
export const ARCHITECTURES: readonly string[] = Object.keys(FAMILIES);

/** Reads config.json, already parsed. `file` is its name for messages. */
export function readModelConfig(file: string, json: unknown): ModelConfig {
  const fields = Fields.ofJson(file, json);
  const architecture = readArchitecture(fields);
  const family = FAMILIES[architecture];
  refuseWhatIsNotBuilt(fields);

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
    architecture,
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
    if (typeof name === "string" && Object.hasOwn(FAMILIES, name)) return name as Architecture;
    fields.fail("architectures", `the supported architectures are ${supported}`);
  }
  const modelType = fields.optionalString("model_type");
  for (const [name, family] of Object.entries(FAMILIES)) {
    if (family.modelType === modelType) return name as Architecture;
  }
  fields.fail("architectures", `it must name one of ${supported}`);
}

function refuseWhatIsNotBuilt(fields: Fields): void {
  for (const key of ["quantization_config", "compression_config"]) {
    if (fields.value(key) !== undefined) {
      fields.fail(
        key,
        "quantized safetensors cannot be read; take the F32, F16 or BF16 checkpoint, " +
          "or a GGUF file of Q8_0, Q4_0 or Q4_1",
      );
    }
  }
  const activation = fields.optionalString("hidden_act");
  if (activation !== undefined && activation !== "silu") {
    fields.fail("hidden_act", 'it must be "silu"');
  }
}

function readHeads(
  fields: Fields,
  family: Family,
  hiddenSize: number,
): Pick<ModelConfig, "headCount" | "kvHeadCount" | "headDim"> {
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
