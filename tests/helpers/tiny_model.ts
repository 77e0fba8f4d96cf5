/** Writes the tiny golden models as real checkpoints, so that loading is real too. */

import { readModelConfig } from "../../lib/models/config.ts";
import { expectedTensors } from "../../lib/models/expected_tensors.ts";
import { ggufName } from "../../lib/models/gguf_checkpoint.ts";
import { ggufBytes, type GgufEntry, type GgufPart } from "./gguf_writer.ts";
import type { DecoderConfig } from "../../lib/models/model_config.ts";
import type { GoldenEncoder, GoldenModel } from "./golden_models.ts";
import { type ExpertForm, gptOssValues, stackExperts, storeExperts } from "./tiny_experts.ts";
import { safetensorsBytes, type SafetensorsPart } from "./safetensors_writer.ts";
import { type TinyTensor, tinyValues } from "./tiny_values.ts";
import {
  TINY_CHAT_TEMPLATE,
  TINY_MERGES,
  TINY_SPECIAL_TOKENS,
  tinyTokenizerConfig,
  tinyTokenizerJson,
  tinyTokens,
} from "./tiny_tokenizer_files.ts";

export { tinyBytes, type TinyTensor, tinyValues } from "./tiny_values.ts";

/** What is written: of a golden case all but its expected values. */
export type TinyModel = Omit<GoldenModel | GoldenEncoder, "expect">;

/** How {@linkcode writeTinyModel} writes. */
export interface TinyModelOptions {
  /** Default "F32". Every value is exact in all three. */
  readonly dtype?: "F32" | "F16" | "BF16";
  /** Files that the tensors are split over. Default 1: one file without an index. */
  readonly shards?: number;
  /** Of the rotary settings in config.json. Default "v4". */
  readonly ropeSpelling?: "v4" | "v5";
  /** Write tokenizer.json and tokenizer_config.json. Default true. */
  readonly tokenizer?: boolean;
  /** What a file calls a tensor. Default: as the config calls for it. */
  readonly rename?: (name: string) => string;
  /** Values of tensors by name. Default: those that follow from the name. */
  readonly values?: Readonly<Record<string, Float32Array>>;
  /** How experts are stored. Default: each on its own, and those of GPT-OSS in MXFP4. */
  readonly experts?: ExpertForm;
  /** Tensors that no config calls for. Default: none. */
  readonly extra?: readonly TinyTensor[];
  /** What is written in place of a tensor; undefined: the tensor itself. Default: nothing is. */
  readonly replace?: (tensor: TinyTensor) => readonly SafetensorsPart[] | undefined;
}

/**
 * Writes a golden case into the folder `dir`, which is made if it is missing:
 *
 *     const dir = Deno.makeTempDirSync();
 *     writeTinyModel(dir, goldenModel("llama"), { dtype: "BF16", shards: 3 });
 *     await using llm = await LLM.load(dir);
 */
export function writeTinyModel(
  dir: string,
  golden: TinyModel,
  options: TinyModelOptions = {},
): void {
  const { dtype = "F32", shards = 1, ropeSpelling = "v4", tokenizer = true } = options;
  Deno.mkdirSync(dir, { recursive: true });
  const { experts: form = golden.model_type === "gpt_oss" ? "mxfp4" : "single" } = options;
  writeJson(`${dir}/config.json`, {
    ...tinyConfig(golden, ropeSpelling),
    ...form === "mxfp4" && { quantization_config: { quant_method: "mxfp4" } },
  });
  writeJson(`${dir}/generation_config.json`, { bos_token_id: 1, eos_token_id: [2, 0] });
  if (tokenizer) {
    writeJson(`${dir}/tokenizer.json`, tinyTokenizerJson());
    writeJson(`${dir}/tokenizer_config.json`, tinyTokenizerConfig());
  }
  const { rename = (name) => name, extra = [], values: given = {} } = options;
  const config = readModelConfig("config.json", tinyConfig(golden));
  const own = config.kind === "decoder"
    ? storeExperts(tinyTensors(golden), config, form)
    : tinyTensors(golden);
  const tensors = [...own, ...extra];
  const { replace = () => undefined } = options;
  const parts = tensors.flatMap((tensor): readonly SafetensorsPart[] => {
    if ("bytes" in tensor) return [tensor];
    const { name, shape, values } = tensor;
    return replace(tensor) ??
      [{
        name: rename(diskName(golden, name)),
        dtype,
        shape,
        bytes: encodeValues(given[name] ?? values, dtype),
      }];
  });
  if (shards === 1) Deno.writeFileSync(`${dir}/model.safetensors`, safetensorsBytes(parts));
  else writeShards(dir, parts, shards);
}

