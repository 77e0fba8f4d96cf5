/** Requests that must be refused: status, type, the field, and the words clients look for. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import {
  ChatTemplateError,
  ClosedError,
  ContextLengthError,
  InvalidParameterError,
  QueueFullError,
  UnsupportedTaskError,
} from "../../lib/base/errors.ts";
import { embeddingModel } from "../helpers/fake_pooling.ts";
import { FakeLLM } from "./fake_llm.ts";
import { ask, CHAT, COMPLETIONS, events, HELLO, post, refusal, send } from "./requests.ts";

/** Fields of both endpoints: what is sent, the param named, a part of the message. */
const BOTH: readonly [Record<string, unknown>, string, string][] = [
  [{ temperature: -1 }, "temperature", "temperature must be non-negative, got -1"],
  [{ temperature: 2.5 }, "temperature", "temperature must be in [0, 2], got 2.5"],
  [{ temperature: "hot" }, "body.temperature", "float_parsing"],
  [{ temperature: [1] }, "body.temperature", "float_type"],
  [{ top_p: 0 }, "top_p", "top_p must be in (0, 1], got 0"],
  [{ top_k: -2 }, "top_k", "top_k must be 0 (disable), or at least 1, got -2"],
  [{ top_k: 2 ** 53 }, "top_k", "top_k 9007199254740992: it must be at most 9007199254740991"],
  [{ top_k: 5.5 }, "body.top_k", "int_from_float"],
  [{ top_k: "many" }, "body.top_k", "int_parsing"],
  [{ min_p: 1.5 }, "min_p", "min_p must be in [0, 1], got 1.5"],
  [{ repetition_penalty: 0 }, "repetition_penalty", "must be greater than zero, got 0"],
  [
    { repetition_penalty: "1e400" },
    "repetition_penalty",
    "repetition_penalty Infinity: it must be a finite number greater than 0",
  ],
  [{ presence_penalty: 3 }, "presence_penalty", "presence_penalty must be in [-2, 2], got 3"],
  [{ frequency_penalty: -3 }, "frequency_penalty", "must be in [-2, 2], got -3"],
  [
    { max_tokens: 129 },
    "max_tokens",
    "max_tokens=129 cannot be greater than max_model_len=max_total_tokens=128. Please request " +
    "fewer output tokens.",
  ],
  [{ max_tokens: 1e300 }, "max_tokens", "cannot be greater than max_model_len"],
  [{ max_tokens: 0 }, "max_tokens", "max_tokens must be at least 1, got 0"],
  [{ min_tokens: -1 }, "min_tokens", "min_tokens must be greater than or equal to 0, got -1"],
  [{ min_tokens: 1e300 }, "min_tokens", "min_tokens 1e+300: it must be at most 9007199254740991"],
  [{ min_tokens: 5, max_tokens: 4 }, "min_tokens", "less than or equal to max_tokens=4, got 5"],
  [{ prompt_logprobs: 21 }, "prompt_logprobs", "greater than max allowed: 20"],
  [{ prompt_logprobs: -1 }, "prompt_logprobs", "Requested prompt logprobs of 512"],
  [{ prompt_logprobs: -2 }, "prompt_logprobs", "`prompt_logprobs`"],
  [{ prompt_logprobs: "x" }, "prompt_logprobs", "`prompt_logprobs` must be an integer."],
  [{ prompt_logprobs: "5" }, "prompt_logprobs", "`prompt_logprobs` must be an integer."],
  [{ prompt_logprobs: [1] }, "prompt_logprobs", "`prompt_logprobs` must be an integer."],
  [{ prompt_logprobs: 1.5 }, "body.prompt_logprobs", "int_from_float"],
  [{ prompt_logprobs: 1, stream: true }, "prompt_logprobs", "not available when `stream=True`"],
  [{ stream_options: { include_usage: true } }, "stream_options", "when `stream=True`"],
  [{ stream_options: { include_usage: null } }, "stream_options", "when `stream=True`"],
  [{ stream_options: 1 }, "body.stream_options", "dict_type"],
  [{ stream: "maybe" }, "body.stream", "bool_parsing"],
  [{ seed: 2 ** 63 }, "body.seed", "less_than_equal"],
  [{ seed: "9223372036854775808" }, "body.seed", "less_than_equal"],
  [{ seed: "-9223372036854775809" }, "body.seed", "greater_than_equal"],
  [{ seed: 1.5 }, "body.seed", "int_from_float"],
  [{ seed: -(2 ** 63) * 1.1 }, "body.seed", "greater_than_equal"],
  [{ stop_token_ids: [1, "b"] }, "body.stop_token_ids.1", "int_parsing"],
  [{ stop_token_ids: 7 }, "body.stop_token_ids", "list_type"],
  [{ n: 0 }, "n", "n must be at least 1, got 0"],
  [{ n: 129 }, "n", "n must be at most 128, got 129."],
  [{ n: 2, temperature: 0 }, "n", "n must be 1 when using greedy sampling, got 2."],
  [{ n: "many" }, "body.n", "int_parsing"],
  [{ n: 3, best_of: 2 }, "best_of", "got n=3 and best_of=2."],
  [{ best_of: 2, temperature: 0 }, "best_of", "best_of must be 1 when using greedy sampling"],
  [{ best_of: 2, stream: true }, "best_of", "best_of must equal n to use output_kind=DELTA"],
  [{ best_of: 0 }, "best_of", "best_of must be greater than or equal to n"],
  [{ stop: 5 }, "body.stop", "it must be a string or an array of strings (list_type)"],
  [{ stop: ["a", 5] }, "body.stop.1", "string_type"],
  [{ stop: "" }, "stop", "stop cannot contain an empty string."],
  [{ stop: [""] }, "stop", "stop cannot contain an empty string."],
  [{ stop: Array(17).fill("x") }, "body.stop", "too_long"],
  [
    { logit_bias: { a: 1, 5: 1, "1.5": 0 } },
    "logit_bias",
    "key(s) that cannot be converted to integer token IDs: ['a', '1.5']",
  ],
  [{ logit_bias: { 5: 1, 512: 1, "-1": 1 } }, "logit_bias", "token_id(s) [512, -1] in logit_bias"],
  [{ logit_bias: { 512: 1 } }, "logit_bias", "Vocabulary size: 512"],
  [{ logit_bias: { 5: "much" } }, "body.logit_bias.5", "float_parsing"],
  [{ logit_bias: { 5: null } }, "body.logit_bias.5", "float_type"],
  [{ logit_bias: [5] }, "body.logit_bias", "dict_type"],
  [{ allowed_token_ids: [512] }, "allowed_token_ids", "contains out-of-vocab token id!"],
  [{ allowed_token_ids: 5 }, "body.allowed_token_ids", "list_type"],
  [{ bad_words: ["a", ""] }, "bad_words", "contain an empty string. Got bad_words=['a', '']"],
  [{ bad_words: "a" }, "body.bad_words", "list_type"],
  [{ bad_words: [1] }, "body.bad_words.0", "string_type"],
  [{ include_stop_str_in_output: "?" }, "body.include_stop_str_in_output", "bool_parsing"],
  [
    { truncate_prompt_tokens: 120, max_tokens: 9 },
    "truncate_prompt_tokens",
    "truncate_prompt_tokens=120 cannot be greater than max_model_len - max_tokens = 119.",
  ],
  [{ truncate_prompt_tokens: -2 }, "body.truncate_prompt_tokens", "greater_than_equal"],
  [{ truncate_prompt_tokens: 0 }, "truncate_prompt_tokens", "must be an integer and at least 1"],
  [{ truncation_side: "top" }, "body.truncation_side", "Input should be 'left' or 'right'"],
  [{ forced_output: "" }, "forced_output", "must not be empty"],
  [{ forced_output: [] }, "forced_output", "must not be empty"],
  [{ forced_output: 5 }, "body.forced_output", "string_type"],
  [{ forced_output: [512] }, "forced_output.0", "Token id 512 is out of vocabulary"],
  [
    { forced_output: "x", use_beam_search: true, n: 2 },
    "forced_output",
    "forced_output cannot be used with use_beam_search.",
  ],
  [{ allowed_token_ids: [] }, "allowed_token_ids", "is not None and empty"],
  [{ use_beam_search: true }, "n", "n must be greater than 1 when using beam search. Got 1."],
  [{ use_beam_search: true, n: 65 }, "n", "n must be at most 64 when using beam search"],
  [{ use_beam_search: true, best_of: 1 }, "best_of", "best_of must be greater than 1"],
  [{ use_beam_search: true, n: 2, early_stopping: "now" }, "body.early_stopping", "bool_parsing"],
  [{ length_penalty: 2 }, "length_penalty", "length_penalty is not effective and must be the"],
  [{ early_stopping: true }, "early_stopping", "early_stopping is not effective and must be"],
  [{ early_stopping: "never" }, "early_stopping", "must be False when not using beam search."],
  [{ use_beam_search: true, stream: true }, "stream", "Streaming is not currently supported"],
  [{ response_format: { type: "json_object" } }, "response_format", "not supported yet"],
  [{ response_format: { type: "json_schema" } }, "response_format", "'json_schema' field must be"],
  [{ response_format: { type: "yaml" } }, "body.response_format.type", "literal_error"],
  [{ structured_outputs: { regex: "a" } }, "structured_outputs", "not supported yet"],
  [{ guided_json: {} }, "guided_json", "not supported yet"],
  [{ guided_choice: ["a"] }, "guided_choice", "not supported yet"],
  [{ echo: "maybe" }, "body.echo", "bool_parsing"],
  [{ stream_interval: 0 }, "stream_interval", "must be greater than or equal to 1, got 0."],
  [{ stream_interval: 1.5 }, "body.stream_interval", "int_from_float"],
  [{ logprob_token_ids: [5] }, "logprob_token_ids", "`logprobs` must be set"],
  [{ logprob_token_ids: Array(129).fill(5) }, "body.logprob_token_ids", "too_long"],
  [{ logprob_token_ids: ["x"] }, "body.logprob_token_ids.0", "int_parsing"],
  [{ logprobs: 1, logprob_token_ids: [512] }, "logprob_token_ids", "token_id(s) [512] in logprob_"],
  [
    { logprobs: 1, logprob_token_ids: [5], use_beam_search: true, n: 2 },
    "logprob_token_ids",
    "it cannot be used with use_beam_search",
  ],
  [{ repetition_detection: 1 }, "body.repetition_detection", "dict_type"],
  [
    { repetition_detection: { max_pattern_size: 2, min_pattern_size: 3, min_count: 2 } },
    "repetition_detection",
    "with min_pattern_size <= max_pattern_size",
  ],
  [
    { repetition_detection: { max_pattern_size: 2, min_count: 1 } },
    "repetition_detection",
    "min_count must be >= 2 to detect repetitive patterns.",
  ],
  [
    { repetition_detection: { max_pattern_size: "x" } },
    "body.repetition_detection.max_pattern_size",
    "int_parsing",
  ],
  [{ kv_transfer_params: { prompt_token_ids: [1] } }, "kv_transfer_params", "not supported yet"],
  [{ ec_transfer_params: {} }, "ec_transfer_params", "not supported yet"],
  [{ logits_processors: ["x"] }, "logits_processors", "not supported yet"],
  [{ return_token_offsets: true }, "return_token_offsets", "not supported yet"],
  [{ vllm_xargs: 1 }, "body.vllm_xargs", "dict_type"],
  [{ user: 1 }, "body.user", "string_type"],
  [{ model: 1 }, "body.model", "string_type"],
  [{ session_id: {} }, "body.session_id", "string_type"],
  [{ metadata: [] }, "body.metadata", "dict_type"],
  [{ store: "maybe" }, "body.store", "bool_parsing"],
  [{ service_tier: 1 }, "body.service_tier", "string_type"],
  [{ prompt_cache_key: [] }, "body.prompt_cache_key", "string_type"],
  [{ prediction: "x" }, "body.prediction", "dict_type"],
  [{ mm_processor_kwargs: [] }, "body.mm_processor_kwargs", "dict_type"],
  [{ spaces_between_special_tokens: "?" }, "body.spaces_between_special_tokens", "bool_parsing"],
  [{ thinking_token_budget: 5 }, "thinking_token_budget", "reasoning_config is not configured"],
  [{ thinking_token_budget: -2 }, "thinking_token_budget", "must be a non-negative integer or -1"],
  [{ suffix: "x" }, "suffix", "suffix is not currently supported"],
  [{ cache_salt: "" }, "body.cache_salt", "string_too_short"],
  [{ priority: 1e19 }, "body.priority", "less_than_equal"],
  [{ priority: -1e19 }, "body.priority", "greater_than_equal"],
  [{ priority: 1.5 }, "body.priority", "int_from_float"],
];

