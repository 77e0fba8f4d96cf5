/** A strict reader of Prometheus's text format 0.0.4: whatever the format does not allow is an error. */

/** One line of numbers. */
export interface ParsedSample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** All samples of one name. */
export interface ParsedMetric {
  readonly type: string;
  readonly help: string;
  readonly samples: ParsedSample[];
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABEL = /^[a-zA-Z_][a-zA-Z0-9_]*$/;
const NUMBER = /^(?:[+-]?Inf|NaN|[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)$/;

/** Reads a whole text; checks histograms and that no series stands there twice. */
export function parseExposition(text: string): Map<string, ParsedMetric> {
  expect(text === "" || text.endsWith("\n"), "the last line does not end");
  const metrics = new Map<string, ParsedMetric>();
  const series = new Set<string>();
  let current = "";
  let help: string | undefined;
  for (const line of text.split("\n").slice(0, -1)) {
    const comment = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line);
    if (comment !== null) {
      const [, kind, name, rest] = comment as unknown as [string, string, string, string];
      expect(NAME.test(name), `a bad name: ${line}`);
      if (kind === "HELP") {
        expect(help === undefined && !metrics.has(name), `${name} has two blocks`);
        expect(/^(?:[^\\]|\\\\|\\n)*$/.test(rest), `a bad escape: ${line}`);
        help = rest;
      } else {
        expect(["counter", "gauge", "histogram"].includes(rest), `a bad type: ${line}`);
        expect(help !== undefined, `${name} has no help`);
        metrics.set(name, { type: rest, help: help!, samples: [] });
        help = undefined;
      }
      current = name;
      continue;
    }
    const sample = parseSample(line);
    const metric = metrics.get(current);
    expect(metric !== undefined, `a sample before its type: ${line}`);
    const suffix = sample.name.slice(current.length);
    const suffixes = metric!.type === "histogram" ? ["_bucket", "_sum", "_count"] : [""];
    expect(sample.name.startsWith(current), `a sample of another metric: ${line}`);
    expect(suffixes.includes(suffix), `a bad suffix: ${line}`);
    const key = JSON.stringify([sample.name, Object.entries(sample.labels).sort()]);
    expect(!series.has(key), `a series twice: ${line}`);
    series.add(key);
    metric!.samples.push(sample);
  }
  for (const [name, metric] of metrics) {
    if (metric.type === "histogram") checkHistogram(name, metric);
    if (metric.type === "counter") {
      for (const { value } of metric.samples) expect(value >= 0, `${name} is negative`);
    }
  }
  return metrics;
}

/** The value of one sample. */
export function sampleValue(
  metrics: ReadonlyMap<string, ParsedMetric>,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number {
  const owner = [name, name.replace(/_(?:bucket|sum|count)$/, "")].find((it) => metrics.has(it));
  const found = metrics.get(owner ?? name)?.samples.filter((sample) =>
    sample.name === name &&
    Object.entries(labels).every(([label, text]) => sample.labels[label] === text)
  ) ?? [];
  expect(found.length === 1, `${found.length} samples of ${name} ${JSON.stringify(labels)}`);
  return found[0]!.value;
}

function parseSample(line: string): ParsedSample {
  const match = /^([^{ ]+)(?:\{(.*)\})? (\S+)$/.exec(line);
  expect(match !== null, `not a sample: ${line}`);
  const [, name, labels = "", value] = match as unknown as [string, string, string, string];
  expect(NAME.test(name), `a bad name: ${line}`);
  expect(NUMBER.test(value), `a bad number: ${line}`);
  return {
    name,
    labels: parseLabels(labels),
    value: Number(value.replace("Inf", "Infinity")),
  };
}

function parseLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  let rest = text;
  while (rest !== "") {
    const match = /^([^=]+)="((?:[^"\\]|\\\\|\\"|\\n)*)"(,|$)/.exec(rest);
    expect(match !== null, `bad labels: ${rest}`);
    const [whole, name, value] = match as unknown as [string, string, string];
    expect(LABEL.test(name) && !(name in labels), `a bad label: ${name}`);
    labels[name] = value.replace(/\\(.)/g, (_, char: string) => char === "n" ? "\n" : char);
    rest = rest.slice(whole.length);
    expect(whole.endsWith(",") === (rest !== ""), `a comma too many: ${text}`);
  }
  return labels;
}

/** Buckets ascend in edge and count, the last is +Inf, and its count is the count. */
function checkHistogram(name: string, { samples }: ParsedMetric): void {
  const buckets = samples.filter((sample) => sample.name === `${name}_bucket`);
  const count = samples.find((sample) => sample.name === `${name}_count`);
  const sum = samples.find((sample) => sample.name === `${name}_sum`);
  expect(count !== undefined && sum !== undefined, `${name} is not complete`);
  const edges = buckets.map(({ labels }) => Number(labels["le"]?.replace("Inf", "Infinity")));
  expect(edges.at(-1) === Infinity, `${name} has no last bucket`);
  for (let at = 1; at < buckets.length; at++) {
    expect(edges[at]! > edges[at - 1]!, `the edges of ${name} do not ascend`);
    expect(buckets[at]!.value >= buckets[at - 1]!.value, `the counts of ${name} do not ascend`);
  }
  expect(buckets.at(-1)!.value === count!.value, `the buckets of ${name} miss some values`);
}

function expect(condition: boolean, what: string): void {
  if (!condition) throw new Error(`The exposition is broken: ${what}`);
}
