/** `LLMEngine`: many requests in, their outputs out step by step, for programs with a loop of their own. */

import { ClosedError, InvalidParameterError } from "./base/errors.ts";
import type { LLM, Prompt, RequestOptions } from "./llm.ts";
import { OutputFeed } from "./output_feed.ts";
import type { GenerationDelta, PoolingRequestOutput, RequestOutput } from "./outputs.ts";
import { PoolingParams } from "./pooling/params.ts";
import { checkSamplingParams, SamplingParams } from "./sampling/params.ts";

/** What a request of an engine takes besides its id, prompt and parameters. */
export type EngineRequestOptions = Pick<
  RequestOptions,
  "priority" | "addSpecialTokens" | "cacheSalt" | "trace"
>;

/** What a step gives of a request: `"data" in outputs` tells numbers from texts. */
export type EngineOutput = RequestOutput | PoolingRequestOutput;

/** The part of a model that an engine uses. */
export type EngineModel = Pick<LLM, "submit" | "submitPooling">;

/** A request whose last output was not taken yet. */
interface OpenRequest {
  /** The next output; undefined while there is nothing to tell. */
  readonly take: () => EngineOutput | undefined;
  readonly controller: AbortController;
  /** Resolves when nothing more comes. */
  ended: Promise<void>;
  hasEnded: boolean;
  failure?: { readonly error: unknown };
}

/**
 * Takes requests at any time and gives their outputs step by step.
 *
 * Where it differs from the class of the same name in vLLM and Furiosa-LLM: a request that is
 * refused, or fails, leaves its id free; `step` never waits without a request that could answer, and
 * passes on what a request failed with; an output of `step` may tell of several tokens at once, as
 * many as came since the last one. There are no engine arguments: load an {@linkcode LLM}.
 *
 * @example Serve a queue
 * ```ts ignore
 * import { LLM, LLMEngine, SamplingParams } from "@rngd/llm";
 *
 * await using llm = await LLM.load("./SmolLM2-135M-Instruct.Q4_1.gguf");
 * await using engine = LLMEngine.fromLLM(llm);
 * engine.addRequest("first", "Once upon a time", new SamplingParams({ maxTokens: 32 }));
 * engine.addRequest("second", "The moon is", new SamplingParams({ outputKind: "FINAL" }));
 * while (engine.hasUnfinishedRequests()) {
 *   for (const { requestId, outputs, finished } of await engine.step()) {
 *     if (finished && !("data" in outputs)) console.log(requestId, outputs[0]?.text);
 *   }
 * }
 * ```
 */
export class LLMEngine implements AsyncDisposable {
  readonly #llm: EngineModel;
  readonly #requests = new Map<string, OpenRequest>();
  /** Resolved, and replaced, whenever a step may have something to give. */
  #news: PromiseWithResolvers<void> = Promise.withResolvers();
  #isClosed = false;

  private constructor(llm: EngineModel) {
    this.#llm = llm;
  }

  /**
   * An engine on a loaded model. The model stays the caller's: it may answer others meanwhile, and
   * is not closed with the engine.
   *
   * @param llm The model.
   * @returns The engine, without a request.
   */
  static fromLLM(llm: EngineModel): LLMEngine {
    return new LLMEngine(llm);
  }

