/** A GGUF file, or its parts, as a checkpoint: its names and row order turned into Hugging Face's. */

import { CheckpointError } from "../base/errors.ts";
import type { CheckpointParts, PartTensor } from "./checkpoint_parts.ts";
import {
  eachExpectedTensor,
  type ExpectedTensor,
  type FoundTensor,
  missingTensor,
  type StoredTensor,
  storedTensor,
  unusedTensor,
} from "./expected_tensors.ts";
import { parseExpertName } from "./expert_names.ts";
import { stackedExpert } from "./expert_parts.ts";
import type { ByteSource } from "./formats/byte_source.ts";
import type { GgufHeader, GgufTensor } from "./formats/gguf.ts";
import { ggufExpertName } from "./gguf_experts.ts";
import type { DecoderConfig } from "./model_config.ts";
import { readGgufConfig, readGgufGeneration } from "./gguf_config.ts";
import { type GgufSplits, openGgufSplits } from "./gguf_splits.ts";
import { stackedTensor } from "./stacked_tensor.ts";
import { ggufPoolingFiles } from "./pooling_files.ts";

/** llama3-style rope: what to divide the frequencies by, in place of the formula's parameters. */
const ROPE_DIVISORS = "rope_freqs.weight";

/** Hugging Face module → GGUF module, inside a layer. */
const LAYER_MODULES: ReadonlyMap<string, string> = new Map([
  ["input_layernorm", "attn_norm"],
  ["self_attn.q_proj", "attn_q"],
  ["self_attn.k_proj", "attn_k"],
  ["self_attn.v_proj", "attn_v"],
  ["self_attn.q_norm", "attn_q_norm"],
  ["self_attn.k_norm", "attn_k_norm"],
  ["self_attn.o_proj", "attn_output"],
  ["post_attention_layernorm", "ffn_norm"],
  ["mlp.gate_proj", "ffn_gate"],
  ["mlp.up_proj", "ffn_up"],
  ["mlp.down_proj", "ffn_down"],
]);

/** Those that are called otherwise in a layer with norms on what it adds. */
const POST_NORM_MODULES: ReadonlyMap<string, string> = new Map([
  ["post_attention_layernorm", "post_attention_norm"],
  ["pre_feedforward_layernorm", "ffn_norm"],
  ["post_feedforward_layernorm", "post_ffw_norm"],
]);

/** The same, outside the layers. */
const OUTER_MODULES: ReadonlyMap<string, string> = new Map([
  ["model.embed_tokens", "token_embd"],
  ["model.norm", "output_norm"],
  ["lm_head", "output"],
]);

/** Opens and checks one file, or all parts of a split one. The caller closes the parts' sources. */
export function openGgufFile(path: string): CheckpointParts {
  const splits = openGgufSplits(path);
  const { header, sources } = splits;
  try {
    const source = splits.sourceOf(ROPE_DIVISORS);
    const config = readGgufConfig(path, header, readDivisors(source, header));
    return {
      config,
      generation: readGgufGeneration(path, header.metadata, config.endTokenIds),
      tensors: findTensors(splits, config),
      text: { kind: "gguf", metadata: header.metadata, file: path },
      pooling: ggufPoolingFiles(header.metadata),
      sources,
    };
  } catch (error) {
    for (const source of sources) source[Symbol.dispose]();
    throw error;
  }
}

/** What GGUF calls a tensor that Hugging Face calls `name`, in such a model. */
export function ggufName(
  name: string,
  { norms, architecture }: Pick<DecoderConfig, "norms" | "architecture">,
): string {
  const experts = ggufExpertName(name);
  if (experts !== undefined) return experts;
  const sinks = /^model\.layers\.(\d+)\.self_attn\.sinks$/.exec(name);
  if (sinks !== null) return `blk.${sinks[1]}.attn_sinks.weight`;
  const dot = name.lastIndexOf(".");
  const [module, suffix] = [name.slice(0, dot), name.slice(dot)];
  const [, layer, inner] = /^model\.layers\.(\d+)\.(.+)$/.exec(module) ?? [];
  if (layer === undefined) return `${OUTER_MODULES.get(module) ?? module}${suffix}`;
  // GPT-OSS has its norms where Llama has them, and one by another name.
  const isOther = norms !== "before" ||
    (architecture === "GptOssForCausalLM" && inner === "post_attention_layernorm");
  const own = isOther ? POST_NORM_MODULES.get(inner ?? "") : undefined;
  return `blk.${layer}.${own ?? LAYER_MODULES.get(inner ?? "") ?? inner}${suffix}`;
}

