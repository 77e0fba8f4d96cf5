/** The shape classes that wires are compiled for, and the choice of the smallest that fits. */

import { InvalidParameterError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";

/** What a step does: whole prompts, one new token a sequence, or several tokens on existing KV. */
export type BucketKind = "prefill" | "decode" | "append";

/** The shape one wire is compiled for. A smaller step runs in it; the padding costs no arithmetic. */
export interface Bucket {
  /** Which kind of step. */
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
  /** Sequences. */
  readonly batchSize: number;
  /** Longest context, new tokens included. */
  readonly attentionSize: number;
  /** New tokens a sequence, `append` only. */
  readonly inputSize?: number;
}

/** The tables a device is opened with. Each is sorted ascending. */
export interface BucketTables {
  /** For whole prompts. */
  readonly prefill: readonly AttentionBucket[];
  /** For one new token a sequence. */
  readonly decode: readonly AttentionBucket[];
  /** For several new tokens on existing KV. */
  readonly append: readonly AttentionBucket[];
  /** Row counts of the other kernels. */
  readonly tokenwise: readonly number[];
}

/** The least that one step needs of its bucket. */
export interface StepShape {
  readonly kind: BucketKind;
  readonly batchSize: number;
  readonly attentionSize: number;
  /** Most new tokens of any one sequence. */
  readonly inputSize: number;
  readonly tokenCount: number;
}

/** What the default tables are made from. */
export interface BucketLimits {
  readonly maxContextLength: number;
  readonly maxBatchSize: number;
  readonly maxTokensPerStep: number;
}

/** `from`, then `factor` times as much each time, and the limit itself. */
function growing(from: number, limit: number, factor: number): number[] {
  const sizes: number[] = [];
  for (let size = Math.min(from, limit); size < limit; size *= factor) sizes.push(size);
  return [...sizes, limit];
}

/**
 * The default tables: batch sizes 1, 4, 16 … up to the limit. Decode and append contexts 512,
 * 2048 … up to the longest; whole prompts 128, 512 … up to the tokens of one step; append takes
 * up to a whole step of new tokens. Token counts 1, 2, 4 … up to the tokens of one step. A coarse
 * table costs nothing but memory for block tables: kernels skip what a step does not fill.
 */
export function defaultBuckets(limits: BucketLimits): BucketTables {
  const contexts = growing(512, limits.maxContextLength, 4);
  const batches = growing(1, limits.maxBatchSize, 4);
  const inputSize = Math.min(limits.maxTokensPerStep, limits.maxContextLength);
  const cross = (sizes: readonly number[], extra: { inputSize?: number } = {}) =>
    batches.flatMap((batchSize) =>
      sizes.map((attentionSize) => ({ batchSize, attentionSize, ...extra }))
    );
  return {
    prefill: cross(growing(128, inputSize, 4)),
    decode: cross(contexts),
    append: cross(contexts, { inputSize }),
    tokenwise: growing(1, limits.maxTokensPerStep, 2),
  };
}

const isSize = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) > 0;

function checkAttentionTable(
  parameter: string,
  table: readonly AttentionBucket[],
  limits: BucketLimits,
  isAppend: boolean,
): AttentionBucket[] {
  if (table.length === 0) {
    throw new InvalidParameterError(parameter, table, `${parameter} must name at least one bucket`);
  }
  for (const bucket of table) {
    const text = JSON.stringify(bucket);
    const fail = (what: string) => {
      throw new InvalidParameterError(
        parameter,
        bucket,
        `Cannot use ${text} in ${parameter}: ${what}`,
      );
    };
    if (!isSize(bucket.batchSize)) fail("batchSize must be a positive integer");
    if (!isSize(bucket.attentionSize)) fail("attentionSize must be a positive integer");
    if (bucket.attentionSize > limits.maxContextLength) {
      fail(`attentionSize must be at most ${limits.maxContextLength}, the longest context`);
    }
    if (bucket.batchSize > limits.maxBatchSize) {
      fail(`batchSize must be at most maxBatchSize, ${limits.maxBatchSize}`);
    }
    if (isAppend && !(isSize(bucket.inputSize) && bucket.inputSize <= bucket.attentionSize)) {
      fail("inputSize must be a positive integer and at most attentionSize");
    }
    if (!isAppend && bucket.inputSize !== undefined) fail("only append buckets have an inputSize");
  }
  const inputOf = (bucket: AttentionBucket) => bucket.inputSize ?? 0;
  return [...table].sort((a, b) =>
    a.batchSize - b.batchSize || a.attentionSize - b.attentionSize || inputOf(a) - inputOf(b)
  );
}

