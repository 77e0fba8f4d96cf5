/** Fast kernels are checked before they are used, and the plain ones stand in for wrong ones. */

import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { WEIGHT_FORMATS, type WeightFormat } from "../../lib/device/block_formats.ts";
import type {
  AttentionArgs,
  ClampedSwigluArgs,
  EmbedArgs,
  KernelTable,
  KvDtype,
  LayerNormArgs,
  MatmulArgs,
  RmsNormArgs,
  RopeArgs,
  WriteKvArgs,
} from "../../lib/device/kernel_table.ts";
import { createKernels, divideScratch, scratchBytes } from "../../lib/device/pe/backend.ts";
import { CheckArea } from "../../lib/device/pe/check_area.ts";
import * as problems from "../../lib/device/pe/check_problems.ts";
import { SPOIL_KERNELS } from "../../lib/device/pe/pe.ts";
import { createReferenceKernels } from "../../lib/device/pe/reference.ts";
import { type KernelFamily, Refusals } from "../../lib/device/pe/refusals.ts";
import { DeviceRunner } from "../../lib/engine/runner.ts";
import { modelInfo } from "../../lib/model_info.ts";
import { openCheckpoint } from "../../lib/models/checkpoint.ts";
import { Model } from "../../lib/models/model.ts";
import { resolveOptions } from "../../lib/options.ts";
import { generativeModel } from "../helpers/fake_pooling.ts";
import { goldenModel } from "../helpers/golden_models.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

const LIMITS = { kMax: 96, headDimMax: 16, headGroupMax: 3 };
const SCRATCH = 1024;
/** Behind the scratch of the element. */
const FREE = SCRATCH + Math.ceil(scratchBytes(LIMITS) / 64) * 64;

type SetProblem = (area: CheckArea) => problems.Problem;

/** Calls of every family: the problems that kernels are checked on are calls like others. */
const CALLS: readonly (readonly [KernelFamily, SetProblem])[] = [
  ...WEIGHT_FORMATS.flatMap((format) => callsOnFormat(format)),
  ...(["f32", "bf16"] as const).flatMap((dtype) => callsOnKv(dtype)),
  ["takeRows", problems.takeRowsProblem],
  ["rmsNorm", (area) => problems.rmsNormProblem(area, { width: 40, epsilon: 0 } as RmsNormArgs)],
  [
    "layerNorm",
    (area) => problems.layerNormProblem(area, { width: 40, epsilon: 0 } as LayerNormArgs),
  ],
  ["geluTanhMultiply", problems.geluTanhMultiplyProblem],
  [
    "clampedSwiglu",
    (area) => problems.clampedSwigluProblem(area, { limit: 0.5 } as ClampedSwigluArgs),
  ],
  ["sumExperts", problems.sumExpertsProblem],
  ["scale", problems.scaleProblem],
  ["softcap", problems.softcapProblem],
  ["gelu", problems.geluProblem],
  ["addBias", problems.addBiasProblem],
  ["add", problems.addProblem],
  ["siluMultiply", problems.siluMultiplyProblem],
  ["rope", (area) => problems.ropeProblem(area, { rotaryDim: 8, headDim: 16 } as RopeArgs)],
  ["summarizeRows", problems.summarizeRowsProblem],
];

function callsOnFormat(format: WeightFormat): [KernelFamily, SetProblem][] {
  const weight = { address: 0, format, n: 16, k: 96 };
  const embed = (area: CheckArea) => problems.embedProblem(area, { weight } as EmbedArgs);
  const matmul = (rowCount: number) => (area: CheckArea) =>
    problems.matmulProblem(area, { weight, rowCount } as MatmulArgs, true);
  return [
    ...[1, 2, 3, 9, 40, 512].map((rows) =>
      [`matmul.${format}`, matmul(rows)] as [KernelFamily, SetProblem]
    ),
    [`embed.${format}`, embed],
  ];
}

function callsOnKv(dtype: KvDtype): [KernelFamily, SetProblem][] {
  const cache = { keys: 0, values: 0, dtype, kvHeads: 1, headDim: 16 };
  const attention = (heads: number, rules: Partial<AttentionArgs> = {}) => (area: CheckArea) =>
    problems.attentionProblem(area, { cache, heads, ...rules } as AttentionArgs);
  return [
    [`writeKv.${dtype}`, (area) => problems.writeKvProblem(area, { cache } as WriteKvArgs)],
    [`attention.${dtype}`, attention(1)],
    [`attention.${dtype}`, attention(3)],
    [`attention.${dtype}`, attention(2, { rowBlocks: { rowCount: 1 } })],
    [`attention.${dtype}`, attention(2, { softcap: 30 })],
    [`attention.${dtype}`, attention(3, { sinks: 64 })],
    [`attention.${dtype}`, attention(3, { softcap: 30, sinks: 64 })],
  ];
}

