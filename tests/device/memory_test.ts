import { assert, assertEquals, assertThrows } from "@std/assert";
import { DeviceMemoryError } from "../../lib/base/errors.ts";
import { InvariantError } from "../../lib/base/invariant.ts";
import {
  bankOf,
  Hbm,
  HBM_ALIGNMENT,
  HBM_BYTES_MAX,
  offsetInBank,
  planBanks,
} from "../../lib/device/memory.ts";

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
  assertThrows(() => hbm.allocate(2 ** 32, "the KV pool"), DeviceMemoryError, "the KV pool");
  assertEquals(hbm.usedBytes, 0);
});

Deno.test("Hbm treats a second free as our own mistake", () => {
  const hbm = new Hbm();
  const address = hbm.allocate(10, "test");
  hbm.free(address);
  assertThrows(() => hbm.free(address), InvariantError);
});

Deno.test("What fits one bank lies in one; else matrices lie in the others, whole", () => {
  const shape = { storeBytes: 2 ** 20, workBytes: 1000 };
  assertEquals(planBanks({ matrices: [400_000, 400_000], kvLayers: [100_000] }, shape), 1);
  const need = { matrices: [600_000, 600_000, 300_000], kvLayers: [500_000, 500_000, 400_000] };
  assertEquals(planBanks(need, shape), 3);
  const hbm = new Hbm(3, shape);
  const matrices = need.matrices.map((bytes) => hbm.allocateMatrix(bytes, "a matrix"));
  assertEquals(matrices.map(bankOf), [1, 2, 1]);
  const kvLayers = need.kvLayers.map((bytes) => hbm.allocateKv(bytes, "keys and values"));
  assertEquals(kvLayers.map(bankOf), [0, 0, 2]);
  assertEquals(bankOf(hbm.allocate(50_000, "activations")), 0);
  for (const address of [...matrices, ...kvLayers]) {
    hbm.bytes(address, 300_000).fill(1);
    assert(offsetInBank(address) + 300_000 <= 2 ** 21);
  }
  for (const address of matrices) hbm.free(address);
  assertEquals(bankOf(hbm.allocateMatrix(600_000, "another matrix")), 1);
});

Deno.test("Whatever is planned finds its room, and what finds none is refused by the plan", () => {
  const seed = Date.now();
  const random = generator(seed);
  let refused = 0;
  for (let round = 0; round < 60; round++) {
    const storeBytes = 2 ** 16 * (1 + Math.floor(random() * 8));
    const workBytes = HBM_ALIGNMENT * Math.floor(random() * 100);
    const size = () => 1 + Math.floor(random() * storeBytes * 0.7);
    const sizes = (most: number) => Array.from({ length: Math.floor(random() * most) }, size);
    const need = { matrices: sizes(20), kvLayers: sizes(6) };
    const shape = { storeBytes, workBytes };
    let bankCount: number;
    try {
      bankCount = planBanks(need, shape);
    } catch (error) {
      assert(error instanceof DeviceMemoryError, `seed ${seed}`);
      const bytes = [...need.matrices, ...need.kvLayers].reduce((sum, bytes) => sum + bytes, 0);
      assert(bytes > 3 * storeBytes, `seed ${seed}: ${bytes} bytes are refused`);
      refused++;
      continue;
    }
    const hbm = new Hbm(bankCount, shape);
    for (let bank = 0; bank < bankCount; bank++) {
      if (workBytes > 0) hbm.allocate(workBytes, "scratch", bank);
    }
    for (const bytes of need.matrices) hbm.allocateMatrix(bytes, `a matrix, seed ${seed}`);
    for (const bytes of need.kvLayers) hbm.allocateKv(bytes, `keys and values, seed ${seed}`);
  }
  assert(refused < 60, `seed ${seed}`);
});

Deno.test("A plan that does not work out names what is needed and what there is", () => {
  const error = assertThrows(
    () => planBanks({ matrices: [HBM_BYTES_MAX], kvLayers: [64] }, { workBytes: 0 }),
    DeviceMemoryError,
  );
  assert(error.message.includes(`${HBM_BYTES_MAX} bytes of weights and 64 bytes of keys`));
  assert(error.message.includes(`the device has room for ${HBM_BYTES_MAX - 2 ** 29 - 11 * 64}`));
});
