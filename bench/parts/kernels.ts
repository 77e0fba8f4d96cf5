/**
 * Kernels beside loops of the same run that do nothing but multiply or read: products of many rows,
 * of few, of one, attention; two workers beside one; onnxruntime beside ours.
 */

import type { ActivationType } from "../../lib/device/activations.ts";
import { isQuantized, panelBytes, type WeightFormat } from "../../lib/device/block_formats.ts";
import { checkFusedMultiplyAdd } from "../../lib/device/simd/self_check.ts";
import type { Job, Run } from "../kernels/job.ts";
import { PEAK_FLOPS } from "../kernels/loops.ts";
import { KernelMemory, KernelPool } from "../kernels/pool.ts";
import type { Timing } from "../kernels/quiet.ts";
import { median, rounded } from "../report/figures.ts";
import { memoryMode } from "../report/goals.ts";
import type { Finding, PartFindings } from "../report/results.ts";
import { measureOnnx } from "./onnx.ts";
import type { PartOptions, Share } from "./part.ts";

interface Shape {
  readonly k: number;
  readonly n: number;
}

const SHAPES: readonly Shape[] = [{ k: 576, n: 3072 }, { k: 1536, n: 576 }];
const shapeName = ({ k, n }: Shape) => `${k}×${n}`;

const MANY_ROWS = [20, 64] as const;
const FEW_ROWS = [2, 3, 4, 5, 8, 16] as const;
const GOAL_ROWS = [4, 5, 8, 16] as const;

/** Two threads are what the goals are about, on machines of more cores too. */
const THREADS = 2;

const SAMPLING = { wanted: 25, limitMs: 4000 } as const;

/** Everything about kernels. */
export async function measureKernels({ say }: PartOptions): Promise<PartFindings> {
  const memory = new KernelMemory();
  const parts: Share[] = [];
  {
    using one = await KernelPool.start(memory, 1);
    parts.push(await manyRows(one, say), await fewRows(one, say), await attention(one, say));
  }
  {
    using two = await KernelPool.start(memory, THREADS);
    parts.push(await oneRow(two, say), await twoOverOne(two, say));
  }
  parts.push(await measureOnnx(say));
  return {
    findings: parts.flatMap(({ findings }) => findings),
    tables: parts.flatMap(({ tables }) => tables),
    charts: [],
    facts: {
      "relaxed multiply-add": checkFusedMultiplyAdd() ? "fused" : "not fused",
      ...Object.assign({}, ...parts.map(({ facts }) => facts ?? {})),
    },
  };
}

const multiply = (rowCount: number, workers = 1, activations: ActivationType = "f32"): Run => ({
  kind: "multiply",
  rowCount,
  workers,
  activations,
});

/** Operations of a product with so many rows. */
function flops({ callPanels, calls, weight: { k } }: Job, rowCount: number): number {
  return 2 * rowCount * 8 * callPanels * calls * k;
}

/** Times products of so many rows, and gives the share of the multiply-add loop that each reaches. */
async function sharesOfPeak(
  pool: KernelPool,
  job: Omit<Job, "runs">,
  rowCounts: readonly number[],
): Promise<{ readonly shares: readonly number[]; readonly timings: readonly Timing[] }> {
  const whole = { ...job, runs: [] };
  const iterations = Math.round(flops(whole, Math.min(...rowCounts)) / PEAK_FLOPS);
  const runs: Run[] = [{ kind: "peak", iterations }, ...rowCounts.map((count) => multiply(count))];
  const [peak, ...timings] = await pool.time({ ...job, runs }) as [Timing, ...Timing[]];
  const rate = iterations * PEAK_FLOPS / peak.ms;
  const shares = timings.map(({ ms }, i) => rounded(flops(whole, rowCounts[i]!) / ms / rate));
  return { shares, timings };
}

/** Calls of about so many bytes of weights; all panels of a weight, or an even part of them. */
function jobOf(
  { k, n }: Shape,
  format: WeightFormat,
  { bytes, parts = 1, isResident = false }: {
    readonly bytes: number;
    readonly parts?: number;
    readonly isResident?: boolean;
  },
): Omit<Job, "runs"> {
  const callPanels = n / 8 / parts;
  const calls = Math.max(1, Math.round(bytes / (callPanels * panelBytes(format, k))));
  return { weight: { format, n, k }, isResident, callPanels, calls, ...SAMPLING };
}