const CHAT_ONLY: readonly [Record<string, unknown>, string, string][] = [
  [{ messages: null }, "body.messages", "Field required"],
  [{ messages: "Hi" }, "body.messages", "list_type"],
  [{ messages: [1] }, "body.messages.0", "dict_type"],
  [{ messages: [{ content: "Hi" }] }, "body.messages.0.role", "missing"],
  [{ messages: [{ role: 3 }] }, "body.messages.0.role", "string_type"],
  [{ messages: [{ role: "user", content: 3 }] }, "body.messages.0.content", "a string"],
  [{ messages: [{ role: "user", content: [{}] }] }, "type", "Missing 'type' field"],
  [{ messages: [{ role: "user", content: [{ type: "x" }] }] }, "type", "Unsupported chat content"],
  [
    { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "u" } }] }] },
    "messages.0.content.0",
    "fake/model is not a multimodal model",
  ],
  [
    { messages: [{ role: "user", content: [{ uuid: "1", image_url: "u" }] }] },
    "messages.0.content.0",
    "fake/model is not a multimodal model",
  ],
  [{ messages: [{ role: "user", name: 5 }] }, "body.messages.0.name", "string_type"],
  [
    { messages: [{ role: "tool", tool_call_id: 5 }] },
    "body.messages.0.tool_call_id",
    "string_type",
  ],
  [{ messages: [{ role: "assistant", reasoning: 5 }] }, "body.messages.0.reasoning", "string_type"],
  [
    { messages: [{ role: "assistant", reasoning_content: {} }] },
    "body.messages.0.reasoning_content",
    "string_type",
  ],
  [
    { messages: [{ role: "assistant", tool_calls: [{ function: null }] }] },
    "tool_calls",
    "only support assistant tool_calls of type 'function'",
  ],
  [
    { messages: [{ role: "assistant", tool_calls: [{ type: "function", function: [] }] }] },
    "tool_calls",
    "only support assistant tool_calls of type 'function'",
  ],
  [
    { messages: [{ role: "assistant", tool_calls: ["x"] }] },
    "tool_calls",
    "entries must be objects",
  ],
  [
    { messages: [{ role: "assistant", tool_calls: [{ function: { arguments: "{" } }] }] },
    "messages.0.tool_calls.0.function.arguments",
    "must be JSON",
  ],
  [
    { max_completion_tokens: 0 },
    "max_completion_tokens",
    "max_completion_tokens must be at least 1",
  ],
  [{ top_logprobs: 2 }, "top_logprobs", "`logprobs` must be set to true"],
  [{ logprobs: true, top_logprobs: -2 }, "top_logprobs", "must be a positive value or -1"],
  [{ logprobs: true, top_logprobs: 21 }, "logprobs", "Requested sample logprobs of 21, which is"],
  [{ logprobs: true, top_logprobs: 30, stream: true }, "logprobs", "greater than max allowed: 20"],
  [{ logprobs: true, top_logprobs: "x" }, "top_logprobs", "`top_logprobs` must be an integer."],
  [{ logprobs: true, top_logprobs: "2" }, "top_logprobs", "`top_logprobs` must be an integer."],
  [{ logprobs: true, top_logprobs: 1.5 }, "body.top_logprobs", "int_from_float"],
  [{ top_logprobs: -2 }, "top_logprobs", "must be a positive value or -1"],
  [{ tools: [{ type: "function" }] }, "tools", "not supported yet"],
  [{ tool_choice: "required" }, "tool_choice", "When using `tool_choice`, `tools` must be set."],
  [{ tool_choice: "sometimes" }, "tool_choice", "Invalid value for `tool_choice`"],
  [{ functions: [{}] }, "functions", "not supported yet"],
  [{ function_call: { name: "f" } }, "function_call", "not supported yet"],
  [{ parallel_tool_calls: "?" }, "body.parallel_tool_calls", "bool_parsing"],
  [{ audio: { voice: "x" } }, "audio", "not supported yet"],
  [{ web_search_options: {} }, "web_search_options", "not supported yet"],
  [{ modalities: ["text", "audio"] }, "modalities", "not supported yet"],
  [{ modalities: "text" }, "body.modalities", "list_type"],
  [{ return_assistant_tokens_mask: true }, "return_assistant_tokens_mask", "not supported yet"],
  [{ include_reasoning: "?" }, "body.include_reasoning", "bool_parsing"],
  [{ max_completion_tokens: 500 }, "max_completion_tokens", "max_completion_tokens=500 cannot"],
  [{ max_completion_tokens: 5, max_tokens: "x" }, "body.max_tokens", "int_parsing"],
  [{ chat_template_kwargs: [1] }, "body.chat_template_kwargs", "dict_type"],
  [{ documents: ["x"] }, "body.documents.0", "dict_type"],
  [
    { continue_final_message: true, add_generation_prompt: true },
    "continue_final_message",
    "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
  ],
  [{ continue_final_message: true }, "continue_final_message", "Cannot set both"],
  [{ chat_template: "x" }, "chat_template", "--trust-request-chat-template is not set"],
  [{ chat_template_kwargs: { tokenize: 1 } }, "chat_template_kwargs", "{'tokenize'}"],
  [{ reasoning_effort: "huge" }, "body.reasoning_effort", "Input should be 'none', 'minimal'"],
];

