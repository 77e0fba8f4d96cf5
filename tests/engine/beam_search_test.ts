/** Beam search in the engine: what it tells, and that nobody around it changes it. */

import { assert, assertEquals } from "@std/assert";
import { Engine, type EngineOptions, type TokenEvent } from "../../lib/engine/engine.ts";
import type { SamplingParamsOptions } from "../../lib/sampling/params.ts";
import type { BeamParams } from "../../lib/sampling/resolved_params.ts";
import {
  beamParams,
  engineParams,
  type MakeEngine,
  sequencesOf,
  withTinyModel,
} from "../helpers/engine_requests.ts";
import { ScriptedRunner, type ScriptedRunnerOptions } from "../helpers/scripted_runner.ts";

const promptOf = (length: number) =>
  Array.from({ length }, (_, i) => (i * i + 5 * i + length) % 90);

const SEARCHES = Array.from({ length: 17 }, (_, i) => ({
  id: `search ${i}`,
  promptTokenIds: promptOf(16 + i),
  params: beamParams({
    width: 2 + i % 4,
    lengthPenalty: [1, 0, 2][i % 3]!,
    earlyStopping: ([false, true, "never"] as const)[i % 3]!,
  }, { maxTokens: 20, logprobs: 1, stopTokenIds: [7, 11, 13 + i] }),
}));

const DRAWS = Array.from({ length: 6 }, (_, i) => ({
  id: `draw ${i}`,
  promptTokenIds: promptOf(40 - i),
  params: engineParams({ temperature: 1, seed: i, maxTokens: 30 }, { n: 3, bestOf: 3 }),
}));

const withoutPrompt = (sequences: TokenEvent[][]) =>
  sequences.map((events) => events.map(({ prompt: _, ...event }) => event));

async function runCrowd(makeEngine: MakeEngine, options: Parameters<MakeEngine>[0]) {
  const engine = makeEngine({ endTokenIds: [2], ...options });
  const draws = DRAWS.map((request) => sequencesOf(engine.submit(request)));
  const searches = await Promise.all(
    SEARCHES.map((request) => sequencesOf(engine.submit(request))),
  );
  await Promise.all(draws);
  await engine.close();
  assertEquals(engine.stats().usedBlockCount, 0);
  return { searches: searches.map(withoutPrompt), stats: engine.stats() };
}

for (const threads of [1, 2]) {
  Deno.test(`A beam search in a crowd is what it is alone, to the last bit, with ${threads} threads`, async () => {
    await withTinyModel("llama", { threads }, async (makeEngine) => {
      const expected: unknown[] = [];
      const alone = makeEngine({ endTokenIds: [2], enablePrefixCaching: false });
      for (const request of SEARCHES) {
        expected.push(withoutPrompt(await sequencesOf(alone.submit(request))));
      }
      await alone.close();
      for (const enablePrefixCaching of [true, false]) {
        for (
          const options of [
            {},
            { prefillChunkSize: 3, maxTokensPerStep: 9 },
            { maxBatchSize: 2 }, // fewer places than beams
            { blockCount: 6 },
          ]
        ) {
          const { searches, stats } = await runCrowd(makeEngine, {
            enablePrefixCaching,
            ...options,
          });
          assertEquals(searches, expected, JSON.stringify({ enablePrefixCaching, ...options }));
          assert(!("blockCount" in options) || stats.preemptionCount > 10, "too few preemptions");
        }
      }
    });
  });
}

/** Rows by the generated tokens; the prompt is the token 0. */
function setUp(
  rows: Record<string, Record<number, number>>,
  options: Partial<EngineOptions> = {},
  limits: ScriptedRunnerOptions = {},
) {
  const runner = new ScriptedRunner({
    vocabSize: 20,
    ...limits,
    script: (history, row) => {
      row.fill(-30);
      const known = rows[history.slice(1).join()] ?? { 15: 1 };
      for (const [id, probability] of Object.entries(known)) {
        row[Number(id)] = Math.log(probability);
      }
    },
  });
  const engine = new Engine(runner, {
    enablePrefixCaching: true,
    maxWaitingRequests: 10,
    endTokenIds: [9, 8],
    ...options,
  });
  return { engine, runner };
}

