/** The SDK: a model on a device, and what one can ask of it. */

import { ChatTemplateError, ClosedError, UnsupportedTaskError } from "./base/errors.ts";
import type { TraceEntry } from "./device/device.ts";
import {
  classify,
  embed,
  type EmbedOptions,
  encode,
  type EncodeOptions,
  submitPooling,
} from "./embedding.ts";
import { foldDeltas } from "./fold.ts";
import { generateDeltas } from "./generation.ts";
import { type LoadedModel, loadModel } from "./loading.ts";
import { type ModelInfo, modelInfo, type ModelStats } from "./model_info.ts";
import type { TokenizerInfo } from "./models/tokenizer_info.ts";
import type { LLMOptions } from "./options.ts";
import type {
  ClassificationRequestOutput,
  EmbeddingRequestOutput,
  GenerationDelta,
  PoolingRequestOutput,
  RequestOutput,
  RerankOutput,
  ScoringRequestOutput,
} from "./outputs.ts";
import { PoolingParams } from "./pooling/params.ts";
import type { PoolingContext, PoolingOptions } from "./pooling_requests.ts";
import {
  type BackgroundEncoding,
  type ChatMessage,
  type ChatOptions,
  checkDecoded,
  encodeConversation,
  type EncodedPrompt,
  encodePrompt,
  encodePromptInBackground,
  isConversation,
  keptPromptTokens,
  type Prompt,
  type RequestOptions,
  tokenizeInBackground,
  tokenizeText,
} from "./prompts.ts";
import { SamplingParams } from "./sampling/params.ts";
import {
  resolveSamplingParams,
  type SamplingDefaults,
  type TokenizedParams,
} from "./sampling/resolved_params.ts";
import { rerank, type RerankOptions, score, type ScoreOptions } from "./scoring.ts";
import { ChatTemplate } from "./text/chat_template.ts";
import { type TextContext, tokenizeParams, tokenizeParamsInBackground } from "./token_params.ts";
import { traced, type TraceOptions } from "./tracing.ts";

export type {
  BlockStats,
  EngineStats,
  HistogramSnapshot,
  ModelInfo,
  ModelStats,
  RequestEnd,
  RequestStats,
  WireStats,
} from "./model_info.ts";
export type { AttentionBucket, BucketTables } from "./device/bucket.ts";
export type { TokenizerInfo, TraceEntry };
export type { ChatMessage, ChatOptions, Prompt, RequestOptions } from "./prompts.ts";
export type { EmbedOptions, EncodeOptions, PoolingOptions, RerankOptions, ScoreOptions };
export type { PairOptions } from "./text_pairs.ts";
export type { TraceOptions };

/** Tokens that `generate` writes where `maxTokens` is not given. */
const GENERATE_MAX_TOKENS = 16;

/**
 * A loaded model. Load one with {@linkcode LLM.load} and hold it with `await using`, or close it:
 * its threads run until then.
 *
 * @example Ask a chat model
 * ```ts ignore
 * import { LLM, SamplingParams } from "@rngd/llm";
 *
 * await using llm = await LLM.load("HuggingFaceTB/SmolLM2-135M-Instruct");
 * const params = new SamplingParams({ temperature: 0, maxTokens: 64 });
 * const { outputs } = await llm.chat([{ role: "user", content: "Why is the sky blue?" }], params);
 * console.log(outputs[0]?.text);
 * ```
 */
export class LLM implements AsyncDisposable {
  /** Facts about the model. */
  readonly info: ModelInfo;
  readonly #loaded: LoadedModel;
  #closing: Promise<void> | undefined;

  private constructor(loaded: LoadedModel) {
    this.#loaded = loaded;
    this.info = modelInfo(loaded.model, loaded.pooling, {
      id: loaded.id,
      threads: loaded.threads,
      dtype: loaded.dtype,
      activationDtype: loaded.activationDtype,
      hasChatTemplate: loaded.chatTemplate !== undefined,
      maxWaitingRequests: loaded.maxWaitingRequests,
    });
  }

