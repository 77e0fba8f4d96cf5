/** One GGUF file as a checkpoint: its names and row order turned into Hugging Face's. */

import { CheckpointError } from "../base/errors.ts";
import type { CheckpointParts, PartTensor } from "./checkpoint_parts.ts";
import {
  expectedTensors,
  type FoundTensor,
  missingTensor,
  storedTensor,
  unusedTensor,
} from "./expected_tensors.ts";
import { type ByteSource, FileSource } from "./formats/byte_source.ts";
import { type GgufHeader, type GgufTensor, readGgufHeader } from "./formats/gguf.ts";
import type { DecoderConfig } from "./model_config.ts";
import { readGgufConfig, readGgufGeneration } from "./gguf_config.ts";
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

/** Opens and checks one file. The caller closes the parts' sources. */
export function openGgufFile(path: string): CheckpointParts {
  const source = new FileSource(path);
  try {
    const header = readGgufHeader(source);
    refuseSplit(path, header);
    const config = readGgufConfig(path, header, readDivisors(source, header));
    return {
      config,
      generation: readGgufGeneration(path, header.metadata, config.endTokenIds),
      tensors: findTensors(source, header, config),
      text: { kind: "gguf", metadata: header.metadata, file: path },
      pooling: ggufPoolingFiles(header.metadata),
      sources: [source],
    };
  } catch (error) {
    source[Symbol.dispose]();
    throw error;
  }
}

/** What GGUF calls a tensor that Hugging Face calls `name`, in a model with such norms. */
export function ggufName(name: string, norms: DecoderConfig["norms"] = "before"): string {
  const dot = name.lastIndexOf(".");
  const [module, suffix] = [name.slice(0, dot), name.slice(dot)];
  const [, layer, inner] = /^model\.layers\.(\d+)\.(.+)$/.exec(module) ?? [];
  if (layer === undefined) return `${OUTER_MODULES.get(module) ?? module}${suffix}`;
  const own = norms === "before" ? undefined : POST_NORM_MODULES.get(inner ?? "");
  return `blk.${layer}.${own ?? LAYER_MODULES.get(inner ?? "") ?? inner}${suffix}`;
}

function refuseSplit(path: string, { metadata }: GgufHeader): void {
  const count = metadata.get("split.count");
  if (typeof count === "number" && count > 1) {
    throw new CheckpointError(
      path,
      `Cannot open "${path}": it is one of ${count} parts of a split GGUF file; ` +
        "merge the parts into one file first (llama-gguf-split --merge)",
    );
  }
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

function findTensors(
  source: ByteSource,
  { tensors }: GgufHeader,
  config: DecoderConfig,
): ReadonlyMap<string, PartTensor> {
  const parts = new Map<string, PartTensor>();
  const used = new Set<string>([ROPE_DIVISORS]);
  for (const expected of expectedTensors(config)) {
    const name = ggufName(expected.name, config.norms);
    const tensor = tensors.get(name) ?? refuseMissing(source, tensors, name, expected.shape);
    used.add(name);
    // Converters of arch llama store queries and keys as neighbouring pairs, not as two halves.
    const isPaired = config.modelType === "llama" && /\.[qk]_proj\./.test(expected.name);
    parts.set(expected.name, {
      ...storedTensor(expected, asFound(source, tensor)),
      pairedHeadDim: isPaired ? config.headDim : 0,
    });
  }
  for (const name of tensors.keys()) {
    const layer = /^blk\.(\d+)\./.exec(name)?.[1];
    if (layer !== undefined && Number(layer) < config.layerCount && !used.has(name)) {
      unusedTensor(source.name, name);
    }
  }
  return parts;
}

function asFound(source: ByteSource, tensor: GgufTensor): FoundTensor {
  const { name, type, shape, position, sizeBytes } = tensor;
  return { name, dtype: type, shape, source, position, sizeBytes };
}

function refuseMissing(
  source: ByteSource,
  tensors: ReadonlyMap<string, GgufTensor>,
  name: string,
  shape: readonly number[],
): never {
  const fused = name.replace(/attn_[qkv]\./, "attn_qkv.");
  if (fused !== name && tensors.has(fused)) {
    throw new CheckpointError(
      source.name,
      `Cannot use tensor "${fused}" of "${source.name}": ` +
        "queries, keys and values must be tensors of their own (attn_q, attn_k, attn_v)",
    );
  }
  missingTensor(source.name, name, shape);
}
