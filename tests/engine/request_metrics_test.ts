/** What the engine measures of requests, on a clock that ticks once a step. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ClosedError } from "../../lib/base/errors.ts";
import type { HistogramSnapshot } from "../../lib/base/histogram.ts";
import {
  Engine,
  type EngineOptions,
  type EngineRequest,
  type TokenEvent,
} from "../../lib/engine/engine.ts";
import type { RequestReport, RequestStats } from "../../lib/engine/request_metrics.ts";
import type { ResolvedSamplingParams } from "../../lib/sampling/resolved_params.ts";
import { beamParams, engineParams } from "../helpers/engine_requests.ts";
import { ScriptedRunner, type ScriptedRunnerOptions } from "../helpers/scripted_runner.ts";

const SECOND = 1000;

/** An engine in whose world each step takes a second, and the time to it nothing. */
function steppedEngine(
  runnerOptions: ScriptedRunnerOptions = {},
  options: Partial<EngineOptions> = {},
): { readonly engine: Engine; readonly wait: (seconds: number) => void } {
  let nowMs = 5000;
  const runner = new ScriptedRunner({
    ...runnerOptions,
    async onRun(batch) {
      nowMs += SECOND;
      await runnerOptions.onRun?.(batch);
    },
  });
  const engine = new Engine(runner, {
    enablePrefixCaching: true,
    maxWaitingRequests: 100,
    endTokenIds: [],
    selfDriven: false,
    now: () => nowMs,
    ...options,
  });
  return { engine, wait: (seconds) => nowMs += seconds * SECOND };
}

function ask(
  id: string,
  promptLength: number,
  params: Partial<ResolvedSamplingParams> = {},
): EngineRequest {
  return {
    id,
    promptTokenIds: Array.from({ length: promptLength }, (_, i) => 1 + (i + id.length) % 40),
    params: { ...engineParams({ temperature: 0, maxTokens: 4, ignoreEos: true }), ...params },
  };
}

async function drain(engine: Engine): Promise<void> {
  while (await engine.step());
}

/** Values and their sum. */
const total = ({ count, sum }: HistogramSnapshot): readonly [number, number] => [count, sum];

function assertNothingRuns(engine: Engine): void {
  const { runningCount, waitingCount, usedBlockCount } = engine.stats();
  assertEquals([runningCount, waitingCount, usedBlockCount], [0, 0, 0]);
}

/** How many buckets' counts the histogram must add up to. */
function assertConsistent(stats: RequestStats): void {
  for (const value of Object.values(stats)) {
    if (!("edges" in value)) continue;
    const { counts, edges, count } = value as HistogramSnapshot;
    assertEquals(counts.length, edges.length + 1);
    assertEquals(counts.reduce((sum, cell) => sum + cell, 0), count);
  }
}

Deno.test("One request: every part of its time, and its sizes", async () => {
  const { engine, wait } = steppedEngine();
  const channel = engine.submit(ask("a", 10));
  wait(3);
  await drain(engine);
  const events = await Array.fromAsync(channel);
  assertEquals(events.length, 4);
  const stats = engine.requestStats();
  assertConsistent(stats);
  assertEquals(stats.endCounts, { stop: 0, length: 1, repetition: 0, abort: 0, error: 0 });
  assertEquals(total(stats.queueSeconds), [1, 3]);
  assertEquals(total(stats.timeToFirstTokenSeconds), [1, 4]);
  assertEquals(total(stats.prefillSeconds), [1, 1]);
  assertEquals(total(stats.interTokenSeconds), [3, 3]);
  assertEquals(total(stats.timePerOutputTokenSeconds), [1, 1]);
  assertEquals(total(stats.decodeSeconds), [1, 3]);
  assertEquals(total(stats.inferenceSeconds), [1, 4]);
  assertEquals(total(stats.endToEndSeconds), [1, 7]);
  assertEquals(total(stats.promptTokens), [1, 10]);
  assertEquals(total(stats.computedPromptTokens), [1, 10]);
  assertEquals(total(stats.generationTokens), [1, 4]);
  assertEquals(total(stats.longestGenerationTokens), [1, 4]);
  assertEquals(total(stats.maxTokens), [1, 4]);
  assertEquals(total(stats.n), [1, 1]);
  assertEquals(total(stats.stepTokens), [4, 13]);
  assertNothingRuns(engine);
});

