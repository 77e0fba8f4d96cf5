/** The shape classes that wires are compiled for, and the choice of the smallest that fits. */

import { InvalidParameterError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";

/** What a step does: whole prompts, one new token a sequence, or several tokens on existing KV. */
export type BucketKind = "prefill" | "decode" | "append";

/** The shape one wire is compiled for. A smaller step runs in it; the padding costs no arithmetic. */
export interface Bucket {
  readonly kind: BucketKind;
  /** Sequences. */
  readonly batchSize: number;
  /** Longest context, new tokens included. */
  readonly attentionSize: number;
  /** Rows of the non-attention kernels: new tokens of all sequences together. */
  readonly tokenCount: number;
}

/** An attention bucket: how many sequences of how long a context, and new tokens for `append`. */
export interface AttentionBucket {
  readonly batchSize: number;
  readonly attentionSize: number;
  /** New tokens a sequence, `append` only. */
  readonly inputSize?: number;
}

/** The tables a device is opened with. Each is sorted ascending. */
export interface BucketTables {
  readonly prefill: readonly AttentionBucket[];
  readonly decode: readonly AttentionBucket[];
  readonly append: readonly AttentionBucket[];
  readonly tokenwise: readonly number[];
}
