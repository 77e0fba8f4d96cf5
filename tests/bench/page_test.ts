import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { drawChart, niceTicks } from "../../bench/report/charts.ts";
import { median, quantile, rounded, written } from "../../bench/report/figures.ts";
import { GOALS } from "../../bench/report/goals.ts";
import { listCharts, writePage } from "../../bench/report/page.ts";
import {
  type BarChart,
  type LineChart,
  mergePart,
  NOTHING,
  type Performance,
} from "../../bench/report/results.ts";

const LINES: LineChart = {
  kind: "lines",
  name: "batch",
  title: "Speed & batch",
  x: { label: "sequences", scale: "log2" },
  y: { label: "times" },
  lines: [
    { name: "bf16", points: [[1, 1], [2, 1.9], [64, 9]] },
    { name: "q8 <b>", points: [[1, 1], [64, 12]] },
  ],
};
const BARS: BarChart = {
  kind: "bars",
  name: "peers",
  title: "Over a peer",
  x: { label: "times" },
  bars: [{ name: "decode", value: 1.25 }, { name: "prefill", value: 0.5 }],
  mark: 1,
};

/** A report with one part that was measured. */
function measured(value: number): Performance {
  const findings = GOALS.filter(({ part }) => part === "foreign")
    .map(({ name }) => ({ goal: name, value }));
  const machine = {
    processor: "Some CPU",
    cores: 2,
    memoryBytes: 8 * 2 ** 30,
    system: "linux x86_64",
    deno: "2.9.6",
    v8: "15.0",
  };
  const tables = [{ title: "A table", text: "Its text.", columns: ["a", "b"], rows: [["x|y", 2]] }];
  const found = { findings, tables, charts: [LINES], facts: { peer: "v1" } };
  return mergePart(NOTHING, "foreign", found, { date: "2030-01-01T00:00:00Z", machine, rounds: 5 });
}

/** The elements of an SVG document close in the order in which they were opened. */
function checkNesting(svg: string): void {
  const open: string[] = [];
  for (const [, closing, name, rest] of svg.matchAll(/<(\/?)([a-z]+)([^>]*)>/g)) {
    if (closing === "/") assertEquals(open.pop(), name);
    else if (!rest!.endsWith("/")) open.push(name as string);
  }
  assertEquals(open, []);
}

Deno.test("Charts are well-formed, have no number that is none, and escape their texts", () => {
  for (const chart of [LINES, BARS]) {
    const svg = drawChart(chart);
    checkNesting(svg);
    assert(!/NaN|Infinity|undefined/.test(svg));
    assertStringIncludes(svg, "prefers-color-scheme:dark");
  }
  assertStringIncludes(drawChart(LINES), "Speed &amp; batch");
  assertStringIncludes(drawChart(LINES), "q8 &lt;b&gt;");
});

Deno.test("A line has a point for each value, inside the picture", () => {
  const svg = drawChart(LINES);
  const circles = [...svg.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g)];
  assertEquals(circles.length, 5);
  for (const [, x, y] of circles) assert(+x! >= 0 && +x! <= 720 && +y! >= 0 && +y! <= 360);
  const [first, , last] = circles;
  assert(+first![2]! > +last![2]!, "more is higher");
});

Deno.test("Bars are as long as their values, and say whether they reach the mark", () => {
  const svg = drawChart(BARS);
  const bars = [...svg.matchAll(/<rect [^>]*width="([\d.]+)"[^>]*fill="([^"]+)"/g)];
  const [[, decode, reached], [, prefill, missed]] = bars as unknown as [string[], string[]];
  assert(Math.abs(+decode! / +prefill! - 2.5) < 0.01);
  assert(reached !== missed);
});

Deno.test("A chart without points is refused", () => {
  assertThrows(() => drawChart({ ...LINES, lines: [] }), RangeError, "no points");
});

Deno.test("Ticks begin at zero, are even, and cover the largest value closely", () => {
  for (const largest of [0.07, 0.5, 1, 1.9, 4, 7.3, 12, 99, 8192]) {
    const ticks = niceTicks(largest);
    assertEquals(ticks[0], 0);
    assert(ticks.at(-1)! >= largest * (1 - 1e-9) && ticks.at(-1)! < largest * 1.4, `${largest}`);
    assert(ticks.length >= 4 && ticks.length <= 10, `${largest}: ${ticks.length} ticks`);
  }
  assertThrows(() => niceTicks(0), RangeError);
});

Deno.test("The page lists every goal, with its value or why there is none", () => {
  const page = writePage(measured(0.55));
  const rows = page.split("\n").filter((line) => line.startsWith("| "));
  for (const { name, part } of GOALS) {
    const row = rows.find((line) => line.startsWith(`| ${name} |`));
    assert(row !== undefined, name);
    assertStringIncludes(row, part === "foreign" ? "0.550" : "has not been run");
  }
  assertStringIncludes(page, "Some CPU");
  assertStringIncludes(page, "peer: v1");
  assertStringIncludes(page, "x\\|y");
});

Deno.test("The page shows exactly the charts that are drawn", () => {
  const performance = measured(0.55);
  const page = writePage(performance);
  const shown = [...page.matchAll(/\]\(\.\/charts\/(\w+)\.svg\)/g)].map(([, name]) => name);
  assertEquals(shown, listCharts(performance).map(({ name }) => name));
});

Deno.test("A goal that is missed is marked, one that is met is not", () => {
  const rowOf = (value: number) =>
    writePage(measured(value)).split("\n").find((line) => line.startsWith("| decode b1 with"));
  assertStringIncludes(rowOf(0.4)!, "**no**");
  assertStringIncludes(rowOf(0.6)!, "yes");
});

Deno.test("Medians and quantiles are values that were measured", () => {
  assertEquals(median([3, 1, 2]), 2);
  assertEquals(quantile([1, 2, 3, 4], 1), 4);
  assertEquals(quantile(Array.from({ length: 1000 }, (_, i) => i), 0.99), 990);
  assertThrows(() => median([]), RangeError);
});

Deno.test("Figures are rounded to what they can show", () => {
  assertEquals([0.91649, 12.345, 1].map(rounded), [0.916, 12.3, 1]);
  assertEquals([0.916, 12.3, 512].map(written), ["0.916", "12.3", "512"]);
});