const COMPLETIONS_ONLY: readonly [Record<string, unknown>, string, string][] = [
  [{ prompt: null }, "prompt", "Either prompt or prompt_embeds must be provided and non-empty."],
  [{ prompt: "" }, "prompt", "Either prompt or prompt_embeds must be provided and non-empty."],
  [{ prompt: [] }, "prompt", "must be provided and non-empty"],
  [{ prompt_embeds: "AA==" }, "prompt_embeds", "not supported yet"],
  [{ prompt: 5 }, "body.prompt", "string_type"],
  [{ prompt: ["a", 1] }, "body.prompt.1", "string_type"],
  [{ prompt: [1, "a"] }, "body.prompt.1", "int_type"],
  [{ prompt: [[1], 2] }, "body.prompt.1", "list_type"],
  [{ prompt: [[]] }, "prompt.0", "The decoder prompt cannot be empty"],
  [{ prompt: [-1] }, "body.prompt.0", "greater_than_equal"],
  [{ prompt: [512] }, "prompt.0", "Token id 512 is out of vocabulary"],
  [{ prompt: [[5], [9, 512]] }, "prompt.1.1", "out of vocabulary"],
  [{ prompt: Array(1025).fill("a") }, "prompt", "exceeds the maximum allowed count of 1024"],
  [{ logprobs: 21 }, "logprobs", "Requested sample logprobs of 21, which is greater"],
  [{ logprobs: -1 }, "logprobs", "`logprobs` must be a positive value."],
  [{ logprobs: "x" }, "logprobs", "`logprobs` must be an integer."],
  [{ logprobs: {} }, "logprobs", "`logprobs` must be an integer."],
  [{ logprobs: 1.5 }, "body.logprobs", "int_from_float"],
];

