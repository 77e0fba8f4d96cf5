/** The SDK: a model on a device, and what one can ask of it. */

import { chat, generate } from "./answering.ts";
import { ClosedError } from "./base/errors.ts";
import type { TraceEntry } from "./device/device.ts";
import {
  classify,
  embed,
  type EmbedOptions,
  encode,
  type EncodeOptions,
  submitPooling,
} from "./embedding.ts";
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
  type ChatMessage,
  type ChatOptions,
  checkDecoded,
  type Prompt,
  type RequestOptions,
  tokenizeInBackground,
  tokenizeText,
} from "./prompts.ts";
import { SamplingParams } from "./sampling/params.ts";
import { rerank, type RerankOptions, score, type ScoreOptions } from "./scoring.ts";
import { type GenerationContext, render, stream, submit } from "./streaming.ts";
import { ChatTemplate } from "./text/chat_template.ts";
import type { TraceOptions } from "./tracing.ts";

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
export type {
  ChatMessage,
  ChatOptions,
  ContentPart,
  DeclaredMessage,
  OpenMessage,
  Prompt,
  RequestOptions,
} from "./prompts.ts";
export type { EmbedOptions, EncodeOptions, PoolingOptions, RerankOptions, ScoreOptions };
export type { PairOptions } from "./text_pairs.ts";
export type { TraceOptions };

/**
 * A loaded model. Load one with {@linkcode LLM.load} and hold it with `await using`, or close it:
 * its threads run until then.
 *
 * @example Ask a chat model
 * ```ts ignore
 * import { LLM, SamplingParams } from "@rngd/llm";
 *
 * await using llm = await LLM.load("./SmolLM2-135M-Instruct.Q4_1.gguf");
 * const params = new SamplingParams({ temperature: 0, maxTokens: 64 });
 * const { outputs } = await llm.chat([{ role: "user", content: "Why is the sky blue?" }], params);
 * console.log(outputs[0]?.text);
 * ```
 */
