/** The contract of a kernel backend: one suite of tests that every `KernelTable` has to pass. */

import { assert, assertEquals } from "@std/assert";
import { activationRange, type ActivationType } from "../../lib/device/activations.ts";
import {
  blockElements,
  decodeRow,
  packPanel,
  panelBytes,
  type QuantizedFormat,
  sourceRowBytes,
  WEIGHT_FORMATS,
  weightBytes,
  type WeightFormat,
} from "../../lib/device/block_formats.ts";
import { GROUPED, headerWords, isGrouped } from "../../lib/device/grouped_blocks.ts";
import { bf16ToF32, f32ToBf16, f32ToF16, fusedMultiplyAdd } from "../../lib/device/dtype.ts";
import {
  type AttentionArgs,
  type KernelLimits,
  type KernelTable,
  type KvCacheLayer,
  type KvDtype,
  type PanelWeight,
  SUMMARY_PART,
  summaryPartWords,
} from "../../lib/device/kernel_table.ts";
import {
  CHUNK_COLUMNS,
  chunkSum,
  drawNeed,
  scalesOf,
  SUMMARY_NEED,
  SUMMARY_TOP_COUNT,
} from "../../lib/base/row_summary.ts";
import {
  type Router,
  routingParts,
  type RoutingShape,
  routingWords,
} from "../../lib/device/routing.ts";
import { createReferenceKernels } from "../../lib/device/pe/reference.ts";

export const QUANTIZED_FORMATS: readonly QuantizedFormat[] = ["q8_0", "q4_0", "q4_1"];
const INTEGERS = ["i16", "i8"] as const;

/** The largest shapes that the suite uses. */
export const CONTRACT_LIMITS: KernelLimits = { kMax: 1024, headDimMax: 128, headGroupMax: 8 };

/** How a backend is set up for the suite. */
export interface ContractOptions {
  /** Bytes at the start of the memory that the backend keeps for itself. Default 0. */
  readonly reservedBytes?: number;
  /** Default: the environment's RNGD_TEST_SEED, or the time. */
  readonly seed?: number;
}

const ROW_COUNTS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 20, 33];
const CONTEXTS = [1, 15, 16, 17, 40, 100];
const GROUPS = [1, 2, 3, 4, 7, 8];
const HEAD_DIMS = [8, 16, 64, 128];
const WINDOWS = [0, 1, 6, 16, 20];
const KV_DTYPES: readonly KvDtype[] = ["bf16", "f32"];
const F32 = 4;
const KV_BLOCK = 16;

/** Registers the suite for one backend. `create` is called once a test, with a fresh shared memory. */
export function kernelContract(
  name: string,
  create: (memory: WebAssembly.Memory) => KernelTable | Promise<KernelTable>,
  options: ContractOptions = {},
): void {
  const test = (what: string, run: (bed: TestBed) => void) =>
    Deno.test(`Kernels (${name}): ${what}`, async () => {
      const memory = new WebAssembly.Memory({ initial: 160, maximum: 160, shared: true });
      const random = new Random(options.seed ?? randomSeed());
      try {
        const kernels = await create(memory);
        run({ kernels, random, arena: new Arena(memory, options.reservedBytes ?? 0, random) });
      } catch (error) {
        throw new Error(`Failed with ${random}`, { cause: error });
      }
    });

  test("matmul is close to the exact sum and touches only its panels", matmulOracle);
  test("matmul follows the one order of sums, bit for bit", matmulOrder);
  test("matmul and embed have the bits of the reference in every format and batch", matmulBits);
  test("matmul gives a row the same bits in any batch and any split of panels", matmulInvariance);
  test("matmul fuses its multiply-add and keeps subnormal numbers", matmulRounding);
  test("matmul and embed keep infinities and NaN of eight bits", floatEightNotFinite);
  test("matmul with integer activations follows its definition", integerDefinition);
  test("matmul with integer activations has the bits of the reference", integerBits);
  test("matmul with integer activations gives a row its bits in any company", integerInvariance);
  test("matmul with integer activations stays exact at the extremes", integerExtremes);
  test("matmul with integer activations makes NaN of rows that are not finite", integerNaN);
  test("embed decodes the rows of its ids and no others", embedRows);
  test("takeRows copies bits", takeRowsBits);
  test("rmsNorm is close to the exact value, by groups and in place", rmsNormOracle);
  test("rmsNorm gives a row the same bits in any range of rows", rmsNormInvariance);
  test("layerNorm is close to the exact value and has the bits of the reference", layerNorms);
  test("add and addBias round each sum once, inside their columns", additions);
  test("siluMultiply is close to the exact value and calm at the extremes", siluOracle);
  test("siluMultiply gives an element the same bits in any split", siluInvariance);
  test("geluTanhMultiply is close to the exact value and calm at the extremes", geluTanhOracle);
  test("route chooses the largest scores and weighs them, by definition", routes);
  test("route gives a token the same choices and weights in any company", routeInvariance);
  test("clampedSwiglu is close to the exact value and keeps NaN", clampedSwiglus);
  test("sumExperts adds the choices of a token by rank, bit for bit", expertSums);
  test("scale rounds once, softcap is close to the exact value", scalarOperations);
  test("gelu is close to the exact value and has the bits of the reference", gelus);
  test("rope rotates the first dimensions of each head", ropeOracle);
  test("rope gives a row the same bits in any range of rows", ropeInvariance);
  test("writeKv stores each number at its place in the layout", writeKvLayout);
  test("what writeKv stored is what attention reads", writeKvRoundTrip);
  test("attention is close to the exact value for every group and head size", attentionShapes);
  test("attention sees exactly its window", attentionWindows);
  test("attention caps scores and begins with sinks", attentionCapsAndSinks);
  test("attention gives a row the same bits in any blocks, split and company", attentionInvariance);
  test("attention takes rows that see the same keys together, to the same bits", attentionBlocks);
  test("attention is right when scores are far apart", attentionExtremes);
  test(
    "summarizeRows finds the largest values, NaN and sums of its chunks, bit for bit",
    summaries,
  );
  test("an empty range of rows, panels, columns or units does nothing", emptyRanges);
}

interface TestBed {
  readonly kernels: KernelTable;
  readonly arena: Arena;
  readonly random: Random;
}

// ---------------------------------------------------------------- matmul and rows

function matmulOracle({ kernels, arena, random }: TestBed): void {
  for (let round = 0; round < 60; round++) {
    arena.reset();
    const weight = arena.weight(
      random.pick(WEIGHT_FORMATS),
      random.integer(1, 50),
      randomK(random),
    );
    const { n, k } = weight.panels;
    const panels = Math.ceil(n / 8);
    const panelStart = random.integer(0, panels);
    const panelEnd = random.integer(panelStart + 1, panels + 1);
    const rowCount = random.pick(ROW_COUNTS);
    const x = arena.matrix(rowCount, k).fillRandom();
    const out = arena.matrix(rowCount, 8 * panels);
    const what = `round ${round}: ${weight.panels.format} n ${n} k ${k} rows ${rowCount}`;
    arena.expectOnly(
      () =>
        kernels.matmul({
          x: x.address,
          xStride: x.stride,
          rowCount,
          weight: weight.panels,
          panelStart,
          panelEnd,
          out: out.address,
          outStride: out.stride,
        }),
      [out.part(0, rowCount, 8 * panelStart, 8 * panelEnd)],
      what,
    );
    for (let row = 0; row < rowCount; row++) {
      for (let column = 8 * panelStart; column < 8 * panelEnd; column++) {
        let sum = 0;
        let size = 0;
        for (let i = 0; i < k; i++) {
          const product = x.get(row, i) * weight.value(column, i);
          sum += product;
          size += Math.abs(product);
        }
        expectClose(out.get(row, column), sum, 2e-6 * size, `${what} at ${row}, ${column}`);
      }
    }
  }
}

/** The order of sums written out once more, over the checkpoint's own rows. */
function matmulOrder({ kernels, arena }: TestBed): void {
  for (const format of WEIGHT_FORMATS) {
    arena.reset();
    const k = blockElements(format) === 1 ? 40 : 64;
    const weight = arena.weight(format, 11, k);
    const x = arena.matrix(5, k).fillRandom();
    const out = arena.matrix(5, 16);
    multiply(kernels, x, weight.panels, out);
    for (let row = 0; row < 5; row++) {
      for (let column = 0; column < 16; column++) {
        const sums = [0, 0, 0, 0];
        for (let i = 0; i < k; i++) {
          sums[i % 4] = fusedMultiplyAdd(x.get(row, i), weight.value(column, i), sums[i % 4]!);
        }
        const total = sums.reduce((sum, partial) => Math.fround(sum + partial));
        expectSame(out.get(row, column), total, `${format} at ${row}, ${column}`);
      }
    }
  }
}

function matmulBits({ kernels, arena, random }: TestBed): void {
  for (const format of WEIGHT_FORMATS) {
    for (const k of blockElements(format) === 1 ? [8, 32, 56, 64, 96, 576] : [32, 64, 96, 576]) {
      for (const rowCount of ROW_COUNTS) {
        arena.reset();
        const n = k > 500 && rowCount > 8 ? 9 : random.integer(1, 28);
        const weight = arena.weight(format, n, k).panels;
        const reference = createReferenceKernels(arena.memory);
        const what = `${format} n ${n} k ${k} rows ${rowCount}`;
        const x = arena.matrix(rowCount, k).fillRandom();
        const expected = arena.matrix(rowCount, Math.ceil(n / 8) * 8);
        const actual = arena.matrix(rowCount, Math.ceil(n / 8) * 8);
        multiply(reference, x, weight, expected);
        multiply(kernels, x, weight, actual);
        expectSameMatrix(actual, expected, what);

        const ids = arena.integers(Array.from({ length: rowCount }, () => random.integer(0, n)));
        const rows = { ids, weight, rowStart: 0, rowEnd: rowCount };
        const expectedRows = arena.matrix(rowCount, k);
        const actualRows = arena.matrix(rowCount, k);
        reference.embed({ ...rows, out: expectedRows.address, outStride: expectedRows.stride });
        kernels.embed({ ...rows, out: actualRows.address, outStride: actualRows.stride });
        expectSameMatrix(actualRows, expectedRows, `embed ${what}`);
      }
    }
  }
}

/** Rows of the largest batch whose parts are compared. */
const BATCH_ROWS = 70;

function matmulInvariance({ kernels, arena, random }: TestBed): void {
  for (const format of WEIGHT_FORMATS) {
    arena.reset();
    const k = 96;
    const weight = arena.weight(format, 37, k).panels;
    const x = arena.matrix(BATCH_ROWS, k).fillRandom();
    const whole = arena.matrix(BATCH_ROWS, 40);
    multiply(kernels, x, weight, whole);
    for (let rowCount = 1; rowCount <= BATCH_ROWS; rowCount++) {
      const rowStart = random.integer(0, BATCH_ROWS + 1 - rowCount);
      const panelCut = random.integer(0, 6);
      const out = arena.matrix(rowCount, 40);
      for (const [panelStart, panelEnd] of [[panelCut, 5], [0, panelCut]] as const) {
        kernels.matmul({
          x: x.address + rowStart * x.stride * F32,
          xStride: x.stride,
          rowCount,
          weight,
          panelStart,
          panelEnd: Math.max(panelStart, panelEnd),
          out: out.address,
          outStride: out.stride,
        });
      }
      const what = `${format} rows ${rowStart}+${rowCount} cut ${panelCut}`;
      for (let row = 0; row < rowCount; row++) {
        for (let c = 0; c < 40; c++) {
          expectSame(out.get(row, c), whole.get(rowStart + row, c), `${what} at ${row}, ${c}`);
        }
      }
    }
  }
}

