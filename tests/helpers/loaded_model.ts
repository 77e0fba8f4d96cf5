/** A model loaded as `LLM.load` does, for tests that talk to its engine. */

import { type LoadedModel, loadModel } from "../../lib/loading.ts";
import type { LLMOptions } from "../../mod.ts";

/** Loads a model, lets `use` work with it, and closes it. */
export async function withModel<Result>(
  path: string,
  options: LLMOptions,
  use: (loaded: LoadedModel) => Promise<Result>,
): Promise<Result> {
  const loaded = await loadModel(path, options);
  try {
    return await use(loaded);
  } finally {
    await loaded.engine.close();
    await loaded.model.close();
    loaded.textWorker.close();
  }
}
