/** For each parameter of `docs/compatibility.md` a request that makes something of it. */

import type { ChatMessage, ChatOptions } from "../../lib/llm.ts";
import { classifierModel, embeddingModel } from "../helpers/fake_pooling.ts";
import { FakeLLM } from "./fake_llm.ts";
import { CHAT, COMPLETIONS, HELLO } from "./requests.ts";

/** A fake that also keeps how it was asked to render conversations. */
export class WatchedLLM extends FakeLLM {
  readonly rendered: { messages: readonly ChatMessage[]; options: ChatOptions }[] = [];

  override tokenizeChat(
    messages: readonly ChatMessage[],
    options: ChatOptions = {},
  ): Promise<number[]> {
    this.rendered.push({ messages, options });
    return super.tokenizeChat(messages, options);
  }
}

/** Requests that can carry a field. */
export interface Carrier {
  readonly path: string;
  readonly body: object;
  readonly model: () => WatchedLLM;
}

/** The parameters under one heading of the page. */
export interface Table {
  readonly carriers: readonly Carrier[];
  /** For each name a body with the field at a value that asks for something, and what it needs beside it. */
  readonly bodies: Readonly<Record<string, object>>;
  /** Others, for names of which those make nothing. */
  readonly carriersOf?: Readonly<Record<string, readonly Carrier[]>>;
}

const generator = () => new WatchedLLM({ cachedTokens: 1 });
const embedder = () =>
  new WatchedLLM({ pooling: embeddingModel({ lengths: { min: 1, only: undefined } }) });
const ending = () => new WatchedLLM({ pooling: embeddingModel({ endTokenId: 2 }) });
const classifier = () => new WatchedLLM({ pooling: classifierModel(3) });
const scorer = () => new WatchedLLM({ pooling: classifierModel(1) });

const reranker = () =>
  new WatchedLLM({ pooling: classifierModel(1, { pairs: "prompt" }, { maxLength: 800 }) });

const chat: Carrier = { path: CHAT, body: HELLO, model: generator };
const completions: Carrier = { path: COMPLETIONS, body: { prompt: "Hi" }, model: generator };
const embeddings: Carrier = { path: "/v1/embeddings", body: { input: "one two" }, model: embedder };
const pooling: Carrier = { path: "/pooling", body: { input: "one two" }, model: embedder };
const classify: Carrier = { path: "/classify", body: { input: "one two" }, model: classifier };
const score: Carrier = {
  path: "/score",
  body: { text_1: "one", text_2: "two three four" },
  model: scorer,
};
const rerank: Carrier = {
  path: "/rerank",
  body: { query: "one two", documents: ["two three", "one"] },
  model: scorer,
};

const instructed = [score, rerank].map((carrier) => ({ ...carrier, model: reranker }));

const tokenize: Carrier = { path: "/tokenize", body: {}, model: generator };
const detokenize: Carrier = { path: "/detokenize", body: {}, model: generator };
const reset: Carrier = { path: "/reset_prefix_cache", body: {}, model: generator };

const BEAM = { use_beam_search: true, n: 2 };
const OTHER_MESSAGES = [{ role: "user", content: "Bye" }];

/** A chat of one message, with further keys or others. */
function message(keys: object): object {
  return { messages: [{ role: "user", content: "Hi", ...keys }] };
}

/** Each type of a message's part, and the key that it brings. */
const PARTS: ReadonlyMap<string, string> = new Map([
  ["text", "text"],
  ["input_text", "text"],
  ["output_text", "text"],
  ["refusal", "refusal"],
  ["thinking", "thinking"],
  ["audio_embeds", "audio_embeds"],
  ["audio_url", "audio_url"],
  ["file", "file"],
  ["image_embeds", "image_embeds"],
  ["image_url", "image_url"],
  ["input_audio", "input_audio"],
  ["prompt_embeds", "data"],
  ["tool_reference", "name"],
  ["video_url", "video_url"],
]);

