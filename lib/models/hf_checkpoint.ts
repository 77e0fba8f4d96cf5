/** A Hugging Face folder as a checkpoint: config, weights, tokenizer and chat template. */

import { CheckpointError } from "../base/errors.ts";
import type { CheckpointParts, PartTensor } from "./checkpoint_parts.ts";
import { readModelConfig } from "./config.ts";
import {
  expectedTensors,
  type FoundTensor,
  missingTensor,
  storedTensor,
  unusedTensor,
} from "./expected_tensors.ts";
import { isObject } from "./fields.ts";
import { openSafetensorsFolder, type SafetensorsFolder } from "./formats/safetensors_folder.ts";
import { type GenerationDefaults, readGenerationConfig } from "./generation_config.ts";
import type { ModelConfig } from "./model_config.ts";
import { ModelFolder } from "./model_folder.ts";
import { readPoolingFiles } from "./pooling_files.ts";
import { storedNames, withStoredHead } from "./stored_names.ts";
import type { TextFiles } from "./text_files.ts";

/** Opens and checks the folder at `path`. The caller closes the parts' sources. */
export function openHuggingFaceFolder(path: string): CheckpointParts {
  const folder = new ModelFolder(path);
  const json = folder.readJson("config.json");
  const stated = readModelConfig(folder.nameOf("config.json"), json);
  const generation = readGeneration(folder, stated);
  const text = readTextFiles(folder);
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

function readTextFiles(folder: ModelFolder): TextFiles {
  const configName = "tokenizer_config.json";
  const tokenizerConfig = folder.has(configName) ? folder.readJson(configName) : {};
  if (!isObject(tokenizerConfig)) {
    const file = folder.nameOf(configName);
    throw new CheckpointError(file, `Cannot use "${file}": it must hold a JSON object`);
  }
  const { chatTemplate, file } = readChatTemplate(folder, tokenizerConfig);
  return {
    kind: "huggingface",
    tokenizer: folder.readJson("tokenizer.json"),
    tokenizerConfig,
    chatTemplate,
    files: {
      tokenizer: folder.nameOf("tokenizer.json"),
      tokenizerConfig: folder.nameOf(configName),
      chatTemplate: file,
    },
  };
}

/** A file of its own wins over the legacy JSON file, and that over the tokenizer's config. */
function readChatTemplate(
  folder: ModelFolder,
  tokenizerConfig: Readonly<Record<string, unknown>>,
): { chatTemplate: string | undefined; file: string | undefined } {
  if (folder.has("chat_template.jinja")) {
    const file = folder.nameOf("chat_template.jinja");
    return { chatTemplate: folder.readText("chat_template.jinja"), file };
  }
  const holders: [string, () => unknown][] = [
    ["chat_template.json", () => folder.readJson("chat_template.json")],
    ["tokenizer_config.json", () => tokenizerConfig],
  ];
  for (const [name, read] of holders) {
    if (!folder.has(name)) continue;
    const file = folder.nameOf(name);
    const content = read();
    const chatTemplate = chooseTemplate(file, isObject(content) ? content["chat_template"] : null);
    if (chatTemplate !== undefined) return { chatTemplate, file };
  }
  return { chatTemplate: undefined, file: undefined };
}

/** One template, or the one called "default" of several. */
function chooseTemplate(file: string, value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) {
    throw new CheckpointError(
      file,
      `Cannot use chat_template of "${file}": it must be a string or a list of named templates`,
    );
  }
  for (const entry of value) {
    if (
      !isObject(entry) || typeof entry["name"] !== "string" || typeof entry["template"] !== "string"
    ) {
      throw new CheckpointError(
        file,
        `Cannot use chat_template of "${file}": each entry must have a name and a template`,
      );
    }
  }
  return value.find((entry) => entry["name"] === "default")?.["template"];
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
