/** A checkpoint on a device: the architecture table, and how much memory goes where. */

import { invariant } from "../base/invariant.ts";
import { type BucketTables, bucketTables } from "../device/bucket.ts";
import type { ActivationType } from "../device/activations.ts";
import type { Graph } from "../device/compiler/graph.ts";
import {
  bankCount,
  type Device,
  type DeviceOptions,
  numericsClass,
  openDevice,
  type SPOIL_KERNELS,
  type STORE_BYTES,
} from "../device/device.ts";
import type { KernelLimits, KvDtype, KvPool } from "../device/kernel_table.ts";
import { kvBlockBytes, type KvPoolShape } from "../device/kv_blocks.ts";
import { bertGraph } from "./architectures/bert.ts";
import { decoderGraph } from "./architectures/decoder.ts";
import { ROPE_TABLE, SLIDING_ROPE_TABLE } from "./architectures/decoder_parts.ts";
import { exaone4Graph } from "./architectures/exaone4.ts";
import { expertDecoderGraph } from "./architectures/expert_decoder.ts";
import { gemma3Graph } from "./architectures/gemma3.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { planKv } from "./kv_plan.ts";
import { parseExpertName } from "./expert_names.ts";
import type { TensorInfo } from "./expected_tensors.ts";
import { readHeadTensors } from "./head_tensors.ts";
import { roundEmbeddingScale } from "./embedding_scale.ts";
import type { DecoderArchitecture, DecoderConfig, ModelConfig } from "./model_config.ts";
import { PlannedModel } from "./planned_model.ts";
import { ropeChoice, ropeTable } from "./rope.ts";
import {
  type ActivationDtype,
  checkActivations,
  deviceMatrices,
  type LoadWatch,
  uploadWeights,
  type WeightDtype,
} from "./weights.ts";

type DecoderGraph = (config: DecoderConfig, positionCount: number) => Graph;

/** The architecture table: what each decoder computes in a step. */
const DECODER_GRAPHS: Readonly<Record<DecoderArchitecture, DecoderGraph>> = {
  LlamaForCausalLM: decoderGraph,
  MistralForCausalLM: decoderGraph,
  Qwen2ForCausalLM: decoderGraph,
  Qwen3ForCausalLM: decoderGraph,
  ExaoneForCausalLM: decoderGraph,
  Qwen3MoeForCausalLM: expertDecoderGraph,
  GptOssForCausalLM: expertDecoderGraph,
  Exaone4ForCausalLM: exaone4Graph,
  ExaoneMoeForCausalLM: expertDecoderGraph,
  SolarOpenForCausalLM: expertDecoderGraph,
  Gemma3ForCausalLM: gemma3Graph,
};

/** What a model computes in a step. */
function graphOf(config: ModelConfig, positionCount: number): Graph {
  switch (config.kind) {
    case "decoder":
      return DECODER_GRAPHS[config.architecture](config, positionCount);
    case "encoder":
      return bertGraph(config);
    default:
      return config satisfies never;
  }
}

const ACTIVATIONS: Readonly<Record<ActivationDtype, ActivationType>> = {
  float32: "f32",
  int16: "i16",
  int8: "i8",
};

/** How a model is put on a device. */
export interface ModelOptions extends LoadWatch {
  readonly threads: number;
  readonly kernels: "simd" | "reference";
  readonly dtype: WeightDtype;
  readonly activationDtype: ActivationDtype;
  readonly kvCacheBytes: number | undefined;
  /** Tokens of an average sequence, by which KV memory is divided. Default 1024. */
  readonly expectedAverageLength?: number | undefined;
  readonly kvCacheDtype: "bfloat16" | "float32";
  readonly maxModelLength: number | undefined;
  readonly maxBatchSize: number;
  /** Of an encoder a step takes at least the longest prompt, as that cannot be cut. */
  readonly maxTokensPerStep: number;
  readonly buckets: Partial<BucketTables>;
  /** What else the device is given: threads that were started earlier, or wrong kernels for tests. */
  readonly device?: Pick<
    DeviceOptions,
    "startedThreads" | "signal" | typeof SPOIL_KERNELS | typeof STORE_BYTES
  >;
}

