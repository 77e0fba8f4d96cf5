/** The matrices and vectors of a model in HBM, by their names, and how rows get into them. */

import { invariant } from "../base/invariant.ts";
import { packPanel, panelBytes, sourceRowBytes, weightBytes } from "./block_formats.ts";
import type { WeightFormat } from "./block_formats.ts";
import type { PanelWeight } from "./kernel_table.ts";
import type { Hbm } from "./memory.ts";
import type { PeGroup } from "./pe/pe.ts";

/** Memory of the device in which checkpoint rows wait to be packed. Close it when all is packed. */
export interface RowWindow extends Disposable {
  /** Where the rows are put, one after another. */
  readonly bytes: Uint8Array;
  /**
   * Turns the first `rowCount` rows here, stored as `from`, into rows from `rowStart`, a multiple of
   * 8, of a matrix. All elements work on it, and leave the same bytes as `uploadRows`.
   *
   * @returns The first value that the matrix's format cannot hold, undefined if there is none.
   */
  pack(
    name: string,
    rows: { readonly from: WeightFormat; readonly rowStart: number; readonly rowCount: number },
  ): Promise<number | undefined>;
}

/** What was allocated and uploaded; the methods are those of the device. */
export class WeightStore {
  readonly #hbm: Hbm;
  readonly #pes: Pick<PeGroup, "pack">;
  readonly #matrices = new Map<string, PanelWeight>();
  /** Addresses of vectors and tables. */
  readonly #floats = new Map<string, number>();

  constructor(hbm: Hbm, pes: Pick<PeGroup, "pack">) {
    this.#hbm = hbm;
    this.#pes = pes;
  }

  matrix(name: string): PanelWeight {
    const matrix = this.#matrices.get(name);
    invariant(matrix !== undefined, `No matrix named "${name}" was allocated`);
    return matrix;
  }

  /** Where the floats of a vector or table begin. */
  floats(name: string): number {
    const address = this.#floats.get(name);
    invariant(address !== undefined, `No floats named "${name}" were uploaded`);
    return address;
  }

  allocateMatrix(name: string, format: WeightFormat, n: number, k: number): void {
    invariant(!this.#matrices.has(name), `Matrix "${name}" is allocated twice`);
    const address = this.#hbm.allocateMatrix(weightBytes(format, n, k), `"${name}"`);
    this.#matrices.set(name, { address, format, n, k });
  }

  uploadFloats(name: string, values: Float32Array): void {
    invariant(!this.#floats.has(name), `Floats "${name}" are uploaded twice`);
    const address = this.#hbm.allocate(values.byteLength, `"${name}"`);
    new Float32Array(this.#hbm.buffer, address, values.length).set(values);
    this.#floats.set(name, address);
  }

  uploadRows(name: string, rowStart: number, rowCount: number, source: Uint8Array): void {
    const { address, format, k, n } = this.matrix(name);
    invariant(
      rowStart % 8 === 0,
      `Rows of "${name}" are uploaded from ${rowStart}, not a panel's start`,
    );
    invariant(
      rowStart + rowCount <= n,
      `Matrix "${name}" has ${n} rows, not ${rowStart + rowCount}`,
    );
    const rowBytes = sourceRowBytes(format, k);
    const bytes = panelBytes(format, k);
    for (let row = 0; row < rowCount; row += 8) {
      const count = Math.min(8, rowCount - row);
      const panel = address + ((rowStart + row) / 8) * bytes;
      packPanel(
        format,
        k,
        source.subarray(row * rowBytes, (row + count) * rowBytes),
        count,
        this.#hbm.bytes(panel, bytes),
      );
    }
  }

  openRowWindow(sizeBytes: number): RowWindow {
    const source = this.#hbm.allocate(sizeBytes, "rows on their way to a matrix");
    const bytes = new Uint8Array(this.#hbm.buffer, source, sizeBytes);
    return {
      bytes,
      pack: (name, { from, rowStart, rowCount }) => {
        const { address, format: to, k, n } = this.matrix(name);
        invariant(
          rowStart % 8 === 0 && rowStart + rowCount <= n &&
            rowCount * sourceRowBytes(from, k) <= sizeBytes,
          `Rows ${rowStart} to ${rowStart + rowCount} of "${name}" cannot be packed`,
        );
        const target = address + (rowStart / 8) * panelBytes(to, k);
        return this.#pes.pack({ source, from, rowCount, k, target, to });
      },
      [Symbol.dispose]: () => {
        bytes.fill(0); // what is allocated here next must read as fresh memory does
        this.#hbm.free(source);
      },
    };
  }
}