Deno.test("Sums of many requests agree with the engine's counters", async () => {
  const { engine } = steppedEngine({ blockCount: 8, maxBatchSize: 4 });
  const lengths = [20, 33, 5, 50, 17, 64];
  const channels = lengths.map((length, i) =>
    engine.submit(ask(`request ${i}`, length, { maxTokens: 20 + i }))
  );
  await drain(engine);
  let tokenCount = 0;
  for (const channel of channels) tokenCount += (await Array.fromAsync(channel)).length;
  const stats = engine.requestStats();
  const { promptTokens, generatedTokens, prefixHitTokens, stepCount, preemptionCount } = engine
    .stats();
  assertConsistent(stats);
  assert(preemptionCount > 0, "nothing was preempted");
  assertEquals(stats.endCounts.length, lengths.length);
  assertEquals(total(stats.promptTokens), [lengths.length, promptTokens]);
  assertEquals(total(stats.computedPromptTokens), [lengths.length, promptTokens - prefixHitTokens]);
  assertEquals(total(stats.generationTokens), [lengths.length, generatedTokens]);
  assertEquals(generatedTokens, tokenCount);
  assertEquals(stats.timeToFirstTokenSeconds.count, lengths.length);
  assertEquals(stats.interTokenSeconds.count, generatedTokens - lengths.length);
  assertEquals(stats.stepTokens.count, stepCount);
  assertEquals(
    stats.endToEndSeconds.sum,
    stats.queueSeconds.sum + stats.prefillSeconds.sum + stats.decodeSeconds.sum,
  );
  assertNothingRuns(engine);
});

Deno.test("Several answers are one request with several lengths", async () => {
  const { engine } = steppedEngine();
  const params = { n: 3, bestOf: 3, temperature: 1, seed: 7 };
  const channel = engine.submit(ask("a", 10, params));
  await drain(engine);
  const { length } = await Array.fromAsync(channel);
  assertEquals(length, 12);
  const stats = engine.requestStats();
  assertConsistent(stats);
  assertEquals(stats.endCounts.length, 1);
  assertEquals(total(stats.n), [1, 3]);
  assertEquals(total(stats.promptTokens), [1, 10]);
  assertEquals(total(stats.generationTokens), [3, 12]);
  assertEquals(total(stats.longestGenerationTokens), [1, 4]);
  assertEquals(stats.timeToFirstTokenSeconds.count, 1);
  assertEquals(stats.interTokenSeconds.count, 9);
});

Deno.test("A beam search has the lengths that it tells, and one first token, at its end", async () => {
  const { engine } = steppedEngine();
  const params = beamParams({ width: 2 }, { maxTokens: 3, ignoreEos: true });
  const channel = engine.submit({ ...ask("a", 10), params });
  await drain(engine);
  const events = await Array.fromAsync(channel);
  const stats = engine.requestStats();
  assertConsistent(stats);
  assertEquals(stats.endCounts.length, 1);
  assertEquals(total(stats.generationTokens), [2, events.length]);
  assertEquals(stats.timeToFirstTokenSeconds.sum, stats.endToEndSeconds.sum);
  assertNothingRuns(engine);
});

Deno.test("A prompt that is pooled has no tokens to measure", async () => {
  const { engine } = steppedEngine();
  const output = engine.submitPooling({ id: "p", promptTokenIds: [1, 2, 3], rows: "last" });
  await drain(engine);
  await output;
  const stats = engine.requestStats();
  assertEquals(stats.endCounts, { stop: 1, length: 0, repetition: 0, abort: 0, error: 0 });
  assertEquals(total(stats.promptTokens), [1, 3]);
  assertEquals(total(stats.endToEndSeconds), [1, 1]);
  assertEquals([stats.generationTokens.count, stats.n.count, stats.decodeSeconds.count], [0, 0, 0]);
});

Deno.test("An aborted request is counted as such, waiting or running, and leaves the gauges at zero", async () => {
  const { engine } = steppedEngine({ maxBatchSize: 1 });
  engine.submit(ask("running", 10));
  engine.submit(ask("waiting", 10));
  await engine.step();
  assertEquals([engine.stats().runningCount, engine.stats().waitingCount], [1, 1]);
  engine.abort("running");
  engine.abort("waiting");
  engine.abort("waiting");
  await drain(engine);
  const stats = engine.requestStats();
  assertEquals(stats.endCounts, { stop: 0, length: 0, repetition: 0, abort: 2, error: 0 });
  assertEquals(stats.timeToFirstTokenSeconds.count, 1);
  assertEquals([stats.endToEndSeconds.count, stats.promptTokens.count], [0, 0]);
  assertNothingRuns(engine);
});

Deno.test("A reader that leaves aborts, one that ends what it has seen enough of stops", async () => {
  for (const hasEnough of [false, true]) {
    const { engine } = steppedEngine();
    const channel = engine.submit(ask("a", 10));
    await engine.step();
    await engine.step();
    for await (const _ of channel) {
      if (hasEnough) engine.abort("a", 0);
      break;
    }
    await drain(engine);
    const stats = engine.requestStats();
    assertEquals([stats.endCounts.abort, stats.endCounts.stop], hasEnough ? [0, 1] : [1, 0]);
    assertEquals(total(stats.generationTokens), hasEnough ? [1, 2] : [0, 0]);
    assertNothingRuns(engine);
  }
});

Deno.test("Of several answers, one that is ended early has its own length and ends no request", async () => {
  const { engine } = steppedEngine();
  const channel = engine.submit(ask("a", 10, { n: 2, bestOf: 2, temperature: 1, seed: 7 }));
  await engine.step();
  await engine.step();
  engine.abort("a", 1);
  await drain(engine);
  assertEquals((await Array.fromAsync(channel)).length, 6);
  const stats = engine.requestStats();
  assertEquals(stats.endCounts, { stop: 0, length: 1, repetition: 0, abort: 0, error: 0 });
  assertEquals(total(stats.generationTokens), [2, 6]);
  assertEquals(total(stats.longestGenerationTokens), [1, 4]);
  assertNothingRuns(engine);
});

