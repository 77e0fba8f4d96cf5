import { assert, assertEquals, assertThrows } from "@std/assert";
import { findGoal, type Goal, GOALS, memoryMode, PARTS } from "../../bench/report/goals.ts";
import {
  judge,
  type Machine,
  mergePart,
  NOTHING,
  type PartFindings,
  skipPart,
} from "../../bench/report/results.ts";

const MACHINE: Machine = {
  processor: "a processor",
  cores: 2,
  memoryBytes: 2 ** 34,
  system: "linux x86_64",
  deno: "2.9.6",
  v8: "15.0",
};

const RUN = { date: "2030-01-01T00:00:00Z", machine: MACHINE, rounds: 5 };

/** Findings for every goal of the foreign part. */
function foreignFindings(value: number): PartFindings {
  const findings = GOALS.filter(({ part }) => part === "foreign")
    .map(({ name }) => ({ goal: name, value }));
  return { findings, tables: [], charts: [], facts: {} };
}

const RATIO: Goal = {
  name: "a ratio",
  part: "models",
  better: "more",
  limits: { gate: 0.75, stretch: 0.92 },
};
const COST: Goal = {
  name: "a cost",
  part: "load",
  better: "less",
  limits: { gate: 2, stretch: 1.2 },
  unit: "s",
};
const MODAL: Goal = {
  name: "depends on memory",
  part: "kernels",
  better: "more",
  limits: { "32 GB/s": { gate: 0.8, stretch: 0.92 } },
};

Deno.test("Every goal has a name of its own and belongs to a part", () => {
  assertEquals(new Set(GOALS.map(({ name }) => name)).size, GOALS.length);
  for (const { part, name } of GOALS) {
    assert(PARTS.includes(part), name);
    assertEquals(findGoal(name).name, name);
  }
});

Deno.test("A stretch lies beyond its gate, on the side that is better", () => {
  for (const { name, better, limits } of GOALS) {
    const all = "gate" in limits ? [limits] : Object.values(limits);
    for (const { gate, stretch } of all as { gate: number; stretch: number }[]) {
      assert(better === "more" ? stretch > gate : stretch < gate, name);
    }
  }
});

Deno.test("A ratio is met from its gate on, a cost up to it", () => {
  assertEquals(judge(RATIO, { goal: RATIO.name, value: 0.75 }).met, true);
  assertEquals(judge(RATIO, { goal: RATIO.name, value: 0.74 }).met, false);
  assertEquals(judge(COST, { goal: COST.name, value: 2 }).met, true);
  assertEquals(judge(COST, { goal: COST.name, value: 2.01 }).met, false);
});

Deno.test("A figure with a fault keeps its value and does not meet the goal", () => {
  const record = judge(RATIO, { goal: RATIO.name, value: 1, fault: "perplexity is too high" });
  assertEquals(record.value, 1);
  assertEquals(record.met, false);
  assert(record.note?.includes("perplexity is too high"));
});

Deno.test("Limits that depend on memory follow the mode of the run, which is told", () => {
  const record = judge(MODAL, { goal: MODAL.name, value: 0.85, mode: "32 GB/s" });
  assertEquals([record.gate, record.met], [0.8, true]);
  assert(record.note?.includes("32 GB/s"));
  assertThrows(() => judge(MODAL, { goal: MODAL.name, value: 0.85 }), RangeError, "memory mode");
});

Deno.test("A mode without limits is skipped with the reason, and the figure stays", () => {
  const record = judge(MODAL, { goal: MODAL.name, value: 0.7, mode: "55 GB/s" });
  assertEquals([record.value, record.met, record.gate], [0.7, false, null]);
  assert(record.skipped?.includes("55 GB/s"));
});

Deno.test("What is not a finite number is no figure", () => {
  for (const value of [NaN, Infinity]) {
    assertThrows(() => judge(RATIO, { goal: RATIO.name, value }), RangeError, "finite");
  }
});

Deno.test("A machine is in the mode that its read speed is nearer to", () => {
  assertEquals(memoryMode(32e9), "32 GB/s");
  assertEquals(memoryMode(20e9), "32 GB/s");
  assertEquals(memoryMode(55e9), "55 GB/s");
});

Deno.test("A report has one entry a goal from its first part on, in the order of the table", () => {
  const { goals, parts } = mergePart(NOTHING, "foreign", foreignFindings(0.6), RUN);
  assertEquals(goals.map(({ name }) => name), GOALS.map(({ name }) => name));
  for (const goal of goals) {
    assertEquals(goal.skipped === undefined, goal.part === "foreign", goal.name);
    assertEquals(goal.value !== null, goal.part === "foreign", goal.name);
  }
  assertEquals(Object.keys(parts), ["foreign"]);
  assertEquals(parts.foreign?.machine, MACHINE);
});

Deno.test("A part that is run again replaces its own entries and leaves the others", () => {
  const first = mergePart(NOTHING, "foreign", foreignFindings(0.6), RUN);
  const later = { ...RUN, date: "2030-02-02T00:00:00Z" };
  const both = mergePart(first, "wllama", skipPart("wllama", "there is no Chromium"), later);
  assertEquals(both.parts.foreign, first.parts.foreign);
  assertEquals(both.parts.wllama?.date, later.date);
  const again = mergePart(both, "foreign", foreignFindings(0.4), later);
  for (const goal of again.goals) {
    if (goal.part === "foreign") assertEquals([goal.value, goal.met], [0.4, false]);
    else assertEquals(goal, both.goals.find(({ name }) => name === goal.name));
  }
  assertEquals(again.parts.foreign?.date, later.date);
  assertEquals(again.parts.wllama, both.parts.wllama);
});

Deno.test("A part may neither leave a goal out nor measure one of another part", () => {
  const { findings, ...rest } = foreignFindings(0.6);
  assertThrows(
    () => mergePart(NOTHING, "foreign", { findings: findings.slice(1), ...rest }, RUN),
    RangeError,
    "says nothing about its goal",
  );
  assertThrows(
    () => mergePart(NOTHING, "load", { findings, ...rest }, RUN),
    RangeError,
    "a goal of another part",
  );
});

Deno.test("The report in the repository holds the goals of the table, none left out", async () => {
  const text = await Deno.readTextFile(
    new URL("../../docs/performance.json", import.meta.url),
  );
  const { goals } = JSON.parse(text);
  assertEquals(
    goals.map(({ name }: { name: string }) => name),
    GOALS.map(({ name }) => name),
  );
  for (const { name, value, skipped } of goals) {
    assert(typeof value === "number" || typeof skipped === "string", name);
  }
});
