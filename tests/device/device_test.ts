/** Contract of the device: inline and threaded, plain and fast, leave the same results. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { DeviceError } from "../../lib/base/errors.ts";
import {
  CHUNK_COLUMNS,
  drawNeed,
  logSumExp,
  type RowSummary,
  rowSums,
  scalesOf,
  SUMMARY_NEED,
  SUMMARY_TOP_COUNT,
} from "../../lib/base/row_summary.ts";
import { topIds } from "../../lib/sampling/top_values.ts";
import { InvariantError } from "../../lib/base/invariant.ts";
import { type Device, GraphBuilder, openDevice, type StepInputs } from "../../lib/device/device.ts";
import { TINY, tinyGraph } from "../helpers/tiny_graph.ts";

const graph = tinyGraph();
const SEED = 77;
const BLOCKS = 8;

/** Weights from a seed; the same for every device. */
async function openTiny(
  options: { threads: number; kernels: "simd" | "reference"; stallTimeoutMs?: number },
): Promise<Device> {
  const device = await openDevice({
    ...options,
    limits: { kMax: 24, headDimMax: 8, headGroupMax: 2 },
    maxOutputRows: 64,
  });
  let state = SEED;
  const numbers = (count: number) =>
    Float32Array.from({ length: count }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.fround(state / 2 ** 31 - 1);
    });
  for (const [name, shape] of graph.weights) {
    if (shape.kind === "matrix") {
      device.allocateMatrix(name, "f32", shape.n, shape.k);
      const values = numbers(shape.n * shape.k);
      device.uploadRows(name, 0, shape.n, new Uint8Array(values.buffer));
    } else if (shape.kind === "vector") {
      device.uploadFloats(name, numbers(shape.length));
    } else if (shape.kind === "table") {
      const half = shape.width / 2;
      const table = Float32Array.from({ length: shape.rows * shape.width }, (_, i) => {
        const angle = Math.floor(i / shape.width) / 10 ** ((i % half) / half);
        return i % shape.width < half ? Math.cos(angle) : Math.sin(angle);
      });
      device.uploadFloats(name, table);
    }
  }
  device.allocateKv(2, {
    dtype: "bf16",
    kvHeads: TINY.kvHeads,
    headDim: TINY.headDim,
    blockCount: BLOCKS,
  });
  return device;
}

/** Tokens [start, end) of a sequence whose i-th token is 3i + offset, in the given blocks. */
function piece(start: number, end: number, blocks: readonly number[], offset = 1): StepInputs {
  const positions = Int32Array.from({ length: end - start }, (_, i) => start + i);
  return {
    tokenIds: positions.map((p) => (3 * p + offset) % TINY.vocab),
    positions,
    slots: positions.map((p) => (blocks[p >> 4] as number) * 16 + (p & 15)),
    sequences: new Int32Array(end - start),
    blockTables: [blocks],
    outputRows: Int32Array.from({ length: end - start }, (_, i) => i),
  };
}

function together(a: StepInputs, b: StepInputs): StepInputs {
  const join = (x: Int32Array, y: Int32Array, add = 0) =>
    Int32Array.from([...x, ...y.map((v) => v + add)]);
  return {
    tokenIds: join(a.tokenIds, b.tokenIds),
    positions: join(a.positions, b.positions),
    slots: join(a.slots, b.slots),
    sequences: join(a.sequences, b.sequences, a.blockTables.length),
    blockTables: [...a.blockTables, ...b.blockTables],
    outputRows: join(a.outputRows, b.outputRows, a.tokenIds.length),
  };
}

async function run(device: Device, step: StepInputs): Promise<Float32Array[]> {
  const needs = step.outputRows.map((_, i) => NEEDS[i % NEEDS.length]!);
  const inputs = { ...step, summaryNeeds: needs };
  const wire = device.prepare(graph, {
    kind: "append",
    batchSize: inputs.blockTables.length,
    attentionSize: 64,
    tokenCount: 64,
  });
  const rows = await device.run(wire, inputs);
  needs.forEach((need, i) => checkSummary(rows.row(i), rows.summary(i), need));
  return Array.from({ length: rows.count }, (_, i) => rows.row(i).slice());
}

