/** JSON Schemas of the bodies of chats and completions, for the API document: every field that is read. */

import type { Schema } from "./openapi.ts";
import {
  between,
  body,
  BOOLEAN,
  COUNT,
  INTEGER,
  LIST,
  MESSAGES,
  MODEL,
  NUMBER,
  OBJECT,
  OBJECTS,
  PROMPTS,
  type Properties,
  STRING,
  TEMPLATE,
  TEXT,
  TOKEN_ID,
  TOKEN_IDS,
} from "./schema_parts.ts";

/** Known, and refused unless it is null. */
const NOT_YET: Schema = { type: "null", description: "Not supported" };
/** Taken for clients that send it, without an effect. */
const IGNORED = "Has no effect";

const IGNORED_FIELDS: Properties = {
  safety_identifier: { ...STRING, description: IGNORED },
  session_id: { ...STRING, description: IGNORED },
  metadata: { ...OBJECT, description: IGNORED },
  store: { ...BOOLEAN, description: IGNORED },
  service_tier: { ...STRING, description: IGNORED },
  prompt_cache_key: { ...STRING, description: IGNORED },
  prediction: { ...OBJECT, description: IGNORED },
  mm_processor_kwargs: { ...OBJECT, description: IGNORED },
  media_io_kwargs: { ...OBJECT, description: IGNORED },
  vllm_xargs: { ...OBJECT, description: IGNORED },
  routed_experts_prompt_start: { ...INTEGER, description: IGNORED },
  spaces_between_special_tokens: { ...BOOLEAN, description: IGNORED },
};

const NOT_YET_FIELDS: Properties = {
  logits_processors: { ...LIST, maxItems: 0 },
  structured_outputs: NOT_YET,
  guided_json: NOT_YET,
  guided_regex: NOT_YET,
  guided_choice: NOT_YET,
  guided_grammar: NOT_YET,
  kv_transfer_params: NOT_YET,
  ec_transfer_params: NOT_YET,
  suffix: NOT_YET,
  return_token_offsets: { enum: [false, null] },
  response_format: {
    ...OBJECT,
    required: ["type"],
    properties: { type: { const: "text" } },
  },
};

const SAMPLING: Properties = {
  ...MODEL,
  stream: BOOLEAN,
  stream_options: {
    ...OBJECT,
    properties: { include_usage: BOOLEAN, continuous_usage_stats: BOOLEAN },
  },
  stream_interval: { ...INTEGER, minimum: 1 },
  n: { ...INTEGER, minimum: 1, maximum: 128 },
  best_of: { ...INTEGER, minimum: 1, maximum: 128 },
  temperature: between(0, 2),
  top_p: between(0, 1),
  top_k: { ...INTEGER, minimum: -1 },
  min_p: between(0, 1),
  presence_penalty: between(-2, 2),
  frequency_penalty: between(-2, 2),
  repetition_penalty: { ...NUMBER, exclusiveMinimum: 0 },
  length_penalty: NUMBER,
  use_beam_search: BOOLEAN,
  early_stopping: { anyOf: [BOOLEAN, { const: "never" }] },
  seed: { ...INTEGER, description: "Of 64 bits; -1 for none" },
  stop: { anyOf: [STRING, { type: "array", items: TEXT, maxItems: 16 }] },
  stop_token_ids: TOKEN_IDS,
  include_stop_str_in_output: BOOLEAN,
  bad_words: { type: ["array", "null"], items: TEXT },
  logit_bias: { ...OBJECT, additionalProperties: { type: "number" } },
  allowed_token_ids: TOKEN_IDS,
  ignore_eos: BOOLEAN,
  max_tokens: { ...INTEGER, minimum: 1 },
  min_tokens: COUNT,
  prompt_logprobs: { ...INTEGER, minimum: -1 },
  logprob_token_ids: { ...TOKEN_IDS, maxItems: 128 },
  echo: { ...BOOLEAN, description: "Begin the answer with what it goes on with" },
  add_special_tokens: BOOLEAN,
  truncate_prompt_tokens: { ...INTEGER, minimum: -1 },
  truncation_side: { enum: ["left", "right", null] },
  repetition_detection: {
    ...OBJECT,
    properties: { max_pattern_size: COUNT, min_pattern_size: COUNT, min_count: COUNT },
  },
  skip_special_tokens: BOOLEAN,
  return_token_ids: BOOLEAN,
  return_tokens_as_token_ids: BOOLEAN,
  thinking_token_budget: { enum: [-1, null] },
  forced_output: { anyOf: [STRING, { type: "array", items: TOKEN_ID }] },
  ...IGNORED_FIELDS,
  ...NOT_YET_FIELDS,
};

export const CHAT_BODY: Schema = body({
  messages: MESSAGES,
  ...SAMPLING,
  ...TEMPLATE,
  max_completion_tokens: { ...INTEGER, minimum: 1 },
  logprobs: BOOLEAN,
  top_logprobs: { ...INTEGER, minimum: -1 },
  reasoning_effort: STRING,
  return_prompt_text: BOOLEAN,
  tools: { ...OBJECTS, maxItems: 0 },
  tool_choice: { enum: ["none", null] },
  functions: { ...OBJECTS, maxItems: 0 },
  function_call: { enum: ["none", "auto", null] },
  parallel_tool_calls: { ...BOOLEAN, description: IGNORED },
  include_reasoning: { ...BOOLEAN, description: IGNORED },
  verbosity: { ...STRING, description: IGNORED },
  modalities: { ...LIST, items: { const: "text" } },
  audio: NOT_YET,
  web_search_options: NOT_YET,
  return_assistant_tokens_mask: { enum: [false, null] },
}, ["messages"]);

export const COMPLETIONS_BODY: Schema = body({
  prompt: PROMPTS,
  ...SAMPLING,
  logprobs: COUNT,
  max_tokens: { ...COUNT, description: "0 only with echo" },
  prompt_embeds: NOT_YET,
}, ["prompt"]);