/** One element's kernels in a memory of their own, and an area beside its scratch. */
function element(spoiled?: KernelFamily, refusals = new Refusals()) {
  const memory = new WebAssembly.Memory({ initial: 100, maximum: 100, shared: true });
  const { table, recheck } = createKernels(
    { backend: "simd", refusals: refusals.buffer, spoiled },
    [memory],
    [divideScratch(SCRATCH, LIMITS)],
  );
  const area = new CheckArea(memory, { address: FREE, sizeBytes: 2 ** 20 });
  return { memory, table, recheck, refusals, area };
}

/** What a call leaves, by a table. */
function solve(area: CheckArea, set: SetProblem, table: KernelTable): Int32Array[] {
  area.reset();
  const { run, outputs } = set(area);
  run(table);
  return outputs.map(({ address, count }) => area.words(address, count));
}

Deno.test("On a sound machine no kernel is refused, at first or when it is checked again", () => {
  const { table, area, refusals, recheck } = element();
  for (const [family, set] of CALLS) {
    solve(area, set, table);
    assertEquals(table.backend, "simd", family);
  }
  recheck();
  assertEquals(refusals.list(), []);
});

for (const family of new Set(CALLS.map(([family]) => family))) {
  Deno.test(`A wrong ${family} is refused before it is used, and the plain kernel computes`, () => {
    const { memory, table, area, refusals } = element(family);
    const plain = createReferenceKernels(memory);
    for (const [called, set] of CALLS) {
      const found = solve(area, set, table);
      assertEquals(table.backend, called === family ? "reference" : "simd", called);
      if (called === family) assertEquals(found, solve(area, set, plain));
    }
    const operation = family.split(".")[0];
    assertEquals(refusals.count, 1);
    assertStringIncludes(
      refusals.list()[0]!,
      `${family}: computed by reference.${operation}, as simd.${operation} gives `,
    );
  });
}

Deno.test("What one element refuses no other uses any more", () => {
  const refusals = new Refusals();
  const sound = element(undefined, refusals);
  const spoiled = element("add", new Refusals(refusals.buffer));
  solve(sound.area, problems.addProblem, sound.table);
  assertEquals(sound.table.backend, "simd");
  solve(spoiled.area, problems.addProblem, spoiled.table);
  solve(sound.area, problems.addProblem, sound.table);
  assertEquals(sound.table.backend, "reference");
});

/** The tiny model after its warm-up and a step, with one family of kernels spoiled. */
async function runTiny(dir: string, threads: number, spoiled?: KernelFamily) {
  using checkpoint = await openCheckpoint(dir);
  await using model = await Model.load(checkpoint, {
    ...resolveOptions({ threads, maxModelLength: 64 }),
    ...(spoiled !== undefined && { device: { [SPOIL_KERNELS]: spoiled } }),
  });
  const runner = new DeviceRunner(model);
  await runner.warmUp(() => {});
  const positions = Int32Array.from({ length: 9 }, (_, i) => i);
  const rows = await runner.run({
    kind: "prefill",
    tokenIds: positions.map((position) => 5 + 3 * position),
    positions,
    slots: positions,
    sequences: new Int32Array(9),
    blockTables: [[0]],
    outputRows: Int32Array.of(8),
    summaryNeeds: Int32Array.of(0),
  });
  const info = modelInfo(model, generativeModel(), {
    id: "tiny",
    threads,
    dtype: "auto",
    activationDtype: "float32",
    hasChatTemplate: false,
    maxWaitingRequests: 1024,
  });
  return {
    row: rows.row(0).slice(),
    fallbacks: info.kernelFallbacks,
    fingerprint: info.fingerprint,
    kernels: (await model.device.trace()).map((entry) => entry.kernel),
  };
}

for (const threads of [0, 2]) {
  const where = threads === 0 ? "inline" : `on ${threads} threads`;
  Deno.test(`A model ${where} answers as before with wrong kernels replaced, and says so`, async () => {
    const dir = await Deno.makeTempDir();
    try {
      writeTinyModel(dir, goldenModel("llama"));
      const sound = await runTiny(dir, threads);
      assertEquals(sound.fallbacks, []);
      assert(sound.kernels.every((kernel) => kernel.startsWith("simd.")));
      const fingerprints = new Set([sound.fingerprint]);
      for (const family of ["matmul.f32", "attention.bf16", "siluMultiply"] as const) {
        const spoiled = await runTiny(dir, threads, family);
        assertEquals(spoiled.fallbacks.map((text) => text.split(":")[0]), [family]);
        assertNotEquals(spoiled.fingerprint, sound.fingerprint);
        fingerprints.add(spoiled.fingerprint);
        const kernel = family.startsWith("matmul") ? family : family.split(".")[0];
        assert(spoiled.kernels.includes(`reference.${kernel}`), `${spoiled.kernels}`);
        assert(!spoiled.kernels.includes(`simd.${kernel}`), `${spoiled.kernels}`);
        spoiled.row.forEach((value, i) => {
          assert(Math.abs(value - sound.row[i]!) < 1e-4, `${family}: ${value}, ${sound.row[i]}`);
        });
      }
      assertEquals(fingerprints.size, 4);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  });
}
