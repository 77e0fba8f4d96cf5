/** Every field of a request: what it becomes, and that the API document names it. */

import { assert, assertEquals } from "@std/assert";
import { Fields } from "../../lib/openai/body.ts";
import { readChatRequest } from "../../lib/openai/chat_request.ts";
import { readCompletionRequest } from "../../lib/openai/completion_request.ts";
import type { RouteContext } from "../../lib/openai/context.ts";
import { CHAT_BODY, COMPLETIONS_BODY } from "../../lib/openai/generation_schemas.ts";
import { FakeLLM } from "./fake_llm.ts";
import { ask, CHAT, COMPLETIONS, HELLO, type Json, post, send } from "./requests.ts";

type Given = Readonly<Record<string, unknown>>;

/** Fields of both endpoints: what is sent, and what the model is given of it. */
const PARAMS: readonly [Given, Given][] = [
  [{ temperature: "0.5" }, { temperature: 0.5 }],
  [{ temperature: 0.001 }, { temperature: 0.01 }],
  [{ temperature: null, top_p: null }, {}],
  [{ top_p: 0.5 }, { topP: 0.5 }],
  [{ top_k: "5" }, { topK: 5 }],
  [{ top_k: -1 }, { topK: -1 }],
  [{ top_k: 0 }, { topK: 0 }],
  [{ min_p: 0.1 }, { minP: 0.1 }],
  [{ repetition_penalty: 1.5 }, { repetitionPenalty: 1.5 }],
  [{ presence_penalty: 1 }, { presencePenalty: 1 }],
  [{ frequency_penalty: -1 }, { frequencyPenalty: -1 }],
  [{ n: 2 }, { n: 2 }],
  [{ n: null }, {}],
  [{ best_of: 3 }, { bestOf: 3 }],
  [{ n: 2, best_of: 2, stream: true }, { n: 2, bestOf: 2 }],
  [{ use_beam_search: true, n: 2 }, { useBeamSearch: true, n: 2 }],
  [{ length_penalty: 1 }, { lengthPenalty: 1 }],
  [{ early_stopping: false }, { earlyStopping: false }],
  [{ seed: 7 }, { seed: 7 }],
  [{ stop: "a" }, { stop: ["a"] }],
  [{ stop: ["a", "b"] }, { stop: ["a", "b"] }],
  [{ stop_token_ids: [3, 3, 4.0] }, { stopTokenIds: [3, 4] }],
  [{ include_stop_str_in_output: "true" }, { includeStopStrInOutput: true }],
  [{ bad_words: ["x", "x"] }, { badWords: ["x"] }],
  [{ logit_bias: { "5": 500 } }, { logitBias: new Map([[5, 100]]) }],
  [{ allowed_token_ids: [5] }, { allowedTokenIds: [5] }],
  [{ ignore_eos: 1 }, { ignoreEos: true }],
  [{ max_tokens: 2.0 }, { maxTokens: 2 }],
  [{ max_tokens: null }, {}],
  [{ max_tokens: 5, min_tokens: 5 }, { maxTokens: 5, minTokens: 5 }],
  [{ prompt_logprobs: 0 }, { promptLogprobs: 0 }],
  [{ prompt_logprobs: 0, stream: true }, {}],
  [{ skip_special_tokens: false }, { skipSpecialTokens: false }],
  [{ truncate_prompt_tokens: -1 }, { truncatePromptTokens: -1 }],
  [{ forced_output: "x" }, { forcedOutput: "x" }],
  [
    { repetition_detection: { max_pattern_size: 4, min_count: 3 } },
    { repetitionDetection: { maxPatternSize: 4, minPatternSize: 0, minCount: 3 } },
  ],
];

const CHAT_PARAMS: readonly [Given, Given][] = [
  [{ logprobs: true }, { logprobs: 0 }],
  [{ logprobs: true, top_logprobs: 3 }, { logprobs: 3 }],
  [{ logprobs: false, top_logprobs: 0 }, {}],
  [{ logprobs: true, logprob_token_ids: [7, 5] }, { logprobs: 0, logprobTokenIds: [7, 5] }],
  [{ max_tokens: 3, max_completion_tokens: 5 }, { maxTokens: 5 }],
  [{ max_tokens: 3, max_completion_tokens: null }, { maxTokens: 3 }],
  [{ echo: true, logprobs: true, top_logprobs: 2 }, { logprobs: 2, promptLogprobs: 2 }],
  [{ echo: true, logprobs: true, stream: true }, { logprobs: 0 }],
];

