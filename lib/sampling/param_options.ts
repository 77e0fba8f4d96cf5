/** The fields of `SamplingParams` as a caller writes them, each with its range and default. */

/** When a search with beams is over: see `earlyStopping`. */
export type EarlyStopping = boolean | "never";

/** What each output of an engine holds: everything so far, what is new, or only the whole answer. */
export type RequestOutputKind = "CUMULATIVE" | "DELTA" | "FINAL";

/** When an output that says the same again and again is ended. */
export interface RepetitionDetection {
  /** Longest pattern that is looked for, in tokens. An integer ≥ 0; 0 switches the search off. */
  readonly maxPatternSize: number;
  /** Shortest pattern. An integer from 0 to `maxPatternSize`; 0, the default, counts as 1. */
  readonly minPatternSize?: number;
  /** How often a pattern must follow upon itself. An integer ≥ 2. */
  readonly minCount: number;
}

/**
 * Changes a row of logits before a token is chosen. It may write to `logits` and return nothing, or
 * return another array of the same length. Called once a token and sequence, on the main thread.
 *
 * @param outputTokenIds The tokens generated so far.
 * @param logits A copy of the row, [vocabulary], after bans and bias, before penalties. It is this
 * call's alone while it runs; afterwards it holds other rows.
 * @param promptTokenIds The tokens of the prompt.
 */
export type LogitsProcessor = (
  outputTokenIds: readonly number[],
  logits: Float32Array,
  promptTokenIds: readonly number[],
) => Float32Array | void;

/**
 * The fields of {@linkcode SamplingParams}. All are optional: an absent field falls to the model's
 * generation_config.json, then to the default named here.
 *
 * @example
 * ```ts
 * import type { SamplingParamsOptions } from "@rngd/llm";
 *
 * const options: SamplingParamsOptions = { temperature: 0.7, topP: 0.9, seed: 1, maxTokens: 64 };
 * ```
 */
