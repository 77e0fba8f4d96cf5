/**
 * The second pool: blocks of the layers that see a window only. A sequence holds those that its next
 * token still sees; what falls out of the window is given back at once.
 *
 * ```text
 * blocks   0   1   2   3   4   5   6
 *          ─   ─   ─   ▒   █   █   ░
 *          │           │   │       └ for the rest of the prompt
 *          │           └───┴ the window of the next token
 *          └ given back: found again while the prefix cache has them
 * ```
 *
 * A cached block belongs to a node of the prefix tree. It can be evicted by itself, at any place of
 * the tree: the node stays, but a prefix that ends where its window would miss a block is no use.
 *
 * While a prompt is computed, its sequence holds as many blocks as its window and a chunk can touch,
 * so chunks run out of blocks only where others came to share what was to be given back.
 */

import { invariant } from "../base/invariant.ts";
import { KV_BLOCK_SIZE } from "../device/kernel_table.ts";
import { windowRoom } from "../device/kv_window.ts";
import { BlockPool } from "./block_pool.ts";
import type { PrefixNode } from "./prefix_cache.ts";
import type { Scheduled } from "./scheduled.ts";

/** The entry of a block that was given back. */
const GIVEN_BACK = -1;

/** How wide the window is, and how much there is for it. */
export interface WindowPoolOptions {
  /** Keys a query sees, itself included. At least 1. */
  readonly window: number;
  /** Blocks in the pool: at least `windowRoom(window, 1)`, or those of a whole context. */
  readonly blockCount: number;
  /** Most tokens of a prompt in one step. */
  readonly chunkSize: number;
}

interface WindowTable {
  /** By place in the sequence; {@linkcode GIVEN_BACK} before `firstIndex`. */
  readonly blockIds: number[];
  firstIndex: number;
}

/** The pool, the tables of running sequences, and what of it is cached. */
export class WindowBlocks {
  readonly #window: number;
  readonly #roomCount: number;
  readonly #pool: BlockPool;
  readonly #tables = new Map<Scheduled, WindowTable>();
  readonly #cached = new Map<PrefixNode, number>();
  /** Nodes whose block nobody uses, least recently used first. */
  readonly #idle = new Set<PrefixNode>();

  constructor({ window, blockCount, chunkSize }: WindowPoolOptions) {
    this.#window = window;
    this.#roomCount = Math.min(windowRoom(window, chunkSize), blockCount);
    this.#pool = new BlockPool(blockCount);
  }

  get blockCount(): number {
    return this.#pool.blockCount;
  }

  /** Blocks that can be had: free ones, and those that only the prefix cache holds. */
  get availableCount(): number {
    return this.#pool.freeCount + this.#idle.size;
  }

  /** Blocks that hold reusable prefixes and nothing else. */
  get cachedCount(): number {
    return this.#idle.size;
  }

  /** The blocks of a running sequence in the order of their positions, given back ones included. */
  blockIds(request: Scheduled): readonly number[] {
    return this.#table(request).blockIds;
  }

