/** generation_config.json → the sampling defaults that a model's authors ask for. */

import { CheckpointError, InvalidParameterError } from "../base/errors.ts";
import { isRecord } from "../base/record.ts";
import { Fields } from "./fields.ts";
import { ModelFolder } from "./model_folder.ts";

/** What a checkpoint says about sampling. An absent field means that it says nothing. */
export interface GenerationDefaults {
  readonly temperature?: number;
  readonly topP?: number;
  /** 0 or −1: off. */
  readonly topK?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly maxNewTokens?: number;
  /** Tokens that end an answer. May be empty. */
  readonly endTokenIds: readonly number[];
}

/**
 * Reads generation_config.json, already parsed. Only these keys count: a `do_sample` or a
 * `max_length` is left alone, as the servers that set the custom leave them. `vocabSize` is the
 * model's, where it is known: an end token beyond it would never come.
 */
export function readGenerationConfig(
  file: string,
  json: unknown,
  vocabSize: number = Infinity,
): GenerationDefaults {
  const fields = Fields.ofJson(file, json);
  const defaults: { -readonly [Key in keyof GenerationDefaults]: GenerationDefaults[Key] } = {
    endTokenIds: fields.tokenIds("eos_token_id", vocabSize) ?? [],
  };
  const temperature = fields.optionalNumber("temperature", { min: 0 });
  if (temperature !== undefined) defaults.temperature = temperature;
  const topP = fields.optionalNumber("top_p", { min: 0, max: 1, aboveMin: true });
  if (topP !== undefined) defaults.topP = topP;
  const topK = fields.optionalInteger("top_k", { min: -1 });
  if (topK !== undefined) defaults.topK = topK;
  const minP = fields.optionalNumber("min_p", { min: 0, max: 1 });
  if (minP !== undefined) defaults.minP = minP;
  const repetitionPenalty = fields.optionalNumber("repetition_penalty", { min: 0, aboveMin: true });
  if (repetitionPenalty !== undefined) defaults.repetitionPenalty = repetitionPenalty;
  const maxNewTokens = fields.optionalInteger("max_new_tokens", { min: 1 });
  if (maxNewTokens !== undefined) defaults.maxNewTokens = maxNewTokens;
  return defaults;
}

const FILE = "generation_config.json";

/**
 * Reads the generation_config.json of a folder of its own, in place of the model's.
 *
 * @throws {InvalidParameterError} The folder has none
 * @throws {CheckpointError} It holds a wrong value
 */
export function readGenerationFolder(path: string): GenerationDefaults {
  const folder = isFolder(path) ? new ModelFolder(path) : undefined;
  if (folder === undefined || !folder.has(FILE)) {
    throw new InvalidParameterError(
      "generationConfig",
      path,
      `Cannot use generationConfig "${path}": it must be auto, vllm, none or a folder that ` +
        `has a ${FILE}`,
    );
  }
  return readGenerationConfig(folder.nameOf(FILE), folder.readJson(FILE));
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Our spelling of a field → the file's. */
const OVERRIDES: ReadonlyMap<string, string> = new Map([
  ["temperature", "temperature"],
  ["topP", "top_p"],
  ["topK", "top_k"],
  ["minP", "min_p"],
  ["repetitionPenalty", "repetition_penalty"],
  ["maxNewTokens", "max_new_tokens"],
]);

/**
 * Checks defaults that a caller gives as the option `overrideGenerationConfig`: the same fields
 * under the same rules, but for the end tokens.
 *
 * @throws {InvalidParameterError} A field that is unknown, or has a wrong value
 */
export function checkGenerationOverrides(
  overrides: unknown,
): Omit<GenerationDefaults, "endTokenIds"> {
  const parameter = "overrideGenerationConfig";
  const refuse = (message: string) => new InvalidParameterError(parameter, overrides, message);
  if (!isRecord(overrides)) throw refuse(`Cannot use ${parameter}: it must be an object`);
  const json: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(overrides)) {
    const field = OVERRIDES.get(key);
    if (field === undefined) {
      const known = [...OVERRIDES.keys()].join(", ");
      throw refuse(`Cannot use "${key}" in ${parameter}: it may have ${known}`);
    }
    json[field] = value;
  }
  try {
    const { endTokenIds: _, ...defaults } = readGenerationConfig(parameter, json);
    return defaults;
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    throw refuse(error.message);
  }
}