export interface SamplingParamsOptions {
  /**
   * How many answers to return. An integer from 1 to 128, default 1. Above 1 not with greedy
   * sampling. A beam search returns fewer where bans leave no more.
   */
  readonly n?: number;
  /**
   * How many answers to generate, of which the `n` with the largest sum of log-probabilities are
   * returned; the width of a beam search. An integer from `n` to 128, default `n`.
   */
  readonly bestOf?: number;
  /**
   * Divides the logits: below 1 the likely tokens gain, above 1 they lose. Range 0 … 2, default 1.
   * 0 (anything below 1e-5) is greedy: the most likely token, always. Other values below 0.01
   * count as 0.01.
   */
  readonly temperature?: number;
  /** Keep the fewest most likely tokens that hold this share of the mass. Range (0, 1], default 1: off. */
  readonly topP?: number;
  /** Keep this many most likely tokens. An integer; 0 and −1, the default: off. */
  readonly topK?: number;
  /** Drop tokens less likely than this share of the most likely one. Range [0, 1], default 0: off. */
  readonly minP?: number;
  /**
   * Makes tokens of the prompt and the output less likely (above 1) or more likely (below 1).
   * Greater than 0, default 1: off.
   */
  readonly repetitionPenalty?: number;
  /** Taken off the logit of every token that the output has already. Range −2 … 2, default 0: off. */
  readonly presencePenalty?: number;
  /** The same, once for each time that the output has it. Range −2 … 2, default 0: off. */
  readonly frequencyPenalty?: number;
  /**
   * Same seed, same tokens, in any batch. Of several answers, number i (from 0) is what a request
   * with seed + i says. A signed integer of 64 bits, as a `bigint` where a number is not exact; −1,
   * the default: a random one for every request.
   */
  readonly seed?: number | bigint;
  /**
   * Texts that end the output, at most 16; the first to be complete counts. An answer of a beam
   * search is cut there when the search is over. Default none.
   */
  readonly stop?: string | readonly string[];
  /** Further tokens that end the output. They stay in `tokenIds`. Integers ≥ 0, default none. */
  readonly stopTokenIds?: readonly number[];
  /** Leave the text of the stop string, or of the token that ended the output, in. Default false. */
  readonly includeStopStrInOutput?: boolean;
  /**
   * Go on past the model's end tokens; `stopTokenIds` still end the output. A beam search then goes
   * on past both. Default false.
   */
  readonly ignoreEos?: boolean;
  /**
   * Most tokens to generate. An integer ≥ 1, default 16 for `generate`. `null`, which is the default
   * for `chat`: the room that is left in the context.
   */
  readonly maxTokens?: number | null;
  /**
   * End tokens, stop tokens and stop strings do not count before there are this many tokens.
   * An integer from 0 to `maxTokens`, default 0.
   */
  readonly minTokens?: number;
  /**
   * Report the log-probability of every chosen token and of this many most likely ones, as the
   * model has them: before bans, bias, penalties, temperature and filters. An integer ≥ 0, where 0
   * reports the chosen token only; `true` is 1; absent or `false`, the default: none.
   */
  readonly logprobs?: number | boolean;
  /**
   * Report these tokens instead of the most likely ones; needs `logprobs`, and no beam search. At
   * most 128 ids ≥ 0. Default: the most likely.
   */
  readonly logprobTokenIds?: readonly number[];
  /** The same for the tokens of the prompt. An integer ≥ 0; −1: the whole vocabulary. Default: none. */
  readonly promptLogprobs?: number;
  /**
   * End the output once its last tokens are one pattern several times over: `finishReason` is then
   * "repetition". Not before `minTokens`, and not in a beam search. Default: never.
   */
  readonly repetitionDetection?: RepetitionDetection;
  /** Leave special tokens out of the text. Default true. */
  readonly skipSpecialTokens?: boolean;
  /**
   * Added to the logits of these tokens: token id → bias. Values beyond −100 … 100 count as those;
   * −100 all but bans a token. Default none.
   */
  readonly logitBias?: Readonly<Record<number, number>> | ReadonlyMap<number, number>;
  /** The only tokens that may be chosen. At least one id ≥ 0. Default: all. */
  readonly allowedTokenIds?: readonly number[];
  /**
   * Words that the output must not hold. Not empty; at most 128 token sequences, and 65,536
   * characters in all. Default none.
   */
  readonly badWords?: readonly string[];
  /** Functions that change the logits, in their order. Default none. */
  readonly logitsProcessors?: readonly LogitsProcessor[];
  /**
   * Search the most likely whole answers instead of drawing tokens; `bestOf`, or else `n`, is the
   * width, from 2 to 64. Temperature, top-k, top-p, min-p and seed then have no effect. Default false.
   */
  readonly useBeamSearch?: boolean;
  /**
   * Beam search: an answer's score is its log-probability divided by its length to this power;
   * above 0 favours long answers, below 0 short ones. Default 1, and nothing else without beams.
   */
  readonly lengthPenalty?: number;
  /**
   * Beam search: stop as soon as there are as many answers as beams (`true`); or when a better one
   * is unlikely (`false`, the default) or impossible (`"never"`).
   */
  readonly earlyStopping?: EarlyStopping;
  /** What each output of `LLMEngine` and `AsyncLLMEngine` holds. Default CUMULATIVE. */
  readonly outputKind?: RequestOutputKind;
  /**
   * Keep the last so many tokens of the prompt: an integer ≥ 1, at most what `maxTokens` leaves of
   * the context; −1: as many as that, or leave 16 where `maxTokens` is absent. Default: all.
   */
  readonly truncatePromptTokens?: number;
  /**
   * What the model shall say: a text, in which special tokens are recognised, or token ids. Exactly
   * these tokens are produced, with the log-probabilities, usage, timing and stream that the model
   * would have had; then the output ends. All of it is shown, special tokens where
   * `skipSpecialTokens` is false. `maxTokens` and stop strings still cut it; the 16 of `generate`
   * do not. For scripting a model in tests. Default: the model decides.
   */
  readonly forcedOutput?: string | readonly number[];
}
