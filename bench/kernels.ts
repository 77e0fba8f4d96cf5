/**
 * How fast the SIMD kernels are, as shares of what this machine's memory and multipliers give.
 *
 *     deno run -A bench/kernels.ts [gemv] [gemm] [attention] [--activations=i8]
 *
 * With integer activations, only the quantised formats are measured.
 *
 * Other tenants of a shared machine slow a core down by up to two times within milliseconds, so a
 * sample counts only if a calibration loop before and after it ran at nearly its best speed ever.
 * The read loop and the peak loop run in between the samples of the kernels. Only the ratios mean
 * something from one run to the next.
 */

import {
  doWhile,
  type Expr,
  increment,
  type Local,
  ModuleBuilder,
  result,
  set,
} from "../lib/device/simd/assembler.ts";
import { f32x4, i32, i32x4, v128 } from "../lib/device/simd/instructions.ts";
import { createSimdKernels, simdScratchBytes } from "../lib/device/simd/simd.ts";
import { checkFusedMultiplyAdd } from "../lib/device/simd/self_check.ts";
import {
  isQuantized,
  packPanel,
  panelBytes,
  sourceRowBytes,
  weightBytes,
  type WeightFormat,
} from "../lib/device/block_formats.ts";
import { f32ToBf16, f32ToF16 } from "../lib/device/dtype.ts";
import type { KernelTable, PanelWeight } from "../lib/device/kernel_table.ts";

const activations = readActivations();
const named = Deno.args.filter((arg) => !arg.startsWith("--"));
const wanted = named.length === 0 ? ["gemv", "gemm", "attention"] : named;

const MEBIBYTE = 1 << 20;
const ALL_FORMATS: readonly WeightFormat[] = ["f32", "bf16", "f16", "q8_0", "q4_0", "q4_1"];
const FORMATS = activations === "f32" ? ALL_FORMATS : ALL_FORMATS.filter(isQuantized);
const SCRATCH_BYTES = simdScratchBytes({ kMax: 1536, headDimMax: 128, headGroupMax: 8 });

/** Where things are: small operands low, weights from `WEIGHTS` on, larger than the caches. */
const SCRATCH = 0;
const X = 4 * MEBIBYTE;
const OUT = 8 * MEBIBYTE;
const TABLES = 16 * MEBIBYTE;
const KV = 18 * MEBIBYTE;
const WEIGHTS = 32 * MEBIBYTE;
const MEMORY_BYTES = 224 * MEBIBYTE;

const memory = new WebAssembly.Memory({
  initial: MEMORY_BYTES / 65536,
  maximum: 65536,
  shared: true,
});

function readActivations(): "f32" | "i16" | "i8" {
  const flag = Deno.args.find((arg) => arg.startsWith("--activations="))?.split("=")[1] ?? "f32";
  const known = (["f32", "i16", "i8"] as const).find((type) => type === flag);
  if (known !== undefined) return known;
  console.error(`Cannot use --activations=${flag}: it must be f32, i16 or i8`);
  Deno.exit(2);
}

// ---------------------------------------------------------------- loops to compare with

/** Keeps the whole front end busy, not only the multipliers: that is what a busy sibling takes. */
const calibration = defineLoop((sums, x, y, integers) =>
  sums.map((sum, i) => [
    set(sum, f32x4.relaxedMadd(x, y, sum)),
    increment(integers[i % 4]!, 3 * i + 1),
    i < 10 ? increment(integers[(i + 1) % 4]!, 5 * i + 1) : [],
  ])
);

/** Two multiply-adds a cycle, nothing else: 12 independent chains. */
const peak = defineLoop((sums, x, y) => sums.map((sum) => set(sum, f32x4.relaxedMadd(x, y, sum))));
const PEAK_FLOPS = 12 * 4 * 2;

