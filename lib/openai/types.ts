/** The wire format of answers: snake_case as OpenAI, vLLM and Furiosa-LLM clients read it. */

/** What every failed request is answered with, and what a failing stream sends before it ends. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    /** The HTTP status, as a number. */
    readonly code: number;
  };
}

/** Tokens counted for one request. */
export interface Usage {
  readonly prompt_tokens: number;
  readonly total_tokens: number;
  readonly completion_tokens: number;
  readonly prompt_tokens_details?: { readonly cached_tokens: number };
  readonly completion_tokens_details?: { readonly reasoning_tokens: number };
}

/** One token and its log-probability, chat form. */
export interface ChatTokenLogprob {
  readonly token: string;
  readonly logprob: number;
  /** UTF-8 of the token's text. */
  readonly bytes: readonly number[];
}

/** The log-probabilities of a chat choice or chunk. */
export interface ChatLogprobs {
  readonly content: readonly (ChatTokenLogprob & {
    readonly top_logprobs: readonly ChatTokenLogprob[];
  })[];
}

/** The log-probabilities of a completions choice or chunk. Maps are written as objects, in order. */
export interface CompletionLogprobs {
  readonly text_offset: readonly number[];
  readonly token_logprobs: readonly (number | null)[];
  readonly tokens: readonly string[];
  readonly top_logprobs: readonly (ReadonlyMap<string, number> | null)[];
}

/** One prompt token's entry: id → log-probability, the prompt's own token first. */
export type PromptLogprob = ReadonlyMap<
  string,
  { readonly logprob: number; readonly rank: number; readonly decoded_token: string }
>;

/** Log-probabilities of the prompt, the first entry null. */
export type PromptLogprobs = readonly (PromptLogprob | null)[];

/** The answer of `POST /v1/chat/completions`. */
export interface ChatCompletion {
  readonly id: string;
  readonly object: "chat.completion";
  readonly created: number;
  readonly model: string;
  readonly choices: readonly {
    readonly index: number;
    readonly message: {
      readonly role: string;
      readonly content: string | null;
      readonly refusal: null;
      readonly annotations: null;
      readonly audio: null;
      readonly function_call: null;
      readonly tool_calls: readonly never[];
    };
    readonly logprobs: ChatLogprobs | null;
    readonly finish_reason: string | null;
    readonly stop_reason: number | string | null;
    readonly token_ids: readonly number[] | null;
    readonly routed_experts: null;
  }[];
  readonly service_tier: null;
  readonly system_fingerprint: string | null;
  readonly usage: Usage;
  readonly prompt_logprobs: PromptLogprobs | null;
  readonly prompt_token_ids: readonly number[] | null;
  readonly prompt_text: string | null;
  readonly kv_transfer_params: null;
  readonly ec_transfer_params: null;
  readonly metrics: null;
}

/** One event of a streamed chat answer. Keys that are not set are absent. */
export interface ChatCompletionChunk {
  readonly id: string;
  readonly object: "chat.completion.chunk";
  readonly created: number;
  readonly model: string;
  readonly choices: readonly {
    readonly index: number;
    readonly delta: { readonly role?: string; readonly content?: string };
    readonly logprobs: ChatLogprobs | null;
    readonly finish_reason: string | null;
    readonly stop_reason?: number | string | null;
    readonly token_ids?: readonly number[] | null;
  }[];
  readonly prompt_token_ids?: readonly number[] | null;
  readonly prompt_text?: string | null;
  readonly usage?: Usage;
  readonly system_fingerprint?: string | null;
}

/** The answer of `POST /v1/completions`. */
export interface Completion {
  readonly id: string;
  readonly object: "text_completion";
  readonly created: number;
  readonly model: string;
  readonly choices: readonly {
    readonly index: number;
    readonly text: string;
    readonly logprobs: CompletionLogprobs | null;
    readonly finish_reason: string | null;
    readonly stop_reason: number | string | null;
    readonly token_ids: readonly number[] | null;
    readonly prompt_logprobs: PromptLogprobs | null;
    readonly prompt_token_ids: readonly number[] | null;
    readonly routed_experts: null;
  }[];
  readonly service_tier: null;
  readonly system_fingerprint: string | null;
  readonly usage: Usage;
  readonly kv_transfer_params: null;
  readonly ec_transfer_params: null;
  readonly metrics: null;
}

