/** How many sequences the pools of a plan hold. */

import { assert, assertEquals } from "@std/assert";
import { type KvPoolPlan, sequencesHeld } from "../../lib/models/kv_pools.ts";

function pool(blockCount: number, blocksPerSequenceMax: number | null): KvPoolPlan {
  return {
    pool: blocksPerSequenceMax === null ? "global" : "window",
    layerCount: 1,
    window: blocksPerSequenceMax,
    bytesPerToken: 4,
    blockCount,
    sizeBytes: 64 * blockCount,
    blocksPerSequenceMax,
  };
}

Deno.test("Pools hold as many sequences as find their blocks in each of them, and no more", () => {
  for (const globalCount of [1, 7, 64, 1000]) {
    for (const windowCount of [2, 9, 300]) {
      for (const most of [1, 2, 5]) {
        for (const length of [1, 16, 17, 100, 5000]) {
          const pools = [pool(globalCount, null), pool(windowCount, most)];
          const count = sequencesHeld(pools, length);
          const blocks = Math.ceil(length / 16);
          const fits = (sequences: number) =>
            sequences * blocks <= globalCount && sequences * Math.min(blocks, most) <= windowCount;
          assert(fits(count) && !fits(count + 1), JSON.stringify({ pools, length, count }));
        }
      }
    }
  }
  assertEquals(sequencesHeld([pool(12, 3)], 1_000_000), 4);
});
