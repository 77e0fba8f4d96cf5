/** config.json → a checked {@linkcode ModelConfig}: the border past which the numbers are trusted. */

import { readEncoderConfig } from "./encoder_config.ts";
import { FAMILIES, type Family } from "./families.ts";
import { readExperts } from "./read_experts.ts";
import { Fields } from "./fields.ts";
import { type DecoderConfig, type ModelConfig, SIZE_RULES } from "./model_config.ts";
import { readLabelCount } from "./label_count.ts";
import { readQuantization } from "./quantization_config.ts";
import type { RopeConfig } from "./rope.ts";
import { readRopeConfigs } from "./rope_config.ts";
import { readWindows } from "./layer_windows.ts";
import { type DecoderClass, readModelClass } from "./model_classes.ts";

/** Reads config.json, already parsed. `file` is its name for messages. */
export function readModelConfig(file: string, json: unknown): ModelConfig {
  const fields = Fields.ofJson(file, json);
  const { className, model } = readModelClass(fields);
  readQuantization(fields);
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
  if (family.statesRope && fields.object("rope_scaling") === undefined) {
    if (fields.object("rope_parameters") === undefined) {
      fields.fail("rope_parameters", "the file must say how positions are scaled");
    }
  }
  const asksForBias = family.attentionBiasKeys
    .map((key) => fields.boolean(key, family.attentionBiasDefault)).includes(true);
  const windows = readWindows(fields, layerCount, family.windows);
  const vocabSize = fields.integer("vocab_size", SIZE_RULES.vocabSize, family.vocabSize);
  const biasIsAsked = family.attentionBias.startsWith("attention_bias");
  return {
    kind: "decoder",
    architecture,
    className,
    head: head === "classifier"
      ? { kind: head, labelCount: readLabelCount(fields), dense: undefined, output: "score" }
      : { kind: head },
    modelType: fields.optionalString("model_type") ?? family.modelType,
    vocabSize,
    hiddenSize,
    intermediateSize: fields.integer(
      "intermediate_size",
      SIZE_RULES.intermediateSize,
      family.intermediateSize === "4 · hiddenSize" ? 4 * hiddenSize : family.intermediateSize,
    ),
    layerCount,
    aheadLayerCount: fields.integer(
      "num_nextn_predict_layers",
      { min: 0, max: SIZE_RULES.layerCount.max },
      0,
    ),
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
    attentionOutputBias: family.attentionBias === "attention_bias" && asksForBias,
    attentionSinks: family.attentionSinks,
    experts: readExperts(fields, layerCount, family.experts),
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
    bosTokenId: fields.optionalInteger("bos_token_id", { min: 0, max: vocabSize - 1 }) ??
      (fields.isNull("bos_token_id") ? undefined : family.bosTokenId),
    endTokenIds: fields.tokenIds("eos_token_id", vocabSize) ??
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

function readLayerCount(fields: Fields, { layerCount, layerCountKeys: keys }: Family): number {
  const [first, ...others] = keys.filter((key) => fields.value(key) !== undefined);
  if (first === undefined) return layerCount;
  const count = fields.integer(first, SIZE_RULES.layerCount);
  for (const key of others) {
    if (fields.integer(key, SIZE_RULES.layerCount) !== count) {
      fields.fail(key, `${first} is ${count}, and both must say the same`);
    }
  }
  return count;
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
