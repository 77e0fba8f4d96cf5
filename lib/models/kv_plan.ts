/**
 * How the memory for keys and values is divided: how many blocks there are, of layers that see
 * everything and of those that see a window, and how long contexts can be.
 *
 * A sequence of n tokens holds ⌈n / 16⌉ blocks of each layer that sees everything, and of a layer
 * with a window of W tokens at most ⌊(W + 14) / 16⌋ + 1 blocks between two steps, however long it
 * is. While its prompt is computed in chunks of C tokens, it holds ⌊(W + C + 13) / 16⌋ + 1 of them.
 */

import { InvalidParameterError } from "../base/errors.ts";
import { KV_BLOCK_SIZE, type KvDtype } from "../device/kernel_table.ts";
import { kvBlockBytes } from "../device/kv_blocks.ts";
import { windowRoom } from "../device/kv_window.ts";
import type { ModelConfig } from "./model_config.ts";

/** What is asked for. */
export interface KvPlanOptions {
  readonly kvCacheBytes: number | undefined;
  /** Tokens of an average sequence. Default 1024. */
  readonly expectedAverageLength?: number | undefined;
  readonly maxModelLength: number | undefined;
  readonly maxBatchSize: number;
  readonly maxTokensPerStep: number;
}

/** How long contexts can be, and how many KV blocks hold them. */
export interface KvPlan {
  /**
   * Blocks of layers that see everything. Where there are none they take no memory, and only count
   * the tokens of sequences.
   */
  readonly blockCount: number;
  /** The pool of layers with a window; undefined where there are none. */
  readonly window:
    | { readonly window: number; readonly blockCount: number; readonly isOnly: boolean }
    | undefined;
  readonly poolBytes: number;
  readonly contextLength: number;
}

/** Size of the KV memory where nothing else is said. */
const KV_CACHE_BYTES_DEFAULT: number = 512 * 1024 * 1024;

/**
 * Where memory does not hold all contexts in full length, it is divided between the two pools as
 * sequences of so many tokens need it: longer ones run out of the blocks of the first pool earlier,
 * shorter ones of the second.
 */
const AVERAGE_LENGTH_DEFAULT = 1024;

/** Divides memory between contexts: as long as the model allows, as many as it holds. */
export function planKv(config: ModelConfig, dtype: KvDtype, options: KvPlanOptions): KvPlan {
  const { maxModelLength } = options;
  const { contextLength: modelLength } = config;
  if (maxModelLength !== undefined && maxModelLength > modelLength) {
    throw new InvalidParameterError(
      "maxModelLength",
      maxModelLength,
      `Cannot use maxModelLength ${maxModelLength}: the model takes at most ${modelLength} tokens`,
    );
  }
  const length = maxModelLength ?? modelLength;
  const windows = config.kind === "decoder" ? config.windows : [];
  const slidingCount = windows.filter((window) => window > 0).length;
  const shape = { dtype, kvHeads: config.kvHeadCount, headDim: config.headDim };
  const layerBytes = kvBlockBytes(shape);
  if (slidingCount === 0) {
    // An encoder's layers share the keys and values of one.
    const layerCount = config.kind === "encoder" ? 1 : config.layerCount;
    return planOnePool(config.kind, { blockBytes: layerCount * layerBytes, length }, options);
  }
  return planTwoPools({
    length,
    window: Math.max(...windows),
    globalBytes: (config.layerCount - slidingCount) * layerBytes,
    windowBytes: slidingCount * layerBytes,
  }, options);
}

function planOnePool(
  kind: ModelConfig["kind"],
  { blockBytes, length }: { readonly blockBytes: number; readonly length: number },
  { kvCacheBytes, maxModelLength, maxBatchSize, maxTokensPerStep }: KvPlanOptions,
): KvPlan {
  const blocksWanted = blocksOf(length);
  // What an encoder stores is read in the same step: that step's blocks, and a prompt that waits.
  const blocksUsed = kind === "encoder"
    ? Math.ceil(maxTokensPerStep / KV_BLOCK_SIZE) + 2 * maxBatchSize + 2 * blocksWanted
    : blocksWanted * maxBatchSize;
  const poolBytes = kvCacheBytes ??
    Math.min(Math.max(KV_CACHE_BYTES_DEFAULT, blockBytes), blocksUsed * blockBytes);
  const blockCount = Math.floor(poolBytes / blockBytes);
  if (blockCount < 1) refuseBytes(kvCacheBytes, blockBytes);
  if (maxModelLength !== undefined && blockCount < blocksWanted) {
    refuseLength(maxModelLength, blocksWanted * blockBytes, poolBytes);
  }
  return {
    blockCount,
    window: undefined,
    poolBytes: blockCount * blockBytes,
    contextLength: Math.min(length, blockCount * KV_BLOCK_SIZE),
  };
}

