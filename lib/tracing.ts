/**
 * Spans of requests, for OpenTelemetry: one a request, under it what it spent its time with.
 *
 *     llm_request ├─ queue ─┼─ prefill ─┼─ decode ─┤
 *
 * The names of attributes are vLLM's, which are OpenTelemetry's where that has some. Nothing of a
 * prompt or an answer is written. Nothing of OpenTelemetry is imported: its tracers fit the
 * interfaces here, and a context for them is an object with a well-known symbol.
 */

import type { RequestReport } from "./engine/request_metrics.ts";
import type { ResolvedSamplingParams } from "./sampling/resolved_params.ts";

/** What an attribute may be. */
export type AttributeValue = string | number | boolean;

/** Which span of which trace: identifiers as W3C Trace Context writes them. */
export interface SpanContext {
  /** 32 hexadecimal digits. */
  readonly traceId: string;
  /** 16 hexadecimal digits. */
  readonly spanId: string;
  /** 1: the trace is recorded. */
  readonly traceFlags: number;
  /** Whether it came from another process. */
  readonly isRemote?: boolean;
}

/** The part of OpenTelemetry's spans that is used. */
export interface Span {
  /** Its identifiers. */
  spanContext(): SpanContext;
  /** Whether anybody will read it. */
  isRecording(): boolean;
  /** Adds attributes. */
  setAttributes(attributes: Record<string, AttributeValue>): unknown;
  /** `code` 2: an error. */
  setStatus(status: { code: number; message?: string }): unknown;
  /** Ends it, at a time in milliseconds since 1970. */
  end(endTime?: number): void;
}

/** How a span begins. */
export interface SpanOptions {
  /** 0: internal, 1: server. */
  readonly kind?: number;
  /** Attributes known from the start. */
  readonly attributes?: Record<string, AttributeValue>;
  /** In milliseconds since 1970. */
  readonly startTime?: number;
}

/** OpenTelemetry's immutable context; here it carries a span's parent. */
export interface TracerContext {
  /** The value of a key. */
  getValue(key: symbol): unknown;
  /** A context with one value more. */
  setValue(key: symbol, value: unknown): TracerContext;
  /** A context with one value less. */
  deleteValue(key: symbol): TracerContext;
}

/** What makes spans. A tracer of `@opentelemetry/api` is one. Nothing of it may throw. */
export interface Tracer {
  /** Begins a span. Without a context, its parent is whatever span is active. */
  startSpan(name: string, options?: SpanOptions, context?: TracerContext): Span;
}

/** How a request shows in traces. */
export interface TraceOptions {
  /**
   * The caller's span, as the header `traceparent` of W3C Trace Context states it. One that is not
   * well-formed counts as none, as the standard has it.
   */
  readonly traceparent?: string;
  /** `gen_ai.request.id`. Default: the request's own id. */
  readonly requestId?: string;
  /** `gen_ai.response.model`. Default: the model's id. */
  readonly model?: string;
}

/** A request that is about to be made. */
export interface TracedRequest {
  readonly requestId: string;
  readonly model: string;
  /** Absent where nothing is generated. */
  readonly params?: Pick<ResolvedSamplingParams, "maxTokens" | "temperature" | "topP" | "n">;
  readonly trace: TraceOptions | undefined;
}

const INTERNAL = 0;
const SERVER = 1;
const ERROR = 2;

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/** The key of the span in a context. The API makes it with `Symbol.for`, so that its copies agree. */
const SPAN_KEY = Symbol.for("OpenTelemetry Context Key SPAN");

/**
 * Makes a request under a span.
 *
 * @param submit Makes the request, and lets the engine tell how it went. What it throws is what the
 * request is refused with, and ends the span.
 */
export function traced<Result>(
  tracer: Tracer | undefined,
  request: TracedRequest,
  submit: (onEnd: ((report: RequestReport) => void) | undefined) => Result,
): Result {
  if (tracer === undefined) return submit(undefined);
  // Times are measured by a clock that starts somewhere and never jumps; spans want dates.
  const epochMs = Date.now() - performance.now();
  const parent = parseTraceparent(request.trace?.traceparent);
  const span = tracer.startSpan(
    "llm_request",
    {
      kind: SERVER,
      startTime: epochMs + performance.now(),
      attributes: requestAttributes(request),
    },
    parent && contextOf({ spanContext: () => parent }),
  );
  try {
    return submit((report) => endSpan(tracer, span, report, epochMs));
  } catch (error) {
    fail(span, error);
    span.end(epochMs + performance.now());
    throw error;
  }
}

/** The options of one of several requests that are made together. */
export function traceOfOne(trace: TraceOptions, index: number): TraceOptions {
  const { requestId } = trace;
  return requestId === undefined ? trace : { ...trace, requestId: `${requestId}-${index}` };
}

