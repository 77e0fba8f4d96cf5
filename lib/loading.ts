/** From a model's name and options to everything an `LLM` holds. */

import { CheckpointError } from "./base/errors.ts";
import { StartedThreads } from "./device/device.ts";
import { Engine } from "./engine/engine.ts";
import { DeviceRunner } from "./engine/runner.ts";
import { type Checkpoint, openCheckpoint } from "./models/checkpoint.ts";
import {
  checkGenerationOverrides,
  type GenerationDefaults,
  readGenerationFolder,
} from "./models/generation_config.ts";
import { resolveModel } from "./models/hub.ts";
import { Model, type ModelOptions } from "./models/model.ts";
import {
  type ContentFormat,
  type LLMOptions,
  type LoadProgress,
  resolveOptions,
} from "./options.ts";
import { type TokenizerInfo, tokenizerInfo } from "./models/tokenizer_info.ts";
import { type PoolingModel, poolingModel } from "./pooling_model.ts";
import type { SamplingDefaults } from "./sampling/resolved_params.ts";
import { BackgroundTokenizer } from "./text/background_tokenizer.ts";
import { ChatTemplate } from "./text/chat_template.ts";
import { loadSlowEngine } from "./text/slow_engine.ts";
import { TextWorker } from "./text/text_worker.ts";
import { Tokenizer } from "./text/tokenizer.ts";
import type { EngineFactory } from "./text/tokenizer_engine.ts";
import { jsonOfVocabularyFiles } from "./text/vocabulary_files.ts";
import type { Tracer } from "./tracing.ts";

/** The parts of a loaded model. */
export interface LoadedModel {
  readonly id: string;
  readonly threads: number;
  readonly dtype: ModelOptions["dtype"];
  readonly activationDtype: ModelOptions["activationDtype"];
  readonly model: Model;
  readonly engine: Engine;
  /** Where requests leave their spans. */
  readonly tracer: Tracer | undefined;
  readonly tokenizer: Tokenizer;
  readonly chatTemplate: ChatTemplate | undefined;
  /** In place of that one where there are tools. */
  readonly toolTemplate: ChatTemplate | undefined;
  readonly contentFormat: ContentFormat;
  /** Renders the model's own template. */
  readonly textWorker: TextWorker;
  /** Renders the templates that requests bring: one that loops holds up no others. */
  readonly requestTextWorker: TextWorker;
  /** The tokenizer for what comes in while others must not wait. */
  readonly background: BackgroundTokenizer;
  /** The tokenizer's settings, as the checkpoint states them. */
  readonly tokenizerInfo: TokenizerInfo;
  readonly samplingDefaults: SamplingDefaults;
  readonly pooling: PoolingModel;
  /** A template that the caller gave, which rerankers use in place of their prompt. */
  readonly scoreTemplate: ChatTemplate | undefined;
  readonly maxWaitingRequests: number;
  /** Requests that one call has in the engine at most; the others wait before it, where it is free. */
  readonly maxInFlight: number;
}

/** Several steps' worth of requests: more of them would only fill the queue for everybody else. */
const STEPS_IN_FLIGHT = 4;

/** The tokenizer that the checkpoint holds; `create` makes the engine that is not the usual one. */
export function loadTokenizer(
  checkpoint: Checkpoint,
  create: EngineFactory | undefined,
): Tokenizer {
  const tokenizer = buildTokenizer(checkpoint.text, create);
  checkRows(tokenizer, checkpoint.config.vocabSize);
  return tokenizer;
}

/**
 * Whatever a text is cut into must have a row of the embedding. Added tokens may lie behind the last
 * one, as those of pictures do in models without eyes: only a prompt that spells one is refused.
 */
function checkRows(tokenizer: Tokenizer, vocabSize: number): void {
  if (tokenizer.vocabSize <= vocabSize) return;
  const frame = tokenizer.encode("", { addSpecialTokens: true });
  const id = Math.max(tokenizer.largestPlainId, ...frame);
  if (id < vocabSize) return;
  throw new CheckpointError(
    tokenizer.file,
    `Cannot use the tokenizer of "${tokenizer.file}": its token ` +
      `${JSON.stringify(tokenizer.tokenString(id))} has the id ${id}, but the model's vocab_size ` +
      `is ${vocabSize}: they are not of one model`,
  );
}

