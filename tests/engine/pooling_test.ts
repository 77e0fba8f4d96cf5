import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  ClosedError,
  ContextLengthError,
  InvalidLogitsError,
  InvalidParameterError,
  QueueFullError,
} from "../../lib/base/errors.ts";
import { Engine, type EngineOptions, type EnginePoolingRequest } from "../../lib/engine/engine.ts";
import type { PoolingRows } from "../../lib/engine/pooling_request.ts";
import { SamplingParams } from "../../lib/sampling/params.ts";
import { resolveSamplingParams } from "../../lib/sampling/resolved_params.ts";
import {
  hiddenState,
  ScriptedRunner,
  type ScriptedRunnerOptions,
  seededRandom,
} from "../helpers/scripted_runner.ts";

const VOCAB_SIZE = 50;
const KINDS: readonly PoolingRows[] = ["first", "last", "all", "mean"];
const SEED = 20260611;

function setUp(runnerOptions: ScriptedRunnerOptions = {}, options: Partial<EngineOptions> = {}) {
  const runner = new ScriptedRunner({ vocabSize: VOCAB_SIZE, ...runnerOptions });
  const engine = new Engine(runner, {
    enablePrefixCaching: true,
    maxWaitingRequests: 1000,
    endTokenIds: [],
    ...options,
  });
  return { runner, engine };
}

const tokens = (count: number, first = 0) =>
  Array.from({ length: count }, (_, i) => (7 * i + first) % VOCAB_SIZE);

function expectedRows(
  { promptTokenIds, tokenTypeIds, rows }: EnginePoolingRequest,
  isEncoder = false,
): Float32Array[] {
  const all = promptTokenIds.map((_, position) => {
    const seen = isEncoder ? promptTokenIds : promptTokenIds.slice(0, position + 1);
    return hiddenState(seen, position, tokenTypeIds?.[position] ?? 0);
  });
  switch (rows) {
    case "first":
      return all.slice(0, 1);
    case "last":
      return all.slice(-1);
    case "all":
      return all;
    case "mean": {
      const sums = all[0]!.map((_, i) => all.reduce((sum, row) => sum + row[i]!, 0) / all.length);
      return [sums];
    }
    default:
      return rows satisfies never;
  }
}

async function assertIdle(engine: Engine): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 5));
  const { runningCount, waitingCount, usedBlockCount } = engine.stats();
  assertEquals([runningCount, waitingCount, usedBlockCount], [0, 0, 0]);
}

Deno.test("Engine gives the rows that are asked for, chunk by chunk", async () => {
  for (const maxTokensPerStep of [64, 7, 1]) {
    const { engine } = setUp({ maxTokensPerStep, maxBatchSize: 1 });
    for (const rows of KINDS) {
      const request = { id: rows, promptTokenIds: tokens(40), rows };
      const output = await engine.submitPooling(request);
      assertEquals(output.rows, expectedRows(request), `${rows}, ${maxTokensPerStep} a step`);
    }
    await assertIdle(engine);
  }
});

Deno.test("Of a cached prefix only the rows behind it are computed", async () => {
  const { engine, runner } = setUp();
  const promptTokenIds = tokens(40);
  const ask = (id: string, rows: PoolingRows) => engine.submitPooling({ id, promptTokenIds, rows });
  assertEquals((await ask("a", "last")).cachedTokens, 0);
  assertEquals((await ask("b", "last")).cachedTokens, 32);
  assertEquals(runner.trace.at(-1)!.split(" ")[1], "1x8");
  assertEquals((await ask("c", "mean")).cachedTokens, 0, "all rows are wanted");
  const { rows } = await ask("d", "all");
  assertEquals(rows, expectedRows({ id: "d", promptTokenIds, rows: "all" }));
});

Deno.test("A request for the first row ends with the chunk that brings it", async () => {
  const { engine, runner } = setUp({ maxTokensPerStep: 8 });
  const request = { id: "a", promptTokenIds: tokens(60), rows: "first" } as const;
  assertEquals((await engine.submitPooling(request)).rows, expectedRows(request));
  assertEquals(runner.trace.length, 1);
  await assertIdle(engine);
});

/** Requests of all kinds at random steps; the rows must be those that each gets alone. */
async function crowd(
  options: ScriptedRunnerOptions & Partial<EngineOptions>,
  withTokens: boolean,
): Promise<Engine> {
  const random = seededRandom(SEED);
  const below = (limit: number) => Math.floor(random() * limit);
  const { isEncoder = false } = options;
  const { engine } = setUp(options, { ...options, selfDriven: false });
  const work: Promise<void>[] = [];
  const lengthMax = Math.min(90, (options.blockCount ?? 64) * 16 - 40);
  for (let i = 0; i < 150; i++) {
    for (let step = below(3); step > 0; step--) await engine.step();
    const promptTokenIds = tokens(1 + below(lengthMax), below(3));
    if (withTokens && i % 2 === 0) {
      const params = resolveSamplingParams(
        new SamplingParams({ temperature: 0, maxTokens: 1 + below(30) }),
      );
      work.push(Array.fromAsync(engine.submit({ id: `t${i}`, promptTokenIds, params })).then());
      continue;
    }
    const request = {
      id: `p${i}`,
      promptTokenIds,
      rows: KINDS[below(4)]!,
      ...(isEncoder && below(2) === 0
        ? { tokenTypeIds: promptTokenIds.map((_, at) => at % 2) }
        : {}),
    };
    const expected = expectedRows(request, isEncoder);
    work.push(
      engine.submitPooling(request).then(({ rows }) => assertEquals(rows, expected, request.rows)),
    );
  }
  const all = Promise.all(work);
  while (await engine.step());
  await all;
  const { runningCount, waitingCount, usedBlockCount } = engine.stats();
  assertEquals([runningCount, waitingCount, usedBlockCount], [0, 0, 0], `seed ${SEED}`);
  return engine;
}

