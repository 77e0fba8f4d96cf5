/** What `--dry-run` shows: the plan of a model as aligned text. */

import type { AttentionBucket, KvPoolPlan, ModelPlan, RopePlan, WeightPart } from "../mod.ts";

const BLOCK_TOKENS = 16;

/** The facts of the model, its weights, its KV pools, the buckets, and whether it all fits. */
export function planText(plan: ModelPlan): string {
  const sections = [
    [["Model", plan.id], ...modelRows(plan)].map(([name = "", text = ""]) => label(name, text)),
    weightLines(plan),
    kvLines(plan),
    bucketLines(plan),
    memoryLines(plan),
  ];
  return sections.map((lines) => lines.join("\n")).join("\n\n");
}

const LABEL_WIDTH = 14;

function label(name: string, text: string): string {
  return `${name.padEnd(LABEL_WIDTH)}${text}`;
}

function modelRows(plan: ModelPlan): string[][] {
  const { layerCount, hiddenSize, headCount, kvHeadCount, headDim, tokenizer, task } = plan;
  const ends = plan.endTokens.map(({ id, text }) => `${JSON.stringify(text)} (${id})`).join(", ");
  return [
    ["Architecture", `${plan.architecture}, to ${task}`],
    ["Parameters", count(plan.parameterCount) + short(plan.parameterCount)],
    ...(plan.activeParameterCount === plan.parameterCount
      ? []
      : [["of a token", count(plan.activeParameterCount) + short(plan.activeParameterCount)]]),
    [
      "Layers",
      `${layerCount} of width ${count(hiddenSize)}, ${headCount} heads of ${headDim}, ` +
      `${kvHeadCount} of keys and values`,
    ],
    ...windowRows(plan),
    ...plan.rope.map((rope) => ["RoPE", ropeText(rope)]),
    [
      "Tokenizer",
      `${tokenizer.kind}, ${count(tokenizer.vocabSize)} tokens` +
      (tokenizer.vocabSize === plan.vocabSize ? "" : ` of ${count(plan.vocabSize)} rows`),
    ],
    ...(task === "generate" ? [["End tokens", ends === "" ? "none" : ends]] : []),
    ["Chat template", plan.hasChatTemplate ? "yes" : "no"],
    [
      "Context",
      task === "generate"
        ? `${count(plan.maxContextLength)} tokens, prompt and answer together`
        : `${count(plan.maxPromptLength)} tokens a text`,
    ],
  ];
}

function windowRows({ kvPools, layerCount }: ModelPlan): string[][] {
  const sliding = kvPools.find(({ pool }) => pool === "window");
  if (sliding === undefined || sliding.window === null) return [];
  return [[
    "Windows",
    `${sliding.layerCount} of ${layerCount} layers see the last ${count(sliding.window)} tokens`,
  ]];
}

const LAYERS: Readonly<Record<RopePlan["layers"], string>> = {
  all: "",
  global: ", of layers that see everything",
  window: ", of layers with a window",
};

function ropeText({ kind, theta, rotaryDim, layers }: RopePlan): string {
  return `${kind}, θ ${count(theta)}, ${rotaryDim} floats of a head${LAYERS[layers]}`;
}

function weightLines({ parts, hasTiedHead }: ModelPlan): string[] {
  const sum = (of: (part: WeightPart) => number) =>
    parts.reduce((total, part) => total + of(part), 0);
  const rows = parts.map((part) => [
    part.part,
    part.parameterCount === 0 ? "" : count(part.parameterCount),
    part.storedBytes === 0 ? "computed" : bytes(part.storedBytes),
    part.storedFormats.join(", "),
    part.deviceBytes === 0 ? "on the host" : bytes(part.deviceBytes),
    part.deviceFormats.join(", "),
  ]);
  const total = [
    "all",
    count(sum((part) => part.parameterCount)),
    bytes(sum((part) => part.storedBytes)),
    "",
    bytes(sum((part) => part.deviceBytes)),
    "",
  ];
  const table = [["Weights", "parameters", "stored", "", "on the device", ""], ...rows, total];
  return [
    ...aligned(table, [1, 2, 4]),
    ...(hasTiedHead ? ["The head is the embedding once more."] : []),
  ];
}