function defineLoop(
  body: (
    sums: Local<"v128">[],
    x: Local<"v128">,
    y: Local<"v128">,
    integers: Local<"i32">[],
  ) => Parameters<typeof doWhile>[1][],
): (iterations: number) => number {
  const module = new ModuleBuilder();
  const loop = module.define("loop", ["i32"], "f32", (scope, iterations) => {
    const sums = scope.locals("v128", 12);
    const [x, y] = scope.locals("v128", 2) as [Local<"v128">, Local<"v128">];
    const integers = scope.locals("i32", 4);
    const total = integers.reduce<Expr<"i32">>((sum, local) => i32.add(sum, local), i32.const(0));
    const sum = sums.reduce<Expr<"v128">>((a, b) => f32x4.add(a, b), i32x4.splat(total));
    return [
      set(x, v128.constF32(0.999)),
      set(y, v128.constF32(0.001)),
      doWhile(iterations, body(sums, x, y, integers), increment(iterations, -1)),
      result(f32x4.extractLane(sum, 0)),
    ];
  });
  return module.link(memory).get(loop);
}

/** Reads [start, end), a multiple of 256 bytes. */
const read = (() => {
  const module = new ModuleBuilder();
  const loop = module.define("read", ["i32", "i32"], "i32", (scope, start, end) => {
    const bits = scope.locals("v128", 8);
    const all = bits.reduce<Expr<"v128">>((a, b) => v128.or(a, b), v128.zero);
    return [
      doWhile(
        i32.ne(start, end),
        Array.from({ length: 16 }, (_, i) => {
          const local = bits[i % 8]!;
          return set(local, v128.or(local, v128.load(start, 16 * i)));
        }),
        increment(start, 256),
      ),
      result(i32x4.extractLane(all, 0)),
    ];
  });
  return module.link(memory).get(loop);
})();

// ---------------------------------------------------------------- quiet samples

const CALIBRATION_ITERATIONS = 3000;
const TOLERANCE = 1.08;
let best = Infinity;

function calibrate(): number {
  const start = performance.now();
  calibration(CALIBRATION_ITERATIONS);
  const elapsed = performance.now() - start;
  best = Math.min(best, elapsed);
  return elapsed;
}

/** The median time in ms of each function's quiet samples, taken in turns. */
function measure(functions: readonly (() => void)[], wanted = 25, limitMs = 4000): number[] {
  const samples = functions.map(() => [] as number[]);
  const noisy = functions.map(() => [] as number[]);
  const start = performance.now();
  while (
    samples.some((times) => times.length < wanted) && performance.now() - start < limitMs
  ) {
    functions.forEach((run, i) => {
      const before = Math.min(calibrate(), calibrate());
      const begin = performance.now();
      run();
      const elapsed = performance.now() - begin;
      const after = Math.min(calibrate(), calibrate());
      const quiet = Math.max(before, after) < best * TOLERANCE;
      (quiet ? samples : noisy)[i]!.push(elapsed);
    });
  }
  return samples.map((times, i) => {
    const used = times.length >= 5 ? times : [...times, ...noisy[i]!];
    return used.sort((a, b) => a - b)[used.length >> 1]!;
  });
}

