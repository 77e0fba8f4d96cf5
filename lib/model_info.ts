/** Facts about a loaded model, and how its engine is doing. */

import type { HistogramSnapshot } from "./base/histogram.ts";
import type { BucketTables } from "./device/bucket.ts";
import type { WireStats } from "./device/device.ts";
import type { BlockStats, EngineStats } from "./engine/engine_stats.ts";
import type { RequestEnd, RequestStats } from "./engine/request_metrics.ts";
import type { Model } from "./models/model.ts";
import type { LLMOptions, ModelTask } from "./options.ts";
import type { PoolingTask } from "./pooling/params.ts";
import type { PoolingModel } from "./pooling_model.ts";

export type { BlockStats, EngineStats, HistogramSnapshot, RequestEnd, RequestStats, WireStats };

/** Facts about a loaded model. */
export interface ModelInfo {
  /** As it was named to `LLM.load`. */
  readonly id: string;
  /** As config.json says: `LlamaForCausalLM`. */
  readonly architecture: string;
  /** What the model is used for: as it was asked for, or as its files say. */
  readonly task: ModelTask;
  /** What `encode` can make, the default first; none of a generative model. */
  readonly poolingTasks: readonly PoolingTask[];
  /** Numbers of an embedding that is not cut; null where the model gives none. */
  readonly embeddingSize: number | null;
  /** Entries of the vocabulary. */
  readonly vocabSize: number;
  /** Longest prompt, in tokens. */
  readonly maxPromptLength: number;
  /** Longest prompt and output together, in tokens. */
  readonly maxContextLength: number;
  /** Names everything that can change a bit of the output: weights, activations, KV dtype, kernels, numerics. */
  readonly fingerprint: string;
  /** Processing elements that run as threads; 0 when the one there is runs inline. */
  readonly threads: number;
  /** Numbers in the weights. */
  readonly parameterCount: number;
  /** Those of them that take part in one token: fewer in a model with experts. */
  readonly activeParameterCount: number;
  /** How matrices are stored on the device: "auto" is as the checkpoint stores each. */
  readonly dtype: NonNullable<LLMOptions["dtype"]>;
  /** How activations meet quantised weights. */
  readonly activationDtype: NonNullable<LLMOptions["activationDtype"]>;
  /** Bytes of the weight matrices as the device holds them. */
  readonly weightBytes: number;
  /** Bytes of the KV pool. */
  readonly kvCacheBytes: number;
  /**
   * Fast kernels that gave wrong answers on this machine, and what computes in their place, slower:
   * `matmul.bf16: …`. Each is checked when it is first needed, so that a step may add to the list,
   * and change the fingerprint with it. Empty on a sound machine.
   */
  readonly kernelFallbacks: readonly string[];
  /** Whether there is a chat template, the checkpoint's or one that was given. */
  readonly hasChatTemplate: boolean;
  /** Requests that may wait; one more is refused. */
  readonly maxWaitingRequests: number;
  /** The shapes that wires are compiled for. */
  readonly buckets: BucketTables;
}

/** Counters of a running model. */
export interface ModelStats {
  /** Counters of the engine. */
  readonly engine: EngineStats;
  /** How long requests took, and how large they were. */
  readonly requests: RequestStats;
  /** Counters of the wire cache. */
  readonly wires: WireStats;
}

/** Gathers the facts. */
export function modelInfo(
  model: Model,
  pooling: PoolingModel,
  given: Pick<
    ModelInfo,
    "id" | "threads" | "dtype" | "activationDtype" | "hasChatTemplate" | "maxWaitingRequests"
  >,
): ModelInfo {
  return {
    ...given,
    task: pooling.task,
    poolingTasks: pooling.tasks,
    embeddingSize: pooling.embedding?.width ?? null,
    architecture: model.config.className,
    vocabSize: model.config.vocabSize,
    maxPromptLength: pooling.maxLength,
    maxContextLength: model.maxContextLength,
    get fingerprint() {
      return model.fingerprint;
    },
    get kernelFallbacks() {
      return model.device.kernelFallbacks;
    },
    parameterCount: model.parameterCount,
    activeParameterCount: model.activeParameterCount,
    weightBytes: model.weightBytes,
    kvCacheBytes: model.kvCacheBytes,
    buckets: model.buckets,
  };
}
