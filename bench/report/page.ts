/** `docs/performance.md`: what `performance.json` holds, for people. */

import { written } from "./figures.ts";
import { type PartName, PARTS } from "./goals.ts";
import type { Chart, GoalRecord, PartRecord, Performance, Table } from "./results.ts";

/** Where the charts are, seen from the page. */
export const CHART_FOLDER = "charts";

const HEAD = `# Performance

Written by \`deno task bench\` from [performance.json](./performance.json), which it also writes.

Figures are ratios wherever they can be: to a loop of the same run that does nothing but read memory
or multiply, or to another engine that took turns with ours. The machine decides the rest, and a
shared machine changes its mind within milliseconds. Kernels are timed in short samples, of which
those count that a calibration loop before and after found undisturbed. Whole models cannot be
filtered so: both sides alternate, every round gives a ratio, and the median of the ratios counts.

Ours is the engine as it is shipped, with sampling on; peers only compute logits. Keys and values
are bfloat16 on both sides where the peer has that, the model is SmolLM2-135M-Instruct except where a
section says otherwise. A figure
beside another engine counts only if our perplexity on the golden text stays within 0.5 % of the
same format's exact arithmetic (float32 activations, float32 keys and values).
`;

const TAIL = `## How to repeat it

\`\`\`sh
deno task bench                      # everything; about 40 minutes on two cores
deno task bench --kernels            # one part; several may be named, the others keep their figures
deno task bench --peers --rounds 9   # more rounds
\`\`\`

The parts are ${PARTS.map((part) => `\`--${part}\``).join(", ")}. What a machine lacks is skipped
with the reason: Chromium (\`chromium\` on the path) for wllama, and llama-server, which
\`deno run -A bench/peers/llama_server.ts\` builds once where there are cmake and pip.
`;

/** What each part's section is called. */
const TITLES: Readonly<Record<PartName, string>> = {
  kernels: "Kernels",
  models: "Whole models beside the machine",
  shapes: "Other shapes, random weights",
  engine: "The main thread",
  load: "Start",
  foreign: "Beside another program",
  peers: "Beside llama.cpp",
  wllama: "Beside wllama",
  http: "Over HTTP",
  server: "The server beside its engine",
};

/** Parts that take as many samples as they need. */
const WITHOUT_ROUNDS: readonly PartName[] = ["kernels", "engine"];

/** The page; a chart of the goals comes on top of those of the parts. */
export function writePage(performance: Performance): string {
  return [
    HEAD,
    "## Goals",
    goalsSummary(performance.goals),
    image(goalsChart(performance.goals)),
    goalsTable(performance.goals),
    ...PARTS.flatMap((part) => {
      const record = performance.parts[part];
      return record === undefined ? [] : section(part, record);
    }),
    TAIL,
  ].join("\n\n");
}

/** Every chart of the page. */
export function listCharts({ goals, parts }: Performance): Chart[] {
  return [goalsChart(goals), ...PARTS.flatMap((part) => parts[part]?.charts ?? [])];
}

function goalsSummary(goals: readonly GoalRecord[]): string {
  const measured = goals.filter(({ skipped }) => skipped === undefined);
  const met = measured.filter((goal) => goal.met);
  const stretched = met.filter(reachesStretch);
  return `Of ${goals.length} goals ${measured.length} were measured; ${met.length} of them reach ` +
    `their gate, ${stretched.length} their stretch.`;
}

function reachesStretch({ value, stretch, better, met }: GoalRecord): boolean {
  if (value === null || stretch === null || !met) return false;
  return better === "more" ? value >= stretch : value <= stretch;
}

/** How far each measured goal is: its value over its gate, or the other way round for costs. */
function goalsChart(goals: readonly GoalRecord[]): Chart {
  const bars = goals.flatMap(({ name, value, gate, better, skipped }) => {
    if (value === null || gate === null || skipped !== undefined) return [];
    return [{ name, value: better === "more" ? value / gate : gate / value }];
  });
  return {
    kind: "bars",
    name: "goals",
    title: "Goals: how far each figure is",
    x: { label: "share of the gate" },
    bars,
    mark: 1,
  };
}

function goalsTable(goals: readonly GoalRecord[]): string {
  const rows = goals.map((goal) => [
    goal.name,
    goal.value === null ? "–" : withUnit(written(goal.value), goal),
    limitText(goal.gate, goal),
    limitText(goal.stretch, goal),
    goal.skipped !== undefined ? "skipped" : goal.met ? "yes" : "**no**",
    [goal.note, goal.skipped].filter((part) => part !== undefined).join("; "),
  ]);
  return markdownTable(["goal", "value", "gate", "stretch", "met", "note"], rows);
}

function limitText(limit: number | null, goal: GoalRecord): string {
  if (limit === null) return "–";
  return `${goal.better === "more" ? "≥" : "≤"} ${withUnit(`${limit}`, goal)}`;
}

function withUnit(value: string, { unit }: GoalRecord): string {
  return unit === undefined ? value : `${value} ${unit}`;
}

function section(part: PartName, record: PartRecord): string[] {
  return [
    `## ${TITLES[part]}`,
    provenance(part, record),
    ...record.tables.flatMap(tableSection),
    ...record.charts.map(image),
  ];
}

function provenance(part: PartName, { date, machine, rounds, facts }: PartRecord): string {
  const effort = WITHOUT_ROUNDS.includes(part) ? "" : `; rounds: ${rounds}`;
  const memory = Math.round(machine.memoryBytes / 2 ** 30);
  const known = Object.entries(facts).map(([name, value]) => `- ${name}: ${value}`);
  return [
    `Measured on ${date.slice(0, 10)}: ${machine.cores} cores of ${machine.processor}, ${memory} ` +
    `GiB, ${machine.system}, Deno ${machine.deno} (V8 ${machine.v8})${effort}.`,
    ...(known.length === 0 ? [] : ["", ...known]),
  ].join("\n");
}

function tableSection({ title, text, columns, rows }: Table): string[] {
  const cells = rows.map((row) =>
    row.map((cell) => typeof cell === "number" ? written(cell) : cell)
  );
  return [`### ${title}`, text, markdownTable(columns, cells)];
}

function markdownTable(
  columns: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const row = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [row(columns), row(columns.map(() => "---")), ...rows.map(row)].join("\n");
}

function image({ name, title }: Chart): string {
  return `![${title}](./${CHART_FOLDER}/${name}.svg)`;
}
