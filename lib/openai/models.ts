/** `GET /v1/models`, `GET /v1/models/{id}` and `GET /version`. */

import type { ModelInfo } from "../llm.ts";
import { randomHex, type RouteContext } from "./context.ts";
import { jsonResponse } from "./json.ts";
import { unknownModel } from "./served_names.ts";
import type { BucketCard, ModelCard, ModelList } from "./types.ts";
import { VERSION } from "./version.ts";

/** One card a served name. */
export async function getModels(context: RouteContext): Promise<Response> {
  const data: ModelCard[] = [];
  for (const name of context.settings.servedModelNames) data.push(await card(name, context));
  return jsonResponse({ object: "list", data } satisfies ModelList);
}

/** The card of one served name; a name with slashes may come encoded or plain. */
export async function getModel(context: RouteContext): Promise<Response> {
  const name = decoded(context.rest);
  if (!context.settings.servedModelNames.includes(name)) throw unknownModel(name);
  return jsonResponse(await card(name, context));
}

/** Our version, and the parts that a client of Furiosa-LLM looks for. */
export function getVersion(_context: RouteContext): Response {
  const emulated = { version: "2026.1.0", stage: "emulated", git_hash: "unknown" };
  const below = { version: "2026.1.0", git_hash: "unknown", build_time: "unknown" };
  return jsonResponse({
    version: VERSION,
    "furiosa-llm": emulated,
    "furiosa-runtime": below,
    "npu-ir": below,
  });
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // not percent-encoded after all
  }
}

/** Longest text in tokens, an answer with it: what clients cut and count by. */
export function maxModelLength({ task, maxPromptLength, maxContextLength }: ModelInfo): number {
  return task === "generate" ? maxContextLength : maxPromptLength;
}

async function card(id: string, context: RouteContext): Promise<ModelCard> {
  const { info } = context.llm;
  const { startedAt } = context.settings;
  return {
    id,
    object: "model",
    created: startedAt,
    owned_by: "vllm", // tools that choose a dialect look for this word, and it is the one spoken
    root: info.id,
    parent: null,
    max_model_len: maxModelLength(info),
    max_prompt_len: info.maxPromptLength,
    max_context_len: info.maxContextLength,
    artifact_id: await artifactId(info.fingerprint),
    runtime_config: {
      ...bucketCards(info.buckets),
      tensor_parallel_size: info.threads,
      pipeline_parallel_size: 1,
      data_parallel_size: 1,
    },
    permission: [{
      id: `modelperm-${randomHex()}`,
      object: "model_permission",
      created: startedAt,
      allow_create_engine: false,
      allow_sampling: true,
      allow_logprobs: true,
      allow_search_indices: false,
      allow_view: true,
      allow_fine_tuning: false,
      organization: "*",
      group: null,
      is_blocking: false,
    }],
  };
}

function bucketCards(buckets: ModelInfo["buckets"]): {
  prefill_buckets: BucketCard[];
  decode_buckets: BucketCard[];
  append_buckets: BucketCard[];
  tokenwise_buckets: readonly number[];
} {
  const cards = (
    rows: ModelInfo["buckets"]["append"],
    newTokens: (row: typeof rows[0]) => number,
  ) =>
    rows.map((row): BucketCard => ({
      batch_size: row.batchSize,
      attention_size: row.attentionSize,
      kv_cache_size: row.attentionSize - newTokens(row),
    }));
  return {
    prefill_buckets: cards(buckets.prefill, (row) => row.attentionSize),
    decode_buckets: cards(buckets.decode, () => 1),
    append_buckets: cards(buckets.append, (row) => row.inputSize ?? 1),
    tokenwise_buckets: buckets.tokenwise,
  };
}

/** A UUID made of the fingerprint's hash: the same model on the same numerics has the same id. */
async function artifactId(fingerprint: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(fingerprint));
  const bytes = new Uint8Array(digest, 0, 16);
  bytes[6] = (bytes[6] as number) & 0x0f | 0x80; // version 8: made by a rule of our own
  bytes[8] = (bytes[8] as number) & 0x3f | 0x80;
  const hex = bytes.toHex();
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)]
    .join("-");
}