/** Runs functions until the optimising compiler is through with them. */
async function warmUp(functions: readonly (() => void)[]): Promise<void> {
  for (let round = 0; round < 3; round++) {
    const start = performance.now();
    while (performance.now() - start < 60) functions.forEach((run) => run());
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}

// ---------------------------------------------------------------- operands

/** As many copies of a weight as fit one after another; the first is at {@linkcode WEIGHTS}. */
function fillWeights(format: WeightFormat, n: number, k: number): PanelWeight[] {
  const bytes = weightBytes(format, n, k);
  const panel = panelBytes(format, k);
  for (let at = WEIGHTS; at < WEIGHTS + bytes; at += panel) {
    const target = new Uint8Array(memory.buffer, at, panel);
    packPanel(format, k, randomRows(format, 8, k), 8, target);
  }
  const all = new Uint8Array(memory.buffer);
  const count = Math.floor((MEMORY_BYTES - WEIGHTS) / bytes);
  for (let copy = 1; copy < count; copy++) {
    all.copyWithin(WEIGHTS + copy * bytes, WEIGHTS, WEIGHTS + bytes);
  }
  return Array.from(
    { length: count },
    (_, copy) => ({ address: WEIGHTS + copy * bytes, format, n, k }),
  );
}

/** Numbers as weights have them: around ±0.02, and scales to match. */
function randomRows(format: WeightFormat, rows: number, k: number): Uint8Array {
  const bytes = new Uint8Array(rows * sourceRowBytes(format, k));
  const view = new DataView(bytes.buffer);
  const draw = () => (Math.random() + Math.random() - 1) * 0.04;
  const blockBytes = format === "q8_0" ? 34 : format === "q4_0" ? 18 : 20;
  if (format === "f32") {
    for (let at = 0; at < bytes.length; at += 4) view.setFloat32(at, draw(), true);
  } else if (format === "bf16" || format === "f16") {
    const store = format === "bf16" ? f32ToBf16 : f32ToF16;
    for (let at = 0; at < bytes.length; at += 2) view.setUint16(at, store(draw()), true);
  } else {
    crypto.getRandomValues(bytes.subarray(0, Math.min(bytes.length, 65536)));
    for (let at = 0; at < bytes.length; at += blockBytes) {
      view.setUint16(at, f32ToF16(0.003 * (1 + Math.random())), true);
      if (format === "q4_1") view.setUint16(at + 2, f32ToF16(-0.03 * Math.random()), true);
    }
  }
  return bytes;
}

function fillFloats(address: number, count: number): void {
  const floats = new Float32Array(memory.buffer, address, count);
  for (let i = 0; i < count; i++) floats[i] = Math.random() * 2 - 1;
}

function multiply(
  kernels: KernelTable,
  weight: PanelWeight,
  rowCount: number,
  panelEnd = Math.ceil(weight.n / 8),
): void {
  kernels.matmul({
    activations,
    x: X,
    xStride: weight.k,
    rowCount,
    weight,
    panelStart: 0,
    panelEnd,
    out: OUT,
    outStride: weight.n,
  });
}

// ---------------------------------------------------------------- reports

const percent = (share: number): string => `${(100 * share).toFixed(0).padStart(4)} %`;
const fixed = (value: number): string => value.toFixed(1).padStart(6);

/** GEMV against a read loop over the same bytes: panels that stay in the cache, and from memory. */
async function reportGemv(kernels: KernelTable): Promise<void> {
  const n = 1536;
  console.log(`GEMV, one thread: GB/s of weights, share of a read loop, GF/s, share of peak`);
  for (const format of FORMATS) {
    for (const k of [576, 1536]) {
      const copies = fillWeights(format, n, k);
      let next = 0;
      const cold = () => copies[next = (next + 1) % copies.length]!;
      // A quarter of a mebibyte: beyond the first-level cache, inside the second.
      const cachedPanels = Math.floor(256 * 1024 / panelBytes(format, k));
      const cachedBytes = cachedPanels * panelBytes(format, k) & ~255;
      const coldBytes = weightBytes(format, n, k) & ~255;
      const runs = [
        () => void read(WEIGHTS, WEIGHTS + cachedBytes),
        () => multiply(kernels, copies[0]!, 1, cachedPanels),
        () => {
          const { address } = cold();
          read(address, address + coldBytes);
        },
        () => multiply(kernels, cold(), 1),
        () => void peak(2000),
      ];
      await warmUp(runs);
      const [readL2, gemvL2, readCold, gemvCold, peakMs] = measure(runs) as [
        number,
        number,
        number,
        number,
        number,
      ];
      const cachedRate = cachedPanels * panelBytes(format, k) / gemvL2 / 1e6;
      const coldRate = weightBytes(format, n, k) / gemvCold / 1e6;
      const flops = 2 * 8 * cachedPanels * k / gemvL2;
      console.log(
        `  ${format.padEnd(5)} k ${String(k).padStart(4)}   cache ${fixed(cachedRate)} ` +
          `${percent(cachedRate / (cachedBytes / readL2 / 1e6))} ${fixed(flops / 1e6)} GF ` +
          `${percent(flops / (2000 * PEAK_FLOPS / peakMs))}` +
          `   memory ${fixed(coldRate)} ${percent(coldRate / (coldBytes / readCold / 1e6))}`,
      );
    }
  }
}

/** GEMM against a loop of nothing but multiply-adds; weights stay in the cache. */
async function reportGemm(kernels: KernelTable): Promise<void> {
  console.log(`GEMM, one thread: GF/s and share of the peak loop`);
  for (const format of FORMATS) {
    for (const k of [576, 1536]) {
      const [weight] = fillWeights(format, 128, k) as [PanelWeight];
      const rows = [2, 3, 4, 5, 8, 20, 64];
      const runs = [
        () => void peak(2000),
        ...rows.map((rowCount) => () => multiply(kernels, weight, rowCount)),
      ];
      await warmUp(runs);
      const [peakMs, ...times] = measure(runs) as [number, ...number[]];
      const peakRate = 2000 * PEAK_FLOPS / peakMs;
      const cells = rows.map((rowCount, i) => {
        const rate = 2 * rowCount * 128 * k / times[i]!;
        return `m ${rowCount}: ${fixed(rate / 1e6)} ${percent(rate / peakRate)}`;
      });
      console.log(`  ${format.padEnd(5)} k ${String(k).padStart(4)}   ${cells.join("   ")}`);
    }
  }
}

/** Attention of one layer: 64-wide heads, nine and three (SmolLM2-135M), and one for one. */
async function reportAttention(kernels: KernelTable): Promise<void> {
  console.log(`Attention, one thread: µs a layer, GF/s and share of the peak loop`);
  const headDim = 64;
  for (const [heads, kvHeads] of [[9, 3], [14, 2], [32, 32]] as const) {
    for (const [dtype, context, rowCount] of ATTENTION_CASES) {
      const blocks = context / 16;
      const elementBytes = dtype === "bf16" ? 2 : 4;
      const poolBytes = blocks * kvHeads * 16 * headDim * elementBytes;
      fillFloats(X, rowCount * heads * headDim);
      const pool = new Uint32Array(memory.buffer, KV, 2 * poolBytes / 4);
      for (let i = 0; i < pool.length; i++) {
        const value = Math.random() * 0.5;
        pool[i] = dtype === "bf16"
          ? f32ToBf16(value) * 65537
          : new Uint32Array(Float32Array.of(value).buffer)[0]!;
      }
      const tables = new Int32Array(memory.buffer, TABLES, 2 * rowCount + blocks);
      for (let row = 0; row < rowCount; row++) tables[row] = context - rowCount + row;
      tables.fill(0, rowCount, 2 * rowCount);
      for (let block = 0; block < blocks; block++) tables[2 * rowCount + block] = block;
      const args = {
        q: X,
        qStride: heads * headDim,
        out: OUT,
        outStride: heads * headDim,
        heads,
        scale: 0.125,
        window: 0,
        cache: { keys: KV, values: KV + poolBytes, dtype, kvHeads, headDim },
        positions: TABLES,
        sequences: TABLES + 4 * rowCount,
        blockTables: TABLES + 8 * rowCount,
        blockTableStride: blocks,
        unitStart: 0,
        unitEnd: rowCount * kvHeads,
        unitStep: 1,
      };
      const runs = [() => void peak(2000), () => kernels.attention(args)];
      await warmUp(runs);
      const [peakMs, ms] = measure(runs, 15, 1500) as [number, number];
      const keys = Array.from(
        { length: rowCount },
        (_, row) => context - rowCount + row + 1,
      ).reduce((sum, count) => sum + count, 0);
      const rate = 4 * keys * heads * headDim / ms;
      console.log(
        `  ${heads}/${kvHeads} heads ${dtype} rows ${rowCount} context ${context}: ` +
          `${(1000 * ms).toFixed(0)} µs, ${fixed(rate / 1e6)} GF ` +
          percent(rate / (2000 * PEAK_FLOPS / peakMs)),
      );
    }
  }
}

const ATTENTION_CASES = [["bf16", 32, 1], ["bf16", 512, 1], ["f32", 512, 1], [
  "bf16",
  512,
  16,
]] as const;

const kernels = createSimdKernels(memory, { address: SCRATCH, sizeBytes: SCRATCH_BYTES });
console.log(`multiply-add is ${checkFusedMultiplyAdd() ? "fused" : "not fused"}`);
fillFloats(X, 64 * 1536);
await warmUp([() => void calibrate(), () => void peak(2000)]);
if (wanted.includes("gemv")) await reportGemv(kernels);
if (wanted.includes("gemm")) await reportGemm(kernels);
if (wanted.includes("attention")) await reportAttention(kernels);
