/** One of a request's sequences: its token events → text deltas, up to a stop string. */

import type { TokenEvent } from "./engine/request.ts";
import { CONTEXT_TOKENS, logprobMap } from "./logprob_maps.ts";
import type { GenerationDelta } from "./outputs.ts";
import type { ResolvedSamplingParams } from "./sampling/resolved_params.ts";
import { Detokenizer } from "./text/detokenizer.ts";
import { StopStrings } from "./text/stop_strings.ts";
import type { Tokenizer } from "./text/tokenizer.ts";

/** How a request's tokens become text. */
export interface SequenceOptions {
  readonly requestId: string;
  readonly promptTokenIds: readonly number[];
  readonly params: ResolvedSamplingParams;
  /** Texts that end a sequence. */
  readonly stops: readonly string[];
  /** Show the text of what ended a sequence: of the stop string, or of the end or stop token. */
  readonly includeStop: boolean;
}

/** The text of one sequence, as it grows. */
export class Sequence {
  readonly #tokenizer: Tokenizer;
  readonly #options: SequenceOptions;
  readonly #detokenizer: Detokenizer;
  readonly #stops: StopStrings;
  /** The last tokens, the prompt's included. */
  readonly #recent: number[];
  #tokenCount = 0;
  #isFinished = false;

  constructor(tokenizer: Tokenizer, options: SequenceOptions) {
    const { promptTokenIds, params, stops, includeStop } = options;
    this.#tokenizer = tokenizer;
    this.#options = options;
    this.#detokenizer = new Detokenizer(tokenizer, {
      promptIds: promptTokenIds,
      skipSpecialTokens: params.skipSpecialTokens,
    });
    this.#stops = new StopStrings({ stops, includeStop, minTokens: params.minTokens });
    this.#recent = promptTokenIds.slice(-CONTEXT_TOKENS);
  }

  /** Whether it ended, by a token or by a stop string. */
  get isFinished(): boolean {
    return this.#isFinished;
  }

  /** Takes the next token in. A stop string that it completes wins over any other reason to end. */
  push(event: TokenEvent): GenerationDelta {
    const { index, tokenId, logprobs } = event;
    this.#tokenCount++;
    const isLast = event.finishReason !== null;
    const piece = this.#detokenizer.push(this.#isShown(event) ? [tokenId] : []) +
      (isLast ? this.#detokenizer.finish() : "");
    let text = this.#stops.push(piece, this.#tokenCount);
    const stop = this.#stops.found;
    if (isLast) text += this.#stops.finish();
    this.#isFinished = isLast || stop !== null;
    const delta: GenerationDelta = {
      requestId: this.#options.requestId,
      index,
      text,
      tokenIds: [tokenId],
      logprobs: logprobs && [logprobMap(logprobs, this.#recent, this.#tokenizer)],
      finishReason: stop === null ? event.finishReason : "stop",
      stopReason: stop ?? event.stopReason,
    };
    this.#recent.push(tokenId);
    if (this.#recent.length > CONTEXT_TOKENS) this.#recent.shift();
    return delta;
  }

  /** The token that ends an answer is counted and not shown, unless it was asked for word for word. */
  #isShown({ finishReason }: TokenEvent): boolean {
    const { includeStop, params } = this.#options;
    return finishReason !== "stop" || includeStop || params.forcedTokenIds !== null;
  }
}
