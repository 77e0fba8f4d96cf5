/** Requests as the engine takes them, engines over a loaded model, and what came out by sequence. */

import { assert } from "@std/assert";
import { Engine, type EngineOptions, type TokenEvent } from "../../lib/engine/engine.ts";
import { DeviceRunner, type Runner } from "../../lib/engine/runner.ts";
import { loadModel } from "../../lib/loading.ts";
import type { LLMOptions } from "../../lib/options.ts";
import { SamplingParams, type SamplingParamsOptions } from "../../lib/sampling/params.ts";
import {
  type BeamParams,
  type ResolvedSamplingParams,
  resolveSamplingParams,
} from "../../lib/sampling/resolved_params.ts";
import { goldenModel, type GoldenModelName } from "./golden_models.ts";
import { writeTinyModel } from "./tiny_model.ts";

/** Parameters of one sequence, with a change where several are wanted. */
export function engineParams(
  options: SamplingParamsOptions,
  change: Partial<ResolvedSamplingParams> = {},
): ResolvedSamplingParams {
  return { ...resolveSamplingParams(new SamplingParams(options)), ...change };
}

/** Parameters of a search that returns all it finds; neutral where nothing else is said. */
export function beamParams(
  { width, lengthPenalty = 1, earlyStopping = false }: Partial<BeamParams> & { width: number },
  options: SamplingParamsOptions = {},
): ResolvedSamplingParams {
  const beam = { width, lengthPenalty, earlyStopping };
  return engineParams({ temperature: 0, ...options }, { n: width, bestOf: width, beam });
}

/** Events by sequence. */
export async function sequencesOf(channel: AsyncIterable<TokenEvent>): Promise<TokenEvent[][]> {
  const sequences: TokenEvent[][] = [];
  for await (const event of channel) (sequences[event.index] ??= []).push(event);
  return sequences;
}

/** Less than the loaded model could do. */
type TighterLimits =
  & Partial<Pick<Runner, "blockCount" | "maxBatchSize" | "maxTokensPerStep">>
  & { readonly windowBlockCount?: number };

/** Makes an engine over a model that stays loaded; one engine at a time. */
export type MakeEngine = (options?: Partial<EngineOptions> & TighterLimits) => Engine;

/** Loads a model for the time of a test. */
export async function withModel(
  path: string,
  options: LLMOptions,
  use: (makeEngine: MakeEngine, runner: DeviceRunner) => Promise<void>,
): Promise<void> {
  const loaded = await loadModel(path, { kvCacheDtype: "float32", ...options });
  const runner = new DeviceRunner(loaded.model);
  try {
    await use((more = {}) => {
      const { blockCount, windowBlockCount, maxBatchSize, maxTokensPerStep, ...options } = more;
      const { window } = runner;
      assert((blockCount ?? 0) <= runner.blockCount, "The device has fewer blocks");
      assert((windowBlockCount ?? 0) <= (window?.blockCount ?? Infinity), "Fewer window blocks");
      const limited: Runner = {
        blockCount: blockCount ?? runner.blockCount,
        window: window && { ...window, blockCount: windowBlockCount ?? window.blockCount },
        maxBatchSize: maxBatchSize ?? runner.maxBatchSize,
        maxTokensPerStep: maxTokensPerStep ?? runner.maxTokensPerStep,
        maxOutputRows: runner.maxOutputRows,
        maxContextLength: runner.maxContextLength,
        maxPromptLength: runner.maxPromptLength,
        vocabSize: runner.vocabSize,
        run: (batch) => runner.run(batch),
      };
      return new Engine(limited, {
        enablePrefixCaching: true,
        maxWaitingRequests: 1000,
        endTokenIds: [],
        fits: (step) => runner.fits(step),
        ...options,
      });
    }, runner);
  } finally {
    await loaded.engine.close();
    await loaded.model.close();
    loaded.textWorker.close();
  }
}

/** The same with one of the tiny golden models. */
export async function withTinyModel(
  name: GoldenModelName,
  options: LLMOptions,
  use: (makeEngine: MakeEngine) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(dir, goldenModel(name));
    await withModel(dir, options, use);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}
