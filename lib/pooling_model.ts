/** What a loaded model can be asked for besides text: its heads, and how prompts reach them. */

import { CheckpointError, UnsupportedTaskError } from "./base/errors.ts";
import { invariant } from "./base/invariant.ts";
import { decodeRow } from "./device/block_formats.ts";
import type { Checkpoint } from "./models/checkpoint.ts";
import type { Model } from "./models/model.ts";
import type { ModelTask } from "./options.ts";
import { ANSWERS_OF_QWEN3, isQwen3Reranker } from "./reranker_prompt.ts";
import type { Activation, DenseLayer } from "./pooling/head.ts";
import type { PoolingTask } from "./pooling/params.ts";
import type { PoolingMode } from "./pooling/pooler.ts";
import type { Tokenizer } from "./text/tokenizer.ts";

/** Rows → embeddings. */
export interface EmbeddingHead {
  readonly modes: readonly PoolingMode[];
  readonly dense: readonly DenseLayer[];
  /** Numbers of an embedding that is not cut. */
  readonly width: number;
  /** The lengths that it may be cut to; undefined: it may not be. */
  readonly lengths:
    | { readonly min: number; readonly only: readonly number[] | undefined }
    | undefined;
  /** The token that ends every text, if the tokenizer did not put it there. */
  readonly endTokenId: number | undefined;
}

/** A row → logits, one a label. */
export interface ClassifierHead {
  readonly row: "first" | "last";
  /** The last one is the classifier. Its activation is left out: it belongs to the answer. */
  readonly layers: readonly DenseLayer[];
  readonly activation: Activation;
  readonly labels: readonly (string | undefined)[];
  /**
   * How two texts are put before it, unless a template says so: as segments of one input, in the
   * prompt of Qwen3-Reranker, or one directly after the other.
   */
  readonly pairs: "segments" | "prompt" | "joined";
}

/** Everything that pooling asks of a model. */
export interface PoolingModel {
  readonly task: ModelTask;
  /** What can be asked for, the default first; none for a generative model. */
  readonly tasks: readonly PoolingTask[];
  readonly embedding: EmbeddingHead | undefined;
  readonly classifier: ClassifierHead | undefined;
  /** Most tokens of a prompt: a text, or a pair. */
  readonly maxLength: number;
  readonly lowerCases: boolean;
  /** Texts that may be put before others, by name. */
  readonly prompts: ReadonlyMap<string, string>;
  /** Whether the model tells the segments of a pair apart. */
  readonly hasSegments: boolean;
}

/** What it is built from. */
export interface PoolingSource {
  /** The model, as it was named. */
  readonly id: string;
  /** Still open. */
  readonly checkpoint: Checkpoint;
  readonly model: Pick<
    Model,
    | "isEncoder"
    | "isGenerative"
    | "hiddenSize"
    | "maxPromptLength"
    | "tokenTypeCount"
    | "tensorF32"
  >;
  readonly tokenizer: Tokenizer;
}

/** Finds out what a model is for, unless that is `asked`, and builds its heads. */
export function poolingModel(source: PoolingSource, asked: ModelTask | "auto"): PoolingModel {
  const { checkpoint: { pooling: { modules } }, model } = source;
  const task = asked === "auto" ? taskOf(source) : asked;
  const facts = {
    task,
    maxLength: task === "generate"
      ? model.maxPromptLength
      : Math.min(model.maxPromptLength, modules?.maxSequenceLength ?? Infinity),
    lowerCases: modules?.lowerCases ?? false,
    prompts: modules?.prompts ?? new Map<string, string>(),
    hasSegments: model.tokenTypeCount > 1,
  };
  const nothing = { tasks: [], embedding: undefined, classifier: undefined };
  switch (task) {
    case "generate":
      if (model.isGenerative) return { ...facts, ...nothing };
      throw new UnsupportedTaskError(
        task,
        `Cannot generate with "${source.id}": it has no head that gives tokens`,
      );
    case "embed":
      return { ...facts, ...nothing, ...embeddingFacts(embeddingHead(source)) };
    case "score":
    case "classify": {
      const classifier = classifierHead(source, task);
      return { ...facts, ...nothing, tasks: classifierTasks(classifier, task), classifier };
    }
    default:
      return task satisfies never;
  }
}

/** A head decides; then the files of sentence-transformers; what cannot generate is for embeddings. */
function taskOf({ id, checkpoint, model }: PoolingSource): ModelTask {
  const { config, modules } = checkpoint.pooling;
  if (config.classifier !== undefined) {
    return config.classifier.labels.length === 1 ? "score" : "classify";
  }
  if (model.isGenerative && (config.answers !== undefined || isQwen3Reranker(id))) return "score";
  return modules !== undefined || !model.isGenerative ? "embed" : "generate";
}

/** Vectors of several poolings, one after the other, have no counterpart for a single token. */
function embeddingFacts(embedding: EmbeddingHead): Pick<PoolingModel, "tasks" | "embedding"> {
  const tasks: PoolingTask[] = embedding.modes.length === 1 ? ["embed", "token_embed"] : ["embed"];
  return { tasks, embedding };
}

