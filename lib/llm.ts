/** The SDK: a model on a device, and what one can ask of it. */

import { ChatTemplateError, ClosedError } from "./base/errors.ts";
import type { TraceEntry } from "./device/device.ts";
import { foldDeltas, generateDeltas } from "./generation.ts";
import { type LoadedModel, loadModel } from "./loading.ts";
import { type ModelInfo, modelInfo, type ModelStats } from "./model_info.ts";
import type { LLMOptions } from "./options.ts";
import type { GenerationDelta, RequestOutput } from "./outputs.ts";
import {
  type ChatMessage,
  type ChatOptions,
  encodeConversation,
  type EncodedPrompt,
  encodePrompt,
  type Encoding,
  isConversation,
  type Prompt,
  type RequestOptions,
  tokenizeText,
} from "./prompts.ts";
import { SamplingParams } from "./sampling/params.ts";
import { resolveSamplingParams, type SamplingDefaults } from "./sampling/resolved_params.ts";
import { ChatTemplate } from "./text/chat_template.ts";

export type { EngineStats, ModelInfo, ModelStats, WireStats } from "./model_info.ts";
export type { AttentionBucket, BucketTables } from "./device/bucket.ts";
export type { TraceEntry };
export type { ChatMessage, ChatOptions, Prompt, RequestOptions } from "./prompts.ts";

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
    this.info = modelInfo(loaded.model, {
      id: loaded.id,
      threads: loaded.threads,
      dtype: loaded.dtype,
      activationDtype: loaded.activationDtype,
      hasChatTemplate: loaded.chatTemplate !== undefined,
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
    return input.length > 0 && input.every((item) => Array.isArray(item))
      ? this.#all(input as readonly (readonly ChatMessage[])[], params, options)
      : this.#one(input as readonly ChatMessage[], single(params), options);
  }

  /**
   * Streams one answer, to a prompt or to a conversation. It starts when it is first read; every
   * refusal (bad prompt, full queue) comes before the first delta. Leaving the loop ends the request.
   *
   * @returns Deltas whose texts add up to the whole answer.
   */
  async *stream(
    input: Prompt | readonly ChatMessage[],
    params: SamplingParams = new SamplingParams(),
    options: ChatOptions = {},
  ): AsyncGenerator<GenerationDelta, void, void> {
    if (this.#closing !== undefined) throw new ClosedError("The model is closed");
    options.signal?.throwIfAborted();
    const conversation = isConversation(input);
    const prompt = conversation
      ? await this.#render(input, options)
      : encodePrompt(input as Prompt, this.#encoding, options.addSpecialTokens ?? true);
    const defaults: SamplingDefaults = conversation
      ? this.#loaded.samplingDefaults
      : { maxTokens: GENERATE_MAX_TOKENS, ...this.#loaded.samplingDefaults };
    yield* generateDeltas(this.#loaded.engine, this.#loaded.tokenizer, {
      requestId: options.requestId ?? crypto.randomUUID(),
      prompt,
      params: resolveSamplingParams(params, defaults),
      priority: options.priority ?? 0,
      signal: options.signal,
    });
  }

  /**
   * Text → token ids. Special tokens are added unless `addSpecialTokens` is false.
   *
   * @throws {InvalidParameterError} The text is longer than 1,048,576 UTF-16 code units.
   */
  tokenize(text: string, options: { readonly addSpecialTokens?: boolean } = {}): number[] {
    return tokenizeText(text, this.#loaded.tokenizer, options.addSpecialTokens ?? true);
  }

  /** A conversation → the token ids of its prompt. */
  async tokenizeChat(
    messages: readonly ChatMessage[],
    options: ChatOptions = {},
  ): Promise<number[]> {
    return [...(await this.#render(messages, options)).tokenIds];
  }

  /** Token ids → text, special tokens shown. */
  detokenize(tokenIds: readonly number[]): string {
    return this.#loaded.tokenizer.decode(tokenIds, { skipSpecialTokens: false });
  }

  /** The vocabulary's own spelling of each id. */
  tokenStrings(tokenIds: readonly number[]): string[] {
    return tokenIds.map((id) => this.#loaded.tokenizer.tokenString(id));
  }

  /** The sampling defaults that the model's authors ask for, as parameters. */
  getDefaultSamplingParams(): SamplingParams {
    return new SamplingParams(this.#loaded.samplingDefaults);
  }

  /** Counters of the engine and of the wire cache. */
  stats(): ModelStats {
    return { engine: this.#loaded.engine.stats(), wires: this.#loaded.model.device.wireStats() };
  }

  /** Which kernels the processing elements ran so far, how often and for how long. */
  trace(): Promise<TraceEntry[]> {
    return this.#loaded.model.device.trace();
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
  }

  get #encoding(): Encoding {
    const { tokenizer } = this.#loaded;
    return { tokenizer, maxPromptLength: this.info.maxPromptLength };
  }

  #one(
    input: Prompt | readonly ChatMessage[],
    params: SamplingParams | undefined,
    options: ChatOptions,
  ): Promise<RequestOutput> {
    return foldDeltas(this.stream(input, params, options));
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

  #render(messages: readonly ChatMessage[], options: ChatOptions): Promise<EncodedPrompt> {
    const { tokenizer, chatTemplate, textWorker: worker } = this.#loaded;
    const template = options.chatTemplate === undefined
      ? chatTemplate
      : new ChatTemplate(options.chatTemplate, {
        tokens: tokenizer.specialTokens,
        file: "chatTemplate",
        worker,
      });
    if (template === undefined) {
      throw new ChatTemplateError(
        `The model "${this.info.id}" has no chat template: give one as chatTemplate`,
      );
    }
    return encodeConversation(messages, template, this.#encoding, options);
  }
}

function single(
  params: SamplingParams | readonly SamplingParams[] | undefined,
): SamplingParams | undefined {
  if (params === undefined || params instanceof SamplingParams) return params;
  throw new TypeError("One prompt takes one SamplingParams, not an array");
}

function paramsOfEach(
  params: SamplingParams | readonly SamplingParams[] | undefined,
  count: number,
): (SamplingParams | undefined)[] {
  if (params === undefined || params instanceof SamplingParams) return Array(count).fill(params);
  if (params.length !== count) {
    throw new TypeError(
      `${count} prompts take one SamplingParams or ${count}, not ${params.length}`,
    );
  }
  return [...params];
}
