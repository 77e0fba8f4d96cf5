/** config.json → a checked {@linkcode ModelConfig}: the border past which the numbers are trusted. */

import { ENCODER_CLASSES, type EncoderClass, readEncoderConfig } from "./encoder_config.ts";
import { Fields } from "./fields.ts";
import {
  type DecoderArchitecture,
  type DecoderConfig,
  type HeadConfig,
  type ModelConfig,
  SIZE_RULES,
} from "./model_config.ts";
import { readLabelCount } from "./label_count.ts";
import type { RopeConfig } from "./rope.ts";
import { readRopeConfigs } from "./rope_config.ts";
import { readWindows, type WindowRule } from "./layer_windows.ts";

/** What the classes of one architecture assume where config.json is silent, and what they always do. */
interface Family {
  readonly modelType: string;
  /** What the names of its other classes begin with. Default: as that of its class here. */
  readonly stem?: string;
  readonly vocabSize: number;
  readonly intermediateSize: "4 · hiddenSize" | number;
  readonly maxPositionEmbeddings: number;
  readonly kvHeadCount: "headCount" | number;
  readonly headDim: "hiddenSize / headCount" | number;
  /** Which projections `attention_bias` gives a bias; Qwen2 does not ask. */
  readonly attentionBias: "attention_bias" | "always on q, k and v" | "none";
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

const FAMILIES: Readonly<Record<DecoderArchitecture, Family>> = {
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
  ExaoneForCausalLM: {
    ...COMMON,
    modelType: "exaone",
    vocabSize: 102_400,
    hiddenSize: 2048,
    intermediateSize: "4 · hiddenSize",
    maxPositionEmbeddings: 2048,
    kvHeadCount: "headCount",
    attentionBias: "attention_bias",
    mlpBias: true,
    activation: { key: "activation_function", name: "silu", kind: "silu" },
    epsilonKey: "layer_norm_epsilon",
    tieWordEmbeddings: true,
    bosTokenId: 0,
    endTokenIds: [2],
  },
  Exaone4ForCausalLM: {
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

/** A class of decoders that config.json may name. */
interface DecoderClass {
  readonly kind: "decoder";
  readonly architecture: DecoderArchitecture;
  readonly head: HeadConfig["kind"];
}

/** Every class that can be run, by its name: each family with a language head, without one, or with a classifier. */
const CLASSES = new Map<string, DecoderClass | EncoderClass>([
  ...Object.entries(FAMILIES).flatMap(([name, { stem = name.replace(/ForCausalLM$/, "") }]) => {
    const architecture = name as DecoderArchitecture;
    return ([
      [name, "language"],
      [`${stem}Model`, "none"],
      [`${stem}ForSequenceClassification`, "classifier"],
    ] as const).map(([className, head]) =>
      [className, { kind: "decoder", architecture, head }] as const
    );
  }),
  ...ENCODER_CLASSES,
]);

/** The supported architectures, for messages. */
export const ARCHITECTURES: readonly string[] = [...CLASSES.keys()];

/** Reads config.json, already parsed. `file` is its name for messages. */
export function readModelConfig(file: string, json: unknown): ModelConfig {
  const fields = Fields.ofJson(file, json);
  const className = readClassName(fields);
  const model = CLASSES.get(className) as DecoderClass | EncoderClass;
  checkModelType(fields, className, model);
  refuseQuantized(fields);
  return model.kind === "encoder"
    ? readEncoderConfig(fields, className, model)
    : readDecoderConfig(fields, className, model);
}

function readDecoderConfig(
  fields: Fields,
  className: string,
  { architecture, head }: DecoderClass,
): DecoderConfig {
  const family = FAMILIES[architecture];
  const { activation } = family;
  if ((fields.optionalString(activation.key) ?? activation.name) !== activation.name) {
    fields.fail(activation.key, `it must be "${activation.name}"`);
  }
  refuseWhatIsNotBuilt(fields);

  const hiddenSize = fields.integer("hidden_size", SIZE_RULES.hiddenSize, family.hiddenSize);
  const layerCount = readLayerCount(fields, family);
  const heads = readHeads(fields, family, hiddenSize);
  const maxPositionEmbeddings = fields.integer(
    "max_position_embeddings",
    SIZE_RULES.positions,
    family.maxPositionEmbeddings,
  );
  const { rope, slidingRope } = readRopeConfigs(fields, {
    headDim: heads.headDim,
    maxPositionEmbeddings,
    theta: family.ropeTheta,
  });
  const asksForBias = readsBias(fields, family);
  const windows = readWindows(fields, layerCount, family.windows);
  const biasIsAsked = family.attentionBias === "attention_bias";
  return {
    kind: "decoder",
    architecture,
    className,
    head: head === "classifier"
      ? { kind: head, labelCount: readLabelCount(fields), dense: undefined, output: "score" }
      : { kind: head },
    modelType: fields.optionalString("model_type") ?? family.modelType,
    vocabSize: fields.integer("vocab_size", SIZE_RULES.vocabSize, family.vocabSize),
    hiddenSize,
    intermediateSize: fields.integer(
      "intermediate_size",
      SIZE_RULES.intermediateSize,
      family.intermediateSize === "4 · hiddenSize" ? 4 * hiddenSize : family.intermediateSize,
    ),
    layerCount,
    ...heads,
    rmsNormEpsilon: Math.fround(
      fields.number(family.epsilonKey, SIZE_RULES.epsilon, family.rmsNormEpsilon),
    ),
    maxPositionEmbeddings,
    // A family with two settings states the stretched length itself.
    contextLength: slidingRope === undefined
      ? stretchedContext(maxPositionEmbeddings, rope)
      : maxPositionEmbeddings,
    tieWordEmbeddings: fields.boolean("tie_word_embeddings", family.tieWordEmbeddings),
    attentionBias: biasIsAsked ? asksForBias : family.attentionBias !== "none",
    attentionOutputBias: biasIsAsked ? asksForBias : false,
    mlpBias: family.mlpBias && fields.boolean("mlp_bias", false),
    norms: family.norms,
    normOffset: family.normOffset,
    activation: activation.kind,
    attentionScale: readAttentionScale(fields, family, heads.headDim),
    qkNorm: family.qkNorm,
    windows,
    rope,
    slidingRope,
    fullLayersRotate: family.fullLayersRotate || windows.every((window) => window === 0),
    embeddingScale: family.scalesEmbedding ? Math.sqrt(hiddenSize) : 1,
    roundsEmbeddingScale: family.scalesEmbedding,
    logitSoftcap: family.capsLogits
      ? fields.optionalNumber("final_logit_softcapping", { min: 0, aboveMin: true }) ?? 0
      : 0,
    bosTokenId: fields.optionalInteger("bos_token_id", { min: 0 }) ??
      (fields.isNull("bos_token_id") ? undefined : family.bosTokenId),
    endTokenIds: fields.tokenIds("eos_token_id") ??
      (fields.isNull("eos_token_id") ? [] : family.endTokenIds),
    dtype: fields.optionalString("dtype") ?? fields.optionalString("torch_dtype"),
  };
}

/** Fields of the families' files that would change what is computed, and that no graph here follows. */
function refuseWhatIsNotBuilt(fields: Fields): void {
  if (fields.boolean("use_bidirectional_attention", false)) {
    fields.fail("use_bidirectional_attention", "a decoder's tokens see those before them only");
  }
  if (fields.optionalNumber("attn_logit_softcapping", {}) !== undefined) {
    fields.fail("attn_logit_softcapping", "it must be null, as the family's scores are not capped");
  }
  if (fields.number("logit_scale", {}, 1) !== 1) fields.fail("logit_scale", "it must be 1");
}

function readAttentionScale(fields: Fields, { queryScalar }: Family, headDim: number): number {
  if (queryScalar === undefined) return 1 / Math.sqrt(headDim);
  const rule = { min: 0, aboveMin: true };
  return 1 / Math.sqrt(fields.number("query_pre_attn_scalar", rule, queryScalar));
}

/** The longest context that `rope` is meant for. */
export function stretchedContext(maxPositionEmbeddings: number, rope: RopeConfig): number {
  const { scaling } = rope;
  // A llama3 or longrope model states the stretched length itself; a yarn model may state either.
  const stretched = scaling.kind === "linear" || scaling.kind === "dynamic"
    ? maxPositionEmbeddings * scaling.factor
    : scaling.kind === "yarn"
    ? scaling.originalMaxPositions * scaling.factor
    : 0;
  return Math.min(Math.max(maxPositionEmbeddings, Math.floor(stretched)), SIZE_RULES.positions.max);
}

/** The first name that is stated; where none is, that of the family's main class. */
function readClassName(fields: Fields): string {
  const supported = ARCHITECTURES.join(", ");
  const stated = fields.value("architectures");
  if (stated !== undefined) {
    const name = Array.isArray(stated) ? stated[0] : undefined;
    if (typeof name === "string" && CLASSES.has(name)) return name;
    fields.fail("architectures", `the supported architectures are ${supported}`);
  }
  const modelType = fields.optionalString("model_type");
  for (const [name, model] of CLASSES) {
    if (modelTypeOf(model) === modelType) return name;
  }
  fields.fail("architectures", `it must name one of ${supported}`);
}

/** A name of another family would mean that one of the two is wrong. */
function checkModelType(
  fields: Fields,
  className: string,
  model: DecoderClass | EncoderClass,
): void {
  const stated = fields.optionalString("model_type");
  const own = modelTypeOf(model);
  // The classes of these two are the same, and old files mix their names up.
  const known = (type: string) => type === "xlm-roberta" ? "roberta" : type;
  if (stated === undefined || known(stated) === known(own)) return;
  const others = new Set([...CLASSES.values()].map(modelTypeOf));
  if (others.has(stated)) {
    fields.fail("model_type", `architectures names ${className}, whose model_type is "${own}"`);
  }
}

function modelTypeOf(model: DecoderClass | EncoderClass): string {
  return model.kind === "decoder" ? FAMILIES[model.architecture].modelType : model.modelType;
}

/** The first generation of EXAONE says num_layers; newer versions of its class write both. */
function readLayerCount(fields: Fields, { modelType, layerCount }: Family): number {
  const key = "num_hidden_layers";
  if (modelType !== "exaone") return fields.integer(key, SIZE_RULES.layerCount, layerCount);
  const older = fields.integer("num_layers", SIZE_RULES.layerCount, layerCount);
  if (fields.value(key) === undefined) return older;
  const newer = fields.integer(key, SIZE_RULES.layerCount);
  if (fields.value("num_layers") !== undefined && newer !== older) {
    fields.fail(key, `num_layers is ${older}, and both must say the same`);
  }
  return newer;
}

function readsBias(fields: Fields, { modelType }: Family): boolean {
  const asks = fields.boolean("attention_bias", false);
  return modelType === "exaone" ? asks || fields.boolean("bias", false) : asks;
}

function refuseQuantized(fields: Fields): void {
  for (const key of ["quantization_config", "compression_config"]) {
    if (fields.value(key) !== undefined) {
      fields.fail(
        key,
        "quantized safetensors cannot be read; take the F32, F16 or BF16 checkpoint, " +
          "or a GGUF file of Q8_0, Q4_0 or Q4_1",
      );
    }
  }
}

function readHeads(
  fields: Fields,
  family: Family,
  hiddenSize: number,
): Pick<DecoderConfig, "headCount" | "kvHeadCount" | "headDim"> {
  const headCount = fields.integer("num_attention_heads", SIZE_RULES.headCount, family.headCount);
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
