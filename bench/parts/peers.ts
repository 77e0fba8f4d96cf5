/**
 * llama.cpp, native, through its C API: both engines in processes of their own on the same files,
 * in turns.
 *
 * llama.cpp is given its better one of one and two threads, found for each row before its first
 * round. Quantised formats are judged with integer activations where ours has them, as llama.cpp
 * rounds activations itself; float32 stands beside it.
 */

import { isQuantized } from "../../lib/device/block_formats.ts";
import { UNSAFE_V8_FLAGS } from "../../serve/unsafe_fast.ts";
import { Contestant } from "../contestants/contestant.ts";
import {
  bestThreads,
  decodeTask,
  madeUp,
  PREFILL_512,
  Seeds,
  speed,
  type Task,
} from "../contestants/speed.ts";
import type { ModelFormat } from "../models/model_files.ts";
import { median, rounded } from "../report/figures.ts";
import { GOALS } from "../report/goals.ts";
import { type Finding, type PartFindings, skipPart, type Table } from "../report/results.ts";
import {
  chooseVariant,
  PerplexityCheck,
  perplexityFault,
  startVariants,
  type Variant,
} from "./activations.ts";
import type { PartOptions } from "./part.ts";

interface Row {
  readonly format: ModelFormat;
  readonly task: Task;
  readonly what: string;
}

const FORMAT_NAMES: Readonly<Partial<Record<ModelFormat, string>>> = {
  bf16: "bf16",
  q8_0: "Q8_0",
  q4_0: "Q4_0",
  q4_1: "Q4_1",
};

/** By format, so that a file is loaded once. */
const ROWS: readonly Row[] = [
  ...[1, 4, 16, 64].map((batch): Row => ({
    format: "bf16",
    task: decodeTask(batch),
    what: `decode b${batch}`,
  })),
  { format: "bf16", task: PREFILL_512, what: "prefill 512" },
  ...(["q8_0", "q4_0", "q4_1"] as const).flatMap((format): Row[] => [
    { format, task: decodeTask(1), what: "decode b1" },
    { format, task: PREFILL_512, what: "prefill 512" },
  ]),
];

/** Everything beside llama.cpp. */
export async function measurePeers(options: PartOptions): Promise<PartFindings> {
  const { models, say } = options;
  await using theirs = Contestant.llamaCpp();
  const seeds = new Seeds();
  const check = new PerplexityCheck(options);
  const findings: Finding[] = [];
  const cells: (string | number)[][] = [];
  const perplexities: (string | number)[][] = [];
  let facts: Record<string, string> = {};
  for (const format of ["bf16", "q8_0", "q4_0", "q4_1"] as const) {
    await using stack = new AsyncDisposableStack();
    const path = await models.path(format);
    const { engine, threads, system } = await askFirst(theirs, path);
    if (threads === undefined) return skipPart("peers", engine);
    facts = { peer: engine, ...(system === undefined ? {} : { "its system info": system }) };
    const variants = await startVariants(stack, { options, format, check });
    const agreement = await compareAnswers(variants[0].engine, theirs);
    const name = FORMAT_NAMES[format] as string;
    for (const { kind, perplexity } of variants) {
      perplexities.push([name, kind, perplexity.toFixed(4), kind === "float32" ? agreement : ""]);
    }
    for (const { task, what } of ROWS.filter((row) => row.format === format)) {
      const peerThreads = await bestThreads(theirs, task, { seeds, threads });
      const chosen = await chooseVariant(variants, task, seeds);
      const setting = { task, seeds, theirs, peerThreads, rounds: options.rounds };
      const contenders = chosen === variants[0] ? [chosen] : [chosen, variants[0]];
      const [ratio, exact] = await takeTurns(contenders, setting);
      say(`${name} ${what}: ${ratio} (${chosen.kind}; llama.cpp on ${peerThreads} threads)`);
      cells.push([name, what, ...besides(chosen, ratio as number, exact), `${peerThreads}`]);
      const goal = `${what} over llama.cpp, ${name}`;
      if (!GOALS.some((known) => known.name === goal)) continue;
      findings.push({ goal, value: ratio as number, ...remarks(chosen, format, exact) });
    }
    if (format === "bf16") {
      const { finding, row } = await withFlags({ options, theirs, seeds, path, check, threads });
      findings.push(finding);
      cells.push(row);
    }
    await theirs.ask({ ask: "unload" });
  }
  return { findings, tables: tables(cells, perplexities), charts: [chart(cells)], facts };
}

/** The first question, to which a machine without the peer has no answer. */
async function askFirst(
  theirs: Contestant,
  path: string,
): Promise<{ engine: string; threads?: readonly number[]; system?: string }> {
  try {
    return await theirs.ask({ ask: "load", path, kvType: "bf16" });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { engine: `llama.cpp does not run here: ${reason}` };
  }
}

