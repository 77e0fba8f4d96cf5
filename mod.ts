/**
 * Large language models on an emulated RNGD card, in process: load a model, generate, chat, stream,
 * embed, score, rerank. `SamplingParamsOptions` has every sampling field with its range and default.
 *
 * ```ts ignore
 * import { LLM, SamplingParams } from "@rngd/llm";
 *
 * await using llm = await LLM.load("./SmolLM2-135M-Instruct.Q4_1.gguf");
 * const params = new SamplingParams({ temperature: 0, maxTokens: 64 });
 *
 * const messages = [{ role: "user", content: "Why is the sky blue?" }];
 * for await (const delta of llm.stream(messages, params)) console.log(delta.text);
 * ```
 *
 * The OpenAI-compatible server is at `@rngd/llm/openai`, the device alone at `@rngd/llm/device`.
 *
 * @module
 */

export { AsyncLLMEngine } from "./lib/async_llm_engine.ts";
export { inspectModel } from "./lib/inspect.ts";
export { LLM } from "./lib/llm.ts";
export {
  type EngineModel,
  type EngineOutput,
  type EngineRequestOptions,
  LLMEngine,
} from "./lib/llm_engine.ts";
export type {
  AttentionBucket,
  BlockStats,
  BucketTables,
  ChatMessage,
  ChatOptions,
  ContentPart,
  DeclaredMessage,
  EmbedOptions,
  EncodeOptions,
  EngineStats,
  HistogramSnapshot,
  ModelInfo,
  ModelStats,
  OpenMessage,
  PairOptions,
  PoolingOptions,
  Prompt,
  RequestEnd,
  RequestOptions,
  RequestStats,
  RerankOptions,
  ScoreOptions,
  TokenizerInfo,
  TraceEntry,
  TraceOptions,
  WireStats,
} from "./lib/llm.ts";
export type {
  KvPoolPlan,
  ModelPlan,
  RopePlan,
  SequencePlan,
  TokenizerPlan,
  WeightPart,
  WeightPartName,
} from "./lib/model_plan.ts";
export type {
  ContentFormat,
  LLMOptions,
  LoadProgress,
  ModelTask,
  SamplingOverrides,
} from "./lib/options.ts";
export type {
  ClassificationOutput,
  ClassificationRequestOutput,
  CompletionOutput,
  EmbeddingOutput,
  EmbeddingRequestOutput,
  FinishReason,
  GenerationDelta,
  Logprob,
  LogprobMap,
  PoolingOutput,
  PoolingRequestOutput,
  PromptInfo,
  RequestOutput,
  RerankOutput,
  ScoringOutput,
  ScoringRequestOutput,
} from "./lib/outputs.ts";
export {
  type EarlyStopping,
  type LogitsProcessor,
  type RepetitionDetection,
  type RequestOutputKind,
  SamplingParams,
  type SamplingParamsFields,
  type SamplingParamsOptions,
} from "./lib/sampling/params.ts";
export {
  PoolingParams,
  type PoolingParamsFields,
  type PoolingParamsOptions,
  type PoolingTask,
} from "./lib/pooling/params.ts";
export type {
  AttributeValue,
  Span,
  SpanContext,
  SpanOptions,
  Tracer,
  TracerContext,
} from "./lib/tracing.ts";
export {
  ChatTemplateError,
  CheckpointError,
  ClosedError,
  ContextLengthError,
  DeviceError,
  DeviceMemoryError,
  DownloadError,
  InvalidLogitsError,
  InvalidParameterError,
  ModelNotFoundError,
  QueueFullError,
  UnsupportedTaskError,
} from "./lib/base/errors.ts";
