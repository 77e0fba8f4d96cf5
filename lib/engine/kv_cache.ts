/**
 * A request's block table: reuse, grow, commit, free. Nothing else hands out blocks.
 *
 * Blocks that hold computed, full runs of tokens are entered into the prefix cache by `commit`; the
 * ones after them belong to the request alone and are written to. So a shared block is never
 * written to again.
 */

import { invariant } from "../base/invariant.ts";
import { KV_BLOCK_SIZE } from "../device/kernel_table.ts";
import { BlockPool } from "./block_pool.ts";
import { PrefixCache, type PrefixNode } from "./prefix_cache.ts";
import type { Request } from "./request.ts";

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
  readonly #tables = new Map<Request, BlockTable>();

  constructor(blockCount: number, { enablePrefixCaching }: { enablePrefixCaching: boolean }) {
    this.#pool = new BlockPool(blockCount);
    this.#prefixes = new PrefixCache(this.#pool, KV_BLOCK_SIZE);
    this.enablePrefixCaching = enablePrefixCaching;
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
  blockIds(request: Request): readonly number[] {
    return this.#table(request).blockIds;
  }

  /**
   * Begins a request's table: the cached blocks of its first tokens, then blocks for all the
   * others it has now. Takes nothing and returns undefined where that would leave fewer than
   * `spareCount` blocks; else returns the number of tokens that need no computing.
   */
  reuse(request: Request, spareCount: number): number | undefined {
    invariant(!this.#tables.has(request), "A request is given blocks twice");
    const path = this.enablePrefixCaching
      ? this.#prefixes.match(
        request.tokenIds,
        Math.floor(request.firstRowPosition / KV_BLOCK_SIZE),
      )
      : [];
    const idleCount = path.filter((node) => this.#prefixes.isIdle(node)).length;
    const newCount = blockCountOf(request.tokenIds.length) - path.length;
    if (newCount + spareCount > this.availableCount - idleCount) return undefined;
    this.#prefixes.acquire(path);
    this.#tables.set(request, { blockIds: path.map((node) => node.blockId), nodes: path });
    invariant(this.grow(request, request.tokenIds.length), "Blocks were counted wrong");
    return path.length * KV_BLOCK_SIZE;
  }

  /** Makes room for the first `tokenCount` tokens; false, and nothing taken, if blocks run out. */
  grow(request: Request, tokenCount: number): boolean {
    const { blockIds } = this.#table(request);
    const newCount = blockCountOf(tokenCount) - blockIds.length;
    if (newCount > this.availableCount) return false;
    for (let count = 0; count < newCount; count++) {
      if (this.#pool.freeCount === 0) this.#prefixes.evict();
      blockIds.push(this.#pool.allocate());
    }
    return true;
  }

  /**
   * Lets others reuse the request's computed full blocks. Where another request has computed the
   * same tokens meanwhile, the table goes on with that one's block: the contents are the same bits.
   */
  commit(request: Request): void {
    if (!this.enablePrefixCaching) return;
    const { blockIds, nodes } = this.#table(request);
    const fullCount = Math.floor(request.computedCount / KV_BLOCK_SIZE);
    for (let blockIndex = nodes.length; blockIndex < fullCount; blockIndex++) {
      const node = this.#prefixes.insert(nodes.at(-1), request.tokenIds, {
        blockIndex,
        blockId: blockIds[blockIndex]!,
      });
      nodes.push(node);
      blockIds[blockIndex] = node.blockId;
    }
  }

  /**
   * Takes all blocks of a request back. Its cached blocks can be found again, unless `forget` says
   * that their contents are not to be trusted.
   */
  free(request: Request, options: { forget?: boolean } = {}): void {
    const { blockIds, nodes } = this.#table(request);
    for (const blockId of blockIds.slice(nodes.length).reverse()) this.#pool.release(blockId);
    this.#prefixes.release(nodes, options);
    this.#tables.delete(request);
  }

  /** Frees all cached blocks that no running request uses. */
  dropPrefixes(): void {
    while (this.#prefixes.idleCount > 0) this.#prefixes.evict();
  }

  #table(request: Request): BlockTable {
    const table = this.#tables.get(request);
    invariant(table !== undefined, "A request without blocks is asked for them");
    return table;
  }
}

/** Blocks that hold so many tokens. */
export function blockCountOf(tokenCount: number): number {
  return Math.ceil(tokenCount / KV_BLOCK_SIZE);
}