const NEEDS = [
  SUMMARY_NEED.nothing,
  SUMMARY_NEED.top,
  SUMMARY_NEED.logprobs,
  drawNeed(0.5, { logprobs: false }),
  drawNeed(1.25, { logprobs: true }),
];

/** A summary says what reading the row would. */
function checkSummary(row: Float32Array, summary: RowSummary | undefined, need: number): void {
  if (need === SUMMARY_NEED.nothing) {
    assertEquals(summary, undefined);
    return;
  }
  const ids = topIds(row, Math.min(SUMMARY_TOP_COUNT, row.length));
  const { isUnit, scale } = scalesOf(need);
  assertEquals(summary, {
    width: row.length,
    topIds: Int32Array.from(ids),
    topLogits: Float32Array.from(ids, (id) => row[id]!),
    hasNaN: false,
    logSumExp: isUnit ? logSumExp(row) : undefined,
    sums: scale === undefined ? undefined : rowSums(row, scale),
  });
}

const configurations = (["reference", "simd"] as const).flatMap((kernels) =>
  [0, 1, 2, 3].map((threads) => ({ kernels, threads }))
);
let expected: Float32Array[] | undefined;

for (const { kernels, threads } of configurations) {
  const name = `${kernels} kernels, ${threads === 0 ? "inline" : `${threads} threads`}`;
  Deno.test(`Device (${name}) gives the same bits in one piece, in chunks, in company and elsewhere in HBM`, async () => {
    await using device = await openTiny({ threads, kernels });
    const whole = await run(device, piece(0, 40, [0, 1, 2]));
    const chunks: Float32Array[] = [];
    for (const [start, end] of [[0, 7], [7, 8], [8, 33], [33, 34], [34, 40]] as const) {
      chunks.push(...await run(device, piece(start, end, [5, 3, 7])));
    }
    assertEquals(chunks, whole, "in chunks, in other blocks");
    const company = together(piece(0, 11, [0], 4), piece(0, 40, [6, 2, 1]));
    assertEquals((await run(device, company)).slice(11), whole, "beside another sequence");
    if (kernels === "simd") {
      expected ??= whole;
      assertEquals(whole, expected, "whatever the number of threads");
    }
    // Positions 16 … 33 are read from copies: block 4 is one of a copy.
    const copies = [{ from: 3, to: 0 }, { from: 7, to: 4 }, { from: 4, to: 1 }];
    const copied = { ...piece(34, 40, [5, 0, 1]), blockCopies: copies };
    assertEquals(await run(device, copied), whole.slice(34), "behind copied blocks");
    const { hitCount, missCount } = device.wireStats();
    assertEquals({ hitCount, missCount }, { hitCount: 6, missCount: 2 });
    const trace = await device.trace();
    assert(trace.length > 0 && trace.every((entry) => entry.kernel.startsWith(`${kernels}.`)));
    assertEquals(new Set(trace.map((entry) => entry.pe)).size, Math.max(1, threads));
  });
}

Deno.test("Summaries of rows of several chunks are the same for any number of processing elements", async () => {
  const width = 3 * CHUNK_COLUMNS + 100;
  const builder = new GraphBuilder("wide");
  builder.matrix("table", 4, 8);
  builder.matrix("head", width, 8);
  const rows = builder.takeOutputRows(builder.embed("table"));
  const wide = builder.finish(builder.matmul(rows, "head"), { summarize: true });
  for (const threads of [0, 1, 2, 3, 5]) {
    await using device = await openDevice({ threads });
    let state = SEED;
    for (const [name, n] of [["table", 4], ["head", width]] as const) {
      const values = Float32Array.from({ length: n * 8 }, () => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return Math.round(state / 2 ** 24) / 32 - 4; // so few values that many logits are equal
      });
      device.allocateMatrix(name, "f32", n, 8);
      device.uploadRows(name, 0, n, new Uint8Array(values.buffer));
    }
    const inputs = { ...piece(0, 4, [0]), tokenIds: Int32Array.of(0, 1, 2, 3) };
    const summaryNeeds = Int32Array.from(NEEDS.slice(1));
    const wire = device.prepare(wide, {
      kind: "append",
      batchSize: 1,
      attentionSize: 16,
      tokenCount: 4,
    });
    const result = await device.run(wire, { ...inputs, summaryNeeds });
    summaryNeeds.forEach((need, i) => checkSummary(result.row(i), result.summary(i), need));
  }
});