/**
 * Writes a golden case as one GGUF file of F32, tokenizer and template inside. GGUF has no words for
 * the window of `qwen2`, on one layer only.
 */
export function writeTinyGguf(path: string, golden: GoldenModel): void {
  Deno.writeFileSync(path, tinyGgufBytes(golden));
}

/** The same file in memory. `change` may touch its metadata and tensors first. */
export function tinyGgufBytes(
  golden: GoldenModel,
  change: (file: { metadata: Map<string, GgufEntry>; tensors: GgufPart[] }) => void = () => {},
): Uint8Array<ArrayBuffer> {
  const config = readModelConfig("config.json", tinyConfig(golden)) as DecoderConfig;
  const { headCount, kvHeadCount, headDim, normOffset } = config;
  const stacks = stackExperts(tinyTensors(golden), config);
  const tensors = stacks.map(({ name, shape, values }): GgufPart => {
    if (ggufArchitecture(golden) !== "llama") {
      const isNorm = name.endsWith("norm.weight");
      const stored = isNorm ? values.map((value) => value + normOffset) : values;
      return { name: ggufName(name, config), typeId: 0, shape, bytes: encodeValues(stored, "F32") };
    }
    const heads = name.includes(".q_proj.")
      ? headCount
      : name.includes(".k_proj.")
      ? kvHeadCount
      : 0;
    const rows = heads === 0 ? values : pairRows(values, heads, headDim, shape[1] ?? 1);
    return { name: ggufName(name, config), typeId: 0, shape, bytes: encodeValues(rows, "F32") };
  });
  const divisors = llama3Divisors(golden, headDim);
  if (divisors !== undefined) {
    const bytes = encodeValues(divisors, "F32");
    tensors.push({ name: "rope_freqs.weight", typeId: 0, shape: [divisors.length], bytes });
  }
  const file = { metadata: tinyMetadata(golden), tensors };
  change(file);
  return ggufBytes([...file.metadata], file.tensors);
}

/** The content of config.json. */
export function tinyConfig(
  golden: TinyModel,
  ropeSpelling: "v4" | "v5" = "v4",
): Record<string, unknown> {
  const { architectures, model_type, config } = golden;
  if (ropeSpelling === "v4") {
    return { architectures, model_type, torch_dtype: "float32", ...config };
  }
  if (config["rope_local_base_freq"] !== undefined) {
    const { rope_theta, rope_scaling, rope_local_base_freq, ...rest } = config;
    const rope_parameters = {
      full_attention: { rope_type: "default", rope_theta, ...rope_scaling as object | undefined },
      sliding_attention: { rope_type: "default", rope_theta: rope_local_base_freq },
    };
    return { architectures, model_type, dtype: "float32", ...rest, rope_parameters };
  }
  const { rope_theta, rope_scaling, ...rest } = config;
  const scaling = rope_scaling as Record<string, unknown> | undefined;
  const rope_parameters = { rope_type: "default", rope_theta, ...scaling };
  return { architectures, model_type, dtype: "float32", ...rest, rope_parameters };
}

/** Every tensor of a golden case, in float32. */
export function tinyTensors(golden: TinyModel): TinyTensor[] {
  const config = readModelConfig("config.json", tinyConfig(golden));
  return expectedTensors(config).map(({ name, shape }) => {
    const count = shape.reduce((product, size) => product * size, 1);
    const values = (golden.model_type === "gpt_oss" && config.kind === "decoder"
      ? gptOssValues(name, config)
      : undefined) ?? tinyValues(diskName(golden, name), count);
    const isOffset = config.kind === "decoder" && config.normOffset === 1 &&
      name.endsWith("norm.weight");
    return {
      name,
      shape,
      values: isOffset
        ? values.map((value) => value - 1)
        : values,
    };
  });
}

/** EXAONE's files leave the gate out of the name of the bias of choices. */
function diskName({ model_type }: TinyModel, name: string): string {
  return model_type === "exaone_moe" ? name.replace(".gate.e_score", ".e_score") : name;
}

