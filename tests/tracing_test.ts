/** Spans of requests: what they say, whose they are, and how they end. */

import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { parseTraceparent } from "../lib/tracing.ts";
import {
  InvalidParameterError,
  LLM,
  PoolingParams,
  QueueFullError,
  SamplingParams,
} from "../mod.ts";
import { type RecordedSpan, RecordingTracer } from "./helpers/recording_tracer.ts";
import { collect, idle, tinyTest } from "./helpers/tiny_llm.ts";
import { ask, CHAT, COMPLETIONS, events, HELLO, type Json, post, send } from "./openai/requests.ts";

const TRACE_ID = "0af7651916cd43dd8448eb211c80319c";
const SPAN_ID = "b7ad6b7169203331";
const TRACEPARENT = `00-${TRACE_ID}-${SPAN_ID}-01`;
const PARENT = { traceId: TRACE_ID, spanId: SPAN_ID, traceFlags: 1, isRemote: true };
const LATENCY = "gen_ai.latency.";

/** A test on a loaded tiny model with a tracer of its own. */
function tracedTest(
  name: string,
  fn: (llm: LLM, tracer: RecordingTracer) => Promise<void>,
  options: { maxWaitingRequests?: number; task?: "generate" | "embed" } = {},
): void {
  const tracer = new RecordingTracer();
  tinyTest(name, (llm) => fn(llm, tracer), { tracer, ...options });
}

function seconds(span: RecordedSpan, name: string): number {
  return span.attributes[`${LATENCY}${name}`] as number;
}

/** The only request there was. */
function only(tracer: RecordingTracer) {
  const requests = tracer.takeRequests();
  assertEquals(requests.length, 1);
  return requests[0]!;
}

tracedTest("A call leaves a span with what was asked, used and spent", async (llm, tracer) => {
  const params = new SamplingParams({ temperature: 1, topP: 0.9, maxTokens: 5, ignoreEos: true });
  const output = await llm.generate("the cat", params, { requestId: "mine" });
  const { span, phases } = only(tracer);
  assertEquals([span.kind, span.parent, span.status], [1, undefined, undefined]);
  const rest = Object.entries(span.attributes).filter(([name]) => !name.startsWith(LATENCY));
  assertEquals(Object.fromEntries(rest), {
    "gen_ai.request.id": "mine",
    "gen_ai.response.model": llm.info.id,
    "gen_ai.request.max_tokens": 5,
    "gen_ai.request.temperature": 1,
    "gen_ai.request.top_p": 0.9,
    "gen_ai.request.n": 1,
    "gen_ai.usage.prompt_tokens": output.promptTokenIds.length,
    "gen_ai.usage.completion_tokens": 5,
    "gen_ai.usage.cache_read.input_tokens": 0,
  });
  assertEquals(phases.map(({ name, kind }) => [name, kind]), [
    ["queue", 0],
    ["prefill", 0],
    ["decode", 0],
  ]);
});

tracedTest(
  "Phases follow one another, fill their request, and are its latencies",
  async (llm, tracer) => {
    const params = new SamplingParams({ temperature: 0, maxTokens: 9, ignoreEos: true });
    await llm.generate(["the cat", "a dog"], params);
    const requests = tracer.takeRequests();
    assertEquals(requests.length, 2);
    for (const { span, phases } of requests) {
      const [queue, prefill, decode] = phases as [RecordedSpan, RecordedSpan, RecordedSpan];
      assert(span.startTime <= queue.startTime);
      assertEquals([queue.endTime, prefill.endTime], [prefill.startTime, decode.startTime]);
      assertEquals(decode.endTime, span.endTime);
      const lengths = phases.map(({ startTime, endTime }) => (endTime! - startTime) / 1000);
      assert(lengths.every((length) => length >= 0));
      const told = ["queue", "model_prefill", "model_decode"].map((it) =>
        seconds(span, `time_in_${it}`)
      );
      for (const [i, length] of lengths.entries()) assertAlmostEquals(told[i]!, length, 1e-5);
      const [inQueue, inPrefill, inDecode] = told as [number, number, number];
      assertAlmostEquals(seconds(span, "time_in_model_inference"), inPrefill + inDecode, 1e-9);
      assertAlmostEquals(seconds(span, "time_to_first_token"), inQueue + inPrefill, 1e-9);
      assertAlmostEquals(seconds(span, "e2e"), inQueue + inPrefill + inDecode, 1e-9);
      // Dates, not readings of a clock that starts with the process.
      assert(Math.abs(span.startTime - Date.now()) < 600_000);
    }
  },
);