function kvLines(plan: ModelPlan): string[] {
  const { kvPools, kvCacheDtype, sequences, maxBatchSize } = plan;
  const rows = kvPools.map((pool) => [
    poolName(pool),
    bytes(pool.bytesPerToken),
    count(pool.blockCount),
    bytes(pool.sizeBytes),
    pool.blocksPerSequenceMax === null
      ? ""
      : `a sequence holds at most ${count(pool.blocksPerSequenceMax)} blocks`,
  ]);
  const head = [`KV cache`, "a token", `blocks of ${BLOCK_TOKENS}`, kvCacheDtype, ""];
  const held = sequences.map(({ length, count: sequenceCount }) =>
    `${count(sequenceCount)} of ${count(length)}`
  );
  return [
    ...aligned([head, ...rows], [1, 2, 3]),
    ...(held.length === 0
      ? []
      : [`Sequences that fit, by tokens: ${held.join(", ")}; at most ${maxBatchSize} in a step`]),
  ];
}

function poolName({ layerCount, window }: KvPoolPlan): string {
  const layers = layerCount === 1 ? "1 layer" : `${count(layerCount)} layers`;
  return window === null ? layers : `${layers}, ${count(window)} tokens`;
}

function bucketLines({ buckets }: ModelPlan): string[] {
  const rows = (["prefill", "decode", "append"] as const).map((kind) => [
    kind,
    bucketSizes(buckets[kind]),
  ]);
  return aligned(
    [["Buckets", "batch × context"], ...rows, ["tokens", buckets.tokenwise.join(" ")]],
    [],
  );
}

/** Batch sizes that have the same contexts share a group. */
function bucketSizes(table: readonly AttentionBucket[]): string {
  const contexts = Map.groupBy(table, ({ batchSize }) => batchSize);
  const batches = Map.groupBy(contexts, ([, group]) => {
    return group.map(({ attentionSize, inputSize }) =>
      `${attentionSize}${inputSize === undefined ? "" : `(${inputSize})`}`
    ).join(" ");
  });
  return [...batches].map(([sizes, group]) => {
    return `${group.map(([batchSize]) => batchSize).join(" ")} × ${sizes}`;
  }).join("; ");
}

function memoryLines({ parts, kvCacheBytes, neededBytes, availableBytes, problem }: ModelPlan) {
  const weights = parts.reduce((sum, { deviceBytes }) => sum + deviceBytes, 0);
  const share = `${(100 * neededBytes / availableBytes).toFixed(1)} %`;
  const missing = neededBytes - availableBytes;
  return [
    ...aligned([
      ["Memory", "", ""],
      ["weights", bytes(weights), ""],
      ["KV cache", bytes(kvCacheBytes), ""],
      ["needed", bytes(neededBytes), `${share} of ${bytes(availableBytes)}`],
    ], [1]),
    problem === null
      ? "It fits."
      : `It does not fit${missing > 0 ? `: ${bytes(missing)} are missing` : ""}.\n${problem}`,
  ];
}

/** Rows as columns; those of numbers end at the same place. */
function aligned(rows: readonly (readonly string[])[], numbers: readonly number[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => [...row[column] ?? ""].length))
  );
  return rows.map((row, index) =>
    row.map((cell, column) => {
      const text = column === 0 && index > 0 ? `  ${cell}` : cell;
      const width = (widths[column] ?? 0) + (column === 0 ? 2 : 0);
      return numbers.includes(column) ? text.padStart(width) : text.padEnd(width);
    }).join("  ").trimEnd()
  );
}

function count(value: number): string {
  return value.toLocaleString("en");
}

/** Behind a number: about how much that is. */
function short(value: number): string {
  if (value < 1e6) return "";
  return value < 1e9 ? ` (${(value / 1e6).toFixed(1)} M)` : ` (${(value / 1e9).toFixed(1)} B)`;
}

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"] as const;

/** In the largest unit of 1024 that leaves at least 1. */
function bytes(value: number): string {
  const power = value < 1 ? 0 : Math.min(4, Math.floor(Math.log2(value) / 10));
  const amount = value / 1024 ** power;
  return `${power === 0 ? count(amount) : amount.toFixed(1)} ${UNITS[power]}`;
}
