/** What the choice of a sequence's next token depends on, besides the logits. */

import { placeOf } from "./ascending.ts";
import type { Seed } from "./random.ts";
import type { ResolvedSamplingParams } from "./resolved_params.ts";

/**
 * The parameters of a sequence, and of its history what they ask for: a history that no parameter
 * looks at is not kept.
 */
export class SamplingState {
  readonly params: ResolvedSamplingParams;
  readonly seed: Seed;
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
  readonly #penalizes: boolean;
  readonly #outputTokenIds: number[] = [];
  readonly #penalizedIds: number[];
  /** How often the output has each of them. */
  readonly #penalizedCounts: number[];

  constructor(
    params: ResolvedSamplingParams,
    seed: Seed,
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
    this.#penalizes = params.repetitionPenalty !== 1 || params.frequencyPenalty !== 0 ||
      params.presencePenalty !== 0;
    // Of the penalties, only that on repetition looks at the prompt.
    const seen = params.repetitionPenalty === 1 ? [] : new Set(promptTokenIds);
    this.#penalizedIds = [...seen].sort((a, b) => a - b);
    this.#penalizedCounts = this.#penalizedIds.map(() => 0);
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

  /** How often the output has each token of `penalizedIds`. */
  get penalizedCounts(): readonly number[] {
    return this.#penalizedCounts;
  }

  /** The place of a token in `penalizedIds`; undefined if no penalty is on it. */
  penalizedPlace(tokenId: number): number | undefined {
    const place = placeOf(this.#penalizedIds, tokenId);
    return this.#penalizedIds[place] === tokenId ? place : undefined;
  }

  /** Counts a chosen token in. */
  accept(tokenId: number): void {
    this.outputCount++;
    if (this.#keepsOutput) this.#outputTokenIds.push(tokenId);
    if (!this.#penalizes) return;
    const place = placeOf(this.#penalizedIds, tokenId);
    if (this.#penalizedIds[place] !== tokenId) {
      this.#penalizedIds.splice(place, 0, tokenId);
      this.#penalizedCounts.splice(place, 0, 0);
    }
    this.#penalizedCounts[place]!++;
  }

  /** The same sequence once more, to go on in another way. */
  fork(): SamplingState {
    const copy = new SamplingState(this.params, this.seed, this.promptTokenIds, this.endTokenIds);
    copy.outputCount = this.outputCount;
    copy.#outputTokenIds.push(...this.#outputTokenIds);
    copy.#penalizedIds.length = 0;
    copy.#penalizedIds.push(...this.#penalizedIds);
    copy.#penalizedCounts.length = 0;
    copy.#penalizedCounts.push(...this.#penalizedCounts);
    return copy;
  }
}
