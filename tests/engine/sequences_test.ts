/** Several sequences of one request: each is what a request of its own would have been. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  InvalidLogitsError,
  InvalidParameterError,
  QueueFullError,
} from "../../lib/base/errors.ts";
import { Engine, type EngineOptions, type TokenEvent } from "../../lib/engine/engine.ts";
import {
  beamParams,
  engineParams,
  type MakeEngine,
  sequencesOf,
  withTinyModel,
} from "../helpers/engine_requests.ts";
import { ScriptedRunner, type ScriptedRunnerOptions } from "../helpers/scripted_runner.ts";

const SEED = 40;
const BEST_OF = 5;
const OPTIONS = { temperature: 1, topP: 0.95, maxTokens: 20, ignoreEos: true, logprobs: 2 };

/** A prompt whose beginning is its own, so that no prompt finds another one's blocks. */
const promptOf = (length: number) =>
  Array.from({ length }, (_, i) => (i === 0 ? length : 7 * i * i + 3) % 90);

/** All but where a sequence stands among its like. */
const strip = (events: readonly TokenEvent[]) =>
  events.map(({ index: _, prompt: __, ...event }) => event);

async function runSeveral(engine: Engine, length: number, options: object = {}) {
  const params = engineParams({ ...OPTIONS, seed: SEED, ...options }, { n: 2, bestOf: BEST_OF });
  const request = { id: `several ${length}`, promptTokenIds: promptOf(length), params };
  return (await sequencesOf(engine.submit(request))).map(strip);
}

async function runSingly(engine: Engine, length: number, options: object = {}) {
  const sequences: unknown[][] = [];
  for (let index = 0; index < BEST_OF; index++) {
    const params = engineParams({ ...OPTIONS, seed: SEED + index, ...options });
    const request = { id: `single ${length}`, promptTokenIds: promptOf(length), params };
    sequences.push(strip((await sequencesOf(engine.submit(request)))[0]!));
  }
  return sequences;
}

/** The prompts together, and each by itself. */
async function compare(
  makeEngine: MakeEngine,
  lengths: readonly number[],
  options: Parameters<MakeEngine>[0],
  expected: Map<number, unknown[][]>,
): Promise<ReturnType<Engine["stats"]>> {
  const what = JSON.stringify(options);
  const engine = makeEngine(options);
  const crowd = await Promise.all(lengths.map((length) => runSeveral(engine, length)));
  for (const [i, length] of lengths.entries()) {
    assertEquals(crowd[i], expected.get(length), `${length} tokens in a crowd, ${what}`);
    assertEquals(
      await runSeveral(engine, length),
      expected.get(length),
      `${length} tokens alone, ${what}`,
    );
  }
  await assertEmpty(engine);
  return engine.stats();
}

async function assertEmpty(engine: Engine): Promise<void> {
  await engine.close();
  const { runningCount, waitingCount, usedBlockCount } = engine.stats();
  assertEquals([runningCount, waitingCount, usedBlockCount], [0, 0, 0]);
}

for (const threads of [1, 2]) {
  Deno.test(`Sequences of a request are the requests of seeds seed + i, to the last bit, with ${threads} threads`, async () => {
    await withTinyModel("qwen3", { threads }, async (makeEngine) => {
      const lengths = Array.from({ length: 17 }, (_, i) => 16 + i);
      const expected = new Map<number, unknown[][]>();
      const alone = makeEngine({ enablePrefixCaching: false });
      for (const length of lengths) expected.set(length, await runSingly(alone, length));
      await assertEmpty(alone);
      for (const enablePrefixCaching of [true, false]) {
        const caching = { enablePrefixCaching };
        await compare(makeEngine, lengths, caching, expected);
        await compare(makeEngine, lengths, { ...caching, prefillChunkSize: 5 }, expected);
        // Fewer places in a step than sequences: some wait for others to end.
        await compare(makeEngine, lengths, { ...caching, maxBatchSize: 3 }, expected);
        const { preemptionCount } = await compare(
          makeEngine,
          lengths,
          { ...caching, blockCount: 7 },
          expected,
        );
        assert(preemptionCount > 10, `only ${preemptionCount} preemptions`);
      }
    });
  });
}

function setUp(runnerOptions: ScriptedRunnerOptions = {}, options: Partial<EngineOptions> = {}) {
  const runner = new ScriptedRunner(runnerOptions);
  const engine = new Engine(runner, {
    enablePrefixCaching: true,
    maxWaitingRequests: 100,
    endTokenIds: [40],
    ...options,
  });
  return { runner, engine };
}

const several = (id: string, promptLength: number, bestOf: number, options: object = {}) => ({
  id,
  promptTokenIds: Array.from({ length: promptLength }, (_, i) => i % 30),
  params: engineParams({ temperature: 1, seed: 1, maxTokens: 8, ...options }, { n: 1, bestOf }),
});