function matmulRounding({ kernels, arena }: TestBed): void {
  for (const rowCount of [1, 2, 4, 5, 9]) {
    arena.reset();
    // 1 + 2^-23, plus less than half a unit by a part that no double sum holds: rounded once it
    // stays, rounded twice it moves.
    const source = new Float32Array(8);
    source[0] = 1;
    source[4] = 1 - 2 ** -16;
    const fused = arena.weightFrom("f32", 1, 8, new Uint8Array(source.buffer)).panels;
    const x = arena.matrix(rowCount, 8).fill(0);
    for (let row = 0; row < rowCount; row++) {
      x.set(row, 0, 1 + 2 ** -23);
      x.set(row, 4, (1 + 2 ** -16) * 2 ** -24);
    }
    const out = arena.matrix(rowCount, 8);
    multiply(kernels, x, fused, out);
    for (let row = 0; row < rowCount; row++) {
      expectSame(out.get(row, 0), 1 + 2 ** -23, `fused, ${rowCount} rows`);
      for (let c = 1; c < 8; c++) expectSame(out.get(row, c), 0, "padding column");
    }

    const tiny = arena.weight("f32", 8, 64, 2 ** -70);
    const y = arena.matrix(rowCount, 64).fillRandom(2 ** -70);
    const products = arena.matrix(rowCount, 8);
    const expected = arena.matrix(rowCount, 8);
    multiply(kernels, y, tiny.panels, products);
    multiply(createReferenceKernels(arena.memory), y, tiny.panels, expected);
    expectSameMatrix(products, expected, `subnormal, ${rowCount} rows`);
    assert(expected.get(0, 0) !== 0, `the sums should not vanish`);
  }
}

/** Codes of F8 that are not finite, in some columns: those become NaN or infinite, and no others. */
function floatEightNotFinite({ kernels, arena, random }: TestBed): void {
  const codes = { e4m3: [0x7f, 0xff], e5m2: [0x7c, 0xfc, 0x7d, 0xff] } as const;
  for (const format of ["e4m3", "e5m2"] as const) {
    for (const rowCount of ROW_COUNTS) {
      arena.reset();
      const [n, k] = [27, 96];
      const source = randomRows(format, n, k, random);
      const rowBytes = sourceRowBytes(format, k);
      for (const column of random.sample(n, 5)) {
        const at = column * rowBytes + 36 * random.integer(0, 3) + 4 + random.integer(0, 32);
        source[at] = random.pick(codes[format]);
      }
      const weight = arena.weightFrom(format, n, k, source);
      const x = arena.matrix(rowCount, k).fillRandom();
      const expected = arena.matrix(rowCount, 32);
      const actual = arena.matrix(rowCount, 32);
      const reference = createReferenceKernels(arena.memory);
      multiply(reference, x, weight.panels, expected);
      multiply(kernels, x, weight.panels, actual);
      for (let row = 0; row < rowCount; row++) {
        for (let column = 0; column < 32; column++) {
          const what = `${format}, ${rowCount} rows, at ${row}, ${column}`;
          expectSame(actual.get(row, column), expected.get(row, column), what);
        }
      }
      const rows = arena.matrix(n, k);
      kernels.embed({
        ids: arena.integers(Array.from({ length: n }, (_, i) => i)),
        weight: weight.panels,
        rowStart: 0,
        rowEnd: n,
        out: rows.address,
        outStride: rows.stride,
      });
      for (let column = 0; column < n; column++) {
        for (let i = 0; i < k; i++) {
          expectSame(rows.get(column, i), weight.value(column, i), `${format} ${column}, ${i}`);
        }
      }
    }
  }
}

/** Every format with both kinds of integers. */
function eachInteger(
  run: (format: QuantizedFormat, activations: "i16" | "i8") => void,
): void {
  for (const format of QUANTIZED_FORMATS) {
    for (const activations of INTEGERS) run(format, activations);
  }
}

/** The definition written out once more, over the checkpoint's own rows. */
function integerDefinition({ kernels, arena }: TestBed): void {
  eachInteger((format, activations) => {
    arena.reset();
    const [k, n, rowCount] = [96, 11, 5];
    const weight = arena.weight(format, n, k);
    const x = arena.matrix(rowCount, k).fillRandom();
    const out = arena.matrix(rowCount, 16);
    multiply(kernels, x, weight.panels, out, activations);
    const range = activationRange(activations, format);
    for (let row = 0; row < rowCount; row++) {
      for (let column = 0; column < n; column++) {
        let total = 0;
        let exact = 0;
        let room = 0;
        for (let start = 0; start < k; start += 32) {
          const { d, m, codes } = weight.block(column, start / 32);
          const values = codes.map((_, i) => x.get(row, start + i));
          const largest = Math.max(...values.map(Math.abs));
          const scale = Math.fround(largest / range);
          const factor = Math.fround(range / largest);
          const rounded = values.map((value) => nearestEven(Math.fround(value * factor)));
          const dot = rounded.reduce((sum, code, i) => sum + code * codes[i]!, 0);
          const sum = rounded.reduce((a, b) => a + b);
          total = fusedMultiplyAdd(Math.fround(dot), Math.fround(d * scale), total);
          if (m !== undefined) total = fusedMultiplyAdd(m, Math.fround(scale * sum), total);
          values.forEach((value, i) => {
            const w = weight.value(column, start + i);
            exact += value * w;
            room += Math.abs(w) * (0.51 * scale + 4e-7 * Math.abs(value));
          });
        }
        const what = `${format} ${activations} at ${row}, ${column}`;
        expectSame(out.get(row, column), total, what);
        expectClose(total, exact, room, `${what}, beside the exact sum`);
      }
    }
  });
}

function nearestEven(value: number): number {
  const [below, above] = [Math.floor(value), Math.ceil(value)];
  if (value - below === above - value) return below % 2 === 0 ? below : above;
  return value - below < above - value ? below : above;
}

function integerBits({ kernels, arena, random }: TestBed): void {
  eachInteger((format, activations) => {
    for (const k of [32, 64, 96, 160, 576]) {
      for (const rowCount of k === 160 ? [67] : ROW_COUNTS) {
        arena.reset();
        const n = k > 500 && rowCount > 8 ? 9 : random.integer(1, 28);
        const weight = arena.weight(format, n, k).panels;
        const x = arena.matrix(rowCount, k).fillRandom(random.pick([1, 1e-30, 3e8]));
        // Blocks of zeros, of numbers that are too small, and of one large number.
        for (let row = 0; row < rowCount; row++) {
          const block = 32 * random.integer(0, k / 32);
          const scale = random.pick([0, 2 ** -101, 2 ** -99, 1e-40]);
          for (let i = 0; i < 32; i++) x.set(row, block + i, scale * (random.float() * 2 - 1));
          x.set(row, 32 * random.integer(0, k / 32) + random.integer(0, 32), 1e12);
        }
        const expected = arena.matrix(rowCount, Math.ceil(n / 8) * 8);
        const actual = arena.matrix(rowCount, Math.ceil(n / 8) * 8);
        multiply(createReferenceKernels(arena.memory), x, weight, expected, activations);
        arena.expectOnly(
          () => multiply(kernels, x, weight, actual, activations),
          [actual.part(0, rowCount, 0, Math.ceil(n / 8) * 8)],
          `${format} ${activations} n ${n} k ${k} rows ${rowCount}`,
        );
        expectSameMatrix(
          actual,
          expected,
          `${format} ${activations} n ${n} k ${k} rows ${rowCount}`,
        );
      }
    }
  });
}

function integerInvariance({ kernels, arena, random }: TestBed): void {
  eachInteger((format, activations) => {
    arena.reset();
    const weight = arena.weight(format, 37, 96).panels;
    const x = arena.matrix(67, 96).fillRandom();
    const whole = arena.matrix(67, 40);
    multiply(kernels, x, weight, whole, activations);
    for (let round = 0; round < 25; round++) {
      const rowStart = random.integer(0, 67);
      const rowCount = round < 8 ? 1 : random.integer(1, 68 - rowStart);
      const panelCut = random.integer(0, 6);
      const out = arena.matrix(rowCount, 40);
      for (const [panelStart, panelEnd] of [[panelCut, 5], [0, panelCut]] as const) {
        kernels.matmul({
          x: x.address + rowStart * x.stride * F32,
          xStride: x.stride,
          rowCount,
          weight,
          panelStart,
          panelEnd,
          out: out.address,
          outStride: out.stride,
          activations,
        });
      }
      const what = `${format} ${activations} rows ${rowStart}+${rowCount} cut ${panelCut}`;
      for (let row = 0; row < rowCount; row++) {
        for (let c = 0; c < 40; c++) {
          expectSame(out.get(row, c), whole.get(rowStart + row, c), `${what} at ${row}, ${c}`);
        }
      }
    }
  });
}

/** All codes at the ends of their ranges and activations at theirs: no sum may be cut. */
function integerExtremes({ kernels, arena }: TestBed): void {
  const blockBytes = { q8_0: 34, q4_0: 18, q4_1: 20 } as const;
  eachInteger((format, activations) => {
    for (const rowCount of [1, 2, 3, 4, 5, 8]) {
      for (const code of format === "q8_0" ? [0x80, 0x7f, 0xff] : [0x00, 0xff, 0x0f]) {
        arena.reset();
        const [n, k] = [9, 64];
        const source = new Uint8Array(n * sourceRowBytes(format, k)).fill(code);
        const view = new DataView(source.buffer);
        for (let at = 0; at < source.length; at += blockBytes[format]) {
          view.setUint16(at, f32ToF16(1), true);
          if (format === "q4_1") view.setUint16(at + 2, f32ToF16(-0.5), true);
        }
        const weight = arena.weightFrom(format, n, k, source);
        const x = arena.matrix(rowCount, k);
        for (let row = 0; row < rowCount; row++) {
          const sign = row % 2 === 0 ? 1 : -1;
          for (let i = 0; i < k; i++) x.set(row, i, sign * (row < 4 || i % 2 === 0 ? 1 : -1));
        }
        const out = arena.matrix(rowCount, 16);
        multiply(kernels, x, weight.panels, out, activations);
        for (let row = 0; row < rowCount; row++) {
          let sum = 0;
          for (let i = 0; i < k; i++) sum += x.get(row, i) * weight.value(0, i);
          const what = `${format} ${activations} code ${code} row ${row} of ${rowCount}`;
          expectClose(out.get(row, 0), sum, 1e-3, what);
          expectSame(out.get(row, 8), out.get(row, 0), what);
        }
      }
    }
  });
}

function integerNaN({ kernels, arena, random }: TestBed): void {
  eachInteger((format, activations) => {
    for (const rowCount of [1, 2, 3, 7]) {
      arena.reset();
      const weight = arena.weight(format, 19, 96).panels;
      const x = arena.matrix(rowCount, 96).fillRandom();
      const clean = arena.matrix(rowCount, 24);
      const out = arena.matrix(rowCount, 24);
      multiply(kernels, x, weight, clean, activations);
      const bad = random.integer(0, rowCount);
      x.set(bad, random.integer(0, 96), random.pick([NaN, Infinity, -Infinity]));
      multiply(kernels, x, weight, out, activations);
      for (let row = 0; row < rowCount; row++) {
        for (let c = 0; c < 24; c++) {
          const expected = row === bad ? NaN : clean.get(row, c);
          expectSame(out.get(row, c), expected, `${format} ${activations} at ${row}, ${c}`);
        }
      }
    }
  });
}

function embedRows({ kernels, arena, random }: TestBed): void {
  for (const format of WEIGHT_FORMATS) {
    for (let round = 0; round < 8; round++) {
      arena.reset();
      const n = random.integer(1, 40);
      const weight = arena.weight(format, n, blockElements(format) === 1 ? 24 : 64);
      const { k } = weight.panels;
      const rows = random.integer(1, 12);
      const [rowStart, rowEnd] = randomRange(random, rows);
      const ids = Array.from({ length: rows }, () => random.integer(0, n));
      ids[rowStart] = n - 1;
      const idsAddress = arena.integers(ids);
      const out = arena.matrix(rows, k);
      const what = `${format} n ${n} k ${k} rows ${rowStart}-${rowEnd}`;
      arena.expectOnly(
        () =>
          kernels.embed({
            weight: weight.panels,
            ids: idsAddress,
            out: out.address,
            outStride: out.stride,
            rowStart,
            rowEnd,
          }),
        [out.part(rowStart, rowEnd, 0, k)],
        what,
      );
      for (let row = rowStart; row < rowEnd; row++) {
        for (let i = 0; i < k; i++) {
          expectSame(out.get(row, i), weight.value(ids[row]!, i), `${what} at ${row}, ${i}`);
        }
      }
    }
  }
}

