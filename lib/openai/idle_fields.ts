/** Fields of the routes that generate nothing that change nothing: of another type they are mistakes all the same. */

import type { Fields } from "./body.ts";

/** How each is read. */
export type IdleFields = Readonly<
  Record<string, "boolean" | "integer" | "list" | "record" | "string">
>;

/** Of every request for vectors, labels or scores. */
export const POOLED: IdleFields = { user: "string", mm_processor_kwargs: "record" };

/** Furiosa-LLM's name for the only template there was. */
export const PAIRED: IdleFields = { ...POOLED, use_qwen3_template: "boolean" };

/** Jina's and Cohere's: documents always come back, as they were sent and whole. */
export const RERANKED: IdleFields = {
  return_documents: "boolean",
  rank_fields: "list",
  max_chunks_per_doc: "integer",
};

export const TOKENIZED: IdleFields = {
  mm_processor_kwargs: "record",
  media_io_kwargs: "record",
};

/** Refuses values of a wrong type, by name. */
export function checkIdleFields(fields: Fields, rows: IdleFields): void {
  for (const [name, read] of Object.entries(rows)) fields[read](name);
}
