/** How a pack job reaches the elements and their answers the host: float64 cells in HBM. */

import { WEIGHT_FORMATS, type WeightFormat } from "../block_formats.ts";
import type { PackJob } from "./pack_rows.ts";

/** Cells of the job; after them each element has two: whether it met a bad value, and the value. */
const JOB_CELLS = 6;

/** Bytes of the mailbox of so many elements. */
export function packMailboxBytes(peCount: number): number {
  return 8 * (JOB_CELLS + 2 * peCount);
}

/** Leaves a job for the elements. */
export function writePackJob(buffer: ArrayBufferLike, address: number, job: PackJob): void {
  const { source, from, rowCount, k, target, to } = job;
  new Float64Array(buffer, address, JOB_CELLS).set([
    source,
    WEIGHT_FORMATS.indexOf(from),
    rowCount,
    k,
    target,
    WEIGHT_FORMATS.indexOf(to),
  ]);
}

/** The job that the host left. */
export function readPackJob(buffer: ArrayBufferLike, address: number): PackJob {
  const [source, from, rowCount, k, target, to] = new Float64Array(buffer, address, JOB_CELLS);
  return {
    source: source as number,
    from: WEIGHT_FORMATS[from as number] as WeightFormat,
    rowCount: rowCount as number,
    k: k as number,
    target: target as number,
    to: WEIGHT_FORMATS[to as number] as WeightFormat,
  };
}

/** Leaves an element's answer for the host. */
export function writeBadValue(
  buffer: ArrayBufferLike,
  address: number,
  peIndex: number,
  bad: number | undefined,
): void {
  const cells = new Float64Array(buffer, address + 8 * (JOB_CELLS + 2 * peIndex), 2);
  cells[0] = bad === undefined ? 0 : 1;
  cells[1] = bad ?? 0;
}

/** The first bad value in the order of the rows: shares follow each other by element. */
export function firstBadValue(
  buffer: ArrayBufferLike,
  address: number,
  peCount: number,
): number | undefined {
  const cells = new Float64Array(buffer, address + 8 * JOB_CELLS, 2 * peCount);
  for (let pe = 0; pe < peCount; pe++) if (cells[2 * pe] === 1) return cells[2 * pe + 1];
  return undefined;
}
