/** Everything `LLM.load` takes, its defaults and its checks. */

import { InvalidParameterError } from "./base/errors.ts";
import { checkFieldNames } from "./base/field_names.ts";
import type { AttentionBucket, BucketTables } from "./device/bucket.ts";
import type { TokenizerMode } from "./text/tokenizer_engine.ts";
import type { Tracer } from "./tracing.ts";

/** What a model is used for. */
export type ModelTask = "generate" | "embed" | "score" | "classify";

/** How a chat template is given the content of a message. */
export type ContentFormat = "auto" | "string" | "openai";

/** Sampling defaults of a server's owner, by the names of generation_config.json in our spelling. */
export interface SamplingOverrides {
  /** At least 0. */
  readonly temperature?: number;
  /** Above 0, at most 1. */
  readonly topP?: number;
  /** At least 1; 0 or −1: off. */
  readonly topK?: number;
  /** From 0 to 1. */
  readonly minP?: number;
  /** Above 0. */
  readonly repetitionPenalty?: number;
  /** Tokens of an answer, at least 1: the default of a request, and the most it gets. */
  readonly maxNewTokens?: number;
}

/** One report of progress while a model loads. */
export interface LoadProgress {
  /** What is being done. */
  readonly stage: "download" | "read" | "compile";
  /** Bytes (download, read) or steps of the warm-up (compile) so far. */
  readonly done: number;
  /** The same in all. */
  readonly total: number;
}

/** Options of `LLM.load`. Every one has a default. */
export interface LLMOptions {
  /** Worker threads, one a processing element. Default: the machine's cores, at most 8. 0 runs inline. */
  readonly threads?: number;
  /**
   * How weight matrices are stored on the device. Default "auto": as the checkpoint stores each.
   * "q8" and "q4" are blocks of 32 with a float16 scale (GGUF's Q8_0 and Q4_0; embedding and head
   * stay at eight bits). `docs/dtypes.md` has what each costs.
   */
  readonly dtype?: "auto" | "float32" | "bfloat16" | "float16" | "q8" | "q4";
  /**
   * How activations meet quantised weights. Default "float32": exactly as the weights' format
   * defines their values. "int16" and "int8" turn activations into integers by blocks of 32, which
   * is faster and changes results; refused if no weight is quantised. `docs/dtypes.md` has what
   * each costs.
   */
  readonly activationDtype?: "float32" | "int16" | "int8";
  /** Size of the KV pool in bytes. Default 536,870,912 (512 MiB), or less if the context needs less. */
  readonly kvCacheBytes?: number;
  /**
   * Tokens that a sequence has on average, prompt and answer together. It says how KV memory that
   * does not hold all sequences in full length is divided between layers that see everything and
   * layers with a sliding window; other models have no use for it. Default 1024.
   */
  readonly expectedAverageLength?: number;
  /** How keys and values are stored. Default "bfloat16". An encoder stores none: it uses float32. */
  readonly kvCacheDtype?: "bfloat16" | "float32";
  /** Reuse the KV blocks of shared prompt prefixes. Default true; an encoder has none to share. */
  readonly enablePrefixCaching?: boolean;
  /** Longest context in tokens. Default: the model's, or what the KV pool holds if that is less. */
  readonly maxModelLength?: number;
  /** Most sequences in one step. Default 64. */
  readonly maxBatchSize?: number;
  /**
   * Most tokens in one step; longer prompts are prefilled in chunks. Default 512. The prompts of an
   * encoder cannot be cut, so its steps take at least the longest context.
   */
  readonly maxTokensPerStep?: number;
  /** Requests that may wait; one more is refused with a `QueueFullError`. Default 1024. */
  readonly maxWaitingRequests?: number;
  /** (batch, context) shapes of whole-prompt steps. */
  readonly prefillBuckets?: readonly AttentionBucket[];
  /** (batch, context) shapes of one-token steps. */
  readonly decodeBuckets?: readonly AttentionBucket[];
  /** (batch, context, new tokens) shapes of the other steps. */
  readonly appendBuckets?: readonly AttentionBucket[];
  /** Row counts of the non-attention kernels. */
  readonly tokenwiseBuckets?: readonly number[];
  /** "simd" (default) or "reference", the plain twin: slow, for checking. */
  readonly kernels?: "simd" | "reference";
  /**
   * What the model is used for. Default "auto": what its files say, and "generate" where they say
   * nothing. "embed" pools the last hidden state of a generative model; "score" makes a reranker
   * of one that answers "yes" and "no".
   */
  readonly task?: ModelTask | "auto";
  /**
   * Which package cuts texts. "auto" (default): `@huggingface/tokenizers`. "slow": the tokenizers of
   * `@huggingface/transformers`, which npm fetches then (about 500 MB) and which needs `--allow-ffi`.
   */
  readonly tokenizerMode?: "auto" | "slow";
  /** A chat template that replaces the checkpoint's own. */
  readonly chatTemplate?: string;
  /**
   * How the chat template is given a message's content: "string", one text; "openai", a list of
   * parts; "auto" (default), whichever the template reads.
   */
  readonly chatTemplateContentFormat?: ContentFormat;
  /**
   * Where the middle tier of sampling defaults comes from. Default "auto": the model's
   * generation_config.json. "none", or "vllm" as vLLM calls it: there is none. Anything else is a
   * folder that holds one in place of the model's: its end tokens count, and its `max_new_tokens` is
   * the most that a request gets.
   */
  readonly generationConfig?: string;
  /**
   * Sampling defaults that win over those of `generationConfig`. A `maxNewTokens` here is the most
   * that a request gets. Default none.
   */
  readonly overrideGenerationConfig?: SamplingOverrides;
  /**
   * Branch, tag or commit of a hub model. Default "main"; for models of `furiosa-ai` the tag of the
   * release, and "main" where a model has none.
   */
  readonly revision?: string;
  /**
   * Where requests leave spans of what they were and how long they took: a tracer of
   * `@opentelemetry/api`, or any other with its `startSpan`. Default: none. `docs/tracing.md` has
   * what is written.
   */
  readonly tracer?: Tracer;
  /** Called while the model loads. */
  readonly onProgress?: (progress: LoadProgress) => void;
  /** Stops the loading. */
  readonly signal?: AbortSignal;
}

