/** A model whose answers are written by the test: deterministic deltas, with doors to hold, fail and count. */

import { ChatTemplateError } from "../../lib/base/errors.ts";
import { Histogram } from "../../lib/base/histogram.ts";
import { classify, embed, encode } from "../../lib/embedding.ts";
import { RequestMetrics } from "../../lib/engine/request_metrics.ts";
import type { ServedModel } from "../../lib/openai/handler.ts";
import type {
  ChatMessage,
  ChatOptions,
  EmbedOptions,
  EncodeOptions,
  ModelInfo,
  ModelStats,
  PoolingOptions,
  Prompt,
  RerankOptions,
  ScoreOptions,
} from "../../lib/llm.ts";
import type {
  ClassificationRequestOutput,
  EmbeddingRequestOutput,
  FinishReason,
  GenerationDelta,
  LogprobMap,
  PoolingRequestOutput,
  RerankOutput,
  ScoringRequestOutput,
} from "../../lib/outputs.ts";
import type { PoolingParams } from "../../lib/pooling/params.ts";
import type { PoolingModel } from "../../lib/pooling_model.ts";
import type { PoolingContext } from "../../lib/pooling_requests.ts";
import { rerank, score } from "../../lib/scoring.ts";
import { FakePoolingEngine, generativeModel, poolingContext } from "../helpers/fake_pooling.ts";
import type { SamplingParams } from "../../lib/sampling/params.ts";

/** The fake's end token. Ids below it are Latin-1 characters, or the pieces of an answer. */
export const END_ID = 511;

const INFO: ModelInfo = {
  task: "generate",
  poolingTasks: [],
  embeddingSize: null,
  id: "fake/model",
  architecture: "FakeForCausalLM",
  vocabSize: 512,
  maxPromptLength: 96,
  maxContextLength: 128,
  fingerprint: "f00dfeed",
  kernelFallbacks: [],
  threads: 2,
  dtype: "auto",
  activationDtype: "float32",
  parameterCount: 1,
  activeParameterCount: 1,
  weightBytes: 4,
  kvCacheBytes: 1024,
  hasChatTemplate: true,
  maxWaitingRequests: 1024,
  buckets: {
    prefill: [{ batchSize: 1, attentionSize: 64 }],
    decode: [{ batchSize: 4, attentionSize: 128 }],
    append: [{ batchSize: 1, attentionSize: 96, inputSize: 32 }],
    tokenwise: [1, 8],
  },
};

/** What a test may change. */
export interface FakeOptions {
  /** The answer, one token a piece. An empty piece is an incomplete character. */
  readonly pieces?: readonly string[];
  /** Awaited before each token; the first call comes before the first delta. */
  readonly before?: (step: number, signal: AbortSignal | undefined) => Promise<void> | void;
  readonly cachedTokens?: number;
  /** Facts that differ from the usual ones. */
  readonly info?: Partial<ModelInfo>;
  /** What it is for besides text: then its prompts run on {@linkcode FakeLLM.engine}. */
  readonly pooling?: PoolingModel;
  readonly engine?: FakePoolingEngine;
}

/** What differs from sequence to sequence: number i writes i in front, and is i tokens longer. */
function piecesOf(sequence: number, pieces: readonly string[]): readonly string[] {
  if (sequence === 0) return pieces;
  return [`${sequence}:`, ...pieces, ...Array<string>(sequence - 1).fill("+")];
}

/** One call of `stream`. */
export interface FakeCall {
  readonly input: Prompt | readonly ChatMessage[];
  readonly params: SamplingParams | undefined;
  readonly options: ChatOptions;
}

/** See the file's header. */
export class FakeLLM implements ServedModel {
  readonly info: ModelInfo;
  readonly engine: FakePoolingEngine;
  readonly #pooling: PoolingContext;
  readonly calls: FakeCall[] = [];
  isClosed = false;
  /** Generations that have started and not ended: what a client that left must not keep up. */
  running = 0;
  readonly #options: FakeOptions;

