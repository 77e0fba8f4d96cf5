/** `GET /metrics`: the names and labels of both worlds, the values after known requests, the text. */

import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { handler } from "../../lib/openai/handler.ts";
import { writeMetrics } from "../../lib/openai/exposition.ts";
import { type ParsedMetric, parseExposition, sampleValue } from "../helpers/exposition_parser.ts";
import { idle, tinyTest } from "../helpers/tiny_llm.ts";
import { FakeLLM } from "./fake_llm.ts";
import { CHAT, COMPLETIONS, get, HELLO, post, send } from "./requests.ts";

/** The owner's table, and the one collector that its llm-d page adds. */
const FURIOSA: Readonly<Record<string, string>> = {
  num_requests_running: "gauge",
  num_requests_waiting: "gauge",
  kv_cache_usage_percent: "gauge",
  prefix_cache_hits: "counter",
  prefix_cache_queries: "counter",
  prompt_tokens_total: "counter",
  generation_tokens_total: "counter",
  request_success_total: "counter",
  request_prompt_tokens: "histogram",
  request_generation_tokens: "histogram",
  request_params_n: "histogram",
  request_params_max_tokens: "histogram",
  time_to_first_token_seconds: "histogram",
  inter_token_latency_seconds: "histogram",
  e2e_request_latency_seconds: "histogram",
  wire_hit_rate: "gauge",
  jit_wire_compilation_time_seconds: "histogram",
  cache_config_info: "gauge",
};

const VLLM: Readonly<Record<string, string>> = {
  num_requests_running: "gauge",
  num_requests_waiting: "gauge",
  num_requests_waiting_by_reason: "gauge",
  kv_cache_usage_perc: "gauge",
  engine_sleep_state: "gauge",
  cache_config_info: "gauge",
  prefix_cache_queries_total: "counter",
  prefix_cache_hits_total: "counter",
  num_preemptions_total: "counter",
  prompt_tokens_total: "counter",
  prompt_tokens_cached_total: "counter",
  prompt_tokens_by_source_total: "counter",
  generation_tokens_total: "counter",
  request_success_total: "counter",
  request_prompt_tokens: "histogram",
  request_generation_tokens: "histogram",
  request_max_num_generation_tokens: "histogram",
  request_params_n: "histogram",
  request_params_max_tokens: "histogram",
  request_prefill_kv_computed_tokens: "histogram",
  iteration_tokens_total: "histogram",
  time_to_first_token_seconds: "histogram",
  inter_token_latency_seconds: "histogram",
  request_time_per_output_token_seconds: "histogram",
  e2e_request_latency_seconds: "histogram",
  request_queue_time_seconds: "histogram",
  request_inference_time_seconds: "histogram",
  request_prefill_time_seconds: "histogram",
  request_decode_time_seconds: "histogram",
};

async function scrape(
  answer: (request: Request) => Promise<Response>,
): Promise<Map<string, ParsedMetric>> {
  return parseExposition(await (await answer(get("/metrics"))).text());
}

function edgesOf(metrics: ReadonlyMap<string, ParsedMetric>, name: string): number[] {
  return metrics.get(name)!.samples.filter((sample) => sample.name === `${name}_bucket`)
    .map(({ labels }) => Number(labels["le"]!.replace("Inf", "Infinity")));
}

Deno.test("Every collector of Furiosa-LLM and vLLM is there, with its type and labels", async () => {
  const metrics = await scrape(handler(new FakeLLM(), { servedModelNames: ["the/name", "alias"] }));
  for (
    const [prefix, names, labels] of [
      ["furiosa_llm_", FURIOSA, { model_name: "the/name", leader_device: "npu:0:0", engine: "0" }],
      ["vllm:", VLLM, { model_name: "the/name", engine: "0" }],
    ] as const
  ) {
    const found = [...metrics].filter(([name]) => name.startsWith(prefix));
    assertEquals(
      Object.fromEntries(found.map(([name, { type }]) => [name.slice(prefix.length), type])),
      names,
    );
    for (const [name, { samples }] of found) {
      assert(samples.length > 0, name);
      for (const sample of samples) {
        for (const [label, text] of Object.entries(labels)) {
          assertEquals(sample.labels[label], text, `${label} of ${name}`);
        }
      }
    }
  }
  for (const end of ["stop", "length", "abort", "error", "repetition"]) {
    assertEquals(sampleValue(metrics, "vllm:request_success_total", { finished_reason: end }), 0);
  }
});

