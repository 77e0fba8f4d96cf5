/** The bench's quantisers: what they store is near what they were given. */

import { assert } from "@std/assert";
import { GGUF_QUANTIZERS } from "../../bench/models/gguf_quantizers.ts";
import { Random, randomSeed } from "../device/kernel_contract.ts";
import { decodeGguf } from "../helpers/gguf_decode.ts";

/**
 * Of the largest magnitude of a block. Codes, and the scales of K types, reach further on one side of
 * zero: a value on the other is cut by up to a step, and a quarter more where its scale is cut too.
 */
const STEPS = { Q5_0: 1 / 15, Q5_1: 1 / 15, Q4_K: 1 / 6, Q5_K: 1 / 12, Q6_K: 1 / 25, MXFP4: 1 / 3 };

Deno.test("Each quantiser keeps every value within a step of its type", () => {
  const random = new Random(randomSeed());
  for (const [type, { blockElements, blockBytes, store }] of Object.entries(GGUF_QUANTIZERS)) {
    for (let round = 0; round < 50; round++) {
      const x = Float32Array.from({ length: blockElements }, () => random.float() * 2 - 1);
      const block = new Uint8Array(blockBytes);
      store(x, block);
      const y = decodeGguf(type, block);
      const worst = x.reduce((most, value, i) => Math.max(most, Math.abs(value - y[i]!)), 0);
      assert(worst <= STEPS[type as keyof typeof STEPS], `${random}: ${type} ${worst}`);
    }
  }
});
