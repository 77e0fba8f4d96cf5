/** From a model's name and options to what loading would make of it, without loading it. */

import { DeviceMemoryError } from "./base/errors.ts";
import { HBM_BYTES_MAX } from "./device/memory.ts";
import { endTokens, loadChatTemplates, loadTokenizer, readGivenDefaults } from "./loading.ts";
import type { ModelPlan, RopePlan, SequencePlan } from "./model_plan.ts";
import { type Checkpoint, openCheckpoint } from "./models/checkpoint.ts";
import { resolveModel } from "./models/hub.ts";
import { type KvPoolPlan, kvPools, sequencesHeld } from "./models/kv_pools.ts";
import { checkMemory, type ModelOptions, planModel } from "./models/model.ts";
import type { ModelConfig } from "./models/model_config.ts";
import type { PlannedModel } from "./models/planned_model.ts";
import type { RopeConfig } from "./models/rope.ts";
import { weightParts } from "./models/weight_parts.ts";
import { type LLMOptions, resolveOptions } from "./options.ts";
import { poolingModel } from "./pooling_model.ts";
import { loadSlowEngine } from "./text/slow_engine.ts";
import { TextWorker } from "./text/text_worker.ts";

/**
 * Tells what {@linkcode LLM.load} would make of a model: its parts and their bytes, the KV pools and
 * what they hold, the buckets, and whether the device has room for it all.
 *
 * No weights are read but a few kilobytes of each tensor, and no thread starts. Files are checked as
 * loading checks them. Of a model of the hub that is not in the cache the small files are downloaded,
 * and of its safetensors files the headers; a GGUF file is downloaded whole, as for loading. Values
 * of tensors are not looked at: a damaged weight is only found when it is loaded.
 *
 * @param model a GGUF file, a folder in Hugging Face layout, or the id of a hub model
 * @param options those that the model would be loaded with
 * @returns the plan, also of a model that does not fit: `fits` says so, and `problem` why
 * @throws {ModelNotFoundError} There is no such model.
 * @throws {CheckpointError} Its files cannot be used, as those of an architecture that is not known.
 * @throws {InvalidParameterError} An option is wrong, or does not go with the model.
 * @throws {UnsupportedTaskError} The model cannot do what `task` asks.
 *
 * @example How much memory a model takes, and for how many conversations it has room
 * ```ts ignore
 * import { inspectModel } from "@rngd/llm";
 *
 * const plan = await inspectModel("./SmolLM2-135M-Instruct.Q4_1.gguf", { kvCacheBytes: 2 ** 30 });
 * console.log(plan.fits ? `It takes ${plan.neededBytes} bytes` : plan.problem);
 * for (const { length, count } of plan.sequences) console.log(`${count} of ${length} tokens`);
 * ```
 */