for (
  const [path, base, rows] of [
    [CHAT, HELLO, [...BOTH, ...CHAT_ONLY]],
    [COMPLETIONS, { prompt: "Hi" }, [...BOTH, ...COMPLETIONS_ONLY]],
  ] as const
) {
  for (const [extra, param, words] of rows) {
    Deno.test(`${path} refuses ${JSON.stringify(extra).slice(0, 80)}`, async () => {
      const llm = new FakeLLM();
      const error = await refusal(path, { ...base, ...extra }, llm);
      assertStringIncludes(error.message, words);
      assertEquals([error.param, error.code], [param, 400]);
      assertEquals(error.type, param.startsWith("body") ? "Bad Request" : "BadRequestError");
      assertEquals(llm.calls.length, 0);
    });
  }
}

Deno.test("Neutral values, of fields that are not supported yet too, are accepted", async () => {
  const neutral = {
    n: 1,
    best_of: 1,
    stop: [],
    presence_penalty: 0,
    frequency_penalty: "0",
    logit_bias: {},
    bad_words: [],
    use_beam_search: false,
    length_penalty: 1.0,
    early_stopping: false,
    response_format: { type: "text" },
    tools: [],
    tool_choice: "none",
    functions: [],
    echo: false,
    suffix: null,
    truncate_prompt_tokens: null,
    user: "u",
    store: true,
    metadata: {},
    service_tier: "auto",
    parallel_tool_calls: true,
    spaces_between_special_tokens: false,
    return_token_offsets: false,
    vllm_xargs: { a: [1] },
    session_id: "s",
    prompt_cache_key: "k",
    prediction: { type: "content", content: "x" },
    mm_processor_kwargs: {},
    kv_transfer_params: null,
    logits_processors: [],
    modalities: ["text"],
    audio: null,
    include_reasoning: false,
    thinking_token_budget: -1,
    function_call: "auto",
    repetition_detection: { max_pattern_size: 0, min_pattern_size: 0 },
    logprob_token_ids: [],
    stream_interval: 3,
    model: "",
    stream_options: {},
    some_unknown_field: { a: 1 },
  };
  assertEquals((await ask(CHAT, { ...HELLO, ...neutral })).status, 200);
  assertEquals((await ask(COMPLETIONS, { prompt: "a", ...neutral })).status, 200);
});