Deno.test("Engine computes the prompt of several sequences once and shares its blocks", async () => {
  for (const enablePrefixCaching of [true, false]) {
    const { engine, runner } = setUp({}, { enablePrefixCaching });
    const sequences = await sequencesOf(
      engine.submit(several("a", 40, 6, { maxTokens: 4, ignoreEos: true })),
    );
    assertEquals(sequences.map((events) => events.length), [4, 4, 4, 4, 4, 4]);
    // One row a sequence after the prompt; all but the last sharer copy the block they write to.
    const [first, ...rest] = runner.trace;
    assert(first!.startsWith("prefill 1x40 "), first);
    assertEquals(rest.map((step) => step.split(" ")[1]), ["6x6", "6x6", "6x6"]);
    assertEquals(rest.map((step) => step.split("=>").length - 1), [5, 0, 0]);
    await assertEmpty(engine);
  }
});

Deno.test("Engine tells of the prompt with the first event only, and closes with the last sequence", async () => {
  const { engine } = setUp();
  const { params, ...request } = several("a", 20, 3, { promptLogprobs: 0 });
  const events = await Array.fromAsync(engine.submit({ ...request, params }));
  assertEquals(events.map(({ prompt }) => prompt?.logprobs?.length), [
    20,
    ...Array(events.length - 1).fill(undefined),
  ]);
  assertEquals(events.filter((event) => event.finishReason !== null).map((it) => it.index).sort(), [
    0,
    1,
    2,
  ]);
  assertEquals(engine.stats().generatedTokens, events.length);
  assertEquals(engine.stats().promptTokens, 20);
  await assertEmpty(engine);
});

Deno.test("Engine ends all sequences of a request whose reader leaves or that is aborted", async () => {
  for (const promptLength of [16, 20]) {
    const { engine } = setUp({ maxBatchSize: 4 });
    const endless = { maxTokens: 200, ignoreEos: true };
    const left = engine.submit(several("left", promptLength, 7, endless));
    const aborted = sequencesOf(engine.submit(several("aborted", promptLength, 7, endless)));
    const search = engine.submit({
      ...several("s", promptLength, 1),
      params: beamParams({ width: 3 }, endless),
    });
    const other = sequencesOf(engine.submit(several("other", 5, 2)));
    let count = 0;
    for await (const _ of left) if (++count === 9) break;
    engine.abort("s");
    engine.abort("aborted");
    assert((await aborted).flat().every((event) => event.finishReason === null));
    assertEquals(await sequencesOf(search), []);
    assert((await other).every((events) => events.at(-1)!.finishReason !== null));
    await assertEmpty(engine);
  }
});

Deno.test("Engine fails all sequences of a request when one of them fails", async () => {
  for (const place of [0, 3]) {
    let rows = 0;
    const { engine } = setUp({
      script: (history, row) => {
        row.set(Array.from(row, (_, id) => (id * 7) % 5));
        if (history[0] === 7 && history.length > 18 && ++rows > place) row[3] = NaN;
      },
    });
    const request = several("broken", 18, 4, { ignoreEos: true });
    const broken = sequencesOf(engine.submit({ ...request, promptTokenIds: Array(18).fill(7) }));
    const sound = sequencesOf(engine.submit(several("sound", 18, 3)));
    await assertRejects(() => broken, InvalidLogitsError, "token 3 is NaN");
    assert((await sound).every((events) => events.at(-1)!.finishReason !== null));
    await assertEmpty(engine);
  }
});

Deno.test("Engine counts a request that waits once, however many sequences it has", async () => {
  const { engine } = setUp({ maxBatchSize: 1 }, { maxWaitingRequests: 2, selfDriven: false });
  engine.submit(several("a", 4, 9, { ignoreEos: true }));
  await engine.step(); // its eight other sequences wait now
  assertEquals([engine.stats().runningCount, engine.stats().waitingCount], [1, 8]);
  engine.submit(several("b", 4, 9));
  assertThrows(() => engine.submit(several("c", 4, 1)), QueueFullError);
  await engine.close();
});

Deno.test("Engine draws different sequences where no seed is given", async () => {
  const { engine } = setUp({ script: (_, row) => row.fill(0) });
  const { params, ...request } = several("a", 4, 4, { maxTokens: 20, ignoreEos: true });
  const sequences = await sequencesOf(
    engine.submit({ ...request, params: { ...params, seed: null } }),
  );
  assertEquals(new Set(sequences.map((events) => events.map((it) => it.tokenId).join())).size, 4);
  await engine.close();
});

const ENDLESS = { maxTokens: 200, ignoreEos: true };