function writeShards(dir: string, parts: readonly SafetensorsPart[], shardCount: number): void {
  const weightMap: Record<string, string> = {};
  const perShard = Math.ceil(parts.length / shardCount);
  const count = (index: number) => String(index).padStart(5, "0");
  for (let shard = 0; shard < shardCount; shard++) {
    const name = `model-${count(shard + 1)}-of-${count(shardCount)}.safetensors`;
    const inside = parts.slice(shard * perShard, (shard + 1) * perShard);
    Deno.writeFileSync(`${dir}/${name}`, safetensorsBytes(inside));
    for (const part of inside) weightMap[part.name] = name;
  }
  const total_size = parts.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
  const index = { metadata: { total_size }, weight_map: weightMap };
  writeJson(`${dir}/model.safetensors.index.json`, index);
}

/** Values as a file of that dtype has them; all of theirs are exact in each. */
export function encodeValues(values: Float32Array, dtype: "F32" | "F16" | "BF16"): Uint8Array {
  if (dtype === "F16") return new Uint8Array(Float16Array.from(values).buffer);
  const bits = new Uint32Array(values.slice().buffer);
  // The low halves are zero, so cutting them off is no rounding.
  return new Uint8Array(
    (dtype === "F32" ? bits : Uint16Array.from(bits, (word) => word >>> 16)).buffer,
  );
}

/** Row half · headDim/2 + i of each head goes to row 2i + half, as converters of arch llama do. */
function pairRows(
  values: Float32Array,
  heads: number,
  headDim: number,
  width: number,
): Float32Array {
  const paired = new Float32Array(values.length);
  for (let row = 0; row < heads * headDim; row++) {
    const [head, inHead] = [Math.floor(row / headDim), row % headDim];
    const [half, i] = [Math.floor(inHead / (headDim / 2)), inHead % (headDim / 2)];
    const to = head * headDim + 2 * i + half;
    paired.set(values.subarray(row * width, (row + 1) * width), to * width);
  }
  return paired;
}

