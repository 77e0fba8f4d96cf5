/**
 * Metrics as text for Prometheus: the exposition format, version 0.0.4.
 *
 * https://prometheus.io/docs/instrumenting/exposition_formats/
 */

import type { HistogramSnapshot } from "../llm.ts";

/** What the text is sent as. */
export const EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** Label names and values, in the order they are written. */
export type Labels = Readonly<Record<string, string>>;

/** A number, and what tells it from the others of its metric. */
export interface Sample {
  readonly labels: Labels;
  readonly value: number;
}

/** All samples of one name. */
export type Metric =
  | {
    readonly type: "counter" | "gauge";
    readonly name: string;
    readonly help: string;
    readonly samples: readonly Sample[];
  }
  | {
    readonly type: "histogram";
    readonly name: string;
    readonly help: string;
    readonly labels: Labels;
    readonly histogram: HistogramSnapshot;
  };

/** Writes metrics, each name with its help and type before its samples. */
export function writeMetrics(metrics: readonly Metric[]): string {
  return metrics.map(writeMetric).join("");
}

function writeMetric(metric: Metric): string {
  const { name, help, type } = metric;
  const lines = [`# HELP ${name} ${escapeHelp(help)}`, `# TYPE ${name} ${type}`];
  if (metric.type === "histogram") {
    lines.push(...histogramLines(name, metric.labels, metric.histogram));
  } else {
    lines.push(...metric.samples.map(({ labels, value }) => writeSample(name, labels, value)));
  }
  return lines.join("\n") + "\n";
}

/** A bucket counts all that is not above its edge, so the counts add up. */
function histogramLines(
  name: string,
  labels: Labels,
  { edges, counts, count, sum }: HistogramSnapshot,
): string[] {
  let below = 0;
  return [
    ...edges.map((edge, at) => {
      below += counts[at] ?? 0;
      return writeSample(`${name}_bucket`, { ...labels, le: writeEdge(edge) }, below);
    }),
    writeSample(`${name}_bucket`, { ...labels, le: "+Inf" }, count),
    writeSample(`${name}_sum`, labels, sum),
    writeSample(`${name}_count`, labels, count),
  ];
}

function writeSample(name: string, labels: Labels, value: number): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`);
  return `${name}{${pairs.join(",")}} ${writeNumber(value)}`;
}

function writeNumber(value: number): string {
  if (value === Infinity) return "+Inf";
  if (value === -Infinity) return "-Inf";
  return String(value); // NaN and 1e+21 are spelled as Prometheus reads them
}

/** With a fraction always: clients of other languages write 1.0, and queries compare the text. */
function writeEdge(edge: number): string {
  return Number.isInteger(edge) ? edge.toFixed(1) : String(edge);
}

function escapeHelp(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}

function escapeLabel(text: string): string {
  return escapeHelp(text).replaceAll('"', '\\"');
}