Deno.test("Seeds of 64 bits are exact, and none beyond is taken", async () => {
  const llm = new FakeLLM();
  for (
    const [written, seed] of [
      ["9223372036854775807", 2n ** 63n - 1n],
      ["9223372036854775806", 2n ** 63n - 2n],
      ["-9223372036854775808", -(2n ** 63n)],
      ['"9223372036854775807"', 2n ** 63n - 1n],
      ["9007199254740993", 2n ** 53n + 1n],
      ["1e18", 10n ** 18n],
      ["12345", 12345],
      ["7.0", 7],
      ["true", 1],
      ["-1", -1],
      ['5, "nested": {"seed": 6}, "seed": 9223372036854775807', 2n ** 63n - 1n],
    ] as const
  ) {
    const body = JSON.stringify(HELLO).replace("{", `{"seed":${written},`);
    assertEquals((await ask(CHAT, body, llm)).status, 200, written);
    assertEquals(llm.calls.at(-1)?.params?.seed, seed);
  }
  for (const written of ["9223372036854775808", "-9223372036854775809", "1e999"]) {
    const { status, body } = await ask(CHAT, `{"messages":[],"seed":${written}}`);
    assertEquals([status, body.error.param], [400, "body.seed"]);
    const shown = written === "1e999" ? "Infinity" : written; // digits as they were sent
    assertStringIncludes(body.error.message, `Cannot use seed ${shown}: it must be`);
  }
});

