/** GGUF metadata → the same checked {@linkcode DecoderConfig} that a config.json gives. */

import { stretchedContext } from "./config.ts";
import { Fields, type NumberRule } from "./fields.ts";
import type { GgufHeader, GgufValue } from "./formats/gguf.ts";
import { readGgufExperts } from "./gguf_experts.ts";
import type { GenerationDefaults } from "./generation_config.ts";
import { slidesInPeriod } from "./layer_windows.ts";
import { type DecoderArchitecture, type DecoderConfig, SIZE_RULES } from "./model_config.ts";
import type { RopeConfig, RopeScaling } from "./rope.ts";
import { yarnMagnitude } from "./rope_config.ts";

/** By `general.architecture`. Mistral and SmolLM2 call themselves llama too. */
const ARCHITECTURE_BY_NAME: Readonly<Record<string, DecoderArchitecture>> = {
  llama: "LlamaForCausalLM",
  qwen2: "Qwen2ForCausalLM",
  qwen3: "Qwen3ForCausalLM",
  qwen3moe: "Qwen3MoeForCausalLM",
  "gpt-oss": "GptOssForCausalLM",
  exaone: "ExaoneForCausalLM",
  exaone4: "Exaone4ForCausalLM",
  "exaone-moe": "ExaoneMoeForCausalLM",
  gemma3: "Gemma3ForCausalLM",
};

/** Gemma 3 with so many layers, the one of 27B, divides scores by √(hiddenSize / headCount). */
const GEMMA3_27B_LAYERS = 62;

/** EXAONE 4 with so many layers, the one of 32B, slides even if the file has no pattern. */
const EXAONE4_32B_LAYERS = 64;

/** Control tokens with these texts end an answer, whichever single id the file calls its end token. */
const END_TOKEN_TEXTS: ReadonlySet<string> = new Set([
  "<|im_end|>",
  "<|endoftext|>",
  "<|end_of_text|>",
  "<|eot_id|>",
  "<|eom_id|>",
  "<|end|>",
  "<|return|>",
  "<|call|>",
  "<|calls|>",
  "<|flush|>",
  "<end_of_turn>",
  "<eos>",
  "</s>",
]);

/** Architectures with norms on queries and keys. */
const QK_NORM: ReadonlySet<string> = new Set([
  "qwen3",
  "qwen3moe",
  "exaone4",
  "exaone-moe",
  "gemma3",
]);

const THETA_RULE = { min: 1, max: 1e12, aboveMin: true };

/** The `tokenizer.ggml.token_type` of control tokens. */
const CONTROL_TOKEN = 3;

