/** What the bench is to show: every goal with its gate, its stretch, and the part that measures it. */

/** A part of the bench; each can be run by itself. */
export const PARTS = [
  "kernels",
  "models",
  "shapes",
  "engine",
  "load",
  "foreign",
  "peers",
  "wllama",
  "http",
  "server",
] as const;

/** The name of a part. */
export type PartName = (typeof PARTS)[number];

/**
 * How fast two threads read memory, in one of the two ways that shared machines have: around 32 or
 * around 55 GB/s. Some gates depend on it.
 */
export type MemoryMode = "32 GB/s" | "55 GB/s";

/** Halfway between the two. */
const MODE_BORDER = 43e9;

/** The mode of a machine that reads so many bytes a second. */
export function memoryMode(bytesPerSecond: number): MemoryMode {
  return bytesPerSecond < MODE_BORDER ? "32 GB/s" : "55 GB/s";
}

/** Where a value must lie. */
export interface Limits {
  readonly gate: number;
  readonly stretch: number;
}

/** One goal. */
export interface Goal {
  readonly name: string;
  readonly part: PartName;
  /** Whether a value must reach its gate from below or stay under it. */
  readonly better: "more" | "less";
  /** The limits, or those of each memory mode; a mode without limits is one the goal is not for. */
  readonly limits: Limits | Readonly<Partial<Record<MemoryMode, Limits>>>;
  /** What the value is counted in, where it is no ratio. */
  readonly unit?: "ms" | "s";
}

const limits = (gate: number, stretch: number): Limits => ({ gate, stretch });

type Row = readonly [name: string, limits: Goal["limits"]];

/** Goals of one part in which more is better. */
function ratios(part: PartName, rows: readonly Row[]): Goal[] {
  return rows.map(([name, limits]) => ({ name, part, better: "more", limits }));
}

/** Goals of one part in which less is better. */
function costs(part: PartName, unit: Goal["unit"], rows: readonly Row[]): Goal[] {
  return rows.map(([name, limits]) => ({
    ...{ name, part, better: "less", limits },
    ...(unit === undefined ? {} : { unit }),
  }));
}

const GEMM_SHAPES = ["576×3072", "1536×576"] as const;
const SMALL_BATCHES = [4, 5, 8, 16] as const;

/** Weights of two bytes: when memory is fast, taking them apart is what takes the time. */
const HALF_LIMITS = { "32 GB/s": limits(0.85, 0.95), "55 GB/s": limits(0.72, 0.88) } as const;

/** Every goal, in the order of the page. */
export const GOALS: readonly Goal[] = [
  ...ratios("kernels", [
    ...["bf16", "f16", "f32"].flatMap((format) =>
      GEMM_SHAPES.map((shape): Row => [`GEMM ${format}, ${shape}`, limits(0.88, 0.95)])
    ),
    ...SMALL_BATCHES.map((m): Row => [`small batch, m = ${m}`, limits(0.6, 0.85)]),
    ["GEMV bf16", HALF_LIMITS],
    ["GEMV f16", HALF_LIMITS],
    ["GEMV int8", { "32 GB/s": limits(0.85, 0.95), "55 GB/s": limits(0.6, 0.85) }],
    ["GEMV 4-bit", { "32 GB/s": limits(0.8, 0.92) }],
    ["two workers over one, GEMM", limits(1.9, 1.97)],
    ["over onnxruntime-web, GEMM m ≥ 64", limits(1.8, 1.95)],
  ]),
  ...ratios("models", [
    ["decode b1 bf16, context ≤ 64, over the read loop", limits(0.75, 0.92)],
    ["decode b1 bf16, context 512, over the read loop", limits(0.68, 0.85)],
    ["decode b1 int8, over the read loop", limits(0.52, 0.75)],
  ]),
  ...costs("engine", "ms", [["dearest sampling parameter over greedy, batch 16", limits(2, 1.5)]]),
  ...ratios("peers", [
    ["decode b1 over llama.cpp, bf16", limits(1, 1.15)],
    ["decode b1 over llama.cpp, Q8_0", limits(1, 1.15)],
    ["decode b1 over llama.cpp, Q4_0", limits(1, 1.15)],
    ["decode b1 over llama.cpp, Q4_1", limits(1.2, 1.5)],
    ["prefill 512 over llama.cpp, Q4_1", limits(1.2, 1.8)],
    ["decode b4 over llama.cpp, bf16", limits(1.1, 1.35)],
    ["decode b16 over llama.cpp, bf16", limits(0.75, 1)],
    ["decode b64 over llama.cpp, bf16", limits(0.6, 0.85)],
    ["prefill 512 over llama.cpp, bf16", limits(0.55, 0.75)],
    ["prefill 512 over llama.cpp, bf16, opt-in flags", limits(0.9, 1.1)],
  ]),
  ...ratios("wllama", [
    ["prefill over wllama's best format", limits(2.3, 3)],
    ["decode over wllama's best format", limits(5, 7)],
  ]),
  ...ratios("foreign", [
    ["decode b1 with a foreign busy core, over quiet", limits(0.5, 0.65)],
    ["decode b8 with a foreign busy core, over quiet", limits(0.5, 0.65)],
  ]),
  ...costs("http", undefined, [
    ["HTTP: first token of a 32-token prompt over llama-server's", limits(1, 0.7)],
  ]),
  ...ratios("http", [
    ["HTTP: 8 streams over llama-server's", limits(0.9, 1.2)],
    ["HTTP: 32 streams over llama-server's", limits(0.9, 1.2)],
  ]),
  ...costs("http", "ms", [["/health p99 while generating", limits(10, 5)]]),
  ...costs("server", undefined, [
    ["HTTP: time per token of 64 streams over LLM.stream's", limits(1.05, 1.02)],
  ]),
  ...costs("server", "ms", [
    ["/health p99 during 64 streams and long prompts", limits(10, 5)],
  ]),
  ...costs("load", "s", [["bf16 checkpoint, process start to first token", limits(2, 1.2)]]),
];

/** The goal of that name. */
export function findGoal(name: string): Goal {
  const goal = GOALS.find((goal) => goal.name === name);
  if (goal === undefined) throw new RangeError(`There is no goal "${name}"`);
  return goal;
}