export async function inspectModel(model: string, options: LLMOptions = {}): Promise<ModelPlan> {
  const resolved = resolveOptions(options);
  const given = readGivenDefaults(options, resolved.generationConfig);
  const { signal, revision, onProgress } = options;
  signal?.throwIfAborted();
  using headers = new TemporaryFolder();
  const path = await resolveModel(model, {
    ...(revision !== undefined && { revision }),
    ...(signal && { signal }),
    headersInto: () => headers.make(),
    onProgress: (done, total) => onProgress?.({ stage: "download", done, total }),
  });
  using checkpoint = await openCheckpoint(path);
  const { config } = checkpoint;
  const planned = planModel(checkpoint, resolved);
  const createEngine = resolved.tokenizerMode === "slow" ? await loadSlowEngine() : undefined;
  const tokenizer = loadTokenizer(checkpoint, createEngine);
  using worker = new TextWorker(); // its thread would start with a render, and none comes
  const templates = loadChatTemplates(checkpoint, tokenizer, {
    given: options.chatTemplate,
    contentFormat: resolved.chatTemplateContentFormat,
    worker,
  });
  const pooling = poolingModel(
    { id: model, checkpoint, model: withBlankHead(planned, checkpoint), tokenizer },
    resolved.task,
  );
  const pools = kvPools(planned);
  const problem = memoryProblem(planned, resolved);
  return {
    id: model,
    path: path === headers.path ? null : path,
    architecture: config.className,
    task: pooling.task,
    poolingTasks: pooling.tasks,
    parameterCount: planned.parameterCount,
    activeParameterCount: planned.activeParameterCount,
    layerCount: config.layerCount,
    hiddenSize: config.hiddenSize,
    headCount: config.headCount,
    kvHeadCount: config.kvHeadCount,
    headDim: config.headDim,
    vocabSize: config.vocabSize,
    rope: ropePlans(config),
    tokenizer: { kind: tokenizer.kind, vocabSize: tokenizer.vocabSize },
    endTokens: endTokens(checkpoint, given.folder ?? checkpoint.generation, tokenizer)
      .map((id) => ({ id, text: tokenizer.tokenString(id) })),
    hasChatTemplate: templates.main !== undefined,
    hasTiedHead: planned.isGenerative && config.tieWordEmbeddings,
    parts: weightParts(checkpoint, planned),
    kvCacheDtype: planned.kvDtype === "f32" ? "float32" : "bfloat16",
    kvPools: pools,
    kvCacheBytes: planned.kvCacheBytes,
    maxPromptLength: pooling.maxLength,
    maxContextLength: planned.maxContextLength,
    maxBatchSize: planned.maxBatchSize,
    sequences: planned.isEncoder ? [] : sequencePlans(pools, planned.maxContextLength),
    buckets: planned.buckets,
    neededBytes: planned.weightBytes + planned.floatBytes + planned.kvCacheBytes,
    availableBytes: HBM_BYTES_MAX,
    fits: problem === null,
    problem,
  };
}

/** A folder that is made when it is needed, and removed in the end. */
class TemporaryFolder implements Disposable {
  #path: string | undefined;

  get path(): string | undefined {
    return this.#path;
  }

  make(): string {
    return this.#path ??= Deno.makeTempDirSync({ prefix: "rngd-llm-" });
  }

  [Symbol.dispose](): void {
    if (this.#path !== undefined) Deno.removeSync(this.#path, { recursive: true });
  }
}

/** Why loading would refuse; null: it would not. */
function memoryProblem(planned: PlannedModel, options: ModelOptions): string | null {
  try {
    checkMemory(planned, options);
    return null;
  } catch (error) {
    if (!(error instanceof DeviceMemoryError)) throw error;
    return error.message;
  }
}

/** For finding out what a model is for its head needs its sizes alone, so that it is not read. */
function withBlankHead(planned: PlannedModel, { tensors }: Checkpoint) {
  const { isEncoder, isGenerative, hiddenSize, maxPromptLength, tokenTypeCount } = planned;
  const tensorF32 = (name: string) =>
    new Float32Array(tensors.get(name)?.shape.reduce((product, size) => product * size, 1) ?? 0);
  return { isEncoder, isGenerative, hiddenSize, maxPromptLength, tokenTypeCount, tensorF32 };
}

function ropePlans(config: ModelConfig): RopePlan[] {
  if (config.kind === "encoder") return [];
  const plan = (layers: RopePlan["layers"], { scaling, theta, rotaryDim }: RopeConfig) => ({
    layers,
    kind: scaling.kind === "none" ? "default" : scaling.kind,
    theta,
    rotaryDim,
  });
  const { windows, rope, slidingRope, fullLayersRotate } = config;
  const hasGlobal = windows.includes(0);
  const hasWindow = windows.some((window) => window > 0);
  if (!hasWindow || !hasGlobal) return [plan("all", (hasWindow && slidingRope) || rope)];
  if (!fullLayersRotate) return [plan("window", slidingRope ?? rope)];
  if (slidingRope === undefined) return [plan("all", rope)];
  return [plan("global", rope), plan("window", slidingRope)];
}

/** For 512, 2048 … tokens and the longest context. */
function sequencePlans(pools: readonly KvPoolPlan[], longest: number): SequencePlan[] {
  const lengths: number[] = [];
  for (let length = 512; length < longest; length *= 4) lengths.push(length);
  return [...lengths, longest].map((length) => ({ length, count: sequencesHeld(pools, length) }));
}