Deno.test("A body that is no object, no JSON, no UTF-8 or nests without end is refused", async () => {
  for (
    const [text, words] of [
      ['"text"', "model_attributes_type"],
      ["[1]", "model_attributes_type"],
      ["null", "model_attributes_type"],
      ["5", "model_attributes_type"],
      ["", "json_invalid"],
      ['{"a":', "ends too early: line 1 column 6 (char 5)"],
      ['{"a":1,\n "b":x}', 'unexpected "x": line 2 column 6 (char 13)'],
      ['{"a" 1}', 'unexpected "1": line 1 column 6 (char 5)'],
      ["[".repeat(5000), "nests deeper"],
    ] as const
  ) {
    const { status, body } = await ask(CHAT, text);
    assertEquals(status, 400);
    assertStringIncludes(body.error.message, words);
    assertEquals(body.error.type, "Bad Request");
  }
  const bytes = new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x7d]);
  const response = await send(post(CHAT, "", { body: bytes }));
  assertEquals(response.status, 400);
  assertStringIncludes((await response.json()).error.message, "not UTF-8");
});

Deno.test("Only JSON is read, whatever its letter case and parameters", async () => {
  for (const type of ["text/plain", "application/x-json", ""]) {
    const response = await send(post(CHAT, HELLO, { headers: { "content-type": type } }));
    assertEquals(response.status, 415);
    assertStringIncludes((await response.json()).error.message, "Only 'application/json'");
  }
  const type = "Application/JSON; charset=utf-8";
  const response = await send(post(CHAT, HELLO, { headers: { "content-type": type } }));
  assertEquals(response.status, 200);
  await response.body?.cancel();
});

Deno.test("A body beyond the limit is refused, announced or not", async () => {
  const options = { bodySizeLimit: 100 };
  const long = JSON.stringify({ ...HELLO, user: "x".repeat(200) });
  const announced = post(CHAT, long, { headers: { "content-length": String(long.length) } });
  const unannounced = post(CHAT, "", {
    body: new ReadableStream({
      pull(controller) {
        controller.enqueue(new TextEncoder().encode(long));
      },
    }),
  });
  for (const request of [announced, unannounced]) {
    const response = await send(request, new FakeLLM(), options);
    assertEquals(response.status, 413);
    assertStringIncludes((await response.json()).error.message, "more than 100 bytes");
  }
});