Deno.test("Furiosa-LLM's histograms have its edges, vLLM's have more", async () => {
  const metrics = await scrape(handler(new FakeLLM()));
  const firstToken = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75];
  firstToken.push(1, 2.5, 5, 7.5, 10);
  const interToken = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5];
  const endToEnd = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60];
  for (
    const [name, edges, more] of [
      ["time_to_first_token_seconds", firstToken, [20, 40, 80, 160, 640, 2560]],
      ["inter_token_latency_seconds", interToken, [5, 7.5, 10, 20, 40, 80]],
      ["e2e_request_latency_seconds", endToEnd, [120, 240, 480, 960, 1920, 7680]],
      ["request_prompt_tokens", [1, 2, 5, 10, 20, 50, 100], []], // the fake's context: 128
      ["request_params_n", [1, 2, 5, 10, 20], []],
    ] as const
  ) {
    assertEquals(edgesOf(metrics, `furiosa_llm_${name}`), [...edges, Infinity]);
    assertEquals(edgesOf(metrics, `vllm:${name}`), [...edges, ...more, Infinity]);
  }
});

Deno.test("The route is open with and without keys, takes HEAD and paths below it, and no POST", async () => {
  for (const options of [{}, { apiKeys: ["secret"] }]) {
    for (const path of ["/metrics", "/metrics/", "/metrics/more"]) {
      const response = await send(get(path), undefined, options);
      assertEquals(response.status, 200, path);
      assertEquals(
        response.headers.get("content-type"),
        "text/plain; version=0.0.4; charset=utf-8",
      );
      parseExposition(await response.text());
    }
  }
  const head = await send(get("/metrics", { method: "HEAD" }));
  assertEquals([head.status, await head.text()], [200, ""]);
  const wrong = await send(post("/metrics", {}));
  assertEquals([wrong.status, wrong.headers.get("allow")], [405, "GET, HEAD, OPTIONS"]);
  await wrong.body?.cancel();
});

Deno.test("Names and helps of any text are escaped, and come back as they were", async () => {
  const name = 'a "model"\\n with\nlines, {braces} and ü';
  const text = await (await send(get("/metrics"), undefined, { servedModelNames: [name] })).text();
  assertStringIncludes(text, 'model_name="a \\"model\\"\\\\n with\\nlines, {braces} and ü"');
  const metrics = parseExposition(text);
  assertEquals(sampleValue(metrics, "vllm:num_requests_running", { model_name: name }), 0);
  const written = writeMetrics([{
    type: "gauge",
    name: "x",
    help: 'two\nlines, a \\ and a "',
    samples: [Infinity, -Infinity, NaN, 1e21, 0.1].map((value, at) => ({
      labels: { at: String(at) },
      value,
    })),
  }]);
  assertEquals(
    written,
    '# HELP x two\\nlines, a \\\\ and a "\n# TYPE x gauge\n' +
      'x{at="0"} +Inf\nx{at="1"} -Inf\nx{at="2"} NaN\nx{at="3"} 1e+21\nx{at="4"} 0.1\n',
  );
  parseExposition(written);
});

Deno.test("The parser of these tests refuses what is not in the format", () => {
  const head = "# HELP x y\n# TYPE x counter\n";
  parseExposition(`${head}x{a="b"} 1\n`);
  for (
    const text of [
      `${head}x{a="b"} 1`,
      `${head}x{a="b",} 1\n`,
      `${head}x{a="b"c"} 1\n`,
      `${head}x{a="\\b"} 1\n`,
      `${head}x{1="b"} 1\n`,
      `${head}x 1\nx 1\n`,
      `${head}x one\n`,
      `${head}x -1\n`,
      `${head}y 1\n`,
      `${head}${head}x 1\n`,
      "x 1\n",
      "# HELP x y\n# TYPE x histogram\n" + 'x_bucket{le="1"} 2\nx_sum 1\nx_count 2\n',
    ]
  ) {
    assertThrows(() => parseExposition(text), Error, "broken", text);
  }
});

Deno.test("Answers are counted by route, and what clients make up adds no series", async () => {
  const answer = handler(new FakeLLM());
  const requests = [
    post(CHAT, HELLO),
    post(CHAT, HELLO),
    post(CHAT, {}),
    get("/nowhere/1"),
    get("/nowhere/2"),
    get("/health"),
    get("/v1/models/x", { method: "BREW" }),
  ];
  for (const request of requests) await (await answer(request)).body?.cancel();
  const metrics = await scrape(answer);
  assertEquals(
    metrics.get("http_requests_total")!.samples.map(({ labels, value }) => [
      labels["method"],
      labels["status"],
      labels["handler"],
      value,
    ]),
    [
      ["POST", "2xx", CHAT, 2],
      ["POST", "4xx", CHAT, 1],
      ["GET", "4xx", "none", 2],
      ["other", "4xx", "/v1/models/*", 1],
    ],
  );
});

