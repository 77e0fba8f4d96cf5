/**
 * JSON Schemas of the request bodies, for the API document.
 *
 * They tell a client's generator what there is; they do not check anything. Every field may be null,
 * which is the same as absent, and fields that are not named here are ignored.
 */

import type { Schema } from "./openapi.ts";

type Properties = Readonly<Record<string, Schema>>;

const BOOLEAN: Schema = { type: ["boolean", "null"] };
const STRING: Schema = { type: ["string", "null"] };
const OBJECT: Schema = { type: ["object", "null"] };
const INTEGER: Schema = { type: ["integer", "null"] };
const COUNT: Schema = { type: ["integer", "null"], minimum: 0 };
const NUMBER: Schema = { type: ["number", "null"] };
const TOKEN_ID: Schema = { type: "integer", minimum: 0 };
const TEXT: Schema = { type: "string" };
const TOKEN_IDS: Schema = { type: ["array", "null"], items: TOKEN_ID };
const OBJECTS: Schema = { type: ["array", "null"], items: { type: "object" } };
const MESSAGES: Schema = {
  type: "array",
  items: {
    type: "object",
    required: ["role"],
    properties: {
      role: TEXT,
      content: { anyOf: [STRING, OBJECTS] },
    },
  },
};
/** One prompt or several, as texts or as token ids. */
const PROMPTS: Schema = {
  anyOf: [
    TEXT,
    { type: "array", items: TEXT },
    { type: "array", items: TOKEN_ID },
    { type: "array", items: { type: "array", items: TOKEN_ID } },
  ],
};
const TEXT_OR_OBJECT: Schema = { anyOf: [TEXT, { type: "object" }] };
const TEXTS: Schema = { anyOf: [TEXT_OR_OBJECT, { type: "array", items: TEXT_OR_OBJECT }] };

function between(minimum: number, maximum: number): Schema {
  return { ...NUMBER, minimum, maximum };
}

function body(properties: Properties, required: readonly string[] = []): Schema {
  return { type: "object", properties, ...(required.length > 0 ? { required } : {}) };
}

const MODEL: Properties = {
  model: { ...STRING, description: "Ignored: the loaded model answers" },
  user: STRING,
  priority: { ...INTEGER, description: "Lower runs earlier" },
  request_id: STRING,
  cache_salt: {
    ...STRING,
    description: "Only requests of the same salt reuse each other's keys and values",
  },
};

const SAMPLING: Properties = {
  ...MODEL,
  stream: BOOLEAN,
  stream_options: OBJECT,
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
  seed: INTEGER,
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
  truncate_prompt_tokens: { ...INTEGER, minimum: -1 },
  skip_special_tokens: BOOLEAN,
  return_token_ids: BOOLEAN,
  return_tokens_as_token_ids: BOOLEAN,
  forced_output: { anyOf: [STRING, { type: "array", items: TOKEN_ID }] },
};

const TEMPLATE: Properties = {
  add_generation_prompt: BOOLEAN,
  continue_final_message: BOOLEAN,
  chat_template: STRING,
  chat_template_kwargs: OBJECT,
  documents: OBJECTS,
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
}, ["messages"]);

export const COMPLETIONS_BODY: Schema = body({
  prompt: PROMPTS,
  ...SAMPLING,
  logprobs: COUNT,
  add_special_tokens: BOOLEAN,
}, ["prompt"]);

const VECTORS: Properties = {
  encoding_format: { enum: ["float", "base64", null] },
  embed_dtype: { enum: ["float32", null] },
  endianness: { enum: ["native", "big", "little", null] },
  dimensions: { ...INTEGER, minimum: 1 },
  normalize: BOOLEAN,
};

/** Of one prompt or several; a conversation may take their place. */
const INPUT: Properties = {
  input: PROMPTS,
  messages: MESSAGES,
  ...TEMPLATE,
  ...MODEL,
  use_activation: BOOLEAN,
  add_special_tokens: BOOLEAN,
  truncate_prompt_tokens: { ...INTEGER, minimum: -1 },
  truncation_side: { enum: ["left", null] },
};

const INPUT_OR_MESSAGES: Schema = {
  anyOf: [{ required: ["input"] }, { required: ["messages"] }],
};

export const EMBEDDINGS_BODY: Schema = {
  ...body({ ...INPUT, ...VECTORS }),
  ...INPUT_OR_MESSAGES,
};

export const POOLING_BODY: Schema = {
  ...body({
    ...INPUT,
    ...VECTORS,
    task: { enum: ["embed", "score", "classify", "token_embed", "token_classify", null] },
  }),
  ...INPUT_OR_MESSAGES,
};

export const CLASSIFY_BODY: Schema = { ...body(INPUT), ...INPUT_OR_MESSAGES };

const PAIRS: Properties = {
  ...MODEL,
  use_activation: BOOLEAN,
  truncate_prompt_tokens: { ...INTEGER, minimum: -1 },
  truncation_side: { enum: ["right", null] },
  max_tokens_per_query: COUNT,
  max_tokens_per_doc: COUNT,
  instruction: STRING,
};

export const SCORE_BODY: Schema = {
  ...body({
    text_1: TEXTS,
    text_2: TEXTS,
    data_1: TEXTS,
    data_2: TEXTS,
    queries: TEXTS,
    documents: TEXTS,
    items: TEXTS,
    ...PAIRS,
  }),
  anyOf: [
    { required: ["text_1", "text_2"] },
    { required: ["data_1", "data_2"] },
    { required: ["queries", "documents"] },
    { required: ["queries", "items"] },
  ],
};

export const RERANK_BODY: Schema = body({
  query: TEXT_OR_OBJECT,
  documents: TEXTS,
  top_n: COUNT,
  ...PAIRS,
}, ["query", "documents"]);

export const TOKENIZE_BODY: Schema = {
  ...body({
    prompt: STRING,
    messages: MESSAGES,
    model: STRING,
    add_special_tokens: BOOLEAN,
    return_token_strs: BOOLEAN,
    tools: OBJECTS,
    ...TEMPLATE,
  }),
  anyOf: [{ required: ["prompt"] }, { required: ["messages"] }],
};

export const DETOKENIZE_BODY: Schema = body({
  tokens: { type: "array", items: TOKEN_ID },
  model: STRING,
}, ["tokens"]);

export const RESET_BODY: Schema = body({ target: { enum: ["all", "npu", null] } });
