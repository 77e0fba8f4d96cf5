/** What a model would be on the device, and whether it fits: plain data. */

import type { BucketTables } from "./device/bucket.ts";
import type { KvPoolPlan } from "./models/kv_pools.ts";
import type { WeightPart, WeightPartName } from "./models/weight_parts.ts";
import type { LLMOptions, ModelTask } from "./options.ts";
import type { PoolingTask } from "./pooling/params.ts";

export type { KvPoolPlan, WeightPart, WeightPartName };

/** How queries and keys rotate. */
export interface RopePlan {
  /** The layers that do: all, those that see everything, or those with a sliding window. */
  readonly layers: "all" | "global" | "window";
  /** How frequencies are stretched: "default" (not at all), "linear", "llama3", "yarn" and so on. */
  readonly kind: string;
  /** The base of the frequencies. */
  readonly theta: number;
  /** Floats of a head that rotate. */
  readonly rotaryDim: number;
}

/** The tokenizer. */
export interface TokenizerPlan {
  /** "BPE", "WordPiece", "Unigram" or "WordLevel". */
  readonly kind: string;
  /** One more than the largest id. */
  readonly vocabSize: number;
}

/** How many sequences of a length the KV pools hold. */
export interface SequencePlan {
  /** Tokens, prompt and answer together. */
  readonly length: number;
  /** Sequences of that length at the same time. A step runs `maxBatchSize` of them at most. */
  readonly count: number;
}

/** What `LLM.load` would make of a model. */
export interface ModelPlan {
  /** As it was named. */
  readonly id: string;
  /** The folder or file that the name stands for; null: only headers of it were downloaded. */
  readonly path: string | null;
  /** As config.json says: `LlamaForCausalLM`. */
  readonly architecture: string;
  /** What the model is used for: as it was asked for, or as its files say. */
  readonly task: ModelTask;
  /** What `encode` can make, the default first; none of a generative model. */
  readonly poolingTasks: readonly PoolingTask[];
  /** Numbers in the weights. */
  readonly parameterCount: number;
  /** Those that take part in one token: all but the experts that it does not go to. */
  readonly activeParameterCount: number;
  /** Layers. */
  readonly layerCount: number;
  /** Numbers in a hidden state. */
  readonly hiddenSize: number;
  /** Heads of queries. */
  readonly headCount: number;
  /** Heads of keys and values. */
  readonly kvHeadCount: number;
  /** Floats in a head. */
  readonly headDim: number;
  /** Rows of the embedding; the tokenizer may know fewer tokens. */
  readonly vocabSize: number;
  /** Rotary settings: none of an encoder, two where layers with a window have their own. */
  readonly rope: readonly RopePlan[];
  /** The tokenizer. */
  readonly tokenizer: TokenizerPlan;
  /** The tokens that end an answer, the tokenizer's own first. */
  readonly endTokens: readonly { readonly id: number; readonly text: string }[];
  /** Whether there is a chat template, the checkpoint's or one that was given. */
  readonly hasChatTemplate: boolean;
  /** Whether the head is the embedding once more. */
  readonly hasTiedHead: boolean;
  /** The weights by what they are for. */
  readonly parts: readonly WeightPart[];
  /** How keys and values are stored. An encoder's are float32, and do not outlive their step. */
  readonly kvCacheDtype: NonNullable<LLMOptions["kvCacheDtype"]>;
  /** The pools of KV blocks: one, or one for each kind of layer. */
  readonly kvPools: readonly KvPoolPlan[];
  /** Bytes of all KV blocks. */
  readonly kvCacheBytes: number;
  /** Longest prompt, in tokens. */
  readonly maxPromptLength: number;
  /** Longest prompt and output together, in tokens. */
  readonly maxContextLength: number;
  /** Most sequences in one step. */
  readonly maxBatchSize: number;
  /** How many sequences of some lengths fit, the longest last; none of an encoder. */
  readonly sequences: readonly SequencePlan[];
  /** The shapes that wires would be compiled for. */
  readonly buckets: BucketTables;
  /** Bytes of weights, tables, keys and values; activations and scratch memory come on top. */
  readonly neededBytes: number;
  /** Bytes that the device has. */
  readonly availableBytes: number;
  /** Whether the device holds it. */
  readonly fits: boolean;
  /** Why it does not, in the words of the error that loading would end with; null: it does. */
  readonly problem: string | null;
}
