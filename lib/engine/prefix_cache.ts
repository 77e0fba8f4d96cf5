/**
 * Which block holds which tokens: a radix tree whose edges are full blocks of token ids.
 *
 * A node is a block; the path from the root to it spells the tokens whose keys and values it
 * depends on, which is all tokens from the first one on. The cache holds one reference to each of
 * its blocks. A node that nobody else refers to is *idle*: it stays to be found again, until its
 * block is needed for something else. The nodes in use form a top part of the tree, since whoever
 * uses a block uses all blocks before it.
 *
 * A *salt* separates requests that must not find each other's blocks: it is part of the first
 * block's key, and so of every path below it. A salt without blocks leaves nothing behind.
 */

import { invariant } from "../base/invariant.ts";
import type { BlockPool } from "./block_pool.ts";

/** A cached block. */
export interface PrefixNode {
  readonly blockId: number;
  readonly parent: PrefixNode | undefined;
  /** The block's token ids; of a first block, the salt behind them. */
  readonly key: string;
  readonly children: Map<string, PrefixNode>;
}

/** The tree, and the order in which idle blocks are given up. */
export class PrefixCache {
  readonly blockSize: number;
  readonly #pool: BlockPool;
  readonly #roots = new Map<string, PrefixNode>();
  /**
   * Least recently used first. Paths are released from their end, so a node always stands before
   * its parent: the first one is a leaf.
   */
  readonly #idle = new Set<PrefixNode>();
  #nodeCount = 0;
  readonly #onRemove: (node: PrefixNode) => void;

  /** `onRemove` is told of each node that leaves the tree. */
  constructor(
    pool: BlockPool,
    blockSize: number,
    onRemove: (node: PrefixNode) => void = () => {},
  ) {
    this.#pool = pool;
    this.blockSize = blockSize;
    this.#onRemove = onRemove;
  }

  /** Cached blocks that nobody uses. */
  get idleCount(): number {
    return this.#idle.size;
  }

  /** Cached blocks in all. */
  get nodeCount(): number {
    return this.#nodeCount;
  }

  isIdle(node: PrefixNode): boolean {
    return this.#idle.has(node);
  }

  /**
   * The longest cached path along `tokenIds` under a salt, at most `blockCountMax` blocks. Changes
   * nothing.
   */
  match(tokenIds: readonly number[], blockCountMax: number, salt?: string): PrefixNode[] {
    const path: PrefixNode[] = [];
    let children = this.#roots;
    while (path.length < blockCountMax) {
      const node = children.get(this.#key(tokenIds, path.length, salt));
      if (node === undefined) break;
      path.push(node);
      children = node.children;
    }
    return path;
  }

  /** Takes a reference to each node of a path that starts at the root. */
  acquire(path: readonly PrefixNode[]): void {
    for (const node of path) {
      this.#pool.retain(node.blockId);
      this.#idle.delete(node);
    }
  }

  /**
   * Gives the references back. Idle nodes can be found again until they are evicted.
   *
   * With `forget`, nodes that become idle and lead nowhere are dropped at once.
   */
  release(path: readonly PrefixNode[], { forget = false }: { forget?: boolean } = {}): void {
    for (const node of path.toReversed()) {
      this.#pool.release(node.blockId);
      if (this.#pool.referenceCount(node.blockId) > 1) continue;
      this.#idle.add(node);
      if (forget && node.children.size === 0) this.#remove(node);
    }
  }

  /**
   * Enters the full block `blockIndex` of `tokenIds`, which is in `blockId`, below `parent`. The
   * caller's reference becomes a reference to the node that is returned. If these tokens were
   * cached already, that is another block with the same contents, and the caller's block is freed.
   */
  insert(
    parent: PrefixNode | undefined,
    tokenIds: readonly number[],
    { blockIndex, blockId, salt }: {
      blockIndex: number;
      blockId: number;
      salt?: string | undefined;
    },
  ): PrefixNode {
    const siblings = parent === undefined ? this.#roots : parent.children;
    const key = this.#key(tokenIds, blockIndex, salt);
    const known = siblings.get(key);
    if (known !== undefined) {
      this.acquire([known]);
      this.#pool.release(blockId);
      return known;
    }
    const node: PrefixNode = { blockId, parent, key, children: new Map() };
    siblings.set(key, node);
    this.#nodeCount++;
    this.#pool.retain(blockId);
    return node;
  }

  /** Frees the block of the idle node that was used least recently. */
  evict(): void {
    const [node] = this.#idle;
    invariant(node !== undefined, "A block is evicted from a cache that has none to give");
    this.#remove(node);
  }

  #remove(node: PrefixNode): void {
    invariant(node.children.size === 0, "A cached block is dropped before the ones that follow it");
    (node.parent === undefined ? this.#roots : node.parent.children).delete(node.key);
    this.#idle.delete(node);
    this.#nodeCount--;
    this.#pool.release(node.blockId);
    this.#onRemove(node);
  }

  /** No two pairs of ids and salt have the same key: ids are digits and commas. */
  #key(tokenIds: readonly number[], blockIndex: number, salt: string | undefined): string {
    const start = blockIndex * this.blockSize;
    const ids = tokenIds.slice(start, start + this.blockSize).join(",");
    return blockIndex > 0 || salt === undefined ? ids : `${ids}:${salt}`;
  }
}