/**
 * Reads a `traceparent` header: version, trace id, span id and flags. Later versions may have more
 * behind them.
 *
 * @returns undefined if it is not well-formed: then a new trace begins.
 */
export function parseTraceparent(header: string | undefined): SpanContext | undefined {
  if (typeof header !== "string") return undefined;
  const fields = TRACEPARENT.exec(header.trim());
  if (fields === null) return undefined;
  const [, version, traceId, spanId, flags, rest] = fields as unknown as string[];
  if (version === "ff" || (version === "00" && rest !== undefined)) return undefined;
  if (/^0+$/.test(traceId!) || /^0+$/.test(spanId!)) return undefined;
  // Of the flags only the first bit, "sampled", has a meaning in every version.
  return {
    traceId: traceId!,
    spanId: spanId!,
    traceFlags: parseInt(flags!, 16) & 1,
    isRemote: true,
  };
}

function requestAttributes(
  { requestId, model, params, trace }: TracedRequest,
): Record<string, AttributeValue> {
  return {
    "gen_ai.request.id": trace?.requestId ?? requestId,
    "gen_ai.response.model": trace?.model ?? model,
    ...(params && {
      // Without a limit of its own, a request goes on to the end of the context.
      ...(params.maxTokens !== null && { "gen_ai.request.max_tokens": params.maxTokens }),
      "gen_ai.request.temperature": params.temperature,
      "gen_ai.request.top_p": params.topP,
      "gen_ai.request.n": params.n,
    }),
  };
}

function endSpan(tracer: Tracer, span: Span, report: RequestReport, epochMs: number): void {
  const { end, error, endedMs } = report;
  if (span.isRecording()) {
    span.setAttributes(reportAttributes(report));
    if (end === "abort" || end === "error") {
      fail(span, error ?? new DOMException("The request was aborted", "AbortError"));
    }
    const context = contextOf(span);
    for (const [name, startMs, stopMs] of phasesOf(report)) {
      const startTime = epochMs + startMs;
      tracer.startSpan(name, { kind: INTERNAL, startTime }, context).end(epochMs + stopMs);
    }
  }
  span.end(epochMs + endedMs);
}

/** What a request did, one after another, as far as it got: name, start and end. */
function phasesOf(
  { arrivedMs, firstTurnMs, firstTokenMs, endedMs }: RequestReport,
): (readonly [string, number, number])[] {
  return [
    ["queue", arrivedMs, firstTurnMs ?? endedMs],
    ...(firstTurnMs === undefined
      ? []
      : [["prefill", firstTurnMs, firstTokenMs ?? endedMs] as const]),
    ...(firstTokenMs === undefined ? [] : [["decode", firstTokenMs, endedMs] as const]),
  ];
}

/** Durations are in seconds. What a request did not get to is left out. */
function reportAttributes(report: RequestReport): Record<string, AttributeValue> {
  const { arrivedMs, firstTurnMs, firstTokenMs, endedMs } = report;
  return {
    "gen_ai.usage.prompt_tokens": report.promptTokens,
    "gen_ai.usage.completion_tokens": report.generatedTokens,
    "gen_ai.usage.cache_read.input_tokens": report.cachedTokens,
    "gen_ai.latency.e2e": (endedMs - arrivedMs) / 1000,
    "gen_ai.latency.time_in_queue": ((firstTurnMs ?? endedMs) - arrivedMs) / 1000,
    ...(firstTurnMs !== undefined && {
      "gen_ai.latency.time_in_model_prefill": ((firstTokenMs ?? endedMs) - firstTurnMs) / 1000,
      "gen_ai.latency.time_in_model_inference": (endedMs - firstTurnMs) / 1000,
    }),
    ...(firstTokenMs !== undefined && {
      "gen_ai.latency.time_to_first_token": (firstTokenMs - arrivedMs) / 1000,
      "gen_ai.latency.time_in_model_decode": (endedMs - firstTokenMs) / 1000,
    }),
  };
}

function fail(span: Span, error: unknown): void {
  const isError = error instanceof Error || error instanceof DOMException;
  span.setAttributes({ "error.type": isError ? error.name : typeof error });
  span.setStatus({ code: ERROR, message: isError ? error.message : String(error) });
}

/** A context that holds a span, as whatever is started in it has for a parent. */
function contextOf(parent: Pick<Span, "spanContext">): TracerContext {
  return new Context(new Map([[SPAN_KEY, parent]]));
}

class Context implements TracerContext {
  readonly #values: ReadonlyMap<symbol, unknown>;

  constructor(values: ReadonlyMap<symbol, unknown>) {
    this.#values = values;
  }

  getValue(key: symbol): unknown {
    return this.#values.get(key);
  }

  setValue(key: symbol, value: unknown): TracerContext {
    return new Context(new Map(this.#values).set(key, value));
  }

  deleteValue(key: symbol): TracerContext {
    return new Context(new Map([...this.#values].filter(([other]) => other !== key)));
  }
}