function takeRowsBits({ kernels, arena, random }: TestBed): void {
  for (const width of [1, 7, 8, 20, 64, 101]) {
    arena.reset();
    const rows = random.integer(1, 12);
    const [rowStart, rowEnd] = randomRange(random, rows);
    const x = arena.matrix(9, width).fillRandom();
    const indices = Array.from({ length: rows }, () => random.integer(0, 9));
    const indicesAddress = arena.integers(indices);
    const out = arena.matrix(rows, width);
    arena.expectOnly(
      () =>
        kernels.takeRows({
          x: x.address,
          xStride: x.stride,
          indices: indicesAddress,
          width,
          out: out.address,
          outStride: out.stride,
          rowStart,
          rowEnd,
        }),
      [out.part(rowStart, rowEnd, 0, width)],
      `width ${width}`,
    );
    for (let row = rowStart; row < rowEnd; row++) {
      for (let i = 0; i < width; i++) {
        expectSame(out.get(row, i), x.get(indices[row]!, i), `width ${width}`);
      }
    }
  }
}

// ---------------------------------------------------------------- norms and elementwise

function rmsNormOracle({ kernels, arena, random }: TestBed): void {
  for (const width of [1, 5, 8, 12, 20, 64, 128, 576, 1000]) {
    for (const inPlace of [false, true]) {
      arena.reset();
      const groups = width > 200 ? random.integer(1, 3) : random.integer(1, 6);
      const rows = random.integer(1, 7);
      const [rowStart, rowEnd] = randomRange(random, rows);
      const x = arena.matrix(rows, width * groups).fillRandom(random.pick([1, 1e-4, 300]));
      const weight = arena.matrix(1, width).fillRandom();
      const before = x.copy();
      const out = inPlace ? x : arena.matrix(rows, width * groups);
      const epsilon = random.pick([1e-5, 1e-6]);
      // A few roundings, and those of a float32 sum of squares in whatever order.
      const accuracy = 5e-7 + 6e-8 * Math.sqrt(width);
      const what = `width ${width} groups ${groups} in place ${inPlace}`;
      const run = () =>
        kernels.rmsNorm({
          x: x.address,
          xStride: x.stride,
          weight: weight.address,
          epsilon,
          width,
          groups,
          out: out.address,
          outStride: out.stride,
          rowStart,
          rowEnd,
        });
      arena.expectOnly(run, [out.part(rowStart, rowEnd, 0, width * groups)], what);
      for (let row = rowStart; row < rowEnd; row++) {
        for (let group = 0; group < groups; group++) {
          const values = before[row]!.slice(group * width, (group + 1) * width);
          const mean = values.reduce((sum, value) => sum + value * value, 0) / width;
          values.forEach((value, i) => {
            const expected = value / Math.sqrt(mean + epsilon) * weight.get(0, i);
            const actual = out.get(row, group * width + i);
            expectClose(actual, expected, accuracy * Math.abs(expected), `${what} at ${row}, ${i}`);
          });
        }
      }
    }
  }
}

function rmsNormInvariance({ kernels, arena }: TestBed): void {
  for (const width of [20, 64, 576]) {
    arena.reset();
    const groups = 3;
    const x = arena.matrix(9, width * groups).fillRandom();
    const weight = arena.matrix(1, width).fillRandom().address;
    const whole = arena.matrix(9, width * groups);
    const parts = arena.matrix(9, width * groups);
    const run = (out: FloatMatrix, rowStart: number, rowEnd: number) =>
      kernels.rmsNorm({
        x: x.address,
        xStride: x.stride,
        weight,
        epsilon: 1e-5,
        width,
        groups,
        out: out.address,
        outStride: out.stride,
        rowStart,
        rowEnd,
      });
    run(whole, 0, 9);
    for (const [rowStart, rowEnd] of [[0, 1], [1, 3], [3, 8], [8, 9]] as const) {
      run(parts, rowStart, rowEnd);
    }
    expectSameMatrix(parts, whole, `width ${width}`);
  }
}

/** Any range of rows leaves the bits that the reference leaves of all rows. */
function layerNorms({ kernels, arena, random }: TestBed): void {
  for (const width of [8, 16, 24, 128, 384, 1000]) {
    arena.reset();
    const reference = createReferenceKernels(arena.memory);
    const rows = random.integer(2, 8);
    const [rowStart, rowEnd] = randomRange(random, rows);
    const x = arena.matrix(rows, width).fillRandom(random.pick([1, 1e-3, 300]));
    const expected = arena.matrix(rows, width);
    const weight = arena.matrix(1, width).fillRandom();
    const bias = arena.matrix(1, width).fillRandom();
    const before = x.copy();
    before.forEach((row, i) => row.forEach((value, c) => expected.set(i, c, value)));
    const epsilon = random.pick([1e-5, 1e-12]);
    const run = (table: KernelTable, on: FloatMatrix, rowStart: number, rowEnd: number) =>
      table.layerNorm({
        x: on.address,
        xStride: on.stride,
        weight: weight.address,
        bias: bias.address,
        epsilon,
        width,
        rowStart,
        rowEnd,
      });
    run(reference, expected, 0, rows);
    const part = [x.part(rowStart, rowEnd, 0, width)];
    arena.expectOnly(() => run(kernels, x, rowStart, rowEnd), part, `width ${width}`);
    for (let row = rowStart; row < rowEnd; row++) {
      const values = before[row]!;
      const mean = values.reduce((sum, value) => sum + value, 0) / width;
      const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / width;
      values.forEach((value, c) => {
        const what = `width ${width} at ${row}, ${c}`;
        const normal = (value - mean) / Math.sqrt(variance + epsilon) * weight.get(0, c);
        expectClose(x.get(row, c), normal + bias.get(0, c), 3e-6, what);
        expectSame(x.get(row, c), expected.get(row, c), what);
      });
    }
  }
}

function additions({ kernels, arena, random }: TestBed): void {
  for (let round = 0; round < 40; round++) {
    arena.reset();
    const { rowCount, width, columnStart, columnEnd } = randomColumns(random);
    const x = arena.matrix(rowCount, width).fillRandom(random.pick([1, 1e4]));
    const y = arena.matrix(rowCount, width).fillRandom();
    const bias = arena.matrix(1, width).fillRandom();
    const range = { x: x.address, xStride: x.stride, rowCount, columnStart, columnEnd };
    const before = x.copy();
    const what = `round ${round}: columns ${columnStart}-${columnEnd} of ${width}`;
    const part = [x.part(0, rowCount, columnStart, columnEnd)];
    arena.expectOnly(
      () => kernels.add({ ...range, y: y.address, yStride: y.stride }),
      part,
      `add ${what}`,
    );
    arena.expectOnly(
      () => kernels.addBias({ ...range, bias: bias.address }),
      part,
      `addBias ${what}`,
    );
    for (let row = 0; row < rowCount; row++) {
      for (let c = columnStart; c < columnEnd; c++) {
        const sum = Math.fround(before[row]![c]! + y.get(row, c));
        expectSame(x.get(row, c), Math.fround(sum + bias.get(0, c)), `${what} at ${row}, ${c}`);
      }
    }
  }
}

function siluOracle({ kernels, arena, random }: TestBed): void {
  const extremes = [0, -0, 1e-30, -1e-30, 88, -88, 100, -100, 1e4, -1e4, 3e38, -3e38];
  for (let round = 0; round < 30; round++) {
    arena.reset();
    const { rowCount, width, columnStart, columnEnd } = randomColumns(random);
    const gate = arena.matrix(rowCount, width).fillRandom(random.pick([1, 8, 30, 100]));
    const up = arena.matrix(rowCount, width).fillRandom();
    for (let row = 0; row < rowCount; row++) {
      for (let c = 0; c < width; c++) {
        if (random.integer(0, 3) === 0) gate.set(row, c, random.pick(extremes));
      }
    }
    const before = gate.copy();
    const what = `round ${round}: columns ${columnStart}-${columnEnd} of ${width}`;
    arena.expectOnly(
      () => silu(kernels, gate, up, { columnStart, columnEnd }),
      [gate.part(0, rowCount, columnStart, columnEnd)],
      what,
    );
    for (let row = 0; row < rowCount; row++) {
      for (let c = columnStart; c < columnEnd; c++) {
        const z = before[row]![c]!;
        const expected = z / (1 + Math.exp(-z)) * up.get(row, c);
        // Where e^z vanishes in float32 anything next to zero will do.
        const tolerance = 1e-6 * Math.abs(expected) + 1e-30;
        expectClose(gate.get(row, c), expected, tolerance, `${what}: silu(${z}) · up`);
      }
    }
  }
}

function siluInvariance({ kernels, arena }: TestBed): void {
  arena.reset();
  const width = 75;
  const gate = arena.matrix(5, width).fillRandom(20);
  const up = arena.matrix(5, width).fillRandom();
  const parts = arena.matrix(5, width);
  for (let row = 0; row < 5; row++) {
    for (let c = 0; c < width; c++) parts.set(row, c, gate.get(row, c));
  }
  silu(kernels, gate, up, { columnStart: 0, columnEnd: width });
  for (const [columnStart, columnEnd] of [[0, 8], [8, 40], [40, 72], [72, 75]] as const) {
    for (let row = 0; row < 5; row++) {
      silu(kernels, parts.row(row), up.row(row), { columnStart, columnEnd });
    }
  }
  expectSameMatrix(parts, gate, "bits");
}

function geluTanhOracle({ kernels, arena, random }: TestBed): void {
  const extremes = [0, -0, 1e-30, -1e-30, 5, -5, 12, -12, 100, -100, 1e4, -1e4, 3e38, -3e38];
  for (let round = 0; round < 30; round++) {
    arena.reset();
    const { rowCount, width, columnStart, columnEnd } = randomColumns(random);
    const gate = arena.matrix(rowCount, width).fillRandom(random.pick([1, 4, 8, 30]));
    const up = arena.matrix(rowCount, width).fillRandom();
    for (let row = 0; row < rowCount; row++) {
      for (let c = 0; c < width; c++) {
        if (random.integer(0, 3) === 0) gate.set(row, c, random.pick(extremes));
      }
    }
    const before = gate.copy();
    const args = {
      gate: gate.address,
      gateStride: gate.stride,
      up: up.address,
      upStride: up.stride,
      rowCount,
      columnStart,
      columnEnd,
    };
    const what = `round ${round}: columns ${columnStart}-${columnEnd} of ${width}`;
    arena.expectOnly(
      () => kernels.geluTanhMultiply(args),
      [gate.part(0, rowCount, columnStart, columnEnd)],
      what,
    );
    for (let row = 0; row < rowCount; row++) {
      for (let c = columnStart; c < columnEnd; c++) {
        const z = before[row]![c]!;
        const u = Math.sqrt(2 / Math.PI) * (z + 0.044715 * z ** 3);
        const expected = z / (1 + Math.exp(-2 * u)) * up.get(row, c);
        // Float32 knows the exponent to a few parts in 10^7 of its size.
        const relative = 1e-6 + 5e-7 * Math.min(Math.abs(u), 50);
        const tolerance = relative * Math.abs(expected) + 1e-30;
        expectClose(gate.get(row, c), expected, tolerance, `${what}: geluTanh(${z}) · up`);
      }
    }
  }
}