Deno.test("SIMD kernels agree with the plain ones on a whole graph", async () => {
  await using plain = await openTiny({ threads: 0, kernels: "reference" });
  await using fast = await openTiny({ threads: 0, kernels: "simd" });
  const a = await run(plain, piece(0, 40, [0, 1, 2]));
  const b = await run(fast, piece(0, 40, [0, 1, 2]));
  for (const [i, row] of a.entries()) {
    for (const [j, value] of row.entries()) {
      assert(
        Math.abs(value - (b[i]?.[j] as number)) <= 2e-5 * Math.max(1, Math.abs(value)),
        `row ${i}`,
      );
    }
  }
});

Deno.test("Steps posted together run one after another", async () => {
  await using device = await openTiny({ threads: 2, kernels: "simd" });
  const inputs = [piece(0, 5, [0]), piece(0, 9, [1], 2), piece(0, 3, [2], 5)];
  const wire = device.prepare(graph, {
    kind: "append",
    batchSize: 1,
    attentionSize: 64,
    tokenCount: 64,
  });
  const ended: number[] = [];
  await Promise.all(inputs.map(async (input, i) => {
    await device.run(wire, input);
    ended.push(i);
  }));
  assertEquals(ended, [0, 1, 2]);
});

Deno.test("A step that does not fit its wire is our own mistake, and the device goes on", async () => {
  await using device = await openTiny({ threads: 1, kernels: "simd" });
  const wire = device.prepare(graph, {
    kind: "decode",
    batchSize: 1,
    attentionSize: 16,
    tokenCount: 1,
  });
  await assertRejects(() => device.run(wire, piece(0, 2, [0])), InvariantError, "does not fit");
  assertEquals((await run(device, piece(0, 2, [0]))).length, 2);
});

Deno.test("A kernel that fails on one processing element fails the step, not the process", async () => {
  await using device = await openTiny({ threads: 2, kernels: "reference" });
  const good = piece(0, 4, [0]);
  const beyond = { ...good, tokenIds: good.tokenIds.map(() => 2 ** 30) };
  await assertRejects(() => run(device, beyond), DeviceError, "failed");
  assertEquals((await run(device, good)).length, 4);
});

for (
  const [fault, message] of [
    ["crash", "crashes as it was asked to"],
    ["stall", "no progress for 700 ms"],
    ["exit", "no progress for 700 ms"],
  ] as const
) {
  Deno.test(`Workers are replaced after one of them did this: ${fault}`, async () => {
    await using device = await openTiny({ threads: 2, kernels: "simd", stallTimeoutMs: 700 });
    const expected = await run(device, piece(0, 20, [0, 1]));
    for (const peIndex of [1, 0]) {
      (device as unknown as FaultyDevice).injectFault(peIndex, fault);
      const start = performance.now();
      // The second of them was posted already when the first one failed.
      const results = await Promise.allSettled([
        run(device, piece(0, 20, [2, 3])),
        run(device, piece(0, 20, [4, 5])),
      ]);
      const [first, second] = results;
      assert(first?.status === "rejected" && first.reason instanceof DeviceError);
      assert(first.reason.message.includes(message), first.reason.message);
      assertEquals(second, { status: "fulfilled", value: expected });
      assert(performance.now() - start < 10_000);
    }
    assertEquals(await run(device, piece(0, 20, [0, 1])), expected);
    assertEquals(new Set((await device.trace()).map(({ pe }) => pe)).size, 2);
  });
}

Deno.test("A device closes after its workers crashed", async () => {
  const device = await openTiny({ threads: 2, kernels: "simd" });
  (device as unknown as FaultyDevice).injectFault(0, "crash");
  await assertRejects(() => run(device, piece(0, 3, [0])), DeviceError);
  await device.close();
});

Deno.test("A stall timeout that is no time is refused", async () => {
  await assertRejects(
    () => openDevice({ threads: 0, stallTimeoutMs: 0 }),
    RangeError,
    "must be greater than 0",
  );
});

interface FaultyDevice {
  injectFault(peIndex: number, fault: "crash" | "stall" | "exit"): void;
}