tinyTest(
  "After known requests the values are known, and after aborts the gauges are zero",
  async (llm) => {
    const answer = handler(llm);
    const usage: { prompt: number; generated: number } = { prompt: 0, generated: 0 };
    for (const maxTokens of [3, 5]) {
      const body = { prompt: "abc", max_tokens: maxTokens, temperature: 0, ignore_eos: true };
      const { usage: used } = await (await answer(post(COMPLETIONS, body))).json();
      usage.prompt += used.prompt_tokens;
      usage.generated += used.completion_tokens;
    }
    // A stop string: the engine learns of the end by being left.
    const probe = { prompt: "abc", max_tokens: 8, temperature: 0, ignore_eos: true };
    const room = llm.info.maxContextLength - 10;
    const whole = (await (await answer(post(COMPLETIONS, probe))).json()).choices[0].text;
    const stopped = await answer(post(COMPLETIONS, { ...probe, max_tokens: room, stop: whole[1] }));
    const { choices: [choice] } = await stopped.json();
    assertEquals(choice.finish_reason, "stop");
    let metrics = await scrape(answer);
    for (const prefix of ["furiosa_llm_", "vllm:"]) {
      const value = (name: string, labels = {}) => sampleValue(metrics, prefix + name, labels);
      assertEquals(value("request_success_total", { finished_reason: "length" }), 3);
      assertEquals(value("request_success_total", { finished_reason: "stop" }), 1);
      assertEquals(value("request_success_total", { finished_reason: "abort" }), 0);
      assertEquals(value("request_prompt_tokens_count"), 4);
      assertEquals(value("request_prompt_tokens_sum"), 2 * usage.prompt);
      assertEquals(value("prompt_tokens_total"), 2 * usage.prompt);
      assertEquals(value("request_params_max_tokens_sum"), 3 + 5 + 8 + room);
      assertEquals(value("request_params_n_sum"), 4);
      assertEquals(value("time_to_first_token_seconds_count"), 4);
      assertEquals(value("e2e_request_latency_seconds_count"), 4);
      assert(value("generation_tokens_total") >= usage.generated + 8 + 1);
      assertEquals(
        value("request_generation_tokens_sum"),
        value("generation_tokens_total"),
      );
      assertEquals(
        value("inter_token_latency_seconds_count"),
        value("generation_tokens_total") - 4,
      );
    }
    assert(sampleValue(metrics, "furiosa_llm_wire_hit_rate") > 0);
    const wires = llm.stats().wires;
    assertEquals(
      sampleValue(metrics, "furiosa_llm_jit_wire_compilation_time_seconds_count"),
      wires.missCount,
    );

    const streamed = await answer(post(COMPLETIONS, { ...probe, max_tokens: room, stream: true }));
    const reader = streamed.body!.getReader();
    await reader.read();
    metrics = await scrape(answer);
    assertEquals(sampleValue(metrics, "furiosa_llm_num_requests_running"), 1);
    assert(sampleValue(metrics, "vllm:kv_cache_usage_perc") > 0);
    await reader.cancel();
    await idle(llm);
    metrics = await scrape(answer);
    for (
      const gauge of [
        "furiosa_llm_num_requests_running",
        "furiosa_llm_num_requests_waiting",
        "furiosa_llm_kv_cache_usage_percent",
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
      ]
    ) assertEquals(sampleValue(metrics, gauge), 0, gauge);
    assertEquals(
      sampleValue(metrics, "furiosa_llm_request_success_total", { finished_reason: "abort" }),
      1,
    );
  },
);

Deno.test("The dashboard asks only for names that are there", async () => {
  const file = new URL("../../docs/grafana/rngd_llm.json", import.meta.url);
  const dashboard: {
    panels: { title: string; targets?: { expr: string }[] }[];
  } = JSON.parse(await Deno.readTextFile(file));
  const metrics = await scrape(handler(new FakeLLM()));
  const queries = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
  assert(queries.length > 10);
  for (const query of queries) {
    const names = query.match(/\b(?:furiosa_llm_|vllm:|http_)\w+/g) ?? [];
    assert(names.length > 0, query);
    for (const name of names) {
      const base = name.replace(/_(?:bucket|sum|count)$/, "");
      assert(metrics.has(name) || metrics.get(base)?.type === "histogram", `${name} in ${query}`);
    }
  }
});
