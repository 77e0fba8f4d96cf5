/** What the server adds to the engine: 64 streams over HTTP beside `LLM.stream`, in turns. */

import { Connection } from "../../tools/soak/connection.ts";
import { withLimit } from "../server/limit.ts";
import { median, quantile, rounded } from "../report/figures.ts";
import type { PartFindings, Table } from "../report/results.ts";
import type { StreamAnswer, Way } from "../server/protocol.ts";
import { SubjectProcess } from "../server/subject_process.ts";
import type { PartOptions } from "./part.ts";

const STREAMS = 64;
/** What stands in a socket that is not read must fit into it. */
const TOKENS = 32;
const WAYS = ["chat", "completions"] as const;

const OVERHEAD_GOAL = `HTTP: time per token of ${STREAMS} streams over LLM.stream's`;
const HEALTH_GOAL = `/health p99 during ${STREAMS} streams and long prompts`;

/** Requests to `/health` are that far apart. */
const HEALTH_PAUSE_MS = 5;
const HEALTH_SAMPLES_MIN = 300;
/** Long prompts come that long after each other: the client that writes them also asks `/health`. */
const LONG_PAUSE_MS = 50;
const REFUSED_BYTES = 1_000_000;
const ACCEPTED_BYTES = 100_000;
/** A single request that takes longer will never end. */
const REQUEST_LIMIT_MS = 120_000;

/** Both. */
export async function measureServer(options: PartOptions): Promise<PartFindings> {
  await using subject = await SubjectProcess.start(await options.models.path("bf16"));
  const { value, table } = await measureOverhead(subject, options);
  const health = await measureHealth(subject, options);
  return {
    findings: [
      { goal: OVERHEAD_GOAL, value, note: "chat" },
      { goal: HEALTH_GOAL, value: health.worst, note: health.note },
    ],
    tables: [table, health.table],
    charts: [],
    facts: {},
  };
}

async function measureOverhead(
  subject: SubjectProcess,
  { rounds, say }: PartOptions,
): Promise<{ value: number; table: Table }> {
  const ask = (way: Way, round: number) =>
    subject.measure({ way, streams: STREAMS, tokens: TOKENS, round });
  await ask("chat", -1);
  const ratios: Record<typeof WAYS[number], number[]> = { chat: [], completions: [] };
  const answers: Record<Way, StreamAnswer[]> = { direct: [], chat: [], completions: [] };
  for (let round = 0; round < rounds; round++) {
    // Direct on both sides of HTTP: a machine that gets slower meanwhile is no one's advantage.
    const before = await ask("direct", 4 * round);
    const over = {
      chat: await ask("chat", 4 * round + 1),
      completions: await ask("completions", 4 * round + 2),
    };
    const after = await ask("direct", 4 * round + 3);
    answers.direct.push(before, after);
    for (const way of WAYS) {
      ratios[way].push(2 * msPerToken(over[way]) / (msPerToken(before) + msPerToken(after)));
      answers[way].push(over[way]);
    }
    say(
      `round ${round + 1}: ${
        WAYS.map((way) => `${way} ${ratios[way].at(-1)?.toFixed(3)}`).join(", ")
      }`,
    );
  }
  const value = rounded(median(ratios.chat));
  const rows = (["direct", ...WAYS] as const).map((way): (string | number)[] => [
    way === "direct" ? "LLM.stream" : `HTTP, ${way}`,
    way === "direct" ? 1 : rounded(median(ratios[way])),
    rounded(median(answers[way].map(msPerToken))),
    mainThreadPerToken(answers[way]),
  ]);
  for (const row of rows) say(row.join(", "));
  return {
    value,
    table: {
      title: `${STREAMS} streams over HTTP beside LLM.stream`,
      text: "bf16, one process, in turns; while all streams write. The client sleeps meanwhile " +
        "and reads afterwards: its cost is not the server's.",
      columns: ["way", "time per token", "ms per token", "ms of the main thread per token"],
      rows,
    },
  };
}

function msPerToken({ ms, tokens }: StreamAnswer): number {
  return ms / tokens;
}

