/** Models that are spread over several banks of device memory: the bits of one bank. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { DeviceMemoryError } from "../../lib/base/errors.ts";
import { STORE_BYTES } from "../../lib/device/device.ts";
import { bankOf } from "../../lib/device/memory.ts";
import { DeviceRunner, type Rows } from "../../lib/engine/runner.ts";
import { openCheckpoint } from "../../lib/models/checkpoint.ts";
import { Model } from "../../lib/models/model.ts";
import { type LLMOptions, resolveOptions } from "../../lib/options.ts";
import { goldenModel, type GoldenModelName, goldenPrompt } from "../helpers/golden_models.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

/** About as much as the weights take. */
const KV_BYTES = { F32: 150_000, BF16: 75_000 } as const;

const OPTIONS = { kvCacheDtype: "float32", maxModelLength: 64, maxBatchSize: 2 } as const;

async function loadSpread(
  dir: string,
  options: LLMOptions,
  storeBytes?: number,
): Promise<Model> {
  using checkpoint = await openCheckpoint(dir);
  const device = storeBytes === undefined ? {} : { [STORE_BYTES]: storeBytes };
  return await Model.load(checkpoint, { ...resolveOptions(options), device });
}

/** Every logit of a prefill of most of the prompt and of the decoding of the rest, as bits. */
async function logits(model: Model, ids: readonly number[]): Promise<Int32Array[]> {
  const runner = new DeviceRunner(model);
  const cut = ids.length - 3;
  const bits: Int32Array[] = [];
  const step = async (kind: "prefill" | "decode", start: number, end: number) => {
    const positions = Int32Array.from({ length: end - start }, (_, i) => start + i);
    // Not where they would be by themselves, and the last step finds the first block elsewhere.
    const isLast = end === ids.length;
    const first = isLast ? 2 : 1;
    const blockTables = [[first, 0, 3].slice(0, Math.ceil(end / 16))];
    const slots = positions.map((position) =>
      (blockTables[0]![position >> 4] as number) * 16 + position % 16
    );
    const rows: Rows = await runner.run({
      kind,
      tokenIds: Int32Array.from(ids.slice(start, end)),
      positions,
      slots,
      sequences: new Int32Array(end - start),
      blockTables,
      windowSlots: slots,
      windowBlockTables: blockTables,
      outputRows: Int32Array.from(positions, (_, i) => i),
      blockCopies: isLast
        ? (["global", "window"] as const).map((pool) => ({ from: 1, to: 2, pool }))
        : [],
    });
    for (let row = 0; row < end - start; row++) {
      bits.push(new Int32Array(rows.row(row).slice().buffer));
    }
  };
  await step("prefill", 0, cut);
  for (let position = cut; position < ids.length; position++) {
    await step("decode", position, position + 1);
  }
  return bits;
}

/** The banks of what the wires read: of weights, and of keys and values. */
function banksOf(model: Model): { weights: Set<number>; caches: Set<number> } {
  const wire = model.device.prepare(
    model.graph,
    model.buckets.prefill.length > 0
      ? { kind: "prefill", batchSize: 1, attentionSize: 64, tokenCount: 1 }
      : { kind: "decode", batchSize: 1, attentionSize: 64, tokenCount: 1 },
  );
  const weights = new Set<number>();
  const caches = new Set<number>();
  for (const command of wire.commands) {
    if (command.op === "matmul" || command.op === "embed") {
      weights.add(bankOf(command.weight.address));
    }
    if (command.op === "attention") caches.add(bankOf(command.cache.keys));
  }
  return { weights, caches };
}

async function withFolder(
  name: GoldenModelName,
  dtype: "F32" | "BF16",
  use: (dir: string, ids: number[]) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(dir, goldenModel(name), { dtype });
    await use(dir, goldenPrompt(goldenModel(name)));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

for (
  const [name, dtype, more] of [
    ["llama", "F32", {}],
    ["qwen3", "BF16", { kvCacheDtype: "bfloat16" }],
    ["exaone4-hybrid", "BF16", {}],
    ["gemma3", "F32", {}],
    ["qwen3", "BF16", {
      dtype: "q8",
      activationDtype: "int16",
      kvCacheDtype: "bfloat16",
      kvCacheBytes: 25_000,
    }],
    ["gpt_oss", "BF16", {}],
    ["qwen3_moe", "F32", {}],
    ["llama", "BF16", { kernels: "reference" }],
  ] as const satisfies readonly (readonly [GoldenModelName, "F32" | "BF16", LLMOptions])[]
) {
  const what = ["kernels" in more ? "reference" : "simd", ..."dtype" in more ? [more.dtype] : []];
  Deno.test(`${name} as ${dtype} (${what}) has the bits of one bank in several, on any threads`, async () => {
    await withFolder(name, dtype, async (dir, ids) => {
      const options: LLMOptions = { ...OPTIONS, kvCacheBytes: KV_BYTES[dtype], ...more };
      await using whole = await loadSpread(dir, { ...options, threads: 0 });
      assertEquals(banksOf(whole), { weights: new Set([0]), caches: new Set([0]) });
      const expected = await logits(whole, ids);
      // Less than all keys and values, which hardly differ from the weights in size.
      const storeBytes = Math.ceil(0.62 * whole.kvCacheBytes);
      for (const threads of [0, 1, 2, 3]) {
        await using spread = await loadSpread(dir, { ...options, threads }, storeBytes);
        const { weights, caches } = banksOf(spread);
        assert(weights.size > 1 && !weights.has(0), `Weights lie in ${[...weights]}`);
        assert(caches.size > 1 && caches.has(0), `Keys and values lie in ${[...caches]}`);
        assertEquals(await logits(spread, ids), expected, `${threads} threads`);
        assertEquals(spread.fingerprint, whole.fingerprint);
        assertEquals(spread.device.kernelFallbacks, []);
      }
    });
  });
}

Deno.test("What no number of banks holds is refused before it is read", async () => {
  await withFolder("llama", "F32", async (dir) => {
    const error = await assertRejects(
      () => loadSpread(dir, { ...OPTIONS, threads: 0, kvCacheBytes: 65_536 }, 4096),
      DeviceMemoryError,
    );
    assert(/^Cannot hold \d+ bytes of weights and \d+ bytes of keys/.test(error.message));
  });
});
