/** How rows are cut into tiles. */

import { TILE_ROWS_MAX } from "./pack.ts";

/** `large` tiles of smallRows + 1 rows, then `small` tiles of smallRows. */
export interface TilePlan {
  readonly smallRows: number;
  readonly large: number;
  readonly small: number;
}

/** As few tiles as possible, and all nearly alike: from three rows on, none has less than three. */
export function planTiles(rowCount: number, rowsMax: number = TILE_ROWS_MAX): TilePlan {
  const tiles = Math.ceil(rowCount / rowsMax);
  const smallRows = Math.floor(rowCount / tiles);
  const large = rowCount - smallRows * tiles;
  return { smallRows, large, small: tiles - large };
}
