/** What a checkpoint says about pooling: its config.json, and the files of sentence-transformers or of GGUF. */

import type { ModelFolder } from "./model_folder.ts";
import { type PoolingConfig, readPoolingConfig } from "./pooling_config.ts";
import {
  NO_MODULES,
  readSentenceTransformers,
  type SentencePoolingMode,
  type SentenceTransformers,
} from "./sentence_transformers.ts";

/** Plain data, as the checkpoint has it. */
export interface PoolingFiles {
  readonly config: PoolingConfig;
  /** Undefined where nothing says that the model is for embeddings. */
  readonly modules: SentenceTransformers | undefined;
}

/** Of a Hugging Face folder with this config.json, already parsed, and a model of this width. */
export function readPoolingFiles(
  folder: ModelFolder,
  configJson: unknown,
  hiddenSize: number,
): PoolingFiles {
  return {
    config: readPoolingConfig(folder.nameOf("config.json"), configJson),
    modules: readSentenceTransformers(folder, hiddenSize),
  };
}

/** llama.cpp's numbers of ways to pool; 0 is none. */
const GGUF_MODES: Readonly<Record<number, SentencePoolingMode>> = {
  1: "mean",
  2: "cls",
  3: "lasttoken",
};

/** Of a GGUF file with these values. */
export function ggufPoolingFiles(metadata: ReadonlyMap<string, unknown>): PoolingFiles {
  const config = { classifier: undefined, matryoshka: undefined, answers: undefined };
  const type = metadata.get(`${String(metadata.get("general.architecture"))}.pooling_type`) ?? 0;
  if (type === 0) return { config, modules: undefined };
  const mode = typeof type === "number" ? GGUF_MODES[type] : undefined;
  const modules = mode === undefined
    ? { ...NO_MODULES, unsupported: `its pooling_type is ${String(type)}: supported are 0 to 3` }
    : { ...NO_MODULES, modes: [mode] };
  return { config, modules };
}