Deno.test("A failed step counts its requests as errors and leaves the gauges at zero", async () => {
  let fails = true;
  const { engine } = steppedEngine({
    onRun: () => {
      if (fails) throw new Error("no");
    },
  });
  const broken: Promise<TokenEvent[]>[] = ["a", "b"].map((id) =>
    Array.fromAsync(engine.submit(ask(id, 10)))
  );
  const failures = broken.map((reading) => assertRejects(() => reading, Error, "no"));
  await drain(engine);
  await Promise.all(failures);
  assertEquals(engine.requestStats().endCounts, {
    stop: 0,
    length: 0,
    repetition: 0,
    abort: 0,
    error: 2,
  });
  assertNothingRuns(engine);
  fails = false;
  const channel = engine.submit(ask("c", 10));
  await drain(engine);
  assertEquals((await Array.fromAsync(channel)).length, 4);
  assertEquals(engine.requestStats().endCounts, {
    stop: 0,
    length: 1,
    repetition: 0,
    abort: 0,
    error: 2,
  });
});

Deno.test("Requests that a closing engine ends were aborted", async () => {
  const { engine } = steppedEngine();
  const reading = Array.fromAsync(engine.submit(ask("a", 10)));
  const failure = assertRejects(() => reading, Error, "closed");
  await engine.close();
  await failure;
  assertEquals(engine.requestStats().endCounts, {
    stop: 0,
    length: 0,
    repetition: 0,
    abort: 1,
    error: 0,
  });
  assertNothingRuns(engine);
});

Deno.test("Every request is told once how it went, when it has ended", async () => {
  const { engine, wait } = steppedEngine({ maxBatchSize: 1 });
  const reports = new Map<string, RequestReport[]>();
  const onEnd = (id: string) => (report: RequestReport) =>
    reports.set(id, [...reports.get(id) ?? [], report]);
  const submit = (id: string, params: Partial<ResolvedSamplingParams> = {}) =>
    engine.submit({ ...ask(id, 10, params), onEnd: onEnd(id) });
  submit("whole", { maxTokens: 2 });
  wait(3);
  submit("left");
  submit("never");
  const pooled = { id: "pooled", promptTokenIds: [1, 2], rows: "last" as const };
  const output = engine.submitPooling({ ...pooled, onEnd: onEnd("pooled") });
  await engine.step(); // at 9 s
  await engine.step(); // at 10 s
  assertEquals([...reports.keys()], ["whole"]);
  await engine.step();
  engine.abort("left");
  engine.abort("never");
  engine.abort("left");
  await drain(engine);
  await output;
  const times = { arrivedMs: 5000, firstTurnMs: 8000, firstTokenMs: 9000, endedMs: 10_000 };
  const nothing = { firstTurnMs: undefined, firstTokenMs: undefined };
  assertEquals(Object.fromEntries(reports), {
    whole: [{ end: "length", promptTokens: 10, cachedTokens: 0, generatedTokens: 2, ...times }],
    left: [{
      end: "abort",
      promptTokens: 10,
      cachedTokens: 0,
      generatedTokens: 1,
      arrivedMs: 8000,
      firstTurnMs: 10_000,
      firstTokenMs: 11_000,
      endedMs: 11_000,
    }],
    never: [{
      end: "abort",
      promptTokens: 10,
      cachedTokens: 0,
      generatedTokens: 0,
      arrivedMs: 8000,
      ...nothing,
      endedMs: 11_000,
    }],
    pooled: [{
      end: "stop",
      promptTokens: 2,
      cachedTokens: 0,
      generatedTokens: 0,
      arrivedMs: 8000,
      firstTurnMs: 11_000,
      firstTokenMs: undefined,
      endedMs: 12_000,
    }],
  });
});

Deno.test("A request that fails is told with what, and so are those that a closing engine ends", async () => {
  const broken = new Error("no");
  const { engine } = steppedEngine({
    onRun: () => {
      throw broken;
    },
  });
  const reports: RequestReport[] = [];
  const onEnd = (report: RequestReport) => reports.push(report);
  const failing = Array.fromAsync(engine.submit({ ...ask("a", 10), onEnd }));
  const failed = assertRejects(() => failing, Error, "no");
  await drain(engine);
  await failed;
  const closing = Array.fromAsync(engine.submit({ ...ask("b", 10), onEnd }));
  const closed = assertRejects(() => closing, ClosedError);
  await engine.close();
  await closed;
  assertEquals(reports.map(({ end }) => end), ["error", "abort"]);
  assert(reports[0]?.error === broken && reports[1]?.error instanceof ClosedError);
  // What is refused was never a request.
  assertThrows(() => engine.submit({ ...ask("c", 10), onEnd }), ClosedError);
  assertEquals(reports.length, 2);
});
