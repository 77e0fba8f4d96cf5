/** Our server beside llama-server, over HTTP, in turns; and how it answers others meanwhile. */

import { HttpContestant } from "../contestants/http_server.ts";
import { madeUp, Seeds } from "../contestants/speed.ts";
import { findLlamaServer } from "../peers/llama_server.ts";
import { askHealth, HEALTH_PAUSE_MS } from "../server/ask_health.ts";
import { median, quantile, rounded } from "../report/figures.ts";
import type { Finding, PartFindings, Table } from "../report/results.ts";
import type { PartOptions } from "./part.ts";

const STREAMS = [8, 32] as const;
const STREAMS_MAX = 32;
const STREAM_PROMPT = 16;
const STREAM_TOKENS = 64;

const FIRST_TOKEN_PROMPT = 32;
/** Requests of one round, one after another: single ones are too short to compare. */
const FIRST_TOKEN_REQUESTS = 8;

const FIRST_TOKEN_GOAL = "HTTP: first token of a 32-token prompt over llama-server's";
const HEALTH_GOAL = "/health p99 while generating";
const streamsGoal = (count: number) => `HTTP: ${count} streams over llama-server's`;

/** Everything over HTTP. */
export async function measureHttp(options: PartOptions): Promise<PartFindings> {
  const path = await options.models.path("bf16");
  await using ours = await HttpContestant.ours(path);
  const seeds = new Seeds();
  const { findings, table } = await besideLlamaServer(ours, path, seeds, options);
  const health = await healthDuring(ours, seeds);
  const p99 = rounded(quantile(health, 0.99));
  options.say(`/health: p50 ${rounded(median(health))} ms, p99 ${p99} ms`);
  const healthTable: Table = {
    title: "`/health` while 8 streams are written, in ms",
    text: `${health.length} requests, ${HEALTH_PAUSE_MS} ms apart.`,
    columns: ["p50", "p95", "p99", "worst"],
    rows: [[0.5, 0.95, 0.99, 1].map((share) => rounded(quantile(health, share)))],
  };
  return {
    findings: [...findings, { goal: HEALTH_GOAL, value: p99 }],
    tables: [...table, healthTable],
    charts: [],
    facts: {},
  };
}

/** A way to compare two servers: the higher the figure the better, or the lower. */
interface Comparison {
  readonly goal: string;
  readonly name: string;
  readonly better: "more" | "less";
  readonly measure: (server: HttpContestant) => Promise<number>;
}

async function besideLlamaServer(
  ours: HttpContestant,
  path: string,
  seeds: Seeds,
  { rounds, say }: PartOptions,
): Promise<{ findings: Finding[]; table: Table[] }> {
  const comparisons: Comparison[] = [
    {
      goal: FIRST_TOKEN_GOAL,
      name: "time to the first token",
      better: "less",
      measure: (server) => firstTokenMs(server, seeds),
    },
    ...STREAMS.map((count): Comparison => ({
      goal: streamsGoal(count),
      name: `tokens a second of ${count} streams`,
      better: "more",
      measure: (server) => streamSpeed(server, count, seeds),
    })),
  ];
  const program = findLlamaServer();
  if (program === undefined) {
    const skipped = "llama-server is not built here: run bench/peers/llama_server.ts";
    return { findings: comparisons.map(({ goal }) => ({ goal, skipped })), table: [] };
  }
  await using stack = new AsyncDisposableStack();
  const peers: { readonly threads: number; readonly server: HttpContestant }[] = [];
  for (const threads of [1, 2]) {
    const setting = { streams: STREAMS_MAX, threads };
    const server = stack.use(await HttpContestant.llamaServer(program, path, setting));
    peers.push({ threads, server });
  }
  const findings: Finding[] = [];
  const rows: (string | number)[][] = [];
  for (const { goal, name, better, measure } of comparisons) {
    const best = await bestPeer(peers, better, measure);
    await measure(ours);
    const ratios: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const mine = await measure(ours);
      ratios.push(mine / await measure(best.server));
    }
    const value = rounded(median(ratios));
    say(`${name}: ${value} (llama-server on ${best.threads} threads)`);
    findings.push({ goal, value });
    rows.push([name, value, `${best.threads}`]);
  }
  const table = {
    title: "Over llama-server's",
    text: `bf16, streamed, prompts of token ids that were never seen before; streams write ` +
      `${STREAM_TOKENS} tokens each.`,
    columns: ["what", "ratio", "llama-server's threads"],
    rows,
  };
  return { findings, table: [table] };
}

/** The peer with the better number of threads, by one try of each after one that does not count. */
async function bestPeer<Peer extends { readonly server: HttpContestant }>(
  peers: readonly Peer[],
  better: Comparison["better"],
  measure: Comparison["measure"],
): Promise<Peer> {
  const tried: { readonly peer: Peer; readonly value: number }[] = [];
  for (const peer of peers) {
    await measure(peer.server);
    tried.push({ peer, value: await measure(peer.server) });
  }
  return tried.reduce((a, b) => (better === "more") === (a.value >= b.value) ? a : b).peer;
}

async function firstTokenMs(server: HttpContestant, seeds: Seeds): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < FIRST_TOKEN_REQUESTS; i++) {
    const prompt = madeUp(FIRST_TOKEN_PROMPT, seeds.take(1));
    times.push((await server.complete(prompt, 2)).firstTokenMs);
  }
  return median(times);
}

async function streamSpeed(server: HttpContestant, count: number, seeds: Seeds): Promise<number> {
  const first = seeds.take(count);
  const start = performance.now();
  const completions = await Promise.all(Array.from(
    { length: count },
    (_, i) => server.complete(madeUp(STREAM_PROMPT, first + i), STREAM_TOKENS),
  ));
  const tokens = completions.reduce((sum, completion) => sum + completion.tokens, 0);
  return 1000 * tokens / (performance.now() - start);
}

/** Times of requests to `/health` while streams are written without a pause. */
async function healthDuring(server: HttpContestant, seeds: Seeds): Promise<readonly number[]> {
  let isDone = false;
  const generate = async () => {
    while (!isDone) await streamSpeed(server, 8, seeds);
  };
  const end = () => void (isDone = true);
  const [times] = await Promise.all([askHealth(server.port).finally(end), generate()]);
  return times;
}
