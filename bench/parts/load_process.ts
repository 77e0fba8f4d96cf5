/** The process whose start is measured: loads a model, waits for one token, prints when. */

import { LLM, SamplingParams } from "../../mod.ts";

/** Milliseconds since the process began at which each phase ended. */
export interface LoadMoments {
  readonly imported: number;
  readonly read: number;
  readonly compiled: number;
  readonly loaded: number;
  readonly token: number;
}

/** In their order. */
export const PHASES: readonly (keyof LoadMoments)[] = [
  "imported",
  "read",
  "compiled",
  "loaded",
  "token",
];

async function measure(path: string, startMs: number): Promise<LoadMoments> {
  const now = () => performance.timeOrigin + performance.now() - startMs;
  const imported = now();
  let read = imported;
  let compiled = imported;
  await using llm = await LLM.load(path, {
    onProgress: ({ stage }) => {
      if (stage === "read") read = now();
      if (stage === "compile") compiled = now();
    },
  });
  const loaded = now();
  const params = new SamplingParams({ temperature: 0.8, topK: 40, seed: 1, maxTokens: 1 });
  await llm.generate("The capital of France is", params);
  return { imported, read, compiled, loaded, token: now() };
}

if (import.meta.main) {
  const [path, startMs] = Deno.args;
  console.log(JSON.stringify(await measure(path as string, Number(startMs))));
}