/** Products of 20 rows and more are bound by multiplications. */
async function manyRows(pool: KernelPool, say: (text: string) => void): Promise<Share> {
  const findings: Finding[] = [];
  const rows: (string | number)[][] = [];
  for (const format of ["bf16", "f16", "f32", "q8_0", "q4_0", "q4_1"] as const) {
    for (const shape of SHAPES) {
      // A third of the panels a call, or a sample would be too long to be left in peace.
      const job = jobOf(shape, format, { bytes: 0, parts: 3, isResident: true });
      const { shares, timings } = await sharesOfPeak(pool, job, MANY_ROWS);
      say(`GEMM ${format} ${shapeName(shape)}: ${shares.join(", ")} (${quietness(timings)})`);
      rows.push([format, shapeName(shape), ...shares]);
      if (format === "bf16" || format === "f16" || format === "f32") {
        const goal = `GEMM ${format}, ${shapeName(shape)}`;
        findings.push({ goal, value: Math.min(...shares) });
      }
    }
  }
  const table = {
    title: "Products of many rows",
    text:
      "One thread, one weight over and over: share of a loop of nothing but 128-bit multiply-adds. " +
      "The goals take the lower of the two.",
    columns: ["weights", "k×n", ...MANY_ROWS.map((m) => `m = ${m}`)],
    rows,
  };
  return { findings, tables: [table] };
}

function quietness(timings: readonly Timing[]): string {
  const quiet = timings.map(({ quietCount, count }) => `${quietCount}/${count}`);
  return `quiet samples ${quiet.join(" ")}`;
}

/** Few rows share one stream of weights. */
async function fewRows(pool: KernelPool, say: (text: string) => void): Promise<Share> {
  const byShape: (readonly number[])[] = [];
  for (const shape of SHAPES) {
    const job = jobOf(shape, "bf16", { bytes: 0 });
    const { shares, timings } = await sharesOfPeak(pool, job, FEW_ROWS);
    say(`small batches ${shapeName(shape)}: ${shares.join(", ")} (${quietness(timings)})`);
    byShape.push(shares);
  }
  const findings = GOAL_ROWS.map((m): Finding => {
    const column = FEW_ROWS.indexOf(m);
    const value = Math.min(...byShape.map((shares) => shares[column] as number));
    return { goal: `small batch, m = ${m}`, value };
  });
  const table = {
    title: "Products of few rows",
    text: "bf16 weights from memory, one thread: share of the multiply-add loop. The goals take " +
      "the lower of the two shapes.",
    columns: ["k×n", ...FEW_ROWS.map((m) => `m = ${m}`)],
    rows: SHAPES.map((shape, i) => [shapeName(shape), ...byShape[i] as number[]]),
  };
  return { findings, tables: [table] };
}

/** Formats of one row, and the goal that each has. */
const ONE_ROW = [
  { format: "f32", goal: undefined },
  { format: "bf16", goal: "GEMV bf16" },
  { format: "f16", goal: "GEMV f16" },
  { format: "q8_0", goal: "GEMV int8" },
  { format: "q4_0", goal: "GEMV 4-bit" },
  { format: "q4_1", goal: undefined },
] as const;
const ONE_ROW_SHAPES: readonly Shape[] = [{ k: 576, n: 1536 }, { k: 1536, n: 576 }];
/** Long enough for two threads to find their stride, short enough to be left in peace. */
const ONE_ROW_BYTES = 16 * 2 ** 20;