/** Reads the config of one file. `divisors` are the values of its rope_freqs.weight, if it has one. */
export function readGgufConfig(
  file: string,
  { metadata, tensors }: GgufHeader,
  divisors: readonly number[] | undefined,
): DecoderConfig {
  const fields: Fields = new Fields(file, (key) => metadata.get(key));
  const modelType = fields.optionalString("general.architecture") ?? "";
  const architecture = Object.hasOwn(ARCHITECTURE_BY_NAME, modelType)
    ? ARCHITECTURE_BY_NAME[modelType]
    : undefined;
  if (architecture === undefined) {
    const supported = Object.keys(ARCHITECTURE_BY_NAME).join(", ");
    fields.fail("general.architecture", `the supported architectures are ${supported}`);
  }
  const key = (name: string) => `${modelType}.${name}`;
  refuseWhatIsNotBuilt(fields, key);

  const hiddenSize = fields.integer(key("embedding_length"), SIZE_RULES.hiddenSize);
  const blockCount = fields.integer(key("block_count"), SIZE_RULES.layerCount);
  // Layers at the end that guess tokens further ahead are no part of the model.
  const aheadCount = fields.integer(
    key("nextn_predict_layers"),
    { min: 0, max: blockCount - 1 },
    0,
  );
  const layerCount = blockCount - aheadCount;
  const perLayer = (name: string, rule: NumberRule, fallback?: number) =>
    readUniform(fields, key(name), layerCount, rule, fallback);
  const headCount = perLayer("attention.head_count", SIZE_RULES.headCount);
  const kvHeadCount = perLayer("attention.head_count_kv", SIZE_RULES.headCount, headCount);
  if (headCount % kvHeadCount !== 0) {
    fields.fail(key("attention.head_count_kv"), `it must divide the head count ${headCount}`);
  }
  const headDim = readHeadDim(fields, key, hiddenSize / headCount);
  const maxPositionEmbeddings = fields.integer(key("context_length"), SIZE_RULES.positions);
  const rope = readRope(fields, key, { headDim, maxPositionEmbeddings, divisors });
  const windows = readGgufWindows(fields, key, { modelType, layerCount });
  const isGemma = modelType === "gemma3";
  const scale = 1 /
    Math.sqrt(isGemma && layerCount === GEMMA3_27B_LAYERS ? hiddenSize / headCount : headDim);
  return {
    kind: "decoder",
    head: { kind: "language" },
    architecture,
    className: architecture,
    modelType,
    // The embedding's rows decide: the key of the same name is often missing.
    vocabSize: tensors.get("token_embd.weight")?.shape[0] ??
      fields.fail("token_embd.weight", "the token embedding must be among its tensors"),
    hiddenSize,
    // A model of experts alone need not say it.
    intermediateSize: perLayer(
      "feed_forward_length",
      SIZE_RULES.intermediateSize,
      fields.optionalInteger(key("expert_feed_forward_length"), SIZE_RULES.intermediateSize),
    ),
    layerCount,
    aheadLayerCount: aheadCount,
    headCount,
    kvHeadCount,
    headDim,
    rmsNormEpsilon: Math.fround(
      fields.number(key("attention.layer_norm_rms_epsilon"), SIZE_RULES.epsilon),
    ),
    maxPositionEmbeddings,
    contextLength: isGemma ? maxPositionEmbeddings : stretchedContext(maxPositionEmbeddings, rope),
    tieWordEmbeddings: !tensors.has("output.weight"),
    attentionBias: modelType === "qwen2" || tensors.has("blk.0.attn_q.bias"),
    attentionOutputBias: tensors.has("blk.0.attn_output.bias"),
    mlpBias: tensors.has("blk.0.ffn_gate.bias"),
    norms: isGemma ? "around" : modelType === "exaone4" ? "after" : "before",
    // The converter has added it.
    normOffset: 0,
    activation: isGemma ? "geluTanh" : "silu",
    attentionScale: fields.optionalNumber(key("attention.scale"), { min: 0, aboveMin: true }) ??
      scale,
    qkNorm: QK_NORM.has(modelType),
    windows,
    rope,
    slidingRope: isGemma
      ? {
        theta: fields.number(key("rope.freq_base_swa"), THETA_RULE, 10_000),
        rotaryDim: rope.rotaryDim,
        scaling: { kind: "none" },
      }
      : undefined,
    fullLayersRotate: !modelType.startsWith("exaone") || windows.every((window) => window === 0),
    // llama.cpp, whose files these are, keeps it in float32.
    embeddingScale: isGemma ? Math.sqrt(hiddenSize) : 1,
    roundsEmbeddingScale: false,
    attentionSinks: modelType === "gpt-oss",
    experts: readGgufExperts(fields, tensors, { modelType, layerCount }),
    logitSoftcap: isGemma
      ? fields.optionalNumber(key("final_logit_softcapping"), { min: 0 }) ?? 0
      : 0,
    bosTokenId: fields.optionalInteger("tokenizer.ggml.bos_token_id", { min: 0 }),
    endTokenIds: readEndTokenIds(fields, metadata),
    dtype: undefined,
  };
}

/** Settings that would change what is computed, and that no graph here follows. */
function refuseWhatIsNotBuilt(fields: Fields, key: (name: string) => string): void {
  if (!fields.boolean(key("attention.causal"), true)) {
    fields.fail(key("attention.causal"), "a decoder's tokens see those before them only");
  }
  if (fields.number(key("attn_logit_softcapping"), {}, 0) !== 0) {
    fields.fail(key("attn_logit_softcapping"), "it must be 0, as scores are not capped");
  }
  if (![0, 1].includes(fields.number(key("logit_scale"), {}, 1))) {
    fields.fail(key("logit_scale"), "it must be 1");
  }
  if (fields.integer(key("expert_group_count"), { min: 0 }, 1) > 1) {
    fields.fail(key("expert_group_count"), "experts are chosen among all of a layer");
  }
}

