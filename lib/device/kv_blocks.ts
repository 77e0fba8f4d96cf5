/** Where the keys and values of each layer lie in HBM, in blocks of 16 tokens. */

import { invariant } from "../base/invariant.ts";
import { KV_BLOCK_SIZE, type KvCacheLayer, type KvDtype, type KvPool } from "./kernel_table.ts";
import type { Hbm } from "./memory.ts";

/** Shape of the KV pool. */
export interface KvPoolShape {
  /** How keys and values are stored. */
  readonly dtype: KvDtype;
  /** Heads of keys and values. */
  readonly kvHeads: number;
  /** Floats in a head. */
  readonly headDim: number;
  /** Blocks in the pool. */
  readonly blockCount: number;
  /** Blocks in the pool of layers with a window. Default 0. */
  readonly windowBlockCount?: number;
}

/** A block that gets the contents of another one. */
export interface BlockCopyInput {
  /** Id of the block that is read. */
  readonly from: number;
  /** Id of the block that is written. */
  readonly to: number;
  /** Whose blocks they are. Default "global". */
  readonly pool?: KvPool;
}

/** Bytes that one KV block takes in one layer, keys and values together. */
export function kvBlockBytes(
  shape: Omit<KvPoolShape, "blockCount" | "windowBlockCount">,
): number {
  const elementBytes = shape.dtype === "f32" ? 4 : 2;
  return 2 * shape.kvHeads * shape.headDim * KV_BLOCK_SIZE * elementBytes;
}

/** The blocks of all layers. */
export class KvBlocks {
  readonly #hbm: Hbm;
  #layers: readonly (KvCacheLayer & { readonly pool: KvPool })[] = [];

  constructor(hbm: Hbm) {
    this.#hbm = hbm;
  }

  layer(index: number): KvCacheLayer {
    const layer = this.#layers[index];
    invariant(layer !== undefined, `KV layer ${index} was not allocated`);
    return layer;
  }

  /** Makes room for so many layers of the global pool, or for one of each pool that is named. */
  allocate(layers: number | readonly KvPool[], shape: KvPoolShape): void {
    invariant(this.#layers.length === 0, "The KV pool is allocated twice");
    const { dtype, kvHeads, headDim, blockCount, windowBlockCount = 0 } = shape;
    const pools = typeof layers === "number" ? new Array<KvPool>(layers).fill("global") : layers;
    this.#layers = pools.map((pool, layer) => {
      const bytes = (kvBlockBytes(shape) / 2) *
        (pool === "window" ? windowBlockCount : blockCount);
      const keys = this.#hbm.allocateKv(2 * bytes, `the keys and values of layer ${layer}`);
      return { keys, values: keys + bytes, dtype, kvHeads, headDim, pool };
    });
  }

  /** Copies blocks in every layer of their pool. The host may do it between steps. */
  copy(copies: readonly BlockCopyInput[]): void {
    if (copies.length === 0) return;
    for (const { keys, values, pool: layerPool, ...shape } of this.#layers) {
      const sizeBytes = kvBlockBytes(shape) / 2;
      for (const start of [keys, values]) {
        for (const { from, to, pool = "global" } of copies) {
          if (pool !== layerPool) continue;
          const source = this.#hbm.bytes(start + from * sizeBytes, sizeBytes);
          this.#hbm.bytes(start + to * sizeBytes, sizeBytes).set(source);
        }
      }
    }
  }
}
