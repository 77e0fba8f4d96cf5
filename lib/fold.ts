/** Deltas → whole outputs. */

import type {
  CompletionOutput,
  GenerationDelta,
  LogprobMap,
  PromptInfo,
  RequestOutput,
} from "./outputs.ts";

/** A request's answer as far as its deltas go. */
export class RequestFold {
  readonly #count: number;
  #requestId = "";
  #prompt: PromptInfo = { text: "", tokenIds: [], logprobs: null, cachedTokens: 0 };
  readonly #sequences = new Map<number, SequenceFold>();
  #hasEnded = false;

  /** @param count How many sequences there will be, unless a search finds fewer. */
  constructor(count: number) {
    this.#count = count;
  }

  /** Takes the next delta in. */
  add(delta: GenerationDelta): void {
    this.#requestId = delta.requestId;
    if (delta.prompt !== undefined) this.#prompt = delta.prompt;
    let sequence = this.#sequences.get(delta.index);
    if (sequence === undefined) {
      sequence = new SequenceFold(delta.index);
      this.#sequences.set(delta.index, sequence);
    }
    sequence.add(delta);
  }

  /** No more deltas come: the sequences that are there are all. */
  end(): void {
    this.#hasEnded = true;
  }

  /** Whether every sequence has ended. */
  get isFinished(): boolean {
    const sequences = [...this.#sequences.values()];
    const areAll = sequences.length === this.#count || this.#hasEnded && sequences.length > 0;
    return areAll && sequences.every(({ isFinished }) => isFinished);
  }

  /** What is there now; later deltas do not change it. */
  output(): RequestOutput {
    return this.#output(this.#sequences.values());
  }

  /** What came since this was last asked, of the sequences that got something; none of it is kept. */
  takeNews(): RequestOutput {
    const grown = [...this.#sequences.values()].filter(({ hasNews }) => hasNews);
    const output = this.#output(grown);
    for (const sequence of grown) sequence.clear();
    return output;
  }

  #output(sequences: Iterable<SequenceFold>): RequestOutput {
    return {
      requestId: this.#requestId,
      prompt: this.#prompt.text,
      promptTokenIds: this.#prompt.tokenIds,
      promptLogprobs: this.#prompt.logprobs,
      outputs: [...sequences]
        .sort((a, b) => a.index - b.index)
        .map((sequence) => sequence.output()),
      finished: this.isFinished,
      cachedTokens: this.#prompt.cachedTokens,
    };
  }
}

class SequenceFold {
  readonly index: number;
  /** Whether something came since the last `clear`. */
  hasNews = false;
  #texts: string[] = [];
  #tokenIds: number[] = [];
  #logprobs: LogprobMap[] = [];
  #hasLogprobs = false;
  #cumulativeLogprob = 0;
  #finishReason: CompletionOutput["finishReason"] = null;
  #stopReason: CompletionOutput["stopReason"] = null;

  constructor(index: number) {
    this.index = index;
  }

  get isFinished(): boolean {
    return this.#finishReason !== null;
  }

  add(delta: GenerationDelta): void {
    this.hasNews = true;
    this.#texts.push(delta.text);
    for (const id of delta.tokenIds) this.#tokenIds.push(id);
    for (const [i, map] of (delta.logprobs ?? []).entries()) {
      this.#hasLogprobs = true;
      this.#logprobs.push(map);
      this.#cumulativeLogprob += map.get(delta.tokenIds[i] as number)?.logprob ?? 0;
    }
    this.#finishReason = delta.finishReason;
    this.#stopReason = delta.stopReason;
  }

  /** Forgets text and tokens; their log-probabilities stay in the sum. */
  clear(): void {
    this.hasNews = false;
    this.#texts = [];
    this.#tokenIds = [];
    this.#logprobs = [];
  }

  output(): CompletionOutput {
    return {
      index: this.index,
      text: this.#texts.join(""),
      tokenIds: [...this.#tokenIds],
      logprobs: this.#hasLogprobs ? [...this.#logprobs] : null,
      cumulativeLogprob: this.#hasLogprobs ? this.#cumulativeLogprob : null,
      finishReason: this.#finishReason,
      stopReason: this.#stopReason,
    };
  }
}

/** Folds a stream of `count` sequences into the whole answer. */
export async function foldDeltas(
  deltas: AsyncIterable<GenerationDelta>,
  count: number,
): Promise<RequestOutput> {
  const fold = new RequestFold(count);
  for await (const delta of deltas) fold.add(delta);
  fold.end();
  return fold.output();
}
