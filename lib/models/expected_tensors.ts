/** The tensors that a model of a given config is made of, and the search for them in a checkpoint. */

import { CheckpointError } from "../base/errors.ts";
import { sourceRowBytes, type WeightFormat } from "../device/block_formats.ts";
import { expertTensors } from "./expert_names.ts";
import type { ByteSource } from "./formats/byte_source.ts";
import { GGUF_BLOCK_TYPES } from "./formats/gguf_blocks.ts";
import { type MadeRows, RepackedRows } from "./made_rows.ts";
import type { DecoderConfig, EncoderConfig, ModelConfig } from "./model_config.ts";

/** One tensor of a checkpoint, by its Hugging Face name. */
export interface TensorInfo {
  readonly name: string;
  readonly format: WeightFormat;
  /** Hugging Face order: [outputs, inputs], or [size]. */
  readonly shape: readonly number[];
  /** Of all rows in that format. */
  readonly sizeBytes: number;
}

/** A tensor that a config calls for. */
export interface ExpectedTensor {
  readonly name: string;
  readonly shape: readonly number[];
}

/** A tensor as one file has it, whatever that file calls it. */
export interface FoundTensor {
  /** The file's own name for it. */
  readonly name: string;
  /** The file's own word for its type: "BF16", "Q4_0". */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly source: ByteSource;
  readonly position: number;
  readonly sizeBytes: number;
}

/** A tensor that the config calls for, and where its bytes are. */
export interface StoredTensor extends TensorInfo {
  readonly source: ByteSource;
  readonly position: number;
  /** Of a tensor that the files do not have in its format: how its rows come about. */
  readonly made?: MadeRows;
}

const FORMAT_BY_DTYPE: ReadonlyMap<string, WeightFormat> = new Map([
  ["F32", "f32"],
  ["F16", "f16"],
  ["BF16", "bf16"],
  ["Q8_0", "q8_0"],
  ["Q4_0", "q4_0"],
  ["Q4_1", "q4_1"],
]);

/** Formats with a value an element, the only ones that a vector may have. */
const PLAIN_FORMATS: ReadonlySet<WeightFormat> = new Set(["f32", "f16", "bf16"]);

/**
 * Every tensor that `config` calls for, in the order a forward pass meets them, by the name that
 * the causal decoders and the bare encoders of Hugging Face have for it. A tied head is not in it.
 */
export function expectedTensors(config: ModelConfig): ExpectedTensor[] {
  return [...eachExpectedTensor(config)];
}

/** The same one by one: a config that claims absurd sizes is refused by the first that is not there. */
export function* eachExpectedTensor(config: ModelConfig): Generator<ExpectedTensor> {
  yield* config.kind === "encoder" ? encoderTensors(config) : decoderTensors(config);
  yield* headTensors(config);
}

/** The tensors of a head that is computed on the host; none where there is no such head. */
export function headTensors({ head, hiddenSize, kind }: ModelConfig): ExpectedTensor[] {
  if (head.kind !== "classifier") return [];
  const { dense, output, labelCount } = head;
  const layers = dense === undefined ? [] : [
    { name: `${dense}.weight`, shape: [hiddenSize, hiddenSize] },
    { name: `${dense}.bias`, shape: [hiddenSize] },
  ];
  const bias = kind === "encoder" ? [{ name: `${output}.bias`, shape: [labelCount] }] : [];
  return [...layers, { name: `${output}.weight`, shape: [labelCount, hiddenSize] }, ...bias];
}

function encoderTensors(config: EncoderConfig): ExpectedTensor[] {
  const { hiddenSize, intermediateSize } = config;
  const tensors: ExpectedTensor[] = [];
  const add = (name: string, ...shape: number[]) => tensors.push({ name, shape });
  const addLinear = (name: string, outputs: number, inputs: number) => {
    add(`${name}.weight`, outputs, inputs);
    add(`${name}.bias`, outputs);
  };
  const addNorm = (name: string) => {
    add(`${name}.LayerNorm.weight`, hiddenSize);
    add(`${name}.LayerNorm.bias`, hiddenSize);
  };

  add("embeddings.word_embeddings.weight", config.vocabSize, hiddenSize);
  add("embeddings.position_embeddings.weight", config.maxPositionEmbeddings, hiddenSize);
  add("embeddings.token_type_embeddings.weight", config.tokenTypeCount, hiddenSize);
  addNorm("embeddings");
  for (let layer = 0; layer < config.layerCount; layer++) {
    const prefix = `encoder.layer.${layer}`;
    for (const which of ["query", "key", "value"]) {
      addLinear(`${prefix}.attention.self.${which}`, hiddenSize, hiddenSize);
    }
    addLinear(`${prefix}.attention.output.dense`, hiddenSize, hiddenSize);
    addNorm(`${prefix}.attention.output`);
    addLinear(`${prefix}.intermediate.dense`, intermediateSize, hiddenSize);
    addLinear(`${prefix}.output.dense`, hiddenSize, intermediateSize);
    addNorm(`${prefix}.output`);
  }
  return tensors;
}

