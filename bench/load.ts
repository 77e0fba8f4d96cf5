/**
 * How long a fresh process takes to its first token: median of five, phase by phase.
 *
 * `deno run -A bench/load.ts MODEL [THREADS]`; the first, uncounted run warms the page cache.
 */

import { LLM, SamplingParams } from "../mod.ts";

/** Milliseconds since the process began at which each phase ended. */
interface Moments {
  readonly imported: number;
  readonly read: number;
  readonly compiled: number;
  readonly loaded: number;
  readonly token: number;
}

const PHASES: readonly (keyof Moments)[] = ["imported", "read", "compiled", "loaded", "token"];

/** The child: loads, waits for one token, says when. */
async function measureHere(path: string, threads: number, startMs: number): Promise<Moments> {
  const now = () => performance.timeOrigin + performance.now() - startMs;
  const imported = now();
  let read = imported;
  let compiled = imported;
  await using llm = await LLM.load(path, {
    threads,
    onProgress: ({ stage }) => {
      if (stage === "read") read = now();
      if (stage === "compile") compiled = now();
    },
  });
  const loaded = now();
  const greedy = new SamplingParams({ temperature: 0, maxTokens: 1 });
  await llm.generate("The capital of France is", greedy);
  return { imported, read, compiled, loaded, token: now() };
}

async function measureInChild(path: string, threads: string): Promise<Moments> {
  const startMs = performance.timeOrigin + performance.now();
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", import.meta.url, path, threads, `${startMs}`],
  }).output();
  if (code !== 0) throw new Error(new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] as number;
}

const [path, threads = "2", startMs] = Deno.args;
if (path === undefined) throw new Error("Give the path of a model");
if (startMs !== undefined) {
  console.log(JSON.stringify(await measureHere(path, Number(threads), Number(startMs))));
} else {
  await measureInChild(path, threads);
  const runs: Moments[] = [];
  for (let i = 0; i < 5; i++) runs.push(await measureInChild(path, threads));
  for (const phase of PHASES) {
    const times = runs.map((run) => run[phase]);
    const all = times.map((time) => time.toFixed(0)).join(" ");
    console.log(`${phase.padEnd(8)} at ${median(times).toFixed(0)} ms  (${all})`);
  }
}
