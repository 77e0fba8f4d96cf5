/** A Hugging Face folder as a checkpoint: config, weights, tokenizer and chat template. */

import type { CheckpointParts, PartTensor } from "./checkpoint_parts.ts";
import { readModelConfig } from "./config.ts";
import {
  eachExpectedTensor,
  type FoundTensor,
  missingTensor,
  storedTensor,
  unusedTensor,
} from "./expected_tensors.ts";
import { CheckpointError } from "../base/errors.ts";
import { isRecord } from "../base/record.ts";
import { Fields } from "./fields.ts";
import { openSafetensorsFolder, type SafetensorsFolder } from "./formats/safetensors_folder.ts";
import { type GenerationDefaults, readGenerationConfig } from "./generation_config.ts";
import { ExpertParts } from "./expert_parts.ts";
import type { ModelConfig } from "./model_config.ts";
import { ModelFolder } from "./model_folder.ts";
import { readPoolingFiles } from "./pooling_files.ts";
import { readTextFiles } from "./hf_text_files.ts";
import { type Quantization, readQuantization } from "./quantization_config.ts";
import { isActivationScale, quantizedTensor } from "./quantized_tensor.ts";
import { storedNames, withStoredHead } from "./stored_names.ts";

/** Opens and checks the folder at `path`. The caller closes the parts' sources. */
export function openHuggingFaceFolder(path: string): CheckpointParts {
  const folder = new ModelFolder(path);
  refuseOtherFolders(folder);
  const json = folder.readJson("config.json");
  const stated = readModelConfig(folder.nameOf("config.json"), json);
  const generation = readGeneration(folder, stated);
  const text = readTextFiles(folder, json);
  const pooling = readPoolingFiles(folder, json, stated.hiddenSize);
  const weights = openSafetensorsFolder(folder);
  try {
    const config = withStoredHead(stated, (name) => weights.tensors.has(name));
    const fields = Fields.ofJson(folder.nameOf("config.json"), json);
    const tensors = findTensors(path, weights, config, readQuantization(fields));
    return { config, generation, tensors, text, pooling, sources: weights.sources };
  } catch (error) {
    for (const source of weights.sources) source[Symbol.dispose]();
    throw error;
  }
}

/** Folders that are something else, and are taken for models: what to do instead is said. */
function refuseOtherFolders(folder: ModelFolder): void {
  const refuse = (why: string): never => {
    throw new CheckpointError(folder.path, `Cannot open "${folder.path}": ${why}`);
  };
  if (folder.has(ADAPTER)) {
    const adapter = folder.readJson(ADAPTER);
    const base = isRecord(adapter) ? adapter["base_model_name_or_path"] : undefined;
    const of = typeof base === "string" ? ` of ${JSON.stringify(base)}` : "";
    refuse(
      `its ${ADAPTER} makes it an adapter${of}, and adapters (LoRA) are not supported: merge it ` +
        "into its model, or remove the file if the weights are whole",
    );
  }
  if (folder.has("config.json")) return;
  const [file] = folder.names((name) => name.toLowerCase().endsWith(".gguf"));
  if (file !== undefined) refuse(`it has no config.json; its "${file}" is opened by its own path`);
}

const ADAPTER = "adapter_config.json";

/** Without a generation_config.json, config.json's end tokens are all there is to know. */
function readGeneration(folder: ModelFolder, config: ModelConfig): GenerationDefaults {
  const name = "generation_config.json";
  if (!folder.has(name)) return { endTokenIds: config.endTokenIds };
  return readGenerationConfig(folder.nameOf(name), folder.readJson(name), config.vocabSize);
}

function findTensors(
  path: string,
  weights: SafetensorsFolder,
  config: ModelConfig,
  quantization: Quantization,
): ReadonlyMap<string, PartTensor> {
  const names = storedNames(config, (name) => weights.tensors.has(name));
  const find = (stored: string) => weights.tensors.get(stored);
  const experts = config.kind === "decoder" && config.experts !== undefined
    ? new ExpertParts(
      config.experts,
      find,
      (layer) => names.stored(`model.layers.${layer}.mlp.experts`),
    )
    : undefined;
  const parts = new Map<string, PartTensor>();
  const used = new Set<string>();
  for (const tensor of eachExpectedTensor(config)) {
    const name = names.stored(tensor.name);
    const quantized = quantizedTensor(tensor, name, find, quantization) ??
      (weights.tensors.has(name) ? undefined : experts?.get(tensor));
    if (quantized !== undefined) {
      for (const part of quantized.used) used.add(part);
      parts.set(tensor.name, { ...quantized.tensor, pairedHeadDim: 0 });
      continue;
    }
    const found: FoundTensor = weights.tensors.get(name) ??
      missingTensor(weights.indexFile ?? weights.sources[0]?.name ?? path, name, tensor.shape);
    used.add(name);
    parts.set(tensor.name, { ...storedTensor(tensor, found), pairedHeadDim: 0 });
  }
  for (const [name, found] of weights.tensors) {
    const mayBeLeftOut = names.mayBeLeftOut(name) ||
      (quantization.method !== "none" && isActivationScale(name));
    if (!used.has(name) && !mayBeLeftOut) unusedTensor(found.source.name, name);
  }
  return parts;
}