/** Fewest rows of logits a step has room for: prompt log-probabilities come this many at a time. */
const OUTPUT_ROWS_MIN = 64;

/**
 * Refuses what cannot fit before a byte of it is read.
 *
 * @throws {DeviceMemoryError} It cannot.
 */
export function checkMemory(planned: PlannedModel, options: ModelOptions): void {
  bankCount(deviceOptions(planned, options));
}

/** The device that a model is opened on. */
function deviceOptions(planned: PlannedModel, options: ModelOptions): DeviceOptions {
  const { config, graph, matrices } = planned;
  return {
    ...options.device,
    threads: options.threads,
    kernels: options.kernels,
    limits: kernelLimits(config),
    maxOutputRows: planned.maxOutputRows,
    // What cannot fit is refused when it is opened, before a byte of it is read.
    memory: {
      matrices: matrices.map(({ sizeBytes }) => sizeBytes),
      kvLayers: kvLayerBytes(graph, kvShape(planned)),
    },
    activations: ACTIVATIONS[options.activationDtype],
  };
}

/** The keys and values of an encoder are activations like others: they do not outlive their step. */
function kvDtype({ kind }: ModelConfig, { kvCacheDtype }: ModelOptions): KvDtype {
  return kind === "encoder" || kvCacheDtype === "float32" ? "f32" : "bf16";
}

function kvShape({ config, kvDtype, kv: { blockCount, window } }: PlannedModel): KvPoolShape {
  return {
    dtype: kvDtype,
    kvHeads: config.kvHeadCount,
    headDim: config.headDim,
    blockCount,
    windowBlockCount: window?.blockCount ?? 0,
  };
}

/** The pool of each layer. */
function kvPools({ kvLayers }: Graph): KvPool[] {
  return kvLayers.map(({ pool = "global" }) => pool);
}

/** Bytes of each layer's keys and values. */
function kvLayerBytes(graph: Graph, shape: KvPoolShape): number[] {
  const { blockCount, windowBlockCount = 0 } = shape;
  return kvPools(graph).map((pool) =>
    kvBlockBytes(shape) * (pool === "window" ? windowBlockCount : blockCount)
  );
}

/** The tokens that a step takes, of an encoder with the longest prompt whole. */
function tokensPerStep({ kind }: ModelConfig, contextLength: number, given: number): number {
  return kind === "encoder" ? Math.max(given, contextLength) : given;
}

function kernelLimits(config: ModelConfig): KernelLimits {
  const { hiddenSize, intermediateSize, headCount, headDim, kvHeadCount } = config;
  const experts = config.kind === "decoder" ? config.experts : undefined;
  return {
    kMax: Math.max(
      hiddenSize,
      intermediateSize,
      headCount * headDim,
      experts?.intermediateSize ?? 0,
      experts?.sharedIntermediateSize ?? 0,
    ),
    headDimMax: headDim,
    headGroupMax: headCount / kvHeadCount,
  };
}

function elementCount({ shape }: TensorInfo): number {
  return shape.reduce((product, size) => product * size, 1);
}

function activeParameterCount(config: ModelConfig, infos: readonly TensorInfo[]): number {
  const experts = config.kind === "decoder" ? config.experts : undefined;
  const share = experts === undefined ? 1 : experts.choiceCount / experts.count;
  const counted = infos.map((info) =>
    elementCount(info) * (parseExpertName(info.name) === undefined ? 1 : share)
  );
  return Math.round(counted.reduce((sum, count) => sum + count, 0));
}

/** Which tables the length of contexts has chosen, where it does choose. */
function ropeChoices(config: ModelConfig, contextLength: number): string[] {
  if (config.kind !== "decoder") return [];
  return [config.rope, config.slidingRope].flatMap((rope) =>
    (rope && ropeChoice(rope, contextLength)) ?? []
  );
}

async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * What the checkpoint becomes on a device. Nothing of it is read, and it need not fit.
 *
 * @throws {InvalidParameterError} An option does not go with the model.
 */