/** What two pools are planned from; bytes are those of a block of all layers of a kind. */
interface TwoPools {
  readonly length: number;
  readonly window: number;
  readonly globalBytes: number;
  readonly windowBytes: number;
}

function planTwoPools(
  { length, window, globalBytes, windowBytes }: TwoPools,
  options: KvPlanOptions,
): KvPlan {
  const { kvCacheBytes, maxModelLength, maxBatchSize, maxTokensPerStep } = options;
  const { expectedAverageLength = AVERAGE_LENGTH_DEFAULT } = options;
  const blocksWanted = blocksOf(length);
  const isOnly = globalBytes === 0;
  const chunkSize = Math.min(maxTokensPerStep, length);
  // Of one sequence: between steps, and while its prompt is computed.
  const held = Math.min(blocksWanted, windowRoom(window, 1));
  const extra = Math.min(blocksWanted, windowRoom(window, chunkSize)) - held;
  const windowWanted = held * maxBatchSize + extra;
  const bytesOf = (globalCount: number, windowCount: number) =>
    globalCount * globalBytes + windowCount * windowBytes;
  const bytesWanted = bytesOf(blocksWanted * maxBatchSize, windowWanted);
  const bytesLeast = bytesOf(1, held);
  const poolBytes = kvCacheBytes ??
    Math.min(Math.max(KV_CACHE_BYTES_DEFAULT, bytesLeast), bytesWanted);
  if (poolBytes < bytesLeast) refuseBytes(kvCacheBytes, bytesLeast);
  const bytesOfLength = bytesOf(blocksWanted, held);
  if (maxModelLength !== undefined && poolBytes < bytesOfLength) {
    refuseLength(maxModelLength, bytesOfLength, poolBytes);
  }

  const average = blocksOf(Math.min(length, expectedAverageLength));
  const averageHeld = Math.min(average, held);
  const share = poolBytes >= bytesWanted
    ? windowWanted * poolBytes / bytesWanted
    : extra + averageHeld * Math.max(0, poolBytes - extra * windowBytes) /
        bytesOf(average, averageHeld);
  // The first pool must hold one context of the length that was asked for.
  const globalLeast = maxModelLength === undefined ? 1 : blocksWanted;
  const windowMost = (poolBytes - globalLeast * globalBytes) / windowBytes;
  const windowCount = Math.floor(Math.min(Math.max(held, share), windowMost));
  const blockCount = isOnly
    ? blocksWanted * maxBatchSize + windowCount
    : Math.floor((poolBytes - windowCount * windowBytes) / globalBytes);
  return {
    blockCount,
    window: { window, blockCount: windowCount, isOnly },
    poolBytes: bytesOf(blockCount, windowCount),
    contextLength: Math.min(length, blockCount * KV_BLOCK_SIZE),
  };
}

function refuseBytes(kvCacheBytes: number | undefined, least: number): never {
  throw new InvalidParameterError(
    "kvCacheBytes",
    kvCacheBytes,
    `Cannot use kvCacheBytes ${kvCacheBytes}: one block of ${KV_BLOCK_SIZE} tokens takes ${least} bytes`,
  );
}

function refuseLength(length: number, bytesNeeded: number, poolBytes: number): never {
  throw new InvalidParameterError(
    "kvCacheBytes",
    poolBytes,
    `A context of ${length} tokens (maxModelLength) needs kvCacheBytes of at least ${bytesNeeded}, not ${poolBytes}`,
  );
}

function blocksOf(tokenCount: number): number {
  return Math.ceil(tokenCount / KV_BLOCK_SIZE);
}
