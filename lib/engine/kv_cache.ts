/**
 * A request's block table: reuse, grow, commit, free. Nothing else hands out blocks.
 *
 * Blocks that hold computed, full runs of tokens are entered into the prefix cache by `commit`; the
 * ones after them are written to. Sequences of one request share what they had computed when they
 * parted: `fork` counts them in, and whoever first writes to a shared block writes to a copy. So a
 * shared block is never written to, and the last one that holds it needs no copy.
 *
 * Layers that see a window have a pool of their own (`window_blocks.ts`), which goes along with every
 * verb here: nothing is given where one of the two pools has too little. The prefix tree is one: a
 * node names a block of this pool, and may have one of the other.
 */

import { invariant } from "../base/invariant.ts";
import { KV_BLOCK_SIZE, type KvPool } from "../device/kernel_table.ts";
import { BlockPool } from "./block_pool.ts";
import { PrefixCache, type PrefixNode } from "./prefix_cache.ts";
import type { Scheduled } from "./scheduled.ts";
import { WindowBlocks, type WindowPoolOptions } from "./window_blocks.ts";

/** A block whose keys and values are to be those of another one. */
export interface BlockCopy {
  readonly from: number;
  readonly to: number;
  /** Whose blocks they are. */
  readonly pool: KvPool;
}

interface BlockTable {
  readonly blockIds: number[];
  /** The cached blocks the table begins with. */
  readonly nodes: PrefixNode[];
}

/** The blocks of all requests. */
export class KvCache {
  readonly #pool: BlockPool;
  readonly #prefixes: PrefixCache;
  readonly enablePrefixCaching: boolean;
  readonly #tables = new Map<Scheduled, BlockTable>();
  #copies: BlockCopy[] = [];
  /** The pool of layers with a window; undefined where no layer has one. */
  readonly window: WindowBlocks | undefined;

