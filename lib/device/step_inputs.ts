/** What a step is told, and how it gets to where its wire reads it. */

import { invariant } from "../base/invariant.ts";
import { SUMMARY_NEED } from "../base/row_summary.ts";
import type { Wire } from "./compiler/wire.ts";
import type { BlockCopyInput } from "./kv_blocks.ts";

/** One step's int32 inputs; `tokenIds.length` rows. */
export interface StepInputs {
  /** Token ids. */
  readonly tokenIds: Int32Array;
  /** Position of each row's token in its sequence. */
  readonly positions: Int32Array;
  /** Where each row's key and value go: block · 16 + offset. */
  readonly slots: Int32Array;
  /** Index of each row's sequence. */
  readonly sequences: Int32Array;
  /** Block ids, sequence by sequence. */
  readonly blockTables: readonly (readonly number[])[];
  /** As `slots`, of layers in the window pool. Where there are such layers it must be given. */
  readonly windowSlots?: Int32Array;
  /** The same of `blockTables`. Ids of blocks that no row sees can be anything. */
  readonly windowBlockTables?: readonly (readonly number[])[];
  /** Rows whose output is wanted, ascending. */
  readonly outputRows: Int32Array;
  /** What is wanted of each output row's summary, as `SUMMARY_NEED`. Default: nothing. */
  readonly summaryNeeds?: Int32Array;
  /** Rows whose hidden state is wanted, ascending. Default: none. */
  readonly hiddenRows?: Int32Array;
  /** Token type of each token. Default: 0. */
  readonly tokenTypes?: Int32Array;
  /** KV blocks that get the contents of other ones before the step, one after another. */
  readonly blockCopies?: readonly BlockCopyInput[];
}

/** Checks that a step fits its wire, and writes what it is told to the addresses that the wire reads. */
export function writeStepInputs(buffer: ArrayBufferLike, wire: Wire, inputs: StepInputs): void {
  checkFits(wire, inputs);
  const at = wire.inputs;
  const { hiddenRows, tokenTypes, summaryNeeds } = inputs;
  const rows = inputs.tokenIds.length;
  const cells = new Int32Array(buffer);
  const write = (values: ArrayLike<number>, address: number) => cells.set(values, address / 4);
  const writeOr = (
    values: Int32Array | undefined,
    absent: number,
    count: number,
    address: number,
  ) =>
    values === undefined
      ? cells.fill(absent, address / 4, address / 4 + count)
      : write(values, address);
  const writeTables = (tables: readonly (readonly number[])[], address: number) =>
    tables.forEach((blocks, sequence) => {
      invariant(
        blocks.length <= at.blockTableStride,
        `A sequence of ${blocks.length} blocks does not fit ${wire.key}`,
      );
      write(blocks, address + 4 * sequence * at.blockTableStride);
    });

  write(inputs.tokenIds, at.tokenIds);
  write(inputs.positions, at.positions);
  write(inputs.slots, at.slots);
  write(inputs.sequences, at.sequences);
  write(inputs.outputRows, at.outputRows);
  if (at.hiddenRows !== null && hiddenRows !== undefined) write(hiddenRows, at.hiddenRows);
  if (at.tokenTypes !== null) writeOr(tokenTypes, 0, rows, at.tokenTypes);
  if (at.lastPositions !== null) write(lastPositions(inputs), at.lastPositions);
  writeOr(summaryNeeds, SUMMARY_NEED.nothing, inputs.outputRows.length, at.summaryNeeds);
  writeTables(inputs.blockTables, at.blockTables);
  if (at.windowSlots === null || at.windowBlockTables === null) return;
  const { windowSlots, windowBlockTables } = inputs;
  invariant(
    windowSlots?.length === inputs.slots.length &&
      windowBlockTables?.length === inputs.blockTables.length,
    `A step of ${wire.key} does not say where layers with a window have their blocks`,
  );
  write(windowSlots, at.windowSlots);
  writeTables(windowBlockTables, at.windowBlockTables);
}

function checkFits(wire: Wire, inputs: StepInputs): void {
  const { bucket, outputCount } = wire;
  const { tokenIds, blockTables, outputRows, hiddenRows, summaryNeeds = outputRows } = inputs;
  invariant(
    summaryNeeds.length === outputRows.length,
    `${summaryNeeds.length} needs of summaries for ${outputRows.length} outputs`,
  );
  invariant(
    tokenIds.length <= bucket.tokenCount && outputRows.length <= outputCount &&
      blockTables.length <= bucket.batchSize,
    `A step of ${tokenIds.length} tokens, ${blockTables.length} sequences and ${outputRows.length} outputs does not fit ${wire.key}`,
  );
  invariant(
    hiddenRows === undefined || hiddenRows.length === 0 || wire.inputs.hiddenRows !== null,
    `Hidden states are asked of ${wire.key}, which gives none`,
  );
}

/** Of each row the position of the last token that its sequence has in the step. */
function lastPositions({ positions, sequences, blockTables }: StepInputs): Int32Array {
  const last = new Int32Array(blockTables.length);
  sequences.forEach((sequence, row) => {
    last[sequence] = Math.max(last[sequence] as number, positions[row] as number);
  });
  return sequences.map((sequence) => last[sequence] as number);
}
