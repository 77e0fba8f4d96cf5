/** `GET /metrics`: the engine's numbers under the names of Furiosa-LLM, and under those of vLLM. */

import type { HistogramSnapshot, ModelStats } from "../llm.ts";
import type { RouteContext } from "./context.ts";
import { EXPOSITION_TYPE, type Labels, type Metric, writeMetrics } from "./exposition.ts";

/** The one emulated card's first processing element, as `furiosa-llm` writes it. */
const LEADER_DEVICE = "npu:0:0";
/** The only engine there is. */
const ENGINE = "0";

// Furiosa-LLM's histograms end where vLLM's, whose edges begin with the same numbers, go on.
const FURIOSA_LAST_EDGE = { firstToken: 10, interToken: 2.5, endToEnd: 60 };

/** All metrics as text. */
export function getMetrics({ llm, settings }: RouteContext): Response {
  const stats = llm.stats();
  const modelName = settings.servedModelNames[0];
  const text = writeMetrics([
    ...furiosaMetrics(stats, {
      model_name: modelName,
      leader_device: LEADER_DEVICE,
      engine: ENGINE,
    }),
    ...vllmMetrics(stats, { model_name: modelName, engine: ENGINE }, llm.info.maxContextLength),
    {
      type: "counter",
      name: "http_requests_total",
      help: "Requests answered, by route, method and kind of status.",
      samples: settings.requestCounts.list().map(({ count, ...labels }) => ({
        labels,
        value: count,
      })),
    },
  ]);
  return new Response(text, { headers: { "content-type": EXPOSITION_TYPE } });
}

function furiosaMetrics({ engine, requests, wires }: ModelStats, labels: Labels): Metric[] {
  const { gauge, counter, counters, histogram } = writersOf("furiosa_llm_", labels);
  const last = FURIOSA_LAST_EDGE;
  return [
    gauge("num_requests_running", "Requests running now.", engine.runningCount),
    gauge("num_requests_waiting", "Requests waiting now.", engine.waitingCount),
    gauge("kv_cache_usage_percent", "KV cache usage; 1 means 100 percent.", usage(engine)),
    counter(
      "prefix_cache_hits",
      "Prompt tokens found in the prefix cache.",
      engine.prefixHitTokens,
    ),
    counter(
      "prefix_cache_queries",
      "Prompt tokens looked for in the prefix cache.",
      engine.prefixQueryTokens,
    ),
    counter("prompt_tokens_total", "Prompt tokens processed.", engine.promptTokens),
    counter("generation_tokens_total", "Tokens generated.", engine.generatedTokens),
    counters("request_success_total", "Requests that ended, by how.", endSamples(requests)),
    histogram("request_prompt_tokens", "Prompt tokens of a request.", requests.promptTokens),
    histogram(
      "request_generation_tokens",
      "Tokens generated for an answer.",
      requests.generationTokens,
    ),
    histogram("request_params_n", "The n of requests.", requests.n),
    histogram("request_params_max_tokens", "The max_tokens of requests.", requests.maxTokens),
    histogram(
      "time_to_first_token_seconds",
      "From arrival to the first token.",
      upTo(last.firstToken, requests.timeToFirstTokenSeconds),
    ),
    histogram(
      "inter_token_latency_seconds",
      "From one token to the next one.",
      upTo(last.interToken, requests.interTokenSeconds),
    ),
    histogram(
      "e2e_request_latency_seconds",
      "From arrival to the end.",
      upTo(last.endToEnd, requests.endToEndSeconds),
    ),
    gauge("wire_hit_rate", "Share of steps whose wire was compiled before.", wireHitRate(wires)),
    histogram(
      "jit_wire_compilation_time_seconds",
      "Time to compile a wire.",
      wires.compileSeconds,
    ),
    gauge("cache_config_info", "How the KV cache is set up.", 1, {
      block_size: String(engine.blockSize),
      num_gpu_blocks: String(engine.blockCount),
    }),
  ];
}

