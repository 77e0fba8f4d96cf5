/** Packing by the processing elements against packing by one thread: the same bytes. */

import { assertEquals } from "@std/assert";
import {
  packPanel,
  panelBytes,
  sourceRowBytes,
  weightBytes,
  type WeightFormat,
} from "../../lib/device/block_formats.ts";
import { Hbm, offsetInBank } from "../../lib/device/memory.ts";
import {
  divideScratch,
  InlinePe,
  type PeGroup,
  scratchBytes,
  ThreadedPes,
} from "../../lib/device/pe/pe.ts";
import { RowConverter, storeValues } from "../../lib/device/requantize.ts";
import { isGrouped } from "../../lib/device/grouped_blocks.ts";
import { Random, randomRows, randomSeed } from "./kernel_contract.ts";

const CASES: readonly (readonly [from: WeightFormat, to: WeightFormat])[] = [
  ["f32", "f32"],
  ["bf16", "bf16"],
  ["f16", "f16"],
  ["q8_0", "q8_0"],
  ["q4_0", "q4_0"],
  ["bf16", "f32"],
  ["bf16", "f16"],
  ["f32", "bf16"],
  ["bf16", "q8_0"],
  ["q8_0", "q4_0"],
  ["u4_1", "u4_1"],
  ["i8_16", "bf16"],
  ["e4m3", "q8_0"],
];

/** Ends inside a panel, and gives three elements unequal shares. */
const ROW_COUNT = 61;
const K = 96;

async function openElements(hbm: Hbm, threads: number): Promise<PeGroup> {
  const limits = { kMax: K, headDimMax: 8, headGroupMax: 1 };
  const scratch = () =>
    hbm.memories.map((_, bank) => {
      const address = hbm.allocate(scratchBytes(limits), "scratch", bank);
      return divideScratch(offsetInBank(address), limits);
    });
  const backend = "reference";
  return threads === 0 ? new InlinePe(hbm, scratch(), { backend }) : await ThreadedPes.start(hbm, {
    backend,
    scratches: Array.from({ length: threads }, scratch),
    stallTimeoutMs: 30_000,
  });
}

function someRows(format: WeightFormat, random: Random): Uint8Array {
  if (isGrouped(format)) return randomRows(format, ROW_COUNT, K, random);
  const values = Float32Array.from({ length: ROW_COUNT * K }, () => random.float() - 0.5);
  const rows = new Uint8Array(ROW_COUNT * sourceRowBytes(format, K));
  storeValues(format, values, rows);
  return rows;
}

/** One thread, all rows converted at once. */
function packedHere(from: WeightFormat, to: WeightFormat, source: Uint8Array): Uint8Array {
  const rows = from === to
    ? source
    : new RowConverter(from, to, K, ROW_COUNT).convert(source, ROW_COUNT);
  const packed = new Uint8Array(weightBytes(to, ROW_COUNT, K));
  const rowBytes = sourceRowBytes(to, K);
  const size = panelBytes(to, K);
  for (let row = 0; row < ROW_COUNT; row += 8) {
    const count = Math.min(8, ROW_COUNT - row);
    packPanel(
      to,
      K,
      rows.subarray(row * rowBytes, (row + count) * rowBytes),
      count,
      packed.subarray(row / 8 * size, (row / 8 + 1) * size),
    );
  }
  return packed;
}

/** What the elements leave, with as many bytes behind it, and the bad value that they report. */
async function packedByElements(
  { hbm, elements }: { hbm: Hbm; elements: PeGroup },
  { from, to, rows }: { from: WeightFormat; to: WeightFormat; rows: Uint8Array },
): Promise<{ packed: Uint8Array; behind: Uint8Array; bad: number | undefined }> {
  const source = hbm.allocate(rows.length, "rows");
  const size = weightBytes(to, ROW_COUNT, K);
  const target = hbm.allocateMatrix(size + 64, "panels");
  hbm.bytes(source, rows.length).set(rows);
  const memory = hbm.bytes(target, size + 64).fill(0xa5);
  const bad = await elements.pack({ source, from, rowCount: ROW_COUNT, k: K, target, to });
  return {
    packed: memory.slice(0, size),
    behind: memory.slice(size),
    bad,
  };
}

for (const threads of [0, 1, 2, 3]) {
  Deno.test(`Packing leaves one thread's bytes with ${threads || "no"} worker threads`, async () => {
    const random = new Random(randomSeed());
    const hbm = new Hbm(threads % 2 + 1); // panels in the bank of the rows, and in another one
    const elements = await openElements(hbm, threads);
    try {
      for (const [from, to] of CASES) {
        const rows = someRows(from, random);
        const { packed, behind, bad } = await packedByElements({ hbm, elements }, {
          from,
          to,
          rows,
        });
        assertEquals(packed, packedHere(from, to, rows), `${random}: ${from} as ${to}`);
        assertEquals(
          behind,
          new Uint8Array(64).fill(0xa5),
          `${random}: ${from} as ${to}, behind the panels`,
        );
        assertEquals(bad, undefined);
      }
    } finally {
      await elements.close();
    }
  });

  Deno.test(`Packing tells the first bad value with ${threads || "no"} worker threads`, async () => {
    const hbm = new Hbm();
    const elements = await openElements(hbm, threads);
    try {
      const values = new Float32Array(ROW_COUNT * K).fill(0.25);
      values[K * 33 + 5] = 1e6;
      values[K * 33 + 6] = 2e6;
      values[K * 60] = 3e6;
      const rows = new Uint8Array(values.buffer);
      const job = { from: "f32", to: "f16", rows } as const;
      assertEquals((await packedByElements({ hbm, elements }, job)).bad, 1e6);
      values.fill(0.25);
      assertEquals((await packedByElements({ hbm, elements }, job)).bad, undefined);
    } finally {
      await elements.close();
    }
  });
}
