/** All logits of a prompt, read from the rows of the engine's own runner. */

import { DeviceRunner } from "../../lib/engine/runner.ts";
import type { Model } from "../../lib/models/model.ts";
import type { LLMOptions } from "../../mod.ts";
import { withModel } from "./loaded_model.ts";

/** One row of logits for each token of the prompt, with float32 keys and values. */
export function modelLogits(
  path: string,
  ids: readonly number[],
  options: LLMOptions = {},
): Promise<Float32Array[]> {
  return withModel(
    path,
    { kvCacheDtype: "float32", ...options },
    ({ model }) => promptLogits(model, ids),
  );
}

/** The same of a loaded model whose engine has nothing to do. */
export async function promptLogits(model: Model, ids: readonly number[]): Promise<Float32Array[]> {
  const positions = Int32Array.from(ids, (_, i) => i);
  const blockTables = [Array.from({ length: Math.ceil(ids.length / 16) }, (_, i) => i)];
  const rows = await new DeviceRunner(model).run({
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
  return ids.map((_, i) => rows.row(i).slice());
}
