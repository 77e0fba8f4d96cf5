/** The choices of an answer while they grow. */

import { invariant } from "../base/invariant.ts";
import type { GenerationDelta, LogprobMap } from "../outputs.ts";

/** One choice as far as its deltas go. */
export class Choice {
  readonly texts: string[] = [];
  readonly tokenIds: number[] = [];
  readonly logprobs: LogprobMap[] = [];
  finishReason: string | null = null;
  stopReason: number | string | null = null;

  /** Takes the next delta in. */
  grow(delta: GenerationDelta): void {
    this.texts.push(delta.text);
    for (const id of delta.tokenIds) this.tokenIds.push(id);
    for (const map of delta.logprobs ?? []) this.logprobs.push(map);
    this.finishReason = delta.finishReason;
    this.stopReason = delta.stopReason;
  }

  /** A search may have found fewer answers than asked for. */
  get isThere(): boolean {
    return this.finishReason !== null;
  }
}

/** As many choices, none of them begun. */
export function newChoices(count: number): Choice[] {
  return Array.from({ length: count }, () => new Choice());
}

/** One of the choices. */
export function choiceAt<Item>(choices: readonly Item[], index: number): Item {
  const choice = choices[index];
  invariant(choice !== undefined, "A generation has more sequences than were asked for");
  return choice;
}

/** The tokens of all choices. */
export function countTokens(choices: readonly Choice[]): number {
  return choices.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0);
}
