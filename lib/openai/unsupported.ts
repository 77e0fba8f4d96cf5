/** Fields that this version knows but cannot honour: taken at the value that changes nothing, refused otherwise. */

import type { Fields } from "./body.ts";
import { badRequest, show } from "./errors.ts";

/** A field, how it is read, and whether a value of it asks for nothing. */
interface Row {
  readonly name: string;
  readonly read: "integer" | "boolean" | "list" | "record" | "raw";
  readonly neutral: (value: unknown) => boolean;
}

const never = (): boolean => false;
const isEmpty = (value: unknown): boolean =>
  Array.isArray(value) ? value.length === 0 : Object.keys(value as object).length === 0;
const is = (...words: readonly unknown[]) => (value: unknown): boolean => words.includes(value);

const BOTH: readonly Row[] = [
  { name: "logprob_token_ids", read: "list", neutral: isEmpty },
  { name: "logits_processors", read: "list", neutral: isEmpty },
  { name: "structured_outputs", read: "record", neutral: never },
  { name: "guided_json", read: "raw", neutral: never },
  { name: "guided_regex", read: "raw", neutral: never },
  { name: "guided_choice", read: "raw", neutral: never },
  { name: "guided_grammar", read: "raw", neutral: never },
  { name: "spaces_between_special_tokens", read: "boolean", neutral: is(true) },
  { name: "truncation_side", read: "raw", neutral: is("left") },
  { name: "echo", read: "boolean", neutral: is(false) },
  { name: "kv_transfer_params", read: "record", neutral: never },
  { name: "ec_transfer_params", read: "record", neutral: never },
  { name: "repetition_detection", read: "record", neutral: never },
  { name: "stream_interval", read: "integer", neutral: is(1) },
];

const CHAT: readonly Row[] = [
  { name: "tools", read: "list", neutral: isEmpty },
  { name: "functions", read: "list", neutral: isEmpty },
  { name: "function_call", read: "raw", neutral: is("none", "auto") },
  { name: "audio", read: "record", neutral: never },
  { name: "web_search_options", read: "record", neutral: never },
  { name: "thinking_token_budget", read: "integer", neutral: is(-1) },
  { name: "return_token_offsets", read: "boolean", neutral: is(false) },
  { name: "return_assistant_tokens_mask", read: "boolean", neutral: is(false) },
  { name: "add_special_tokens", read: "boolean", neutral: is(false) },
];

const COMPLETIONS: readonly Row[] = [
  { name: "prompt_embeds", read: "raw", neutral: never },
];

/** Refuses, by name, what would otherwise be silently not done. */
export function refuseUnsupported(fields: Fields, kind: "chat" | "completions"): void {
  refuseBroken(fields);
  const rows = kind === "chat" ? [...BOTH, ...CHAT] : [...BOTH, ...COMPLETIONS];
  if (kind === "chat") checkToolChoice(fields);
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
  if (typeof choice === "string" ? !["auto", "required"].includes(choice) : !isObject(choice)) {
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

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function notYet(name: string, value: unknown): Error {
  return badRequest(`${name} is not supported yet, got ${show(value)}: leave it out`, name);
}