/** The window of each layer: a period of layers, of which the last sees everything, or a list. */
function readGgufWindows(
  fields: Fields,
  key: (name: string) => string,
  { modelType, layerCount }: { readonly modelType: string; readonly layerCount: number },
): number[] {
  const patternKey = key("attention.sliding_window_pattern");
  const pattern = fields.value(patternKey);
  const windowKey = key("attention.sliding_window");
  const isLarge = modelType === "exaone4" && layerCount === EXAONE4_32B_LAYERS;
  const window = fields.integer(
    windowKey,
    { min: 0, max: SIZE_RULES.positions.max },
    isLarge ? 4096 : modelType === "gpt-oss" || modelType === "exaone-moe" ? undefined : 0,
  );
  if (Array.isArray(pattern)) {
    if (pattern.length !== layerCount || pattern.some((slides) => typeof slides !== "boolean")) {
      fields.fail(patternKey, `it must be a number or ${layerCount} booleans, one a layer`);
    }
    return pattern.map((slides) => slides ? window : 0);
  }
  const period = fields.optionalInteger(patternKey, { min: 0 }) ??
    (modelType === "gpt-oss"
      ? 2
      : modelType === "exaone-moe"
      ? 4
      : modelType === "gemma3"
      ? 6
      : isLarge
      ? 4
      : modelType === "exaone4"
      ? 1
      : 0);
  // Without a period, as Mistral's files are, all layers slide.
  return Array.from(
    { length: layerCount },
    (_, layer) => period === 0 || slidesInPeriod(layer, period) ? window : 0,
  );
}

/** Reads `general.sampling.*`, what GGUF has in place of a generation_config.json. */
export function readGgufGeneration(
  file: string,
  metadata: ReadonlyMap<string, GgufValue>,
  endTokenIds: readonly number[],
): GenerationDefaults {
  const fields = new Fields(file, (key) => metadata.get(key));
  const number = (name: string, rule: NumberRule) =>
    fields.optionalNumber(`general.sampling.${name}`, rule);
  const temperature = number("temp", { min: 0 });
  const topK = fields.optionalInteger("general.sampling.top_k", { min: -1 });
  const topP = number("top_p", { min: 0, max: 1, aboveMin: true });
  const minP = number("min_p", { min: 0, max: 1 });
  const repetitionPenalty = number("penalty_repeat", { min: 0, aboveMin: true });
  return {
    ...(temperature !== undefined && { temperature }),
    ...(topP !== undefined && { topP }),
    ...(topK !== undefined && { topK }),
    ...(minP !== undefined && { minP }),
    ...(repetitionPenalty !== undefined && { repetitionPenalty }),
    endTokenIds,
  };
}

/** A number, or a list of one number a layer; a graph here has the same for all of them. */
function readUniform(
  fields: Fields,
  key: string,
  layerCount: number,
  rule: NumberRule,
  fallback?: number,
): number {
  const value = fields.value(key);
  if (!Array.isArray(value)) return fields.integer(key, rule, fallback);
  if (value.length !== layerCount || value.some((item) => item !== value[0])) {
    fields.fail(key, `it must be one number, the same for all ${layerCount} layers`);
  }
  return new Fields(fields.file, () => value[0]).integer(key, rule);
}

function readHeadDim(fields: Fields, key: (name: string) => string, derived: number): number {
  const keyLength = key("attention.key_length");
  if (fields.value(keyLength) === undefined && (!Number.isInteger(derived) || derived % 8 !== 0)) {
    fields.fail(
      key("attention.head_count"),
      `it makes heads of ${derived}, which must be a multiple of 8, or ${keyLength} must be given`,
    );
  }
  const headDim = fields.integer(keyLength, SIZE_RULES.headDim, derived);
  const valueLength = key("attention.value_length");
  if (fields.integer(valueLength, SIZE_RULES.headDim, headDim) !== headDim) {
    fields.fail(valueLength, `it must be the key length ${headDim}`);
  }
  return headDim;
}

