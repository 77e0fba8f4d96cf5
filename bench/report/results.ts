/** What a run of the bench found, and `performance.json`, which keeps it from one run to the next. */

import {
  findGoal,
  type Goal,
  GOALS,
  type Limits,
  type MemoryMode,
  type PartName,
  PARTS,
} from "./goals.ts";

/** A figure that was measured for a goal, or the reason why none was. */
export type Finding = Measured | Skipped;

/** A figure, and what a reader must know about it. */
export interface Measured {
  readonly goal: string;
  readonly value: number;
  /** How memory was read in the same run: needed where the limits depend on it. */
  readonly mode?: MemoryMode;
  readonly note?: string;
  /** Why the figure does not count, whatever its value. */
  readonly fault?: string;
}

/** A goal that could not be measured here. */
export interface Skipped {
  readonly goal: string;
  readonly skipped: string;
}

/** Figures in rows; the first column names what each row is about. */
export interface Table {
  readonly title: string;
  /** What the figures are, in a sentence or two. */
  readonly text: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | number)[])[];
}

/** Lines over an axis. */
export interface LineChart {
  readonly kind: "lines";
  /** Name of the file, without its ending. */
  readonly name: string;
  readonly title: string;
  readonly x: { readonly label: string; readonly scale: "linear" | "log2" };
  readonly y: { readonly label: string };
  readonly lines: readonly {
    readonly name: string;
    readonly points: readonly (readonly [x: number, y: number])[];
  }[];
}

/** Bars to the right, with a mark that they should reach. */
export interface BarChart {
  readonly kind: "bars";
  readonly name: string;
  readonly title: string;
  readonly x: { readonly label: string };
  readonly bars: readonly { readonly name: string; readonly value: number }[];
  /** Where a line stands. */
  readonly mark: number;
}

/** Either. */
export type Chart = LineChart | BarChart;

/** The machine that something was measured on. */
export interface Machine {
  readonly processor: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly system: string;
  readonly deno: string;
  readonly v8: string;
}

/** What one part found. */
export interface PartFindings {
  readonly findings: readonly Finding[];
  readonly tables: readonly Table[];
  readonly charts: readonly Chart[];
  /** What else must be known to understand the figures: versions of peers, limits of the run. */
  readonly facts: Readonly<Record<string, string | number>>;
}

/** A part that was run, as it is kept. */
export interface PartRecord extends Omit<PartFindings, "findings"> {
  readonly date: string;
  readonly machine: Machine;
  readonly rounds: number;
}

/** One goal as it is kept. */
export interface GoalRecord {
  readonly name: string;
  readonly part: PartName;
  /** null: not measured. */
  readonly value: number | null;
  readonly gate: number | null;
  readonly stretch: number | null;
  readonly better: Goal["better"];
  readonly unit?: NonNullable<Goal["unit"]>;
  readonly met: boolean;
  readonly note?: string;
  /** Why there is no value that counts. */
  readonly skipped?: string;
}

/** `performance.json`. */
export interface Performance {
  readonly goals: readonly GoalRecord[];
  readonly parts: Readonly<Partial<Record<PartName, PartRecord>>>;
}

/** A report that holds nothing yet. */
export const NOTHING: Performance = { goals: [], parts: {} };

/** Puts what a part found in the place of what was known of it; the other parts stay. */
export function mergePart(
  known: Performance,
  part: PartName,
  found: PartFindings,
  run: Pick<PartRecord, "date" | "machine" | "rounds">,
): Performance {
  const { findings, ...rest } = found;
  for (const { goal } of findings) {
    if (findGoal(goal).part !== part) {
      throw new RangeError(`Part "${part}" measures "${goal}", a goal of another part`);
    }
  }
  const goals = GOALS.map((goal): GoalRecord => {
    if (goal.part === part) {
      const finding = findings.find((finding) => finding.goal === goal.name);
      if (finding === undefined) {
        throw new RangeError(`Part "${part}" says nothing about its goal "${goal.name}"`);
      }
      return judge(goal, finding);
    }
    return known.goals.find(({ name }) => name === goal.name) ?? unmeasured(goal);
  });
  const parts = PARTS.flatMap((name) => {
    const record = name === part ? { ...run, ...rest } : known.parts[name];
    return record === undefined ? [] : [[name, record]];
  });
  return { goals, parts: Object.fromEntries(parts) };
}

/** Whether a goal is met by what was found. */
export function judge(goal: Goal, finding: Finding): GoalRecord {
  if ("skipped" in finding) return unmeasured(goal, finding.skipped);
  const { value, mode, fault } = finding;
  if (!Number.isFinite(value)) {
    throw new RangeError(`Cannot judge ${value} for "${goal.name}": it must be a finite number`);
  }
  const limits = limitsOf(goal, mode);
  const notes = [
    ...(finding.note === undefined ? [] : [finding.note]),
    ...(mode === undefined ? [] : [`memory in the ${mode} mode`]),
    ...(fault === undefined ? [] : [`does not count: ${fault}`]),
  ];
  const note = notes.length === 0 ? {} : { note: notes.join("; ") };
  if (limits === undefined) {
    const skipped = `there is no gate for memory in the ${mode} mode`;
    return { ...unmeasured(goal, skipped), value, ...note };
  }
  const reached = goal.better === "more" ? value >= limits.gate : value <= limits.gate;
  return { ...common(goal), value, ...limits, met: reached && fault === undefined, ...note };
}

function unmeasured(
  goal: Goal,
  skipped = "its part of the bench has not been run",
): GoalRecord {
  const limits = "gate" in goal.limits ? goal.limits : { gate: null, stretch: null };
  return { ...common(goal), value: null, ...limits, met: false, skipped };
}

function common({ name, part, better, unit }: Goal) {
  return { name, part, better, ...(unit === undefined ? {} : { unit }) };
}

function limitsOf({ name, limits }: Goal, mode: MemoryMode | undefined): Limits | undefined {
  if ("gate" in limits) return limits as Limits;
  if (mode === undefined) {
    throw new RangeError(`The limits of "${name}" depend on the memory mode, which is not given`);
  }
  return limits[mode];
}

/** All goals of a part, skipped for one reason. */
export function skipPart(part: PartName, reason: string): PartFindings {
  const findings = GOALS.filter((goal) => goal.part === part)
    .map(({ name }): Skipped => ({ goal: name, skipped: reason }));
  return { findings, tables: [], charts: [], facts: {} };
}
