/** wllama, llama.cpp as WebAssembly in a browser: its best weight format beside our bf16. */

import { Contestant } from "../contestants/contestant.ts";
import { decodeTask, PREFILL_512, Seeds, speed, type Task } from "../contestants/speed.ts";
import type { ModelFormat } from "../models/model_files.ts";
import { median, rounded } from "../report/figures.ts";
import { type Finding, type PartFindings, skipPart, type Table } from "../report/results.ts";
import type { PartOptions } from "./part.ts";

const FORMATS: readonly ModelFormat[] = ["f32", "bf16", "q8_0", "q4_0"];
const THREAD_COUNTS = [1, 2] as const;
const TASKS = [["prefill", PREFILL_512], ["decode", decodeTask(1)]] as const;
/** Some formats are so slow there that a whole prompt would take minutes. */
const TRIALS: readonly Task[] = [
  { kind: "prefill", promptTokens: 64 },
  { kind: "decode", sequences: 1, promptTokens: 16, tokens: 12 },
];

/** What wllama can be given, and how fast it was at each task when it was tried. */
interface Trial {
  readonly format: ModelFormat;
  readonly threads: number;
  readonly speeds: readonly number[];
}

/** Each format is tried on one and two threads; the best of each task takes turns with ours. */
export async function measureWllama(options: PartOptions): Promise<PartFindings> {
  const { models, rounds, say } = options;
  await using theirs = Contestant.wllama();
  const seeds = new Seeds();
  const trials: Trial[] = [];
  let engine = "";
  for (const format of FORMATS) {
    for (const threads of THREAD_COUNTS) {
      const loaded = await tryLoad(theirs, await models.path(format), threads);
      if (typeof loaded === "string") return skipPart("wllama", loaded);
      engine = loaded.engine;
      const speeds: number[] = [];
      for (const task of TRIALS) speeds.push(await speed(theirs, task, { seeds, threads }));
      say(`${format} on ${threads} threads: ${speeds.map(rounded).join(" and ")} tokens/s`);
      trials.push({ format, threads, speeds });
    }
  }
  await using ours = Contestant.ours();
  await ours.ask({ ask: "load", path: await models.path("bf16"), kvType: "bf16" });
  const findings: Finding[] = [];
  for (const [index, [name, task]] of TASKS.entries()) {
    const { format, threads } = trials.reduce((a, b) =>
      a.speeds[index]! >= b.speeds[index]! ? a : b
    );
    await theirs.ask(loadQuestion(await models.path(format), threads));
    const value = await takeTurns(ours, theirs, { task, seeds, rounds });
    say(`${name}: ${value} over ${format}`);
    const note = `our bf16 over its ${format} on ${threads} threads`;
    findings.push({ goal: `${name} over wllama's best format`, value, note });
  }
  const facts = {
    peer: engine,
    "keys and values": "float16 in wllama, which has no bfloat16 there; bfloat16 in ours",
  };
  return { findings, tables: [trialTable(trials)], charts: [], facts };
}

function trialTable(trials: readonly Trial[]): Table {
  const best = TASKS.map((_, index) => Math.max(...trials.map(({ speeds }) => speeds[index]!)));
  return {
    title: "wllama's formats",
    text: "Tokens a second over those of its fastest format, one short try each.",
    columns: ["weights", "threads", ...TASKS.map(([name]) => name)],
    rows: trials.map(({ format, threads, speeds }) => [
      ...[format, `${threads}`],
      ...speeds.map((value, index) => rounded(value / best[index]!)),
    ]),
  };
}

function loadQuestion(path: string, threads: number) {
  return { ask: "load", path, kvType: "bf16", options: { threads } } as const;
}

async function tryLoad(theirs: Contestant, path: string, threads: number) {
  try {
    return await theirs.ask(loadQuestion(path, threads));
  } catch (error) {
    return `wllama does not run here: ${error instanceof Error ? error.message : String(error)}`;
  }
}

async function takeTurns(
  ours: Contestant,
  theirs: Contestant,
  { task, seeds, rounds }: { task: Task; seeds: Seeds; rounds: number },
): Promise<number> {
  const setting = { seeds, threads: 1 };
  await speed(ours, task, setting);
  await speed(theirs, task, setting);
  const ratios: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const mine = await speed(ours, task, setting);
    ratios.push(mine / await speed(theirs, task, setting));
  }
  return rounded(median(ratios));
}