/** What a routing in memory says, token by token: experts by rank with weights, and their rows. */
interface ReadRouting {
  readonly starts: readonly number[];
  readonly tokens: readonly { experts: number[]; weights: number[]; rows: number[] }[];
}

function readRouting(
  memory: WebAssembly.Memory,
  address: number,
  shape: RoutingShape,
  rowCount: number,
): ReadRouting {
  const parts = routingParts(shape, rowCount);
  const { expertCount, choiceCount } = shape;
  const integers = (word: number, count: number) => [
    ...new Int32Array(memory.buffer, address + 4 * word, count),
  ];
  const size = rowCount * choiceCount;
  const starts = integers(parts.starts, expertCount + 1);
  const rows = integers(parts.rows, size);
  const tokenOfRow = integers(parts.tokens, size);
  const weights = [...new Float32Array(memory.buffer, address + 4 * parts.weights, size)];
  assertEquals([starts[0], starts[expertCount]], [0, size]);
  assertEquals(rows.toSorted((a, b) => a - b), rows.map((_, i) => i), "each row once");
  const tokens = Array.from({ length: rowCount }, (_, token) => {
    const own = rows.slice(token * choiceCount, (token + 1) * choiceCount);
    for (const row of own) assertEquals(tokenOfRow[row], token);
    const experts = own.map((row) =>
      starts.findIndex((start, e) => start <= row && row < starts[e + 1]!)
    );
    return {
      experts,
      weights: weights.slice(token * choiceCount).slice(0, choiceCount),
      rows: own,
    };
  });
  for (let expert = 0; expert < expertCount; expert++) {
    const inside = tokenOfRow.slice(starts[expert], starts[expert + 1]);
    assertEquals(inside, [...new Set(inside)].sort((a, b) => a - b), "tokens ascend, each once");
  }
  return { starts, tokens };
}

const ROUTERS: readonly Router[] = [
  { kind: "softmax", normalizes: false },
  { kind: "softmax", normalizes: true },
  { kind: "sigmoid", normalizes: false, scale: 1 },
  { kind: "sigmoid", normalizes: true, scale: 2.5 },
];

function routes({ kernels, arena, random }: TestBed): void {
  for (let round = 0; round < 80; round++) {
    arena.reset();
    const expertCount = random.integer(1, 40);
    const shape = { expertCount, choiceCount: random.integer(1, Math.min(9, expertCount + 1)) };
    const rowCount = random.integer(1, 20);
    const router = random.pick(ROUTERS);
    const logits = arena.matrix(rowCount, expertCount).fillRandom(random.pick([0.1, 4, 60]));
    // Ties and numbers that are none, now and then.
    for (let row = 0; row < rowCount; row++) {
      if (random.integer(0, 3) > 0) continue;
      for (let e = 0; e < expertCount; e++) {
        logits.set(row, e, random.pick(round % 7 === 0 ? [1, NaN, -1] : [1, 0, -1]));
      }
    }
    const biases = round % 2 === 0
      ? null
      : Array.from({ length: expertCount }, () => Math.fround(random.float() - 0.5));
    const words = rowCount * routingWords(shape);
    const out = arena.matrix(1, words, words);
    const what = `round ${round}: ${JSON.stringify({ ...shape, router, rowCount })}`;
    const bias = biases === null ? null : arena.floats(biases);
    arena.expectOnly(
      () =>
        kernels.route({
          ...shape,
          logits: logits.address,
          logitsStride: logits.stride,
          rowCount,
          router,
          bias,
          out: out.address,
        }),
      [out.part(0, 1, 0, words)],
      what,
    );
    const { tokens } = readRouting(arena.memory, out.address, shape, rowCount);
    for (const [row, { experts, weights }] of tokens.entries()) {
      const values = Array.from({ length: expertCount }, (_, e) => logits.get(row, e));
      const s = values.map((v) =>
        router.kind === "sigmoid" ? Math.fround(1 / (1 + Math.exp(-v))) : v
      );
      const scores = s.map((v, e) => {
        const score = Math.fround(v + (biases?.[e] ?? 0));
        return Number.isNaN(score) ? -Infinity : score;
      });
      const order = scores.map((_, e) => e).sort((a, b) => {
        return scores[a] === scores[b] ? a - b : scores[b]! > scores[a]! ? 1 : -1;
      });
      assertEquals(experts, order.slice(0, shape.choiceCount), what);
      const raw = router.kind === "sigmoid"
        ? s
        : values.map((v) => Math.exp(v - Math.max(...values)));
      const whole = router.normalizes
        ? experts.reduce((sum, e) => sum + raw[e]!, 0) + (router.kind === "sigmoid" ? 1e-20 : 0)
        : router.kind === "softmax"
        ? raw.reduce((a, b) => a + b)
        : 1;
      const scale = router.kind === "sigmoid" ? router.scale : 1;
      for (const [rank, expert] of experts.entries()) {
        const expected = scale * raw[expert]! / whole;
        if (Number.isNaN(expected)) assert(Number.isNaN(weights[rank]!), what);
        else expectClose(weights[rank]!, expected, 1e-6 * expected + 2e-45, what);
      }
    }
  }
}

function routeInvariance({ kernels, arena }: TestBed): void {
  for (const router of ROUTERS) {
    arena.reset();
    const shape = { expertCount: 13, choiceCount: 3 };
    const logits = arena.matrix(24, 13).fillRandom(5);
    const run = (rowStart: number, rowCount: number) => {
      const out = arena.allocate(4 * rowCount * routingWords(shape));
      kernels.route({
        ...shape,
        logits: logits.address + 4 * rowStart * logits.stride,
        logitsStride: logits.stride,
        rowCount,
        router,
        bias: null,
        out,
      });
      return readRouting(arena.memory, out, shape, rowCount).tokens
        .map(({ experts, weights }) => ({ experts, weights }));
    };
    const whole = run(0, 24);
    for (const [start, count] of [[0, 1], [5, 7], [23, 1]] as const) {
      assertEquals(run(start, count), whole.slice(start, start + count));
    }
  }
}

function clampedSwiglus({ kernels, arena, random }: TestBed): void {
  const extremes = [0, -0, 7, -7, 7.5, -7.5, 100, -100, 3e38, -3e38, NaN, Infinity, -Infinity];
  for (let round = 0; round < 30; round++) {
    arena.reset();
    const { rowCount, width, columnStart, columnEnd } = randomColumns(random);
    const gate = arena.matrix(rowCount, width).fillRandom(random.pick([1, 8, 30]));
    const up = arena.matrix(rowCount, width).fillRandom(random.pick([1, 8, 30]));
    for (let row = 0; row < rowCount; row++) {
      for (let c = 0; c < width; c++) {
        if (random.integer(0, 3) === 0) gate.set(row, c, random.pick(extremes));
        if (random.integer(0, 3) === 0) up.set(row, c, random.pick(extremes));
      }
    }
    const before = gate.copy();
    const limit = random.pick([7, 0.5]);
    const what = `round ${round}: columns ${columnStart}-${columnEnd} of ${width}`;
    arena.expectOnly(
      () =>
        kernels.clampedSwiglu({
          gate: gate.address,
          gateStride: gate.stride,
          up: up.address,
          upStride: up.stride,
          rowCount,
          columnStart,
          columnEnd,
          limit,
        }),
      [gate.part(0, rowCount, columnStart, columnEnd)],
      what,
    );
    for (let row = 0; row < rowCount; row++) {
      for (let c = columnStart; c < columnEnd; c++) {
        const g = Math.min(before[row]![c]!, limit);
        const u = Math.max(-limit, Math.min(up.get(row, c), limit));
        const expected = (u + 1) * (g === -Infinity ? NaN : g / (1 + Math.exp(-1.702 * g)));
        // Of −∞ the sigmoid's quotient is not a number, as 0 · ∞ is none.
        if (Number.isNaN(expected)) assert(Number.isNaN(gate.get(row, c)), what);
        else {
          // The exponential's argument is rounded, which counts the more the larger it is.
          const tolerance = (1e-6 + 2.5e-7 * Math.abs(g)) * Math.abs(expected) + 1e-30;
          expectClose(gate.get(row, c), expected, tolerance, `${what}: ${g}, ${u}`);
        }
      }
    }
  }
}

function expertSums({ kernels, arena, random }: TestBed): void {
  for (let round = 0; round < 30; round++) {
    arena.reset();
    const { rowCount, width, columnStart, columnEnd } = randomColumns(random);
    const expertCount = random.integer(1, 9);
    const shape = { expertCount, choiceCount: random.integer(1, expertCount + 1) };
    const logits = arena.matrix(rowCount, expertCount).fillRandom(3);
    const routing = arena.allocate(4 * rowCount * routingWords(shape));
    kernels.route({
      ...shape,
      logits: logits.address,
      logitsStride: logits.stride,
      rowCount,
      router: { kind: "softmax", normalizes: false },
      bias: null,
      out: routing,
    });
    const y = arena.matrix(rowCount * shape.choiceCount, width).fillRandom();
    const out = arena.matrix(rowCount, width);
    const what = `round ${round}: columns ${columnStart}-${columnEnd} of ${width}`;
    arena.expectOnly(
      () =>
        kernels.sumExperts({
          ...shape,
          y: y.address,
          yStride: y.stride,
          routing,
          rowCount,
          out: out.address,
          outStride: out.stride,
          columnStart,
          columnEnd,
        }),
      [out.part(0, rowCount, columnStart, columnEnd)],
      what,
    );
    const { tokens } = readRouting(arena.memory, routing, shape, rowCount);
    for (const [row, { rows, weights }] of tokens.entries()) {
      for (let c = columnStart; c < columnEnd; c++) {
        const products = rows.map((from, rank) => Math.fround(weights[rank]! * y.get(from, c)));
        expectSame(out.get(row, c), products.reduce((a, b) => Math.fround(a + b)), what);
      }
    }
  }
}

function scalarOperations({ kernels, arena, random }: TestBed): void {
  const extremes = [0, -0, 1e-30, 0.624, 0.626, -0.625, 3e38, -3e38];
  for (let round = 0; round < 40; round++) {
    arena.reset();
    const { rowCount, width, columnStart, columnEnd } = randomColumns(random);
    const x = arena.matrix(rowCount, width).fillRandom(random.pick([0.1, 1, 8, 1000]));
    for (let row = 0; row < rowCount; row++) {
      for (let c = 0; c < width; c++) {
        if (random.integer(0, 4) === 0) x.set(row, c, random.pick(extremes));
      }
    }
    const before = x.copy();
    const number = Math.fround(random.pick([0.3, 1, 5, 25.25, 50]));
    const args = { x: x.address, xStride: x.stride, rowCount, columnStart, columnEnd };
    const isScale = round % 2 === 0;
    const what = `round ${round}: ${number} on columns ${columnStart}-${columnEnd} of ${width}`;
    arena.expectOnly(
      () =>
        isScale
          ? kernels.scale({ ...args, factor: number })
          : kernels.softcap({ ...args, cap: number }),
      [x.part(0, rowCount, columnStart, columnEnd)],
      what,
    );
    for (let row = 0; row < rowCount; row++) {
      for (let c = columnStart; c < columnEnd; c++) {
        const value = before[row]![c]!;
        if (isScale) {
          expectSame(x.get(row, c), Math.fround(number * value), what);
          continue;
        }
        const exact = number * Math.tanh(value / number);
        expectClose(x.get(row, c), exact, 5e-7 * Math.abs(exact), `${what}: softcap(${value})`);
      }
    }
  }
}

