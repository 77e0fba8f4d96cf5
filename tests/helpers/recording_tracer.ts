/** A tracer that keeps what it is told. */

import type {
  AttributeValue,
  Span,
  SpanContext,
  SpanOptions,
  Tracer,
  TracerContext,
} from "../../mod.ts";

/** Where the OpenTelemetry API keeps the active span of a context. */
const SPAN_KEY = Symbol.for("OpenTelemetry Context Key SPAN");

/** One span. */
export class RecordedSpan implements Span {
  readonly name: string;
  readonly kind: number;
  readonly startTime: number;
  readonly parent: SpanContext | undefined;
  readonly attributes: Record<string, AttributeValue>;
  status: { readonly code: number; readonly message?: string } | undefined;
  /** Undefined until it has ended. */
  endTime: number | undefined;
  readonly #context: SpanContext;

  constructor(
    name: string,
    { kind = 0, startTime = NaN, attributes = {} }: SpanOptions,
    parent: SpanContext | undefined,
    number: number,
  ) {
    this.name = name;
    this.kind = kind;
    this.startTime = startTime;
    this.attributes = { ...attributes };
    this.parent = parent;
    this.#context = {
      traceId: parent?.traceId ?? number.toString(16).padStart(32, "a"),
      spanId: number.toString(16).padStart(16, "b"),
      traceFlags: 1,
    };
  }

  spanContext(): SpanContext {
    return this.#context;
  }

  isRecording(): boolean {
    return this.endTime === undefined;
  }

  setAttributes(attributes: Record<string, AttributeValue>): this {
    this.#checkOpen();
    Object.assign(this.attributes, attributes);
    return this;
  }

  setStatus(status: { readonly code: number; readonly message?: string }): this {
    this.#checkOpen();
    this.status = status;
    return this;
  }

  end(endTime: number = NaN): void {
    this.#checkOpen();
    this.endTime = endTime;
  }

  #checkOpen(): void {
    if (this.endTime !== undefined) throw new Error(`The span "${this.name}" has ended already`);
  }
}

/** See the file's header. */
export class RecordingTracer implements Tracer {
  readonly spans: RecordedSpan[] = [];

  startSpan(name: string, options: SpanOptions = {}, context?: TracerContext): RecordedSpan {
    const parent = context?.getValue(SPAN_KEY) as Pick<Span, "spanContext"> | undefined;
    const span = new RecordedSpan(name, options, parent?.spanContext(), this.spans.length);
    this.spans.push(span);
    return span;
  }

  /** The spans of requests so far, in their order; none is kept. */
  takeRequests(): { readonly span: RecordedSpan; readonly phases: readonly RecordedSpan[] }[] {
    const all = this.spans.splice(0);
    return all.filter(({ name }) => name === "llm_request").map((span) => ({
      span,
      phases: all.filter(({ parent }) => parent?.spanId === span.spanContext().spanId),
    }));
  }
}