function readRope(
  fields: Fields,
  key: (name: string) => string,
  facts: {
    readonly headDim: number;
    readonly maxPositionEmbeddings: number;
    readonly divisors: readonly number[] | undefined;
  },
): RopeConfig {
  const rotaryDim = fields.integer(
    key("rope.dimension_count"),
    { min: 8, max: facts.headDim, multipleOf: 8 },
    facts.headDim,
  );
  const theta = fields.number(key("rope.freq_base"), THETA_RULE, 10_000);
  const scaling = readScaling(fields, key, facts.maxPositionEmbeddings);
  if (facts.divisors === undefined) return { theta, rotaryDim, scaling };
  if (scaling.kind !== "none") {
    fields.fail(
      key("rope.scaling.type"),
      "rope_freqs.weight says how to scale, so it must be none",
    );
  }
  const isUsable = (divisor: number) => divisor > 0 && Number.isFinite(divisor);
  if (facts.divisors.length !== rotaryDim / 2 || !facts.divisors.every(isUsable)) {
    fields.fail("rope_freqs.weight", `it must hold ${rotaryDim / 2} numbers above 0`);
  }
  return { theta, rotaryDim, scaling: { kind: "divisors", divisors: facts.divisors } };
}

function readScaling(
  fields: Fields,
  key: (name: string) => string,
  maxPositionEmbeddings: number,
): RopeScaling {
  const typeKey = key("rope.scaling.type");
  const factorKey = key("rope.scaling.factor");
  const legacyKey = key("rope.scale_linear"); // before there were types
  const factorRule = { min: 1, max: 10_000 };
  if (fields.value(typeKey) === undefined && fields.value(legacyKey) !== undefined) {
    const factor = fields.number(legacyKey, factorRule);
    return factor === 1 ? { kind: "none" } : { kind: "linear", factor };
  }
  // llama.cpp, whose files these are, takes a factor without a type for a linear one.
  const untyped = fields.value(factorKey) === undefined ? "none" : "linear";
  const type = fields.optionalString(typeKey) ?? untyped;
  switch (type) {
    case "none":
      return { kind: "none" };
    case "linear":
      return { kind: "linear", factor: fields.number(factorKey, factorRule) };
    case "yarn": {
      const factor = fields.number(factorKey, factorRule);
      const stated = fields.number(key("rope.scaling.attn_factor"), { min: 0, aboveMin: true }, 1);
      const betaSlow = fields.number(
        key("rope.scaling.yarn_beta_slow"),
        { min: 0, aboveMin: true },
        1,
      );
      return {
        kind: "yarn",
        factor,
        // The file's factor comes on top of YaRN's own, unlike the one in config.json.
        attentionFactor: stated * yarnMagnitude(factor, 1),
        betaFast: fields.number(key("rope.scaling.yarn_beta_fast"), { min: betaSlow }, 32),
        betaSlow,
        // llama.cpp has no setting for it; GPT-OSS was made without.
        truncate: !typeKey.startsWith("gpt-oss."),
        originalMaxPositions: fields.integer(
          key("rope.scaling.original_context_length"),
          SIZE_RULES.positions,
          maxPositionEmbeddings,
        ),
      };
    }
    default:
      fields.fail(typeKey, 'it must be "none", "linear" or "yarn"');
  }
}

/** The file's end tokens, the first one foremost, and every control token that is known as one. */
function readEndTokenIds(
  fields: Fields,
  metadata: ReadonlyMap<string, GgufValue>,
): readonly number[] {
  const ids = new Set<number>();
  for (const name of ["eos", "eot", "eom"]) {
    const id = fields.optionalInteger(`tokenizer.ggml.${name}_token_id`, { min: 0 });
    if (id !== undefined) ids.add(id);
  }
  const texts = metadata.get("tokenizer.ggml.tokens");
  const types = metadata.get("tokenizer.ggml.token_type");
  if (Array.isArray(texts) && Array.isArray(types)) {
    types.forEach((type, id) => {
      if (type === CONTROL_TOKEN && END_TOKEN_TEXTS.has(texts[id])) ids.add(id);
    });
  }
  return [...ids];
}