  constructor(options: FakeOptions = {}) {
    this.#options = options;
    const { pooling = generativeModel(), engine = new FakePoolingEngine() } = options;
    this.engine = engine;
    this.#pooling = poolingContext(pooling, engine);
    this.info = {
      ...INFO,
      task: pooling.task,
      poolingTasks: pooling.tasks,
      embeddingSize: pooling.embedding?.width ?? null,
      ...options.info,
      ...(options.pooling === undefined ? {} : { maxPromptLength: pooling.maxLength }),
    };
  }

  async embed(
    prompts: readonly Prompt[],
    params: PoolingParams,
    options: EmbedOptions,
  ): Promise<EmbeddingRequestOutput[]> {
    return await embed(this.#pooling, prompts, params, options) as EmbeddingRequestOutput[];
  }

  async encode(
    prompts: readonly Prompt[],
    params: PoolingParams,
    options: EncodeOptions,
  ): Promise<PoolingRequestOutput[]> {
    return await encode(this.#pooling, prompts, params, options) as PoolingRequestOutput[];
  }

  async classify(
    prompts: readonly Prompt[],
    params: PoolingParams,
    options: PoolingOptions,
  ): Promise<ClassificationRequestOutput[]> {
    return await classify(this.#pooling, prompts, params, options) as ClassificationRequestOutput[];
  }

  async score(
    first: string | readonly string[],
    second: string | readonly string[],
    params?: PoolingParams,
    options?: ScoreOptions,
  ): Promise<ScoringRequestOutput[]> {
    return await score(this.#pooling, first, second, params, options);
  }

  async rerank(
    query: string,
    documents: readonly string[],
    options: RerankOptions = {},
  ): Promise<RerankOutput[]> {
    return await rerank(this.#pooling, query, documents, options);
  }

  tokenizerInfo(): Readonly<Record<string, unknown>> {
    return { tokenizer_class: "FakeTokenizer", model_max_length: 128, chat_template: "{{ x }}" };
  }

  /** As the real one: nothing is forgotten while something runs. */
  resetPrefixCache(): boolean {
    return this.running === 0;
  }

  /** Of an engine that has done nothing; only what runs now is true. */
  stats(): ModelStats {
    return {
      engine: {
        runningCount: this.running,
        waitingCount: 0,
        usedBlockCount: 0,
        cachedBlockCount: 0,
        blockCount: 8,
        windowBlocks: null,
        blockSize: 16,
        prefixQueryTokens: 0,
        prefixHitTokens: 0,
        stepCount: 0,
        preemptionCount: 0,
        promptTokens: 0,
        generatedTokens: 0,
      },
      requests: new RequestMetrics(INFO.maxContextLength).stats(),
      wires: {
        wireCount: 0,
        hitCount: 0,
        missCount: 0,
        compileMs: 0,
        compileSeconds: new Histogram([1]).snapshot(),
      },
    };
  }

  async *stream(
    input: Prompt | readonly ChatMessage[],
    params?: SamplingParams,
    options: ChatOptions = {},
  ): AsyncGenerator<GenerationDelta, void, void> {
    this.calls.push({ input, params, options });
    this.running++;
    try {
      yield* this.#deltas(input, params, options);
    } finally {
      this.running--;
    }
  }

  async *#deltas(
    input: Prompt | readonly ChatMessage[],
    params: SamplingParams | undefined,
    options: ChatOptions,
  ): AsyncGenerator<GenerationDelta, void, void> {
    const { pieces = ["Hel", "lo", " wor", "ld", "!"], before, cachedTokens = 0 } = this.#options;
    const ids = [...await this.#promptIds(input, options)];
    options.onQueued?.();
    const limit = params?.maxTokens ?? Infinity;
    const prompt = {
      text: this.detokenize(ids),
      tokenIds: ids,
      logprobs: this.#promptLogprobs(ids, params?.promptLogprobs),
      cachedTokens,
    };
    let running = Array.from({ length: params?.n ?? 1 }, (_, index) => index);
    for (let step = 0; running.length > 0; step++) {
      await before?.(step, options.signal);
      options.signal?.throwIfAborted();
      const ended = new Set<number>();
      for (const index of running) {
        const own = piecesOf(index, pieces);
        const isEnd = step === own.length;
        const id = isEnd ? END_ID : 256 + step;
        let finishReason: FinishReason | null = null;
        if (isEnd) finishReason = "stop";
        else if (step + 1 >= limit) finishReason = "length";
        const text = own[step] ?? "";
        yield {
          requestId: options.requestId ?? "fake",
          index,
          text,
          tokenIds: [id],
          logprobs: params?.logprobs === undefined
            ? null
            : [this.#logprobs(id, isEnd ? "<|end|>" : text, params.logprobs)],
          finishReason,
          stopReason: null,
          ...(step === 0 && index === 0 ? { prompt } : {}),
        };
        if (finishReason !== null) ended.add(index);
      }
      running = running.filter((index) => !ended.has(index));
    }
  }

  tokenize(text: string, options: { readonly addSpecialTokens?: boolean } = {}): number[] {
    const ids = [...text].map((character) => (character.codePointAt(0) ?? 0) % 256);
    return options.addSpecialTokens === false ? ids : [1, ...ids];
  }

  tokenizeAsync(
    text: string,
    options: { readonly addSpecialTokens?: boolean } = {},
  ): Promise<number[]> {
    return Promise.resolve(this.tokenize(text, options));
  }

  // deno-lint-ignore require-await -- the interface's promise; what it throws must be a rejection
  async tokenizeChat(
    messages: readonly ChatMessage[],
    options: ChatOptions = {},
  ): Promise<number[]> {
    if (messages.length === 0) throw new ChatTemplateError("Cannot render no messages at all");
    let text = "";
    for (const { role, content } of messages) {
      const parts = typeof content === "string" ? [content] : content ?? [];
      const texts = parts.map((part) => typeof part === "string" ? part : part["text"]);
      text += `<${role}>${texts.join("\n")}`;
    }
    if (options.addGenerationPrompt !== false) text += "<assistant>";
    return this.tokenize(text, { addSpecialTokens: false });
  }

  detokenize(tokenIds: readonly number[]): string {
    return String.fromCharCode(...tokenIds);
  }

  detokenizeAsync(tokenIds: readonly number[]): Promise<string> {
    return Promise.resolve(this.detokenize(tokenIds));
  }

  tokenStrings(tokenIds: readonly number[]): string[] {
    return tokenIds.map((id) => String.fromCharCode(id));
  }

  #promptIds(
    input: Prompt | readonly ChatMessage[],
    options: ChatOptions,
  ): readonly number[] | Promise<readonly number[]> {
    if (typeof input === "string") return this.tokenize(input, options);
    if ("promptTokenIds" in input) return input.promptTokenIds;
    if ("prompt" in input) return this.tokenize(input.prompt, options);
    return this.tokenizeChat(input, options);
  }

  #logprobs(id: number, text: string, count: number): LogprobMap {
    const map = new Map([[id, { logprob: -0.5, rank: 1, decodedToken: text }]]);
    for (let rank = 2; rank <= count; rank++) {
      map.set(rank, {
        logprob: rank === 5 ? -Infinity : -rank,
        rank,
        decodedToken: String(9 - rank),
      });
    }
    return map;
  }

  #promptLogprobs(
    ids: readonly number[],
    count: number | undefined,
  ): (LogprobMap | null)[] | null {
    if (count === undefined) return null;
    return ids.map((id, at) => {
      if (at === 0) return null;
      const text = String.fromCharCode(id);
      const own = { logprob: -3, rank: 7, decodedToken: text };
      const best = { logprob: -0.1, rank: 1, decodedToken: "\u0002" };
      return new Map(count === 0 ? [[id, own]] : [[id, own], [2, best]]);
    });
  }
}

/** A promise that a test settles by hand, and that an abort rejects. */
export function door(): {
  readonly open: () => void;
  readonly wait: (signal: AbortSignal | undefined) => Promise<void>;
} {
  const { promise, resolve } = Promise.withResolvers<void>();
  return {
    open: resolve,
    wait: (signal) =>
      new Promise((pass, fail) => {
        const leave = () => fail(signal?.reason);
        if (signal?.aborted) leave();
        signal?.addEventListener("abort", leave);
        promise.then(() => {
          signal?.removeEventListener("abort", leave);
          pass();
        });
      }),
  };
}
