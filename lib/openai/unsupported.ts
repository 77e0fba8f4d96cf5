/**
 * Fields that ask for nothing that could be done, and fields that this version knows but cannot
 * honour: the ones are taken at any value of their type, the others at values that change nothing.
 */

import { isRecord } from "../base/record.ts";
import type { Fields } from "./body.ts";
import { badRequest, show } from "./errors.ts";

/** A field, how it is read, and whether a value of it asks for nothing. */
interface Row {
  readonly name: string;
  readonly read: "integer" | "boolean" | "string" | "list" | "record" | "raw";
  readonly neutral: (value: unknown) => boolean;
}

const always = (): boolean => true;
const never = (): boolean => false;
const isEmpty = (value: unknown): boolean =>
  Array.isArray(value) ? value.length === 0 : Object.keys(value as object).length === 0;
const is = (...words: readonly unknown[]) => (value: unknown): boolean => words.includes(value);
const holdsOnly = (word: string) => (value: unknown): boolean =>
  (value as readonly unknown[]).every((item) => item === word);

const BOTH: readonly Row[] = [
  // Whom a request is from and what it belongs to: nothing here depends on it.
  { name: "model", read: "string", neutral: always },
  { name: "user", read: "string", neutral: always },
  { name: "safety_identifier", read: "string", neutral: always },
  { name: "session_id", read: "string", neutral: always },
  { name: "metadata", read: "record", neutral: always },
  { name: "store", read: "boolean", neutral: always },
  { name: "service_tier", read: "string", neutral: always },
  { name: "prompt_cache_key", read: "string", neutral: always },
  // Advice: the prefix cache finds what can be reused, and no tokens are guessed ahead.
  { name: "prediction", read: "record", neutral: always },
  // For parts that this server has not: processors of media, custom ones of logits, experts.
  { name: "mm_processor_kwargs", read: "record", neutral: always },
  { name: "media_io_kwargs", read: "record", neutral: always },
  { name: "vllm_xargs", read: "record", neutral: always },
  { name: "routed_experts_prompt_start", read: "integer", neutral: always },
  // The tokenizers here are those that Hugging Face calls fast; with them it never had an effect.
  { name: "spaces_between_special_tokens", read: "boolean", neutral: always },
  { name: "logits_processors", read: "list", neutral: isEmpty },
  { name: "structured_outputs", read: "record", neutral: never },
  { name: "guided_json", read: "raw", neutral: never },
  { name: "guided_regex", read: "raw", neutral: never },
  { name: "guided_choice", read: "raw", neutral: never },
  { name: "guided_grammar", read: "raw", neutral: never },
  { name: "kv_transfer_params", read: "record", neutral: never },
  { name: "ec_transfer_params", read: "record", neutral: never },
  { name: "return_token_offsets", read: "boolean", neutral: is(false) },
];

const CHAT: readonly Row[] = [
  { name: "parallel_tool_calls", read: "boolean", neutral: always }, // no calls come without tools
  { name: "include_reasoning", read: "boolean", neutral: always }, // nothing is told apart yet
  { name: "verbosity", read: "string", neutral: always },
  { name: "modalities", read: "list", neutral: holdsOnly("text") },
  { name: "tools", read: "list", neutral: isEmpty },
  { name: "functions", read: "list", neutral: isEmpty },
  { name: "function_call", read: "raw", neutral: is("none", "auto") },
  { name: "audio", read: "record", neutral: never },
  { name: "web_search_options", read: "record", neutral: never },
  { name: "return_assistant_tokens_mask", read: "boolean", neutral: is(false) },
];

const COMPLETIONS: readonly Row[] = [
  { name: "prompt_embeds", read: "raw", neutral: never },
];

/** Refuses, by name, what would otherwise be silently not done. */
export function refuseUnsupported(fields: Fields, kind: "chat" | "completions"): void {
  refuseBroken(fields);
  const rows = kind === "chat" ? [...BOTH, ...CHAT] : [...BOTH, ...COMPLETIONS];
  if (kind === "chat") checkToolChoice(fields);
  checkThinkingBudget(fields);
  checkResponseFormat(fields);
  for (const row of rows) {
    const value = fields[row.read](row.name);
    if (value !== undefined && !row.neutral(value)) throw notYet(row.name, value);
  }
}

/** Values that will stay wrong when their field is supported, in vLLM's words. */
function refuseBroken(fields: Fields): void {
  if (fields.has("suffix")) throw badRequest("suffix is not currently supported", "suffix");
}

function checkResponseFormat(fields: Fields): void {
  const format = fields.object("response_format");
  if (format === undefined) return;
  const type = format.choice("type", ["text", "json_object", "json_schema", "structural_tag"]);
  if (type === undefined) throw format.missing("type");
  if (type === "json_schema" && !format.has("json_schema")) {
    throw badRequest(
      "When response_format type is 'json_schema', the 'json_schema' field must be provided.",
      "response_format",
    );
  }
  if (type !== "text") throw notYet("response_format", type);
}

function checkToolChoice(fields: Fields): void {
  const choice = fields.raw("tool_choice");
  if (choice === undefined || choice === "none") return;
  if (typeof choice === "string" ? !["auto", "required"].includes(choice) : !isRecord(choice)) {
    throw badRequest(
      `Invalid value for \`tool_choice\`: ${show(choice)}! Only named tools, "none", "auto" or ` +
        '"required" are supported.',
      "tool_choice",
    );
  }
  if ((fields.list("tools") ?? []).length === 0) {
    throw badRequest("When using `tool_choice`, `tools` must be set.", "tool_choice");
  }
}

function checkThinkingBudget(fields: Fields): void {
  const name = "thinking_token_budget";
  const budget = fields.raw(name);
  if (budget === undefined || budget === -1) return;
  throw badRequest(
    typeof budget === "number" && Number.isInteger(budget) && budget >= 0
      ? `${name} is set but reasoning_config is not configured.`
      : `\`${name}\` must be a non-negative integer or -1 for unlimited.`,
    name,
  );
}

function notYet(name: string, value: unknown): Error {
  return badRequest(`${name} is not supported yet, got ${show(value)}: leave it out`, name);
}
