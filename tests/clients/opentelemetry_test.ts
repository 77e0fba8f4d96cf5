/** OpenTelemetry's own JavaScript SDK with our spans: its tracers fit, and so do our contexts. */

import { assert, assertEquals } from "@std/assert";
import { context, SpanKind, SpanStatusCode, trace, type Tracer } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  AlwaysOnSampler,
  BasicTracerProvider,
  InMemorySpanExporter,
  ParentBasedSampler,
  type ReadableSpan,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { LLM, SamplingParams } from "../../mod.ts";
import { goldenModel } from "../helpers/golden_models.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

const TRACE_ID = "0af7651916cd43dd8448eb211c80319c";
const SPAN_ID = "b7ad6b7169203331";
const PARAMS = new SamplingParams({ temperature: 0, maxTokens: 4, ignoreEos: true });

/** A tracer as programs make it, and what it exported since the last time. */
function makeTracer(): { readonly tracer: Tracer; readonly take: () => ReadableSpan[] } {
  const exporter = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({
    sampler: new ParentBasedSampler({ root: new AlwaysOnSampler() }),
    spanProcessors: [new SimpleSpanProcessor(exporter)],
  });
  const take = () => {
    const spans = exporter.getFinishedSpans();
    exporter.reset();
    return spans;
  };
  return { tracer: provider.getTracer("test"), take };
}

async function withModel(tracer: Tracer, use: (llm: LLM) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(dir, goldenModel("llama"));
    await using llm = await LLM.load(dir, { threads: 1, tracer });
    await use(llm);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function named(spans: readonly ReadableSpan[], name: string): ReadableSpan {
  const span = spans.find((span) => span.name === name);
  assert(span !== undefined, `no span "${name}"`);
  return span;
}

/** Nanoseconds since 1970. */
function nanos([seconds, rest]: readonly [number, number]): bigint {
  return BigInt(seconds) * 1_000_000_000n + BigInt(rest);
}

Deno.test("A request is a server's span below the caller's, with its phases below it", async () => {
  const { tracer, take } = makeTracer();
  await withModel(tracer, async (llm) => {
    const traceparent = `00-${TRACE_ID}-${SPAN_ID}-01`;
    await llm.generate("the cat", PARAMS, { requestId: "r", trace: { traceparent } });
    const spans = take();
    const request = named(spans, "llm_request");
    assertEquals(spans.length, 4);
    assertEquals([request.kind, request.status.code], [SpanKind.SERVER, SpanStatusCode.UNSET]);
    assertEquals(request.parentSpanContext?.spanId, SPAN_ID);
    assertEquals(request.attributes["gen_ai.request.id"], "r");
    for (const name of ["queue", "prefill", "decode"]) {
      const phase = named(spans, name);
      assertEquals(phase.spanContext().traceId, TRACE_ID);
      assertEquals(phase.parentSpanContext?.spanId, request.spanContext().spanId);
      // The SDK takes our times for dates, and nothing leaves its request.
      assert(nanos(request.startTime) <= nanos(phase.startTime), name);
      assert(nanos(phase.endTime) <= nanos(request.endTime), name);
      assert(Math.abs(phase.startTime[0] - Date.now() / 1000) < 600, name);
    }
  });
});

Deno.test("A request of a trace that is not recorded leaves nothing", async () => {
  const { tracer, take } = makeTracer();
  await withModel(tracer, async (llm) => {
    const traceparent = `00-${TRACE_ID}-${SPAN_ID}-00`;
    await llm.generate("the cat", PARAMS, { trace: { traceparent } });
    assertEquals(take(), []);
  });
});

Deno.test("Without a traceparent the active span is the parent", async () => {
  const { tracer, take } = makeTracer();
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  try {
    await withModel(tracer, async (llm) => {
      await tracer.startActiveSpan("job", async (job) => {
        await llm.generate(["the cat", "a dog"], PARAMS);
        job.end();
      });
      const spans = take();
      const job = named(spans, "job").spanContext();
      const requests = spans.filter(({ name }) => name === "llm_request");
      assertEquals(requests.length, 2);
      for (const { parentSpanContext } of requests) {
        assertEquals(parentSpanContext?.spanId, job.spanId);
      }
      assertEquals(trace.getActiveSpan(), undefined);
    });
  } finally {
    context.disable();
  }
});

Deno.test("An aborted request has the status error", async () => {
  const { tracer, take } = makeTracer();
  await withModel(tracer, async (llm) => {
    for await (const _ of llm.stream("the cat", PARAMS.clone({ maxTokens: 100 }))) break;
    const { status, attributes } = named(take(), "llm_request");
    assertEquals([status.code, status.message], [SpanStatusCode.ERROR, "The request was aborted"]);
    assertEquals(attributes["error.type"], "AbortError");
  });
});
