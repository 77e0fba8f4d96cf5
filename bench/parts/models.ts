/** Whole models beside the speed at which memory is read, and how speed scales. */

import { Contestant } from "../contestants/contestant.ts";
import type { Question } from "../contestants/protocol.ts";
import { decodeTask, Seeds, SHORT_PROMPT, speed, type Task } from "../contestants/speed.ts";
import { ReadSpeed } from "../machine/read_speed.ts";
import { median, rounded } from "../report/figures.ts";
import { memoryMode } from "../report/goals.ts";
import type { Finding, LineChart, PartFindings, Table } from "../report/results.ts";
import { bestActivations } from "./activations.ts";
import type { PartOptions } from "./part.ts";

/** The context grows from 488 to 536 tokens: 512 on average. */
const LONG_DECODE: Task = { kind: "decode", sequences: 1, promptTokens: 488, tokens: 48 };
const BATCHES = [1, 2, 4, 8, 16, 32, 64] as const;
const CONTEXTS = [64, 256, 1024, 2048, 4096, 8192] as const;
/** Tokens written at each context: enough to time, few beside the context. */
const CONTEXT_TOKENS = 32;
/** Room for them and for those that are written before the clock starts. */
const CONTEXT_ROOM = 64;

/** Everything about whole models. */
export async function measureModels(options: PartOptions): Promise<PartFindings> {
  using reader = await ReadSpeed.start(2);
  await using ours = Contestant.ours();
  const reads: number[] = [];
  const seeds = new Seeds();
  const shares = async (load: Load, task: Task) => {
    const { weightBytes, threads } = await ours.ask(load);
    const setting = { seeds, threads: threads[0] as number };
    await speed(ours, task, setting); // kernels are compiled for the shapes
    const ratios: number[] = [];
    for (let round = 0; round < options.rounds; round++) {
      const before = await reader.measure();
      const rate = await speed(ours, task, setting);
      const read = Math.max(before, await reader.measure());
      reads.push(read);
      ratios.push(rate * weightBytes / read);
    }
    return rounded(median(ratios));
  };
  const load = async (format: "bf16" | "q8_0", extra: Load["options"] = {}): Promise<Load> => ({
    ask: "load",
    path: await options.models.path(format),
    kvType: "bf16",
    options: extra,
  });
  const bf16 = await load("bf16");
  const short = await shares(bf16, decodeTask(1));
  const long = await shares(bf16, LONG_DECODE);
  options.say(`bf16 over the read loop: ${short} at 64, ${long} at 512`);
  const exact = await shares(await load("q8_0"), decodeTask(1));
  const choice = await bestActivations(options, "q8_0", decodeTask(1));
  const eight = choice.kind === "float32" ? { value: exact, note: "float32 activations" } : {
    value: await shares(await load("q8_0", { activationDtype: choice.kind }), decodeTask(1)),
    note: `${choice.kind} activations; float32 ${exact}`,
    ...(choice.fault === undefined ? {} : { fault: choice.fault }),
  };
  options.say(`int8 over the read loop: ${eight.value}, ${eight.note}`);
  const findings: Finding[] = [
    { goal: "decode b1 bf16, context ≤ 64, over the read loop", value: short },
    { goal: "decode b1 bf16, context 512, over the read loop", value: long },
    { goal: "decode b1 int8, over the read loop", ...eight },
  ];
  const scaling = [
    await scaleBatch(ours, bf16, seeds, options),
    await scaleContext(ours, bf16, options),
    await scaleThreads(ours, bf16, seeds, options),
  ];
  const speedRead = median(reads);
  return {
    findings,
    tables: scaling.map(({ table }) => table),
    charts: scaling.flatMap(({ chart }) => chart === undefined ? [] : [chart]),
    facts: {
      "memory mode": memoryMode(speedRead),
      "read loop, GB/s": rounded(speedRead / 1e9),
    },
  };
}

type Load = Question & { ask: "load" };

interface Scaling {
  readonly table: Table;
  readonly chart?: LineChart;
}

/** Total tokens a second of a batch, over those of one sequence, in turns. */
async function scaleBatch(
  ours: Contestant,
  load: Load,
  seeds: Seeds,
  { rounds, say }: PartOptions,
): Promise<Scaling> {
  const { threads } = await ours.ask(load);
  const setting = { seeds, threads: threads[0] as number };
  for (const batch of BATCHES) await speed(ours, decodeTask(batch), setting);
  const ratios = BATCHES.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    const speeds: number[] = [];
    for (const batch of BATCHES) speeds.push(await speed(ours, decodeTask(batch), setting));
    speeds.forEach((value, i) => ratios[i]!.push(value / speeds[0]!));
  }
  const figures = ratios.map((list) => rounded(median(list)));
  say(`batches ${BATCHES.join(", ")}: ${figures.join(", ")}`);
  return {
    table: {
      title: "Batch",
      text: "bf16, context at most 64: tokens a second of all sequences over those of one.",
      columns: ["sequences", ...BATCHES.map(String)],
      rows: [["over one", ...figures]],
    },
    chart: {
      kind: "lines",
      name: "batch",
      title: "Decode: tokens a second of a batch over those of one sequence",
      x: { label: "sequences that decode together", scale: "log2" },
      y: { label: "times" },
      lines: [{ name: "bf16", points: BATCHES.map((batch, i) => [batch, figures[i]!]) }],
    },
  };
}

