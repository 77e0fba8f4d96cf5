/** How KV memory is divided between the two pools. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { InvalidParameterError } from "../../lib/base/errors.ts";
import { readModelConfig } from "../../lib/models/config.ts";
import { type KvPlanOptions, planKv } from "../../lib/models/kv_plan.ts";
import { windowRoom } from "../../lib/device/kv_window.ts";
import { goldenModel, type GoldenModelName } from "../helpers/golden_models.ts";
import { seededRandom } from "../helpers/scripted_runner.ts";
import { tinyConfig } from "../helpers/tiny_model.ts";

const OPTIONS: KvPlanOptions = {
  kvCacheBytes: undefined,
  maxModelLength: undefined,
  maxBatchSize: 4,
  maxTokensPerStep: 64,
};

const configOf = (name: GoldenModelName, change: Record<string, unknown> = {}) =>
  readModelConfig("config.json", { ...tinyConfig(goldenModel(name)), ...change });

Deno.test("A hybrid model has whole contexts in one pool and windows in the other", () => {
  // Three layers with a window of 5, one without; blocks of 2 · 16 · 16 float32 a layer.
  const layerBytes = 2 * 16 * 16 * 4;
  const plan = planKv(configOf("exaone4-hybrid"), "f32", OPTIONS);
  const window = 4 * windowRoom(5, 1) + windowRoom(5, 64) - windowRoom(5, 1);
  assertEquals(plan, {
    blockCount: 4 * 16,
    window: { window: 5, blockCount: window, isOnly: false },
    poolBytes: layerBytes * (4 * 16 + 3 * window),
    contextLength: 256,
  });
});

Deno.test("A model of windows only takes memory for windows, whatever its contexts", () => {
  const short = planKv(configOf("mistral"), "bf16", OPTIONS);
  const long = planKv(configOf("mistral", { max_position_embeddings: 2560 }), "bf16", OPTIONS);
  assertEquals(long.poolBytes, short.poolBytes);
  assertEquals([short.contextLength, long.contextLength], [256, 2560]);
  assertEquals(short.window?.isOnly, true);
});

Deno.test("A plan stays within the memory given, and holds what was asked for", () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const random = seededRandom(seed);
  const int = (min: number, max: number) => min + Math.floor(random() * (max - min + 1));
  for (let round = 0; round < 500; round++) {
    const window = int(1, 300);
    const config = configOf((["exaone4-hybrid", "mistral", "gemma3"] as const)[round % 3]!, {
      sliding_window: window,
    });
    const options: KvPlanOptions = {
      kvCacheBytes: int(1, 2_000_000),
      maxModelLength: random() < 0.5 ? int(1, 256) : undefined,
      maxBatchSize: int(1, 8),
      maxTokensPerStep: int(8, 300),
    };
    const where = `seed ${seed}, round ${round}: window ${window}, ${JSON.stringify(options)}`;
    try {
      const plan = planKv(config, "bf16", options);
      assert(plan.poolBytes <= options.kvCacheBytes!, where);
      const { maxModelLength = 256 } = options;
      const blocks = Math.ceil(maxModelLength / 16);
      assert(plan.window!.blockCount >= Math.min(blocks, windowRoom(window, 1)), where);
      assert(plan.blockCount >= 1, where);
      if (options.maxModelLength !== undefined) {
        assertEquals(plan.contextLength, maxModelLength, where);
        assert(plan.blockCount >= blocks, where);
      }
    } catch (error) {
      if (!(error instanceof InvalidParameterError)) throw error;
      assertEquals(error.parameter, "kvCacheBytes", where);
    }
  }
});

Deno.test("Memory that does not hold everything is divided for sequences of the expected length", () => {
  const counts = [16, 64, 256].map((expectedAverageLength) => {
    const options = { ...OPTIONS, kvCacheBytes: 150_000, expectedAverageLength };
    const config = configOf("exaone4-hybrid", { sliding_window: 20 });
    const { blockCount, window } = planKv(config, "f32", options);
    return [blockCount, window!.blockCount] as const;
  });
  const [short, middle, long] = counts as [typeof counts[0], typeof counts[0], typeof counts[0]];
  assert(short[0] < middle[0] && middle[0] < long[0], `${counts}`);
  assert(short[1] > middle[1] && middle[1] > long[1], `${counts}`);
});

Deno.test("Memory for less than a window is refused", () => {
  const config = configOf("mistral", { sliding_window: 100 });
  assertThrows(
    () => planKv(config, "f32", { ...OPTIONS, kvCacheBytes: 10_000 }),
    InvalidParameterError,
    "kvCacheBytes",
  );
});
