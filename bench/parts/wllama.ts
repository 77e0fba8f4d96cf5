/** wllama, llama.cpp as WebAssembly in a browser: its best weight format beside our bf16. */

import { Contestant } from "../contestants/contestant.ts";
import { decodeTask, PREFILL_512, Seeds, speed, type Task } from "../contestants/speed.ts";
import type { ModelFormat } from "../models/model_files.ts";
import { median, rounded } from "../report/figures.ts";
import { type Finding, type PartFindings, skipPart } from "../report/results.ts";
import type { PartOptions } from "./part.ts";

const FORMATS: readonly ModelFormat[] = ["f32", "bf16", "q8_0", "q4_0", "q4_1"];
const TASKS = [["prefill", PREFILL_512], ["decode", decodeTask(1)]] as const;
/** Some formats are so slow there that a whole prompt would take minutes. */
const TRIALS: readonly Task[] = [
  { kind: "prefill", promptTokens: 64 },
  { kind: "decode", sequences: 1, promptTokens: 16, tokens: 12 },
];

/** Each format is tried once; the best of each task takes turns with ours. */
export async function measureWllama(options: PartOptions): Promise<PartFindings> {
  const { models, rounds, say } = options;
  await using theirs = Contestant.wllama();
  const seeds = new Seeds();
  const trials: { readonly format: ModelFormat; readonly speeds: readonly number[] }[] = [];
  let facts: Record<string, string> = {};
  for (const format of FORMATS) {
    const loaded = await tryLoad(theirs, await models.path(format));
    if (typeof loaded === "string") return skipPart("wllama", loaded);
    facts = {
      peer: loaded.engine,
      "its threads": `${loaded.threads[0]}`,
      "keys and values": "float16 in wllama, which has no bfloat16 there; bfloat16 in ours",
    };
    const speeds: number[] = [];
    for (const task of TRIALS) speeds.push(await speed(theirs, task, { seeds, threads: 1 }));
    say(`${format} is loaded and tried`);
    trials.push({ format, speeds });
  }
  await using ours = Contestant.ours();
  await ours.ask({ ask: "load", path: await models.path("bf16"), kvType: "bf16" });
  const findings: Finding[] = [];
  for (const [index, [name, task]] of TASKS.entries()) {
    const { format } = trials.reduce((a, b) => a.speeds[index]! >= b.speeds[index]! ? a : b);
    await theirs.ask({ ask: "load", path: await models.path(format), kvType: "bf16" });
    const value = await takeTurns(ours, theirs, { task, seeds, rounds });
    say(`${name}: ${value} over ${format}`);
    findings.push({ goal: `${name} over wllama's best format`, value, note: `its ${format}` });
  }
  const rows = trials.map(({ format, speeds }) => [
    format,
    ...speeds.map((value, index) =>
      rounded(value / Math.max(...trials.map((trial) => trial.speeds[index] as number)))
    ),
  ]);
  const table = {
    title: "wllama's formats",
    text: "Tokens a second over those of its fastest format, one short try each.",
    columns: ["weights", ...TASKS.map(([name]) => name)],
    rows,
  };
  return { findings, tables: [table], charts: [], facts };
}

async function tryLoad(theirs: Contestant, path: string) {
  try {
    return await theirs.ask({ ask: "load", path, kvType: "bf16" });
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
