/** The KV blocks: which are free, and how many hold on to each of the others. */

import { invariant } from "../base/invariant.ts";

/** Block ids 0 … blockCount − 1 with reference counts. The lowest free id goes out first. */
export class BlockPool {
  readonly blockCount: number;
  readonly #referenceCounts: Int32Array;
  /** A binary heap of the free ids, the lowest on top. */
  readonly #free: Int32Array;
  #freeCount: number;

  constructor(blockCount: number) {
    this.blockCount = blockCount;
    this.#referenceCounts = new Int32Array(blockCount);
    this.#free = Int32Array.from({ length: blockCount }, (_, id) => id); // ascending is a heap
    this.#freeCount = blockCount;
  }

  get freeCount(): number {
    return this.#freeCount;
  }

  referenceCount(id: number): number {
    const count = this.#referenceCounts[id];
    invariant(count !== undefined, "A block id is outside the pool");
    return count;
  }

  /** A free block with one reference. */
  allocate(): number {
    invariant(this.#freeCount > 0, "A block is taken from an empty pool");
    const id = this.#free[0]!;
    const last = this.#free[--this.#freeCount]!;
    if (this.#freeCount > 0) this.#siftDown(last);
    this.#referenceCounts[id] = 1;
    return id;
  }

  /** One more reference to a block that has some. */
  retain(id: number): void {
    invariant(this.referenceCount(id) > 0, "A free block is retained");
    this.#referenceCounts[id]!++;
  }

  /** One reference less; without any the block is free again. */
  release(id: number): void {
    invariant(this.referenceCount(id) > 0, "A freed block is freed again");
    this.#referenceCounts[id]!--;
    if (this.#referenceCounts[id] === 0) this.#siftUp(id);
  }

  #siftDown(id: number): void {
    let hole = 0;
    while (true) {
      let child = 2 * hole + 1;
      if (child >= this.#freeCount) break;
      if (child + 1 < this.#freeCount && this.#free[child + 1]! < this.#free[child]!) child++;
      if (id <= this.#free[child]!) break;
      this.#free[hole] = this.#free[child]!;
      hole = child;
    }
    this.#free[hole] = id;
  }

  #siftUp(id: number): void {
    let hole = this.#freeCount++;
    while (hole > 0) {
      const parent = (hole - 1) >> 1;
      if (this.#free[parent]! <= id) break;
      this.#free[hole] = this.#free[parent]!;
      hole = parent;
    }
    this.#free[hole] = id;
  }
}