/** Options with every default filled in and every value checked. */
export interface ResolvedOptions {
  readonly threads: number;
  readonly kernels: "simd" | "reference";
  readonly dtype: NonNullable<LLMOptions["dtype"]>;
  readonly activationDtype: NonNullable<LLMOptions["activationDtype"]>;
  readonly kvCacheDtype: "bfloat16" | "float32";
  /** undefined: as much as the default and the context allow. */
  readonly kvCacheBytes: number | undefined;
  /** undefined: what the model assumes. */
  readonly expectedAverageLength: number | undefined;
  /** undefined: the model's. */
  readonly maxModelLength: number | undefined;
  readonly maxBatchSize: number;
  readonly maxTokensPerStep: number;
  readonly maxWaitingRequests: number;
  readonly enablePrefixCaching: boolean;
  readonly tokenizerMode: TokenizerMode;
  readonly chatTemplateContentFormat: ContentFormat;
  /** "auto", "vllm", "none", or a folder. */
  readonly generationConfig: string;
  readonly task: ModelTask | "auto";
  readonly buckets: Partial<BucketTables>;
  readonly tracer: Tracer | undefined;
}

/** Most worker threads. */
const THREADS_MAX = 64;

/** One thread a core, but no more than the processing elements of a card. */
function defaultThreads(): number {
  return Math.min(8, Math.max(1, navigator.hardwareConcurrency));
}

function integer(
  options: LLMOptions,
  name: keyof LLMOptions,
  range: { min: number; max?: number },
): number | undefined {
  const value = options[name];
  if (value === undefined) return undefined;
  const { min, max = Number.MAX_SAFE_INTEGER } = range;
  if (Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max) {
    return value as number;
  }
  const limits = range.max === undefined ? `of at least ${min}` : `from ${min} to ${max}`;
  throw new InvalidParameterError(
    name,
    value,
    `Cannot use ${name} ${String(value)}: it must be an integer ${limits}`,
  );
}