/** A product of one row reads its weights once: two threads beside two that only read. */
async function oneRow(pool: KernelPool, say: (text: string) => void): Promise<Share> {
  const findings: Finding[] = [];
  const rows: (string | number)[][] = [];
  /** Bytes a millisecond. */
  const reads: number[] = [];
  for (const { format, goal } of ONE_ROW) {
    const variants: readonly ActivationType[] = isQuantized(format)
      ? ["f32", "i16", "i8"]
      : ["f32"];
    for (const [index, shape] of ONE_ROW_SHAPES.entries()) {
      const runs: Run[] = [
        { kind: "read" },
        ...variants.map((activations) => multiply(1, THREADS, activations)),
      ];
      const job = jobOf(shape, format, { bytes: ONE_ROW_BYTES });
      const [read, ...timings] = await pool.time({ ...job, runs }) as [Timing, ...Timing[]];
      const bytes = job.calls * job.callPanels * panelBytes(format, shape.k);
      reads.push(bytes / read.ms);
      const shares = timings.map(({ ms }) => rounded(read.ms / ms));
      say(
        `GEMV ${format} ${shapeName(shape)}: ${
          shares.map((share, i) => `${variants[i]} ${share}`).join(", ")
        } (${quietness([read, ...timings])}; read ${(bytes / read.ms / 1e6).toFixed(1)} GB/s)`,
      );
      const [exact, int16, int8] = shares;
      rows.push([format, shapeName(shape), exact as number, int16 ?? "–", int8 ?? "–"]);
      if (goal === undefined || index > 0) continue;
      const mode = memoryMode(1000 * bytes / read.ms);
      findings.push({ goal, mode, ...bestVariant(variants, shares) });
    }
  }
  const table = {
    title: "Products of one row",
    text: "Two threads, weights from memory: share of two threads that only read the same bytes, " +
      "by the type of the activations. The goals take 576×1536, and of the quantised formats the " +
      "better integer variant.",
    columns: ["weights", "k×n", "float32", "int16", "int8"],
    rows,
  };
  const speed = 1000 * median(reads);
  return {
    findings,
    tables: [table],
    facts: { "memory mode": memoryMode(speed), "read loop, GB/s": rounded(speed / 1e9) },
  };
}

/** Quantised weights are judged by their better integer variant. */
function bestVariant(
  variants: readonly ActivationType[],
  shares: readonly number[],
): { readonly value: number; readonly note?: string } {
  const exact = shares[0] as number;
  if (variants.length === 1) return { value: exact };
  const best = Math.max(...shares.slice(1));
  const name = variants[shares.indexOf(best, 1)] === "i16" ? "int16" : "int8";
  return { value: best, note: `${name} activations; float32 ${exact}` };
}

/** Work that is shared by two should take half the time. */
async function twoOverOne(pool: KernelPool, say: (text: string) => void): Promise<Share> {
  const runs: Run[] = [multiply(64, 1), multiply(64, THREADS)];
  const job = jobOf({ k: 576, n: 3072 }, "bf16", { bytes: 0, parts: 3, isResident: true });
  const [one, two] = await pool.time({ ...job, runs }) as [Timing, Timing];
  const value = rounded(one.ms / two.ms);
  say(`two workers over one: ${value} (${quietness([one, two])})`);
  const goal = "two workers over one, GEMM";
  return { findings: [{ goal, value, note: "bf16, 576×3072, m = 64" }], tables: [] };
}

const ATTENTION_CASES = [
  { dtype: "bf16", context: 32, rowCount: 1 },
  { dtype: "bf16", context: 512, rowCount: 1 },
  { dtype: "f32", context: 512, rowCount: 1 },
  { dtype: "bf16", context: 512, rowCount: 16 },
  { dtype: "bf16", context: 512, rowCount: 64 },
] as const;

/** Attention of one layer beside the multiply-add loop. */
async function attention(pool: KernelPool, say: (text: string) => void): Promise<Share> {
  const rows: (string | number)[][] = [];
  for (const run of ATTENTION_CASES) {
    const { context, rowCount, dtype } = run;
    const keys = rowCount * (context + context - rowCount + 1) / 2;
    const operations = 4 * keys * 576;
    const iterations = Math.round(operations / PEAK_FLOPS);
    const runs: Run[] = [{ kind: "peak", iterations }, { kind: "attend", ...run }];
    const job = jobOf({ k: 576, n: 576 }, "bf16", { bytes: 0 });
    const limits = { wanted: 15, limitMs: 1500 };
    const [peak, timing] = await pool.time({ ...job, runs, ...limits }) as [Timing, Timing];
    const share = rounded(operations / timing.ms * peak.ms / (iterations * PEAK_FLOPS));
    say(`attention ${dtype}, ${rowCount} rows of ${context}: ${share}`);
    rows.push([dtype, `${context}`, `${rowCount}`, share]);
  }
  const table = {
    title: "Attention",
    text: "One layer of nine heads over three of keys and values, one thread: share of the " +
      "multiply-add loop.",
    columns: ["keys and values", "context", "rows", "share"],
    rows,
  };
  return { findings: [], tables: [table] };
}