/** Checks the tables a user gave and fills the rest with the defaults. */
export function bucketTables(given: Partial<BucketTables>, limits: BucketLimits): BucketTables {
  const defaults = defaultBuckets(limits);
  const tokenwise = [...given.tokenwise ?? defaults.tokenwise].sort((a, b) => a - b);
  const last = tokenwise.at(-1);
  if (last === undefined || !tokenwise.every(isSize)) {
    throw new InvalidParameterError(
      "tokenwiseBuckets",
      given.tokenwise,
      "tokenwiseBuckets must be a list of positive integers",
    );
  }
  if (last < limits.maxBatchSize) {
    throw new InvalidParameterError(
      "tokenwiseBuckets",
      given.tokenwise,
      `The largest of tokenwiseBuckets, ${last}, must hold one token for each of ${limits.maxBatchSize} sequences (maxBatchSize)`,
    );
  }
  const table = (parameter: string, list: readonly AttentionBucket[], isAppend: boolean) =>
    checkAttentionTable(parameter, list, limits, isAppend);
  return {
    prefill: table("prefillBuckets", given.prefill ?? defaults.prefill, false),
    decode: table("decodeBuckets", given.decode ?? defaults.decode, false),
    append: table("appendBuckets", given.append ?? defaults.append, true),
    tokenwise,
  };
}

const largest = (table: readonly AttentionBucket[]) =>
  Math.max(...table.map((bucket) => bucket.attentionSize));

/** The longest prompt the tables can take: in one piece, or appended in chunks. */
export function maxPromptLength(tables: BucketTables): number {
  return Math.max(largest(tables.prefill), largest(tables.append));
}

/** The longest prompt the tables can take in one step. */
export function maxWholePromptLength(tables: BucketTables): number {
  const appended = tables.append.map(({ attentionSize, inputSize = attentionSize }) =>
    Math.min(attentionSize, inputSize)
  );
  return Math.min(
    Math.max(largest(tables.prefill), ...appended),
    tables.tokenwise.at(-1) as number,
  );
}

/** The longest context the tables can reach. */
export function maxContextLength(tables: BucketTables): number {
  return Math.max(maxPromptLength(tables), largest(tables.decode));
}

function smallest(table: readonly AttentionBucket[], step: StepShape): AttentionBucket | undefined {
  let best: AttentionBucket | undefined;
  for (const bucket of table) {
    const fits = bucket.batchSize >= step.batchSize && bucket.attentionSize >= step.attentionSize &&
      (bucket.inputSize === undefined || bucket.inputSize >= step.inputSize);
    if (!fits) continue;
    const area = (b: AttentionBucket) => b.batchSize * b.attentionSize;
    if (best === undefined || area(bucket) < area(best)) best = bucket;
  }
  return best;
}

/**
 * The smallest bucket that holds a step, or undefined. A step that no prefill or decode bucket
 * holds runs as an append.
 */
export function findBucket(tables: BucketTables, step: StepShape): Bucket | undefined {
  const tokenCount = tables.tokenwise.find((count) => count >= step.tokenCount);
  const own = step.kind === "append" ? undefined : smallest(tables[step.kind], step);
  const found = own ?? smallest(tables.append, step);
  if (tokenCount === undefined || found === undefined) return undefined;
  return {
    kind: own === undefined ? "append" : step.kind,
    batchSize: found.batchSize,
    attentionSize: found.attentionSize,
    tokenCount,
  };
}

/** The smallest bucket that holds a step; it is a bug of whoever planned it when there is none. */
export function chooseBucket(tables: BucketTables, step: StepShape): Bucket {
  const bucket = findBucket(tables, step);
  invariant(bucket !== undefined, `No bucket holds a step of ${JSON.stringify(step)}`);
  return bucket;
}