function gelus({ kernels, arena, random }: TestBed): void {
  const extremes = [0, -0, 1e-30, 5.99, 6, -6, 6.01, -6.01, 100, -100, 3e38, -3e38];
  for (let round = 0; round < 30; round++) {
    arena.reset();
    const reference = createReferenceKernels(arena.memory);
    const { rowCount, width, columnStart, columnEnd } = randomColumns(random);
    const x = arena.matrix(rowCount, width).fillRandom(random.pick([1, 4, 8, 30]));
    for (let row = 0; row < rowCount; row++) {
      for (let c = 0; c < width; c++) {
        if (random.integer(0, 3) === 0) x.set(row, c, random.pick(extremes));
      }
    }
    const before = x.copy();
    const expected = arena.matrix(rowCount, width);
    before.forEach((row, i) => row.forEach((value, c) => expected.set(i, c, value)));
    const run = (table: KernelTable, on: FloatMatrix, columnStart: number, columnEnd: number) =>
      table.gelu({ x: on.address, xStride: on.stride, rowCount, columnStart, columnEnd });
    run(reference, expected, 0, width);
    const what = `round ${round}: columns ${columnStart}-${columnEnd} of ${width}`;
    const part = [x.part(0, rowCount, columnStart, columnEnd)];
    arena.expectOnly(() => run(kernels, x, columnStart, columnEnd), part, what);
    for (let row = 0; row < rowCount; row++) {
      for (let c = columnStart; c < columnEnd; c++) {
        const value = before[row]![c]!;
        const exact = exactGelu(value);
        const place = `${what}: gelu(${value})`;
        expectClose(x.get(row, c), exact, 1e-8 + 6e-8 * Math.abs(exact), place);
        expectSame(x.get(row, c), expected.get(row, c), place);
      }
    }
  }
}

/** x · Φ(x) by a series of positive terms only, so that nothing cancels. */
function exactGelu(x: number): number {
  const z = Math.abs(x) / Math.SQRT2;
  if (z > 8) return x > 0 ? x : 0;
  let term = z;
  let sum = z;
  for (let n = 1; term > 1e-18 * sum; n++) {
    term *= 2 * z * z / (2 * n + 1);
    sum += term;
  }
  const erf = 2 / Math.sqrt(Math.PI) * Math.exp(-z * z) * sum;
  return 0.5 * x * (1 + Math.sign(x) * erf);
}

function ropeOracle({ kernels, arena, random }: TestBed): void {
  for (const headDim of [8, 16, 24, 64, 128]) {
    for (const rotaryDim of [headDim, headDim / 2]) {
      arena.reset();
      const bed = ropeBed(arena, random, headDim, rotaryDim);
      const { x, table, positions, rows, heads } = bed;
      const [rowStart, rowEnd] = randomRange(random, rows);
      const before = x.copy();
      const what = `headDim ${headDim} rotaryDim ${rotaryDim} heads ${heads}`;
      arena.expectOnly(
        () => kernels.rope({ ...bed.args, rowStart, rowEnd }),
        Array.from(
          { length: heads },
          (_, head) => x.part(rowStart, rowEnd, head * headDim, head * headDim + rotaryDim),
        ),
        what,
      );
      for (let row = rowStart; row < rowEnd; row++) {
        for (let head = 0; head < heads; head++) {
          for (let i = 0; i < rotaryDim / 2; i++) {
            const at = head * headDim + i;
            const [first, second] = [before[row]![at]!, before[row]![at + rotaryDim / 2]!];
            const cosine = table.get(positions[row]!, i);
            const sine = table.get(positions[row]!, rotaryDim / 2 + i);
            const tolerance = 2e-7 * (Math.abs(first) + Math.abs(second));
            const place = `${what} at ${row}, ${at}`;
            expectClose(x.get(row, at), first * cosine - second * sine, tolerance, place);
            const other = second * cosine + first * sine;
            expectClose(x.get(row, at + rotaryDim / 2), other, tolerance, place);
          }
        }
      }
    }
  }
}

function ropeInvariance({ kernels, arena, random }: TestBed): void {
  arena.reset();
  const { x, rows, args, heads } = ropeBed(arena, random, 24, 24);
  const before = x.copy();
  kernels.rope({ ...args, rowStart: 0, rowEnd: rows });
  const whole = x.copy();
  for (let row = 0; row < rows; row++) {
    for (let c = 0; c < heads * 24; c++) x.set(row, c, before[row]![c]!);
  }
  for (let row = 0; row < rows; row++) kernels.rope({ ...args, rowStart: row, rowEnd: row + 1 });
  assertEquals(x.copy(), whole, "bits");
}

function ropeBed(arena: Arena, random: Random, headDim: number, rotaryDim: number) {
  const heads = random.integer(1, 5);
  const rows = random.integer(3, 8);
  const x = arena.matrix(rows, heads * headDim).fillRandom();
  const table = arena.matrix(40, rotaryDim, rotaryDim);
  for (let position = 0; position < 40; position++) {
    for (let i = 0; i < rotaryDim / 2; i++) {
      const angle = position * 10000 ** (-2 * i / rotaryDim);
      table.set(position, i, Math.cos(angle));
      table.set(position, rotaryDim / 2 + i, Math.sin(angle));
    }
  }
  const positions = Array.from({ length: rows }, () => random.integer(0, 40));
  const args = {
    x: x.address,
    xStride: x.stride,
    heads,
    headDim,
    rotaryDim,
    positions: arena.integers(positions),
    table: table.address,
  };
  return { x, table, positions, rows, heads, args };
}

// ---------------------------------------------------------------- keys, values, attention

function writeKvLayout({ kernels, arena, random }: TestBed): void {
  for (const dtype of KV_DTYPES) {
    for (const headDim of HEAD_DIMS) {
      arena.reset();
      const pool = new KvPool(arena, { dtype, kvHeads: random.integer(1, 4), headDim }, 4);
      const { kvHeads } = pool.layer;
      const rows = 20;
      const [rowStart, rowEnd] = randomRange(random, rows);
      const slots = random.sample(4 * KV_BLOCK, rows);
      const k = arena.matrix(rows, kvHeads * headDim).fillRandom();
      const v = arena.matrix(rows, kvHeads * headDim).fillRandom();
      const what = `${dtype} headDim ${headDim} rows ${rowStart}-${rowEnd}`;
      const args = {
        k: k.address,
        kStride: k.stride,
        v: v.address,
        vStride: v.stride,
        slots: arena.integers(slots),
        cache: pool.layer,
        rowStart,
        rowEnd,
      };
      arena.expectOnly(() => kernels.writeKv(args), pool.parts(), what);
      const expected = new KvPool(arena, pool.layer, 4);
      for (let row = rowStart; row < rowEnd; row++) {
        for (let c = 0; c < kvHeads * headDim; c++) {
          const place = [slots[row]! >> 4, Math.floor(c / headDim), slots[row]! & 15, c % headDim];
          expected.write(place as [number, number, number, number], k.get(row, c), v.get(row, c));
        }
      }
      expectSameBytes(pool.bytes(), expected.bytes(), `${what}: every slot of the pool`);
    }
  }
}

function writeKvRoundTrip({ kernels, arena, random }: TestBed): void {
  for (const dtype of KV_DTYPES) {
    for (const headDim of HEAD_DIMS) {
      arena.reset();
      const kvHeads = 2;
      const rows = 5;
      const pool = new KvPool(arena, { dtype, kvHeads, headDim }, 6);
      const k = arena.matrix(rows, kvHeads * headDim).fillRandom();
      const v = arena.matrix(rows, kvHeads * headDim).fillRandom();
      const q = arena.matrix(rows, 2 * kvHeads * headDim).fillRandom();
      const out = arena.matrix(rows, 2 * kvHeads * headDim);
      const blocks = random.sample(6, rows);
      const positions = blocks.map(() => random.integer(0, KV_BLOCK));
      kernels.writeKv({
        k: k.address,
        kStride: k.stride,
        v: v.address,
        vStride: v.stride,
        slots: arena.integers(blocks.map((block, row) => block * KV_BLOCK + positions[row]!)),
        cache: pool.layer,
        rowStart: 0,
        rowEnd: rows,
      });
      kernels.attention({
        q: q.address,
        qStride: q.stride,
        out: out.address,
        outStride: out.stride,
        heads: 2 * kvHeads,
        scale: 1,
        window: 1,
        cache: pool.layer,
        positions: arena.integers(positions),
        sequences: arena.integers(blocks.map((_, row) => row)),
        blockTables: arena.integers(blocks),
        blockTableStride: 1,
        unitStart: 0,
        unitEnd: rows * kvHeads,
        unitStep: 1,
      });
      for (let row = 0; row < rows; row++) {
        for (let c = 0; c < 2 * kvHeads * headDim; c++) {
          // A window of one token: all the weight is on its value.
          const column = Math.floor(c / (2 * headDim)) * headDim + c % headDim;
          const expected = pool.rounded(v.get(row, column));
          expectClose(
            out.get(row, c),
            expected,
            1e-6 * Math.abs(expected),
            `${dtype} headDim ${headDim} at ${row}, ${c}`,
          );
        }
      }
    }
  }
}

function attentionShapes(bed: TestBed): void {
  let round = 0;
  for (const dtype of KV_DTYPES) {
    for (const headDim of HEAD_DIMS) {
      for (const group of GROUPS) {
        const window = WINDOWS[round++ % WINDOWS.length]!;
        const kvHeads = bed.random.integer(1, 4 - (headDim >> 6));
        checkAttention(bed, { dtype, headDim, group, window, kvHeads });
      }
    }
  }
}

function attentionWindows(bed: TestBed): void {
  for (const dtype of KV_DTYPES) {
    for (const window of WINDOWS) {
      checkAttention(bed, { dtype, headDim: 16, group: 3, window, kvHeads: 2 });
      checkAttention(bed, { dtype, headDim: 8, group: 1, window, kvHeads: 1, queryScale: 40 });
    }
  }
}

function attentionCapsAndSinks(bed: TestBed): void {
  for (const dtype of KV_DTYPES) {
    for (const group of GROUPS) {
      const shape = { dtype, headDim: 16, group, window: group % 2 * 20, kvHeads: 2 };
      checkAttention(bed, { ...shape, softcap: 2, queryScale: 4 });
      checkAttention(bed, { ...shape, hasSinks: true });
      checkAttention(bed, { ...shape, hasSinks: true, softcap: 0.5, queryScale: 10 });
      // The sink is far below or above all scores.
      checkAttention(bed, { ...shape, hasSinks: true, queryScale: 100 });
    }
  }
}

function checkAttention({ kernels, arena, random }: TestBed, shape: AttentionShape): void {
  arena.reset();
  const scene = new AttentionScene(arena, random, shape);
  const { kvHeads, group, headDim } = shape;
  const out = arena.matrix(scene.rows.length, kvHeads * group * headDim);
  const unitCount = scene.rows.length * kvHeads;
  const unitStep = random.pick([1, 1, 2, 3]);
  const unitStart = random.integer(0, unitStep);
  const unitEnd = random.pick([unitCount, random.integer(unitStart + 1, unitCount + 1)]);
  const args = { ...scene.place(), out: out.address, outStride: out.stride };
  const what = `${JSON.stringify(shape)}`;
  const units: number[] = [];
  for (let unit = unitStart; unit < unitEnd; unit += unitStep) units.push(unit);
  arena.expectOnly(
    () => kernels.attention({ ...args, unitStart, unitEnd, unitStep }),
    units.map((unit) => {
      const row = Math.floor(unit / kvHeads);
      const column = unit % kvHeads * group * headDim;
      return out.part(row, row + 1, column, column + group * headDim);
    }),
    what,
  );
  for (const unit of units) {
    const row = Math.floor(unit / kvHeads);
    for (let head = unit % kvHeads * group; head < (unit % kvHeads + 1) * group; head++) {
      const { values, tolerances } = scene.expected(row, head);
      for (let d = 0; d < headDim; d++) {
        const place = `${what}: position ${scene.rows[row]!.position} head ${head} d ${d}`;
        expectClose(out.get(row, head * headDim + d), values[d]!, tolerances[d]!, place);
      }
    }
  }
}