export class LLM implements AsyncDisposable {
  /** Facts about the model. */
  readonly info: ModelInfo;
  readonly #loaded: LoadedModel;
  readonly #generation: GenerationContext;
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
    this.#generation = {
      ...loaded,
      info: this.info,
      template: (source) => this.#template(source),
      checkOpen: (options) => this.#checkOpen(options),
    };
  }

  /**
   * Loads a model.
   *
   * @param model A folder in Hugging Face layout, a GGUF file, the `file:` URL of one, or the id of a model on the Hugging
   * Face hub: `organization/model`, with `:Q4_0` or `/file.gguf` behind it where it has several GGUF
   * files. What the Hugging Face cache lacks is downloaded into it.
   * @param options Every option has a default.
   * @returns The model, warmed up.
   * @throws {ModelNotFoundError} Nothing is found under that name.
   * @throws {DownloadError} A model on the hub cannot be downloaded.
   * @throws {CheckpointError} A file of the checkpoint is missing, broken or not supported.
   * @throws {InvalidParameterError} An option is out of range.
   * @throws {DeviceMemoryError} Weights and KV pool exceed the device's memory.
   * @throws The signal's reason, if `options.signal` fires.
   * @example From the hub, with its download shown
   * ```ts ignore
   * import { LLM } from "@rngd/llm";
   *
   * const options = { onProgress: ({ stage, done, total }) => console.log(stage, done / total) };
   * await using llm = await LLM.load("HuggingFaceTB/SmolLM2-135M-Instruct", options);
   * ```
   */
  static async load(model: string, options: LLMOptions = {}): Promise<LLM> {
    return new LLM(await loadModel(model, options));
  }

  /**
   * Continues one prompt, or several at once in one batch: as many as you like, for only so many
   * wait in the engine at a time.
   *
   * @param prompt Text or token ids; an array gives an array of outputs in the same order.
   * @param params One for all prompts, or one each. `maxTokens` is 16 where it is absent.
   * @param options The same for all prompts. Of several, each has the id with `-0`, `-1` … behind it.
   * @returns The output of each prompt.
   * @throws {TypeError} Prompts or parameters of another shape.
   * @throws {UnsupportedTaskError} The model is not for generation.
   * @throws {ContextLengthError} A prompt, or prompt and `maxTokens`, exceed the context.
   * @throws {InvalidParameterError} A parameter that the model or its vocabulary has no room for.
   * @throws {QueueFullError} Too many requests are waiting.
   * @example Two prompts in one batch
   * ```ts ignore
   * import { LLM, SamplingParams } from "@rngd/llm";
   *
   * await using llm = await LLM.load("./SmolLM2-135M-Instruct.Q4_1.gguf");
   * const params = new SamplingParams({ temperature: 0, maxTokens: 8 });
   * const outputs = await llm.generate(["The sky is", "The grass is"], params);
   * for (const { prompt, outputs: [first] } of outputs) console.log(prompt + first?.text);
   * ```
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
    return generate(this.#generation, input, params, options);
  }

  /**
   * Answers one conversation, or several at once in one batch.
   *
   * @param messages OpenAI-shaped messages; an array of conversations gives an array of outputs.
   * @param params One for all conversations, or one each. An absent `maxTokens` means the room
   * left in the context.
   * @param options The same for all conversations, as {@linkcode LLM.generate} takes them, and how
   * the template is filled in.
   * @returns The output of each conversation.
   * @throws {ChatTemplateError} The template refuses the messages, or the model has none.
   * @throws What {@linkcode LLM.generate} throws.
   * @example Ask for facts about the answer
   * ```ts ignore
   * import { LLM } from "@rngd/llm";
   *
   * await using llm = await LLM.load("./SmolLM2-135M-Instruct.Q4_1.gguf");
   * const messages = [{ role: "user", content: "Name a colour." }];
   * const { outputs: [answer] } = await llm.chat(messages);
   * console.log(answer?.text, answer?.finishReason, answer?.tokenIds.length);
   * ```
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
    return chat(this.#generation, input, params, options);
  }

  /**
   * Streams one answer, to a prompt or to a conversation. It starts when it is first read; every
   * refusal (bad prompt, full queue) comes before the first delta. Leaving the loop ends the request.
   *
   * @param input Text, token ids, or the messages of a conversation.
   * @param params How to generate. An absent `maxTokens` means 16 for a prompt, and the room left in
   * the context for a conversation.
   * @param options As for {@linkcode LLM.chat}.
   * @returns Deltas whose texts, index by index, add up to the whole answer. With `bestOf` above
   * `n`, and with beam search, they all come at the end.
   * @throws What {@linkcode LLM.chat} throws, with the first delta.
   * @example Write an answer as it comes
   * ```ts ignore
   * import { LLM, SamplingParams } from "@rngd/llm";
   *
   * await using llm = await LLM.load("./SmolLM2-135M-Instruct.Q4_1.gguf");
   * const messages = [{ role: "user", content: "Why is the sky blue?" }];
   * const params = new SamplingParams({ maxTokens: 32 });
   * for await (const { text } of llm.stream(messages, params)) console.log(text);
   * ```
   */
  stream(
    input: Prompt | readonly ChatMessage[],
    params: SamplingParams = new SamplingParams(),
    options: ChatOptions = {},
  ): AsyncGenerator<GenerationDelta, void, void> {
    return stream(this.#generation, input, params, options);
  }

  /**
   * The same for a prompt that is queued at once: a refusal is thrown here, and the answer is made
   * whether it is read or not. To end it, leave the loop once it is being read, or abort the signal.
   * The prompt is tokenized here and now, about a megabyte a second; {@linkcode LLM.stream} does
   * that with long ones on another thread.
   *
   * @param prompt Text or token ids.
   * @param params How to generate. `maxTokens` is 16 where it is absent.
   * @param options As for {@linkcode LLM.generate}.
   * @returns The deltas, as {@linkcode LLM.stream} gives them.
   * @throws {UnsupportedTaskError} The model is not for generation.
   * @throws {ContextLengthError} Prompt and `maxTokens` exceed the context.
   * @throws {InvalidParameterError} A parameter that the model or its vocabulary has no room for.
   * @throws {QueueFullError} Too many requests are waiting.
   * @example Try later where the queue is full
   * ```ts ignore
   * import { LLM, QueueFullError } from "@rngd/llm";
   *
   * await using llm = await LLM.load("./SmolLM2-135M-Instruct.Q4_1.gguf");
   * try {
   *   for await (const { text } of llm.submit("Once upon a time")) console.log(text);
   * } catch (error) {
   *   if (!(error instanceof QueueFullError)) throw error;
   *   console.log(`Try again in ${error.retryAfterSeconds} seconds`);
   * }
   * ```
   */
  submit(
    prompt: Prompt,
    params: SamplingParams = new SamplingParams(),
    options: RequestOptions = {},
  ): AsyncGenerator<GenerationDelta, void, void> {
    return submit(this.#generation, prompt, params, options);
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
   * await using llm = await LLM.load("./all-MiniLM-L6-v2");
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
   * @returns The numbers of each prompt, float32: [hiddenSize] for "embed", a row a token for
   * "token_embed", a number a label for "classify".
   * @throws {UnsupportedTaskError} The model is not for that task.
   * @throws {ContextLengthError} A prompt is too long, and `truncatePromptTokens` was not given.
   * @throws {InvalidParameterError} A parameter that does not go with the task.
   * @example A vector for each token
   * ```ts ignore
   * import { LLM } from "@rngd/llm";
   *
   * await using llm = await LLM.load("./all-MiniLM-L6-v2");
   * const { outputs, promptTokenIds } = await llm.encode("A cat", undefined, { task: "token_embed" });
   * console.log(promptTokenIds.length, outputs.data);
   * ```
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
   * @param options As for {@linkcode LLM.encode}.
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
   * @returns The probabilities of each prompt's labels, and the name of the most likely one.
   * @throws {UnsupportedTaskError} The model has no classifier.
   * @throws {ContextLengthError} A prompt is too long, and `truncatePromptTokens` was not given.
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
   * @param params How the head's logit becomes a score.
   * @param options Among others where long texts are cut.
   * @returns One output a pair, always an array. Scores are from 0 to 1, cosines from −1 to 1.
   * @throws {InvalidParameterError} Numbers of texts that do not go together.
   * @throws {ContextLengthError} A pair is too long.
   * @throws {UnsupportedTaskError} The model can do neither.
   * @example
   * ```ts ignore
   * import { LLM } from "@rngd/llm";
   *
   * await using llm = await LLM.load("./all-MiniLM-L6-v2");
   * const [output] = await llm.score("A cat sleeps.", "A kitten is asleep.");
   * console.log(output?.outputs.score);
   * ```
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
   * @param options `topN` and what {@linkcode LLM.score} takes.
   * @returns The documents with their scores and their places in `documents`; at most `topN`.
   * @throws {TypeError} A query that is no string, or documents that are no array.
   * @throws {UnsupportedTaskError} The model cannot score.
   * @example
   * ```ts ignore
   * import { LLM } from "@rngd/llm";
   *
   * await using llm = await LLM.load("./all-MiniLM-L6-v2");
   * const documents = ["Water boils at 100 °C.", "Cats sleep most of the day."];
   * const ranking = await llm.rerank("How long do cats sleep?", documents, { topN: 1 });
   * console.log(ranking[0]?.document);
   * ```
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
   * @param text The text.
   * @returns Its ids, whether they fit the context or not.
   * @throws {InvalidParameterError} The text is longer than 1,048,576 UTF-16 code units.
   * @example
   * ```ts ignore
   * import { LLM } from "@rngd/llm";
   *
   * await using llm = await LLM.load("./SmolLM2-135M-Instruct.Q4_1.gguf");
   * const ids = llm.tokenize("Hello, world!");
   * console.log(ids.length, llm.tokenStrings(ids), llm.detokenize(ids));
   * ```
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

  /**
   * A conversation → the token ids of its prompt.
   *
   * @param messages OpenAI-shaped messages.
   * @param options As for {@linkcode LLM.chat}.
   * @returns The ids that {@linkcode LLM.chat} would run.
   * @throws {ChatTemplateError} The template refuses the messages, or the model has none.
   * @throws {ContextLengthError} The prompt is too long.
   * @example
   * ```ts ignore
   * import { LLM } from "@rngd/llm";
   *
   * await using llm = await LLM.load("./SmolLM2-135M-Instruct.Q4_1.gguf");
   * const ids = await llm.tokenizeChat([{ role: "user", content: "Hello!" }]);
   * console.log(llm.detokenize(ids));
   * ```
   */
  async tokenizeChat(
    messages: readonly ChatMessage[],
    options: ChatOptions = {},
  ): Promise<number[]> {
    const { tokenIds } = await render(this.#generation, messages, new SamplingParams(), options);
    return [...tokenIds];
  }

  /**
   * Token ids → text, special tokens shown.
   *
   * @param tokenIds The ids; those without a token add nothing.
   * @returns The text. Bytes that are no whole character show as U+FFFD.
   */
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

  /**
   * The vocabulary's own spelling of each id.
   *
   * @param tokenIds The ids.
   * @returns As many spellings, such as "Ġworld"; "" for an id without a token.
   */
  tokenStrings(tokenIds: readonly number[]): string[] {
    return tokenIds.map((id) => this.#loaded.tokenizer.tokenString(id));
  }

  /**
   * The tokenizer's settings: what its tokenizer_config.json says, or as much of that as a GGUF file
   * tells, with the chat template that is used. No file paths.
   *
   * @returns Settings by their names in tokenizer_config.json.
   */
  tokenizerInfo(): TokenizerInfo {
    return this.#loaded.tokenizerInfo;
  }

  /**
   * The sampling defaults that the model's authors ask for, as parameters.
   *
   * @returns Parameters that hold what generation_config.json, or `overrideGenerationConfig` in its
   * place, says, and nothing else.
   */
  getDefaultSamplingParams(): SamplingParams {
    const { maxTokensLimit: _, ...defaults } = this.#loaded.samplingDefaults;
    return new SamplingParams(defaults);
  }

  /**
   * Counters and measurements of the engine, its requests and the wire cache.
   *
   * @returns A copy: it does not change any more. Durations are in seconds.
   * @example
   * ```ts ignore
   * import { LLM } from "@rngd/llm";
   *
   * await using llm = await LLM.load("./SmolLM2-135M-Instruct.Q4_1.gguf");
   * await llm.generate("Once upon a time");
   * const { engine, requests } = llm.stats();
   * console.log(engine.generatedTokens, requests.timeToFirstTokenSeconds.sum);
   * ```
   */
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

  /**
   * Which kernels the processing elements ran so far, how often and for how long.
   *
   * @returns One entry a kernel and element, with times in milliseconds.
   */
  trace(): Promise<TraceEntry[]> {
    return this.#loaded.model.device.trace();
  }

  /** Whether {@linkcode close} was called: every call is refused from then on. */
  get isClosed(): boolean {
    return this.#closing !== undefined;
  }

  /**
   * Ends every request with a `ClosedError` and stops the threads.
   *
   * @returns Resolves when all of them have stopped. Closing again does no harm.
   */
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
    const { id, engine, tracer, tokenizer, background, pooling, maxInFlight } = this.#loaded;
    return {
      id,
      engine,
      tracer,
      tokenizer,
      background,
      pooling,
      scoreTemplate: (source) =>
        source === undefined ? this.#loaded.scoreTemplate : this.#template(source),
      maxInFlight,
    };
  }

  #checkOpen({ signal }: { readonly signal?: AbortSignal }): void {
    if (this.#closing !== undefined) throw new ClosedError("The model is closed");
    signal?.throwIfAborted();
  }

  /** A template that a call brings along. */
  #template(source: string): ChatTemplate {
    const { tokenizer: { specialTokens: tokens }, requestTextWorker: worker, contentFormat } =
      this.#loaded;
    const parameter = "chatTemplate";
    return new ChatTemplate(source, { tokens, file: parameter, parameter, worker, contentFormat });
  }
}