function buildTokenizer(text: Checkpoint["text"], create: EngineFactory | undefined): Tokenizer {
  if (text.kind === "gguf") return Tokenizer.fromGguf(text.metadata, text.file, create);
  const { vocabulary, tokenizerConfig } = text;
  const json = vocabulary === undefined
    ? text.tokenizer
    : jsonOfVocabularyFiles(vocabulary, tokenizerConfig);
  return Tokenizer.fromHuggingFace(json, tokenizerConfig, text.files.tokenizer, create);
}

/** The templates of a model. */
export interface LoadedTemplates {
  /** For conversations, unless there is a better one. */
  readonly main: ChatTemplate | undefined;
  /** For conversations with tools, where the checkpoint has one of its own for them. */
  readonly withTools: ChatTemplate | undefined;
}

/** A template given by the caller, else the checkpoint's own, else none. */
export function loadChatTemplates(
  { text }: Checkpoint,
  tokenizer: Tokenizer,
  { given, contentFormat, worker }: {
    readonly given: string | undefined;
    readonly contentFormat: ContentFormat;
    readonly worker: TextWorker;
  },
): LoadedTemplates {
  const options = { tokens: tokenizer.specialTokens, worker, contentFormat };
  const read = (source: unknown, file: string) =>
    typeof source === "string" ? new ChatTemplate(source, { ...options, file }) : undefined;
  if (given !== undefined) return { main: read(given, "chatTemplate"), withTools: undefined };
  if (text.kind === "gguf") {
    const template = (key: string) => read(ggufTemplate(text, key), text.file);
    return {
      main: template("tokenizer.chat_template"),
      withTools: template("tokenizer.chat_template.tool_use"),
    };
  }
  const file = text.files.chatTemplate ?? text.files.tokenizerConfig;
  return {
    main: read(text.chatTemplate, file),
    withTools: read(text.namedTemplates?.get("tool_use"), text.files.toolTemplate ?? file),
  };
}

function ggufTemplate(
  { metadata, file }: Extract<Checkpoint["text"], { kind: "gguf" }>,
  key: string,
): string | undefined {
  const value = metadata.get(key);
  if (value === undefined || typeof value === "string") return value;
  throw new CheckpointError(file, `Cannot use ${key} of "${file}": it must be a string`);
}

/** The tokenizer's own end token first; then what generation_config.json, else the config, adds. */
export function endTokens(
  { config }: Checkpoint,
  generation: GenerationDefaults,
  tokenizer: Tokenizer,
): number[] {
  const configured = generation.endTokenIds.length > 0
    ? generation.endTokenIds
    : config.endTokenIds;
  const primary = tokenizer.eosTokenId === undefined ? [] : [tokenizer.eosTokenId];
  return [...new Set([...primary, ...configured, ...tokenizer.endTokenIds])];
}

/** What the owner of the process wants of the sampling, beside the model. */
export interface GivenDefaults {
  /** A folder's generation_config.json, in place of the model's. */
  readonly folder: GenerationDefaults | undefined;
  readonly overrides: Omit<GenerationDefaults, "endTokenIds">;
}

/** Reads and checks it. */
export function readGivenDefaults(options: LLMOptions, generationConfig: string): GivenDefaults {
  const isFolder = !["auto", "vllm", "none"].includes(generationConfig);
  return {
    folder: isFolder ? readGenerationFolder(generationConfig) : undefined,
    overrides: checkGenerationOverrides(options.overrideGenerationConfig ?? {}),
  };
}

/** The model's limit on new tokens is a default; one that was given is a limit too. */
function samplingDefaults(
  model: Partial<GenerationDefaults>,
  { folder, overrides }: GivenDefaults,
): SamplingDefaults {
  const { endTokenIds: _, maxNewTokens, ...defaults } = { ...folder ?? model, ...overrides };
  const limit = overrides.maxNewTokens ?? folder?.maxNewTokens;
  return {
    ...defaults,
    ...(maxNewTokens === undefined ? {} : { maxTokens: maxNewTokens }),
    ...(limit === undefined ? {} : { maxTokensLimit: limit }),
  };
}

