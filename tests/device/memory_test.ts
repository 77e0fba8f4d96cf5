import { assert, assertEquals, assertThrows } from "@std/assert";
import { DeviceMemoryError } from "../../lib/base/errors.ts";
import { InvariantError } from "../../lib/base/invariant.ts";
import { Hbm, HBM_ALIGNMENT, HBM_BYTES_MAX } from "../../lib/device/memory.ts";

/** A small generator, so that a failure can be run again. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

Deno.test("Hbm never hands out overlapping or misaligned memory, and reuses what is freed", () => {
  const seed = 20260701;
  const random = generator(seed);
  const hbm = new Hbm();
  const live: { address: number; size: number }[] = [];
  let end = 0;
  for (let i = 0; i < 2000; i++) {
    if (live.length > 0 && random() < 0.45) {
      const [gone] = live.splice(Math.floor(random() * live.length), 1);
      hbm.free((gone as { address: number }).address);
      continue;
    }
    const size = 1 + Math.floor(random() * 5000);
    const address = hbm.allocate(size, "test");
    assertEquals(address % HBM_ALIGNMENT, 0, `seed ${seed}`);
    assert(address > 0, "address 0 is never handed out");
    for (const other of live) {
      assert(
        address + size <= other.address || other.address + other.size <= address,
        `seed ${seed}: [${address}, +${size}) overlaps [${other.address}, +${other.size})`,
      );
    }
    assert(address + size <= hbm.buffer.byteLength, "memory grows with its use");
    live.push({ address, size });
    end = Math.max(end, Math.ceil((address + size) / HBM_ALIGNMENT) * HBM_ALIGNMENT);
  }
  for (const { address } of live) hbm.free(address);
  assertEquals(hbm.usedBytes, 0);
  const before = hbm.buffer.byteLength;
  hbm.free(hbm.allocate(end - HBM_ALIGNMENT, "everything in one piece"));
  assertEquals(hbm.buffer.byteLength, before, "freed neighbours are joined again");
});

Deno.test("Hbm refuses what exceeds its address space and names what it was for", () => {
  const hbm = new Hbm();
  assertThrows(() => hbm.allocate(HBM_BYTES_MAX, "the KV pool"), DeviceMemoryError, "the KV pool");
  assertEquals(hbm.usedBytes, 0);
});

Deno.test("Hbm treats a second free as our own mistake", () => {
  const hbm = new Hbm();
  const address = hbm.allocate(10, "test");
  hbm.free(address);
  assertThrows(() => hbm.free(address), InvariantError);
});
