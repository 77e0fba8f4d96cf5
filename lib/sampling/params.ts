/** `SamplingParams`: how the next token is chosen, and when to stop. */

/** The fields of {@linkcode SamplingParams}. Absent fields fall to generation_config.json, then the API default. */
export interface SamplingParamsOptions {
  /** 0 is greedy. Default 1. Range 0 … 2. */
  readonly temperature?: number;
  /** Default 1. Range (0, 1]. */
  readonly topP?: number;
  /** 0 and −1: off. Default off. */
  readonly topK?: number;
  /** Default 0. Range [0, 1]. */
  readonly minP?: number;
  /** Default 1. Greater than 0. */
  readonly repetitionPenalty?: number;
  /** Same seed, same tokens. −1 or absent: a random one. */
  readonly seed?: number;
  /** Further tokens that end the output. They stay in `tokenIds`. */
  readonly stopTokenIds?: readonly number[];
  /** Go on past the model's end tokens. Default false. */
  readonly ignoreEos?: boolean;
  /** Default 16 for `generate`; null, and the default for `chat`: the room left in the context. */
  readonly maxTokens?: number | null;
  /** End and stop tokens cannot be chosen before this many. Default 0. */
  readonly minTokens?: number;
  /** This many most likely tokens' log-probabilities beside the chosen one's. Absent: none. */
  readonly logprobs?: number;
  /** The same for the prompt's tokens; −1: the whole vocabulary. */
  readonly promptLogprobs?: number;
  /** Leave special tokens out of the text. Default true. */
  readonly skipSpecialTokens?: boolean;
}

/** How the next token is chosen, and when to stop. */
export class SamplingParams {
  constructor(readonly options: SamplingParamsOptions = {}) {}
}