  /**
   * Loads a model.
   *
   * @param model A folder in Hugging Face layout, a GGUF file, or the id of a model on the Hugging
   * Face hub: `organization/model`, with `:Q4_0` or `/file.gguf` behind it where it has several GGUF
   * files. What the Hugging Face cache lacks is downloaded into it.
   * @param options Every option has a default.
   * @returns The model, warmed up.
   * @throws {ModelNotFoundError} Nothing is found under that name.
   * @throws {DownloadError} A model on the hub cannot be downloaded.
   * @throws {CheckpointError} A file of the checkpoint is missing, broken or not supported.
   * @throws {InvalidParameterError} An option is out of range.
   * @throws {DeviceMemoryError} Weights and KV pool exceed the device's memory.
   */
  static async load(model: string, options: LLMOptions = {}): Promise<LLM> {
    return new LLM(await loadModel(model, options));
  }

  /**
   * Continues one prompt, or several at once in one batch.
   *
   * @param prompt Text or token ids; an array gives an array of outputs in the same order.
   * @param params One for all prompts, or one each. `maxTokens` is 16 where it is absent.
   * @returns The output of each prompt.
   * @throws {ContextLengthError} A prompt, or prompt and `maxTokens`, exceed the context.
   * @throws {QueueFullError} Too many requests are waiting.
   */
  generate(
    prompt: Prompt,
    params?: SamplingParams,
    options?: RequestOptions,
  ): Promise<RequestOutput>;
  /** Continues several prompts at once; the outputs come in their order. */
  generate(
    prompts: readonly Prompt[],
    params?: SamplingParams | readonly SamplingParams[],
    options?: RequestOptions,
  ): Promise<RequestOutput[]>;
  generate(
    input: Prompt | readonly Prompt[],
    params?: SamplingParams | readonly SamplingParams[],
    options: RequestOptions = {},
  ): Promise<RequestOutput | RequestOutput[]> {
    return Array.isArray(input)
      ? this.#all<Prompt>(input, params, options)
      : this.#one(input as Prompt, single(params), options);
  }

  /**
   * Answers one conversation, or several at once in one batch.
   *
   * @param messages OpenAI-shaped messages; an array of conversations gives an array of outputs.
   * @param params One for all conversations, or one each. An absent `maxTokens` means the room
   * left in the context.
   * @returns The output of each conversation.
   * @throws {ChatTemplateError} The template refuses the messages, or the model has none.
   */
  chat(
    messages: readonly ChatMessage[],
    params?: SamplingParams,
    options?: ChatOptions,
  ): Promise<RequestOutput>;
  /** Answers several conversations at once; the outputs come in their order. */
  chat(
    conversations: readonly (readonly ChatMessage[])[],
    params?: SamplingParams | readonly SamplingParams[],
    options?: ChatOptions,
  ): Promise<RequestOutput[]>;
  chat(
    input: readonly ChatMessage[] | readonly (readonly ChatMessage[])[],
    params?: SamplingParams | readonly SamplingParams[],
    options: ChatOptions = {},
  ): Promise<RequestOutput | RequestOutput[]> {
    if (!Array.isArray(input)) {
      throw new TypeError("chat takes a list of messages; a text goes to generate or stream");
    }
    return input.length > 0 && input.every((item) => Array.isArray(item))
      ? this.#all(input as readonly (readonly ChatMessage[])[], params, options)
      : this.#one(input as readonly ChatMessage[], single(params), options);
  }