interface Turns {
  readonly task: Task;
  readonly seeds: Seeds;
  readonly theirs: Contestant;
  readonly peerThreads: number;
  readonly rounds: number;
}

/** For each of ours the median of its ratios to the peer, which runs once a round. */
async function takeTurns(
  ours: readonly Variant[],
  { task, seeds, theirs, peerThreads, rounds }: Turns,
): Promise<number[]> {
  const ratios = ours.map((): number[] => []);
  for (const { engine, threads } of ours) await speed(engine, task, { seeds, threads });
  for (let round = 0; round < rounds; round++) {
    const speeds: number[] = [];
    for (const { engine, threads } of ours) {
      speeds.push(await speed(engine, task, { seeds, threads }));
    }
    const theirSpeed = await speed(theirs, task, { seeds, threads: peerThreads });
    speeds.forEach((value, i) => ratios[i]!.push(value / theirSpeed));
  }
  return ratios.map((list) => rounded(median(list)));
}

/** Columns of the table: the judged figure and by what, then float32's. */
function besides(
  chosen: Variant,
  ratio: number,
  exact: number | undefined,
): readonly (string | number)[] {
  return [ratio, chosen.kind, exact ?? ratio];
}

function remarks(chosen: Variant, format: ModelFormat, exact: number | undefined) {
  const fault = perplexityFault(chosen.perplexity);
  const beside = exact === undefined ? "" : `; float32 ${exact}`;
  return {
    ...(isQuantized(format) ? { note: `${chosen.kind} activations${beside}` } : {}),
    ...(fault === undefined ? {} : { fault }),
  };
}

/** Prefill by an engine that was started with the flags of V8 that a user may opt in to. */
async function withFlags({ options, theirs, seeds, path, check, threads }: {
  readonly options: PartOptions;
  readonly theirs: Contestant;
  readonly seeds: Seeds;
  readonly path: string;
  readonly check: PerplexityCheck;
  readonly threads: readonly number[];
}): Promise<{ finding: Finding; row: (string | number)[] }> {
  await using engine = Contestant.ours(UNSAFE_V8_FLAGS);
  const loaded = await engine.ask({ ask: "load", path, kvType: "bf16" });
  const perplexity = await check.ratio(engine, "bf16");
  const variant: Variant = {
    kind: "float32",
    engine,
    threads: loaded.threads[0] as number,
    perplexity,
  };
  const peerThreads = await bestThreads(theirs, PREFILL_512, { seeds, threads });
  const [ratio] = await takeTurns([variant], {
    task: PREFILL_512,
    seeds,
    theirs,
    peerThreads,
    rounds: options.rounds,
  });
  const what = "prefill 512, opt-in flags";
  options.say(`bf16 ${what}: ${ratio}`);
  const finding = {
    goal: "prefill 512 over llama.cpp, bf16, opt-in flags",
    value: ratio as number,
    ...remarks(variant, "bf16", undefined),
  };
  const row = ["bf16", what, ratio as number, "float32", ratio as number, `${peerThreads}`];
  return { finding, row };
}

/** How many likeliest tokens after a prompt are the same: both must compute the same model. */
async function compareAnswers(ours: Contestant, theirs: Contestant): Promise<string> {
  const question = { ask: "predict", ids: madeUp(96, 7), promptLength: 32 } as const;
  const [mine, other] = [await ours.ask(question), await theirs.ask(question)];
  const same = mine.ids.filter((id, i) => id === other.ids[i]).length;
  return `${same} of ${mine.ids.length}`;
}

function tables(
  cells: readonly (readonly (string | number)[])[],
  perplexities: readonly (readonly (string | number)[])[],
): Table[] {
  return [{
    title: "Tokens a second over llama.cpp's",
    text:
      "Above 1 ours is faster. Quantised rows are judged with the activations that are named; " +
      "the default, float32, stands beside them.",
    columns: ["weights", "what", "judged", "activations", "float32", "llama.cpp's threads"],
    rows: cells,
  }, {
    title: "What the arithmetic costs",
    text:
      "Perplexity on the golden text over that of the same format's exact arithmetic, and how " +
      "many likeliest tokens of a made-up text are llama.cpp's too.",
    columns: ["weights", "activations", "perplexity", "same likeliest tokens"],
    rows: perplexities,
  }];
}

function chart(cells: readonly (readonly (string | number)[])[]): PartFindings["charts"][number] {
  return {
    kind: "bars",
    name: "peers",
    title: "Tokens a second over llama.cpp's",
    x: { label: "above 1 ours is faster" },
    bars: cells.map(([format, what, value]) => ({
      name: `${format}: ${what}`,
      value: value as number,
    })),
    mark: 1,
  };
}
