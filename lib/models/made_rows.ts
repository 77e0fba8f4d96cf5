/** Rows that no file has as they are wanted: made of stored codes, and of scales that lie elsewhere. */

import type { WeightFormat } from "../device/block_formats.ts";
import type { ByteSource } from "./formats/byte_source.ts";

/** Bytes of a file. */
export interface StoredPart {
  readonly source: ByteSource;
  readonly position: number;
  readonly sizeBytes: number;
}

/** How the rows of a matrix come about. */
export interface MadeRows {
  /** What they are in. */
  readonly format: WeightFormat;
  /** Everything in the files that goes into them. */
  readonly parts: readonly StoredPart[];
  /** Fills `target` with rows [rowStart, rowEnd). */
  read(rowStart: number, rowEnd: number, target: Uint8Array): void;
}

/** `count` rows from the first one on, each `stride`-th: one expert's matrix of a stack, for example. */
export function selectRows(
  rows: MadeRows,
  rowBytes: number,
  { first, stride }: { readonly first: number; readonly stride: number },
): MadeRows {
  return {
    format: rows.format,
    parts: rows.parts,
    read(rowStart, rowEnd, target) {
      if (stride === 1) return rows.read(first + rowStart, first + rowEnd, target);
      if (rowEnd <= rowStart) return;
      // All rows in between at once: a read for each row would take much longer.
      const from = first + rowStart * stride;
      const to = first + (rowEnd - 1) * stride + 1;
      const all = new Uint8Array((to - from) * rowBytes);
      rows.read(from, to, all);
      for (let row = 0; row < rowEnd - rowStart; row++) {
        const at = row * stride * rowBytes;
        target.set(all.subarray(at, at + rowBytes), row * rowBytes);
      }
    },
  };
}

/** Rows whose stored bytes are turned, block by block, into those of another format. */
export class RepackedRows implements MadeRows {
  readonly format: WeightFormat;
  readonly parts: readonly StoredPart[];
  readonly #part: StoredPart;
  readonly #rowBytes: number;
  readonly #repack: (source: Uint8Array, target: Uint8Array) => void;

  constructor(
    format: WeightFormat,
    part: StoredPart,
    rowBytes: number,
    repack: (source: Uint8Array, target: Uint8Array) => void,
  ) {
    this.format = format;
    this.parts = [part];
    this.#part = part;
    this.#rowBytes = rowBytes;
    this.#repack = repack;
  }

  read(rowStart: number, rowEnd: number, target: Uint8Array): void {
    const stored = new Uint8Array((rowEnd - rowStart) * this.#rowBytes);
    this.#part.source.readAt(this.#part.position + rowStart * this.#rowBytes, stored);
    this.#repack(stored, target);
  }
}
