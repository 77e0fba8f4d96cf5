/** The pools of KV blocks in numbers: what a token takes, and how many sequences they hold. */

import { KV_BLOCK_SIZE } from "../device/kernel_table.ts";
import { kvBlockBytes } from "../device/kv_blocks.ts";
import { windowRoom } from "../device/kv_window.ts";
import type { PlannedModel } from "./planned_model.ts";

/** The KV blocks of one kind of layer. */
export interface KvPoolPlan {
  /** "global": its layers see everything; "window": they see the last {@linkcode window} tokens. */
  readonly pool: "global" | "window";
  /** Layers that keep keys and values in it. An encoder's share those of one. */
  readonly layerCount: number;
  /** Keys that a query sees, itself included; null: all of them. */
  readonly window: number | null;
  /** Bytes that one token takes in all of its layers. */
  readonly bytesPerToken: number;
  /** Blocks, of 16 tokens each. */
  readonly blockCount: number;
  /** Bytes of all blocks. */
  readonly sizeBytes: number;
  /** Most blocks that one sequence holds between two steps, however long it is; null: no bound. */
  readonly blocksPerSequenceMax: number | null;
}

/** The pools that take memory. */
export function kvPools({ config, graph, kv, kvDtype }: PlannedModel): KvPoolPlan[] {
  const layerBytes = kvBlockBytes({
    dtype: kvDtype,
    kvHeads: config.kvHeadCount,
    headDim: config.headDim,
  });
  const poolOf = (pool: KvPoolPlan["pool"], blockCount: number, window: number | null) => {
    const layerCount = graph.kvLayers.filter((layer) => (layer.pool ?? "global") === pool).length;
    return {
      pool,
      layerCount,
      window,
      bytesPerToken: layerCount * layerBytes / KV_BLOCK_SIZE,
      blockCount,
      sizeBytes: layerCount * layerBytes * blockCount,
      blocksPerSequenceMax: window === null ? null : windowRoom(window, 1),
    };
  };
  const global = poolOf("global", kv.blockCount, null);
  if (kv.window === undefined) return [global];
  const { window, blockCount } = kv.window;
  return [global, poolOf("window", blockCount, window)].filter(({ layerCount }) => layerCount > 0);
}

/** How many sequences of so many tokens the pools hold at the same time. */
export function sequencesHeld(pools: readonly KvPoolPlan[], length: number): number {
  const blocks = Math.ceil(length / KV_BLOCK_SIZE);
  return Math.min(
    ...pools.map(({ blockCount, blocksPerSequenceMax }) =>
      Math.floor(blockCount / Math.min(blocks, blocksPerSequenceMax ?? blocks))
    ),
  );
}