async function told(
  engine: Engine,
  beam: Partial<BeamParams> & { width: number },
  options: SamplingParamsOptions = {},
  n = beam.width,
) {
  const params = { ...beamParams(beam, { maxTokens: 3, ...options }), n };
  const sequences = await sequencesOf(engine.submit({ id: "s", promptTokenIds: [0], params }));
  return sequences.map((events) => {
    const last = events.at(-1)!;
    return [events.map((it) => it.tokenId), last.finishReason, last.stopReason];
  });
}

const ROWS = {
  "": { 1: 0.4, 9: 0.3, 8: 0.2, 2: 0.1 },
  "1": { 3: 0.6, 4: 0.4 },
  "1,3": { 7: 0.9, 5: 0.1 },
  "1,4": { 8: 1 },
};

Deno.test("Engine tells how each hypothesis ended: no reason for an end token, the id for a stop token", async () => {
  const { engine } = setUp(ROWS);
  const search = { width: 4, lengthPenalty: 0, earlyStopping: "never" as const };
  assertEquals(await told(engine, search, { stopTokenIds: [7, 8] }), [
    [[9], "stop", null],
    [[1, 3, 7], "stop", 7],
    [[8], "stop", null], // an end token of the model, whatever else it is
    [[1, 4, 8], "stop", null],
  ]);
  assertEquals(await told(engine, { ...search, width: 2 }), [
    [[9], "stop", null],
    [[1, 3, 7], "length", null],
  ]);
});

Deno.test("Engine tells only the n best of a search", async () => {
  const { engine } = setUp(ROWS);
  const search = { width: 4, lengthPenalty: 0 };
  const all = await told(engine, search, { stopTokenIds: [7] });
  assertEquals(all.length, 4);
  assertEquals(await told(engine, search, { stopTokenIds: [7] }, 1), all.slice(0, 1));
});

Deno.test("A search has no end tokens where these are ignored, and none before minTokens", async () => {
  const { engine } = setUp(ROWS);
  const search = { width: 2, lengthPenalty: 0 };
  const ignoring = await told(engine, search, { ignoreEos: true, stopTokenIds: [7] });
  assert(ignoring.every(([ids, reason]) => (ids as number[]).length === 3 && reason === "length"));
  const atLeast = await told(engine, search, { minTokens: 3 });
  assert(atLeast.every(([ids]) => (ids as number[]).length === 3), JSON.stringify(atLeast));
});

Deno.test("A search is told when it is over: hypothesis after hypothesis, the prompt with the first token", async () => {
  const { engine } = setUp(ROWS);
  const params = beamParams({ width: 3 }, { maxTokens: 3, logprobs: 2, promptLogprobs: 1 });
  const events = await Array.fromAsync(engine.submit({ id: "s", promptTokenIds: [0, 1], params }));
  const indexes = events.map(({ index }) => index);
  assertEquals(indexes, indexes.toSorted());
  assertEquals(events.map(({ prompt }) => prompt?.logprobs?.length), [
    2,
    ...Array(events.length - 1).fill(undefined),
  ]);
  assert(events.every(({ logprobs, tokenId }) => logprobs![0]!.tokenId === tokenId));
  assertEquals(engine.stats().generatedTokens, events.length);
  await engine.close();
  assertEquals(engine.stats().usedBlockCount, 0);
});

Deno.test("A search shares the blocks of what its beams have in common", async () => {
  for (const enablePrefixCaching of [true, false]) {
    const { engine, runner } = setUp({}, { enablePrefixCaching }, {
      onRun: ({ blockTables }) => {
        const shared = new Set(blockTables.flat()).size;
        // Forty tokens of prompt are in two full blocks, whatever the number of beams.
        assert(shared <= 2 + blockTables.length * 2, `${shared} blocks`);
      },
    });
    const params = beamParams({ width: 4 }, { maxTokens: 12 });
    await sequencesOf(engine.submit({ id: "s", promptTokenIds: Array(40).fill(3), params }));
    assert(runner.trace.slice(1).every((step) => step.startsWith("decode 4x4 ")));
    await engine.close();
  }
});
