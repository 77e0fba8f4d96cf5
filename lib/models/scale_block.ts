/** The blocks of a matrix that share a scale, as config files write them. */

import type { Fields } from "./fields.ts";

/** Rows and columns that share a scale. */
export interface ScaleBlock {
  readonly rows: number;
  readonly columns: number;
}

const BLOCK_MAX = 65_536;

/** Two sizes in a list; undefined where the key is absent or null. */
export function readBlock(fields: Fields, key: string): ScaleBlock | undefined {
  const value = fields.value(key);
  if (value === undefined) return undefined;
  const isSize = (size: unknown): size is number =>
    Number.isSafeInteger(size) && (size as number) >= 1 && (size as number) <= BLOCK_MAX;
  if (!Array.isArray(value) || value.length !== 2 || !value.every(isSize)) {
    fields.fail(key, `it must be two sizes, integers of 1 to ${BLOCK_MAX}`);
  }
  const [rows, columns] = value as [number, number];
  return { rows, columns };
}
