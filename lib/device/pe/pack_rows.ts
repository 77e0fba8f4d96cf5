/** Checkpoint rows → panels: the share of one processing element. */

import {
  packPanel,
  PANEL_COLUMNS,
  panelBytes,
  sourceRowBytes,
  type WeightFormat,
} from "../block_formats.ts";
import { bytesAt } from "../memory.ts";
import { RowConverter } from "../requantize.ts";

/** Rows that lie in HBM as the checkpoint has them, and where their panels go. */
export interface PackJob {
  /** Address of the rows, one after another. */
  readonly source: number;
  /** How they are stored. */
  readonly from: WeightFormat;
  readonly rowCount: number;
  readonly k: number;
  /** Address of the panel that the first row begins. */
  readonly target: number;
  /** What the panels hold. */
  readonly to: WeightFormat;
}

/**
 * Converts and packs this element's panels, and no others.
 *
 * @returns The first value of the share that the new format cannot hold, undefined if there is none.
 */
export function packRows(
  memories: readonly WebAssembly.Memory[],
  job: PackJob,
  pe: { readonly index: number; readonly count: number },
): number | undefined {
  const { from, to, k, rowCount } = job;
  const converter = from === to ? undefined : new RowConverter(from, to, k, PANEL_COLUMNS);
  const rowBytes = sourceRowBytes(from, k);
  const sizeBytes = panelBytes(to, k);
  const panelCount = Math.ceil(rowCount / PANEL_COLUMNS);
  const panelEnd = Math.floor((panelCount * (pe.index + 1)) / pe.count);
  for (let panel = Math.floor((panelCount * pe.index) / pe.count); panel < panelEnd; panel++) {
    const row = panel * PANEL_COLUMNS;
    const count = Math.min(PANEL_COLUMNS, rowCount - row);
    const rows = bytesAt(memories, job.source + row * rowBytes, count * rowBytes);
    const target = bytesAt(memories, job.target + panel * sizeBytes, sizeBytes);
    packPanel(to, k, converter?.convert(rows, count) ?? rows, count, target);
  }
  return converter?.badValue;
}