function readDivisors(source: ByteSource, { tensors }: GgufHeader): number[] | undefined {
  const tensor = tensors.get(ROPE_DIVISORS);
  if (tensor === undefined) return undefined;
  // Half a head's size at most; the config's reader holds the count against the head.
  if (tensor.type !== "F32" || tensor.sizeBytes > 4096) {
    throw new CheckpointError(
      source.name,
      `Cannot use tensor "${ROPE_DIVISORS}" of "${source.name}": ` +
        "it must hold one F32 number for each pair of a head",
    );
  }
  const bytes = new Uint8Array(tensor.sizeBytes);
  source.readAt(tensor.position, bytes);
  const view = new DataView(bytes.buffer);
  return Array.from({ length: bytes.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/** One of its own, or that of one expert of a stack. */
function ownTensor(
  expected: ExpectedTensor,
  found: FoundTensor,
  { experts }: DecoderConfig,
): StoredTensor {
  return experts !== undefined && parseExpertName(expected.name) !== undefined
    ? stackedExpert(expected, found, experts.count)
    : storedTensor(expected, found);
}

function findTensors(
  { header: { tensors }, sources, sourceOf }: GgufSplits,
  config: DecoderConfig,
): ReadonlyMap<string, PartTensor> {
  const [source] = sources;
  const parts = new Map<string, PartTensor>();
  const used = new Set<string>([ROPE_DIVISORS]);
  for (const expected of eachExpectedTensor(config)) {
    const name = ggufName(expected.name, config);
    const tensor = tensors.get(name);
    const fusedName = name.replace(/attn_[qkv]\./, "attn_qkv.");
    const fused = tensors.get(fusedName);
    if (tensor === undefined && fused === undefined) {
      missingTensor(source.name, name, expected.shape);
    }
    const stored = tensor !== undefined
      ? ownTensor(expected, asFound(sourceOf(name), tensor), config)
      : fusedTensor(expected, asFound(sourceOf(fusedName), fused as GgufTensor), config);
    used.add(tensor === undefined ? fusedName : name);
    // Converters of arch llama store queries and keys as neighbouring pairs, not as two halves.
    const isPaired = config.modelType === "llama" && /\.[qk]_proj\./.test(expected.name);
    parts.set(expected.name, {
      ...stored,
      pairedHeadDim: isPaired ? config.headDim : 0,
    });
  }
  for (const name of tensors.keys()) {
    if (!used.has(name) && !mayBeLeftOut(name, config)) unusedTensor(sourceOf(name).name, name);
  }
  return parts;
}

/** Layers that guess tokens further ahead, and a reranker's head, which is none of the language model's. */
function mayBeLeftOut(name: string, { layerCount, aheadLayerCount }: DecoderConfig): boolean {
  const layer = /^blk\.(\d+)\./.exec(name)?.[1];
  if (layer === undefined) return name.startsWith("cls.");
  return Number(layer) >= layerCount && Number(layer) < layerCount + aheadLayerCount;
}

function asFound(source: ByteSource, tensor: GgufTensor): FoundTensor {
  const { name, type, shape, position, sizeBytes } = tensor;
  return { name, dtype: type, shape, source, position, sizeBytes };
}

/** Rows of queries, keys or values of a tensor that has all of them, in that order. */
function fusedTensor(
  expected: ExpectedTensor,
  found: FoundTensor,
  { headCount, kvHeadCount, headDim }: DecoderConfig,
): StoredTensor {
  const [queries, keys] = [headCount * headDim, kvHeadCount * headDim];
  const rows = queries + 2 * keys;
  const first = /\.q_proj\./.test(expected.name)
    ? 0
    : /\.k_proj\./.test(expected.name)
    ? queries
    : queries + keys;
  if (expected.shape.length === 2) {
    const stack = { ...found, shape: [1, ...found.shape] };
    return stackedTensor(expected, stack, { index: 0, count: 1, rows, first });
  }
  // Of the right size and of a type with an element each, or this refuses it.
  storedTensor({ name: expected.name, shape: [rows] }, found);
  const elementBytes = found.sizeBytes / rows;
  return storedTensor(expected, {
    ...found,
    shape: expected.shape,
    position: found.position + first * elementBytes,
    sizeBytes: (expected.shape[0] as number) * elementBytes,
  });
}