tracedTest("All sequences of a request count, and what the cache gave", async (llm, tracer) => {
  const prompt = { promptTokenIds: Array.from({ length: 40 }, (_, i) => 3 + i) };
  const params = new SamplingParams({ temperature: 1, n: 3, maxTokens: 4, ignoreEos: true });
  await llm.generate(prompt, params);
  await llm.generate(prompt, params);
  const beams = params.clone({ useBeamSearch: true, temperature: 0, n: 2, bestOf: 3 });
  await llm.generate(prompt, beams);
  const used = tracer.takeRequests().map(({ span: { attributes } }) => [
    attributes["gen_ai.request.n"],
    attributes["gen_ai.usage.completion_tokens"],
    attributes["gen_ai.usage.cache_read.input_tokens"],
  ]);
  assertEquals(used, [[3, 12, 0], [3, 12, 32], [2, 8, 32]]);
});

tracedTest(
  "A request that is aborted has the status error, and the phases it got to",
  async (llm, tracer) => {
    const endless = new SamplingParams({ temperature: 0, ignoreEos: true, maxTokens: 100 });
    for await (const _ of llm.stream("the cat", endless)) break;
    await idle(llm);
    const left = only(tracer);
    assertEquals(left.span.status?.code, 2);
    assertEquals(left.span.attributes["error.type"], "AbortError");
    assertEquals(left.phases.map(({ name }) => name), ["queue", "prefill", "decode"]);

    const controller = new AbortController();
    const { signal } = controller;
    const onQueued = () => controller.abort(new Error("enough"));
    await assertRejects(
      () => llm.generate("the cat", endless, { signal, onQueued }),
      Error,
      "enough",
    );
    await idle(llm);
    const { span, phases } = only(tracer);
    assertEquals([span.status?.code, span.attributes["error.type"]], [2, "AbortError"]);
    assertEquals(span.attributes["gen_ai.usage.completion_tokens"], 0);
    assertEquals([seconds(span, "time_to_first_token"), phases[0]?.name], [undefined, "queue"]);

    // Its prompt is still being read: the engine, whose requests are traced, never hears of it.
    const early = new AbortController();
    const answer = llm.generate("the cat", endless, { signal: early.signal });
    early.abort(new Error("never mind"));
    await assertRejects(() => answer, Error, "never mind");
    await idle(llm);
    assertEquals(tracer.takeRequests(), []);
  },
);

tracedTest("A stop string is a quiet end", async (llm, tracer) => {
  const said = new SamplingParams({ forcedOutput: "one two three", stop: ["two"] });
  assertEquals((await llm.generate("a", said)).outputs[0]?.text, "one ");
  assertEquals(only(tracer).span.status, undefined);
});

tracedTest(
  "What the engine refuses has a span with the reason, and no phases",
  async (llm, tracer) => {
    const params = new SamplingParams({ maxTokens: 4 });
    const first = llm.submit("a", params);
    await assertRejects(() => llm.generate("b", params), QueueFullError);
    await collect(first);
    const [, refused] = tracer.takeRequests();
    assertEquals([refused?.span.status?.code, refused?.phases], [2, []]);
    assertEquals(refused?.span.attributes["error.type"], "QueueFullError");
    assert(refused?.span.endTime !== undefined);
  },
  { maxWaitingRequests: 1 },
);

tracedTest(
  "Requests that pool have spans as well, each of several by its id",
  async (llm, tracer) => {
    await llm.embed(["the cat", "a dog"], new PoolingParams(), {
      requestId: "many",
      trace: { traceparent: TRACEPARENT },
    });
    await llm.submitPooling("the cat");
    const requests = tracer.takeRequests();
    assertEquals(
      requests.slice(0, 2).map(({ span }) => [span.attributes["gen_ai.request.id"], span.parent]),
      [["many-0", PARENT], ["many-1", PARENT]],
    );
    for (const { span, phases } of requests) {
      assertEquals(phases.map(({ name }) => name), ["queue", "prefill"]);
      assertEquals(span.attributes["gen_ai.usage.completion_tokens"], 0);
      assertEquals(span.attributes["gen_ai.request.max_tokens"], undefined);
    }
  },
  { task: "embed" },
);

