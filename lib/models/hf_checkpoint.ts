/** A Hugging Face folder as a checkpoint: config, weights, tokenizer and chat template. */

import type { CheckpointParts, PartTensor } from "./checkpoint_parts.ts";
import { readModelConfig } from "./config.ts";
import {
  expectedTensors,
  type FoundTensor,
  missingTensor,
  storedTensor,
  unusedTensor,
} from "./expected_tensors.ts";
import { openSafetensorsFolder, type SafetensorsFolder } from "./formats/safetensors_folder.ts";
import { type GenerationDefaults, readGenerationConfig } from "./generation_config.ts";
import type { ModelConfig } from "./model_config.ts";
import { ModelFolder } from "./model_folder.ts";
import { readPoolingFiles } from "./pooling_files.ts";
import { readTextFiles } from "./hf_text_files.ts";
import { storedNames, withStoredHead } from "./stored_names.ts";

/** Opens and checks the folder at `path`. The caller closes the parts' sources. */
export function openHuggingFaceFolder(path: string): CheckpointParts {
  const folder = new ModelFolder(path);
  const json = folder.readJson("config.json");
  const stated = readModelConfig(folder.nameOf("config.json"), json);
  const generation = readGeneration(folder, stated);
  const text = readTextFiles(folder, json);
  const pooling = readPoolingFiles(folder, json);
  const weights = openSafetensorsFolder(folder);
  try {
    const config = withStoredHead(stated, (name) => weights.tensors.has(name));
    const tensors = findTensors(path, weights, config);
    return { config, generation, tensors, text, pooling, sources: weights.sources };
  } catch (error) {
    for (const source of weights.sources) source[Symbol.dispose]();
    throw error;
  }
}

/** Without a generation_config.json, config.json's end tokens are all there is to know. */
function readGeneration(folder: ModelFolder, config: ModelConfig): GenerationDefaults {
  const name = "generation_config.json";
  if (!folder.has(name)) return { endTokenIds: config.endTokenIds };
  return readGenerationConfig(folder.nameOf(name), folder.readJson(name));
}

function findTensors(
  path: string,
  weights: SafetensorsFolder,
  config: ModelConfig,
): ReadonlyMap<string, PartTensor> {
  const expected = expectedTensors(config);
  const names = storedNames(config, (name) => weights.tensors.has(name));
  const parts = new Map<string, PartTensor>();
  const used = new Set<string>();
  for (const tensor of expected) {
    const name = names.stored(tensor.name);
    const found: FoundTensor = weights.tensors.get(name) ??
      missingTensor(weights.indexFile ?? weights.sources[0]?.name ?? path, name, tensor.shape);
    used.add(name);
    parts.set(tensor.name, { ...storedTensor(tensor, found), pairedHeadDim: 0 });
  }
  for (const [name, found] of weights.tensors) {
    if (!used.has(name) && !names.mayBeLeftOut(name)) unusedTensor(found.source.name, name);
  }
  return parts;
}