function classifierTasks(head: ClassifierHead, task: "score" | "classify"): PoolingTask[] {
  const tasks: PoolingTask[] = head.labels.length === 1
    ? task === "score" ? ["score", "classify"] : ["classify", "score"]
    : ["classify"];
  // An encoder's head has learnt the first token only.
  return head.row === "last" ? [...tasks, "token_classify"] : tasks;
}

function embeddingHead(source: PoolingSource): EmbeddingHead {
  const { checkpoint, tokenizer, model: { isEncoder, hiddenSize } } = source;
  const { config, modules } = checkpoint.pooling;
  if (modules?.unsupported !== undefined) {
    const { path } = checkpoint;
    throw new CheckpointError(path, `Cannot embed with "${path}": ${modules.unsupported}`);
  }
  const modes = modules?.modes ?? [isEncoder ? "cls" : "lasttoken"];
  const dense = modules?.dense ?? [];
  const width = dense.reduce((inputs, layer) => {
    if (layer.inputs === inputs) return layer.outputs;
    const { path } = checkpoint;
    throw new CheckpointError(
      path,
      `Cannot embed with "${path}": a Dense module takes ${layer.inputs} numbers and gets ${inputs}`,
    );
  }, hiddenSize * modes.length);
  // Qwen3-Embedding's files say nothing of what its authors promise, and its early tokenizers
  // leave out the token that it pools.
  const isQwen3Embedding = !isEncoder && modules !== undefined &&
    checkpoint.config.modelType === "qwen3";
  const lengths = config.matryoshka !== undefined
    ? { min: 1, only: config.matryoshka.dimensions }
    : isQwen3Embedding
    ? { min: Math.min(32, width), only: undefined }
    : undefined;
  const { padToken } = tokenizer;
  const endTokenId = isQwen3Embedding && padToken !== undefined
    ? tokenizer.tokenId(padToken)
    : undefined;
  return { modes, dense, width, lengths, endTokenId };
}

function classifierHead(source: PoolingSource, task: "score" | "classify"): ClassifierHead {
  const { id, checkpoint, model } = source;
  const { hiddenSize, isEncoder } = model;
  const { classifier } = checkpoint.pooling.config;
  const head = (name: string, bias: boolean, outputs: number, activation: Activation) => ({
    inputs: hiddenSize,
    outputs,
    weight: model.tensorF32(`${name}.weight`),
    bias: bias ? model.tensorF32(`${name}.bias`) : undefined,
    activation,
  });
  if (classifier === undefined) {
    if (task === "score" && model.isGenerative) return answerHead(source);
    throw new UnsupportedTaskError(
      task,
      `Cannot ${task} with "${id}": it has no classifier: the architecture of one ends in ForSequenceClassification`,
    );
  }
  const { labels, activation } = classifier;
  if (task === "score" && labels.length !== 1) {
    throw new UnsupportedTaskError(
      task,
      `Cannot score with "${id}": a score needs a classifier with one label, and it has ${labels.length}`,
    );
  }
  const { head: names, modelType } = checkpoint.config;
  invariant(names.kind === "classifier", "A model with a classifier's labels has no classifier");
  const { dense, output } = names;
  const layers = [
    ...dense === undefined ? [] : [head(dense, true, hiddenSize, "tanh")],
    head(output, isEncoder, labels.length, "identity"),
  ];
  const shared = { layers, activation, labels };
  if (isEncoder) return { ...shared, row: "first", pairs: "segments" };
  return { ...shared, row: "last", pairs: modelType.startsWith("qwen3") ? "prompt" : "joined" };
}

/** A generative model as a classifier: sigmoid(yes − no) is the softmax of its two answers. */
function answerHead({ id, checkpoint, tokenizer, model }: PoolingSource): ClassifierHead {
  const [no, yes] = (checkpoint.pooling.config.answers ?? ANSWERS_OF_QWEN3).map((answer) => {
    const tokenId = tokenizer.tokenId(answer);
    if (tokenId !== undefined) return vocabularyRow(checkpoint, tokenId);
    throw new UnsupportedTaskError(
      "score",
      `Cannot score with "${id}": its vocabulary has no token "${answer}" to answer with`,
    );
  }) as [Float32Array, Float32Array];
  const weight = yes.map((value, i) => value - (no[i] as number));
  const layer: DenseLayer = {
    inputs: model.hiddenSize,
    outputs: 1,
    weight,
    bias: undefined,
    activation: "identity",
  };
  return {
    row: "last",
    layers: [layer],
    activation: "sigmoid",
    labels: [undefined],
    pairs: "prompt",
  };
}

/** What the last hidden state is multiplied by for the logit of one token. */
function vocabularyRow(checkpoint: Checkpoint, tokenId: number): Float32Array {
  const name = checkpoint.config.tieWordEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight";
  const tensor = checkpoint.tensors.get(name);
  const [rowCount = 0, width = 0] = tensor?.shape ?? [];
  if (tensor === undefined || tokenId >= rowCount) {
    const { path } = checkpoint;
    throw new CheckpointError(path, `Cannot find row ${tokenId} of "${name}" in "${path}"`);
  }
  const bytes = new Uint8Array(tensor.sizeBytes / rowCount);
  checkpoint.readRows(name, tokenId, tokenId + 1, bytes);
  return decodeRow(tensor.format, width, bytes);
}
