/** The prompts of a completions request and all their choices, while these grow. */

import { invariant } from "../base/invariant.ts";
import type { GenerationDelta, PromptInfo } from "../outputs.ts";
import { type Choice, choiceAt, countTokens, newChoices } from "./choice.ts";
import type { CompletionRequest } from "./completion_request.ts";
import { usage } from "./context.ts";
import type { CompletionEntry } from "./logprobs.ts";
import type { Usage } from "./types.ts";

/** What an answer says: all of a choice, or what is new of it. */
export interface Saying {
  readonly text: string;
  /** One a token. Empty where none were asked for. */
  readonly entries: readonly CompletionEntry[];
}

/** What is known of the prompts and of all their choices. */
export class CompletionBatch {
  readonly choices: readonly Choice[];
  readonly #request: CompletionRequest;
  readonly #detokenize: (ids: readonly number[]) => string;
  readonly #prompts: PromptInfo[] = [];

  /** @param detokenize token ids → text, special tokens shown */
  constructor(request: CompletionRequest, detokenize: (ids: readonly number[]) => string) {
    this.#request = request;
    this.#detokenize = detokenize;
    this.choices = newChoices(request.prompts.length * request.choiceCount);
  }

  /** Takes a delta of prompt number `at` in; gives the index of its choice. */
  grow(at: number, delta: GenerationDelta): number {
    if (delta.prompt !== undefined) this.#prompts[at] = delta.prompt;
    const { choiceCount } = this.#request;
    invariant(delta.index < choiceCount, "A prompt has more sequences than were asked for");
    const index = at * choiceCount + delta.index;
    choiceAt(this.choices, index).grow(delta);
    return index;
  }

  /** The prompt that a choice answers. */
  promptOf(index: number): PromptInfo {
    const prompt = this.#prompts[this.#promptNumber(index)];
    invariant(prompt !== undefined, "The first delta says nothing of its prompt");
    return prompt;
  }

  /** What is said from the beginning on: the prompt too, where that is to be repeated. */
  withEcho(index: number, { text, entries }: Saying): Saying {
    const { echo, logprobs } = this.#request;
    if (echo === undefined) return { text, entries };
    const repeated = echo.hasText ? this.#promptText(index) : "";
    const before = logprobs === undefined ? [] : this.#promptEntries(index);
    return echo.isAll
      ? { text: repeated, entries: before }
      : { text: repeated + text, entries: [...before, ...entries] };
  }

  /** Every token of every choice; every prompt once. */
  usage(): Usage {
    let promptTokens = 0, cachedTokens = 0;
    for (const prompt of this.#prompts) {
      promptTokens += prompt.tokenIds.length;
      cachedTokens += prompt.cachedTokens;
    }
    return usage(promptTokens, countTokens(this.choices), cachedTokens);
  }

  #promptNumber(index: number): number {
    return Math.floor(index / this.#request.choiceCount);
  }

  /** As it was sent; ids as they are, special ones shown. */
  #promptText(index: number): string {
    const sent = this.#request.prompts[this.#promptNumber(index)];
    return typeof sent === "string" ? sent : this.#detokenize(this.promptOf(index).tokenIds);
  }

  #promptEntries(index: number): CompletionEntry[] {
    const { tokenIds, logprobs } = this.promptOf(index);
    return tokenIds.map((tokenId, at) => logprobs?.[at] ?? { tokenId, text: this.#alone(tokenId) });
  }

  /** A token by itself; a piece of a character has no text of its own. */
  #alone(tokenId: number): string {
    const text = this.#detokenize([tokenId]);
    return text.includes("\uFFFD") ? "" : text;
  }
}
