/** What the choice of a sequence's next token depends on, besides the logits. */

import type { ResolvedSamplingParams } from "./resolved_params.ts";

/**
 * The parameters of a sequence, and of its history what they ask for: a history that no parameter
 * looks at is not kept.
 */
export class SamplingState {
  readonly params: ResolvedSamplingParams;
  readonly seed: number;
  readonly promptTokenIds: readonly number[];
  /** Tokens that end the output: impossible before `minTokens`. */
  readonly endTokenIds: readonly number[];
  /** `params.allowedTokenIds`, ascending. */
  readonly allowedIds: readonly number[] | null;
  /** 1 / temperature as a float32, by which logits are multiplied; 1 if greedy. */
  readonly scale: number;
  /** Tokens chosen so far; also the number of the next draw. */
  outputCount = 0;
  readonly #keepsOutput: boolean;
  readonly #keepsCounts: boolean;
  readonly #outputTokenIds: number[] = [];
  readonly #counts = new Map<number, number>();
  readonly #penalizedIds: number[];
  readonly #penalized: Set<number>;

  constructor(
    params: ResolvedSamplingParams,
    seed: number,
    promptTokenIds: readonly number[],
    endTokenIds: readonly number[],
  ) {
    this.params = params;
    this.seed = seed;
    this.scale = params.temperature === 0 ? 1 : Math.fround(1 / params.temperature);
    this.promptTokenIds = promptTokenIds;
    this.endTokenIds = endTokenIds;
    this.#keepsOutput = params.logitsProcessors.length > 0 ||
      params.badTokenSequences.some((sequence) => sequence.length > 1);
    this.#keepsCounts = params.repetitionPenalty !== 1 || params.frequencyPenalty !== 0 ||
      params.presencePenalty !== 0;
    // Of the penalties, only that on repetition looks at the prompt.
    this.#penalized = new Set(params.repetitionPenalty === 1 ? [] : promptTokenIds);
    this.#penalizedIds = [...this.#penalized].sort((a, b) => a - b);
    this.allowedIds = params.allowedTokenIds?.toSorted((a, b) => a - b) ?? null;
  }

  /** The output so far; empty where neither bad words nor processors ask for it. */
  get outputTokenIds(): readonly number[] {
    return this.#outputTokenIds;
  }

  /** Tokens that some penalty is on, ascending. */
  get penalizedIds(): readonly number[] {
    return this.#penalizedIds;
  }

  /** Whether some penalty is on a token. */
  isPenalized(tokenId: number): boolean {
    return this.#penalized.has(tokenId);
  }

  /** How often the output has a token; 0 where no penalty asks for it. */
  outputCountOf(tokenId: number): number {
    return this.#counts.get(tokenId) ?? 0;
  }

  /** Counts a chosen token in. */
  accept(tokenId: number): void {
    this.outputCount++;
    if (this.#keepsOutput) this.#outputTokenIds.push(tokenId);
    if (!this.#keepsCounts) return;
    this.#counts.set(tokenId, this.outputCountOf(tokenId) + 1);
    if (this.#penalized.has(tokenId)) return;
    this.#penalized.add(tokenId);
    this.#penalizedIds.splice(placeOf(this.#penalizedIds, tokenId), 0, tokenId);
  }

  /** The same sequence once more, to go on in another way. */
  fork(): SamplingState {
    const copy = new SamplingState(this.params, this.seed, this.promptTokenIds, this.endTokenIds);
    copy.outputCount = this.outputCount;
    copy.#outputTokenIds.push(...this.#outputTokenIds);
    for (const [id, count] of this.#counts) copy.#counts.set(id, count);
    for (const id of this.#penalized) copy.#penalized.add(id);
    copy.#penalizedIds.length = 0;
    copy.#penalizedIds.push(...this.#penalizedIds);
    return copy;
  }
}

/** Where an id is in ascending ids, or would be put. */
function placeOf(ascending: readonly number[], id: number): number {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ascending[middle]! < id) low = middle + 1;
    else high = middle;
  }
  return low;
}
