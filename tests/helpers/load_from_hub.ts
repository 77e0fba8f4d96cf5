/** A program that loads MODEL as any other would, and prints what it saw and what the model writes. */

import { LLM, type LoadProgress, SamplingParams } from "../../mod.ts";

/** What is printed, as JSON. */
export interface Loaded {
  readonly stages: readonly LoadProgress["stage"][];
  readonly tokenIds: readonly number[];
}

if (import.meta.main) {
  const stages = new Set<LoadProgress["stage"]>();
  const onProgress = ({ stage }: LoadProgress) => void stages.add(stage);
  await using llm = await LLM.load(Deno.args[0] ?? "", { threads: 0, onProgress });
  const params = new SamplingParams({ temperature: 0, maxTokens: 8, ignoreEos: true });
  const { outputs } = await llm.generate({ promptTokenIds: [1, 5, 9] }, params);
  const loaded: Loaded = { stages: [...stages], tokenIds: outputs[0]?.tokenIds ?? [] };
  console.log(JSON.stringify(loaded));
}
