/**
 * The tensors of experts where a checkpoint has all experts of a layer in one tensor. What the
 * device holds is the same whatever the file looks like: one matrix [outputs, inputs] an expert.
 *
 * | Stored as                                  | By                                          |
 * | ------------------------------------------ | ------------------------------------------- |
 * | gate_up_proj [E, 2I, H], down_proj [E, H, I] | transformers 5, gate rows before up rows  |
 * | gate_up_proj [E, H, 2I], down_proj [E, I, H] | GPT-OSS: inputs first, gate and up in turns |
 * | …_blocks [E, n, k/32, 16], …_scales [E, n, k/32] | GPT-OSS in MXFP4: rows, in turns too  |
 * | ffn_{gate,up,down}_exps [E, n, k]          | GGUF                                        |
 */

import type { ExpertConfig } from "./expert_config.ts";
import { type ExpertProjection, type ExpertTensorName, parseExpertName } from "./expert_names.ts";
import {
  checkTensorShape,
  type ExpectedTensor,
  type FoundTensor,
  madeTensor,
  refuseTensor,
  type StoredTensor,
  storedTensor,
} from "./expected_tensors.ts";
import type { MadeRows, StoredPart } from "./made_rows.ts";
import type { Find, QuantizedTensor } from "./quantized_tensor.ts";
import {
  mxfp4Tensor,
  type StackedMatrix,
  stackedTensor,
  transposedTensor,
} from "./stacked_tensor.ts";

/** Finds tensors of experts among those of whole layers. */
export class ExpertParts {
  readonly #config: ExpertConfig;
  readonly #find: Find;
  readonly #prefix: (layer: number) => string;

  /** `prefix` is what the names of a layer's experts begin with. */
  constructor(config: ExpertConfig, find: Find, prefix: (layer: number) => string) {
    this.#config = config;
    this.#find = find;
    this.#prefix = prefix;
  }

  /**
   * A tensor of experts; undefined: it is none, or the checkpoint has no tensor of all experts.
   *
   * @throws {CheckpointError} Its type or shape does not fit.
   */
  get(expected: ExpectedTensor): QuantizedTensor | undefined {
    const name = parseExpertName(expected.name);
    if (name === undefined) return undefined;
    const stored = name.projection === "down_proj" ? "down_proj" : "gate_up_proj";
    const module = `${this.#prefix(name.layer)}.${stored}`;
    return name.kind === "bias"
      ? this.#bias(expected, name, module)
      : this.#matrix(expected, name, module);
  }

  #matrix(
    expected: ExpectedTensor,
    name: ExpertTensorName,
    module: string,
  ): QuantizedTensor | undefined {
    const place = this.#place(expected, name);
    const found = this.#find(module);
    if (found !== undefined) {
      const read = this.#config.interleaves ? transposedTensor : stackedTensor;
      return { tensor: read(expected, found, place), used: [found.name] };
    }
    const blocks = this.#find(`${module}_blocks`);
    if (blocks === undefined) return undefined;
    const scales = this.#find(`${module}_scales`) ??
      refuseTensor(blocks, `its scales "${module}_scales" are missing`);
    const tensor = mxfp4Tensor(expected, { blocks, scales }, place);
    return { tensor, used: [blocks.name, scales.name] };
  }

  /** Which rows of the stack are the expert's. */
  #place(
    { shape }: ExpectedTensor,
    { expert: index = 0, projection }: ExpertTensorName,
  ): StackedMatrix {
    const { count, interleaves } = this.#config;
    const n = shape[0] as number;
    if (projection === "down_proj") return { index, count, rows: n };
    if (interleaves) return { index, count, rows: 2 * n, ...turnOf(projection) };
    return { index, count, rows: 2 * n, first: projection === "gate_proj" ? 0 : n };
  }

  #bias(
    expected: ExpectedTensor,
    { projection }: ExpertTensorName,
    module: string,
  ): QuantizedTensor | undefined {
    const found = this.#find(`${module}_bias`);
    if (found === undefined) return undefined;
    const turn = turnOf(projection);
    const count = (expected.shape[0] as number) * turn.stride;
    checkTensorShape(found, [this.#config.count, count / this.#config.count]);
    // Its type must be that of a vector.
    const whole = storedTensor({ ...expected, shape: [count] }, { ...found, shape: [count] });
    return { tensor: madeTensor(expected, found, everyElement(whole, turn)), used: [found.name] };
  }
}

/** An expert of a GGUF stack [E, n, k], or the biases [E, n] of all of them. */
export function stackedExpert(
  expected: ExpectedTensor,
  found: FoundTensor,
  count: number,
): StoredTensor {
  const name = parseExpertName(expected.name) ?? refuseTensor(found, "it is no tensor of experts");
  const rows = expected.shape[0] as number;
  if (name.kind === "bias") {
    checkTensorShape(found, [count, rows / count]);
    return storedTensor(expected, { ...found, shape: expected.shape });
  }
  return stackedTensor(expected, found, { index: name.expert ?? 0, count, rows });
}

/** Gate and up take turns, gate first. */
function turnOf(projection: ExpertProjection): { readonly first: number; readonly stride: number } {
  if (projection === "down_proj") return { first: 0, stride: 1 };
  return { first: projection === "gate_proj" ? 0 : 1, stride: 2 };
}

/** Every `stride`-th element of a vector. */
function everyElement(
  { format, shape, source, position, sizeBytes }: StoredTensor,
  { first, stride }: { readonly first: number; readonly stride: number },
): MadeRows {
  const part: StoredPart = { source, position, sizeBytes };
  const size = sizeBytes / (shape[0] as number);
  return {
    format,
    parts: [part],
    read(_rowStart, _rowEnd, target) {
      const stored = new Uint8Array(sizeBytes);
      source.readAt(position, stored);
      for (let from = first * size, to = 0; to < target.length; from += stride * size, to += size) {
        target.set(stored.subarray(from, from + size), to);
      }
    },
  };
}
