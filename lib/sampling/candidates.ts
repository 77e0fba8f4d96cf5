/**
 * Which tokens of an adjusted row are large enough to matter.
 *
 * The answer comes from the row's largest logits and the list of changes where these are enough,
 * otherwise from one pass over the row; it is the same one.
 */

import type { AdjustedRow } from "./adjust.ts";
import { placeOf } from "./ascending.ts";
import type { KnownRow } from "./known_row.ts";
import type { SamplerScratch } from "./scratch.ts";

/** A row as it is after bans, bias, processors and penalties. */
export interface Choice {
  /** `adjusted.base`. */
  readonly base: KnownRow;
  readonly adjusted: AdjustedRow;
}

/** A token and its logit. */
export interface Largest {
  readonly id: number;
  /** −Infinity where no token is possible. */
  readonly logit: number;
}

/** The largest logit, of equal ones that of the lowest id. */
export function largest(choice: Choice): Largest {
  const { ids, logits, isList } = choice.adjusted;
  let best: Largest = isList ? { id: 0, logit: -Infinity } : largestUnchanged(choice);
  for (let i = 0; i < ids.length; i++) {
    const logit = logits[i]!;
    const isBetter = logit > best.logit || (logit === best.logit && ids[i]! < best.id);
    if (isBetter) best = { id: ids[i]!, logit };
  }
  return best;
}

function largestUnchanged({ base, adjusted }: Choice): Largest {
  const { top, logits } = base;
  if (top !== undefined) {
    const place = top.ids.findIndex((id) => adjusted.ids[placeOf(adjusted.ids, id)] !== id);
    if (place >= 0) return { id: top.ids[place]!, logit: top.logits[place]! };
    if (top.isWhole) return { id: 0, logit: -Infinity };
  }
  let id = 0;
  let logit = -Infinity;
  let next = 0;
  for (let at = 0; at < logits.length; at++) {
    if (at === adjusted.ids[next]) next++;
    else if (logits[at]! > logit) {
      logit = logits[at]!;
      id = at;
    }
  }
  return { id, logit };
}

/**
 * Collects the tokens whose logits are at least `floor` and above −Infinity into
 * `scratch.ids` and `scratch.logits`, ascending by id.
 *
 * @returns How many they are.
 */
export function collect(choice: Choice, floor: number, scratch: SamplerScratch): number {
  const { base, adjusted } = choice;
  scratch.reserveCandidates(base.logits.length);
  if (adjusted.isList) return mergeInto(scratch, [], choice, floor);
  const { top } = base;
  if (top === undefined || !(top.isWhole || floor > top.logits[top.logits.length - 1]!)) {
    return scan(choice, floor, scratch);
  }
  let count = top.ids.length;
  while (count > 0 && top.logits[count - 1]! < floor) count--;
  const ids = top.ids.slice(0, count).sort();
  return mergeInto(scratch, ids, choice, floor);
}

/** The least logit above which the largest logits of the row leave none out; undefined: unknown. */
export function topFloor({ base }: Choice): number | undefined {
  const { top } = base;
  if (top === undefined) return undefined;
  if (top.isWhole) return -Infinity;
  const last = top.logits[top.logits.length - 1]!;
  let place = top.logits.length - 1;
  while (place >= 0 && top.logits[place] === last) place--;
  return top.logits[place];
}

/** Unchanged tokens of ascending ids, and the changed ones among them. */
function mergeInto(
  scratch: SamplerScratch,
  unchanged: ArrayLike<number>,
  { base, adjusted }: Choice,
  floor: number,
): number {
  const { ids, logits } = adjusted;
  let count = 0;
  let next = 0;
  const put = (id: number, logit: number): void => {
    if (!(logit >= floor) || logit === -Infinity) return;
    scratch.ids[count] = id;
    scratch.logits[count++] = logit;
  };
  for (let i = 0; i < unchanged.length; i++) {
    const id = unchanged[i]!;
    for (; next < ids.length && ids[next]! < id; next++) put(ids[next]!, logits[next]!);
    if (ids[next] !== id) put(id, base.logits[id]!);
  }
  for (; next < ids.length; next++) put(ids[next]!, logits[next]!);
  return count;
}

function scan({ base, adjusted }: Choice, floor: number, scratch: SamplerScratch): number {
  // −Infinity must stay out, and NaN is not there.
  const least = Math.max(floor, -Number.MAX_VALUE);
  const { ids, logits } = adjusted;
  let count = 0;
  let start = 0;
  for (let i = 0; i < ids.length; i++) {
    count = collectColumns(base.logits, { start, end: ids[i]!, least, count }, scratch);
    start = ids[i]! + 1;
    if (!(logits[i]! >= least)) continue;
    scratch.ids[count] = ids[i]!;
    scratch.logits[count++] = logits[i]!;
  }
  return collectColumns(base.logits, { start, end: base.logits.length, least, count }, scratch);
}

/** Appends columns [start, end) to `count` candidates; returns how many there are then. */
function collectColumns(
  row: Float32Array,
  columns: { start: number; end: number; least: number; count: number },
  { ids, logits }: SamplerScratch,
): number {
  const { start, end, least } = columns;
  let { count } = columns;
  const before = count;
  // Without a branch, as nobody can predict it: that takes a third of the time.
  for (let id = start; id < end; id++) {
    ids[count] = id;
    count += +(row[id]! >= least);
  }
  for (let i = before; i < count; i++) logits[i] = row[ids[i]!]!;
  return count;
}
