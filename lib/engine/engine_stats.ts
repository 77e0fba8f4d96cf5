/** How full the engine is, and what it has done. */

/** How full a pool of blocks is. */
export interface BlockStats {
  /** Blocks that running sequences hold, shared ones counted once. */
  readonly usedBlockCount: number;
  /** Blocks that hold reusable prefixes and nothing else. */
  readonly cachedBlockCount: number;
  /** Blocks in the pool. */
  readonly blockCount: number;
}

/** What the engine is doing and has done. */
export interface EngineStats {
  /** Sequences that hold blocks: a request for several answers is several of them. */
  readonly runningCount: number;
  /** Sequences that wait: new and preempted ones. */
  readonly waitingCount: number;
  /**
   * Blocks that running sequences hold, shared ones counted once. These and the next two are of the
   * layers that see everything; of the others where all layers have a window.
   */
  readonly usedBlockCount: number;
  /** Blocks that hold reusable prefixes and nothing else. */
  readonly cachedBlockCount: number;
  /** Blocks in the pool. */
  readonly blockCount: number;
  /** The same three of the layers with a window; null without such layers. */
  readonly windowBlocks: BlockStats | null;
  /** Tokens in a block. */
  readonly blockSize: number;
  /** Prompt tokens that were looked for in the prefix cache, and those found there. */
  readonly prefixQueryTokens: number;
  /** Of those, tokens found. */
  readonly prefixHitTokens: number;
  /** Steps run. */
  readonly stepCount: number;
  /** Sequences that lost their blocks and were sent back to the queue. */
  readonly preemptionCount: number;
  /** Prompt tokens of the requests admitted so far, and tokens generated. */
  readonly promptTokens: number;
  /** Tokens generated. */
  readonly generatedTokens: number;
}

/** How full a pool is, told from its counts. */
export function blockStats(
  pool: {
    readonly blockCount: number;
    readonly availableCount: number;
    readonly cachedCount: number;
  },
): BlockStats {
  return {
    usedBlockCount: pool.blockCount - pool.availableCount,
    cachedBlockCount: pool.cachedCount,
    blockCount: pool.blockCount,
  };
}