function mainThreadPerToken(answers: readonly StreamAnswer[]): number | string {
  const times = answers.flatMap(({ mainThreadMs, tokens }) =>
    mainThreadMs === undefined ? [] : [mainThreadMs / tokens]
  );
  return times.length === 0 ? "–" : rounded(median(times));
}

/** What else happens while `/health` is asked. */
const MEANWHILE: readonly { readonly name: string; readonly bytes: number | undefined }[] = [
  { name: "64 streams", bytes: undefined },
  { name: "and a prompt of 1 MB that is refused", bytes: REFUSED_BYTES },
  { name: "and a prompt of 100 kB that is cut", bytes: ACCEPTED_BYTES },
];

async function measureHealth(
  subject: SubjectProcess,
  { say }: PartOptions,
): Promise<{ worst: number; note: string; table: Table }> {
  const rows: (string | number)[][] = [];
  let round = 100_000;
  for (const { name, bytes } of MEANWHILE) {
    const times: number[] = [];
    let failure: unknown;
    const isDone = () => failure !== undefined || times.length >= HEALTH_SAMPLES_MIN;
    // One that fails ends the others, before the server that they ask is ended.
    const fail = (error: unknown) => void (failure ??= error);
    const generate = async () => {
      while (!isDone()) {
        const [streams, tokens] = [STREAMS, TOKENS];
        await subject.measure({ way: "chat", streams, tokens, round: round++ });
      }
    };
    const ask = async () => {
      while (!isDone()) {
        times.push(await healthMs(subject.port));
        await new Promise((resolve) => setTimeout(resolve, HEALTH_PAUSE_MS));
      }
    };
    const send = async () => {
      const body = bytes === undefined ? undefined : longBody(bytes);
      while (body !== undefined && !isDone()) {
        await sendLong(subject.port, body);
        await new Promise((resolve) => setTimeout(resolve, LONG_PAUSE_MS));
      }
    };
    await Promise.all([generate(), ask(), send()].map((work) => work.catch(fail)));
    if (failure !== undefined) throw failure;
    const row = [0.5, 0.95, 0.99, 1].map((share) => rounded(quantile(times, share)));
    say(`/health, ${name}: p50 ${row[0]}, p99 ${row[2]}, worst ${row[3]} ms`);
    rows.push([name, ...row]);
  }
  const worst = rows.reduce((a, b) => Number(a[3]) >= Number(b[3]) ? a : b);
  return {
    worst: Number(worst[3]),
    note: String(worst[0]),
    table: {
      title: "`/health` in ms",
      text: `${HEALTH_SAMPLES_MIN} requests, ${HEALTH_PAUSE_MS} ms apart.`,
      columns: ["meanwhile", "p50", "p95", "p99", "worst"],
      rows,
    },
  };
}

async function healthMs(port: number): Promise<number> {
  const start = performance.now();
  using connection = await Connection.open(port);
  await connection.get("/health");
  await withLimit(connection.readAnswer(), REQUEST_LIMIT_MS, "An answer of /health");
  return performance.now() - start;
}

/** A request with a long text: longer than the context unless it may be cut. */
interface LongBody {
  readonly text: string;
  readonly status: number;
}

function longBody(bytes: number): LongBody {
  const isCut = bytes === ACCEPTED_BYTES;
  const prompt = "A long way to the next town. ".repeat(Math.ceil(bytes / 29)).slice(0, bytes);
  return {
    text: JSON.stringify({
      prompt,
      max_tokens: 1,
      ...(isCut ? { truncate_prompt_tokens: 16 } : {}),
    }),
    status: isCut ? 200 : 400,
  };
}

async function sendLong(port: number, body: LongBody): Promise<void> {
  using connection = await Connection.open(port);
  await connection.post("/v1/completions", body.text);
  const answer = connection.readAnswer();
  const { status, text } = await withLimit(answer, REQUEST_LIMIT_MS, "The answer to a long prompt");
  if (status !== body.status) throw new Error(`The server answers ${status}: ${text}`);
}
