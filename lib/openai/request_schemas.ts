/** JSON Schemas of the other request bodies, for the API document. */

import type { Schema } from "./openapi.ts";
import {
  body,
  BOOLEAN,
  COUNT,
  IDLE,
  INTEGER,
  LIST,
  MESSAGES,
  MODEL,
  OBJECT,
  OBJECTS,
  PROMPTS,
  type Properties,
  STRING,
  TEMPLATE,
  TEXT_OR_OBJECT,
  TEXTS,
  TOKEN_ID,
} from "./schema_parts.ts";
import { NUMBER_FORMATS } from "./small_floats.ts";

const IDLE_OBJECT: Schema = { ...OBJECT, description: IDLE };

const VECTORS: Properties = {
  encoding_format: { enum: ["float", "base64", null] },
  embed_dtype: {
    enum: [...NUMBER_FORMATS, null],
    description: "Of numbers in base64",
  },
  endianness: { enum: ["native", "big", "little", null] },
  dimensions: { ...INTEGER, minimum: 1 },
  normalize: BOOLEAN,
};

/** One conversation or several. */
const CONVERSATIONS: Schema = { anyOf: [MESSAGES, { type: "array", items: MESSAGES }] };

/** Of one prompt or several; conversations may take their place, under either name. */
const INPUT: Properties = {
  input: { anyOf: [PROMPTS, CONVERSATIONS] },
  messages: CONVERSATIONS,
  ...TEMPLATE,
  ...MODEL,
  mm_processor_kwargs: IDLE_OBJECT,
  use_activation: BOOLEAN,
  add_special_tokens: BOOLEAN,
  truncate_prompt_tokens: { ...INTEGER, minimum: -1 },
  truncation_side: { enum: ["left", "right", null] },
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
  mm_processor_kwargs: IDLE_OBJECT,
  use_qwen3_template: { ...BOOLEAN, description: IDLE },
  chat_template_kwargs: OBJECT,
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
  return_documents: { ...BOOLEAN, description: IDLE },
  rank_fields: { ...LIST, description: IDLE },
  max_chunks_per_doc: { ...INTEGER, description: IDLE },
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
    mm_processor_kwargs: IDLE_OBJECT,
    media_io_kwargs: IDLE_OBJECT,
  }),
  anyOf: [{ required: ["prompt"] }, { required: ["messages"] }],
};

export const DETOKENIZE_BODY: Schema = body({
  tokens: { type: "array", items: TOKEN_ID },
  model: STRING,
}, ["tokens"]);

export const RESET_BODY: Schema = body({ target: { enum: ["all", "npu", null] } });
