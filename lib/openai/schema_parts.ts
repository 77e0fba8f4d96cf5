/**
 * What the schemas of request bodies are made of.
 *
 * They tell a client's generator what there is; they do not check anything. Every field may be null,
 * which is the same as absent, and fields that are not named are ignored.
 */

import type { Schema } from "./openapi.ts";

/** Fields by name. */
export type Properties = Readonly<Record<string, Schema>>;

export const BOOLEAN: Schema = { type: ["boolean", "null"] };
export const STRING: Schema = { type: ["string", "null"] };
export const OBJECT: Schema = { type: ["object", "null"] };
export const INTEGER: Schema = { type: ["integer", "null"] };
export const COUNT: Schema = { type: ["integer", "null"], minimum: 0 };
export const NUMBER: Schema = { type: ["number", "null"] };
export const TOKEN_ID: Schema = { type: "integer", minimum: 0 };
export const TEXT: Schema = { type: "string" };
export const TOKEN_IDS: Schema = { type: ["array", "null"], items: TOKEN_ID };
export const LIST: Schema = { type: ["array", "null"] };
export const OBJECTS: Schema = { type: ["array", "null"], items: { type: "object" } };
export const MESSAGES: Schema = {
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
export const PROMPTS: Schema = {
  anyOf: [
    TEXT,
    { type: "array", items: TEXT },
    { type: "array", items: TOKEN_ID },
    { type: "array", items: { type: "array", items: TOKEN_ID } },
  ],
};
export const TEXT_OR_OBJECT: Schema = { anyOf: [TEXT, { type: "object" }] };
export const TEXTS: Schema = { anyOf: [TEXT_OR_OBJECT, { type: "array", items: TEXT_OR_OBJECT }] };

/** What is said of a field whose type alone is looked at. */
export const IDLE = "Has no effect";

/** A number within limits, both of them allowed. */
export function between(minimum: number, maximum: number): Schema {
  return { ...NUMBER, minimum, maximum };
}

/** An object of fields. */
export function body(properties: Properties, required: readonly string[] = []): Schema {
  return { type: "object", properties, ...(required.length > 0 ? { required } : {}) };
}

/** Whom a request is for, and from. */
export const MODEL: Properties = {
  model: { ...STRING, description: "Ignored: the loaded model answers" },
  user: STRING,
  priority: { ...INTEGER, description: "Lower runs earlier" },
  request_id: STRING,
  cache_salt: {
    ...STRING,
    description: "Only requests of the same salt reuse each other's keys and values",
  },
};

/** How a conversation becomes a prompt. */
export const TEMPLATE: Properties = {
  add_generation_prompt: BOOLEAN,
  continue_final_message: BOOLEAN,
  chat_template: STRING,
  chat_template_kwargs: OBJECT,
  documents: OBJECTS,
};
