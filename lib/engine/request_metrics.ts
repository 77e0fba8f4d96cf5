/**
 * What is measured of requests, where it happens:
 *
 *     arrives ──queue──▶ first turn ──prefill──▶ first token ──decode──▶ last token
 *        ├──────── time to first token ────────────▶│
 *        │                   ├────────────── inference ──────────────────────▶│
 *        └──────────────────────────── end to end ─────────────────────────────▶│
 *
 * A token costs an addition or two and no memory. A request of several sequences is one request
 * here; only the lengths of answers and the times between tokens are those of each sequence.
 * Requests that were aborted or failed are counted, but only what completed is measured as a whole.
 */

import { Histogram, type HistogramSnapshot, oneTwoFive } from "../base/histogram.ts";

/** How a request ended: "abort" is its client's or owner's wish, "error" a failure. */
export type RequestEnd = "stop" | "length" | "repetition" | "abort" | "error";

/** Counts and histograms of the requests so far. */
export interface RequestStats {
  /** Requests that ended, by how. */
  readonly endCounts: Readonly<Record<RequestEnd, number>>;
  /** From arrival to the first token, in seconds. */
  readonly timeToFirstTokenSeconds: HistogramSnapshot;
  /** From one token of a sequence to its next one, in seconds. */
  readonly interTokenSeconds: HistogramSnapshot;
  /** The mean of that over each completed sequence, in seconds. */
  readonly timePerOutputTokenSeconds: HistogramSnapshot;
  /** From arrival to the end, in seconds. */
  readonly endToEndSeconds: HistogramSnapshot;
  /** From arrival to the first turn, in seconds. */
  readonly queueSeconds: HistogramSnapshot;
  /** From the first turn to the first token, in seconds. */
  readonly prefillSeconds: HistogramSnapshot;
  /** From the first token to the end, in seconds. */
  readonly decodeSeconds: HistogramSnapshot;
  /** From the first turn to the end, in seconds. */
  readonly inferenceSeconds: HistogramSnapshot;
  /** Tokens of prompts. */
  readonly promptTokens: HistogramSnapshot;
  /** Tokens of prompts that were not found in the prefix cache. */
  readonly computedPromptTokens: HistogramSnapshot;
  /** Tokens of answers, each sequence by itself. */
  readonly generationTokens: HistogramSnapshot;
  /** Tokens of the longest answer of each request. */
  readonly longestGenerationTokens: HistogramSnapshot;
  /** Most tokens an answer might have. */
  readonly maxTokens: HistogramSnapshot;
  /** Answers asked for. */
  readonly n: HistogramSnapshot;
  /** Tokens computed in one step. */
  readonly stepTokens: HistogramSnapshot;
}

/** How one request went. Times are milliseconds of the engine's clock. */
export interface RequestReport {
  readonly end: RequestEnd;
  /** What it failed with; absent where it did not. */
  readonly error?: unknown;
  readonly arrivedMs: number;
  /** When its first step began; undefined if it had none. */
  readonly firstTurnMs: number | undefined;
  /** undefined if it chose no token. */
  readonly firstTokenMs: number | undefined;
  readonly endedMs: number;
  readonly promptTokens: number;
  /** Prompt tokens that came from the prefix cache. */
  readonly cachedTokens: number;
  /** Tokens chosen for all of its sequences; of a search, those of the answers it told. */
  readonly generatedTokens: number;
}

// Furiosa-LLM's edges, and vLLM's further ones behind them.
const FIRST_TOKEN_SECONDS = [
  ...[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
  ...[20, 40, 80, 160, 640, 2560],
];
const TOKEN_SECONDS = [
  ...[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5],
  ...[5, 7.5, 10, 20, 40, 80],
];
const REQUEST_SECONDS = [
  ...[0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60],
  ...[120, 240, 480, 960, 1920, 7680],
];
const ANSWERS = [1, 2, 5, 10, 20];
const STEP_TOKENS = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];

/** When things happened to a request, in milliseconds; its sequences share it. */
export class RequestTimes {
  readonly arrivedMs: number;
  /** Undefined until then. */
  firstTurnMs: number | undefined;
  firstTokenMs: number | undefined;
  /** Tokens of the longest sequence that has ended. */
  longestCount = 0;
  /** Tokens of all its sequences. */
  generatedCount = 0;

  constructor(arrivedMs: number) {
    this.arrivedMs = arrivedMs;
  }
}

/** The part of a sequence that is measured. */
interface MeasuredSequence {
  readonly times: RequestTimes;
  readonly outputCount: number;
  /** When its latest token was chosen, in milliseconds; negative without one. */
  lastTokenMs: number;
}

/** The part of a request that is measured when it completes. */
interface MeasuredRequest {
  readonly times: RequestTimes;
  readonly promptLength: number;
  readonly cachedCount: number | undefined;
  /** Absent where nothing is generated. */
  readonly maxTokens?: number;
  readonly params?: { readonly n: number };
  readonly onEnd?: ((report: RequestReport) => void) | undefined;
}

/** The measurements of one engine. */
export class RequestMetrics {
  readonly #ends = { stop: 0, length: 0, repetition: 0, abort: 0, error: 0 };
  readonly #firstToken = new Histogram(FIRST_TOKEN_SECONDS);
  readonly #interToken = new Histogram(TOKEN_SECONDS);
  readonly #perToken = new Histogram(TOKEN_SECONDS);
  readonly #endToEnd = new Histogram(REQUEST_SECONDS);
  readonly #queue = new Histogram(REQUEST_SECONDS);
  readonly #prefill = new Histogram(REQUEST_SECONDS);
  readonly #decode = new Histogram(REQUEST_SECONDS);
  readonly #inference = new Histogram(REQUEST_SECONDS);
  readonly #promptTokens: Histogram;
  readonly #computedPromptTokens: Histogram;
  readonly #generationTokens: Histogram;
  readonly #longestGenerationTokens: Histogram;
  readonly #maxTokens: Histogram;
  readonly #n = new Histogram(ANSWERS);
  readonly #stepTokens = new Histogram(STEP_TOKENS);