/** Decoding behind a long context, over a short one; every prompt begins with the shorter ones. */
async function scaleContext(
  ours: Contestant,
  load: Load,
  { rounds, say }: PartOptions,
): Promise<Scaling> {
  const longest = CONTEXTS.at(-1) as number;
  const { threads } = await ours.ask({ ...load, options: { maxModelLength: longest } });
  const ratios = CONTEXTS.map((): number[] => []);
  // The first round computes the prompts and compiles: from then on the prefix cache has them.
  for (let round = -1; round < rounds; round++) {
    const speeds: number[] = [];
    for (const context of CONTEXTS) {
      const task: Task = {
        kind: "decode",
        sequences: 1,
        promptTokens: Math.max(SHORT_PROMPT, context - CONTEXT_ROOM),
        tokens: CONTEXT_TOKENS,
      };
      speeds.push(await speed(ours, task, { seeds: new Seeds(), threads: threads[0] as number }));
    }
    if (round >= 0) speeds.forEach((value, i) => ratios[i]!.push(value / speeds[0]!));
  }
  const figures = ratios.map((list) => rounded(median(list)));
  say(`contexts ${CONTEXTS.join(", ")}: ${figures.join(", ")}`);
  return {
    table: {
      title: "Context",
      text: "bf16 weights, keys and values, one sequence: tokens a second behind a context over " +
        `those behind ${CONTEXTS[0]} tokens.`,
      columns: ["context", ...CONTEXTS.map(String)],
      rows: [[`over ${CONTEXTS[0]}`, ...figures]],
    },
    chart: {
      kind: "lines",
      name: "context",
      title: "Decode: speed behind a context over that behind 64 tokens",
      x: { label: "tokens of context", scale: "log2" },
      y: { label: "times" },
      lines: [{ name: "bf16", points: CONTEXTS.map((context, i) => [context, figures[i]!]) }],
    },
  };
}

const THREAD_TASKS: readonly (readonly [name: string, task: Task])[] = [
  ["prefill 512", { kind: "prefill", promptTokens: 512 }],
  ["decode, 1 sequence", decodeTask(1)],
  ["decode, 16 sequences", decodeTask(16)],
];

/** More threads over one: an engine for each count, in turns. */
async function scaleThreads(
  first: Contestant,
  load: Load,
  seeds: Seeds,
  { rounds, say }: PartOptions,
): Promise<Scaling> {
  await first.ask({ ask: "unload" });
  const counts: number[] = [];
  for (let count = 1; count < navigator.hardwareConcurrency && count < 8; count *= 2) {
    counts.push(count);
  }
  counts.push(Math.min(8, navigator.hardwareConcurrency));
  await using stack = new AsyncDisposableStack();
  const engines: Contestant[] = [];
  for (const threads of counts) {
    const engine = stack.use(Contestant.ours());
    await engine.ask({ ...load, options: { threads } });
    engines.push(engine);
  }
  const rows: { readonly name: string; readonly figures: number[] }[] = [];
  for (const [name, task] of THREAD_TASKS) {
    for (const engine of engines) await speed(engine, task, { seeds, threads: 1 });
    const ratios = counts.map((): number[] => []);
    for (let round = 0; round < rounds; round++) {
      const speeds: number[] = [];
      for (const engine of engines) speeds.push(await speed(engine, task, { seeds, threads: 1 }));
      speeds.forEach((value, i) => ratios[i]!.push(value / speeds[0]!));
    }
    const figures = ratios.map((list) => rounded(median(list)));
    say(`${name}, threads ${counts.join(", ")}: ${figures.join(", ")}`);
    rows.push({ name, figures });
  }
  const table = {
    title: "Threads",
    text: "bf16: speed of an engine with so many threads over that of one with a single thread.",
    columns: ["threads", ...counts.map(String)],
    rows: rows.map(({ name, figures }) => [name, ...figures]),
  };
  if (counts.length < 2) return { table };
  return {
    table,
    chart: {
      kind: "lines",
      name: "threads",
      title: "Threads: speed over that of one thread",
      x: { label: "threads", scale: "linear" },
      y: { label: "times" },
      lines: rows.map(({ name, figures }) => ({
        name,
        points: counts.map((count, i): [number, number] => [count, figures[i]!]),
      })),
    },
  };
}