function text(options: LLMOptions, name: keyof LLMOptions): string | undefined {
  const value = options[name];
  if (value === undefined || typeof value === "string" && value !== "") return value;
  throw new InvalidParameterError(
    name,
    value,
    `Cannot use ${name} ${JSON.stringify(value)}: it must be a text that is not empty`,
  );
}

function oneOf<const T extends string>(
  options: LLMOptions,
  name: keyof LLMOptions,
  allowed: readonly [T, ...T[]],
): T {
  const value = options[name] ?? allowed[0];
  const found = allowed.find((choice) => choice === value);
  if (found !== undefined) return found;
  throw new InvalidParameterError(
    name,
    value,
    `Cannot use ${name} "${String(value)}": it must be ${
      allowed.map((choice) => `"${choice}"`).join(" or ")
    }`,
  );
}

function checkTracer(tracer: Tracer | undefined): Tracer | undefined {
  if (tracer === undefined || typeof tracer?.startSpan === "function") return tracer;
  throw new InvalidParameterError(
    "tracer",
    tracer,
    "Cannot use tracer: it must have a method startSpan, as a tracer of @opentelemetry/api has",
  );
}

/** All options: a name that is missing here would be a type error. */
const NAMES: Readonly<Record<keyof LLMOptions, true>> = {
  threads: true,
  dtype: true,
  activationDtype: true,
  kvCacheBytes: true,
  expectedAverageLength: true,
  kvCacheDtype: true,
  enablePrefixCaching: true,
  maxModelLength: true,
  maxBatchSize: true,
  maxTokensPerStep: true,
  maxWaitingRequests: true,
  prefillBuckets: true,
  decodeBuckets: true,
  appendBuckets: true,
  tokenwiseBuckets: true,
  kernels: true,
  task: true,
  tokenizerMode: true,
  chatTemplate: true,
  chatTemplateContentFormat: true,
  generationConfig: true,
  overrideGenerationConfig: true,
  revision: true,
  tracer: true,
  onProgress: true,
  signal: true,
};

/** Checks options and fills in the defaults. */
export function resolveOptions(options: LLMOptions): ResolvedOptions {
  checkFieldNames(options, Object.keys(NAMES), "the option");
  const positive = { min: 1 };
  return {
    threads: integer(options, "threads", { min: 0, max: THREADS_MAX }) ?? defaultThreads(),
    kernels: oneOf(options, "kernels", ["simd", "reference"]),
    dtype: oneOf(options, "dtype", ["auto", "float32", "bfloat16", "float16", "q8", "q4"]),
    activationDtype: oneOf(options, "activationDtype", ["float32", "int16", "int8"]),
    kvCacheDtype: oneOf(options, "kvCacheDtype", ["bfloat16", "float32"]),
    kvCacheBytes: integer(options, "kvCacheBytes", positive),
    expectedAverageLength: integer(options, "expectedAverageLength", positive),
    maxModelLength: integer(options, "maxModelLength", positive),
    maxBatchSize: integer(options, "maxBatchSize", positive) ?? 64,
    maxTokensPerStep: integer(options, "maxTokensPerStep", positive) ?? 512,
    maxWaitingRequests: integer(options, "maxWaitingRequests", positive) ?? 1024,
    enablePrefixCaching: options.enablePrefixCaching ?? true,
    tokenizerMode: oneOf(options, "tokenizerMode", ["auto", "slow"]),
    chatTemplateContentFormat: oneOf(options, "chatTemplateContentFormat", [
      "auto",
      "string",
      "openai",
    ]),
    generationConfig: text(options, "generationConfig") ?? "auto",
    task: oneOf(options, "task", ["auto", "generate", "embed", "score", "classify"]),
    tracer: checkTracer(options.tracer),
    buckets: {
      ...(options.prefillBuckets && { prefill: options.prefillBuckets }),
      ...(options.decodeBuckets && { decode: options.decodeBuckets }),
      ...(options.appendBuckets && { append: options.appendBuckets }),
      ...(options.tokenwiseBuckets && { tokenwise: options.tokenwiseBuckets }),
    },
  };
}