function vllmMetrics(
  { engine, requests }: ModelStats,
  labels: Labels,
  maxContextLength: number,
): Metric[] {
  const { gauge, gauges, counter, counters, histogram } = writersOf("vllm:", labels);
  const tokenCount = engine.blockCount * engine.blockSize;
  return [
    gauge("num_requests_running", "Requests running now.", engine.runningCount),
    gauge("num_requests_waiting", "Requests waiting now.", engine.waitingCount),
    gauges("num_requests_waiting_by_reason", "Requests waiting now, by reason.", [
      { labels: { reason: "capacity" }, value: engine.waitingCount },
      { labels: { reason: "deferred" }, value: 0 },
    ]),
    gauge("kv_cache_usage_perc", "KV cache usage; 1 means 100 percent.", usage(engine)),
    gauges("engine_sleep_state", "Whether the engine is awake.", [
      { labels: { sleep_state: "awake" }, value: 1 },
      { labels: { sleep_state: "weights_offloaded" }, value: 0 },
      { labels: { sleep_state: "discard_all" }, value: 0 },
    ]),
    gauge("cache_config_info", "How the KV cache is set up.", 1, {
      block_size: String(engine.blockSize),
      num_gpu_blocks: String(engine.blockCount),
      kv_cache_size_tokens: String(tokenCount),
      kv_cache_max_concurrency: String(tokenCount / maxContextLength),
    }),
    counter(
      "prefix_cache_queries_total",
      "Prompt tokens looked for in the prefix cache.",
      engine.prefixQueryTokens,
    ),
    counter(
      "prefix_cache_hits_total",
      "Prompt tokens found in the prefix cache.",
      engine.prefixHitTokens,
    ),
    counter(
      "num_preemptions_total",
      "Times that a sequence lost its blocks.",
      engine.preemptionCount,
    ),
    counter("prompt_tokens_total", "Prompt tokens processed.", engine.promptTokens),
    counter(
      "prompt_tokens_cached_total",
      "Prompt tokens found in the prefix cache.",
      engine.prefixHitTokens,
    ),
    counters("prompt_tokens_by_source_total", "Prompt tokens processed, by source.", [
      { labels: { source: "local_compute" }, value: engine.promptTokens - engine.prefixHitTokens },
      { labels: { source: "local_cache_hit" }, value: engine.prefixHitTokens },
    ]),
    counter("generation_tokens_total", "Tokens generated.", engine.generatedTokens),
    counters("request_success_total", "Requests that ended, by how.", endSamples(requests)),
    histogram("request_prompt_tokens", "Prompt tokens of a request.", requests.promptTokens),
    histogram(
      "request_generation_tokens",
      "Tokens generated for an answer.",
      requests.generationTokens,
    ),
    histogram(
      "request_max_num_generation_tokens",
      "Tokens of a request's longest answer.",
      requests.longestGenerationTokens,
    ),
    histogram("request_params_n", "The n of requests.", requests.n),
    histogram("request_params_max_tokens", "The max_tokens of requests.", requests.maxTokens),
    histogram(
      "request_prefill_kv_computed_tokens",
      "Prompt tokens of a request that were computed.",
      requests.computedPromptTokens,
    ),
    histogram("iteration_tokens_total", "Tokens computed in a step.", requests.stepTokens),
    histogram(
      "time_to_first_token_seconds",
      "From arrival to the first token.",
      requests.timeToFirstTokenSeconds,
    ),
    histogram(
      "inter_token_latency_seconds",
      "From one token to the next one.",
      requests.interTokenSeconds,
    ),
    histogram(
      "request_time_per_output_token_seconds",
      "The mean time between an answer's tokens.",
      requests.timePerOutputTokenSeconds,
    ),
    histogram(
      "e2e_request_latency_seconds",
      "From arrival to the end.",
      requests.endToEndSeconds,
    ),
    histogram(
      "request_queue_time_seconds",
      "From arrival to the first turn.",
      requests.queueSeconds,
    ),
    histogram(
      "request_inference_time_seconds",
      "From the first turn to the end.",
      requests.inferenceSeconds,
    ),
    histogram(
      "request_prefill_time_seconds",
      "From the first turn to the first token.",
      requests.prefillSeconds,
    ),
    histogram(
      "request_decode_time_seconds",
      "From the first token to the end.",
      requests.decodeSeconds,
    ),
  ];
}

/** A sample with labels of its own, besides those of all. */
interface OwnSample {
  readonly labels: Labels;
  readonly value: number;
}

/** Makes the metrics of one family of names. */
function writersOf(prefix: string, common: Labels): {
  readonly gauge: (name: string, help: string, value: number, labels?: Labels) => Metric;
  readonly gauges: (name: string, help: string, samples: readonly OwnSample[]) => Metric;
  readonly counter: (name: string, help: string, value: number) => Metric;
  readonly counters: (name: string, help: string, samples: readonly OwnSample[]) => Metric;
  readonly histogram: (name: string, help: string, histogram: HistogramSnapshot) => Metric;
} {
  const samplesOf = (type: "gauge" | "counter") =>
  (
    name: string,
    help: string,
    samples: readonly OwnSample[],
  ): Metric => ({
    type,
    name: prefix + name,
    help,
    samples: samples.map(({ labels, value }) => ({ labels: { ...common, ...labels }, value })),
  });
  const gauges = samplesOf("gauge");
  const counters = samplesOf("counter");
  return {
    gauges,
    counters,
    gauge: (name, help, value, labels = {}) => gauges(name, help, [{ labels, value }]),
    counter: (name, help, value) => counters(name, help, [{ labels: {}, value }]),
    histogram: (name, help, histogram) => ({
      type: "histogram",
      name: prefix + name,
      help,
      labels: common,
      histogram,
    }),
  };
}

function endSamples({ endCounts }: ModelStats["requests"]): OwnSample[] {
  return Object.entries(endCounts).map(([end, value]) => ({
    labels: { finished_reason: end },
    value,
  }));
}

/** The share of the blocks that running requests hold, of the pool that is fuller. */
function usage({ usedBlockCount, blockCount, windowBlocks }: ModelStats["engine"]): number {
  const { usedBlockCount: used, blockCount: count } = windowBlocks ??
    { usedBlockCount: 0, blockCount: 1 };
  return Math.max(usedBlockCount / blockCount, used / count);
}

function wireHitRate({ hitCount, missCount }: ModelStats["wires"]): number {
  return hitCount / Math.max(1, hitCount + missCount);
}

/** The same values in fewer buckets: what is above the last edge kept is only in the count. */
function upTo(lastEdge: number, histogram: HistogramSnapshot): HistogramSnapshot {
  const edges = histogram.edges.filter((edge) => edge <= lastEdge);
  const counts = histogram.counts.slice(0, edges.length);
  const above = histogram.count - counts.reduce((total, count) => total + count, 0);
  return { ...histogram, edges, counts: [...counts, above] };
}
