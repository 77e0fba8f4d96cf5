/** What a step leaves in HBM, as rows. */

import { invariant } from "../base/invariant.ts";
import type { RowSummary } from "../base/row_summary.ts";
import type { Operand, Wire } from "./compiler/wire.ts";
import { joinSummary } from "./row_summary.ts";
import type { StepInputs } from "./step_inputs.ts";

/** What a step gave back: float32 rows in HBM, valid until the next step. */
export interface DeviceRows {
  /** Rows of output. */
  readonly count: number;
  /** Row i belongs to `outputRows[i]`. */
  row(index: number): Float32Array;
  /** Rows of hidden states. */
  readonly hiddenCount: number;
  /** Row i belongs to `hiddenRows[i]`. */
  hidden(index: number): Float32Array;
  /** What the elements found in row i; undefined where nothing was asked for. Yours to keep. */
  summary(index: number): RowSummary | undefined;
}

/** Views of the rows that a step with these inputs has left where its wire puts them. */
export function stepRows(
  { buffer, peCount }: { readonly buffer: ArrayBufferLike; readonly peCount: number },
  wire: Wire,
  inputs: StepInputs,
): DeviceRows {
  const count = inputs.outputRows.length;
  const hiddenCount = inputs.hiddenRows?.length ?? 0;
  const rowOf = (operand: Operand | null, index: number, count: number) => {
    invariant(operand !== null && index >= 0 && index < count, `There is no row ${index}`);
    const { address, stride, width } = operand;
    return new Float32Array(buffer, address + index * stride * 4, width);
  };
  const needs = wire.summary === null ? undefined : inputs.summaryNeeds;
  return {
    count,
    row: (index) => rowOf(wire.output, index, count),
    hiddenCount,
    hidden: (index) => rowOf(wire.hidden, index, hiddenCount),
    summary(index) {
      invariant(index >= 0 && index < count, `There is no row ${index} of ${count}`);
      if (wire.output === null || wire.summary === null || needs === undefined) return undefined;
      const { width } = wire.output;
      return joinSummary(buffer, wire.summary, { index, width, peCount, need: needs[index] });
    },
  };
}
