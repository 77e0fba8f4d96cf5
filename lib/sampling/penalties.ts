/** Changes to a copied row of logits before a token is chosen: bans and penalties. */

/** Makes the tokens impossible. Ids beyond the row are ignored: they cannot be chosen anyway. */
export function banTokens(row: Float32Array, tokenIds: Iterable<number>): void {
  for (const id of tokenIds) if (id < row.length) row[id] = -Infinity;
}

/** Moves the logit of every seen token down (penalty above 1) or up (below 1), each token once. */
export function penalizeRepetition(
  row: Float32Array,
  seenTokenIds: ReadonlySet<number>,
  penalty: number,
): void {
  for (const id of seenTokenIds) {
    const value = row[id];
    if (value !== undefined) row[id] = value > 0 ? value / penalty : value * penalty;
  }
}
