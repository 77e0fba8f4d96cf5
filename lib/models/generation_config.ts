/** generation_config.json → the sampling defaults that a model's authors ask for. */

import { Fields } from "./fields.ts";

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
 * `max_length` is left alone, as the servers that set the custom leave them.
 */
export function readGenerationConfig(file: string, json: unknown): GenerationDefaults {
  const fields = Fields.ofJson(file, json);
  const defaults: { -readonly [Key in keyof GenerationDefaults]: GenerationDefaults[Key] } = {
    endTokenIds: fields.tokenIds("eos_token_id") ?? [],
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