/** One event of a streamed completion. */
export interface CompletionChunk {
  readonly id: string;
  readonly object: "text_completion";
  readonly created: number;
  readonly model: string;
  readonly choices: readonly {
    readonly index: number;
    readonly text: string;
    readonly logprobs: CompletionLogprobs | null;
    readonly finish_reason: string | null;
    readonly stop_reason: number | string | null;
    readonly prompt_token_ids: readonly number[] | null;
    readonly token_ids: readonly number[] | null;
  }[];
  readonly usage?: Usage;
  readonly system_fingerprint?: string | null;
}

/** Tokens counted for one request without an answer of tokens. */
export interface PoolingUsage {
  readonly prompt_tokens: number;
  readonly total_tokens: number;
  readonly completion_tokens: 0;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
  readonly completion_tokens_details: null;
}

/** What the answers of the pooling routes have in common: one entry an input, in their order. */
export interface PooledList<Entry> {
  readonly id: string;
  readonly object: "list";
  readonly created: number;
  readonly model: string;
  readonly data: readonly ({ readonly index: number } & Entry)[];
  readonly usage: PoolingUsage;
}

/** The answer of `POST /v1/embeddings`; a string is base64 of float32 bits. */
export type EmbeddingList = PooledList<{
  readonly object: "embedding";
  readonly embedding: string | readonly number[];
}>;

/** The answer of `POST /pooling`: as above, or one vector a token. */
export type PoolingList = PooledList<{
  readonly object: "pooling";
  readonly data: string | readonly number[] | readonly (readonly number[])[];
}>;

/** The answer of `POST /classify`. */
export type ClassificationList = PooledList<{
  readonly label: string | null;
  readonly probs: readonly number[];
  readonly num_classes: number;
}>;

/** The answer of `POST /score`. */
export type ScoreList = PooledList<{ readonly object: "score"; readonly score: number }>;

/** The answer of `POST /rerank`: the best first. */
export interface RerankAnswer {
  readonly id: string;
  readonly model: string;
  readonly usage: Pick<PoolingUsage, "prompt_tokens" | "total_tokens">;
  readonly results: readonly {
    /** Its place in the request. */
    readonly index: number;
    readonly document: { readonly text: string; readonly multi_modal: null };
    readonly relevance_score: number;
  }[];
  /** Where Cohere's clients look for the usage. */
  readonly meta: { readonly billed_units: { readonly total_tokens: number } };
}

/** A shape class wires are compiled for, as Furiosa-LLM names its fields. */
export interface BucketCard {
  readonly batch_size: number;
  readonly attention_size: number;
  readonly kv_cache_size: number;
}

/** One served name in `GET /v1/models`: the keys of vLLM and of Furiosa-LLM. */
export interface ModelCard {
  readonly id: string;
  readonly object: "model";
  readonly created: number;
  readonly owned_by: string;
  readonly root: string;
  readonly parent: null;
  readonly max_model_len: number;
  readonly max_prompt_len: number;
  readonly max_context_len: number;
  readonly artifact_id: string;
  readonly runtime_config: {
    readonly prefill_buckets: readonly BucketCard[];
    readonly decode_buckets: readonly BucketCard[];
    readonly append_buckets: readonly BucketCard[];
    readonly tokenwise_buckets: readonly number[];
    readonly tensor_parallel_size: number;
    readonly pipeline_parallel_size: number;
    readonly data_parallel_size: number;
  };
  readonly permission: readonly Readonly<Record<string, unknown>>[];
}

/** The answer of `GET /v1/models`. */
export interface ModelList {
  readonly object: "list";
  readonly data: readonly ModelCard[];
}

/** The answer of `POST /tokenize`. */
export interface TokenizeAnswer {
  readonly count: number;
  readonly max_model_len: number;
  readonly tokens: readonly number[];
  readonly token_strs: readonly string[] | null;
}

/** The answer of `POST /detokenize`. */
export interface DetokenizeAnswer {
  readonly prompt: string;
}
