/** The command under `OTEL_DENO=true`: its spans arrive at a collector, below the caller's. */

import { assert, assertEquals } from "@std/assert";
import { denoTracer } from "../../serve/tracing.ts";
import { goldenModel } from "../helpers/golden_models.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

const SERVE = new URL("../../serve.ts", import.meta.url).pathname;
const TRACE_ID = "0af7651916cd43dd8448eb211c80319c";
const CALLER = "b7ad6b7169203331";

/** A span as OTLP writes it in JSON. */
interface OtlpSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly { readonly key: string; readonly value: Record<string, unknown> }[];
  readonly status: { readonly code: number };
}

interface OtlpTraces {
  readonly resourceSpans: readonly {
    readonly scopeSpans: readonly {
      readonly scope: { readonly name: string };
      readonly spans: readonly OtlpSpan[];
    }[];
  }[];
}

/** An OTLP/HTTP collector on this machine, which keeps the spans it is sent, by their scope. */
class Collector implements AsyncDisposable {
  readonly spans: (OtlpSpan & { readonly scope: string })[] = [];
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  constructor() {
    this.#server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen() {} },
      async (request) => {
        const body = await request.json();
        if (new URL(request.url).pathname === "/v1/traces") this.#take(body);
        return Response.json({});
      },
    );
  }

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#server.shutdown();
  }

  #take({ resourceSpans }: OtlpTraces): void {
    for (const { scopeSpans } of resourceSpans) {
      for (const { scope, spans } of scopeSpans) {
        for (const span of spans) this.spans.push({ ...span, scope: scope.name });
      }
    }
  }
}

/** Serves a tiny model, lets `use` ask it, ends it, and gives what it wrote to stderr. */
async function serving(
  env: Record<string, string>,
  use: (url: string) => Promise<void>,
): Promise<string> {
  const dir = await Deno.makeTempDir();
  writeTinyModel(dir, goldenModel("llama"));
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "-A", SERVE, dir, "--port=0", "--host=127.0.0.1", "--threads=1"],
    env: { NO_COLOR: "1", ...env },
    stdout: "null",
    stderr: "piped",
  }).spawn();
  let text = "";
  let tell = (_url: string) => {};
  const address = new Promise<string>((resolve) => tell = resolve);
  const reading = (async () => {
    for await (const chunk of process.stderr.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      const url = /curl (http:\/\/[^\s/]+)/.exec(text)?.[1];
      if (url !== undefined) tell(url);
    }
    tell("");
  })();
  try {
    const url = await address;
    if (url === "") throw new Error(`The command has ended: ${text}`);
    await use(url);
  } finally {
    process.kill("SIGTERM");
    await process.status;
    await reading;
    await Deno.remove(dir, { recursive: true });
  }
  return text;
}

async function ask(url: string, headers: Record<string, string> = {}): Promise<string> {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ messages: [{ role: "user", content: "Hi" }], max_tokens: 3, n: 1 }),
  });
  return (await response.json()).id;
}

function attribute(span: OtlpSpan, name: string): unknown {
  return Object.values(span.attributes.find(({ key }) => key === name)?.value ?? {})[0];
}

Deno.test("With OTEL_DENO=true the spans of a request arrive at the collector", async () => {
  await using collector = new Collector();
  const env = {
    OTEL_DENO: "true",
    OTEL_DENO_CONSOLE: "ignore",
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_METRICS_EXPORTER: "none",
  };
  const ids: string[] = [];
  await serving(env, async (url) => {
    ids.push(await ask(url, { traceparent: `00-${TRACE_ID}-${CALLER}-01` }));
    ids.push(await ask(url, { traceparent: "nonsense" }));
  });
  const ours = collector.spans.filter(({ scope }) => scope === "@rngd/llm");
  const requests = ids.map((id) => {
    const found = ours.filter((span) => attribute(span, "gen_ai.request.id") === id);
    assertEquals(found.length, 1, JSON.stringify(collector.spans));
    return found[0]!;
  });
  const traces = new Set<string>();
  for (const [index, request] of requests.entries()) {
    traces.add(request.traceId);
    assertEquals([request.name, request.kind, request.status.code], ["llm_request", 2, 0]);
    assertEquals(attribute(request, "gen_ai.request.max_tokens"), 3);
    // Deno's own span of the HTTP request stands between the caller and ours.
    const outer = collector.spans.find(({ spanId }) => spanId === request.parentSpanId);
    assertEquals([outer?.scope, outer?.parentSpanId], ["deno", index === 0 ? CALLER : ""]);
    const phases = ours.filter(({ parentSpanId }) => parentSpanId === request.spanId);
    assertEquals(new Set(phases.map(({ name }) => name)), new Set(["queue", "prefill", "decode"]));
    for (const { traceId, startTimeUnixNano, endTimeUnixNano } of phases) {
      assertEquals(traceId, request.traceId);
      assert(BigInt(startTimeUnixNano) <= BigInt(endTimeUnixNano));
    }
  }
  assertEquals([requests[0]?.traceId, traces.size], [TRACE_ID, 2]);
});

Deno.test("Where Deno does not read the caller's trace, ours still belongs to it", async () => {
  await using collector = new Collector();
  const env = {
    OTEL_DENO: "true",
    OTEL_DENO_CONSOLE: "ignore",
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_METRICS_EXPORTER: "none",
    OTEL_PROPAGATORS: "none",
  };
  const headers = { traceparent: `00-${TRACE_ID}-${CALLER}-01` };
  await serving(env, async (url) => void await ask(url, headers));
  const request = collector.spans.find(({ name }) => name === "llm_request");
  assertEquals([request?.traceId, request?.parentSpanId], [TRACE_ID, CALLER]);
});

Deno.test("Without OTEL_DENO there is no tracer, and nothing is exported", async () => {
  assertEquals(Deno.env.get("OTEL_DENO") ?? "false", "false");
  assertEquals(denoTracer("1"), undefined);
  await using collector = new Collector();
  for (
    const off of [{}, { OTEL_DENO: "false" }, { OTEL_DENO: "true", OTEL_SDK_DISABLED: "true" }]
  ) {
    const env = {
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      ...off,
    };
    await serving(env, async (url) => assert((await ask(url)).startsWith("chatcmpl-")));
  }
  assertEquals(collector.spans, []);
});