/** The headings of the page with parameters. */
export const TABLES: Readonly<Record<string, Table>> = {
  Sampling: {
    carriers: [chat, completions],
    bodies: {
      model: { model: "other" },
      user: { user: "u" },
      stream: { stream: true },
      "stream_options.include_obfuscation": {
        stream: true,
        stream_options: { include_obfuscation: true },
      },
      "stream_options.include_usage": { stream: true, stream_options: { include_usage: true } },
      "stream_options.continuous_usage_stats": {
        stream: true,
        stream_options: { include_usage: true, continuous_usage_stats: true },
      },
      n: { n: 2 },
      best_of: { best_of: 2 },
      temperature: { temperature: 0.5 },
      top_p: { top_p: 0.5 },
      top_k: { top_k: 5 },
      min_p: { min_p: 0.1 },
      presence_penalty: { presence_penalty: 1 },
      frequency_penalty: { frequency_penalty: 1 },
      repetition_penalty: { repetition_penalty: 1.1 },
      length_penalty: { ...BEAM, length_penalty: 2 },
      early_stopping: { ...BEAM, early_stopping: true },
      use_beam_search: BEAM,
      seed: { seed: 1 },
      stop: { stop: ["x"] },
      stop_token_ids: { stop_token_ids: [7] },
      include_stop_str_in_output: { stop: "x", include_stop_str_in_output: true },
      bad_words: { bad_words: ["x"] },
      logit_bias: { logit_bias: { 7: 1 } },
      allowed_token_ids: { allowed_token_ids: [7] },
      ignore_eos: { ignore_eos: true },
      max_tokens: { max_tokens: 2 },
      min_tokens: { min_tokens: 2 },
      prompt_logprobs: { prompt_logprobs: 1 },
      truncate_prompt_tokens: { truncate_prompt_tokens: 1 },
      truncation_side: { truncate_prompt_tokens: 1, truncation_side: "right" },
      skip_special_tokens: { skip_special_tokens: false },
      spaces_between_special_tokens: { spaces_between_special_tokens: false },
      return_token_ids: { return_token_ids: true },
      return_tokens_as_token_ids: { logprobs: true, return_tokens_as_token_ids: true },
      forced_output: { forced_output: "x" },
      priority: { priority: 1 },
      request_id: { request_id: "r" },
      session_id: { session_id: "s" },
      cache_salt: { cache_salt: "s" },
      echo: {
        messages: [{ role: "assistant", content: "So" }],
        add_generation_prompt: false,
        continue_final_message: true,
        echo: true,
      },
      logprob_token_ids: { logprobs: true, logprob_token_ids: [7] },
      logits_processors: { logits_processors: ["x"] },
      response_format: { response_format: { type: "json_object" } },
      structured_outputs: { structured_outputs: { regex: "a" } },
      thinking_token_budget: { thinking_token_budget: 5 },
      guided_json: { guided_json: {} },
      guided_regex: { guided_regex: "a" },
      guided_choice: { guided_choice: ["a"] },
      guided_grammar: { guided_grammar: "root ::= 'a'" },
      guided_decoding_backend: { guided_decoding_backend: "x" },
      guided_whitespace_pattern: { guided_whitespace_pattern: " " },
      repetition_detection: { repetition_detection: { max_pattern_size: 3, min_count: 2 } },
      stream_interval: { stream: true, stream_interval: 2 },
      kv_transfer_params: { kv_transfer_params: {} },
      ec_transfer_params: { ec_transfer_params: {} },
      vllm_xargs: { vllm_xargs: {} },
      return_token_offsets: { return_token_offsets: true },
      prediction: { prediction: { type: "content", content: "x" } },
      store: { store: true },
      metadata: { metadata: { a: "b" } },
      service_tier: { service_tier: "flex" },
      prompt_cache_key: { prompt_cache_key: "k" },
      prompt_cache_retention: { prompt_cache_retention: "24h" },
      safety_identifier: { safety_identifier: "i" },
      suffix: { suffix: "x" },
      media_io_kwargs: { media_io_kwargs: {} },
      mm_processor_kwargs: { mm_processor_kwargs: {} },
      routed_experts_prompt_start: { routed_experts_prompt_start: 1 },
    },
  },
  Chat: {
    carriers: [chat],
    bodies: {
      messages: { messages: OTHER_MESSAGES },
      max_completion_tokens: { max_completion_tokens: 2 },
      logprobs: { logprobs: true },
      top_logprobs: { logprobs: true, top_logprobs: 2 },
      add_generation_prompt: { add_generation_prompt: false },
      continue_final_message: { add_generation_prompt: false, continue_final_message: true },
      chat_template: { chat_template: "{{ x }}" },
      chat_template_kwargs: { chat_template_kwargs: { depth: 1 } },
      documents: { documents: [{ text: "d" }] },
      reasoning_effort: { reasoning_effort: "low" },
      return_prompt_text: { return_prompt_text: true },
      tools: { tools: [{ type: "function", function: { name: "f" } }] },
      tool_choice: { tool_choice: "required" },
      parallel_tool_calls: { parallel_tool_calls: false },
      functions: { functions: [{ name: "f" }] },
      function_call: { function_call: { name: "f" } },
      include_reasoning: { include_reasoning: false },
      add_special_tokens: { add_special_tokens: true },
      return_assistant_tokens_mask: { return_assistant_tokens_mask: true },
      audio: { audio: { voice: "v", format: "wav" } },
      modalities: { modalities: ["text", "audio"] },
      web_search_options: { web_search_options: {} },
      verbosity: { verbosity: "low" },
    },
  },
  Messages: {
    carriers: [chat],
    bodies: {
      "messages.role": message({ role: "critic" }),
      "messages.content": message({ content: null }),
      "messages.name": message({ name: "Ann" }),
      "messages.reasoning": message({ role: "assistant", reasoning: "so" }),
      "messages.reasoning_content": message({ role: "assistant", reasoning_content: "so" }),
      "messages.tool_call_id": message({ role: "tool", tool_call_id: "1" }),
      "messages.tool_calls": message({
        role: "assistant",
        tool_calls: [{ id: "1", type: "function", function: { name: "f", arguments: "{}" } }],
      }),
      ...Object.fromEntries([...PARTS].map(([type, key]) => [
        `messages.content.${type}`,
        message({ content: [{ type, [key]: "x" }] }),
      ])),
    },
  },
  Completions: {
    carriers: [completions],
    bodies: {
      prompt: { prompt: [1, 2] },
      logprobs: { logprobs: 1 },
      add_special_tokens: { add_special_tokens: false },
      prompt_embeds: { prompt_embeds: "AAAA" },
    },
  },
  Inputs: {
    carriers: [embeddings, pooling, classify],
    carriersOf: {
      add_special_tokens: [embeddings, pooling].map((carrier) => ({ ...carrier, model: ending })),
    },
    bodies: {
      model: { model: "other" },
      user: { user: "u" },
      input: { input: ["x", "y"] },
      add_special_tokens: { input: "x", add_special_tokens: false },
      truncate_prompt_tokens: { truncate_prompt_tokens: 1 },
      truncation_side: { truncate_prompt_tokens: 2, truncation_side: "right" },
      use_activation: { use_activation: false },
      priority: { priority: 1 },
      request_id: { request_id: "r" },
      cache_salt: { cache_salt: "s" },
      mm_processor_kwargs: { mm_processor_kwargs: {} },
    },
  },
  Conversations: {
    carriers: [embeddings, pooling, classify].map(({ path, model }) => ({
      path,
      body: { messages: HELLO["messages"] },
      model,
    })),
    bodies: {
      messages: { messages: OTHER_MESSAGES },
      add_generation_prompt: { add_generation_prompt: true },
      continue_final_message: { continue_final_message: true },
      chat_template: { chat_template: "{{ x }}" },
      chat_template_kwargs: { chat_template_kwargs: { depth: 1 } },
      documents: { documents: [{ text: "d" }] },
    },
  },
  Vectors: {
    carriers: [embeddings, pooling],
    bodies: {
      encoding_format: { encoding_format: "base64" },
      embed_dtype: { encoding_format: "base64", embed_dtype: "float16" },
      endianness: { encoding_format: "base64", endianness: "big" },
      dimensions: { dimensions: 2 },
      normalize: { normalize: false },
    },
  },
  Pooling: { carriers: [pooling], bodies: { task: { task: "token_embed" } } },
  Pairs: {
    carriers: [score, rerank],
    carriersOf: {
      instruction: instructed,
      chat_template_kwargs: instructed,
    },
    bodies: {
      model: { model: "other" },
      user: { user: "u" },
      use_activation: { use_activation: false },
      truncate_prompt_tokens: { truncate_prompt_tokens: 15 },
      truncation_side: { truncate_prompt_tokens: 15, truncation_side: "left" },
      max_tokens_per_query: { max_tokens_per_query: 1 },
      max_tokens_per_doc: { max_tokens_per_doc: 1 },
      instruction: { instruction: "find it" },
      priority: { priority: 1 },
      request_id: { request_id: "r" },
      chat_template_kwargs: { chat_template_kwargs: { instruction: "find it" } },
      use_qwen3_template: { use_qwen3_template: true },
      mm_processor_kwargs: { mm_processor_kwargs: {} },
      cache_salt: { cache_salt: "s" },
    },
  },
  Score: {
    carriers: [score],
    bodies: {
      text_1: { text_1: "x" },
      text_2: { text_2: "x" },
      data_1: { data_1: "x", data_2: "y" },
      data_2: { data_1: "x", data_2: "y" },
      queries: { queries: "x", documents: "y" },
      documents: { queries: "x", documents: "y" },
      items: { queries: "x", items: "y" },
    },
  },
  Rerank: {
    carriers: [rerank],
    bodies: {
      query: { query: "x" },
      documents: { documents: ["x"] },
      top_n: { top_n: 1 },
      return_documents: { return_documents: false },
      rank_fields: { rank_fields: ["text"] },
      max_chunks_per_doc: { max_chunks_per_doc: 1 },
    },
  },
  Tokenize: {
    carriers: [tokenize],
    bodies: {
      prompt: { prompt: "ab" },
      messages: HELLO,
      model: { prompt: "ab", model: "other" },
      add_special_tokens: { prompt: "ab", add_special_tokens: false },
      return_token_strs: { prompt: "ab", return_token_strs: true },
      tools: { ...HELLO, tools: [{ type: "function", function: { name: "f" } }] },
      add_generation_prompt: { ...HELLO, add_generation_prompt: false },
      continue_final_message: {
        ...HELLO,
        add_generation_prompt: false,
        continue_final_message: true,
      },
      chat_template: { ...HELLO, chat_template: "{{ x }}" },
      chat_template_kwargs: { ...HELLO, chat_template_kwargs: { depth: 1 } },
      documents: { ...HELLO, documents: [{ text: "d" }] },
      media_io_kwargs: { ...HELLO, media_io_kwargs: {} },
      mm_processor_kwargs: { ...HELLO, mm_processor_kwargs: {} },
    },
  },
  Detokenize: {
    carriers: [detokenize],
    bodies: { tokens: { tokens: [97, 98] }, model: { tokens: [97], model: "other" } },
  },
  "Reset of the prefix cache": { carriers: [reset], bodies: { target: { target: "host" } } },
};
