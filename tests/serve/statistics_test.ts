/** The line of statistics: its numbers, and when it is not written. */

import { assertEquals } from "@std/assert";
import { Statistics, type StatisticsSource } from "../../serve/statistics.ts";

const IDLE: StatisticsSource = {
  engine: {
    runningCount: 0,
    waitingCount: 0,
    usedBlockCount: 0,
    blockCount: 8,
    windowBlocks: null,
    prefixQueryTokens: 0,
    prefixHitTokens: 0,
    promptTokens: 0,
    generatedTokens: 0,
  },
  wires: { hitCount: 0, missCount: 0 },
};

Deno.test("The line tells the throughput since the last one, what runs, and the hit rates", () => {
  const statistics = new Statistics(IDLE, 0);
  const busy = {
    engine: {
      runningCount: 2,
      waitingCount: 1,
      usedBlockCount: 3,
      blockCount: 8,
      windowBlocks: null,
      prefixQueryTokens: 80,
      prefixHitTokens: 16,
      promptTokens: 80,
      generatedTokens: 123,
    },
    wires: { hitCount: 3, missCount: 1 },
  };
  assertEquals(
    statistics.line(busy, 10_000),
    "[npu:0:0] Avg prompt throughput: 8.0 tokens/s, Avg generation throughput: 12.3 tokens/s, " +
      "Running: 2 reqs, Waiting: 1 reqs, RNGD KV cache usage: 37.5%, " +
      "Prefix cache hit rate: 20.0%, Wire pipeline hit rate: 75.0%",
  );
  const done = {
    ...busy,
    engine: {
      ...busy.engine,
      runningCount: 0,
      waitingCount: 0,
      usedBlockCount: 0,
      generatedTokens: 124,
    },
  };
  assertEquals(
    statistics.line(done, 30_000),
    "[npu:0:0] Avg prompt throughput: 0.0 tokens/s, Avg generation throughput: 0.1 tokens/s, " +
      "Running: 0 reqs, Waiting: 0 reqs, RNGD KV cache usage: 0.0%, " +
      "Prefix cache hit rate: 20.0%, Wire pipeline hit rate: 75.0%",
  );
  assertEquals(statistics.line(done, 40_000), undefined, "nothing went on");
});

Deno.test("Of two pools of blocks the line tells how full the fuller one is", () => {
  const usage = (usedBlockCount: number) => {
    const windowBlocks = { usedBlockCount, cachedBlockCount: 0, blockCount: 4 };
    const engine = { ...IDLE.engine, runningCount: 1, usedBlockCount: 4, windowBlocks };
    return /usage: ([^,]*)/.exec(new Statistics(IDLE, 0).line({ ...IDLE, engine }, 1) ?? "")?.[1];
  };
  assertEquals([usage(1), usage(3)], ["50.0%", "75.0%"]);
});

Deno.test("A model that does nothing gets no line", () => {
  assertEquals(new Statistics(IDLE, 0).line(IDLE, 10_000), undefined);
});
