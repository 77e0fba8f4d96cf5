/** From a model's name and options to everything an `LLM` holds. */

import { InvalidParameterError } from "./base/errors.ts";
import { Engine } from "./engine/engine.ts";
import { DeviceRunner } from "./engine/runner.ts";
import { type Checkpoint, openCheckpoint } from "./models/checkpoint.ts";
import type { GenerationDefaults } from "./models/generation_config.ts";
import { resolveModel } from "./models/hub.ts";
import { Model } from "./models/model.ts";
import type { LLMOptions, LoadProgress } from "./options.ts";
import type { SamplingDefaults } from "./sampling/params.ts";
import { ChatTemplate } from "./text/chat_template.ts";
import { Tokenizer } from "./text/tokenizer.ts";

/** The parts of a loaded model. */
export interface LoadedModel {
  readonly id: string;
  readonly threads: number;
  readonly model: Model;
  readonly engine: Engine;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | undefined;
  readonly samplingDefaults: SamplingDefaults;
}

/** Threads where nothing else is said: one a core, as a card has eight processing elements. */
function defaultThreads(): number {
  return Math.min(8, Math.max(1, navigator.hardwareConcurrency));
}

function positiveInteger(options: LLMOptions, name: keyof LLMOptions, fallback: number): number {
  const value = options[name] ?? fallback;
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 1) {
    throw new InvalidParameterError(
      name,
      value,
      `Cannot use ${name} ${value}: it must be a positive integer`,
    );
  }
  return value;
}

function oneOf<const T extends string>(
  options: LLMOptions,
  name: keyof LLMOptions,
  allowed: readonly [T, ...T[]],
): T {
  const value = options[name] ?? allowed[0];
  const found = allowed.find((name) => name === value);
  if (found === undefined) {
    throw new InvalidParameterError(
      name,
      value,
      `Cannot use ${name} "${value}": it must be ${
        allowed.map((name) => `"${name}"`).join(" or ")
      }`,
    );
  }
  return found;
}

function checkThreads(threads: number): number {
  if (!Number.isInteger(threads) || threads < 0 || threads > 64) {
    throw new InvalidParameterError(
      "threads",
      threads,
      `Cannot use threads ${threads}: it must be an integer from 0 to 64`,
    );
  }
  return threads;
}

function loadTokenizer({ text }: Checkpoint): Tokenizer {
  return text.kind === "gguf"
    ? Tokenizer.fromGguf(text.metadata, text.file)
    : Tokenizer.fromHuggingFace(text.tokenizer, text.tokenizerConfig, text.files.tokenizer);
}

/** A template given by the caller, else the checkpoint's own, else none. */
export function loadChatTemplate(
  { text }: Pick<Checkpoint, "text">,
  tokenizer: Tokenizer,
  given: string | undefined,
): ChatTemplate | undefined {
  if (given !== undefined) {
    return new ChatTemplate(given, { tokens: tokenizer.specialTokens, file: "chatTemplate" });
  }
  const [source, file] = text.kind === "gguf"
    ? [text.metadata.get("tokenizer.chat_template"), text.file]
    : [text.chatTemplate, text.files.chatTemplate ?? text.files.tokenizerConfig];
  return typeof source === "string"
    ? new ChatTemplate(source, { tokens: tokenizer.specialTokens, file })
    : undefined;
}

/** The tokenizer's own end token first; then what generation_config.json, else the config, adds. */
function endTokens(checkpoint: Checkpoint, tokenizer: Tokenizer): number[] {
  const { generation, config } = checkpoint;
  const configured = generation.endTokenIds.length > 0
    ? generation.endTokenIds
    : config.endTokenIds;
  const primary = tokenizer.eosTokenId === undefined ? [] : [tokenizer.eosTokenId];
  return [...new Set([...primary, ...configured, ...tokenizer.endTokenIds])];
}

function samplingDefaults(generation: GenerationDefaults): SamplingDefaults {
  const { endTokenIds: _, maxNewTokens, ...defaults } = generation;
  return maxNewTokens === undefined ? defaults : { ...defaults, maxTokens: maxNewTokens };
}

/** Loads a model: checkpoint, tokenizer, weights, engine; then warms it up. */
export async function loadModel(id: string, options: LLMOptions): Promise<LoadedModel> {
  const threads = checkThreads(options.threads ?? defaultThreads());
  const kernels = oneOf(options, "kernels", ["simd", "reference"]);
  const kvCacheDtype = oneOf(options, "kvCacheDtype", ["bfloat16", "float32"]);
  const generationConfig = oneOf(options, "generationConfig", ["auto", "none"]);
  const report = (stage: LoadProgress["stage"]) => (done: number, total: number) =>
    options.onProgress?.({ stage, done, total });
  options.signal?.throwIfAborted();
  const path = resolveModel(
    id,
    options.revision === undefined ? {} : { revision: options.revision },
  );
  using checkpoint = await openCheckpoint(path);
  // Text first: it is quick, and a broken tokenizer should not wait for the weights.
  const tokenizer = loadTokenizer(checkpoint);
  const chatTemplate = loadChatTemplate(checkpoint, tokenizer, options.chatTemplate);
  const model = await Model.load(checkpoint, {
    threads,
    kernels,
    kvCacheDtype,
    kvCacheBytes: options.kvCacheBytes === undefined
      ? undefined
      : positiveInteger(options, "kvCacheBytes", 0),
    maxModelLength: options.maxModelLength === undefined
      ? undefined
      : positiveInteger(options, "maxModelLength", 0),
    maxBatchSize: positiveInteger(options, "maxBatchSize", 64),
    maxTokensPerStep: positiveInteger(options, "maxTokensPerStep", 512),
    buckets: {
      ...(options.prefillBuckets && { prefill: options.prefillBuckets }),
      ...(options.decodeBuckets && { decode: options.decodeBuckets }),
      ...(options.appendBuckets && { append: options.appendBuckets }),
      ...(options.tokenwiseBuckets && { tokenwise: options.tokenwiseBuckets }),
    },
    onBytes: report("read"),
    ...(options.signal && { signal: options.signal }),
  });
  try {
    const runner = new DeviceRunner(model);
    await runner.warmUp(report("compile"));
    options.signal?.throwIfAborted();
    const engine = new Engine(runner, {
      enablePrefixCaching: options.enablePrefixCaching ?? true,
      maxWaitingRequests: positiveInteger(options, "maxWaitingRequests", 1024),
      endTokenIds: endTokens(checkpoint, tokenizer),
      fits: (step) => runner.fits(step),
    });
    return {
      id,
      threads,
      model,
      engine,
      tokenizer,
      chatTemplate,
      samplingDefaults: generationConfig === "auto" ? samplingDefaults(checkpoint.generation) : {},
    };
  } catch (error) {
    await model.close();
    throw error;
  }
}