  constructor(
    blockCount: number,
    { enablePrefixCaching, window }: {
      readonly enablePrefixCaching: boolean;
      readonly window?: WindowPoolOptions | undefined;
    },
  ) {
    this.window = window && new WindowBlocks(window);
    this.#pool = new BlockPool(blockCount);
    this.#prefixes = new PrefixCache(
      this.#pool,
      KV_BLOCK_SIZE,
      (node) => this.window?.drop(node),
    );
    this.enablePrefixCaching = enablePrefixCaching;
  }

  /** Whether each pool has more than so many blocks to give. */
  hasMoreThan(count: number): boolean {
    return this.availableCount > count && (this.window?.availableCount ?? Infinity) > count;
  }

  get blockCount(): number {
    return this.#pool.blockCount;
  }

  /** Blocks that can be had: free ones, and those that only the prefix cache holds. */
  get availableCount(): number {
    return this.#pool.freeCount + this.#prefixes.idleCount;
  }

  /** Blocks that hold reusable prefixes and nothing else. */
  get cachedCount(): number {
    return this.#prefixes.idleCount;
  }

  /** The blocks of a running request, in the order of their positions. */
  blockIds(request: Scheduled): readonly number[] {
    return this.#table(request).blockIds;
  }

  /**
   * Begins a request's table: the cached blocks of its first tokens, then blocks for all the
   * others it has now. Takes nothing and returns undefined where that would leave fewer than
   * `spareCount` blocks; else returns the number of tokens that need no computing.
   */
  reuse(request: Scheduled, spareCount: number): number | undefined {
    invariant(!this.#tables.has(request), "A request is given blocks twice");
    const tokenCount = request.tokenIds.length;
    const cached = this.enablePrefixCaching
      ? this.#prefixes.match(
        request.tokenIds,
        Math.floor(request.firstRowPosition / KV_BLOCK_SIZE),
        request.cacheSalt,
      )
      : [];
    const path = cached.slice(0, this.window?.usableCount(cached));
    const idleCount = path.filter((node) => this.#prefixes.isIdle(node)).length;
    const newCount = blockCountOf(tokenCount) - path.length;
    if (newCount + spareCount > this.availableCount - idleCount) return undefined;
    if (this.window?.canBegin(path, tokenCount, spareCount) === false) return undefined;
    this.#prefixes.acquire(path);
    this.window?.begin(request, path, tokenCount);
    const blockIds = path.map((node) => node.blockId);
    for (let count = 0; count < newCount; count++) blockIds.push(this.#allocate());
    this.#tables.set(request, { blockIds, nodes: path });
    return path.length * KV_BLOCK_SIZE;
  }

  /**
   * Makes room for the first `tokenCount` tokens, those after the computed ones in blocks of its
   * own; false, and nothing taken, if blocks run out.
   */
  grow(request: Scheduled, tokenCount: number): boolean {
    const { blockIds } = this.#table(request);
    const newCount = blockCountOf(tokenCount) - blockIds.length;
    const written = Math.floor(request.computedCount / KV_BLOCK_SIZE);
    const sharedId = blockIds[written];
    const isShared = sharedId !== undefined && this.#pool.referenceCount(sharedId) > 1;
    if (newCount + (isShared ? 1 : 0) > this.availableCount) return false;
    const { window } = this;
    if (window !== undefined) {
      if (window.growthCount(request, tokenCount) > window.availableCount) return false;
      const copy = window.grow(request, tokenCount);
      if (copy !== undefined) this.#copies.push({ ...copy, pool: "window" });
    }
    if (isShared) {
      const to = this.#allocate();
      this.#copies.push({ from: sharedId, to, pool: "global" });
      this.#pool.release(sharedId);
      blockIds[written] = to;
    }
    for (let count = 0; count < newCount; count++) blockIds.push(this.#allocate());
    return true;
  }

  /** Lets a new sequence begin with the blocks of another one, all of them shared. */
  fork(parent: Scheduled, child: Scheduled): void {
    invariant(!this.#tables.has(child), "A request is given blocks twice");
    const { blockIds, nodes } = this.#table(parent);
    this.#prefixes.acquire(nodes);
    this.window?.fork(parent, child);
    for (const blockId of blockIds.slice(nodes.length)) this.#pool.retain(blockId);
    this.#tables.set(child, { blockIds: [...blockIds], nodes: [...nodes] });
  }

  /**
   * The copies that the next step begins with, in this order: a block may be freed and given out
   * again while a step is planned, so one copy may read what a later one overwrites.
   */
  takeCopies(): readonly BlockCopy[] {
    const copies = this.#copies;
    this.#copies = [];
    return copies;
  }

  /**
   * Lets others reuse the request's computed full blocks, and gives back those that no window sees
   * any more. Where another request has computed the same tokens meanwhile, the table goes on with
   * that one's block: the contents are the same bits.
   */
  commit(request: Scheduled): void {
    if (this.enablePrefixCaching) this.#cache(request);
    this.window?.slide(request, this.#table(request).nodes);
  }

  #cache(request: Scheduled): void {
    const { blockIds, nodes } = this.#table(request);
    const fullCount = Math.floor(request.computedCount / KV_BLOCK_SIZE);
    for (let blockIndex = nodes.length; blockIndex < fullCount; blockIndex++) {
      invariant(
        this.#pool.referenceCount(blockIds[blockIndex]!) === 1,
        "A block was filled while it was shared",
      );
      const node = this.#prefixes.insert(nodes.at(-1), request.tokenIds, {
        blockIndex,
        blockId: blockIds[blockIndex]!,
        salt: request.cacheSalt,
      });
      nodes.push(node);
      blockIds[blockIndex] = node.blockId;
      this.window?.cache(request, node, blockIndex);
    }
  }

  /**
   * Takes all blocks of a request back. Its cached blocks can be found again, unless `forget` says
   * that their contents are not to be trusted.
   */
  free(request: Scheduled, options: { forget?: boolean } = {}): void {
    const { blockIds, nodes } = this.#table(request);
    this.window?.free(request, nodes);
    for (const blockId of blockIds.slice(nodes.length).reverse()) this.#pool.release(blockId);
    this.#prefixes.release(nodes, options);
    this.#tables.delete(request);
  }

  /** Frees all cached blocks that no running request uses. */
  dropPrefixes(): void {
    while (this.#prefixes.idleCount > 0) this.#prefixes.evict();
    this.window?.dropIdle();
  }

  /** Forgets all cached blocks, unless a running request holds some: then nothing is done. */
  resetPrefixes(): boolean {
    if (this.#tables.size > 0) return false;
    this.dropPrefixes();
    return true;
  }

  #allocate(): number {
    if (this.#pool.freeCount === 0) this.#prefixes.evict();
    return this.#pool.allocate();
  }

  #table(request: Scheduled): BlockTable {
    const table = this.#tables.get(request);
    invariant(table !== undefined, "A request without blocks is asked for them");
    return table;
  }
}

/** Blocks that hold so many tokens. */
export function blockCountOf(tokenCount: number): number {
  return Math.ceil(tokenCount / KV_BLOCK_SIZE);
}
