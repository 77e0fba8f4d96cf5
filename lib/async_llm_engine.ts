/** `AsyncLLMEngine`: each request's outputs as an async iterator, for servers. */

import type { Prompt } from "./llm.ts";
import { checkRequestId, type EngineModel, type EngineRequestOptions } from "./llm_engine.ts";
import { OutputFeed } from "./output_feed.ts";
import type { PoolingRequestOutput, RequestOutput } from "./outputs.ts";
import { PoolingParams } from "./pooling/params.ts";
import { checkSamplingParams, type SamplingParams } from "./sampling/params.ts";

/**
 * Gives each request's outputs as they are made.
 *
 * Where it differs from the class of the same name in vLLM and Furiosa-LLM: an id is free again
 * however its request ends, and leaving the loop ends the request. {@linkcode LLM.stream} does the
 * same with less ceremony; this class is for programs that are built around request ids and whole
 * outputs.
 *
 * @example
 * ```ts ignore
 * import { AsyncLLMEngine, LLM, SamplingParams } from "@rngd/llm";
 *
 * await using llm = await LLM.load("./SmolLM2-135M-Instruct.Q4_1.gguf");
 * const engine = AsyncLLMEngine.fromLLM(llm);
 * const params = new SamplingParams({ maxTokens: 32, outputKind: "DELTA" });
 * for await (const { outputs } of engine.generate("Once upon a time", params, "request-1")) {
 *   console.log(outputs[0]?.text);
 * }
 * ```
 */
export class AsyncLLMEngine {
  readonly #llm: EngineModel;
  readonly #controllers = new Map<string, AbortController>();

  private constructor(llm: EngineModel) {
    this.#llm = llm;
  }

  /**
   * An engine on a loaded model, which stays the caller's to close.
   *
   * @param llm The model.
   * @returns The engine.
   */
  static fromLLM(llm: EngineModel): AsyncLLMEngine {
    return new AsyncLLMEngine(llm);
  }

  /**
   * Runs a request. It starts when it is first read; leaving the loop ends it.
   *
   * @param prompt Text or token ids.
   * @param params How to generate. `outputKind` CUMULATIVE, the default: each output holds all so
   * far; DELTA: what is new; FINAL: there is one output, the whole answer.
   * @param requestId Names it for {@linkcode AsyncLLMEngine.abort}; no two running ones share it.
   * @param options Its priority, salt and trace, and whether special tokens are added to a text.
   * @returns The outputs. After an `abort` there are no more.
   * @throws {InvalidParameterError} The id is in use, or a parameter cannot be used.
   * @throws {ContextLengthError} Prompt and `maxTokens` exceed the context.
   * @throws {QueueFullError} Too many requests are waiting.
   */
  async *generate(
    prompt: Prompt,
    params: SamplingParams,
    requestId: string,
    options: EngineRequestOptions = {},
  ): AsyncGenerator<RequestOutput, void, void> {
    const signal = this.#begin(requestId, () => checkSamplingParams(params));
    try {
      const feed = new OutputFeed(params);
      for await (
        const delta of this.#llm.submit(prompt, params, { ...options, requestId, signal })
      ) {
        if (signal.aborted) return;
        feed.add(delta);
        const output = feed.take();
        if (output !== undefined) yield output;
      }
      feed.end();
      const last = signal.aborted ? undefined : feed.take();
      if (last !== undefined) yield last;
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.#controllers.delete(requestId);
    }
  }

  /**
   * Pools a prompt: one output, and the iterator ends. It starts when it is first read.
   *
   * @param prompt Text or token ids.
   * @param params What to make of the prompt's hidden states. Without a `task`: the model's own.
   * @param requestId Names it for {@linkcode AsyncLLMEngine.abort}; no two running ones share it.
   * @param options Its priority, salt and trace, and whether special tokens are added to a text.
   * @returns The output; none after an `abort`.
   * @throws {InvalidParameterError} The id is in use, or a parameter cannot be used.
   * @throws {UnsupportedTaskError} The model is not for what the parameters ask.
   * @throws {ContextLengthError} The prompt is too long, and `truncatePromptTokens` was not given.
   * @throws {QueueFullError} Too many requests are waiting.
   * @example
   * ```ts ignore
   * import { AsyncLLMEngine, LLM, PoolingParams } from "@rngd/llm";
   *
   * await using llm = await LLM.load("./all-MiniLM-L6-v2");
   * const engine = AsyncLLMEngine.fromLLM(llm);
   * for await (const { outputs } of engine.encode("A cat", new PoolingParams(), "request-1")) {
   *   console.log(outputs.data.length); // 384
   * }
   * ```
   */
  async *encode(
    prompt: Prompt,
    params: PoolingParams,
    requestId: string,
    options: EngineRequestOptions = {},
  ): AsyncGenerator<PoolingRequestOutput, void, void> {
    const signal = this.#begin(requestId, () => checkPoolingParams(params));
    try {
      const output = await this.#llm.submitPooling(prompt, params, {
        ...options,
        requestId,
        signal,
      });
      if (!signal.aborted) yield output;
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.#controllers.delete(requestId);
    }
  }

  /**
   * Ends a request: its iterator ends without a further output.
   *
   * @param requestId Its id; one that is not known is of a finished request.
   */
  abort(requestId: string): void {
    this.#controllers.get(requestId)?.abort();
  }

  /** Registers a request; the signal says when it is aborted. */
  #begin(requestId: string, check: () => void): AbortSignal {
    checkRequestId(requestId, this.#controllers.has(requestId));
    check();
    const controller = new AbortController();
    this.#controllers.set(requestId, controller);
    return controller.signal;
  }
}

/** Refuses what only looks like parameters of a request for numbers. */
function checkPoolingParams(params: unknown): void {
  if (params instanceof PoolingParams) return;
  throw new TypeError("The parameters of a request that pools must be PoolingParams");
}
