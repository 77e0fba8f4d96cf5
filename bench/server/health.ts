/** How long `/health` takes while the server has other things to do. */

import { Connection } from "../../tools/soak/connection.ts";
import { quantile, rounded } from "../report/figures.ts";
import type { Table } from "../report/results.ts";
import { askHealth, HEALTH_PAUSE_MS, HEALTH_SAMPLES } from "./ask_health.ts";
import { withLimit } from "./limit.ts";
import type { SubjectProcess } from "./subject_process.ts";

/** A request with a text that is longer than the context. */
interface LongRequest {
  readonly body: string;
  readonly status: number;
  /** From the start of one to the start of the next. */
  readonly intervalMs: number;
}

/** What else happens meanwhile. */
const MEANWHILE: readonly { readonly name: string; readonly long: LongRequest | undefined }[] = [
  { name: "while they write", long: undefined },
  {
    name: "and a prompt of 1 MB is refused every 50 ms",
    long: { body: longBody(1_000_000, {}), status: 400, intervalMs: 50 },
  },
  {
    name: "and a prompt of 100 kB is cut and accepted every 250 ms",
    long: {
      body: longBody(100_000, { truncate_prompt_tokens: 16 }),
      status: 200,
      intervalMs: 250,
    },
  },
];
/** An accepted one waits until a stream ends. */
const LONG_LIMIT_MS = 120_000;

function longBody(bytes: number, more: Readonly<Record<string, number>>): string {
  const prompt = "A long way to the next town. ".repeat(Math.ceil(bytes / 29)).slice(0, bytes);
  return JSON.stringify({ prompt, max_tokens: 1, ...more });
}

/** Asks beside so many streams at a time, alone and with long prompts. */
export async function measureHealth(
  subject: SubjectProcess,
  { streams, tokens, say }: {
    readonly streams: number;
    readonly tokens: number;
    readonly say: (line: string) => void;
  },
): Promise<{ worst: number; note: string; table: Table }> {
  const rows: (string | number)[][] = [];
  let round = 100_000;
  for (const { name, long } of MEANWHILE) {
    let isDone = false;
    // What fails ends the others, before the server that they ask is ended.
    const end = () => void (isDone = true);
    const generate = async () => {
      while (!isDone) await subject.measure({ way: "chat", streams, tokens, round: round++ });
    };
    const send = async () => {
      const sent: Promise<void>[] = [];
      while (long !== undefined && !isDone) {
        const answered = sendLong(subject.port, long);
        answered.catch(end);
        sent.push(answered);
        await new Promise((resolve) => setTimeout(resolve, long.intervalMs));
      }
      await Promise.all(sent);
    };
    const results = await Promise.allSettled([
      askHealth(subject.port).finally(end),
      generate().finally(end),
      send().finally(end),
    ]);
    for (const result of results) if (result.status === "rejected") throw result.reason;
    const times = (results[0] as PromiseFulfilledResult<readonly number[]>).value;
    const row = [0.5, 0.95, 0.99, 1].map((share) => rounded(quantile(times, share)));
    say(`/health, ${name}: p50 ${row[0]}, p99 ${row[2]}, worst ${row[3]} ms`);
    rows.push([name, ...row]);
  }
  const worst = rows.reduce((a, b) => Number(a[3]) >= Number(b[3]) ? a : b);
  return {
    worst: Number(worst[3]),
    note: String(worst[0]),
    table: {
      title: `\`/health\` in ms, beside ${streams} streams`,
      text: `${HEALTH_SAMPLES} requests from a thread of their own, ${HEALTH_PAUSE_MS} ms apart.`,
      columns: ["meanwhile", "p50", "p95", "p99", "worst"],
      rows,
    },
  };
}

async function sendLong(port: number, { body, status }: LongRequest): Promise<void> {
  using connection = await Connection.open(port);
  await connection.post("/v1/completions", body);
  const answer = await withLimit(
    connection.readAnswer(),
    LONG_LIMIT_MS,
    "The answer to a long prompt",
  );
  if (answer.status !== status) {
    throw new Error(`The server answers ${answer.status}: ${answer.text}`);
  }
}
