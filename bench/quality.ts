/**
 * `deno run -A bench/quality.ts MODEL [FORMAT…]`: what each `dtype` and `activationDtype` costs on the golden
 * text, in perplexity and in KL divergence against the checkpoint's own precision. Float32 KV; one window, teacher-forced.
 * With formats, "Q4_K" for example, MODEL is a GGUF file that is written again in each of them, and
 * those files are what is measured.
 */

import { DeviceRunner } from "../lib/engine/runner.ts";
import { loadModel } from "../lib/loading.ts";
import type { LLMOptions } from "../mod.ts";
import { convertGguf, type WrittenFormat } from "./models/gguf_formats.ts";
import { GGUF_QUANTIZERS } from "./models/gguf_quantizers.ts";

type Precision = Required<Pick<LLMOptions, "dtype" | "activationDtype">>;

const PRECISIONS: readonly Precision[] = [
  ...(["auto", "float32", "bfloat16", "float16", "q8", "q4"] as const)
    .map((dtype) => ({ dtype, activationDtype: "float32" as const })),
  ...(["auto", "q8", "q4"] as const).flatMap((dtype) =>
    (["int16", "int8"] as const).map((activationDtype) => ({ dtype, activationDtype }))
  ),
];
/** Rows of logits a step gives back. */
const CHUNK = 64;

const text = await Deno.readTextFile(new URL("../tests/golden/smollm2/text.txt", import.meta.url));

/** Log-probabilities of every position but the last, and the tokens they predict. */
async function logprobs(
  path: string,
  precision: Precision,
): Promise<{ rows: Float32Array[]; next: number[]; weightBytes: number }> {
  const loaded = await loadModel(path, {
    ...precision,
    kvCacheDtype: "float32",
    maxModelLength: 1024,
  });
  try {
    const ids = loaded.tokenizer.encode(text, { addSpecialTokens: false });
    const runner = new DeviceRunner(loaded.model);
    const blocks = Array.from({ length: Math.ceil(ids.length / 16) }, (_, i) => i);
    const rows: Float32Array[] = [];
    for (let start = 0; start < ids.length - 1; start += CHUNK) {
      const positions = Int32Array.from(
        { length: Math.min(CHUNK, ids.length - 1 - start) },
        (_, i) => start + i,
      );
      const result = await runner.run({
        kind: start === 0 ? "prefill" : "append",
        tokenIds: positions.map((p) => ids[p] as number),
        positions,
        slots: positions,
        sequences: new Int32Array(positions.length),
        blockTables: [blocks.slice(0, Math.ceil((start + positions.length) / 16))],
        outputRows: positions.map((p) => p - start),
      });
      for (let i = 0; i < positions.length; i++) rows.push(logSoftmax(result.row(i)));
    }
    return { rows, next: ids.slice(1), weightBytes: loaded.model.weightBytes };
  } finally {
    await loaded.engine.close();
    await loaded.model.close();
    loaded.textWorker.close();
  }
}

function logSoftmax(row: Float32Array): Float32Array {
  let largest = -Infinity;
  for (const logit of row) largest = Math.max(largest, logit);
  let sum = 0;
  for (const logit of row) sum += Math.exp(logit - largest);
  const shift = largest + Math.log(sum);
  return row.map((logit) => logit - shift);
}

/** Σ p · (log p − log q). */
function divergence(p: Float32Array, q: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < p.length; i++) {
    const logP = p[i] as number;
    sum += Math.exp(logP) * (logP - (q[i] as number));
  }
  return sum;
}

const [path, ...formats] = Deno.args;
if (path === undefined) {
  console.error("Name a model: a GGUF file or a model's folder");
  Deno.exit(2);
}
const targets = ["f32", "bf16", "q8_0", "q4_0", ...Object.keys(GGUF_QUANTIZERS)];
for (const format of formats) {
  if (targets.includes(format)) continue;
  console.error(`Cannot write the format ${format}: it must be one of ${targets.join(", ")}`);
  Deno.exit(2);
}
let base: Float32Array[] | undefined;
console.log(
  "| dtype | activationDtype | weights, MB | perplexity | mean KL | largest KL | same first choice |",
);
console.log("| --- | --- | --- | --- | --- | --- | --- |");
async function measure(name: string, path: string, precision: Precision): Promise<void> {
  const { rows, next, weightBytes } = await logprobs(path, precision);
  base ??= rows;
  const nll = rows.reduce((sum, row, i) => sum - (row[next[i] as number] as number), 0) /
    rows.length;
  const kl = rows.map((row, i) => divergence((base as Float32Array[])[i] as Float32Array, row));
  const best = (row: Float32Array) => row.indexOf(row.reduce((a, b) => Math.max(a, b), -Infinity));
  const same = rows.filter((row, i) =>
    best(row) === best((base as Float32Array[])[i] as Float32Array)
  );
  const mean = kl.reduce((a, b) => a + b, 0) / kl.length;
  console.log(
    `| ${name} | ${precision.activationDtype} | ${(weightBytes / 1e6).toFixed(1)} | ${
      Math.exp(nll).toFixed(3)
    } | ${mean.toExponential(1)} | ${Math.max(...kl).toExponential(1)} | ${
      ((100 * same.length) / rows.length).toFixed(1)
    } % |`,
  );
}

const asFile: Precision = { dtype: "auto", activationDtype: "float32" };
if (formats.length === 0) {
  for (const precision of PRECISIONS) await measure(precision.dtype, path, precision);
} else {
  await measure("as it is", path, asFile);
  const folder = await Deno.makeTempDir({ prefix: "rngd-quality-" });
  try {
    for (const format of formats) {
      const file = `${folder}/${format}.gguf`;
      convertGguf(path, format as WrittenFormat, file);
      await measure(format, file, asFile);
      await Deno.remove(file);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
