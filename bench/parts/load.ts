/** How long a fresh process takes to its first token, phase by phase; the file is warm. */

import { median, rounded } from "../report/figures.ts";
import { type PartFindings, skipPart } from "../report/results.ts";
import { type LoadMoments, PHASES } from "./load_process.ts";
import type { PartOptions } from "./part.ts";

const GOAL = "bf16 checkpoint, process start to first token";
const MEASURED = [["bf16", "bf16"], ["q4_1", "Q4_1, as shipped"]] as const;

const PHASE_NAMES: Readonly<Record<keyof LoadMoments, string>> = {
  imported: "modules are imported",
  read: "weights are on the device",
  compiled: "wires are compiled",
  loaded: "`LLM.load` returns",
  token: "first token",
};

/** The median of several starts, after one that warms the page cache. */
export async function measureLoad({ rounds, models, say }: PartOptions): Promise<PartFindings> {
  const columns: { readonly name: string; readonly seconds: readonly number[] }[] = [];
  const sizes: Record<string, number> = {};
  for (const [format, name] of MEASURED) {
    const path = await models.path(format);
    sizes[`checkpoint ${name}, MB`] = Math.round((await Deno.stat(path)).size / 1e6);
    await startOnce(path);
    const runs: LoadMoments[] = [];
    for (let round = 0; round < rounds; round++) runs.push(await startOnce(path));
    const seconds = PHASES.map((phase) => rounded(median(runs.map((run) => run[phase])) / 1000));
    say(`${name}: ${PHASES.map((phase, i) => `${phase} ${seconds[i]}`).join(", ")} s`);
    columns.push({ name, seconds });
  }
  const value = columns[0]?.seconds.at(-1);
  if (value === undefined) return skipPart("load", "no start was measured");
  return {
    findings: [{ goal: GOAL, value }],
    tables: [{
      title: "From the start of the process, in seconds",
      text: "A fresh process that imports the library, loads the model and asks for one token.",
      columns: ["when", ...columns.map(({ name }) => name)],
      rows: PHASES.map((phase, i) => [
        PHASE_NAMES[phase],
        ...columns.map(({ seconds }) => seconds[i] as number),
      ]),
    }],
    charts: [],
    facts: sizes,
  };
}

async function startOnce(path: string): Promise<LoadMoments> {
  const child = new URL("./load_process.ts", import.meta.url).href;
  const startMs = performance.timeOrigin + performance.now();
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "-q", "--no-check", child, path, `${startMs}`],
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}