  /**
   * Queues a request, which starts at once.
   *
   * @param requestId Names it in outputs; free again when its last output was taken.
   * @param prompt Text or token ids.
   * @param params How to generate, where `outputKind` says what the outputs hold; or what to make
   * of a prompt's hidden states, which gives one output.
   * @param options Its priority, salt and trace, and whether special tokens are added to a text.
   * @throws {InvalidParameterError} The id is in use, or a parameter cannot be used.
   * @throws {UnsupportedTaskError} The model is not for what the parameters ask.
   * @throws {ContextLengthError} The prompt, or prompt and `maxTokens`, exceed the context.
   * @throws {QueueFullError} Too many requests are waiting.
   * @throws {ClosedError} Engine or model were closed.
   */
  addRequest(
    requestId: string,
    prompt: Prompt,
    params: SamplingParams | PoolingParams = new SamplingParams(),
    options: EngineRequestOptions = {},
  ): void {
    if (this.#isClosed) throw new ClosedError("Cannot add a request: the engine was closed");
    checkRequestId(requestId, this.#requests.has(requestId));
    const controller = new AbortController();
    const all = { ...options, requestId, signal: controller.signal };
    if (params instanceof PoolingParams) {
      const made = this.#llm.submitPooling(prompt, params, all);
      let output: PoolingRequestOutput | undefined;
      const take = () => {
        const taken = output;
        output = undefined;
        return taken;
      };
      this.#follow(requestId, take, controller, made.then((it) => void (output = it)));
    } else {
      checkSamplingParams(params);
      const deltas = this.#llm.submit(prompt, params, all);
      const feed = new OutputFeed(params);
      this.#follow(requestId, () => feed.take(), controller, this.#read(feed, deltas));
    }
  }

  /**
   * What came since the last step; waits until something does.
   *
   * @returns At least one output while requests are unfinished, at most one a request; `[]` when
   * there is no request.
   * @throws What a request failed with, once; the others go on.
   */
  async step(): Promise<EngineOutput[]> {
    while (this.#requests.size > 0) {
      for (const [id, { failure }] of this.#requests) {
        if (failure === undefined) continue;
        this.#requests.delete(id);
        throw failure.error;
      }
      const outputs = this.#drain();
      if (outputs.length > 0) return outputs;
      if (this.#requests.size > 0) await this.#news.promise;
    }
    return [];
  }

  /**
   * Ends requests: no further output tells of them. Ids that are not known are finished ones.
   *
   * @param requestIds One id, or several.
   */
  abortRequest(requestIds: string | Iterable<string>): void {
    for (const id of typeof requestIds === "string" ? [requestIds] : requestIds) {
      const request = this.#requests.get(id);
      this.#requests.delete(id);
      request?.controller.abort();
    }
    this.#tell();
  }

  /** Whether a step would still give something. */
  hasUnfinishedRequests(): boolean {
    return this.#requests.size > 0;
  }

  /** Ends all requests. The model stays open. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const requests = [...this.#requests.values()];
    this.abortRequest([...this.#requests.keys()]);
    await Promise.all(requests.map(({ ended }) => ended));
  }

  /** Registers a request whose outputs `work` makes. */
  #follow(
    requestId: string,
    take: OpenRequest["take"],
    controller: AbortController,
    work: Promise<void>,
  ): void {
    const request: OpenRequest = { take, controller, ended: Promise.resolve(), hasEnded: false };
    this.#requests.set(requestId, request);
    request.ended = work.catch((error) => void (request.failure = { error })).then(() => {
      request.hasEnded = true;
      this.#tell();
    });
  }

  async #read(feed: OutputFeed, deltas: AsyncIterable<GenerationDelta>): Promise<void> {
    for await (const delta of deltas) {
      feed.add(delta);
      this.#tell();
    }
    feed.end();
  }

  #drain(): EngineOutput[] {
    const outputs: EngineOutput[] = [];
    for (const [id, { take, hasEnded }] of this.#requests) {
      const output = take();
      if (output !== undefined) outputs.push(output);
      if (hasEnded) this.#requests.delete(id);
    }
    return outputs;
  }

  #tell(): void {
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }
}

/** Refuses what no request can be called. */
export function checkRequestId(requestId: unknown, isUsed: boolean): void {
  if (typeof requestId !== "string" || requestId === "") {
    throw new InvalidParameterError(
      "requestId",
      requestId,
      `Cannot use the request id ${JSON.stringify(requestId)}: it must be a string and not empty`,
    );
  }
  if (isUsed) {
    throw new InvalidParameterError(
      "requestId",
      requestId,
      `Cannot use the request id "${requestId}": an unfinished request has it already`,
    );
  }
}
