/** The tracer of Deno's own OpenTelemetry, if it is switched on. */

import type { Span, SpanContext, Tracer, TracerContext } from "../mod.ts";

/** What is used of Deno's tracing, whose types say `any`. It is OpenTelemetry's. */
interface DenoTelemetry {
  readonly tracerProvider: { getTracer(name: string, version: string): Tracer };
  readonly contextManager: { active(): TracerContext | undefined };
}

/** The key of the span in a context, as the OpenTelemetry API makes it. */
const SPAN_KEY = Symbol.for("OpenTelemetry Context Key SPAN");

/**
 * Where the spans of requests go: to Deno, which exports them as the `OTEL_*` variables say, if
 * `OTEL_DENO` is `true`; undefined otherwise.
 *
 * Deno makes a span of its own for every HTTP request, below the caller's. Ours belongs below that
 * one, not beside it.
 */
export function denoTracer(version: string): Tracer | undefined {
  // Exactly these words, as Deno reads them.
  const isOn = Deno.env.get("OTEL_DENO") === "true" &&
    Deno.env.get("OTEL_SDK_DISABLED") !== "true";
  if (!isOn) return undefined;
  const { tracerProvider, contextManager }: DenoTelemetry = Deno.telemetry;
  const tracer = tracerProvider.getTracer("@rngd/llm", version);
  return {
    startSpan(name, options, context) {
      const active = contextManager.active();
      const parent = spanOf(context);
      // Without a propagator for it, Deno has begun a trace of its own: then the caller's counts.
      const isBelow = parent?.isRemote === true && spanOf(active)?.traceId === parent.traceId;
      return tracer.startSpan(name, options, isBelow ? active : context);
    },
  };
}

function spanOf(context: TracerContext | undefined): SpanContext | undefined {
  const span = context?.getValue(SPAN_KEY) as Pick<Span, "spanContext"> | undefined;
  return span?.spanContext();
}