function attentionInvariance({ kernels, arena, random }: TestBed): void {
  for (const dtype of KV_DTYPES) {
    for (
      const [group, headDim, window, softcap, hasSinks] of [
        [3, 64, 0, 0, 0],
        [1, 16, 20, 0, 0],
        [8, 8, 0, 0, 0],
        [2, 128, 6, 0, 0],
        [5, 16, 20, 0, 1],
        [2, 8, 0, 2, 0],
        [1, 64, 6, 2, 1],
      ]
    ) {
      arena.reset();
      const shape = {
        dtype,
        headDim: headDim!,
        group: group!,
        window: window!,
        kvHeads: 2,
        softcap: softcap!,
        hasSinks: hasSinks === 1,
      };
      const scene = new AttentionScene(arena, random, shape);
      const what = `${JSON.stringify(shape)}`;
      const rows = scene.rows.length;
      const width = 2 * shape.group * shape.headDim;
      const whole = arena.matrix(rows, width);
      const placed = { ...scene.place(), out: whole.address, outStride: whole.stride };
      kernels.attention({ ...placed, unitStart: 0, unitEnd: rows * 2, unitStep: 1 });

      // Other blocks of another pool, other order of units.
      const moved = arena.matrix(rows, width);
      const elsewhere = { ...scene.place(), out: moved.address, outStride: moved.stride };
      for (let unitStart = 0; unitStart < 3; unitStart++) {
        kernels.attention({ ...elsewhere, unitStart, unitEnd: rows * 2, unitStep: 3 });
      }
      expectSameMatrix(moved, whole, `${what}, in other blocks`);

      // Each row by itself.
      const alone = arena.matrix(rows, width);
      for (let row = 0; row < rows; row++) {
        kernels.attention({
          ...elsewhere,
          q: elsewhere.q + row * elsewhere.qStride * F32,
          positions: arena.integers([scene.rows[row]!.position]),
          sequences: arena.integers([scene.rows[row]!.sequence]),
          out: alone.row(row).address,
          outStride: width,
          unitStart: 0,
          unitEnd: 2,
          unitStep: 1,
        });
      }
      expectSameMatrix(alone, whole, `${what}, row by row`);
    }
  }
}

function attentionBlocks({ kernels, arena, random }: TestBed): void {
  for (const dtype of KV_DTYPES) {
    for (const [group, headDim, kvHeads] of [[1, 32, 3], [1, 64, 2], [3, 16, 2], [2, 8, 1]]) {
      arena.reset();
      const shape = { dtype, headDim: headDim!, group: group!, window: 0, kvHeads: kvHeads! };
      const scene = new AttentionScene(arena, random, shape);
      const rows = random.integer(1, scene.rows.length + 1);
      const width = shape.kvHeads * shape.group * shape.headDim;
      // Runs of rows of one sequence, which see all of its keys.
      const sequences: number[] = [];
      while (sequences.length < rows) {
        const sequence = random.integer(0, CONTEXTS.length);
        sequences.push(...Array(random.integer(1, 8)).fill(sequence));
      }
      const args = {
        ...scene.place(),
        positions: arena.integers(sequences.map((sequence) => CONTEXTS[sequence]! - 1)),
        sequences: arena.integers(sequences),
      };
      const single = arena.matrix(rows, width);
      const output = (to: FloatMatrix) => ({ out: to.address, outStride: to.stride });
      const whole = { unitStart: 0, unitEnd: rows * shape.kvHeads, unitStep: 1 };
      kernels.attention({ ...args, ...output(single), ...whole });
      const together = arena.matrix(rows, width);
      const what = `${JSON.stringify(shape)}, rows ${sequences.slice(0, rows)}`;
      const unitEnd = Math.ceil(rows / 4) * shape.kvHeads;
      const run = () => {
        for (let unitStart = 0; unitStart < 3; unitStart++) {
          const units = { unitStart, unitEnd, unitStep: 3, rowBlocks: { rowCount: rows } };
          kernels.attention({ ...args, ...output(together), ...units });
        }
      };
      arena.expectOnly(run, [together.part(0, rows, 0, width)], what);
      expectSameMatrix(together, single, what);
    }
  }
}

/** Scores of ±10,000 by construction: the largest takes all, equals share. */
function attentionExtremes({ kernels, arena }: TestBed): void {
  for (const dtype of KV_DTYPES) {
    for (const order of ["falling", "rising"]) {
      arena.reset();
      const context = 40;
      const pool = new KvPool(arena, { dtype, kvHeads: 1, headDim: 8 }, 3);
      const scores = Array.from({ length: context }, (_, t) => t < 38 ? -1 : 1);
      if (order === "falling") scores.reverse();
      for (let t = 0; t < context; t++) {
        for (let d = 0; d < 8; d++) {
          pool.write([t >> 4, 0, t & 15, d], d === 0 ? scores[t]! : 0, d === 0 ? t : d);
        }
      }
      const out = arena.matrix(3, 8);
      const q = arena.matrix(3, 8).fill(0);
      [1e4, -1e4, 100].forEach((value, row) => q.set(row, 0, value));
      kernels.attention({
        q: q.address,
        qStride: q.stride,
        out: out.address,
        outStride: out.stride,
        heads: 1,
        scale: 1,
        window: 0,
        cache: pool.layer,
        positions: arena.integers([39, 39, 39]),
        sequences: arena.integers([0, 0, 0]),
        blockTables: arena.integers([0, 1, 2]),
        blockTableStride: 3,
        unitStart: 0,
        unitEnd: 3,
        unitStep: 1,
      });
      const what = `${dtype} ${order}`;
      // Tokens 0 to 39 carry their number: the mean of those that share the largest score.
      const [pair, rest] = order === "falling" ? [0.5, 20.5] : [38.5, 18.5];
      expectClose(out.get(0, 0), pair, 1e-5, what);
      expectClose(out.get(1, 0), rest, 1e-4, what);
      expectClose(out.get(2, 0), pair, 1e-5, what);
      for (let row = 0; row < 3; row++) {
        for (let d = 1; d < 8; d++) expectClose(out.get(row, d), d, 1e-5, what);
      }
    }
  }
}

function summaries({ kernels, arena, random }: TestBed): void {
  const { topCount, hasNaN, topLogits, topIds, chunkWords } = SUMMARY_PART;
  for (const width of [1, 3, 8, 20, 71, 72, 73, 250, 1023, 1024, 1025, 1030, 2500, 5000]) {
    for (const kind of ["spread", "ties", "rising", "hollow", "wild"]) {
      arena.reset();
      const rowCount = random.integer(1, 5);
      const x = arena.matrix(rowCount, width).fillRandom(20);
      for (let row = 0; row < rowCount; row++) {
        for (let id = 0; id < width; id++) {
          const value = x.get(row, id);
          if (kind === "ties") x.set(row, id, Math.round(value / 4));
          if (kind === "rising") x.set(row, id, id / 50);
          if (kind === "hollow" && id % 40 !== 0) x.set(row, id, -Infinity);
        }
        if (kind === "wild") x.set(row, random.integer(0, width), random.pick([NaN, Infinity]));
      }
      const chunkCount = Math.ceil(width / CHUNK_COLUMNS);
      const chunkStart = random.integer(0, chunkCount);
      const chunkEnd = random.integer(chunkStart, chunkCount + 1);
      const needs = Array.from({ length: rowCount }, () => {
        const scale = random.pick([0.5, Math.fround(1 / 0.7), 100]);
        return random.pick([0, 1, 2, drawNeed(scale, { logprobs: random.integer(0, 2) === 1 })]);
      });
      const out = arena.matrix(rowCount, summaryPartWords(width)).fill(-7);
      const args = {
        x: x.address,
        xStride: x.stride,
        width,
        rowCount,
        chunkStart,
        chunkEnd,
        needs: arena.integers(needs),
        out: out.address,
        outStride: out.stride,
      };
      const what = `width ${width} chunks ${chunkStart}-${chunkEnd} ${kind}`;
      arena.expectOnly(
        () => kernels.summarizeRows(args),
        [out.part(0, rowCount, 0, summaryPartWords(width))],
        what,
      );
      const view = new DataView(arena.memory.buffer);
      for (const [row, need] of needs.entries()) {
        const at = (word: number) => out.address + 4 * (row * out.stride + word);
        if (need === SUMMARY_NEED.nothing) {
          assertEquals(out.get(row, topCount), -7, what);
          continue;
        }
        const values = Float32Array.from({ length: width }, (_, id) => x.get(row, id));
        const start = chunkStart * CHUNK_COLUMNS;
        const end = Math.min(width, chunkEnd * CHUNK_COLUMNS);
        const ids = [...values.keys()].slice(start, Math.max(start, end));
        const expected = ids.filter((id) => values[id]! > -Infinity)
          .sort((a, b) => values[b]! < values[a]! ? -1 : values[b]! > values[a]! ? 1 : a - b)
          .slice(0, SUMMARY_TOP_COUNT);
        const count = view.getInt32(at(topCount), true);
        const found = Array.from({ length: count }, (_, i) => view.getInt32(at(topIds + i), true));
        assertEquals(found, expected, what);
        expected.forEach((id, i) => expectSame(out.get(row, topLogits + i), values[id]!, what));
        const nan = ids.some((id) => Number.isNaN(values[id]));
        assertEquals(view.getInt32(at(hasNaN), true), nan ? 1 : 0, what);
        if (kind === "wild") continue;
        const { isUnit, scale } = scalesOf(need);
        const expectSums = (first: number, scale: number | undefined) => {
          for (let chunk = chunkStart; chunk < chunkEnd; chunk++) {
            const word = first + chunk * chunkWords;
            if (scale === undefined) {
              assertEquals(out.get(row, word), -7, what);
              continue;
            }
            const from = chunk * CHUNK_COLUMNS;
            const to = Math.min(width, from + CHUNK_COLUMNS);
            const { max, sum } = chunkSum(values, from, to, scale);
            assertEquals(view.getFloat64(at(word), true), sum, what);
            assertEquals(out.get(row, word + 2), max, what);
          }
        };
        expectSums(SUMMARY_PART.unitSums, isUnit ? 1 : undefined);
        expectSums(SUMMARY_PART.scaledSums, scale === 1 ? undefined : scale);
      }
    }
  }
}

