/** All logits of a prompt, read from the rows of the engine's own runner. */

import { DeviceRunner } from "../../lib/engine/runner.ts";
import { loadModel } from "../../lib/loading.ts";
import type { LLMOptions } from "../../mod.ts";

/** One row of logits for each token of the prompt, with float32 keys and values. */
export async function modelLogits(
  path: string,
  ids: readonly number[],
  options: LLMOptions = {},
): Promise<Float32Array[]> {
  return (await runPrompt(path, ids, options)).rows;
}

/** The same, and the names of the kernels that computed them. */
export async function runPrompt(
  path: string,
  ids: readonly number[],
  options: LLMOptions,
): Promise<{ readonly rows: Float32Array[]; readonly kernels: string[] }> {
  const loaded = await loadModel(path, { kvCacheDtype: "float32", ...options });
  try {
    const positions = Int32Array.from(ids, (_, i) => i);
    const blockTables = [Array.from({ length: Math.ceil(ids.length / 16) }, (_, i) => i)];
    const rows = await new DeviceRunner(loaded.model).run({
      kind: "prefill",
      tokenIds: Int32Array.from(ids),
      positions,
      slots: positions,
      sequences: new Int32Array(ids.length),
      blockTables,
      windowSlots: positions,
      windowBlockTables: blockTables,
      outputRows: positions,
    });
    const kernels = (await loaded.model.device.trace()).map((entry) => entry.kernel);
    return { rows: ids.map((_, i) => rows.row(i).slice()), kernels };
  } finally {
    await loaded.engine.close();
    await loaded.model.close();
    loaded.textWorker.close();
  }
}
