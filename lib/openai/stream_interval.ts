/** `stream_interval`: fewer and longer deltas. */

import type { GenerationDelta } from "../outputs.ts";

/**
 * The same answer in fewer pieces: of each sequence the first token and the last come at once, the
 * others when there are `interval` of them.
 */
export async function* atIntervals(
  deltas: AsyncIterable<GenerationDelta>,
  interval: number,
): AsyncGenerator<GenerationDelta, void, void> {
  const waiting = new Map<number, Waiting>();
  for await (const delta of deltas) {
    const held = waiting.get(delta.index);
    if (held === undefined) { // the first of its sequence, with what there is to say of the prompt
      waiting.set(delta.index, { deltas: [], tokenCount: 0 });
      yield delta;
      continue;
    }
    held.deltas.push(delta);
    held.tokenCount += delta.tokenIds.length;
    if (delta.finishReason === null && held.tokenCount < interval) continue;
    waiting.set(delta.index, { deltas: [], tokenCount: 0 });
    yield joined(held.deltas, delta);
  }
}

/** What a sequence has to say and does not yet. */
interface Waiting {
  readonly deltas: GenerationDelta[];
  tokenCount: number;
}

/** @param last of the deltas, whose end is that of all */
function joined(deltas: readonly GenerationDelta[], last: GenerationDelta): GenerationDelta {
  return {
    ...last,
    text: deltas.map(({ text }) => text).join(""),
    tokenIds: deltas.flatMap(({ tokenIds }) => tokenIds),
    logprobs: last.logprobs && deltas.flatMap(({ logprobs }) => logprobs ?? []),
  };
}