function* decoderTensors(config: DecoderConfig): Generator<ExpectedTensor> {
  const { hiddenSize, intermediateSize, vocabSize, headDim } = config;
  const queryWidth = config.headCount * headDim;
  const kvWidth = config.kvHeadCount * headDim;
  const tensors: ExpectedTensor[] = [];
  const add = (name: string, ...shape: number[]) => tensors.push({ name, shape });
  const addLinear = (name: string, outputs: number, inputs: number, bias: boolean) => {
    add(`${name}.weight`, outputs, inputs);
    if (bias) add(`${name}.bias`, outputs);
  };

  add("model.embed_tokens.weight", vocabSize, hiddenSize);
  for (let layer = 0; layer < config.layerCount; layer++) {
    yield* tensors.splice(0);
    const prefix = `model.layers.${layer}`;
    if (config.norms !== "after") add(`${prefix}.input_layernorm.weight`, hiddenSize);
    addLinear(`${prefix}.self_attn.q_proj`, queryWidth, hiddenSize, config.attentionBias);
    addLinear(`${prefix}.self_attn.k_proj`, kvWidth, hiddenSize, config.attentionBias);
    addLinear(`${prefix}.self_attn.v_proj`, kvWidth, hiddenSize, config.attentionBias);
    if (config.qkNorm) {
      add(`${prefix}.self_attn.q_norm.weight`, headDim);
      add(`${prefix}.self_attn.k_norm.weight`, headDim);
    }
    addLinear(`${prefix}.self_attn.o_proj`, hiddenSize, queryWidth, config.attentionOutputBias);
    if (config.attentionSinks) add(`${prefix}.self_attn.sinks`, config.headCount);
    add(`${prefix}.post_attention_layernorm.weight`, hiddenSize);
    if (config.norms === "around") add(`${prefix}.pre_feedforward_layernorm.weight`, hiddenSize);
    if (config.experts?.layers[layer] === true) {
      for (const tensor of expertTensors(layer, hiddenSize, config.experts)) tensors.push(tensor);
    } else {
      addLinear(`${prefix}.mlp.gate_proj`, intermediateSize, hiddenSize, config.mlpBias);
      addLinear(`${prefix}.mlp.up_proj`, intermediateSize, hiddenSize, config.mlpBias);
      addLinear(`${prefix}.mlp.down_proj`, hiddenSize, intermediateSize, config.mlpBias);
    }
    if (config.norms !== "before") add(`${prefix}.post_feedforward_layernorm.weight`, hiddenSize);
  }
  add("model.norm.weight", hiddenSize);
  if (config.head.kind === "language" && !config.tieWordEmbeddings) {
    add("lm_head.weight", vocabSize, hiddenSize);
  }
  yield* tensors;
}

/** Matches `found` with what `expected` calls for; refuses a type or shape that does not fit. */
export function storedTensor(expected: ExpectedTensor, found: FoundTensor): StoredTensor {
  const file = found.source.name;
  const what = `tensor "${found.name}" of "${file}"`;
  if (found.shape.join() !== expected.shape.join()) {
    throw new CheckpointError(
      file,
      `Cannot use ${what}: it has the shape [${found.shape.join(", ")}], ` +
        `but the config calls for [${expected.shape.join(", ")}]`,
    );
  }
  const blocks = GGUF_BLOCK_TYPES.get(found.dtype);
  const format = FORMAT_BY_DTYPE.get(found.dtype) ?? blocks?.format;
  if (format === undefined) {
    const supported = [...FORMAT_BY_DTYPE.keys(), ...GGUF_BLOCK_TYPES.keys()].join(", ");
    throw new CheckpointError(
      file,
      `Cannot use ${what}: it is of type ${found.dtype}; the supported types are ${supported}`,
    );
  }
  if (expected.shape.length === 1 && !PLAIN_FORMATS.has(format)) {
    throw new CheckpointError(
      file,
      `Cannot use ${what}: it is a vector of type ${found.dtype}, but must be F32, F16 or BF16`,
    );
  }
  const { name, shape } = expected;
  if (blocks !== undefined) {
    const { blockElements, blockBytes, repack } = blocks;
    const rowBytes = (shape.at(-1) as number) / blockElements * blockBytes;
    return madeTensor(expected, found, new RepackedRows(format, found, rowBytes, repack));
  }
  const { source, position, sizeBytes } = found;
  return { name, format, shape, sizeBytes, source, position };
}

/** A matrix that is made of a tensor, and maybe of others. */
export function madeTensor(
  { name, shape }: ExpectedTensor,
  { source, position }: Pick<FoundTensor, "source" | "position">,
  made: MadeRows,
): StoredTensor {
  const rowCount = shape.slice(0, -1).reduce((product, size) => product * size, 1);
  const sizeBytes = rowCount * sourceRowBytes(made.format, shape.at(-1) as number);
  return { name, format: made.format, shape, sizeBytes, source, position, made };
}

/** Refuses a checkpoint that lacks a tensor. `storedName` is what the file would call it. */
export function missingTensor(file: string, storedName: string, shape: readonly number[]): never {
  throw new CheckpointError(
    file,
    `Cannot find tensor "${storedName}" in "${file}": ` +
      `the config calls for it, with the shape [${shape.join(", ")}]`,
  );
}

/**
 * Refuses a tensor for which the config has no use where it would be used: leaving out a bias or a
 * norm would give another model's answers without a word.
 */
export function unusedTensor(file: string, storedName: string): never {
  throw new CheckpointError(
    file,
    `Cannot use tensor "${storedName}" of "${file}": ` +
      "the config's architecture has no such tensor there",
  );
}

/** Refuses a tensor that is not what the config calls for. */
export function refuseTensor({ name, source }: FoundTensor, why: string): never {
  throw new CheckpointError(
    source.name,
    `Cannot use tensor "${name}" of "${source.name}": ${why}`,
  );
}

/** Refuses a tensor of another shape. */
export function checkTensorShape(found: FoundTensor, shape: readonly number[]): void {
  if (found.shape.join() === shape.join()) return;
  refuseTensor(
    found,
    `it has the shape [${found.shape.join(", ")}], but the config calls for [${shape.join(", ")}]`,
  );
}
