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
  const waiting = new Map<number, GenerationDelta>();
  const begun = new Set<number>();
  for await (const delta of deltas) {
    const { index } = delta;
    const before = waiting.get(index);
    const all = before === undefined ? delta : joined(before, delta);
    const isDue = !begun.has(index) || all.finishReason !== null ||
      all.tokenIds.length >= interval;
    if (isDue) {
      begun.add(index);
      waiting.delete(index);
      yield all;
    } else {
      waiting.set(index, all);
    }
  }
}

function joined(first: GenerationDelta, second: GenerationDelta): GenerationDelta {
  return {
    ...second,
    text: first.text + second.text,
    tokenIds: [...first.tokenIds, ...second.tokenIds],
    logprobs: first.logprobs && [...first.logprobs, ...second.logprobs ?? []],
  };
}
