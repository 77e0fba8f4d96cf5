/** onnxruntime's products beside ours, on the same shapes in the same process. */

import type { OnnxReport } from "../peers/onnx_report.ts";
import { runPeer } from "../peers/peer_process.ts";
import { rounded } from "../report/figures.ts";
import type { Table } from "../report/results.ts";
import type { Share } from "./part.ts";

const GOAL = "over onnxruntime-web, GEMM m ≥ 64";

/** Runs the comparison in a process of its own, which is the one that downloads the peers. */
export async function measureOnnx(say: (text: string) => void): Promise<Share> {
  const outcome = await runPeer("onnx.ts");
  if ("failure" in outcome) {
    say(`onnxruntime: ${outcome.failure}`);
    return { findings: [{ goal: GOAL, skipped: outcome.failure }], tables: [] };
  }
  const { versions, rows }: OnnxReport = JSON.parse(outcome.output);
  for (const { shape, rowCount, web, node } of rows) {
    say(`onnxruntime ${shape}, m = ${rowCount}: web ${rounded(web)}, node ${rounded(node)}`);
  }
  const many = rows.filter(({ rowCount }) => rowCount >= 64);
  const table: Table = {
    title: "onnxruntime",
    text:
      "Our float32 products over onnxruntime's, one thread each, weights in the cache: above 1 " +
      "ours is faster. onnxruntime-web is WebAssembly too; onnxruntime-node is native code with " +
      "vectors of up to 512 bits.",
    columns: ["k×n", "m", "over onnxruntime-web", "over onnxruntime-node"],
    rows: rows.map(({ shape, rowCount, web, node }) => [
      ...[shape, `${rowCount}`],
      ...[rounded(web), rounded(node)],
    ]),
  };
  const value = rounded(Math.min(...many.map(({ web }) => web)));
  return { findings: [{ goal: GOAL, value }], tables: [table], facts: versions };
}
