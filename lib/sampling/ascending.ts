/** Looking ids up among ascending ones. */

/** Where an id is, or would be put. */
export function placeOf(ascending: readonly number[], id: number): number {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ascending[middle]! < id) low = middle + 1;
    else high = middle;
  }
  return low;
}