  /** How many nodes of a path can be reused: the token after them must find its whole window. */
  usableCount(path: readonly PrefixNode[]): number {
    let usable = 0;
    let missing = -1;
    for (const [index, node] of path.entries()) {
      if (!this.#cached.has(node)) missing = index;
      if (missing < this.#firstIndex((index + 1) * KV_BLOCK_SIZE)) usable = index + 1;
    }
    return usable;
  }

  /** Whether a sequence of so many tokens can begin after `path` and leave `spareCount` blocks. */
  canBegin(path: readonly PrefixNode[], tokenCount: number, spareCount: number): boolean {
    const { seen, newCount } = this.#beginning(path, tokenCount);
    const idleCount = seen.filter((node) => this.#idle.has(node)).length;
    return newCount + spareCount <= this.availableCount - idleCount;
  }

  /** Begins a table after a usable path. */
  begin(request: Scheduled, path: readonly PrefixNode[], tokenCount: number): void {
    const { seen, newCount, firstIndex } = this.#beginning(path, tokenCount);
    const blockIds = new Array<number>(firstIndex).fill(GIVEN_BACK);
    for (const node of seen) {
      const blockId = this.#cached.get(node);
      invariant(blockId !== undefined, "A prefix is reused whose window is not cached");
      this.#pool.retain(blockId);
      this.#idle.delete(node);
      blockIds.push(blockId);
    }
    for (let count = 0; count < newCount; count++) blockIds.push(this.#allocate());
    this.#tables.set(request, { blockIds, firstIndex });
  }

  /** Blocks that it takes to write the tokens up to `tokenCount`, a copy of a shared one included. */
  growthCount(request: Scheduled, tokenCount: number): number {
    const { blockIds } = this.#table(request);
    const newCount = Math.max(0, blocksOf(tokenCount) - blockIds.length);
    return newCount + (this.#sharedId(request) === undefined ? 0 : 1);
  }

  /** Takes them; the copy that is to be made, if there is one. */
  grow(
    request: Scheduled,
    tokenCount: number,
  ): { readonly from: number; readonly to: number } | undefined {
    const { blockIds } = this.#table(request);
    const from = this.#sharedId(request);
    const to = from === undefined ? undefined : this.#allocate();
    if (from !== undefined && to !== undefined) {
      this.#pool.release(from);
      blockIds[this.#writtenIndex(request)] = to;
    }
    while (blockIds.length < blocksOf(tokenCount)) blockIds.push(this.#allocate());
    return from === undefined || to === undefined ? undefined : { from, to };
  }

  /** Lets a new sequence begin with the blocks of another one, all of them shared. */
  fork(parent: Scheduled, child: Scheduled): void {
    const { blockIds, firstIndex } = this.#table(parent);
    for (const blockId of blockIds.slice(firstIndex)) this.#pool.retain(blockId);
    this.#tables.set(child, { blockIds: [...blockIds], firstIndex });
  }

  /**
   * Caches the sequence's block at a place under the node of that place. Where the node has a block,
   * the table goes on with that one: the contents are the same bits.
   */
  cache(request: Scheduled, node: PrefixNode, blockIndex: number): void {
    const { blockIds } = this.#table(request);
    const own = blockIds[blockIndex];
    invariant(
      own !== undefined && own !== GIVEN_BACK && this.#pool.referenceCount(own) === 1,
      "A block is cached that is not the sequence's alone",
    );
    const known = this.#cached.get(node);
    if (known === undefined) {
      this.#cached.set(node, own);
      this.#pool.retain(own);
      return;
    }
    this.#pool.retain(known);
    this.#idle.delete(node);
    this.#pool.release(own);
    blockIds[blockIndex] = known;
  }

  /**
   * Gives back what the next token does not see any more, and takes as much for what is left of the
   * prompt as far as there is any. `nodes` are those of the sequence's cached blocks.
   */
  slide(request: Scheduled, nodes: readonly PrefixNode[]): void {
    const table = this.#table(request);
    const { blockIds } = table;
    const firstIndex = Math.min(this.#firstIndex(request.computedCount), blockIds.length);
    let count = firstIndex - table.firstIndex;
    for (; table.firstIndex < firstIndex; table.firstIndex++) {
      this.#giveBack(blockIds, table.firstIndex, nodes);
    }
    const wanted = blocksOf(request.tokenIds.length);
    for (; count > 0 && blockIds.length < wanted && this.availableCount > 0; count--) {
      blockIds.push(this.#allocate());
    }
  }

  /** Takes all blocks of a sequence back. */
  free(request: Scheduled, nodes: readonly PrefixNode[]): void {
    const { blockIds, firstIndex } = this.#table(request);
    for (let index = blockIds.length - 1; index >= firstIndex; index--) {
      this.#giveBack(blockIds, index, nodes);
    }
    this.#tables.delete(request);
  }

  /** Frees the cached block of a node that leaves the tree. */
  drop(node: PrefixNode): void {
    const blockId = this.#cached.get(node);
    if (blockId === undefined) return;
    invariant(this.#idle.delete(node), "A cached block is dropped that a sequence uses");
    this.#cached.delete(node);
    this.#pool.release(blockId);
  }

  /** Frees all cached blocks that no running sequence uses. */
  dropIdle(): void {
    for (const node of [...this.#idle]) this.drop(node);
  }

  /** What a sequence begins with: the cached blocks in its window, and new ones up to its room. */
  #beginning(path: readonly PrefixNode[], tokenCount: number) {
    const firstIndex = this.#firstIndex(path.length * KV_BLOCK_SIZE);
    const seen = path.slice(firstIndex);
    const newCount = Math.min(blocksOf(tokenCount) - path.length, this.#roomCount - seen.length);
    return { firstIndex, seen, newCount };
  }

  /** The first block that the token at a position sees. */
  #firstIndex(position: number): number {
    return Math.floor(Math.max(0, position - this.#window + 1) / KV_BLOCK_SIZE);
  }

  #writtenIndex(request: Scheduled): number {
    return Math.floor(request.computedCount / KV_BLOCK_SIZE);
  }

  /** The block that the next token is written to, if others see it. */
  #sharedId(request: Scheduled): number | undefined {
    const blockId = this.#table(request).blockIds[this.#writtenIndex(request)];
    return blockId !== undefined && this.#pool.referenceCount(blockId) > 1 ? blockId : undefined;
  }

  #giveBack(blockIds: number[], index: number, nodes: readonly PrefixNode[]): void {
    const blockId = blockIds[index] as number;
    blockIds[index] = GIVEN_BACK;
    this.#pool.release(blockId);
    const node = nodes[index];
    if (node === undefined || this.#pool.referenceCount(blockId) > 1) return;
    invariant(this.#cached.get(node) === blockId, "A node's block is another one");
    this.#idle.add(node);
  }

  #allocate(): number {
    if (this.#pool.freeCount === 0) {
      const [node] = this.#idle;
      invariant(node !== undefined, "A block is taken from an empty pool");
      this.drop(node);
    }
    return this.#pool.allocate();
  }

  #table(request: Scheduled): WindowTable {
    const table = this.#tables.get(request);
    invariant(table !== undefined, "A request without blocks is asked for them");
    return table;
  }
}

function blocksOf(tokenCount: number): number {
  return Math.ceil(tokenCount / KV_BLOCK_SIZE);
}