export function planModel(checkpoint: Checkpoint, options: ModelOptions): PlannedModel {
  const { config } = checkpoint;
  const dtype = kvDtype(config, options);
  const kv = planKv(config, dtype, options);
  const maxTokensPerStep = tokensPerStep(config, kv.contextLength, options.maxTokensPerStep);
  const maxBatchSize = Math.min(options.maxBatchSize, maxTokensPerStep);
  const graph = graphOf(roundEmbeddingScale(checkpoint, options.dtype), kv.contextLength);
  const matrices = deviceMatrices(checkpoint, graph, options.dtype);
  checkActivations(checkpoint, graph, options);
  const infos = [...checkpoint.tensors.values()];
  return new PlannedModel({
    config,
    graph,
    kv,
    kvDtype: dtype,
    buckets: bucketTables(options.buckets, {
      maxContextLength: kv.contextLength,
      maxBatchSize,
      maxTokensPerStep,
    }),
    maxBatchSize,
    maxOutputRows: Math.max(OUTPUT_ROWS_MIN, maxBatchSize),
    matrices,
    parameterCount: infos.reduce((sum, info) => sum + elementCount(info), 0),
    activeParameterCount: activeParameterCount(config, infos),
  });
}

/** A model that is ready to run. */
export class Model extends PlannedModel implements AsyncDisposable {
  #fingerprint = "";
  #heads: ReadonlyMap<string, Float32Array> = new Map();
  /** How many kernels had been replaced when the fingerprint was taken. */
  #fallbackCount = -1;

  private constructor(
    planned: PlannedModel,
    readonly device: Device,
    /** Everything that can change a bit of the output, but for kernels that are replaced. */
    readonly identity: readonly string[],
  ) {
    super(planned);
  }

  /** Everything that can change a bit of the output, as a SHA-256 in hex. */
  get fingerprint(): string {
    return this.#fingerprint;
  }

  /** Brings the fingerprint up to date: the twin of a kernel need not have its last bits. */
  async noticeFallbacks(): Promise<void> {
    const { kernelFallbacks } = this.device;
    if (kernelFallbacks.length === this.#fallbackCount) return;
    this.#fallbackCount = kernelFallbacks.length;
    // The families alone: a reason may quote numbers that differ between equal devices.
    const families = kernelFallbacks.map((fallback) => fallback.split(":")[0] as string);
    this.#fingerprint = await sha256([...this.identity, ...families].join("\n"));
  }

  /**
   * A tensor of the head that is computed on the host, row-major: of the layers that
   * `config.head` names "….weight" and, of an encoder's, "….bias".
   */
  tensorF32(name: string): Float32Array {
    const values = this.#heads.get(name);
    invariant(values !== undefined, `The head of ${this.config.className} has no "${name}"`);
    return values;
  }

  /** Opens a device and reads the checkpoint's weights into it. */
  static async load(checkpoint: Checkpoint, options: ModelOptions): Promise<Model> {
    const model = await Model.open(checkpoint, options);
    try {
      await model.upload(checkpoint, options);
      return model;
    } catch (error) {
      await model.close();
      throw error;
    }
  }

  /** Opens a device that has room for the checkpoint. Its threads start before this first waits. */
  static async open(checkpoint: Checkpoint, options: ModelOptions): Promise<Model> {
    const planned = planModel(checkpoint, options);
    const device = await openDevice(deviceOptions(planned, options));
    return new Model(planned, device, [
      checkpoint.identity,
      options.dtype,
      options.activationDtype,
      planned.kvDtype,
      options.kernels,
      numericsClass(),
      ...ropeChoices(planned.config, planned.kv.contextLength),
    ]);
  }

  /** Reads the weights, and makes room for keys and values: then the model can run. */
  async upload(checkpoint: Checkpoint, options: ModelOptions): Promise<void> {
    const { config, device } = this;
    await uploadWeights(checkpoint, this.graph, device, options);
    this.#heads = readHeadTensors(checkpoint);
    const { contextLength } = this.kv;
    if (config.kind === "decoder") {
      for (
        const [name, rope] of [
          [ROPE_TABLE, config.rope],
          [SLIDING_ROPE_TABLE, config.slidingRope],
        ] as const
      ) {
        if (rope === undefined || !this.graph.weights.has(name)) continue;
        device.uploadFloats(name, ropeTable(rope, contextLength));
      }
    }
    device.allocateKv(kvPools(this.graph), kvShape(this));
    await this.noticeFallbacks();
  }

  close(): Promise<void> {
    return this.device.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
