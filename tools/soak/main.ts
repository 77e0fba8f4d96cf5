/**
 * `deno task soak [MINUTES]`: a server under clients that come, go, cut their streams, and send what
 * they should not. `--help` has what must hold.
 *
 * ```text
 * every request alone ─▶ all at once ─▶ empty? ─▶ all at once ─▶ empty? ─▶ all at once ─▶ empty?
 *                        └── a third of the time each; "empty": no request, no block, memory level
 * ```
 */

import { parseArgs } from "node:util";
import { defaultCacheDir } from "../models/cache.ts";
import { fetchSmolLM2 } from "../models/fetch.ts";
import { Connection } from "./connection.ts";
import { Crew } from "./crew.ts";
import { Random } from "./random.ts";
import { makeRequests } from "./requests.ts";
import type { ServerReport } from "./server.ts";
import { ServerProcess } from "./server_process.ts";
import { askAlone, type Expected } from "./visits.ts";

const CLIENTS = 32;
const THIRDS = 3;
const DEFAULT_MINUTES = 15;
const PROGRESS_MS = 10_000;
/** What a client that left has begun is ended within that. */
const EMPTY_TIMEOUT_MS = 20_000;
const EMPTY_POLL_MS = 50;
/** How far resident memory at the end may exceed that after the first third. */
const RESIDENT_GROWTH_SHARE = 0.05;
const RESIDENT_GROWTH_BYTES = 24 * 2 ** 20;
/** More say nothing new. */
const FAULTS_SHOWN = 10;

const HELP = `Usage: deno task soak [MINUTES] [OPTIONS]

Serves SmolLM2 to ${CLIENTS} clients for MINUTES (default ${DEFAULT_MINUTES}) and fails unless
  - every answer that is read to its end is, to the last bit, the one its request got alone;
  - everything wrong is refused with the right status, and nothing else is;
  - after each third, all clients gone, no request runs or waits and every block is free but for
    the prefix cache; at the end that one can be emptied too;
  - resident memory, garbage collected and pages of files left out, is at the end at most ${
  RESIDENT_GROWTH_SHARE * 100
} % and ${RESIDENT_GROWTH_BYTES / 2 ** 20} MiB above that after
    the first third;
  - there is no unhandled rejection and no internal error, and the server ends in order.

  --seconds N    for N seconds instead
  --seed N       repeat the run with that seed
  --help         this text`;

interface Job {
  readonly seconds: number;
  readonly seed: number;
}

function readJob(args: readonly string[]): Job | "help" {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      seconds: { type: "string" },
      seed: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return "help";
  const [minutes, ...more] = positionals;
  if (more.length > 0 || minutes !== undefined && values.seconds !== undefined) {
    throw new RangeError("Cannot use several durations: give MINUTES or --seconds, once");
  }
  return {
    seconds: values.seconds === undefined
      ? 60 * positive("MINUTES", minutes ?? `${DEFAULT_MINUTES}`)
      : positive("--seconds", values.seconds),
    seed: values.seed === undefined ? Date.now() % 2 ** 31 : positive("--seed", values.seed),
  };
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new RangeError(`Cannot use ${name} ${text}: it must be a number above 0`);
}

/** The whole run; what was not as it must be. */
async function soak({ seconds, seed }: Job): Promise<string[]> {
  const model = await fetchSmolLM2({ cacheDir: defaultCacheDir() });
  const server = await ServerProcess.start(model);
  const { port } = server;
  const known: Expected[] = [];
  for (const request of makeRequests(new Random(seed))) {
    known.push({ ...request, answer: await askAlone(port, request) });
  }
  say(`${known.length} requests were asked alone`);
  const crew = new Crew({ size: CLIENTS, port, known, seed });
  const faults: string[] = [];
  const reports: ServerReport[] = [];
  const start = performance.now();
  for (let third = 1; third <= THIRDS; third++) {
    const progress = setInterval(() => say(describe(crew, performance.now() - start)), PROGRESS_MS);
    await crew.work(performance.now() + seconds * 1000 / THIRDS);
    clearInterval(progress);
    await becomesEmpty(port);
    const report = await server.report();
    reports.push(report);
    faults.push(...report.faults, ...findLeaks(report).map((leak) => `third ${third}: ${leak}`));
    say(`${describe(crew, performance.now() - start)}; all out: ${holds(report)}`);
  }
  faults.push(...crew.faults, ...findGrowth(reports), ...await emptyCache(port, server));
  const code = await server.stop();
  if (code !== 0) faults.push(`the server ended with code ${code}`);
  if (crew.counts.verified === 0) faults.push("no answer was read to its end");
  return faults;
}