/** Does something while a model is opened, and closes it again if that fails. */
async function orClose<Result>(opening: Promise<Model>, work: () => Result): Promise<Result> {
  try {
    return work();
  } catch (error) {
    await (await opening).close();
    throw error;
  }
}

/** Loads a model: checkpoint, tokenizer, weights, engine; then warms it up. */
export async function loadModel(id: string, options: LLMOptions): Promise<LoadedModel> {
  const resolved = resolveOptions(options);
  const given = readGivenDefaults(options, resolved.generationConfig);
  const { signal, revision } = options;
  const report = (stage: LoadProgress["stage"]) => (done: number, total: number) =>
    options.onProgress?.({ stage, done, total });
  signal?.throwIfAborted();
  const path = await resolveModel(id, {
    ...(revision !== undefined && { revision }),
    ...(signal && { signal }),
    onProgress: report("download"),
  });
  // The threads load their code while this one reads the checkpoint's header and builds the
  // tokenizer.
  using startedThreads = new StartedThreads(resolved.threads);
  const createEngine = resolved.tokenizerMode === "slow" ? await loadSlowEngine() : undefined;
  using checkpoint = await openCheckpoint(path);
  const modelOptions: ModelOptions = {
    ...resolved,
    device: { startedThreads, ...(signal && { signal }) },
    onBytes: report("read"),
    ...(signal && { signal }),
  };
  const opening = Model.open(checkpoint, modelOptions);
  const textWorker = new TextWorker(); // its thread starts with the first render
  const { tokenizer, templates } = await orClose(opening, () => {
    const tokenizer = loadTokenizer(checkpoint, createEngine);
    return {
      tokenizer,
      templates: loadChatTemplates(checkpoint, tokenizer, {
        given: options.chatTemplate,
        contentFormat: resolved.chatTemplateContentFormat,
        worker: textWorker,
      }),
    };
  });
  const { main: chatTemplate, withTools: toolTemplate } = templates;
  const model = await opening;
  try {
    await model.upload(checkpoint, modelOptions);
    const runner = new DeviceRunner(model);
    await runner.warmUp(report("compile"));
    signal?.throwIfAborted();
    const engine = new Engine(runner, {
      enablePrefixCaching: resolved.enablePrefixCaching,
      maxWaitingRequests: resolved.maxWaitingRequests,
      endTokenIds: endTokens(checkpoint, given.folder ?? checkpoint.generation, tokenizer),
      fits: (step) => runner.fits(step),
    });
    return {
      id,
      threads: resolved.threads,
      dtype: resolved.dtype,
      activationDtype: resolved.activationDtype,
      model,
      engine,
      tracer: resolved.tracer,
      tokenizer,
      chatTemplate,
      toolTemplate,
      textWorker,
      requestTextWorker: new TextWorker(),
      background: new BackgroundTokenizer(tokenizer, { mode: resolved.tokenizerMode }),
      contentFormat: resolved.chatTemplateContentFormat,
      tokenizerInfo: tokenizerInfo(checkpoint.text, {
        specialTokens: tokenizer.specialTokens,
        chatTemplate: chatTemplate?.source,
      }),
      samplingDefaults: samplingDefaults(
        resolved.generationConfig === "auto" ? checkpoint.generation : {},
        given,
      ),
      pooling: poolingModel({ id, checkpoint, model, tokenizer }, resolved.task),
      scoreTemplate: options.chatTemplate === undefined ? undefined : chatTemplate,
      maxWaitingRequests: resolved.maxWaitingRequests,
      maxInFlight: Math.min(
        resolved.maxWaitingRequests,
        STEPS_IN_FLIGHT * resolved.maxBatchSize,
      ),
    };
  } catch (error) {
    await model.close();
    throw error;
  }
}
