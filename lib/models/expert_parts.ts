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

import { CheckpointError } from "../base/errors.ts";
import { sourceRowBytes, type WeightFormat } from "../device/block_formats.ts";
import type { ExpertConfig } from "./expert_config.ts";
import { type ExpertProjection, type ExpertTensorName, parseExpertName } from "./expert_names.ts";
import {
  type ExpectedTensor,
  type FoundTensor,
  madeTensor,
  type StoredTensor,
  storedTensor,
} from "./expected_tensors.ts";
import { type MadeRows, selectRows, type StoredPart } from "./made_rows.ts";
import { ScaleGrid } from "./scale_grid.ts";
import { ScaledRows } from "./scaled_rows.ts";
import type { Find, QuantizedTensor } from "./quantized_tensor.ts";

/** Columns under a scale of MXFP4, and their bytes. */
const MXFP4_BLOCK = { columns: 32, bytes: 16 } as const;

/** Formats with a value an element, by the file's word for them. */
const PLAIN: ReadonlyMap<string, WeightFormat> = new Map([
  ["F32", "f32"],
  ["F16", "f16"],
  ["BF16", "bf16"],
]);

/** Finds tensors of experts among those of whole layers, and keeps the expert that was read last. */
export class ExpertParts {
  readonly #config: ExpertConfig;
  readonly #find: Find;
  readonly #prefix: (layer: number) => string;
  readonly #lastRead: LastRead = { part: undefined, bytes: new Uint8Array(0) };

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
    const module = this.#module(name);
    if (name.kind === "bias") return this.#bias(expected, name, module);
    const found = this.#find(module);
    if (found !== undefined) {
      const tensor = this.#config.interleaves
        ? this.#transposed(expected, name, found)
        : this.#rows(expected, name, found);
      return { tensor, used: [found.name] };
    }
    const blocks = this.#find(`${module}_blocks`);
    return blocks === undefined ? undefined : this.#mxfp4(expected, name, module, blocks);
  }

  #module({ layer, projection }: ExpertTensorName): string {
    const stored = projection === "down_proj" ? "down_proj" : "gate_up_proj";
    return `${this.#prefix(layer)}.${stored}`;
  }

  /** An expert's rows of a stack [E, n, k], or of one whose n is that of gate and up together. */
  #rows(expected: ExpectedTensor, name: ExpertTensorName, found: FoundTensor): StoredTensor {
    const { expert = 0, projection } = name;
    const [n, k] = expected.shape as [number, number];
    const partCount = projection === "down_proj" ? 1 : 2;
    checkShape(found, [this.#config.count, partCount * n, k]);
    const sizeBytes = found.sizeBytes / (this.#config.count * partCount);
    const part = expert * partCount + (projection === "up_proj" ? 1 : 0);
    const position = found.position + part * sizeBytes;
    return storedTensor(expected, { ...found, shape: [n, k], position, sizeBytes });
  }

  #transposed(expected: ExpectedTensor, name: ExpertTensorName, found: FoundTensor): StoredTensor {
    const [n, k] = expected.shape as [number, number];
    const { first, stride } = turnOf(name.projection);
    checkShape(found, [this.#config.count, k, n * stride]);
    const format = plainFormat(found);
    const sizeBytes = found.sizeBytes / this.#config.count;
    const position = found.position + (name.expert ?? 0) * sizeBytes;
    const part = { source: found.source, position, sizeBytes };
    const columns = { count: n * stride, first, stride };
    return madeTensor(expected, part, new TransposedRows(format, part, k, columns, this.#lastRead));
  }

  #mxfp4(
    expected: ExpectedTensor,
    { expert = 0, projection }: ExpertTensorName,
    module: string,
    blocks: FoundTensor,
  ): QuantizedTensor {
    const { count } = this.#config;
    const [n, k] = expected.shape as [number, number];
    const { first, stride } = turnOf(projection);
    const rows = n * stride;
    const blockCount = k / MXFP4_BLOCK.columns;
    const scales = this.#find(`${module}_scales`) ??
      refuse(blocks, `its scales "${module}_scales" are missing`);
    for (const tensor of [blocks, scales]) {
      if (tensor.dtype !== "U8") refuse(tensor, `it is of type ${tensor.dtype}: it must be U8`);
    }
    checkShape(blocks, [count, rows, blockCount, MXFP4_BLOCK.bytes]);
    checkShape(scales, [count, rows, blockCount]);
    const all = new ScaledRows({
      k,
      codes: {
        part: blocks,
        rowBytes: k / 2,
        bits: 4,
        flip: 0,
        format: "e2m1",
        scaleFactor: 0.5, // the format's codes stand for twice their value
      },
      scales: new ScaleGrid(scales, {
        rows: count * rows,
        columns: blockCount,
        rowBlock: 1,
        columnBlock: MXFP4_BLOCK.columns,
      }),
      zeroPoints: undefined,
      divisor: 1,
      addend: 0,
    });
    const own = { first: expert * rows + first, stride };
    const made = selectRows(all, sourceRowBytes(all.format, k), own);
    return { tensor: madeTensor(expected, blocks, made), used: [blocks.name, scales.name] };
  }

  #bias(
    expected: ExpectedTensor,
    { projection }: ExpertTensorName,
    module: string,
  ): QuantizedTensor | undefined {
    const found = this.#find(`${module}_bias`);
    if (found === undefined) return undefined;
    const { first, stride } = turnOf(projection);
    const count = expected.shape[0] as number;
    checkShape(found, [this.#config.count, count / this.#config.count * stride]);
    const every = new EveryElement(plainFormat(found), found, { first, stride });
    return { tensor: madeTensor(expected, found, every), used: [found.name] };
  }
}

/** An expert of a GGUF stack [E, n, k], or the biases [E, n] of all of them. */
export function stackedExpert(
  expected: ExpectedTensor,
  found: FoundTensor,
  expertCount: number,
): StoredTensor {
  const { expert = 0, kind } = parseExpertName(expected.name) ??
    refuse(found, "it is no tensor of experts");
  if (kind === "bias") {
    checkShape(found, [expertCount, (expected.shape[0] as number) / expertCount]);
    return storedTensor(expected, { ...found, shape: expected.shape });
  }
  checkShape(found, [expertCount, ...expected.shape]);
  const sizeBytes = found.sizeBytes / expertCount;
  const position = found.position + expert * sizeBytes;
  return storedTensor(expected, { ...found, shape: expected.shape, position, sizeBytes });
}

/** Gate and up take turns, gate first. */
function turnOf(projection: ExpertProjection): { readonly first: number; readonly stride: number } {
  if (projection === "down_proj") return { first: 0, stride: 1 };
  return { first: projection === "gate_proj" ? 0 : 1, stride: 2 };
}

function plainFormat(found: FoundTensor): WeightFormat {
  const format = PLAIN.get(found.dtype);
  return format ?? refuse(found, `it is of type ${found.dtype}: it must be F32, F16 or BF16`);
}

function checkShape(found: FoundTensor, shape: readonly number[]): void {
  if (found.shape.join() === shape.join()) return;
  refuse(
    found,
    `it has the shape [${found.shape.join(", ")}], but the config calls for [${shape.join(", ")}]`,
  );
}

function refuse({ name, source }: FoundTensor, why: string): never {
  throw new CheckpointError(
    source.name,
    `Cannot use tensor "${name}" of "${source.name}": ${why}`,
  );
}

function elementBytes(format: WeightFormat): number {
  return format === "f32" ? 4 : 2;
}

/** What was read last: the next rows are likely of the same expert. */
interface LastRead {
  part: StoredPart | undefined;
  bytes: Uint8Array;
}

/** Some columns of a stored matrix [k, columns], as rows. */
class TransposedRows implements MadeRows {
  readonly format: WeightFormat;
  readonly parts: readonly StoredPart[];
  readonly #part: StoredPart;
  readonly #k: number;
  readonly #columns: { readonly count: number; readonly first: number; readonly stride: number };
  readonly #lastRead: LastRead;

  constructor(
    format: WeightFormat,
    part: StoredPart,
    k: number,
    columns: { readonly count: number; readonly first: number; readonly stride: number },
    lastRead: LastRead,
  ) {
    this.format = format;
    this.parts = [part];
    this.#part = part;
    this.#k = k;
    this.#columns = columns;
    this.#lastRead = lastRead;
  }

  read(rowStart: number, rowEnd: number, target: Uint8Array): void {
    const stored = this.#stored();
    const { count, first, stride } = this.#columns;
    const size = elementBytes(this.format);
    let to = 0;
    for (let row = rowStart; row < rowEnd; row++) {
      const column = (first + row * stride) * size;
      for (let i = 0; i < this.#k; i++) {
        const from = i * count * size + column;
        for (let byte = 0; byte < size; byte++) target[to++] = stored[from + byte]!;
      }
    }
  }

  #stored(): Uint8Array {
    const { source, position, sizeBytes } = this.#part;
    const last = this.#lastRead;
    if (last.part?.source !== source || last.part.position !== position) {
      if (last.bytes.length !== sizeBytes) last.bytes = new Uint8Array(sizeBytes);
      last.part = undefined; // until it is whole
      source.readAt(position, last.bytes);
      last.part = this.#part;
    }
    return last.bytes;
  }
}

/** Every `stride`-th element of a tensor, as one vector. */
class EveryElement implements MadeRows {
  readonly format: WeightFormat;
  readonly parts: readonly StoredPart[];
  readonly #part: StoredPart;
  readonly #turn: { readonly first: number; readonly stride: number };

  constructor(
    format: WeightFormat,
    part: StoredPart,
    turn: { readonly first: number; readonly stride: number },
  ) {
    this.format = format;
    this.parts = [part];
    this.#part = part;
    this.#turn = turn;
  }

  read(_rowStart: number, _rowEnd: number, target: Uint8Array): void {
    const { source, position, sizeBytes } = this.#part;
    const stored = new Uint8Array(sizeBytes);
    source.readAt(position, stored);
    const size = elementBytes(this.format);
    const { first, stride } = this.#turn;
    for (let from = first * size, to = 0; to < target.length; from += stride * size, to += size) {
      target.set(stored.subarray(from, from + size), to);
    }
  }
}