/** Waits until the gauges say that nothing runs, or the time is up. */
async function becomesEmpty(port: number): Promise<void> {
  const deadline = performance.now() + EMPTY_TIMEOUT_MS;
  while (performance.now() < deadline) {
    using connection = await Connection.open(port);
    await connection.get("/metrics");
    const { text } = await connection.readAnswer();
    const gauges = ["num_requests_running", "num_requests_waiting", "kv_cache_usage_percent"];
    const isEmpty = gauges.every((name) =>
      new RegExp(`^furiosa_llm_${name}(?:\\{.*\\})? 0$`, "m").test(text)
    );
    if (isEmpty) return;
    await new Promise((resolve) => setTimeout(resolve, EMPTY_POLL_MS));
  }
}

function findLeaks({ engine }: ServerReport): string[] {
  return (["runningCount", "waitingCount", "usedBlockCount"] as const)
    .filter((name) => engine[name] !== 0)
    .map((name) => `${name} is ${engine[name]} with all clients gone`);
}

function findGrowth(reports: readonly ServerReport[]): string[] {
  const [first, last] = [reports[0], reports.at(-1)];
  if (first === undefined || last === undefined) return [];
  const bound = first.residentBytes * (1 + RESIDENT_GROWTH_SHARE) + RESIDENT_GROWTH_BYTES;
  return last.residentBytes <= bound ? [] : [
    `resident memory grew from ${mib(first.residentBytes)} after the first third to ` +
    `${mib(last.residentBytes)}: more than ${mib(bound)}`,
  ];
}

/** Without clients the prefix cache, too, can be given back. */
async function emptyCache(port: number, server: ServerProcess): Promise<string[]> {
  using connection = await Connection.open(port);
  await connection.post("/reset_prefix_cache", "{}");
  const { status } = await connection.readAnswer();
  const { engine: { cachedBlockCount, usedBlockCount }, faults } = await server.report();
  const held = cachedBlockCount + usedBlockCount;
  return [
    ...faults,
    ...(status === 200 ? [] : [`/reset_prefix_cache answers ${status}`]),
    ...(held === 0 ? [] : [`${held} blocks stay after the prefix cache was emptied`]),
  ];
}

function describe({ counts, faults }: Crew, ms: number): string {
  const { verified, refused, left } = counts;
  return `${(ms / 1000).toFixed(0).padStart(5)} s: ${verified} answers verified, ${refused} ` +
    `requests refused, ${left} clients left, ${faults.length} faults`;
}

function holds({ residentBytes, heapBytes, engine }: ServerReport): string {
  const { cachedBlockCount, usedBlockCount, blockCount, preemptionCount } = engine;
  return `resident ${mib(residentBytes)}, heap ${mib(heapBytes)}; of ${blockCount} blocks ` +
    `${usedBlockCount} used, ${cachedBlockCount} cached; ${preemptionCount} preemptions`;
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

function say(text: string): void {
  console.error(text);
}

if (import.meta.main) {
  const job = readJob(Deno.args);
  if (job === "help") {
    console.log(HELP);
  } else {
    say(`seed ${job.seed}, ${job.seconds} s`);
    const faults = await soak(job);
    const counts = new Map<string, number>();
    for (const fault of faults) counts.set(fault, (counts.get(fault) ?? 0) + 1);
    for (const [fault, count] of [...counts].slice(0, FAULTS_SHOWN)) {
      say(`FAULT, ${count === 1 ? "once" : `${count} times`}: ${fault}`);
    }
    say(
      faults.length === 0 ? "All held." : `${faults.length} faults; repeat with --seed ${job.seed}`,
    );
    Deno.exit(faults.length === 0 ? 0 : 1);
  }
}