function emptyRanges({ kernels, arena }: TestBed): void {
  arena.reset();
  const weight = arena.weight("bf16", 16, 16).panels;
  const x = arena.matrix(4, 16).fillRandom();
  const y = arena.matrix(4, 16).fillRandom();
  const zeros = arena.integers([0, 0, 0, 0]);
  const pool = new KvPool(arena, { dtype: "bf16", kvHeads: 2, headDim: 8 }, 1);
  const cache = pool.layer;
  const common = { x: x.address, xStride: x.stride, out: y.address, outStride: y.stride };
  const noRows = { rowStart: 2, rowEnd: 2 };
  const noColumns = { rowCount: 4, columnStart: 8, columnEnd: 8 };
  const pair = { gate: x.address, gateStride: x.stride, up: y.address, upStride: y.stride };
  const sum = { x: x.address, xStride: x.stride, y: y.address, yStride: y.stride };
  const kv = { k: x.address, kStride: x.stride, v: y.address, vStride: y.stride };
  const row = { x: x.address, xStride: x.stride, width: 16, ...noRows };
  const attention = {
    ...common,
    q: x.address,
    qStride: x.stride,
    heads: 2,
    scale: 1,
    window: 0,
    cache,
    positions: zeros,
    sequences: zeros,
    blockTables: zeros,
    blockTableStride: 1,
    unitStep: 1,
  };
  const calls: readonly (() => void)[] = [
    () => kernels.matmul({ ...common, weight, rowCount: 0, panelStart: 0, panelEnd: 2 }),
    () => kernels.matmul({ ...common, weight, rowCount: 4, panelStart: 1, panelEnd: 1 }),
    () => kernels.embed({ ...common, ...noRows, weight, ids: zeros }),
    () => kernels.takeRows({ ...common, ...noRows, indices: zeros, width: 16 }),
    () =>
      kernels.rmsNorm({
        ...common,
        ...noRows,
        weight: y.address,
        epsilon: 1e-5,
        width: 16,
        groups: 1,
      }),
    () => kernels.addBias({ ...common, ...noColumns, bias: y.address }),
    () =>
      kernels.addBias({ ...common, rowCount: 0, columnStart: 0, columnEnd: 16, bias: y.address }),
    () => kernels.add({ ...sum, ...noColumns }),
    () => kernels.add({ ...sum, rowCount: 0, columnStart: 0, columnEnd: 16 }),
    () => kernels.layerNorm({ ...row, weight: y.address, bias: y.address, epsilon: 1e-5 }),
    () => kernels.gelu({ ...sum, ...noColumns }),
    () => kernels.gelu({ ...sum, rowCount: 0, columnStart: 0, columnEnd: 16 }),
    () => kernels.geluTanhMultiply({ ...pair, ...noColumns }),
    () => kernels.scale({ ...sum, ...noColumns, factor: 2 }),
    () => kernels.softcap({ ...sum, ...noColumns, cap: 2 }),
    () => kernels.siluMultiply({ ...pair, ...noColumns }),
    () => kernels.clampedSwiglu({ ...pair, ...noColumns, limit: 7 }),
    () =>
      kernels.sumExperts({
        expertCount: 2,
        choiceCount: 1,
        y: x.address,
        yStride: x.stride,
        routing: zeros,
        out: y.address,
        outStride: y.stride,
        ...noColumns,
        rowCount: 1,
      }),
    () => kernels.siluMultiply({ ...pair, rowCount: 0, columnStart: 0, columnEnd: 16 }),
    () =>
      kernels.rope({
        ...common,
        ...noRows,
        heads: 2,
        headDim: 8,
        rotaryDim: 8,
        positions: zeros,
        table: y.address,
      }),
    () => kernels.writeKv({ ...kv, ...noRows, slots: zeros, cache }),
    () => kernels.attention({ ...attention, unitStart: 2, unitEnd: 2 }),
    () => kernels.attention({ ...attention, unitStart: 5, unitEnd: 3 }),
  ];
  calls.forEach((call) => arena.expectOnly(call, [], `${call}`));
}

// ---------------------------------------------------------------- calls

function multiply(
  kernels: KernelTable,
  x: FloatMatrix,
  weight: PanelWeight,
  out: FloatMatrix,
  activations: ActivationType = "f32",
): void {
  kernels.matmul({
    activations,
    x: x.address,
    xStride: x.stride,
    rowCount: x.rows,
    weight,
    panelStart: 0,
    panelEnd: Math.ceil(weight.n / 8),
    out: out.address,
    outStride: out.stride,
  });
}

function silu(
  kernels: KernelTable,
  gate: FloatMatrix,
  up: FloatMatrix,
  columns: { readonly columnStart: number; readonly columnEnd: number },
): void {
  kernels.siluMultiply({
    gate: gate.address,
    gateStride: gate.stride,
    up: up.address,
    upStride: up.stride,
    rowCount: gate.rows,
    ...columns,
  });
}

// ---------------------------------------------------------------- attention scenes

interface AttentionShape {
  readonly dtype: KvDtype;
  readonly headDim: number;
  readonly group: number;
  readonly window: number;
  readonly kvHeads: number;
  /** How far queries reach from zero. Default 1. */
  readonly queryScale?: number;
  /** Default 0: none. */
  readonly softcap?: number;
  /** Default false. */
  readonly hasSinks?: boolean;
}

/** Sequences of all context lengths, some with one row and some with several, in shuffled rows. */
class AttentionScene {
  readonly rows: readonly { readonly sequence: number; readonly position: number }[];
  readonly #q: FloatMatrix;
  /** Of each sequence: [position][kvHeads · headDim], as they are after rounding to the KV dtype. */
  readonly #keys: readonly Float32Array[];
  readonly #values: readonly Float32Array[];
  readonly #scale: number;
  /** One a head; none where the shape has none. */
  readonly #sinks: readonly number[];

  constructor(
    private readonly arena: Arena,
    private readonly random: Random,
    private readonly shape: AttentionShape,
  ) {
    const width = shape.kvHeads * shape.headDim;
    const draw = (context: number) =>
      Float32Array.from(
        { length: context * width },
        () => roundKv(shape.dtype, random.float() * 2 - 1),
      );
    this.#keys = CONTEXTS.map(draw);
    this.#values = CONTEXTS.map(draw);
    this.#scale = shape.headDim ** -0.5;
    const heads = shape.hasSinks ? shape.kvHeads * shape.group : 0;
    this.#sinks = Array.from({ length: heads }, () => Math.fround(random.float() * 6 - 3));
    const rows = CONTEXTS.map((context, sequence) => ({ sequence, position: context - 1 }));
    for (const position of [0, 7, 15, 16, 31]) rows.push({ sequence: 4, position });
    this.rows = random.shuffle(rows);
    this.#q = arena.matrix(rows.length, shape.group * width).fillRandom(shape.queryScale ?? 1);
  }

  /** Puts the sequences into blocks of a new pool, chosen at random, with NaN wherever no row looks. */
  place(): Omit<AttentionArgs, "out" | "outStride" | "unitStart" | "unitEnd" | "unitStep"> {
    const { arena, random, shape } = this;
    const tables = CONTEXTS.map((context) => Math.ceil(context / KV_BLOCK));
    const used = tables.reduce((sum, count) => sum + count, 0);
    const pool = new KvPool(arena, shape, used + 4);
    const free = random.sample(used + 4, used + 4);
    const poison = free.pop()!;
    const blockTableStride = Math.max(...tables) + random.integer(0, 3);
    const blockTables = new Array<number>(CONTEXTS.length * blockTableStride).fill(poison);
    CONTEXTS.forEach((context, sequence) => {
      const firsts = this.rows.filter((row) => row.sequence === sequence)
        .map((row) => this.#first(row.position));
      for (let position = Math.min(...firsts); position < context; position++) {
        const at = sequence * blockTableStride + (position >> 4);
        if (blockTables[at] === poison) blockTables[at] = free.pop()!;
        for (let head = 0; head < shape.kvHeads; head++) {
          for (let d = 0; d < shape.headDim; d++) {
            const index = (position * shape.kvHeads + head) * shape.headDim + d;
            pool.write(
              [blockTables[at]!, head, position & 15, d],
              this.#keys[sequence]![index]!,
              this.#values[sequence]![index]!,
            );
          }
        }
      }
    });
    return {
      q: this.#q.address,
      qStride: this.#q.stride,
      heads: shape.kvHeads * shape.group,
      scale: this.#scale,
      window: shape.window,
      softcap: shape.softcap ?? 0,
      sinks: this.#sinks.length > 0 ? arena.floats(this.#sinks) : null,
      cache: pool.layer,
      positions: arena.integers(this.rows.map((row) => row.position)),
      sequences: arena.integers(this.rows.map((row) => row.sequence)),
      blockTables: arena.integers(blockTables),
      blockTableStride,
    };
  }

  /** One head's output in double precision, and how far float32 may be from it. */
  expected(row: number, head: number): { values: Float64Array; tolerances: Float64Array } {
    const { headDim, kvHeads, group } = this.shape;
    const { sequence, position } = this.rows[row]!;
    const index = (t: number, d: number) => (t * kvHeads + Math.floor(head / group)) * headDim + d;
    const scores: number[] = [];
    let reach = 0;
    const first = this.#first(position);
    for (let t = first; t <= position; t++) {
      let sum = 0;
      let size = 0;
      for (let d = 0; d < headDim; d++) {
        const product = this.#q.get(row, head * headDim + d) * this.#keys[sequence]![index(t, d)]!;
        sum += product;
        size += Math.abs(product);
      }
      const { softcap = 0 } = this.shape;
      const scaled = sum * this.#scale;
      scores.push(softcap === 0 ? scaled : softcap * Math.tanh(scaled / softcap));
      reach = Math.max(reach, size * this.#scale);
    }
    const sinks = this.#sinks.slice(head, head + 1);
    const largest = Math.max(...scores, ...sinks);
    const weightOf = (score: number) => Math.exp(score - largest);
    const weights = scores.map(weightOf);
    const total = [...weights, ...sinks.map(weightOf)].reduce((sum, weight) => sum + weight, 0);
    const values = new Float64Array(headDim);
    const sizes = new Float64Array(headDim);
    for (let d = 0; d < headDim; d++) {
      weights.forEach((weight, i) => {
        const product = weight / total * this.#values[sequence]![index(first + i, d)]!;
        values[d]! += product;
        sizes[d]! += Math.abs(product);
      });
    }
    // A score is off by a few units in the last place of its terms; the exponential turns that
    // into a relative error of the weight; beside a large sink weights are 0 in float32.
    return { values, tolerances: sizes.map((size) => (1e-6 + 2.4e-7 * reach) * size + 1e-37) };
  }

  #first(position: number): number {
    return this.shape.window === 0 ? 0 : Math.max(0, position - this.shape.window + 1);
  }
}

/** A layer's KV pool, written by the layout's description and not by the kernels' code. */
class KvPool {
  readonly layer: KvCacheLayer;
  readonly #keys: Float32Array | Uint16Array;
  readonly #values: Float32Array | Uint16Array;

  constructor(
    arena: Arena,
    shape: { readonly dtype: KvDtype; readonly kvHeads: number; readonly headDim: number },
    blocks: number,
  ) {
    const { dtype, kvHeads, headDim } = shape;
    const length = blocks * kvHeads * KV_BLOCK * headDim;
    const keys = arena.allocate(length * (dtype === "f32" ? 4 : 2));
    const values = arena.allocate(length * (dtype === "f32" ? 4 : 2));
    this.layer = { keys, values, dtype, kvHeads, headDim };
    const view = (address: number) =>
      dtype === "f32"
        ? new Float32Array(arena.memory.buffer, address, length)
        : new Uint16Array(arena.memory.buffer, address, length);
    this.#keys = view(keys);
    this.#values = view(values);
  }

  /** Element d of the key and of the value of one token. */
  write(
    [block, head, token, d]: [number, number, number, number],
    key: number,
    value: number,
  ): void {
    const { kvHeads, headDim } = this.layer;
    const base = (block * kvHeads + head) * KV_BLOCK * headDim;
    const run = base + ((token >> 3) * headDim + d) * 8;
    this.#keys[run + this.#place(token & 7)] = this.#stored(key);
    this.#values[base + token * headDim + (d & ~7) + this.#place(d & 7)] = this.#stored(value);
  }

  /** What a number is after it was stored. */
  rounded(value: number): number {
    return roundKv(this.layer.dtype, value);
  }

  parts(): Part[] {
    return [this.#keys, this.#values].map((view) => ({
      address: view.byteOffset,
      stride: 0,
      rows: 1,
      words: view.byteLength / 4,
    }));
  }

  /** Keys, then values. */
  bytes(): Uint8Array {
    return Uint8Array.from(
      [this.#keys, this.#values].flatMap((view) => [
        ...new Uint8Array(view.buffer, view.byteOffset, view.byteLength),
      ]),
    );
  }

  #place(i: number): number {
    return this.layer.dtype === "bf16" ? [0, 2, 4, 6, 1, 3, 5, 7][i]! : i;
  }

  #stored(value: number): number {
    return this.layer.dtype === "bf16" ? f32ToBf16(value) : value;
  }
}

function roundKv(dtype: KvDtype, value: number): number {
  return dtype === "bf16" ? bf16ToF32(f32ToBf16(value)) : Math.fround(value);
}

// ---------------------------------------------------------------- memory

/** Every half of it is a NaN as bfloat16 and as float16, and the whole is one as float32. */
const CANARY = 0xffc5ffc5;

/** `rows` runs of `words` 32-bit words, `stride` words apart. */
interface Part {
  readonly address: number;
  readonly stride: number;
  readonly rows: number;
  readonly words: number;
}

/** Memory for one case: tensors at random distances, and NaN canaries wherever there is none. */
class Arena {
  #top: number;

