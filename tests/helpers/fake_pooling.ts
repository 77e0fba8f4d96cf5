/** Pooling without a device: an engine whose hidden states are a function of the prompt, and models for it. */

import { ClosedError, QueueFullError } from "../../lib/base/errors.ts";
import type { EnginePoolingRequest, PoolingOutput } from "../../lib/engine/pooling_request.ts";
import type { ClassifierHead, EmbeddingHead, PoolingModel } from "../../lib/pooling_model.ts";
import type { PoolingContext, PoolingEngine } from "../../lib/pooling_requests.ts";
import { BackgroundTokenizer } from "../../lib/text/background_tokenizer.ts";
import { ChatTemplate } from "../../lib/text/chat_template.ts";
import type { TextWorker } from "../../lib/text/text_worker.ts";
import { Tokenizer } from "../../lib/text/tokenizer.ts";
import { tinyTokenizerConfig, tinyTokenizerJson } from "./tiny_tokenizer_files.ts";

/** Numbers of a fake hidden state. */
export const FAKE_WIDTH = 4;

/** The hidden state of the last of `ids`: it depends on each of them and on its place. */
export function fakeRow(ids: readonly number[]): Float32Array {
  let hash = 0x811c9dc5;
  for (const id of ids) hash = Math.imul(hash ^ (id + 1), 0x01000193) ^ (hash >>> 15);
  return Float32Array.from({ length: FAKE_WIDTH }, (_, i) => {
    const word = Math.imul(hash ^ Math.imul(i + 1, 0x9e3779b9), 0x85ebca6b);
    return ((word ^ (word >>> 13)) >>> 0) / 2 ** 31 - 1;
  });
}