  /**
   * Streams one answer, to a prompt or to a conversation. It starts when it is first read; every
   * refusal (bad prompt, full queue) comes before the first delta. Leaving the loop ends the request.
   *
   * @returns Deltas whose texts, index by index, add up to the whole answer. With `bestOf` above
   * `n`, and with beam search, they all come at the end.
   */
  async *stream(
    input: Prompt | readonly ChatMessage[],
    params: SamplingParams = new SamplingParams(),
    options: ChatOptions = {},
  ): AsyncGenerator<GenerationDelta, void, void> {
    checkedParams(params);
    this.#checkOpen(options);
    this.#checkGenerates();
    const isChat = isConversation(input);
    const prompt = isChat
      ? await this.#render(input, params, options)
      : await encodePromptInBackground(input, this.#encoding(params, options), options);
    const texts = this.#textContext(prompt);
    const tokenized = await tokenizeParamsInBackground(params, texts, options.signal);
    const { samplingDefaults } = this.#loaded;
    const defaults = isChat ? samplingDefaults : withGenerateDefaults(samplingDefaults);
    yield* this.#start(prompt, params, tokenized, defaults, options);
  }

  /**
   * The same for a prompt that is queued at once: a refusal is thrown here, and the answer is made
   * whether it is read or not. To end it, leave the loop once it is being read, or abort the signal.
   * The prompt is tokenized here and now, about a megabyte a second; {@linkcode LLM.stream} does
   * that with long ones on another thread.
   *
   * @returns The deltas, as {@linkcode LLM.stream} gives them.
   * @throws {UnsupportedTaskError} The model is not for generation.
   * @throws {ContextLengthError} Prompt and `maxTokens` exceed the context.
   * @throws {InvalidParameterError} A parameter that the model or its vocabulary has no room for.
   * @throws {QueueFullError} Too many requests are waiting.
   */
  submit(
    prompt: Prompt,
    params: SamplingParams = new SamplingParams(),
    options: RequestOptions = {},
  ): AsyncGenerator<GenerationDelta, void, void> {
    checkedParams(params);
    this.#checkOpen(options);
    this.#checkGenerates();
    const encoded = encodePrompt(
      prompt,
      this.#encoding(params, options),
      options.addSpecialTokens ?? true,
    );
    const tokenized = tokenizeParams(params, this.#textContext(encoded));
    const defaults = withGenerateDefaults(this.#loaded.samplingDefaults);
    return this.#start(encoded, params, tokenized, defaults, options);
  }

  /**
   * Turns one text into a vector, or several at once in one batch: as many as you like, for only so
   * many wait in the engine at a time.
   *
   * @param prompt Text or token ids; an array gives an array of outputs in the same order.
   * @param params One for all prompts, or one each.
   * @returns The embedding of each prompt, of length 1 unless `normalize` is false.
   * @throws {UnsupportedTaskError} The model is not for embeddings.
   * @throws {ContextLengthError} A prompt is too long, and `truncatePromptTokens` was not given.
   * @throws {InvalidParameterError} `dimensions` that the model does not allow.
   * @example
   * ```ts ignore
   * import { LLM } from "@rngd/llm";
   *
   * await using llm = await LLM.load("sentence-transformers/all-MiniLM-L6-v2");
   * const { outputs } = await llm.embed("The cat sits on the mat.");
   * console.log(outputs.embedding.length); // 384
   * ```
   */
  embed(
    prompt: Prompt,
    params?: PoolingParams,
    options?: EmbedOptions,
  ): Promise<EmbeddingRequestOutput>;
  /** Embeds several prompts at once; the outputs come in their order. */
  embed(
    prompts: readonly Prompt[],
    params?: PoolingParams | readonly PoolingParams[],
    options?: EmbedOptions,
  ): Promise<EmbeddingRequestOutput[]>;
  async embed(
    input: Prompt | readonly Prompt[],
    params?: PoolingParams | readonly PoolingParams[],
    options: EmbedOptions = {},
  ): Promise<EmbeddingRequestOutput | EmbeddingRequestOutput[]> {
    return await embed(this.#pooling, input, params, options);
  }

  /**
   * Whatever the model's heads make of prompts: see {@linkcode PoolingTask}.
   *
   * @param prompt Text or token ids; an array gives an array of outputs in the same order.
   * @param params One for all prompts, or one each.
   * @param options Its `task` comes before that of the params, and that before the model's own.
   * @returns The numbers of each prompt.
   * @throws {UnsupportedTaskError} The model is not for that task.
   */
  encode(
    prompt: Prompt,
    params?: PoolingParams,
    options?: EncodeOptions,
  ): Promise<PoolingRequestOutput>;
  /** Encodes several prompts at once; the outputs come in their order. */
  encode(
    prompts: readonly Prompt[],
    params?: PoolingParams | readonly PoolingParams[],
    options?: EncodeOptions,
  ): Promise<PoolingRequestOutput[]>;
  async encode(
    input: Prompt | readonly Prompt[],
    params?: PoolingParams | readonly PoolingParams[],
    options: EncodeOptions = {},
  ): Promise<PoolingRequestOutput | PoolingRequestOutput[]> {
    return await encode(this.#pooling, input, params, options);
  }

  /**
   * The same for one prompt that is queued at once: a refusal is thrown here.
   *
   * @param prompt Text or token ids.
   * @param params Its `task` says what is made. Default: the model's own.
   * @returns The numbers, when they are computed.
   * @throws {UnsupportedTaskError} The model is not for that task.
   * @throws {ContextLengthError} The prompt is too long, and `truncatePromptTokens` was not given.
   * @throws {InvalidParameterError} A parameter that the model or its vocabulary has no room for.
   * @throws {QueueFullError} Too many requests are waiting.
   */
  submitPooling(
    prompt: Prompt,
    params: PoolingParams = new PoolingParams(),
    options: PoolingOptions = {},
  ): Promise<PoolingRequestOutput> {
    this.#checkOpen(options);
    return submitPooling(this.#pooling, prompt, params, options);
  }

  /**
   * How likely each label of a classifier is.
   *
   * @param prompt Text or token ids; an array gives an array of outputs in the same order.
   * @param params One for all prompts, or one each.
   * @returns The probabilities of each prompt's labels.
   * @throws {UnsupportedTaskError} The model has no classifier.
   */
  classify(
    prompt: Prompt,
    params?: PoolingParams,
    options?: PoolingOptions,
  ): Promise<ClassificationRequestOutput>;
  /** Classifies several prompts at once; the outputs come in their order. */
  classify(
    prompts: readonly Prompt[],
    params?: PoolingParams | readonly PoolingParams[],
    options?: PoolingOptions,
  ): Promise<ClassificationRequestOutput[]>;
  async classify(
    input: Prompt | readonly Prompt[],
    params?: PoolingParams | readonly PoolingParams[],
    options: PoolingOptions = {},
  ): Promise<ClassificationRequestOutput | ClassificationRequestOutput[]> {
    return await classify(this.#pooling, input, params, options);
  }

  /**
   * How well texts go together: by a reranker's or cross-encoder's head, or by the cosine of two
   * embeddings.
   *
   * @param data1 One text, or as many as there are in `data2`. With a reranker, the queries.
   * @param data2 One text or several. With a reranker, the documents.
   * @returns One output a pair, always an array.
   * @throws {InvalidParameterError} Numbers of texts that do not go together.
   * @throws {UnsupportedTaskError} The model can do neither.
   */
  async score(
    data1: string | readonly string[],
    data2: string | readonly string[],
    params?: PoolingParams,
    options: ScoreOptions = {},
  ): Promise<ScoringRequestOutput[]> {
    return await score(this.#pooling, data1, data2, params, options);
  }

  /**
   * Sorts documents by how well they answer a query, the best first.
   *
   * @param query What is looked for.
   * @param documents Where it is looked for.
   * @returns The documents with their scores and their places in `documents`; at most `topN`.
   * @throws {UnsupportedTaskError} The model cannot score.
   */
  async rerank(
    query: string,
    documents: readonly string[],
    options: RerankOptions = {},
  ): Promise<RerankOutput[]> {
    return await rerank(this.#pooling, query, documents, options);
  }

  /**
   * Text → token ids. Special tokens are added unless `addSpecialTokens` is false.
   *
   * @throws {InvalidParameterError} The text is longer than 1,048,576 UTF-16 code units.
   */
  tokenize(text: string, options: { readonly addSpecialTokens?: boolean } = {}): number[] {
    return tokenizeText(text, this.#loaded.tokenizer, options.addSpecialTokens ?? true);
  }

  /**
   * The same without holding up the calling thread: long texts are tokenized on another one.
   *
   * @param text The text.
   * @param options `signal` ends the waiting; the call rejects with its reason.
   * @returns The ids that {@linkcode LLM.tokenize} gives.
   * @throws {InvalidParameterError} The text is longer than 1,048,576 UTF-16 code units, or took
   * more than ten seconds.
   */
  async tokenizeAsync(
    text: string,
    options: { readonly addSpecialTokens?: boolean; readonly signal?: AbortSignal } = {},
  ): Promise<number[]> {
    this.#checkOpen(options);
    const { addSpecialTokens = true, signal } = options;
    return await tokenizeInBackground(text, this.#loaded.background, { addSpecialTokens, signal });
  }

  /** A conversation → the token ids of its prompt. */
  async tokenizeChat(
    messages: readonly ChatMessage[],
    options: ChatOptions = {},
  ): Promise<number[]> {
    return [...(await this.#render(messages, new SamplingParams(), options)).tokenIds];
  }

  /** Token ids → text, special tokens shown. */
  detokenize(tokenIds: readonly number[]): string {
    return this.#loaded.tokenizer.decode(tokenIds, { skipSpecialTokens: false });
  }

  /**
   * The same without holding up the calling thread: long lists are decoded on another one.
   *
   * @param tokenIds The ids.
   * @param options `signal` ends the waiting; the call rejects with its reason.
   * @returns The text that {@linkcode LLM.detokenize} gives.
   * @throws {InvalidParameterError} There are more than 1,048,576 ids.
   */
  async detokenizeAsync(
    tokenIds: readonly number[],
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<string> {
    this.#checkOpen(options);
    checkDecoded(tokenIds);
    return await this.#loaded.background.decode(tokenIds, { ...options, skipSpecialTokens: false });
  }

  /** The vocabulary's own spelling of each id. */
  tokenStrings(tokenIds: readonly number[]): string[] {
    return tokenIds.map((id) => this.#loaded.tokenizer.tokenString(id));
  }

  /**
   * The tokenizer's settings: what its tokenizer_config.json says, or as much of that as a GGUF file
   * tells, with the chat template that is used. No file paths.
   */
  tokenizerInfo(): TokenizerInfo {
    return this.#loaded.tokenizerInfo;
  }

  /** The sampling defaults that the model's authors ask for, as parameters. */
  getDefaultSamplingParams(): SamplingParams {
    const { maxTokensLimit: _, ...defaults } = this.#loaded.samplingDefaults;
    return new SamplingParams(defaults);
  }

  /** Counters and measurements of the engine, its requests and the wire cache. */
  stats(): ModelStats {
    const { engine, model } = this.#loaded;
    return {
      engine: engine.stats(),
      requests: engine.requestStats(),
      wires: model.device.wireStats(),
    };
  }

  /**
   * Forgets the keys and values of all prompt prefixes that were kept for reuse.
   *
   * @returns False, with nothing forgotten, while running requests use some.
   */
  resetPrefixCache(): boolean {
    return this.#loaded.engine.resetPrefixCache();
  }

  /** Which kernels the processing elements ran so far, how often and for how long. */
  trace(): Promise<TraceEntry[]> {
    return this.#loaded.model.device.trace();
  }

  /** Whether {@linkcode close} was called: every call is refused from then on. */
  get isClosed(): boolean {
    return this.#closing !== undefined;
  }

  /** Ends every request with a `ClosedError` and stops the threads. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** The same as {@linkcode close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    await this.#loaded.engine.close();
    await this.#loaded.model.close();
    this.#loaded.textWorker.close();
    this.#loaded.requestTextWorker.close();
    this.#loaded.background.close();
  }

  get #pooling(): PoolingContext {
    if (this.#closing !== undefined) throw new ClosedError("The model is closed");
    const { id, engine, tracer, tokenizer, background, pooling, poolingInFlight } = this.#loaded;
    return {
      id,
      engine,
      tracer,
      tokenizer,
      background,
      pooling,
      scoreTemplate: (source) =>
        source === undefined ? this.#loaded.scoreTemplate : this.#template(source),
      maxInFlight: poolingInFlight,
    };
  }

  #checkGenerates(): void {
    const { task, id, poolingTasks } = this.info;
    if (task === "generate") return;
    throw new UnsupportedTaskError(
      "generate",
      `Cannot generate with "${id}": it was loaded for ${poolingTasks.join(", ")}`,
    );
  }

  #checkOpen({ signal }: { readonly signal?: AbortSignal }): void {
    if (this.#closing !== undefined) throw new ClosedError("The model is closed");
    signal?.throwIfAborted();
  }

  #encoding(
    params: SamplingParams,
    { truncationSide = "left" }: RequestOptions,
  ): BackgroundEncoding {
    const { maxPromptLength } = this.info;
    const keptTokens = keptPromptTokens(params, this.info);
    const { tokenizer, background } = this.#loaded;
    return {
      tokenizer,
      background,
      maxPromptLength,
      truncationSide,
      ...(keptTokens === undefined ? {} : { keptTokens }),
    };
  }

  /** What the texts among the parameters are read with. */
  #textContext({ tokenIds }: EncodedPrompt): TextContext & Pick<LoadedModel, "background"> {
    const { tokenizer, background } = this.#loaded;
    const { maxContextLength } = this.info;
    return { tokenizer, background, promptTokenIds: tokenIds, maxContextLength };
  }

  /** Hands a prompt to the engine. */
  #start(
    prompt: EncodedPrompt,
    params: SamplingParams,
    tokenized: TokenizedParams,
    defaults: SamplingDefaults,
    options: RequestOptions,
  ): AsyncGenerator<GenerationDelta, void, void> {
    this.#checkOpen(options); // templates and long texts take their time
    const { engine, tokenizer } = this.#loaded;
    // A forced output has a length of its own.
    const tier = params.forcedOutput === undefined ? defaults : { ...defaults, maxTokens: null };
    const requestId = options.requestId ?? crypto.randomUUID();
    const resolved = resolveSamplingParams(params, tier, tokenized);
    const request = { requestId, model: this.info.id, params: resolved, trace: options.trace };
    const deltas = traced(
      this.#loaded.tracer,
      request,
      (onEnd) =>
        generateDeltas(engine, tokenizer, {
          requestId,
          prompt,
          params: resolved,
          stops: params.stop ?? [],
          includeStop: params.includeStopStrInOutput ?? false,
          priority: options.priority ?? 0,
          cacheSalt: options.cacheSalt,
          signal: options.signal,
          onEnd,
        }),
    );
    options.onQueued?.();
    return deltas;
  }

  #one(
    input: Prompt | readonly ChatMessage[],
    params: SamplingParams | undefined,
    options: ChatOptions,
  ): Promise<RequestOutput> {
    return foldDeltas(this.stream(input, params, options), params?.n ?? 1);
  }

  /** Runs all inputs together. The first failure ends the others. */
  async #all<Input extends Prompt | readonly ChatMessage[]>(
    inputs: readonly Input[],
    params: SamplingParams | readonly SamplingParams[] | undefined,
    options: ChatOptions,
  ): Promise<RequestOutput[]> {
    const each = paramsOfEach(params, inputs.length);
    const failed = new AbortController();
    const signal = options.signal === undefined
      ? failed.signal
      : AbortSignal.any([options.signal, failed.signal]);
    const { requestId = crypto.randomUUID(), ...rest } = options;
    const outputs = inputs.map((input, i) =>
      this.#one(input, each[i], { ...rest, requestId: `${requestId}-${i}`, signal })
    );
    try {
      return await Promise.all(outputs);
    } catch (error) {
      failed.abort(error);
      await Promise.allSettled(outputs);
      throw error;
    }
  }

  #render(
    messages: readonly ChatMessage[],
    params: SamplingParams,
    options: ChatOptions,
  ): Promise<EncodedPrompt> {
    const { chatTemplate, toolTemplate } = this.#loaded;
    const own = (options.tools?.length ?? 0) > 0 ? toolTemplate ?? chatTemplate : chatTemplate;
    const template = options.chatTemplate === undefined
      ? own
      : this.#template(options.chatTemplate);
    if (template === undefined) {
      throw new ChatTemplateError(
        `The model "${this.info.id}" has no chat template: give one as chatTemplate`,
      );
    }
    return encodeConversation(messages, template, this.#encoding(params, options), options);
  }

  /** A template that a call brings along. */
  #template(source: string): ChatTemplate {
    const { tokenizer: { specialTokens: tokens }, requestTextWorker: worker, contentFormat } =
      this.#loaded;
    const parameter = "chatTemplate";
    return new ChatTemplate(source, { tokens, file: parameter, parameter, worker, contentFormat });
  }
}

function withGenerateDefaults(defaults: SamplingDefaults): SamplingDefaults {
  return { maxTokens: GENERATE_MAX_TOKENS, ...defaults };
}

function single(
  params: SamplingParams | readonly SamplingParams[] | undefined,
): SamplingParams | undefined {
  return params === undefined ? undefined : checkedParams(params);
}

/** Fields that nobody has checked are not let in, whatever a caller without types may pass. */
function checkedParams(params: unknown): SamplingParams {
  if (params instanceof SamplingParams) return params;
  throw new TypeError(
    Array.isArray(params)
      ? "One prompt takes one SamplingParams, not an array"
      : "Sampling parameters must be a SamplingParams: write new SamplingParams({ … })",
  );
}

function paramsOfEach(
  params: SamplingParams | readonly SamplingParams[] | undefined,
  count: number,
): (SamplingParams | undefined)[] {
  if (!Array.isArray(params)) return Array(count).fill(single(params));
  if (params.length !== count) {
    throw new TypeError(
      `${count} prompts take one SamplingParams or ${count}, not ${params.length}`,
    );
  }
  return [...params];
}
