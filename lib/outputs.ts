/** What the SDK answers with: plain data. */

/**
 * Why a sequence ended: an end token, stop token or stop string; the length; an abort; or a
 * repetition that `repetitionDetection` was to end.
 */
export type FinishReason = "stop" | "length" | "abort" | "repetition";

/** The log-probability of one token at one position. */
export interface Logprob {
  /** Natural logarithm; may be −Infinity. */
  readonly logprob: number;
  /** 1 is the most likely token. */
  readonly rank: number;
  /** The token decoded by itself, special tokens shown; "" for a piece of a character. */
  readonly decodedToken: string;
}

/** Token id → log-probability. The chosen token comes first, then the most likely, descending. */
export type LogprobMap = ReadonlyMap<number, Logprob>;

/** One generated sequence. */
export interface CompletionOutput {
  /** Which of the request's sequences: 0 … `n` − 1, the best first where they were ranked. */
  readonly index: number;
  /** The text, without what ended it unless `includeStopStrInOutput` asked for that. */
  readonly text: string;
  /** The end or stop token is included, and so are all tokens of a stop string. */
  readonly tokenIds: readonly number[];
  /** One entry a token; null unless `logprobs` was asked for. */
  readonly logprobs: readonly LogprobMap[] | null;
  /** Sum of the chosen tokens' log-probabilities; null unless `logprobs` was asked for. */
  readonly cumulativeLogprob: number | null;
  /** null while the sequence is still growing. */
  readonly finishReason: FinishReason | null;
  /**
   * What ended it: the stop string, or the token id where that was not the model's own end token, or
   * "repetition_detected".
   */
  readonly stopReason: number | string | null;
}

/** One request's answer. */
export interface RequestOutput {
  /** The request, as it was named or by its UUID. */
  readonly requestId: string;
  /** The prompt as text: as given, rendered, or decoded from the ids. */
  readonly prompt: string;
  /** The prompt as token ids. */
  readonly promptTokenIds: readonly number[];
  /** One entry a prompt token, the first null; null unless `promptLogprobs` was asked for. */
  readonly promptLogprobs: readonly (LogprobMap | null)[] | null;
  /** The generated sequences, in the order of their indices. */
  readonly outputs: readonly CompletionOutput[];
  /** Whether the answer is complete. */
  readonly finished: boolean;
  /** Prompt tokens whose keys and values came from the prefix cache. */
  readonly cachedTokens: number;
}

/** What a stream says of its prompt, with the first delta. */
export interface PromptInfo {
  /** The text. */
  readonly text: string;
  /** Token ids. */
  readonly tokenIds: readonly number[];
  /** One entry a token; null unless they were asked for. */
  readonly logprobs: readonly (LogprobMap | null)[] | null;
  /** Prompt tokens whose keys and values came from the prefix cache. */
  readonly cachedTokens: number;
}

/** One piece of a streamed answer. The concatenated texts are the whole answer's text. */
export interface GenerationDelta {
  /** The request, as it was named or by its UUID. */
  readonly requestId: string;
  /** Which of the request's sequences: 0 … `n` − 1. Their deltas come as they are made. */
  readonly index: number;
  /** May be "" while a character is incomplete, or may be the beginning of a stop string. */
  readonly text: string;
  /** Token ids. */
  readonly tokenIds: readonly number[];
  /** One entry a token; null unless they were asked for. */
  readonly logprobs: readonly LogprobMap[] | null;
  /** null while the sequence is still growing. */
  readonly finishReason: FinishReason | null;
  /**
   * What ended it: the stop string, or the token id where that was not the model's own end token, or
   * "repetition_detected".
   */
  readonly stopReason: number | string | null;
  /** Only with the first delta. */
  readonly prompt?: PromptInfo;
}

/** What pooling makes of one prompt; `Outputs` is what was asked for. */
export interface PoolingRequestOutput<Outputs = PoolingOutput> {
  /** The request, as it was named or by a UUID. */
  readonly requestId: string;
  /** The result. */
  readonly outputs: Outputs;
  /** The prompt as it was run: special tokens and truncation included. */
  readonly promptTokenIds: readonly number[];
  /** Always true: pooling has no partial results. */
  readonly finished: boolean;
  /** Prompt tokens whose keys and values came from the prefix cache. */
  readonly cachedTokens: number;
}

/** Whatever `encode` was asked for. */
export interface PoolingOutput {
  /**
   * `embed`: the vector. `score`: one number. `classify`: one number a label. `token_embed` and
   * `token_classify`: one such vector a token.
   */
  readonly data: Float32Array | readonly Float32Array[];
}

/** A prompt's embedding. */
export interface EmbeddingOutput {
  /** The vector, of length 1 unless `normalize` is false. */
  readonly embedding: Float32Array;
  /** How many numbers it has. */
  readonly hiddenSize: number;
}

/** What `embed` answers with. */
export type EmbeddingRequestOutput = PoolingRequestOutput<EmbeddingOutput>;

/** How well two texts go together. */
export interface ScoringOutput {
  /** From a reranker or cross-encoder 0 to 1, unless its config says otherwise; of embeddings the cosine. */
  readonly score: number;
}

/** What `score` answers with. Of embeddings, the prompt is both texts' tokens with a pad token between. */
export type ScoringRequestOutput = PoolingRequestOutput<ScoringOutput>;

/** How likely each label is. */
export interface ClassificationOutput {
  /** One a label. */
  readonly probs: Float32Array;
  /** How many labels there are. */
  readonly numClasses: number;
  /** The name of the most likely label; null where the model's config has no names. */
  readonly label: string | null;
}

/** What `classify` answers with. */
export type ClassificationRequestOutput = PoolingRequestOutput<ClassificationOutput>;

/** One document of a ranking. */
export interface RerankOutput {
  /** Where the document was in the call. */
  readonly index: number;
  /** The document. */
  readonly document: string;
  /** As {@linkcode ScoringOutput.score}. */
  readonly relevanceScore: number;
  /** The request that scored it. */
  readonly requestId: string;
  /** Query and document as they were run. */
  readonly promptTokenIds: readonly number[];
  /** Prompt tokens whose keys and values came from the prefix cache. */
  readonly cachedTokens: number;
}