  /** `lengthMax`: the longest context, which is the last token count worth a bucket. */
  constructor(lengthMax: number) {
    const edges = oneTwoFive(lengthMax);
    this.#promptTokens = new Histogram(edges);
    this.#computedPromptTokens = new Histogram(edges);
    this.#generationTokens = new Histogram(edges);
    this.#longestGenerationTokens = new Histogram(edges);
    this.#maxTokens = new Histogram(edges);
  }

  /** A step begins. */
  step(
    turns: readonly {
      readonly request: { readonly times: RequestTimes };
      readonly count: number;
    }[],
    nowMs: number,
  ): void {
    let tokenCount = 0;
    for (const { request, count } of turns) {
      tokenCount += count;
      request.times.firstTurnMs ??= nowMs;
    }
    this.#stepTokens.observe(tokenCount);
  }

  /** A token was chosen. */
  token(sequence: MeasuredSequence, nowMs: number): void {
    this.#first(sequence.times, nowMs);
    sequence.times.generatedCount++;
    if (sequence.lastTokenMs >= 0) {
      this.#interToken.observe((nowMs - sequence.lastTokenMs) / 1000);
    }
    sequence.lastTokenMs = nowMs;
  }

  /** A sequence is complete. */
  sequenceEnd({ times, outputCount, lastTokenMs }: MeasuredSequence): void {
    this.#generationTokens.observe(outputCount);
    times.longestCount = Math.max(times.longestCount, outputCount);
    if (outputCount < 2 || times.firstTokenMs === undefined) return;
    this.#perToken.observe((lastTokenMs - times.firstTokenMs) / (outputCount - 1) / 1000);
  }

  /** A search is over: its answers have come into being all at once. */
  searchEnd(times: RequestTimes, lengths: readonly number[], nowMs: number): void {
    this.#first(times, nowMs);
    for (const length of lengths) {
      this.#generationTokens.observe(length);
      times.generatedCount += length;
      times.longestCount = Math.max(times.longestCount, length);
    }
  }

  /** A request has ended, by an `error` if it failed: it is counted, and whoever asked is told. */
  requestEnd(request: MeasuredRequest, end: RequestEnd, nowMs: number, error?: unknown): void {
    this.#observeEnd(request, end, nowMs);
    request.onEnd?.(reportOf(request, end, nowMs, error));
  }

  #observeEnd(request: MeasuredRequest, end: RequestEnd, nowMs: number): void {
    this.#ends[end]++;
    if (end === "abort" || end === "error") return;
    const { times: { arrivedMs, firstTurnMs = nowMs, firstTokenMs = nowMs, longestCount } } =
      request;
    this.#endToEnd.observe((nowMs - arrivedMs) / 1000);
    this.#queue.observe((firstTurnMs - arrivedMs) / 1000);
    this.#prefill.observe((firstTokenMs - firstTurnMs) / 1000);
    this.#inference.observe((nowMs - firstTurnMs) / 1000);
    this.#promptTokens.observe(request.promptLength);
    this.#computedPromptTokens.observe(request.promptLength - (request.cachedCount ?? 0));
    if (request.params === undefined || request.maxTokens === undefined) return;
    this.#decode.observe((nowMs - firstTokenMs) / 1000);
    this.#longestGenerationTokens.observe(longestCount);
    this.#maxTokens.observe(request.maxTokens);
    this.#n.observe(request.params.n);
  }

  stats(): RequestStats {
    return {
      endCounts: { ...this.#ends },
      timeToFirstTokenSeconds: this.#firstToken.snapshot(),
      interTokenSeconds: this.#interToken.snapshot(),
      timePerOutputTokenSeconds: this.#perToken.snapshot(),
      endToEndSeconds: this.#endToEnd.snapshot(),
      queueSeconds: this.#queue.snapshot(),
      prefillSeconds: this.#prefill.snapshot(),
      decodeSeconds: this.#decode.snapshot(),
      inferenceSeconds: this.#inference.snapshot(),
      promptTokens: this.#promptTokens.snapshot(),
      computedPromptTokens: this.#computedPromptTokens.snapshot(),
      generationTokens: this.#generationTokens.snapshot(),
      longestGenerationTokens: this.#longestGenerationTokens.snapshot(),
      maxTokens: this.#maxTokens.snapshot(),
      n: this.#n.snapshot(),
      stepTokens: this.#stepTokens.snapshot(),
    };
  }

  #first(times: RequestTimes, nowMs: number): void {
    if (times.firstTokenMs !== undefined) return;
    times.firstTokenMs = nowMs;
    this.#firstToken.observe((nowMs - times.arrivedMs) / 1000);
  }
}

function reportOf(
  { times, promptLength, cachedCount }: MeasuredRequest,
  end: RequestEnd,
  endedMs: number,
  error: unknown,
): RequestReport {
  const { arrivedMs, firstTurnMs, firstTokenMs, generatedCount } = times;
  return {
    end,
    ...(error === undefined ? {} : { error }),
    arrivedMs,
    firstTurnMs,
    firstTokenMs,
    endedMs,
    promptTokens: promptLength,
    cachedTokens: cachedCount ?? 0,
    generatedTokens: generatedCount,
  };
}
