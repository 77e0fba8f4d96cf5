/** What the server adds to the engine: 64 streams over HTTP beside `LLM.stream`, in turns. */

import { median, rounded } from "../report/figures.ts";
import type { PartFindings, Table } from "../report/results.ts";
import { measureHealth } from "../server/health.ts";
import type { StreamAnswer, Way } from "../server/protocol.ts";
import { SubjectProcess } from "../server/subject_process.ts";
import type { PartOptions } from "./part.ts";

const STREAMS = 64;
/** What stands in a socket that is not read must fit into it. */
const TOKENS = 32;
const WAYS = ["chat", "completions"] as const;

const OVERHEAD_GOAL = `HTTP: time per token of ${STREAMS} streams over LLM.stream's`;
const HEALTH_GOAL = `/health p99 during ${STREAMS} streams and long prompts`;

/** Both. */
export async function measureServer(options: PartOptions): Promise<PartFindings> {
  await using subject = await SubjectProcess.start(await options.models.path("bf16"));
  const { value, table } = await measureOverhead(subject, options);
  const health = await measureHealth(subject, {
    streams: STREAMS,
    tokens: TOKENS,
    say: options.say,
  });
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