/** What the llama3 formula divides each frequency by; undefined where the case does not use it. */
function llama3Divisors(golden: GoldenModel, headDim: number): Float32Array | undefined {
  const scaling = golden.config["rope_scaling"] as Record<string, number> | undefined;
  if (scaling === undefined || String(scaling["rope_type"]) !== "llama3") return undefined;
  const setting = (name: string) => scaling[name] as number;
  const [factor, low, high] = [
    setting("factor"),
    setting("low_freq_factor"),
    setting("high_freq_factor"),
  ];
  const original = setting("original_max_position_embeddings");
  const theta = golden.config["rope_theta"] as number;
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** (2 * i / headDim);
    if (wavelength < original / high) return 1;
    if (wavelength > original / low) return factor;
    const smooth = (original / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

/** What converters call the family. */
function ggufArchitecture({ model_type }: GoldenModel): string {
  const names: Record<string, string> = {
    mistral: "llama",
    gemma3_text: "gemma3",
    qwen3_moe: "qwen3moe",
    gpt_oss: "gpt-oss",
    exaone_moe: "exaone-moe",
  };
  return names[model_type] ?? model_type;
}

/** What a file says of windows and of scores. */
function windowMetadata(golden: GoldenModel): [string, GgufEntry][] {
  const name = ggufArchitecture(golden);
  const { windows, attentionScale, slidingRope, logitSoftcap, headDim } = readModelConfig(
    "config.json",
    tinyConfig(golden),
  ) as DecoderConfig;
  const entries: [string, GgufEntry][] = [];
  const window = Math.max(...windows);
  if (window > 0) {
    entries.push([`${name}.attention.sliding_window`, { type: "u32", value: window }]);
  }
  if (window > 0 && windows.includes(0)) {
    const value = windows.indexOf(0) + 1;
    entries.push([`${name}.attention.sliding_window_pattern`, { type: "u32", value }]);
  }
  if (attentionScale !== 1 / Math.sqrt(headDim)) {
    entries.push([`${name}.attention.scale`, { type: "f32", value: attentionScale }]);
  }
  if (slidingRope !== undefined) {
    entries.push([`${name}.rope.freq_base_swa`, { type: "f32", value: slidingRope.theta }]);
  }
  if (logitSoftcap > 0) {
    entries.push([`${name}.final_logit_softcapping`, { type: "f32", value: logitSoftcap }]);
  }
  const scaling = golden.config["rope_scaling"] as Record<string, unknown> | undefined;
  if (scaling?.["rope_type"] === "linear") {
    entries.push([`${name}.rope.scaling.type`, { type: "string", value: "linear" }]);
    const factor = scaling["factor"] as number;
    entries.push([`${name}.rope.scaling.factor`, { type: "f32", value: factor }]);
  }
  if (scaling?.["rope_type"] === "yarn") {
    entries.push([`${name}.rope.scaling.type`, { type: "string", value: "yarn" }]);
    const factor = scaling["factor"] as number;
    entries.push([`${name}.rope.scaling.factor`, { type: "f32", value: factor }]);
    const value = scaling["original_max_position_embeddings"] as number;
    entries.push([`${name}.rope.scaling.original_context_length`, { type: "u32", value }]);
  }
  return entries;
}

/** What a file says of experts. */
function expertMetadata(golden: GoldenModel): [string, GgufEntry][] {
  const name = ggufArchitecture(golden);
  const { experts } = readModelConfig("config.json", tinyConfig(golden)) as DecoderConfig;
  if (experts === undefined) return [];
  const { router } = experts;
  const u32 = (key: string, value: number): [string, GgufEntry] => [
    `${name}.${key}`,
    { type: "u32", value },
  ];
  return [
    u32("expert_count", experts.count),
    u32("expert_used_count", experts.choiceCount),
    u32("expert_feed_forward_length", experts.intermediateSize),
    ...router.kind === "softmax" ? [] : [
      u32("expert_gating_func", 2),
      u32("expert_shared_count", experts.sharedIntermediateSize / experts.intermediateSize),
      [`${name}.expert_weights_norm`, { type: "bool", value: router.normalizes ? 1 : 0 }],
      [`${name}.expert_weights_scale`, { type: "f32", value: router.scale }],
    ] as [string, GgufEntry][],
  ];
}

function tinyMetadata(golden: GoldenModel): Map<string, GgufEntry> {
  const { config } = golden;
  const model_type = ggufArchitecture(golden);
  const u32 = (name: string): GgufEntry => ({ type: "u32", value: config[name] as number });
  const f32 = (name: string): GgufEntry => ({ type: "f32", value: config[name] as number });
  const text = (value: string): GgufEntry => ({ type: "string", value });
  const id = (value: number): GgufEntry => ({ type: "u32", value });
  const tokens = tinyTokens();
  const headDims = config["head_dim"] === undefined ? [] : ["key_length", "value_length"];
  return new Map<string, GgufEntry>([
    ["general.architecture", text(model_type)],
    ["general.name", text("tiny")],
    [`${model_type}.block_count`, u32("num_hidden_layers")],
    [`${model_type}.context_length`, u32("max_position_embeddings")],
    [`${model_type}.embedding_length`, u32("hidden_size")],
    [`${model_type}.feed_forward_length`, u32("intermediate_size")],
    [`${model_type}.attention.head_count`, u32("num_attention_heads")],
    [`${model_type}.attention.head_count_kv`, u32("num_key_value_heads")],
    [`${model_type}.attention.layer_norm_rms_epsilon`, f32("rms_norm_eps")],
    [`${model_type}.rope.freq_base`, f32("rope_theta")],
    ...headDims.map((key) => [`${model_type}.attention.${key}`, u32("head_dim")] as const),
    ...windowMetadata(golden),
    ...expertMetadata(golden),
    ["tokenizer.ggml.model", text("gpt2")],
    ["tokenizer.ggml.pre", text("gpt-2")],
    ["tokenizer.ggml.tokens", { type: "strings", value: tokens }],
    ["tokenizer.ggml.token_type", {
      type: "i32s",
      value: tokens.map((token) => TINY_SPECIAL_TOKENS.includes(token) ? 3 : 1),
    }],
    ["tokenizer.ggml.merges", { type: "strings", value: TINY_MERGES }],
    ["tokenizer.ggml.bos_token_id", id(1)],
    ["tokenizer.ggml.eos_token_id", id(2)],
    ["tokenizer.ggml.add_bos_token", { type: "bool", value: 0 }],
    ["tokenizer.chat_template", text(TINY_CHAT_TEMPLATE)],
  ]);
}

function writeJson(path: string, value: unknown): void {
  Deno.writeTextFileSync(path, JSON.stringify(value, null, 2));
}