/** A model whose every request fails before its first delta. */
function failing(error: unknown): FakeLLM {
  return new FakeLLM({
    before() {
      throw error;
    },
  });
}

Deno.test("What the model throws becomes the right status, streamed or not", async () => {
  for (
    const [thrown, status, type, words] of [
      [
        new ContextLengthError(5000, 4096, "Cannot run 5000 tokens"),
        400,
        "BadRequestError",
        "This model's maximum context length is 4096 tokens.",
      ],
      [
        new InvalidParameterError("promptTokenIds", [], "Cannot use promptTokenIds []: none"),
        400,
        "BadRequestError",
        "The decoder prompt cannot be empty",
      ],
      [
        new InvalidParameterError("promptTokenIds", 700, "Cannot use token id 700"),
        400,
        "BadRequestError",
        "Token id 700 is out of vocabulary",
      ],
      [
        new ContextLengthError(140, 128, "Cannot run it", 40),
        400,
        "BadRequestError",
        "This model's maximum context length is 128 tokens. However, you requested 40 output " +
        "tokens and your prompt contains 100 input tokens, for a total of 140 tokens. Please reduce",
      ],
      [
        new InvalidParameterError("badWords", 129, "Cannot use badWords"),
        400,
        "BadRequestError",
        "Too many bad words after tokenization: 129. The max number is 128.",
      ],
      [
        new InvalidParameterError("n", 2, "Cannot use n 2: it must be 1 with greedy sampling"),
        400,
        "BadRequestError",
        "n must be 1 when using greedy sampling, got 2.",
      ],
      [new ChatTemplateError("Roles must alternate"), 400, "BadRequestError", "must alternate"],
      [
        new UnsupportedTaskError("generate", "Cannot generate with this model"),
        400,
        "model_not_supported",
        "Cannot generate",
      ],
      [new QueueFullError(9, 2.5), 503, "ServiceUnavailableError", "9 requests are waiting"],
      [new ClosedError("closed"), 503, "ServiceUnavailableError", "shutting down"],
      [new Error("secret"), 500, "InternalServerError", "Internal server error"],
      [new TypeError("x is not a function"), 500, "InternalServerError", "Internal server error"],
      ["a string", 500, "InternalServerError", "Internal server error"],
    ] as const
  ) {
    for (const stream of [false, true]) {
      const seen: unknown[] = [];
      const options = { onError: (error: unknown) => seen.push(error) };
      const response = await send(post(CHAT, { ...HELLO, stream }), failing(thrown), options);
      const { error } = await response.json();
      assertEquals([response.status, error.code, error.type], [status, status, type]);
      assertStringIncludes(error.message, words);
      const retryAfter = { QueueFullError: "3", ClosedError: "1" }[
        thrown instanceof Error ? thrown.name : ""
      ];
      assertEquals(response.headers.get("retry-after"), retryAfter ?? null);
      assertEquals(seen, status === 500 ? [thrown] : []);
    }
  }
});

Deno.test("More prompts than may ever wait are refused as such, not for now", async () => {
  const llm = new FakeLLM({ info: { maxWaitingRequests: 3 } });
  const { param, code, message } = await refusal(COMPLETIONS, { prompt: Array(4).fill("a") }, llm);
  assertEquals([param, code], ["prompt", 400]);
  assertStringIncludes(message, "list length 4 exceeds the 3 requests that this server lets wait");
  assertEquals((await ask(COMPLETIONS, { prompt: Array(3).fill("a") }, llm)).status, 200);
});

Deno.test("A prompt too long is said once, in the words that clients search for", async () => {
  const thrown = new ContextLengthError(5000, 4096, "Cannot run 5000 tokens");
  const words = (asked: number) =>
    `This model's maximum context length is 4096 tokens. However, you requested ${asked} output ` +
    `tokens and your prompt contains at least 5000 input tokens, for a total of at least ${
      5000 + asked
    } tokens. Please reduce the length of the input prompt or the number of requested output tokens.`;
  const chat = { ...HELLO, max_completion_tokens: 7, max_tokens: 8 };
  assertEquals((await refusal(CHAT, HELLO, failing(thrown))).message, words(0));
  assertEquals((await refusal(CHAT, chat, failing(thrown))).message, words(7));
  const completion = { prompt: ["a", "b"], max_tokens: 9 };
  assertEquals((await refusal(COMPLETIONS, completion, failing(thrown))).message, words(9));
});

