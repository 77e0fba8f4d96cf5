/** Charts as SVG that reads well on light and on dark pages: lines over an axis, and bars. */

import { written } from "./figures.ts";
import type { BarChart, Chart, LineChart } from "./results.ts";

const WIDTH = 720;
const HEIGHT = 360;
const MARGIN = { top: 48, right: 24, bottom: 56, left: 64 } as const;

/** Told apart by colour-blind eyes too, on either background. */
const COLORS = ["#3b82c4", "#d9772b", "#3a9d6e", "#a66bbf", "#c2a12c", "#c94f5d"] as const;

const STYLE = [
  "text{font:13px system-ui,sans-serif;fill:#333}",
  ".title{font-size:16px;font-weight:600}",
  ".grid{stroke:#d8d8d8}",
  ".axis,.mark{stroke:#777}",
  ".mark{stroke-dasharray:5 4}",
  "@media(prefers-color-scheme:dark){",
  "text{fill:#ddd}.grid{stroke:#444}.axis,.mark{stroke:#999}}",
].join("");

/** The chart as an SVG document. */
export function drawChart(chart: Chart): string {
  return chart.kind === "lines" ? drawLines(chart) : drawBars(chart);
}

function drawLines(chart: LineChart): string {
  const points = chart.lines.flatMap((line) => line.points);
  if (points.length === 0) throw new RangeError(`Cannot draw "${chart.title}": it has no points`);
  const columns = [...new Set(points.map(([x]) => x))].sort((a, b) => a - b);
  const [first, last] = [columns[0] as number, columns.at(-1) as number];
  const ticks = niceTicks(Math.max(...points.map(([, y]) => y)));
  const top = ticks.at(-1) as number;
  const scale = chart.x.scale === "log2" ? Math.log2 : (value: number) => value;
  const span = scale(last) - scale(first) || 1;
  const right = WIDTH - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  const x = (value: number) =>
    MARGIN.left + ((scale(value) - scale(first)) / span) * (right - MARGIN.left);
  const y = (value: number) => bottom - (value / top) * (bottom - MARGIN.top);
  return svg(HEIGHT, chart.title, [
    ...ticks.map((tick) => line("grid", [MARGIN.left, y(tick)], [right, y(tick)])),
    ...ticks.map((tick) => text(tickLabel(tick), MARGIN.left - 8, y(tick) + 4, "end")),
    ...columns.map((column) => text(`${column}`, x(column), bottom + 20, "middle")),
    line("axis", [MARGIN.left, bottom], [right, bottom]),
    text(chart.x.label, (MARGIN.left + right) / 2, HEIGHT - 14, "middle"),
    text(chart.y.label, MARGIN.left - 48, MARGIN.top - 10, "start"),
    ...chart.lines.flatMap(({ name, points }, index) => {
      const color = COLORS[index % COLORS.length] as string;
      const places = points.map(([a, b]) => `${round(x(a))},${round(y(b))}`);
      return [
        `<polyline fill="none" stroke="${color}" stroke-width="2.5" points="${
          places.join(" ")
        }" />`,
        ...points.map(([a, b]) =>
          `<circle cx="${round(x(a))}" cy="${round(y(b))}" r="3.5" fill="${color}" />`
        ),
        ...legend(name, index, chart.lines.length, color),
      ];
    }),
  ]);
}

/** A line's name in its colour, at the top right. */
function legend(name: string, index: number, count: number, color: string): string[] {
  if (count === 1) return [];
  const y = MARGIN.top + 8 + 18 * index;
  const x = WIDTH - MARGIN.right - 150;
  return [
    `<rect x="${x}" y="${y - 9}" width="12" height="12" rx="2" fill="${color}" />`,
    text(name, x + 18, y + 2, "start"),
  ];
}

const BAR_HEIGHT = 16;
const BAR_PITCH = 26;
/** Pixels of a character, generously. */
const CHARACTER = 6.9;
const BAR_VALUES = 52;

function drawBars(chart: BarChart): string {
  const largest = Math.max(chart.mark, ...chart.bars.map(({ value }) => value));
  const bottom = MARGIN.top + BAR_PITCH * chart.bars.length;
  const left = 16 + CHARACTER * Math.max(...chart.bars.map(({ name }) => name.length), 10);
  const length = (value: number) => (value / largest) * (WIDTH - left - BAR_VALUES);
  const mark = left + length(chart.mark);
  return svg(bottom + MARGIN.bottom, chart.title, [
    ...chart.bars.flatMap(({ name, value }, index) => {
      const y = MARGIN.top + BAR_PITCH * index;
      const color = value >= chart.mark ? COLORS[2] : COLORS[1];
      return [
        text(name, left - 8, y + BAR_HEIGHT - 3, "end"),
        `<rect x="${round(left)}" y="${y}" width="${
          round(length(value))
        }" height="${BAR_HEIGHT}" rx="2" fill="${color}" />`,
        text(written(value), left + length(value) + 6, y + BAR_HEIGHT - 3, "start"),
      ];
    }),
    line("mark", [mark, MARGIN.top - 6], [mark, bottom]),
    text(written(chart.mark), mark, bottom + 18, "middle"),
    text(chart.x.label, (left + WIDTH) / 2, bottom + 40, "middle"),
  ]);
}

function svg(height: number, title: string, content: readonly string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img">`,
    `<title>${escape(title)}</title>`,
    `<style>${STYLE}</style>`,
    `<text class="title" x="16" y="24">${escape(title)}</text>`,
    ...content,
    "</svg>",
    "",
  ].join("\n");
}

function text(content: string, x: number, y: number, anchor: string): string {
  return `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}">${escape(content)}</text>`;
}

type Point = readonly [x: number, y: number];

function line(name: string, [x1, y1]: Point, [x2, y2]: Point): string {
  return `<line class="${name}" x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${
    round(y2)
  }" />`;
}

const round = (value: number): number => Math.round(value * 10) / 10;

function tickLabel(value: number): string {
  return `${Number(value.toPrecision(6))}`;
}

/** 0 and up in four to eight even steps of 1, 2 or 5 times a power of ten, to at least `largest`. */
export function niceTicks(largest: number): number[] {
  if (!(largest > 0) || !Number.isFinite(largest)) {
    throw new RangeError(`Cannot draw an axis to ${largest}: it must be a number above 0`);
  }
  const power = 10 ** Math.floor(Math.log10(largest / 4));
  const step = power * ([1, 2, 5].findLast((factor) => largest / (power * factor) >= 3.5) ?? 1);
  const count = Math.ceil(largest / step - 1e-9);
  return Array.from({ length: count + 1 }, (_, i) => i * step);
}

function escape(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