Deno.test("In a crowd that decodes, waits and is preempted, each request gets the rows it gets alone", async () => {
  let preemptionCount = 0;
  for (const prefillChunkSize of [5, 64]) {
    for (const enablePrefixCaching of [true, false]) {
      const world = { blockCount: 10, maxBatchSize: 6, maxTokensPerStep: 32 };
      const engine = await crowd({ ...world, prefillChunkSize, enablePrefixCaching }, true);
      preemptionCount += engine.stats().preemptionCount;
    }
  }
  assert(preemptionCount > 10, `only ${preemptionCount} preemptions: the pool is too large`);
});

Deno.test("An encoder's prompts run whole, beside each other, and leave nothing in the cache", async () => {
  for (const blockCount of [8, 64]) {
    const engine = await crowd({
      blockCount,
      maxTokensPerStep: 96,
      maxPromptLength: 96,
      maxBatchSize: 5,
      isEncoder: true,
      isGenerative: false,
      tokenTypeCount: 2,
      prefillChunkSize: 3,
    }, false);
    assertEquals(engine.stats().cachedBlockCount, 0);
  }
});

Deno.test("Aborting a request for rows rejects it, wherever it is", async () => {
  let aborted = "";
  const { engine } = setUp({ maxTokensPerStep: 8, onRun: () => engine.abort(aborted) });
  for (const rows of KINDS) {
    const running = engine.submitPooling({ id: rows, promptTokenIds: tokens(8), rows });
    aborted = rows;
    const error = await assertRejects(() => running, DOMException);
    assertEquals(error.name, "AbortError");
    const waiting = engine.submitPooling({ id: "w", promptTokenIds: tokens(8), rows });
    engine.abort("w");
    await assertRejects(() => waiting, DOMException, "aborted");
    await assertIdle(engine);
  }
});

Deno.test("A request for rows fails alone where its rows are not numbers", async () => {
  const { engine, runner } = setUp();
  const run = runner.run.bind(runner);
  runner.run = async (batch) => {
    const rows = await run(batch);
    const isWrong = (index: number) => batch.sequences[batch.hiddenRows![index]!] === 0;
    return {
      ...rows,
      hidden: (index) => isWrong(index) ? Float32Array.of(1, NaN) : rows.hidden!(index),
    };
  };
  const bad = engine.submitPooling({ id: "bad", promptTokenIds: tokens(20), rows: "mean" });
  const request = { id: "good", promptTokenIds: tokens(20, 1), rows: "last" } as const;
  const good = engine.submitPooling(request);
  await assertRejects(() => bad, InvalidLogitsError, "hidden state of prompt token 0");
  assertEquals((await good).rows, expectedRows(request));
  await assertIdle(engine);
});

Deno.test("What cannot be pooled is refused at once", async () => {
  const { engine } = setUp(
    { blockCount: 4, maxPromptLength: 100, tokenTypeCount: 2 },
    { selfDriven: false, maxWaitingRequests: 1 },
  );
  const ask = (change: Partial<EnginePoolingRequest>) =>
    engine.submitPooling({ id: "x", promptTokenIds: [1, 2], rows: "last", ...change });
  const refused: readonly (readonly [Partial<EnginePoolingRequest>, string])[] = [
    [{ promptTokenIds: [] }, "a prompt of no tokens"],
    [{ promptTokenIds: [VOCAB_SIZE] }, "out of vocabulary"],
    [{ tokenTypeIds: [0] }, "one for each of 2 tokens, not 1"],
    [{ tokenTypeIds: [0, 2] }, "2 is not an integer from 0 to 1"],
    [{ priority: NaN }, "priority NaN"],
  ];
  for (const [change, text] of refused) {
    assertThrows(() => ask(change), InvalidParameterError, text);
  }
  const tooLong = assertThrows(
    () => ask({ promptTokenIds: tokens(65) }),
    ContextLengthError,
    "Cannot run a prompt of 65 tokens as the KV pool holds at most 64",
  );
  assertEquals([tooLong.tokenCount, tooLong.tokenLimit], [65, 64]);
  const waiting = ask({ id: "waits" });
  assertThrows(() => ask({ id: "waits" }), InvalidParameterError, "an unfinished request");
  assertThrows(() => ask({ id: "late" }), QueueFullError);
  await Promise.all([
    engine.close(),
    assertRejects(() => waiting, ClosedError),
  ]);
  assertThrows(() => ask({}), ClosedError);
});

Deno.test("A model without a language head takes no request for tokens, one without segments no token types", () => {
  const { engine } = setUp({ isGenerative: false });
  const params = resolveSamplingParams(new SamplingParams({}));
  assertThrows(
    () => engine.submit({ id: "a", promptTokenIds: [1], params }),
    TypeError,
    "no language head",
  );
  assertThrows(
    () => engine.submitPooling({ id: "a", promptTokenIds: [1], tokenTypeIds: [0], rows: "all" }),
    InvalidParameterError,
    "the model has no token types",
  );
});