Deno.test("Without a chat template, messages are refused wherever they may stand", async () => {
  const llm = () => new FakeLLM({ pooling: embeddingModel(), info: { hasChatTemplate: false } });
  for (const path of ["/v1/embeddings", "/pooling", "/tokenize"]) {
    const { param, code, message } = await refusal(path, HELLO, llm());
    assertEquals([path, param, code], [path, "messages", 400]);
    assertStringIncludes(message, "Start the server with --chat-template, or give ");
  }
});

Deno.test("Errors name the model as it is served, not as it lies on the disk", async () => {
  for (const id of ["/home/me/models/x.gguf", "models/x.gguf"]) {
    const thrown = new UnsupportedTaskError("score", `Cannot score with "${id}": see "/etc/a/b"`);
    const llm = Object.assign(failing(thrown), { info: { ...new FakeLLM().info, id } });
    const options = { servedModelNames: ["org/x"] };
    const { body: { error } } = await ask(CHAT, HELLO, llm, options);
    assertEquals(error.message, 'Cannot score with "org/x": see "<path>"');
  }
});

Deno.test("A model without a chat template takes chats only with one of their own", async () => {
  const llm = new FakeLLM();
  const bare = Object.assign(llm, { info: { ...llm.info, hasChatTemplate: false } });
  const { code, param, message } = await refusal(CHAT, HELLO, bare);
  assertEquals([code, param], [400, "messages"]);
  assertStringIncludes(message, "default chat template is no longer allowed");
  const own = { ...HELLO, chat_template: "{{ messages }}" };
  const trusted = await ask(CHAT, own, bare, { trustRequestChatTemplate: true });
  assertEquals(trusted.status, 200);
});

Deno.test("Paths of the server's disk never reach a client", async () => {
  for (const path of ["/home/me/models/x.gguf", "file:///srv/m/x.json", "C:\\models\\x.gguf"]) {
    const error = await refusal(
      CHAT,
      HELLO,
      failing(new ChatTemplateError(`Bad file "${path}": no`)),
    );
    assertEquals(error.message, 'Bad file "<path>": no');
  }
});

Deno.test("A failure after the first event is an error event, then [DONE]", async () => {
  for (const [path, body] of [[CHAT, HELLO], [COMPLETIONS, { prompt: ["a", "b"] }]] as const) {
    const seen: unknown[] = [];
    const llm = new FakeLLM({
      before(step) {
        if (step === 2) throw new Error("the engine broke at /var/lib/x");
      },
    });
    const options = { onError: (error: unknown) => seen.push(error) };
    const response = await send(post(path, { ...body, stream: true }), llm, options);
    assertEquals(response.status, 200);
    const all = await events(response);
    assertEquals(all.slice(-2), [
      {
        error: {
          message: "Internal server error",
          type: "InternalServerError",
          param: null,
          code: 500,
        },
      },
      "[DONE]",
    ]);
    assertEquals(seen.length, 1);
    assertEquals(llm.running, 0);
    assert(all.length > 3, "the text so far was sent");
  }
});

Deno.test("One refused prompt refuses its whole batch before anything is streamed", async () => {
  let count = 0;
  const llm = new FakeLLM({
    before(step) {
      if (step === 0 && ++count === 2) throw new ContextLengthError(200, 128, "too long");
    },
  });
  const response = await send(post(COMPLETIONS, { prompt: ["a", "b", "c"], stream: true }), llm);
  assertEquals(response.status, 400);
  await response.body?.cancel();
  assertEquals(llm.running, 0);
});

Deno.test("A text that is nearly a number is refused whatever its length", async () => {
  const digits = "1".repeat(1_000_000);
  for (const [field, value] of [["temperature", `${digits}x`], ["top_k", `${digits}.${digits}x`]]) {
    const error = await refusal(CHAT, { ...HELLO, [field!]: value });
    assertEquals([error.code, error.param], [400, `body.${field}`]);
  }
});

Deno.test("A message names every parameter as requests spell it", async () => {
  const message = "Cannot choose a token: none is possible with allowedTokenIds, minTokens";
  const llm = new FakeLLM({
    before() {
      throw new InvalidParameterError("allowedTokenIds", undefined, message);
    },
  });
  const { param, message: told } = await refusal(CHAT, HELLO, llm);
  assertEquals(param, "allowed_token_ids");
  assertStringIncludes(told, "with allowed_token_ids, min_tokens");
});