tracedTest(
  "Over HTTP a span belongs to the caller's and has the answer's id",
  async (llm, tracer) => {
    for (const [path, base] of [[CHAT, HELLO], [COMPLETIONS, { prompt: "Hi" }]] as const) {
      const headers = { traceparent: TRACEPARENT };
      const body = { ...base, max_tokens: 3 };
      const options = { servedModelNames: ["served"] };
      const answer = await send(post(path, body, { headers }), llm, options).then((it) =>
        it.json()
      );
      const { span, phases } = only(tracer);
      assertEquals([span.parent, span.attributes["gen_ai.request.id"]], [PARENT, answer.id]);
      assertEquals(span.attributes["gen_ai.response.model"], "served");
      assertEquals(phases.every(({ parent }) => parent?.traceId === TRACE_ID), true);
      const [chunk] = await events(await send(post(path, { ...body, stream: true }), llm));
      const streamed = only(tracer).span;
      assertEquals([streamed.parent, streamed.attributes["gen_ai.request.id"]], [
        undefined,
        chunk.id,
      ]);
    }
  },
);

tracedTest("The prompts of one completions request are told apart", async (llm, tracer) => {
  const body = { prompt: ["the", "a cat"], max_tokens: 2, request_id: "r" };
  await ask(COMPLETIONS, body, llm);
  const ids = tracer.takeRequests().map(({ span }) => span.attributes["gen_ai.request.id"]);
  assertEquals(ids.sort(), ["cmpl-r-0", "cmpl-r-1"]);
});

tracedTest("A traceparent that is not well-formed begins a new trace", async (llm, tracer) => {
  for (
    const traceparent of ["", "x", TRACEPARENT.toUpperCase(), `${TRACEPARENT}, ${TRACEPARENT}`]
  ) {
    const response = await send(
      post(CHAT, { ...HELLO, max_tokens: 1 }, { headers: { traceparent } }),
      llm,
    );
    assertEquals(response.status, 200);
    await response.text();
    assertEquals(only(tracer).span.parent, undefined, traceparent);
  }
});

tracedTest("A client that leaves its stream leaves an error in the trace", async (llm, tracer) => {
  const body = { ...HELLO, stream: true, ignore_eos: true, max_tokens: 100 };
  const response = await send(post(CHAT, body), llm);
  const reader = response.body!.getReader();
  await reader.read();
  await reader.cancel();
  await idle(llm);
  const { span } = only(tracer);
  assertEquals([span.status?.code, span.attributes["error.type"]], [2, "AbortError"]);
});

Deno.test("parseTraceparent takes what W3C Trace Context allows, and nothing else", () => {
  assertEquals(parseTraceparent(TRACEPARENT), PARENT);
  assertEquals(parseTraceparent(`00-${TRACE_ID}-${SPAN_ID}-00`)?.traceFlags, 0);
  assertEquals(parseTraceparent(`00-${TRACE_ID}-${SPAN_ID}-fe`)?.traceFlags, 0);
  // A later version may say more.
  assertEquals(parseTraceparent(`01-${TRACE_ID}-${SPAN_ID}-01-more`), PARENT);
  for (
    const wrong of [
      undefined,
      "",
      `ff-${TRACE_ID}-${SPAN_ID}-01`,
      `00-${TRACE_ID}-${SPAN_ID}-01-more`,
      `00-${TRACE_ID}-${SPAN_ID}`,
      `00-${TRACE_ID}-${SPAN_ID}-1`,
      `00-${"0".repeat(32)}-${SPAN_ID}-01`,
      `00-${TRACE_ID}-${"0".repeat(16)}-01`,
      `00-${TRACE_ID.slice(1)}-${SPAN_ID}-01`,
      `00-${TRACE_ID.replace("0", "g")}-${SPAN_ID}-01`,
      `00-${TRACE_ID.toUpperCase()}-${SPAN_ID}-01`,
      `01-${TRACE_ID}-${SPAN_ID}-01more`,
    ]
  ) assertEquals(parseTraceparent(wrong), undefined, String(wrong));
});

Deno.test("A tracer that is none is refused before anything is loaded", async () => {
  for (const tracer of [null, {}, "yes"] as Json[]) {
    await assertRejects(
      () => LLM.load("./nowhere", { tracer }),
      InvalidParameterError,
      "startSpan",
    );
  }
});
