/** What a checkpoint becomes on a device: known from its headers, before anything heavy is read. */

import {
  type BucketTables,
  maxContextLength,
  maxPromptLength,
  maxWholePromptLength,
} from "../device/bucket.ts";
import type { Graph, WeightShape } from "../device/compiler/graph.ts";
import type { KvDtype } from "../device/kernel_table.ts";
import type { KvPlan } from "./kv_plan.ts";
import type { ModelConfig } from "./model_config.ts";
import type { DeviceMatrix } from "./weights.ts";

/** What is decided. The rest follows. */
export type PlannedFacts = Pick<
  PlannedModel,
  | "config"
  | "graph"
  | "kv"
  | "kvDtype"
  | "buckets"
  | "maxBatchSize"
  | "maxOutputRows"
  | "matrices"
  | "parameterCount"
  | "activeParameterCount"
>;

/** See the file's header. */
export class PlannedModel {
  readonly config: ModelConfig;
  readonly graph: Graph;
  /** KV blocks, and how many bytes they take. */
  readonly kv: KvPlan;
  readonly kvDtype: KvDtype;
  readonly buckets: BucketTables;
  /** Most sequences in one step. */
  readonly maxBatchSize: number;
  /** Most rows of logits in one step. */
  readonly maxOutputRows: number;
  readonly matrices: readonly DeviceMatrix[];
  readonly parameterCount: number;
  /** Those that take part in one token: all but the experts that it does not go to. */
  readonly activeParameterCount: number;

  constructor(facts: PlannedFacts) {
    this.config = facts.config;
    this.graph = facts.graph;
    this.kv = facts.kv;
    this.kvDtype = facts.kvDtype;
    this.buckets = facts.buckets;
    this.maxBatchSize = facts.maxBatchSize;
    this.maxOutputRows = facts.maxOutputRows;
    this.matrices = facts.matrices;
    this.parameterCount = facts.parameterCount;
    this.activeParameterCount = facts.activeParameterCount;
  }

  /** Bytes of the weight matrices as the device holds them. */
  get weightBytes(): number {
    return this.matrices.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  /** Bytes of the vectors and tables, which the device holds as float32. */
  get floatBytes(): number {
    return [...this.graph.weights.values()].reduce((sum, shape) => sum + floatBytes(shape), 0);
  }

  /** KV blocks of layers that see everything. */
  get blockCount(): number {
    return this.kv.blockCount;
  }

  /** The KV blocks of layers with a window; undefined where there are none. */
  get windowPool(): KvPlan["window"] {
    return this.kv.window;
  }

  /** Bytes of all KV blocks. */
  get kvCacheBytes(): number {
    return this.kv.poolBytes;
  }

  /** Whether each token sees all tokens of its sequence, so that a prompt runs in one step. */
  get isEncoder(): boolean {
    return this.config.kind === "encoder";
  }

  /** Whether it can give logits, and so tokens. Hidden states it can always give. */
  get isGenerative(): boolean {
    return this.graph.output !== null;
  }

  /** Numbers in a hidden state. */
  get hiddenSize(): number {
    return this.config.hiddenSize;
  }

  /** Token types (segments) that are told apart; 0: the model has none. */
  get tokenTypeCount(): number {
    return this.config.kind === "encoder" ? this.config.tokenTypeCount : 0;
  }

  /** Longest prompt the buckets take. */
  get maxPromptLength(): number {
    return this.isEncoder ? maxWholePromptLength(this.buckets) : maxPromptLength(this.buckets);
  }

  /** Longest context the buckets reach. */
  get maxContextLength(): number {
    return maxContextLength(this.buckets);
  }
}

/** Bytes of a weight that is float32 on the device whatever the checkpoint has; 0 of a matrix. */
export function floatBytes(shape: WeightShape): number {
  switch (shape.kind) {
    case "vector":
      return 4 * shape.length;
    case "table":
      return 4 * shape.rows * shape.width;
    default:
      return 0;
  }
}
