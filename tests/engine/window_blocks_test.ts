/** The pool of layers with a window beside the prefix tree: what can be reused when. */

import { assert, assertEquals } from "@std/assert";
import { KvCache } from "../../lib/engine/kv_cache.ts";
import type { Scheduled } from "../../lib/engine/scheduled.ts";

const CHUNK = 16;

/** All that block tables look at of a request. */
type Tokens = Pick<Scheduled, "tokenIds" | "firstRowPosition" | "computedCount">;

function prompt(first: number, count: number): Scheduled {
  const tokenIds = Array.from({ length: count }, (_, i) => first + i);
  const tokens: Tokens = { tokenIds, firstRowPosition: count - 1, computedCount: 0 };
  return tokens as Scheduled;
}

/** Computes a prompt in chunks and gives its blocks back; how many tokens were cached. */
function compute(kv: KvCache, request: Scheduled): number {
  const reused = kv.reuse(request, 0);
  assert(reused !== undefined, "there is no room");
  request.computedCount = reused;
  while (request.computedCount < request.tokenIds.length) {
    const end = Math.min(request.computedCount + CHUNK, request.tokenIds.length);
    assert(kv.grow(request, end), "blocks ran out");
    request.computedCount = end;
    kv.commit(request);
  }
  kv.free(request);
  return reused;
}

const windowed = (blockCount: number) =>
  new KvCache(64, {
    enablePrefixCaching: true,
    window: { window: 20, blockCount, chunkSize: CHUNK },
  });

Deno.test("Window blocks are evicted by themselves, those first that fell out of a window first", () => {
  const kv = windowed(8);
  assertEquals(compute(kv, prompt(0, 100)), 0);
  assertEquals([kv.cachedCount, kv.window?.cachedCount], [6, 6]);
  // The token at position 96 sees 77 … 96: two blocks before its own.
  assertEquals(compute(kv, prompt(0, 100)), 96);
  assertEquals(compute(kv, prompt(1000, 72)), 0);
  assertEquals(compute(kv, prompt(0, 100)), 96, "its window was not the first to go");
  assertEquals(compute(kv, prompt(0, 60)), 0, "a window in the middle was");
});

Deno.test("A prefix whose window is gone is computed again, and found again then", () => {
  const kv = windowed(8);
  compute(kv, prompt(0, 100));
  compute(kv, prompt(1000, 130));
  const cachedCount = kv.cachedCount;
  assertEquals(compute(kv, prompt(0, 100)), 0);
  assertEquals(kv.cachedCount, cachedCount, "the tree has its nodes once");
  assertEquals(compute(kv, prompt(0, 100)), 96);
  assertEquals([kv.availableCount, kv.window?.availableCount], [64, 8]);
});

Deno.test("A prefix is used up to the last place whose window is whole", () => {
  const kv = windowed(16);
  compute(kv, prompt(0, 64));
  // Other tokens from 64 on: the window of the token at 64 is all cached.
  const longer: Tokens = {
    tokenIds: [...prompt(0, 64).tokenIds, ...prompt(500, 36).tokenIds],
    firstRowPosition: 99,
    computedCount: 0,
  };
  assertEquals(compute(kv, longer as Scheduled), 64);
});

Deno.test("What leaves the tree leaves the window pool with it", () => {
  const kv = windowed(16);
  compute(kv, prompt(0, 100));
  assert(kv.resetPrefixes());
  assertEquals([kv.cachedCount, kv.window?.cachedCount], [0, 0]);
  assertEquals([kv.availableCount, kv.window?.availableCount], [64, 16]);
  assertEquals(compute(kv, prompt(0, 100)), 0);
});
