/** The largest values of a row, without sorting the row. */

/**
 * The k-th largest value, counting equal ones one by one. k is from 1 to the row's length.
 *
 * One pass keeps the values that may still be among the k largest; whenever there are too many,
 * the k largest of them stay and the others are thrown away.
 */
export function kthLargest(row: Float32Array, k: number): number {
  const candidates = new Float32Array(Math.min(row.length, Math.max(2 * k, 512)));
  let count = 0;
  let threshold = -Infinity; // k values at least this large are known, once it is above −Infinity
  for (let id = 0; id < row.length; id++) {
    const value = row[id]!;
    // A value equal to the threshold changes nothing: the k-th largest is at least that already.
    if (!(value > threshold)) continue;
    if (count === candidates.length) {
      threshold = moveLargestFirst(candidates, count, k);
      count = k;
      if (!(value > threshold)) continue;
    }
    candidates[count++] = value;
  }
  if (count < k) return -Infinity; // the rest of the row is −Infinity
  return moveLargestFirst(candidates, count, k);
}

/** Moves the k largest of the first `count` values before the others; returns the least of them. */
function moveLargestFirst(values: Float32Array, count: number, k: number): number {
  const target = k - 1;
  let low = 0;
  let high = count - 1;
  // Hoare's selection: the k-th is always within [low, high].
  while (low < high) {
    const pivot = medianOf(values[low]!, values[(low + high) >>> 1]!, values[high]!);
    let i = low;
    let j = high;
    while (i <= j) {
      while (values[i]! > pivot) i++;
      while (values[j]! < pivot) j--;
      if (i > j) break;
      const value = values[i]!;
      values[i++] = values[j]!;
      values[j--] = value;
    }
    if (target <= j) high = j;
    else if (target >= i) low = i;
    else break;
  }
  return values[target]!;
}

function medianOf(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
}

/** The ids of the k largest values, descending; of equal values the lower id comes first. */
export function topIds(row: Float32Array, k: number): number[] {
  if (k === 0) return [];
  if (k >= row.length) return sortIds(row, Array.from(row, (_, id) => id));
  const threshold = kthLargest(row, k);
  const above: number[] = [];
  const equal: number[] = [];
  for (let id = 0; id < row.length; id++) {
    const value = row[id]!;
    if (value > threshold) above.push(id);
    else if (value === threshold && equal.length < k) equal.push(id);
  }
  return sortIds(row, above).concat(equal.slice(0, k - above.length));
}

function sortIds(row: Float32Array, ids: number[]): number[] {
  return ids.sort((a, b) => {
    const [valueA, valueB] = [row[a]!, row[b]!];
    return valueA === valueB ? a - b : valueB > valueA ? 1 : -1;
  });
}