  constructor(
    readonly memory: WebAssembly.Memory,
    private readonly base: number,
    private readonly random: Random,
  ) {
    this.#top = memory.buffer.byteLength;
    this.reset();
  }

  reset(): void {
    new Uint32Array(this.memory.buffer, this.base, (this.#top - this.base) / 4).fill(CANARY);
    this.#top = this.base;
  }

  /** An address aligned to 16. */
  allocate(bytes: number): number {
    const address = this.#top + 16 * this.random.integer(1, 5);
    this.#top = address + Math.ceil(bytes / 16) * 16 + 64;
    assert(this.#top <= this.memory.buffer.byteLength, "A case is larger than the memory");
    return address;
  }

  matrix(
    rows: number,
    columns: number,
    stride: number = columns + this.random.pick([0, 0, 3, 4, 8]),
  ): FloatMatrix {
    const address = this.allocate(rows * stride * F32);
    return new FloatMatrix(this.memory.buffer, { address, rows, columns, stride }, this.random);
  }

  integers(values: readonly number[]): number {
    const address = this.allocate(values.length * 4);
    new Int32Array(this.memory.buffer, address, values.length).set(values);
    return address;
  }

  floats(values: readonly number[]): number {
    const address = this.allocate(values.length * 4);
    new Float32Array(this.memory.buffer, address, values.length).set(values);
    return address;
  }

  weight(format: WeightFormat, n: number, k: number, scale = 1): TestWeight {
    return this.weightFrom(format, n, k, randomRows(format, n, k, this.random, scale));
  }

  weightFrom(format: WeightFormat, n: number, k: number, source: Uint8Array): TestWeight {
    const address = this.allocate(weightBytes(format, n, k));
    const rowBytes = sourceRowBytes(format, k);
    const size = panelBytes(format, k);
    for (let row = 0; row < n; row += 8) {
      const rowCount = Math.min(8, n - row);
      const rows = source.subarray(row * rowBytes, (row + rowCount) * rowBytes);
      const target = new Uint8Array(this.memory.buffer, address + row / 8 * size, size);
      packPanel(format, k, rows, rowCount, target);
    }
    const values = Array.from(
      { length: n },
      (_, row) => decodeRow(format, k, source.subarray(row * rowBytes, (row + 1) * rowBytes)),
    );
    return {
      panels: { address, format, n, k },
      value: (column, i) => column < n ? values[column]![i]! : 0,
      block: (column, block) =>
        sourceBlock(format as QuantizedFormat, source.subarray(column * rowBytes), block),
    };
  }

  /** Runs something and fails if it wrote anywhere else than in the named parts. */
  expectOnly(run: () => void, parts: readonly Part[], what: string): void {
    const words = new Uint32Array(this.memory.buffer, this.base, (this.#top - this.base) / 4);
    const before = words.slice();
    run();
    const after = words.slice();
    for (const part of parts) {
      for (let row = 0; row < part.rows; row++) {
        const start = (part.address - this.base) / 4 + row * part.stride;
        after.set(before.subarray(start, start + part.words), start);
      }
    }
    for (let i = 0; i < before.length; i++) {
      if (before[i] !== after[i]) {
        throw new Error(`${what}: wrote outside its output, at byte ${this.base + 4 * i}`);
      }
    }
  }
}

/** Where a test weight is, and what its checkpoint says. */
interface TestWeight {
  readonly panels: PanelWeight;
  /** Padding columns are zero. */
  value(column: number, i: number): number;
  /** Of a quantised weight: a block of a column that is no padding. */
  block(column: number, block: number): SourceBlock;
}

/** A block as GGUF stores it: each value is d · code, plus m if there is one. */
interface SourceBlock {
  readonly d: number;
  readonly m: number | undefined;
  readonly codes: readonly number[];
}

function sourceBlock(format: QuantizedFormat, row: Uint8Array, block: number): SourceBlock {
  const halfAt = (at: number) => new Float16Array(row.slice(at, at + 2).buffer)[0]!;
  if (format === "q8_0") {
    const start = 34 * block;
    const codes = [...new Int8Array(row.slice(start + 2, start + 34).buffer)];
    return { d: halfAt(start), m: undefined, codes };
  }
  const header = format === "q4_0" ? 2 : 4;
  const start = (header + 16) * block;
  const bytes = [...row.subarray(start + header, start + header + 16)];
  const nibbles = [...bytes.map((byte) => byte & 15), ...bytes.map((byte) => byte >> 4)];
  return format === "q4_0"
    ? { d: halfAt(start), m: undefined, codes: nibbles.map((nibble) => nibble - 8) }
    : { d: halfAt(start), m: halfAt(start + 2), codes: nibbles };
}

/** A float32 matrix in the arena. */
class FloatMatrix {
  readonly address: number;
  readonly rows: number;
  readonly columns: number;
  readonly stride: number;
  readonly #data: Float32Array;

  constructor(
    private readonly buffer: ArrayBufferLike,
    shape: {
      readonly address: number;
      readonly rows: number;
      readonly columns: number;
      readonly stride: number;
    },
    private readonly random: Random,
  ) {
    this.address = shape.address;
    this.rows = shape.rows;
    this.columns = shape.columns;
    this.stride = shape.stride;
    this.#data = new Float32Array(buffer, shape.address, shape.rows * shape.stride);
  }

  get(row: number, column: number): number {
    return this.#data[row * this.stride + column]!;
  }

  set(row: number, column: number, value: number): void {
    this.#data[row * this.stride + column] = value;
  }

  fill(value: number): this {
    return this.#each(() => value);
  }

  /** Uniform in ±scale. */
  fillRandom(scale = 1): this {
    return this.#each(() => (this.random.float() * 2 - 1) * scale);
  }

  #each(value: () => number): this {
    for (let row = 0; row < this.rows; row++) {
      for (let column = 0; column < this.columns; column++) this.set(row, column, value());
    }
    return this;
  }

  copy(): number[][] {
    return Array.from(
      { length: this.rows },
      (_, row) => Array.from({ length: this.columns }, (_, column) => this.get(row, column)),
    );
  }

  /** One row as a matrix of its own. */
  row(row: number): FloatMatrix {
    const address = this.address + row * this.stride * F32;
    const shape = { address, rows: 1, columns: this.columns, stride: this.stride };
    return new FloatMatrix(this.buffer, shape, this.random);
  }

  part(rowStart: number, rowEnd: number, columnStart: number, columnEnd: number): Part {
    return {
      address: this.address + (rowStart * this.stride + columnStart) * F32,
      stride: this.stride,
      rows: rowEnd - rowStart,
      words: columnEnd - columnStart,
    };
  }
}

// ---------------------------------------------------------------- comparing

function expectClose(actual: number, expected: number, tolerance: number, what: string): void {
  // Written so that NaN fails.
  if (!(Math.abs(actual - expected) <= tolerance)) {
    throw new Error(`${what}: ${actual} is not within ${tolerance} of ${expected}`);
  }
}

function expectSame(actual: number, expected: number, what: string): void {
  if (!Object.is(actual, expected)) throw new Error(`${what}: ${actual} is not ${expected}`);
}

function expectSameBytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
  const at = expected.findIndex((byte, i) => byte !== actual[i]);
  assert(at < 0, `${what}: byte ${at} is ${actual[at]}, not ${expected[at]}`);
}

function expectSameMatrix(actual: FloatMatrix, expected: FloatMatrix, what: string): void {
  for (let row = 0; row < expected.rows; row++) {
    for (let column = 0; column < expected.columns; column++) {
      const place = `${what} at ${row}, ${column}`;
      assert(!Number.isNaN(expected.get(row, column)), `${place}: nothing was written`);
      expectSame(actual.get(row, column), expected.get(row, column), place);
    }
  }
}

// ---------------------------------------------------------------- chance

/** The environment's RNGD_TEST_SEED, to repeat a failure, or the time. */
export function randomSeed(): number {
  return Number(Deno.env.get("RNGD_TEST_SEED") ?? Date.now() % 2 ** 31);
}

/** A small seeded generator (mulberry32); as a string it is its seed, for messages. */
export class Random {
  #state: number;

  constructor(readonly seed: number) {
    this.#state = seed | 0;
  }

  /** In [0, 1). */
  float(): number {
    this.#state = this.#state + 0x6d2b79f5 | 0;
    let mixed = Math.imul(this.#state ^ this.#state >>> 15, 1 | this.#state);
    mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed;
    return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32;
  }

  /** In [low, high). */
  integer(low: number, high: number): number {
    return low + Math.floor(this.float() * (high - low));
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.integer(0, choices.length)]!;
  }

  shuffle<T>(items: readonly T[]): T[] {
    const shuffled = [...items];
    for (let i = shuffled.length - 1; i > 0; i--) {
      const other = this.integer(0, i + 1);
      [shuffled[i], shuffled[other]] = [shuffled[other]!, shuffled[i]!];
    }
    return shuffled;
  }

  /** `count` different numbers below `limit`. */
  sample(limit: number, count: number): number[] {
    return this.shuffle(Array.from({ length: limit }, (_, i) => i)).slice(0, count);
  }

  toString(): string {
    return `RNGD_TEST_SEED=${this.seed}`;
  }
}

/** Checkpoint rows in a format: values around ±scale, quantised blocks with scales to match. */
export function randomRows(
  format: WeightFormat,
  rows: number,
  k: number,
  random: Random,
  scale = 1,
): Uint8Array {
  const bytes = new Uint8Array(rows * sourceRowBytes(format, k));
  const view = new DataView(bytes.buffer);
  const draw = () => (random.float() * 2 - 1) * scale;
  const blockBytes = sourceRowBytes(format, Math.max(8, blockElements(format))) /
    (blockElements(format) === 1 ? 8 : 1);
  for (let at = 0; at < bytes.length; at += blockBytes) {
    if (format === "f32") {
      view.setFloat32(at, draw(), true);
    } else if (format === "bf16") {
      view.setUint16(at, f32ToBf16(draw()), true);
    } else if (format === "f16") {
      view.setUint16(at, f32ToF16(draw()), true);
    } else if (isGrouped(format)) {
      const { values, bits } = GROUPED[format];
      const header = headerWords(GROUPED[format]);
      for (let i = 4 * header; i < blockBytes; i++) {
        const code = random.integer(0, 256);
        bytes[at + i] = bits === 4 || Number.isFinite(values[code]) ? code : 0;
      }
      const largest = values.reduce((most, value) => value > most ? value : most, 0);
      for (let i = 0; i < header; i++) {
        view.setFloat32(at + 4 * i, draw() / largest * random.pick([1, 1, 1, 1e-35]), true);
      }
    } else {
      for (let i = 2; i < blockBytes; i++) bytes[at + i] = random.integer(0, 256);
      const step = format === "q8_0" ? 1 / 127 : 1 / 8;
      // Now and then a scale so small that float16 stores it as a subnormal number.
      view.setUint16(at, f32ToF16(draw() * step * random.pick([1, 1, 1, 1e-5])), true);
      if (format === "q4_1") view.setUint16(at + 2, f32ToF16(draw()), true);
    }
  }
  return bytes;
}

function randomK(random: Random): number {
  return random.pick([32, 64, 96, 160, 256]);
}

/** A range of rows that is not empty. */
function randomRange(random: Random, rows: number): [number, number] {
  const start = random.integer(0, rows);
  return [start, random.integer(start + 1, rows + 1)];
}

/** A range of columns that starts at a multiple of 8 and ends at one, or at the width. */
function randomColumns(random: Random): {
  rowCount: number;
  width: number;
  columnStart: number;
  columnEnd: number;
} {
  const width = random.integer(1, 100);
  const columnStart = 8 * random.integer(0, Math.ceil(width / 8));
  const columnEnd = Math.min(width, columnStart + 8 * random.integer(1, 13));
  return { rowCount: random.integer(1, 7), width, columnStart, columnEnd };
}
