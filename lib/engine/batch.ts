/** The turns of a plan, packed into the flat int32 arrays that one device step takes. */

import { SUMMARY_NEED } from "../base/row_summary.ts";
import type { BucketKind } from "../device/bucket.ts";
import { KV_BLOCK_SIZE } from "../device/kernel_table.ts";
import { beamSummaryNeed } from "../sampling/continuations.ts";
import { summaryNeed } from "../sampling/summary.ts";
import type { BlockCopy } from "./kv_cache.ts";
import { PoolingRequest } from "./pooling_request.ts";
import type { Plan } from "./scheduler.ts";

/** One step's input: `tokenIds.length` rows, the tokens of all turns one after another. */
export interface Batch {
  /** `decode`: one token a turn. `prefill`: every turn starts at position 0. `append`: the rest. */
  readonly kind: BucketKind;
  /** [rows] */
  readonly tokenIds: Int32Array;
  /** [rows] position of the row's token in its sequence. */
  readonly positions: Int32Array;
  /** [rows] where the row's key and value go: block · 16 + offset. */
  readonly slots: Int32Array;
  /** [rows] index into `blockTables`. */
  readonly sequences: Int32Array;
  /** One a turn: the block ids of the sequence, as many as its context after this step needs. */
  readonly blockTables: readonly (readonly number[])[];
  /** [rows] as `slots`, of layers with a window. Default: there are none. */
  readonly windowSlots?: Int32Array;
  /** As `blockTables`, of layers with a window: −1 where no token of the step sees a block. */
  readonly windowBlockTables?: readonly (readonly number[])[];
  /** Rows whose logits come back, ascending. May be empty. */
  readonly outputRows: Int32Array;
  /** Rows whose hidden state comes back, ascending. Default: none. */
  readonly hiddenRows?: Int32Array;
  /** [rows] token type of the row's token. Default: 0. */
  readonly tokenTypes?: Int32Array;
  /** [outputRows.length] the `SUMMARY_NEED` of each output row. Default: nothing. */
  readonly summaryNeeds?: Int32Array;
  /** Blocks that get the contents of other ones first, one after another. Default: none. */
  readonly blockCopies?: readonly BlockCopy[];
}

/** Lays the turns out one after another. */
export function pack(plan: Plan): Batch {
  const rowCount = plan.turns.reduce((sum, turn) => sum + turn.count, 0);
  const tokenIds = new Int32Array(rowCount);
  const positions = new Int32Array(rowCount);
  const slots = new Int32Array(rowCount);
  const sequences = new Int32Array(rowCount);
  const outputRows: number[] = [];
  const summaryNeeds: number[] = [];
  const hiddenRows: number[] = [];
  const hasWindow = plan.turns.some((turn) => turn.windowBlockIds.length > 0);
  const windowSlots = hasWindow ? new Int32Array(rowCount) : undefined;
  let tokenTypes: Int32Array | undefined;
  let row = 0;
  for (const [sequence, turn] of plan.turns.entries()) {
    const { request, start, count, rowPosition, rowEnd, blockIds, windowBlockIds } = turn;
    const isPooling = request instanceof PoolingRequest;
    const types = isPooling ? request.tokenTypeIds : undefined;
    if (types !== undefined) {
      tokenTypes ??= new Int32Array(rowCount);
      tokenTypes.set(types.slice(start, start + count), row);
    }
    for (let position = start; position < start + count; position++, row++) {
      const blockIndex = Math.floor(position / KV_BLOCK_SIZE);
      const offset = position % KV_BLOCK_SIZE;
      tokenIds[row] = request.tokenIds[position]!;
      positions[row] = position;
      slots[row] = blockIds[blockIndex]! * KV_BLOCK_SIZE + offset;
      if (windowSlots !== undefined) {
        windowSlots[row] = windowBlockIds[blockIndex]! * KV_BLOCK_SIZE + offset;
      }
      sequences[row] = sequence;
      if (position < rowPosition || position >= rowEnd) continue;
      if (isPooling) {
        hiddenRows.push(row);
        continue;
      }
      outputRows.push(row);
      // Only the last token's row chooses a token; the others give log-probabilities of the prompt.
      const chooses = position === request.tokenIds.length - 1;
      const need = request.params.beam === null ? summaryNeed : beamSummaryNeed;
      summaryNeeds.push(chooses ? need(request.sampling) : SUMMARY_NEED.nothing);
    }
  }
  return {
    kind: plan.kind,
    tokenIds,
    positions,
    slots,
    sequences,
    blockTables: plan.turns.map((turn) => turn.blockIds),
    ...(windowSlots && {
      windowSlots,
      windowBlockTables: plan.turns.map((turn) => turn.windowBlockIds),
    }),
    outputRows: Int32Array.from(outputRows),
    summaryNeeds: Int32Array.from(summaryNeeds),
    ...(hiddenRows.length > 0 && { hiddenRows: Int32Array.from(hiddenRows) }),
    ...(tokenTypes && { tokenTypes }),
    blockCopies: plan.copies,
  };
}
