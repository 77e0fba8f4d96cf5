/** Layers with a window on the device: whatever goes on around a request, it has the bits of a plain pass. */

import { assert, assertEquals } from "@std/assert";
import type { EngineRequest, TokenEvent } from "../../lib/engine/engine.ts";
import { Engine } from "../../lib/engine/engine.ts";
import type { DeviceRunner } from "../../lib/engine/runner.ts";
import { windowRoom } from "../../lib/device/kv_window.ts";
import { tokenLogprobs } from "../../lib/sampling/logprobs.ts";
import {
  beamParams,
  engineParams,
  type MakeEngine,
  sequencesOf,
  withModel,
  withTinyModel,
} from "../helpers/engine_requests.ts";
import { goldenModel, type GoldenModelName } from "../helpers/golden_models.ts";
import { ScriptedRunner, seededRandom } from "../helpers/scripted_runner.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

const CASES: readonly { readonly name: GoldenModelName; readonly windows: readonly number[] }[] = [
  { name: "mistral", windows: [5, 16, 37] }, // all layers
  { name: "exaone4-hybrid", windows: [1, 20] }, // three of four
  { name: "gemma3", windows: [17] }, // five of six
  { name: "qwen2", windows: [33] }, // the second of two
];

/** One of the tiny models with a window of its own. */
async function withWindow(
  name: GoldenModelName,
  window: number,
  use: (makeEngine: MakeEngine, runner: DeviceRunner) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    const golden = goldenModel(name);
    writeTinyModel(dir, { ...golden, config: { ...golden.config, sliding_window: window } });
    await withModel(dir, { threads: 1, maxBatchSize: 8 }, use);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** The numbers of a request's events, sequence by sequence. */
async function answer(engine: Engine, request: EngineRequest): Promise<unknown> {
  const sequences = await sequencesOf(engine.submit(request));
  return sequences.map((events) =>
    events.map(({ tokenId, logprobs }: TokenEvent) => ({ tokenId, logprobs }))
  );
}

/** Requests that share beginnings: drawn, greedy, for several answers, and searches. */
function makeRequests(random: () => number): EngineRequest[] {
  const int = (min: number, max: number) => min + Math.floor(random() * (max - min + 1));
  const tokens = (count: number) => Array.from({ length: count }, () => int(3, 100));
  const prefix = tokens(64);
  return Array.from({ length: 7 }, (_, index): EngineRequest => {
    const promptTokenIds = [...prefix.slice(0, int(0, 64)), ...tokens(int(1, 40))];
    const options = { maxTokens: int(2, 40), ignoreEos: true, seed: index, logprobs: 2 };
    const params = [
      () => engineParams({ ...options, temperature: 0 }),
      () => engineParams({ ...options, temperature: 1 }),
      () => engineParams({ ...options, temperature: 1 }, { n: 3, bestOf: 3 }),
      () => beamParams({ width: 2 }, options),
    ][index % 4]!();
    return { id: `request-${index}`, promptTokenIds, params };
  });
}

for (const { name, windows } of CASES) {
  for (const window of windows) {
    Deno.test(`${name} with a window of ${window}: a plain pass, chunks, a crowd, cached prefixes, few blocks agree to the bit`, async () => {
      const seed = Math.floor(Math.random() * 2 ** 31);
      const random = seededRandom(seed);
      const int = (min: number, max: number) => min + Math.floor(random() * (max - min + 1));
      await withWindow(name, window, async (makeEngine, runner) => {
        const requests = makeRequests(random);
        const alone = makeEngine({ enablePrefixCaching: false, maxBatchSize: 1 });
        const expected: unknown[] = [];
        for (const request of requests) expected.push(await answer(alone, request));
        await alone.close();
        await assertPlainPass(runner, requests[0]!, expected[0], `seed ${seed}`);

        const seen = { hits: 0, preemptions: 0 };
        for (let round = 0; round < 8; round++) {
          const options = {
            enablePrefixCaching: round === 0 || random() < 0.7,
            prefillChunkSize: int(1, 40),
            maxBatchSize: int(2, 8),
            ...(!runner.window?.isOnly && { blockCount: int(9, 24) }),
            // The first round has room to keep what the second asking finds.
            windowBlockCount: windowRoom(window, 1) + (round === 0 ? 200 : int(0, 12)),
          };
          const where = `seed ${seed}, round ${round}: ${JSON.stringify(options)}`;
          const engine = makeEngine(options);
          const ask = () => Promise.all(requests.map((request) => answer(engine, request)));
          assertEquals(await ask(), expected, where);
          assertEquals(await ask(), expected, `${where}, again`);
          const stats = engine.stats();
          assertEquals(stats.windowBlocks?.usedBlockCount, 0, where);
          seen.hits += stats.prefixHitTokens;
          seen.preemptions += stats.preemptionCount;
          await engine.close();
        }
        assert(seen.hits > 0 && seen.preemptions > 0, `seed ${seed}: ${JSON.stringify(seen)}`);
      });
    });
  }
}

/** A greedy answer against one forward pass over prompt and answer. */
async function assertPlainPass(
  runner: DeviceRunner,
  { promptTokenIds }: EngineRequest,
  answered: unknown,
  where: string,
): Promise<void> {
  const [events] = answered as { tokenId: number; logprobs: unknown }[][];
  const ids = [...promptTokenIds, ...events!.map(({ tokenId }) => tokenId)];
  const positions = Int32Array.from(ids, (_, i) => i);
  const blockTables = [Array.from({ length: Math.ceil(ids.length / 16) }, (_, i) => i)];
  const outputRows = positions.subarray(promptTokenIds.length - 1, -1);
  const rows = await runner.run({
    kind: "prefill",
    tokenIds: Int32Array.from(ids),
    positions,
    slots: positions,
    windowSlots: positions,
    sequences: new Int32Array(ids.length),
    blockTables,
    windowBlockTables: blockTables,
    outputRows,
  });
  events!.forEach(({ tokenId, logprobs }, i) => {
    const row = rows.row(i);
    assertEquals(tokenId, row.indexOf(Math.max(...row)), `${where}: token ${i}`);
    assertEquals(logprobs, tokenLogprobs(row, tokenId, 2), `${where}: token ${i}`);
  });
}

Deno.test("A hybrid sequence holds all its blocks of one pool and its window's of the other", async () => {
  for (const [window, chunkSize] of [[1, 7], [16, 40], [20, 16], [50, 64], [1000, 64]] as const) {
    const blockCount = Math.min(40, windowRoom(window, chunkSize));
    const runner = new ScriptedRunner({ window: { window, blockCount, isOnly: false } });
    const engine = new Engine(runner, {
      enablePrefixCaching: false,
      prefillChunkSize: chunkSize,
      maxWaitingRequests: 1,
      endTokenIds: [],
      selfDriven: false,
    });
    const params = engineParams({ maxTokens: 150, ignoreEos: true });
    const promptTokenIds = Array.from({ length: 200 }, (_, i) => i % 50);
    const reading = sequencesOf(engine.submit({ id: "one", promptTokenIds, params }));
    for (let count = 0; count < 349;) {
      await engine.step();
      count = Math.min(count < 200 ? Math.min(200, count + chunkSize) : count + 1, 349);
      const { usedBlockCount, windowBlocks } = engine.stats();
      if (count < 200 || usedBlockCount === 0) {
        assert((windowBlocks?.usedBlockCount ?? 0) <= blockCount);
        continue;
      }
      const all = Math.ceil(count / 16);
      const unseen = Math.floor(Math.max(0, count - window + 1) / 16);
      const where = `window ${window}, ${count} tokens`;
      assertEquals([usedBlockCount, windowBlocks?.usedBlockCount], [all, all - unseen], where);
      assert(all - unseen <= windowRoom(window, 1), where);
    }
    await engine.step();
    await reading;
    await engine.close();
  }
});

for (const name of ["mistral", "exaone4-hybrid", "gemma3-softcap"] as const) {
  Deno.test(`${name} answers to the bit on 0 to 3 threads`, async () => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    const requests = makeRequests(seededRandom(seed));
    let expected: unknown[] | undefined;
    for (const threads of [1, 0, 2, 3]) {
      await withTinyModel(name, { threads, maxBatchSize: 8 }, async (makeEngine) => {
        const engine = makeEngine();
        const answers = await Promise.all(requests.map((request) => answer(engine, request)));
        expected ??= answers;
        assertEquals(answers, expected, `seed ${seed}, ${threads} threads`);
        await engine.close();
      });
    }
  });
}

