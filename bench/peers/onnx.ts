/**
 * onnxruntime beside our kernels: a float32 MatMul of each shape, one thread each, in turns, with
 * the filter for quiet samples that all kernels are timed with. Prints JSON.
 */

import * as native from "onnxruntime-node";
import * as web from "onnxruntime-web";
import { packPanel, panelBytes } from "../../lib/device/block_formats.ts";
import { createSimdKernels } from "../../lib/device/simd/simd.ts";
import { compileCalibration } from "../kernels/loops.ts";
import { isQuiet, QuietClock, type Sample, summarize } from "../kernels/quiet.ts";
import { matmulModel } from "./onnx_model.ts";
import type { OnnxReport, OnnxRow } from "./onnx_report.ts";

const SHAPES = [{ k: 576, n: 1536 }, { k: 1536, n: 576 }] as const;
const ROW_COUNTS = [1, 8, 64, 256] as const;
const MEBIBYTE = 1 << 20;

/** Where our operands are. */
const LAYOUT = {
  scratch: 0,
  scratchBytes: 4 * MEBIBYTE,
  x: 4 * MEBIBYTE,
  out: 8 * MEBIBYTE,
  weights: 16 * MEBIBYTE,
  end: 32 * MEBIBYTE,
} as const;

const WANTED = 20;
const LIMIT_MS = 6000;
const WARM_UP_MS = 300;
/** Both multiply the same numbers: how far apart results may lie, of sums of some hundred terms. */
const TOLERANCE = 1e-3;

const memory = new WebAssembly.Memory({
  initial: LAYOUT.end / 65536,
  maximum: LAYOUT.end / 65536,
  shared: true,
});
const kernels = createSimdKernels(memory, {
  address: LAYOUT.scratch,
  sizeBytes: LAYOUT.scratchBytes,
});
const clock = new QuietClock(compileCalibration(memory));

/** One product, by any of the three. */
type Product = () => Promise<Float32Array>;

interface Operands {
  readonly rowCount: number;
  readonly k: number;
  readonly n: number;
  readonly x: Float32Array;
  /** [n, k], as checkpoints have it. */
  readonly weight: Float32Array;
}

function draw(rowCount: number, k: number, n: number): Operands {
  const x = Float32Array.from({ length: rowCount * k }, () => Math.random() * 2 - 1);
  const weight = Float32Array.from({ length: n * k }, () => (Math.random() - 0.5) * 0.08);
  return { rowCount, k, n, x, weight };
}

function ours({ rowCount, k, n, x, weight }: Operands): Product {
  const size = panelBytes("f32", k);
  const rows = new Uint8Array(weight.buffer);
  for (let panel = 0; panel < n / 8; panel++) {
    const source = rows.subarray(panel * 32 * k, (panel + 1) * 32 * k);
    const target = new Uint8Array(memory.buffer, LAYOUT.weights + panel * size, size);
    packPanel("f32", k, source, 8, target);
  }
  new Float32Array(memory.buffer, LAYOUT.x, x.length).set(x);
  const args = {
    x: LAYOUT.x,
    xStride: k,
    rowCount,
    weight: { address: LAYOUT.weights, format: "f32", n, k },
    panelStart: 0,
    panelEnd: n / 8,
    out: LAYOUT.out,
    outStride: n,
  } as const;
  return () => {
    kernels.matmul(args);
    return Promise.resolve(new Float32Array(memory.buffer, LAYOUT.out, rowCount * n));
  };
}

/** The model holds the weight, so that onnxruntime may pack it when it is loaded. */
async function onnx(
  { InferenceSession, Tensor }: Pick<typeof web, "InferenceSession" | "Tensor">,
  { rowCount, k, n, x, weight }: Operands,
): Promise<Product> {
  const transposed = Float32Array.from(
    { length: k * n },
    (_, i) => weight[(i % n) * k + Math.floor(i / n)] as number,
  );
  const session = await InferenceSession.create(matmulModel(rowCount, k, n, transposed), {
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    executionProviders: [InferenceSession === web.InferenceSession ? "wasm" : "cpu"],
    graphOptimizationLevel: "all",
  });
  const input = new Tensor("float32", x, [rowCount, k]);
  return async () => (await session.run({ x: input }))["y"]?.data as Float32Array;
}

/** Times the three in turns. */
async function compare(rowCount: number, k: number, n: number): Promise<OnnxRow> {
  const operands = draw(rowCount, k, n);
  const products = [ours(operands), await onnx(web, operands), await onnx(native, operands)];
  const expected = (await products[0]!()).slice();
  for (const product of products) {
    const result = await product();
    const fault = result.findIndex((value, i) => !(Math.abs(value - expected[i]!) < TOLERANCE));
    if (fault >= 0) throw new Error(`Results differ at ${fault} of ${rowCount}×${k}×${n}`);
    const start = performance.now();
    while (performance.now() - start < WARM_UP_MS) await product();
  }
  const samples = products.map((): Sample[] => []);
  const deadline = performance.now() + LIMIT_MS;
  while (
    performance.now() < deadline && samples.some((list) => list.filter(isQuiet).length < WANTED)
  ) {
    for (const [i, product] of products.entries()) {
      samples[i]!.push(await clock.sampleAsync(product));
    }
  }
  const [mine, theirs, natives] = samples.map((list) => summarize(list).ms) as [
    number,
    number,
    number,
  ];
  return { shape: `${k}×${n}`, rowCount, web: theirs / mine, node: natives / mine };
}

web.env.wasm.numThreads = 1;
const rows: OnnxRow[] = [];
for (const { k, n } of SHAPES) {
  for (const rowCount of ROW_COUNTS) rows.push(await compare(rowCount, k, n));
}
const versions = {
  "onnxruntime-web": web.env.versions.web ?? web.env.versions.common,
  "onnxruntime-node": native.env.versions.node ?? native.env.versions.common,
};
console.log(JSON.stringify({ versions, rows } satisfies OnnxReport));
