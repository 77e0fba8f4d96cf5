/** How a tokenizer puts two texts together, as `[CLS] first [SEP] second [SEP]`. */

import { CheckpointError } from "../base/errors.ts";

/** Ids, and the segment that each belongs to. */
export interface PairEncoding {
  readonly ids: readonly number[];
  readonly typeIds: readonly number[];
}

/** What stands around two texts. */
export interface PairTemplate {
  readonly before: PairEncoding;
  readonly firstType: number;
  readonly between: PairEncoding;
  readonly secondType: number;
  readonly after: PairEncoding;
}

/**
 * Finds the template by encoding a pair whose texts are known. A template rather than the encoded
 * pair itself, so that texts can be cut before they are put together.
 *
 * @param encode Encodes a pair with special tokens, or one text (`second` null) without.
 */
export function pairTemplateOf(
  encode: (first: string, second: string | null) => PairEncoding,
  file: string,
): PairTemplate {
  const [first, second] = [encode("a", null).ids, encode("b", null).ids];
  const { ids, typeIds } = encode("a", "b");
  const firstStart = indexOf(ids, first, 0);
  const firstEnd = firstStart + first.length;
  const secondStart = firstStart < 0 ? -1 : indexOf(ids, second, firstEnd);
  if (secondStart < 0 || first.length === 0 || second.length === 0) {
    throw new CheckpointError(
      file,
      `Cannot encode pairs of texts with "${file}": its post_processor must keep both texts`,
    );
  }
  const secondEnd = secondStart + second.length;
  const part = (start: number, end: number): PairEncoding => ({
    ids: ids.slice(start, end),
    typeIds: typeIds.slice(start, end),
  });
  return {
    before: part(0, firstStart),
    firstType: typeIds[firstStart] ?? 0,
    between: part(firstEnd, secondStart),
    secondType: typeIds[secondStart] ?? 0,
    after: part(secondEnd, ids.length),
  };
}

/** Puts two texts into a template. */
export function joinPair(
  template: PairTemplate,
  first: readonly number[],
  second: readonly number[],
): PairEncoding {
  const { before, firstType, between, secondType, after } = template;
  return {
    ids: [...before.ids, ...first, ...between.ids, ...second, ...after.ids],
    typeIds: [
      ...before.typeIds,
      ...first.map(() => firstType),
      ...between.typeIds,
      ...second.map(() => secondType),
      ...after.typeIds,
    ],
  };
}

/** Where `part` begins in `ids` at or after `start`; −1 if nowhere. */
function indexOf(ids: readonly number[], part: readonly number[], start: number): number {
  for (let at = start; at + part.length <= ids.length; at++) {
    if (part.every((id, i) => ids[at + i] === id)) return at;
  }
  return -1;
}
