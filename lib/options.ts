/** Everything `LLM.load` takes. */

import type { AttentionBucket } from "./device/bucket.ts";

/** One report of progress while a model loads. */
export interface LoadProgress {
  readonly stage: "read" | "compile";
  /** Bytes (read) or wires (compile) done, and in all. */
  readonly done: number;
  readonly total: number;
}

/** Options of `LLM.load`. Every one has a default. */
export interface LLMOptions {
  /** Worker threads, one a processing element. Default: the machine's cores, at most 8. 0 runs inline. */
  readonly threads?: number;
  /** Size of the KV pool in bytes. Default 536,870,912 (512 MiB), or less if the context needs less. */
  readonly kvCacheBytes?: number;
  /** How keys and values are stored. Default "bfloat16". */
  readonly kvCacheDtype?: "bfloat16" | "float32";
  /** Reuse the KV blocks of shared prompt prefixes. Default true. */
  readonly enablePrefixCaching?: boolean;
  /** Longest context in tokens. Default: the model's, or what the KV pool holds if that is less. */
  readonly maxModelLength?: number;
  /** Most sequences in one step. Default 64. */
  readonly maxBatchSize?: number;
  /** Most tokens in one step; longer prompts are prefilled in chunks. Default 512. */
  readonly maxTokensPerStep?: number;
  /** Requests that may wait; one more is refused with a `QueueFullError`. Default 1024. */
  readonly maxWaitingRequests?: number;
  /** (batch, context) shapes of whole-prompt steps. */
  readonly prefillBuckets?: readonly AttentionBucket[];
  /** (batch, context) shapes of one-token steps. */
  readonly decodeBuckets?: readonly AttentionBucket[];
  /** (batch, context, new tokens) shapes of the other steps. */
  readonly appendBuckets?: readonly AttentionBucket[];
  /** Row counts of the non-attention kernels. */
  readonly tokenwiseBuckets?: readonly number[];
  /** "simd" (default) or "reference", the plain twin: slow, for checking. */
  readonly kernels?: "simd" | "reference";
  /** A chat template that replaces the checkpoint's own. */
  readonly chatTemplate?: string;
  /** generation_config.json as the middle tier of sampling defaults. Default "auto"; "none" ignores it. */
  readonly generationConfig?: "auto" | "none";
  /** Branch, tag or commit of a hub model in the local cache. Default "main". */
  readonly revision?: string;
  /** Called while the model loads. */
  readonly onProgress?: (progress: LoadProgress) => void;
  /** Stops the loading. */
  readonly signal?: AbortSignal;
}