export class FakePoolingEngine implements PoolingEngine {
  /** Everything that was asked for, in its order. */
  readonly requests: EnginePoolingRequest[] = [];
  /** Most requests that were there together. */
  mostAtOnce = 0;
  readonly #live = new Map<string, (reason: unknown) => void>();
  readonly #options: {
    readonly limit?: number;
    readonly failOn?: number;
    readonly stuck?: boolean;
  };

  /** `limit`: requests that it takes; `failOn`: a token id that breaks it; `stuck`: never answers. */
  constructor(options: { limit?: number; failOn?: number; stuck?: boolean } = {}) {
    this.#options = options;
  }

  /** Requests that have neither ended nor been aborted. */
  get liveCount(): number {
    return this.#live.size;
  }

  async submitPooling(request: EnginePoolingRequest): Promise<PoolingOutput> {
    const { id, promptTokenIds } = request;
    const { limit = Infinity, failOn, stuck = false } = this.#options;
    if (this.#live.size >= limit) throw new QueueFullError(this.#live.size, 1);
    if (this.#live.has(id)) throw new Error(`The id "${id}" is used twice`);
    this.requests.push(request);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#live.set(id, reject);
    this.mostAtOnce = Math.max(this.mostAtOnce, this.#live.size);
    if (!stuck || promptTokenIds.includes(failOn ?? -1)) {
      // Later requests are done first, so that order has to be kept by somebody else.
      setTimeout(resolve, this.requests.length % 3);
    }
    try {
      await promise;
      if (promptTokenIds.includes(failOn ?? -1)) throw new ClosedError("The fake engine fails");
      return { rows: rowsOf(request), cachedTokens: 0 };
    } finally {
      this.#live.delete(id);
    }
  }

  abort(id: string): void {
    this.#live.get(id)?.(new DOMException("The request was aborted", "AbortError"));
  }
}

function rowsOf({ promptTokenIds: ids, rows }: EnginePoolingRequest): Float32Array[] {
  const all = ids.map((_, i) => fakeRow(ids.slice(0, i + 1)));
  switch (rows) {
    case "first":
      return all.slice(0, 1);
    case "last":
      return all.slice(-1);
    case "all":
      return all;
    case "mean": {
      const sum = (column: number) => all.reduce((total, row) => total + row[column]!, 0);
      return [Float32Array.from({ length: FAKE_WIDTH }, (_, i) => sum(i) / all.length)];
    }
  }
}

/**
 * A tokenizer with a pad token, and with `[1] first [2] second [2]` for pairs; of a single text it
 * is `[1] text [2]` where that is asked for.
 */
export function pairTokenizer(framesTexts: boolean = false): Tokenizer {
  const token = (id: string, type_id: number) => ({ SpecialToken: { id, type_id } });
  const text = (id: string, type_id: number) => ({ Sequence: { id, type_id } });
  const post_processor = {
    type: "TemplateProcessing",
    single: framesTexts
      ? [token("<|im_start|>", 0), text("A", 0), token("<|im_end|>", 0)]
      : [text("A", 0)],
    pair: [
      token("<|im_start|>", 0),
      text("A", 0),
      token("<|im_end|>", 0),
      text("B", 1),
      token("<|im_end|>", 1),
    ],
    special_tokens: {
      "<|im_start|>": { id: "<|im_start|>", ids: [1], tokens: ["<|im_start|>"] },
      "<|im_end|>": { id: "<|im_end|>", ids: [2], tokens: ["<|im_end|>"] },
    },
  };
  const config = { ...tinyTokenizerConfig(), pad_token: "<|endoftext|>" };
  return Tokenizer.fromHuggingFace({ ...tinyTokenizerJson(), post_processor }, config, "tiny.json");
}

const NOTHING: PoolingModel = {
  task: "generate",
  tasks: [],
  embedding: undefined,
  classifier: undefined,
  maxLength: 400,
  lowerCases: false,
  prompts: new Map(),
  hasSegments: false,
};

/** A generative model. */
export function generativeModel(): PoolingModel {
  return NOTHING;
}

/** A model for embeddings: the mean of its rows, unless `head` says otherwise. */
export function embeddingModel(
  head: Partial<EmbeddingHead> = {},
  model: Partial<PoolingModel> = {},
): PoolingModel {
  const embedding: EmbeddingHead = {
    modes: ["mean"],
    dense: [],
    width: FAKE_WIDTH,
    lengths: undefined,
    endTokenId: undefined,
    ...head,
  };
  return { ...NOTHING, task: "embed", tasks: ["embed", "token_embed"], embedding, ...model };
}

/** A classifier with one row of weights a label. */
export function classifierModel(
  labelCount: number,
  head: Partial<ClassifierHead> = {},
  model: Partial<PoolingModel> = {},
): PoolingModel {
  const weight = Float32Array.from({ length: labelCount * FAKE_WIDTH }, (_, i) => (i % 5) - 2);
  const classifier: ClassifierHead = {
    row: "last",
    layers: [{
      inputs: FAKE_WIDTH,
      outputs: labelCount,
      weight,
      bias: undefined,
      activation: "identity",
    }],
    activation: labelCount === 1 ? "sigmoid" : "softmax",
    labels: Array.from({ length: labelCount }, (_, i) => `LABEL_${i}`),
    pairs: "segments",
    ...head,
  };
  return {
    ...NOTHING,
    task: labelCount === 1 ? "score" : "classify",
    tasks: labelCount === 1 ? ["score", "classify", "token_classify"] : ["classify"],
    classifier,
    hasSegments: true,
    ...model,
  };
}

/** Everything that a call needs. */
export function poolingContext(
  pooling: PoolingModel,
  engine: PoolingEngine = new FakePoolingEngine(),
  worker?: TextWorker,
): PoolingContext {
  const tokenizer = pairTokenizer();
  return {
    id: "tiny",
    engine,
    tokenizer,
    background: new BackgroundTokenizer(tokenizer),
    pooling,
    scoreTemplate: (source) =>
      source === undefined
        ? undefined
        : new ChatTemplate(source, { tokens: {}, file: "chatTemplate", ...worker && { worker } }),
    maxInFlight: 8,
  };
}