Deno.test("A chunk that finds no block, as others share what was given back, preempts the last in order", async () => {
  // Both begin with four cached blocks in their window, and may hold one more each.
  const runner = new ScriptedRunner({ window: { window: 60, blockCount: 7, isOnly: false } });
  const engine = new Engine(runner, {
    enablePrefixCaching: true,
    prefillChunkSize: 4,
    maxWaitingRequests: 3,
    endTokenIds: [],
    selfDriven: false,
  });
  const prefix = Array.from({ length: 64 }, (_, i) => i % 50);
  const ask = (id: string, tail: number[]) =>
    sequencesOf(engine.submit({
      id,
      promptTokenIds: [...prefix, ...tail],
      params: engineParams({ maxTokens: 3, ignoreEos: true }),
    }));
  const first = ask("first", [1]);
  while (await engine.step());
  await first;
  const answers = [1, 2].map((seed) => {
    const random = seededRandom(seed);
    return ask(`${seed}`, Array.from({ length: 100 }, () => Math.floor(50 * random())));
  });
  while (await engine.step());
  const lengths = (await Promise.all(answers)).map(([events]) => events?.length);
  assertEquals(lengths, [3, 3]);
  const { prefixHitTokens, preemptionCount } = engine.stats();
  assertEquals(prefixHitTokens, 128);
  assert(preemptionCount > 0, "nobody was preempted");
  await engine.close();
});
