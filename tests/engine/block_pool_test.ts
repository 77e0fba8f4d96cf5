import { assertEquals, assertThrows } from "@std/assert";
import { InvariantError } from "../../lib/base/invariant.ts";
import { BlockPool } from "../../lib/engine/block_pool.ts";
import { seededRandom } from "../helpers/scripted_runner.ts";

Deno.test("BlockPool hands out the lowest free id, whatever came back in which order", () => {
  const random = seededRandom(5);
  const pool = new BlockPool(40);
  const held: number[] = [];
  for (let round = 0; round < 3000; round++) {
    if (pool.freeCount > 0 && random() < 0.52) {
      const lowest = Array.from({ length: 40 }, (_, id) => id).find((id) => !held.includes(id));
      const id = pool.allocate();
      assertEquals(id, lowest, `round ${round}`);
      held.push(id);
    } else if (held.length > 0) {
      pool.release(held.splice(Math.floor(random() * held.length), 1)[0]!);
    }
    assertEquals(pool.freeCount, 40 - held.length);
  }
});

Deno.test("BlockPool frees a block with its last reference", () => {
  const pool = new BlockPool(2);
  const id = pool.allocate();
  pool.retain(id);
  pool.release(id);
  assertEquals([pool.freeCount, pool.referenceCount(id)], [1, 1]);
  pool.release(id);
  assertEquals([pool.freeCount, pool.referenceCount(id)], [2, 0]);
});

Deno.test("BlockPool notices a block that is freed or retained after it was freed", () => {
  const pool = new BlockPool(1);
  const id = pool.allocate();
  assertThrows(() => pool.allocate(), InvariantError);
  pool.release(id);
  assertThrows(() => pool.release(id), InvariantError);
  assertThrows(() => pool.retain(id), InvariantError);
});