const COMPLETION_PARAMS: readonly [Given, Given][] = [
  [{ logprobs: 0 }, { logprobs: 0 }],
  [{ logprobs: 4 }, { logprobs: 4 }],
  [{ logprobs: 1, logprob_token_ids: [7, 5] }, { logprobs: 1, logprobTokenIds: [7, 5] }],
  [{ echo: true, max_tokens: 0 }, { maxTokens: 1 }],
  [{ echo: true, logprobs: 2 }, { logprobs: 2, promptLogprobs: 2 }],
  [{ echo: true, logprobs: 2, stream: true }, { logprobs: 2, promptLogprobs: 2 }],
  [{ echo: true, logprobs: 2, prompt_logprobs: 0 }, { logprobs: 2, promptLogprobs: 0 }],
];

for (
  const [path, base, rows] of [
    [CHAT, HELLO, [...PARAMS, ...CHAT_PARAMS]],
    [COMPLETIONS, { prompt: "Hi" }, [...PARAMS, ...COMPLETION_PARAMS]],
  ] as const
) {
  Deno.test(`${path}: fields that steer the generation reach the model`, async () => {
    for (const [extra, params] of rows) {
      const llm = new FakeLLM();
      const { status } = await answer(path, { ...base, ...extra }, llm);
      assertEquals([status, { ...llm.calls[0]?.params }], [200, params], JSON.stringify(extra));
    }
  });
}

async function answer(path: string, body: Given, llm: FakeLLM): Promise<{ status: number }> {
  if (body["stream"] !== true) return await ask(path, body, llm);
  const response = await send(post(path, body), llm);
  await response.text();
  return { status: response.status };
}

Deno.test("Fields that steer how a prompt is made reach the model", async () => {
  const chat = {
    addGenerationPrompt: true,
    continueFinalMessage: false,
    chatTemplateKwargs: {},
    addSpecialTokens: false,
  };
  for (
    const [path, extra, expected] of [
      [CHAT, {}, chat],
      [CHAT, { add_generation_prompt: false }, { ...chat, addGenerationPrompt: false }],
      [
        CHAT,
        { add_generation_prompt: false, continue_final_message: true },
        { ...chat, addGenerationPrompt: false, continueFinalMessage: true },
      ],
      [CHAT, { add_special_tokens: true }, { ...chat, addSpecialTokens: true }],
      [CHAT, { documents: [{ text: "x" }] }, { ...chat, documents: [{ text: "x" }] }],
      [CHAT, { chat_template_kwargs: { a: 1 } }, { ...chat, chatTemplateKwargs: { a: 1 } }],
      [
        CHAT,
        { reasoning_effort: "none" },
        { ...chat, chatTemplateKwargs: { enable_thinking: false, reasoning_effort: "none" } },
      ],
      [
        CHAT,
        { reasoning_effort: "max", chat_template_kwargs: { enable_thinking: false } },
        { ...chat, chatTemplateKwargs: { enable_thinking: false, reasoning_effort: "max" } },
      ],
      [CHAT, { truncation_side: "right" }, { ...chat, truncationSide: "right" }],
      [CHAT, { priority: -3 }, { ...chat, priority: -3 }],
      [COMPLETIONS, {}, { addSpecialTokens: true }],
      [COMPLETIONS, { add_special_tokens: false }, { addSpecialTokens: false }],
      [COMPLETIONS, { truncation_side: "left" }, {
        addSpecialTokens: true,
        truncationSide: "left",
      }],
    ] as const
  ) {
    const llm = new FakeLLM();
    const base = path === CHAT ? HELLO : { prompt: "Hi" };
    assertEquals((await ask(path, { ...base, ...extra }, llm)).status, 200);
    const { signal, trace: _, onQueued: __, ...options } = llm.calls[0]?.options ?? {};
    assert(signal instanceof AbortSignal);
    assertEquals<unknown>(options, expected, JSON.stringify(extra));
  }
});

/** The names of the fields that are looked for in a body. */
function readNames(body: Given, read: (fields: Fields) => unknown): string[] {
  const names = new Set<string>();
  const watched = new Proxy(body, {
    getOwnPropertyDescriptor(target, name) {
      names.add(String(name));
      return Reflect.getOwnPropertyDescriptor(target, name);
    },
  });
  read(new Fields(watched));
  return [...names].sort();
}

Deno.test("The API document names exactly the fields that are read", () => {
  const context = {
    llm: new FakeLLM(),
    settings: {
      servedModelNames: ["m"],
      maxLogprobs: 20,
      trustRequestChatTemplate: false,
      responseRole: "assistant",
      streamInterval: 1,
      defaultChatTemplateKwargs: {},
    },
    request: new Request("http://localhost/"),
    signal: new AbortController().signal,
  } as unknown as RouteContext;
  for (
    const [schema, body, read] of [
      [CHAT_BODY, HELLO, readChatRequest],
      [COMPLETIONS_BODY, { prompt: "a" }, readCompletionRequest],
    ] as const
  ) {
    const named = Object.keys((schema as Json).properties).sort();
    assertEquals(readNames(body, (fields) => read(fields, context)), named);
  }
});