Deno.test("Engine ends one sequence at the start of the next step, and frees its blocks", async () => {
  const { engine, runner } = setUp({}, { selfDriven: false });
  const sequences = sequencesOf(engine.submit(several("a", 32, 4, ENDLESS)));
  await engine.step(); // the prompt: two full blocks for all
  await engine.step(); // a block more for each
  assertEquals([engine.stats().runningCount, engine.stats().usedBlockCount], [4, 6]);
  engine.abort("a", 2);
  engine.abort("a", 2);
  assertEquals([engine.stats().runningCount, engine.stats().usedBlockCount], [4, 6], "not yet");
  await engine.step();
  assertEquals([engine.stats().runningCount, engine.stats().usedBlockCount], [3, 5]);
  assertEquals(runner.trace.at(-1)?.split(" ")[1], "3x3");
  for (const index of [0, 3, 1]) engine.abort("a", index);
  assertEquals((await sequences).map((events) => events.length), [3, 3, 2, 3]);
  assertEquals(await engine.step(), false);
  engine.abort("a", 9); // of a finished request
  await assertEmpty(engine);
});

Deno.test("Engine sends nothing of sequences that were ended before they began, the first included", async () => {
  const options = { maxTokens: 6, ignoreEos: true, promptLogprobs: 0 };
  const whole = setUp();
  const expected = await sequencesOf(whole.engine.submit(several("a", 40, 4, options)));
  await assertEmpty(whole.engine);
  for (const enablePrefixCaching of [true, false]) {
    for (const stepsBefore of [0, 2]) {
      const { engine } = setUp({ maxTokensPerStep: 16 }, {
        enablePrefixCaching,
        selfDriven: false,
      });
      const events = Array.fromAsync(engine.submit(several("a", 40, 4, options)));
      for (let step = 0; step < stepsBefore; step++) await engine.step();
      engine.abort("a", 0);
      engine.abort("a", 2);
      while (await engine.step());
      const told = await events;
      for (const index of [0, 1, 2, 3]) {
        const own = told.filter((event) => event.index === index);
        assertEquals(strip(own), index % 2 === 0 ? [] : strip(expected[index] ?? []));
      }
      assertEquals(told.map(({ prompt }) => prompt?.logprobs?.length), [
        40,
        ...Array(11).fill(undefined),
      ]);
      assertEquals(engine.stats().generatedTokens, 12);
      await assertEmpty(engine);
    }
  }
});

Deno.test("Engine ends a request all of whose sequences were ended, before the prompt and after", async () => {
  for (const stepsBefore of [0, 1, 2]) {
    const { engine } = setUp({ maxTokensPerStep: 16 }, { selfDriven: false });
    const request = several("a", 20, 2, ENDLESS);
    const events = Array.fromAsync(engine.submit(request));
    for (let step = 0; step < stepsBefore; step++) await engine.step();
    for (const index of [1, 0]) engine.abort("a", index);
    assertEquals((await events).length, stepsBefore === 2 ? 2 : 0);
    const again = Array.fromAsync(engine.submit(request)); // the id is free
    engine.abort("a");
    await again;
    await engine.step();
    await assertEmpty(engine);
  }
});

Deno.test("Engine sends nothing of a sequence that is ended while the device is busy", async () => {
  let step = 0;
  const { engine } = setUp({
    onRun: () => {
      if (++step === 3) engine.abort("a", 1);
    },
  });
  const sequences = await sequencesOf(
    engine.submit(several("a", 20, 3, { ...ENDLESS, maxTokens: 5 })),
  );
  assertEquals(sequences.map((events) => events.length), [5, 2, 5]);
  await assertEmpty(engine);
});

Deno.test("Engine does not trust the blocks of an ended sequence whose request fails in that step", async () => {
  let step = 0;
  const { engine } = setUp({
    onRun: () => {
      if (++step === 2) engine.abort("a", 0);
    },
    script: (history, row) => row.fill(history.length > 32 ? NaN : 0),
  });
  await assertRejects(() => sequencesOf(engine.submit(several("a", 32, 3))), InvalidLogitsError);
  await assertEmpty(engine);
  assertEquals(engine.stats().cachedBlockCount, 0);
});

Deno.test("Engine ends single sequences only where there are any", async () => {
  const { engine } = setUp({}, { selfDriven: false });
  engine.submit(several("a", 4, 3));
  engine.submit({ ...several("search", 4, 1), params: beamParams({ width: 3 }) });
  const pooling = engine.submitPooling({ id: "rows", promptTokenIds: [1], rows: "last" });
  const refused: readonly (readonly [string, number, string])[] = [
    ["a", 3, "its sequences are 0 to 2"],
    ["a", -1, "its sequences are 0 to 2"],
    ["a", 0.5, "its sequences are 0 to 2"],
    ["search", 0, "it is a beam search"],
    ["rows", 0, "it is for hidden states"],
  ];
  for (const [id, index, rule] of refused) {
    const error = assertThrows(() => engine.abort(id, index), InvalidParameterError, rule);
    assertEquals([error.parameter, error.value], ["index", index]);
  }
  engine.abort("unknown", 7);
  engine.abort("rows");
  await assertRejects(() => pooling, DOMException);
  await engine.close();
});
