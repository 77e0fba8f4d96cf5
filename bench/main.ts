/**
 * `deno task bench`: measures everything, or the parts that are named, and writes
 * `docs/performance.json`, and from it `docs/performance.md` and `docs/charts/*.svg`.
 *
 * Progress goes to standard error. `--help` has the options.
 */

import { parseArgs } from "node:util";
import { ModelFiles } from "./models/model_files.ts";
import { describeMachine } from "./machine/describe.ts";
import { measureEngine } from "./parts/engine.ts";
import { measureForeign } from "./parts/foreign.ts";
import { measureHttp } from "./parts/http.ts";
import { measureKernels } from "./parts/kernels.ts";
import { measureLoad } from "./parts/load.ts";
import { measureModels } from "./parts/models.ts";
import type { MeasurePart } from "./parts/part.ts";
import { measurePeers } from "./parts/peers.ts";
import { measureServer } from "./parts/server.ts";
import { measureShapes } from "./parts/shapes.ts";
import { measureWllama } from "./parts/wllama.ts";
import { type PartName, PARTS } from "./report/goals.ts";
import { drawChart } from "./report/charts.ts";
import { CHART_FOLDER, listCharts, writePage } from "./report/page.ts";
import { mergePart, NOTHING, type Performance } from "./report/results.ts";

const MEASURE: Readonly<Record<PartName, MeasurePart>> = {
  kernels: measureKernels,
  models: measureModels,
  shapes: measureShapes,
  engine: measureEngine,
  load: measureLoad,
  foreign: measureForeign,
  peers: measurePeers,
  wllama: measureWllama,
  http: measureHttp,
  server: measureServer,
};

const HELP = `Usage: deno task bench [OPTIONS]

Measures everything, or only the parts that are named:
${PARTS.map((part) => `  --${part}`).join("\n")}

  --rounds N     rounds of whole models and of peers (default 5)
  --docs FOLDER  where to write (default docs/)
  --help         this text`;

const DOCS = new URL("../docs/", import.meta.url).pathname;

/** What the command line asks for. */
interface Job {
  readonly parts: readonly PartName[];
  readonly rounds: number;
  readonly docs: string;
}

function readJob(args: readonly string[]): Job | "help" {
  const { values } = parseArgs({
    args: [...args],
    options: {
      ...Object.fromEntries(PARTS.map((part) => [part, { type: "boolean" } as const])),
      rounds: { type: "string", default: "5" },
      docs: { type: "string", default: DOCS },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return "help";
  const rounds = Number(values.rounds);
  if (!Number.isSafeInteger(rounds) || rounds < 1) {
    throw new RangeError(`Cannot use --rounds ${values.rounds}: it must be a whole number above 0`);
  }
  const named = PARTS.filter((part) => (values as Record<string, unknown>)[part] === true);
  return { parts: named.length === 0 ? PARTS : named, rounds, docs: String(values.docs) };
}

/** Runs the parts, and writes the report after each: what was measured is not lost to what fails. */
async function bench({ parts, rounds, docs }: Job): Promise<void> {
  const machine = describeMachine();
  await using models = new ModelFiles();
  let performance = await readPerformance(docs);
  for (const part of parts) {
    const started = Temporal.Now.instant();
    say(`== ${part}`);
    const clock = () => `${Temporal.Now.instant().since(started).total("seconds").toFixed(0)} s`;
    const found = await MEASURE[part]({
      ...{ rounds, models },
      say: (text) => say(`${clock().padStart(7)}  ${text}`),
    });
    const date = started.toString({ smallestUnit: "second" });
    performance = mergePart(performance, part, found, { date, machine, rounds });
    await writeReport(performance, docs);
    say(`== ${part}: ${clock()}`);
  }
}

async function readPerformance(docs: string): Promise<Performance> {
  try {
    return JSON.parse(await Deno.readTextFile(`${docs}/performance.json`));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return NOTHING;
    throw error;
  }
}

async function writeReport(performance: Performance, docs: string): Promise<void> {
  const charts = `${docs}/${CHART_FOLDER}`;
  await Deno.mkdir(charts, { recursive: true });
  const drawn = listCharts(performance);
  for await (const { name } of Deno.readDir(charts)) {
    const isDrawn = drawn.some((chart) => `${chart.name}.svg` === name);
    if (name.endsWith(".svg") && !isDrawn) await Deno.remove(`${charts}/${name}`);
  }
  for (const chart of drawn) {
    await Deno.writeTextFile(`${charts}/${chart.name}.svg`, drawChart(chart));
  }
  const texts = [`${docs}/performance.json`, `${docs}/performance.md`];
  await Deno.writeTextFile(texts[0]!, JSON.stringify(performance, null, 2));
  await Deno.writeTextFile(texts[1]!, writePage(performance));
  // Both are held to the format of everything else in the repository.
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["fmt", "--quiet", ...texts, charts],
  }).output();
  if (!success) throw new Error(`deno fmt failed: ${new TextDecoder().decode(stderr)}`);
}

function say(text: string): void {
  console.error(text);
}

if (import.meta.main) {
  const job = readJob(Deno.args);
  if (job === "help") console.log(HELP);
  else await bench(job);
}
