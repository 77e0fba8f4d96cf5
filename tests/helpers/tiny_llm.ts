/** Tests that run on a loaded tiny model. */

import { LLM, type LLMOptions } from "../../mod.ts";
import { goldenModel } from "./golden_models.ts";
import { writeTinyModel } from "./tiny_model.ts";

/** Registers a test on a Llama of a few thousand weights, loaded for it alone. */
export function tinyTest(
  name: string,
  fn: (llm: LLM) => Promise<void>,
  options: LLMOptions = {},
): void {
  Deno.test(name, async () => {
    const dir = await Deno.makeTempDir();
    try {
      writeTinyModel(dir, goldenModel("llama"));
      await using llm = await LLM.load(dir, { threads: 1, ...options });
      await fn(llm);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  });
}

/** All that an async iterable gives. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** Waits until the engine has nothing left to do. */
export async function idle(llm: LLM): Promise<void> {
  const deadline = performance.now() + 5000;
  while (true) {
    const { runningCount, waitingCount, usedBlockCount } = llm.stats().engine;
    if (runningCount + waitingCount + usedBlockCount === 0) return;
    if (performance.now() > deadline) {
      throw new Error(`still at work: ${JSON.stringify(llm.stats().engine)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
