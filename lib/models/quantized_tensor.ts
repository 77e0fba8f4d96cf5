/** A quantised matrix of a safetensors checkpoint: which tensors it lies in, and whether they fit. */

import { CheckpointError } from "../base/errors.ts";
import {
  type ExpectedTensor,
  type FoundTensor,
  madeTensor,
  type StoredTensor,
} from "./expected_tensors.ts";
import {
  type CodeStorage,
  disagreement,
  type Statement,
  statementOf,
} from "./compressed_tensors.ts";
import { plainFloats } from "./plain_floats.ts";
import type { Quantization } from "./quantization_config.ts";
import type { ScaleBlock } from "./scale_block.ts";
import { type GridShape, isScaleDtype, ScaleGrid, ZeroPointGrid } from "./scale_grid.ts";
import { ScaledRows, type StoredCodes } from "./scaled_rows.ts";

/** Finds a tensor by the checkpoint's own name. */
export type Find = (storedName: string) => FoundTensor | undefined;

/** A matrix, and the names of all tensors that belong to it. */
export interface QuantizedTensor {
  readonly tensor: StoredTensor;
  readonly used: readonly string[];
}

/** What may lie beside a weight. */
const SCALES = ["weight_scale_inv", "weight_scale"];
/** Those are of activations and of keys and values, which are computed in float32 here. */
const UNUSED = [
  "input_scale",
  "input_zero_point",
  "activation_scale",
  "input_global_scale",
  "output_scale",
  "k_scale",
  "v_scale",
  "q_scale",
];

/** Whether a name is of a scale that weights do not need. */
export function isActivationScale(storedName: string): boolean {
  return UNUSED.some((suffix) => storedName.endsWith(`.${suffix}`));
}

/**
 * The matrix that the checkpoint calls `storedName`, if it is there in a form of its own: as bytes,
 * or packed. undefined: it is a plain tensor, or not there.
 *
 * @throws {CheckpointError} Its tensors do not fit each other or the config.
 */
export function quantizedTensor(
  expected: ExpectedTensor,
  storedName: string,
  find: Find,
  quantization: Quantization,
): QuantizedTensor | undefined {
  if (expected.shape.length !== 2 || !storedName.endsWith("weight")) return undefined;
  const module = storedName.slice(0, -"weight".length);
  const packed = find(`${module}weight_packed`);
  const weight = find(storedName);
  const stored = weight ?? packed;
  if (stored === undefined) return undefined;
  if (weight !== undefined && packed !== undefined) {
    refuse(packed, `it must not be there beside "${weight.name}"`);
  }
  const matrix = new Matrix(expected, stored, module, find, quantization);
  if (packed !== undefined) return matrix.packed();
  return CODES.has(stored.dtype) ? matrix.bytes() : matrix.plain();
}

/** Weights of a byte a code. */
const CODES: ReadonlyMap<string, Omit<StoredCodes, "part" | "rowBytes">> = new Map([
  ["F8_E4M3", { bits: 8, flip: 0, format: "e4m3" }],
  ["F8_E5M2", { bits: 8, flip: 0, format: "e5m2" }],
  ["I8", { bits: 8, flip: 0, format: "i8", offsetFormat: "i8_1" }],
  // 128 more than the signed byte with the top bit flipped.
  ["U8", { bits: 8, flip: 0x80, format: "i8", offsetFormat: "i8_1" }],
]);

class Matrix {
  readonly #expected: ExpectedTensor;
  readonly #stored: FoundTensor;
  readonly #module: string;
  readonly #find: Find;
  readonly #quantization: Quantization;
  readonly #used: string[] = [];
  readonly #n: number;
  readonly #k: number;
  /** What the config says of this matrix by name; undefined where it says nothing. */
  readonly #statement: Statement | undefined;

  constructor(
    expected: ExpectedTensor,
    stored: FoundTensor,
    module: string,
    find: Find,
    quantization: Quantization,
  ) {
    this.#expected = expected;
    this.#stored = stored;
    this.#module = module;
    this.#find = find;
    this.#quantization = quantization;
    this.#used.push(stored.name);
    [this.#n, this.#k] = expected.shape as [number, number];
    this.#statement = quantization.method !== "compressed-tensors" ? undefined : statementOf(
      quantization,
      [module, expected.name].map((name) => name.replace(/\.(?:weight)?$/, "")),
      /embed/.test(expected.name) ? "Embedding" : "Linear",
    );
  }

  /** A float tensor must not have scales that would be left out. */
  plain(): undefined {
    for (const suffix of SCALES) {
      const scale = this.#find(this.#module + suffix);
      if (scale !== undefined) {
        refuse(
          this.#stored,
          `it is of type ${this.#stored.dtype} and has the scale "${scale.name}": ` +
            "a weight with a scale must be F8_E4M3, F8_E5M2, I8 or U8",
        );
      }
    }
    // Heads and routers are left as they are by some tools that do not say so.
    const isProjection = this.#expected.name.endsWith("_proj.weight");
    if (isProjection && this.#statement?.kind === "quantized") {
      refuse(
        this.#stored,
        `it is of type ${this.#stored.dtype}, but ${this.#statement.scheme.place} of config.json ` +
          "says that it is quantised",
      );
    }
    return undefined;
  }

  bytes(): QuantizedTensor {
    const stored = this.#stored;
    this.#checkShape(stored, [this.#n, this.#k]);
    this.#checkByteType();
    const codes = CODES.get(stored.dtype)!;
    const scales = this.#scales(codes.bits);
    const isInteger = stored.dtype === "I8" || stored.dtype === "U8";
    return this.#made({
      codes: { ...codes, part: stored, rowBytes: this.#k },
      scales,
      zeroPoints: isInteger ? this.#zeroPoints(scales, 8) : this.#noZeroPoints(),
      divisor: 1,
      addend: stored.dtype === "U8" ? 128 : 0,
    }, stored.dtype as CodeStorage);
  }

  packed(): QuantizedTensor {
    const { dtype } = this.#stored;
    if (dtype === "U8") return this.#packedFloats();
    if (dtype === "I32") return this.#packedIntegers();
    refuse(this.#stored, `it is of type ${dtype}: packed weights must be I32 or U8`);
  }

  /** Integers of 4 or 8 bits in I32, the first in the lowest bits, with 2^(bits − 1) added. */
  #packedIntegers(): QuantizedTensor {
    const stored = this.#stored;
    const [n, k] = [this.#n, this.#k];
    const [rows, words] = stored.shape;
    const bits = words === Math.ceil(k / 8) ? 4 : 8;
    if (stored.shape.length !== 2 || rows !== n || words !== Math.ceil(k * bits / 32)) {
      refuse(
        stored,
        `it has the shape [${stored.shape.join(", ")}]: [${n}, ${k}] as the config calls for is ` +
          `[${n}, ${Math.ceil(k / 8)}] with four bits, [${n}, ${Math.ceil(k / 4)}] with eight`,
      );
    }
    this.#checkWeightShape();
    const order = this.#find(`${this.#module}weight_g_idx`);
    if (order !== undefined) {
      refuse(order, "groups of columns that are not neighbours (actorder) cannot be read");
    }
    const scales = this.#scales(bits) ?? this.#refuseMissingScale();
    const part = stored;
    const codes: StoredCodes = bits === 4
      ? { part, rowBytes: 4 * words, bits, flip: 0, format: "i4", offsetFormat: "u4_1" }
      : { part, rowBytes: 4 * words, bits, flip: 0x80, format: "i8", offsetFormat: "i8_1" };
    const zeroPoints = this.#zeroPoints(scales, bits);
    return this.#made({ codes, scales, zeroPoints, divisor: 1, addend: 0 }, "packed I32");
  }

  /** Floats of four bits: under scales of E4M3 and a divisor of all (NVFP4), or of E8M0 (MXFP4). */
  #packedFloats(): QuantizedTensor {
    const stored = this.#stored;
    const [n, k] = [this.#n, this.#k];
    this.#checkShape(stored, [n, k / 2]);
    this.#noZeroPoints();
    const scale = this.#find(`${this.#module}weight_scale`) ?? this.#refuseMissingScale();
    this.#used.push(scale.name);
    const isNvfp4 = scale.dtype === "F8_E4M3";
    if (!isNvfp4 && scale.dtype !== "U8" && scale.dtype !== "F8_E8M0") {
      refuse(scale, `it is of type ${scale.dtype}: it must be F8_E4M3 (NVFP4) or U8 (MXFP4)`);
    }
    const columnBlock = isNvfp4 ? 16 : 32;
    this.#checkShape(scale, [n, k / columnBlock]);
    const shape = { rows: n, columns: k / columnBlock, rowBlock: 1, columnBlock };
    return this.#made({
      codes: {
        part: stored,
        rowBytes: k / 2,
        bits: 4,
        flip: 0,
        format: isNvfp4 ? "e2m1_16" : "e2m1",
        scaleFactor: 0.5, // the format's codes stand for twice their value
      },
      scales: new ScaleGrid(scale, shape),
      zeroPoints: undefined,
      divisor: isNvfp4 ? this.#globalScale() : 1,
      addend: 0,
    }, isNvfp4 ? "NVFP4" : "MXFP4");
  }

  #made(
    parts: Omit<ConstructorParameters<typeof ScaledRows>[0], "k">,
    storage: CodeStorage,
  ): QuantizedTensor {
    this.#checkStatement(parts, storage);
    for (const suffix of UNUSED) this.#used.push(this.#module + suffix);
    const made = new ScaledRows({ ...parts, k: this.#k });
    return { tensor: madeTensor(this.#expected, this.#stored, made), used: this.#used };
  }

  /** Bytes are what the config calls them. Without a config they are the numbers that they are. */
  #checkByteType(): void {
    const { dtype } = this.#stored;
    const quantization = this.#quantization;
    if (quantization.method === "mxfp4") {
      refuse(
        this.#stored,
        `it is of type ${dtype}, but quantization_config.quant_method of config.json is "mxfp4"`,
      );
    }
    if (quantization.method !== "fp8") return;
    const right = quantization.dtype === undefined ? ["F8_E4M3", "F8_E5M2"] : [quantization.dtype];
    if (!right.includes(dtype)) {
      refuse(
        this.#stored,
        `it is of type ${dtype}: by quantization_config of config.json it must be ` +
          right.join(" or "),
      );
    }
  }

  /** What the config says of the matrix must be so. */
  #checkStatement(
    { codes, scales, zeroPoints }: Omit<ConstructorParameters<typeof ScaledRows>[0], "k">,
    storage: CodeStorage,
  ): void {
    const statement = this.#statement;
    if (statement === undefined) return;
    if (statement.kind === "plain") {
      refuse(
        this.#stored,
        `it is quantised, but by quantization_config of config.json it is not: ${statement.why}`,
      );
    }
    const problem = disagreement(statement.scheme, {
      storage,
      bits: storage === "I8" || storage === "U8" ? undefined : codes.bits,
      rows: this.#n,
      columns: this.#k,
      grid: scales?.shape,
      hasZeroPoints: zeroPoints !== undefined,
    });
    if (problem !== undefined) refuse(this.#stored, problem);
  }

  /** The scales beside the weight; undefined where a plain checkpoint has none. */
  #scales(bits: 4 | 8): ScaleGrid | undefined {
    const found = SCALES.flatMap((suffix) => this.#find(this.#module + suffix) ?? []);
    if (found.length > 1) refuse(found[1]!, `it must not be there beside "${found[0]!.name}"`);
    const [scale] = found;
    if (scale === undefined) {
      return this.#quantization.method === "none" ? undefined : this.#refuseMissingScale();
    }
    if (this.#quantization.method === "none") {
      refuse(scale, 'config.json has no "quantization_config" that says how it is used');
    }
    if (!isScaleDtype(scale.dtype) || scale.dtype === "F8_E4M3") {
      refuse(scale, `it is of type ${scale.dtype}: it must be F32, F16, BF16, F8_E8M0 or U8`);
    }
    this.#used.push(scale.name);
    return new ScaleGrid(scale, this.#gridOf(scale, bits));
  }

  /** One scale for all, one a row, one a group of columns, or one a block. */
  #gridOf(scale: FoundTensor, bits: 4 | 8): GridShape {
    const [n, k] = [this.#n, this.#k];
    const shape = scale.shape.join();
    this.#checkBlockScale(scale);
    if (shape === "" || shape === "1" || (shape === "1,1" && this.#blocks().length === 0)) {
      return { rows: 1, columns: 1, rowBlock: n, columnBlock: k };
    }
    const [block] = this.#blocks().filter(({ rows, columns }) =>
      shape === `${Math.ceil(n / rows)},${Math.ceil(k / columns)}`
    );
    if (block !== undefined) {
      const [rows, columns] = scale.shape as [number, number];
      return { rows, columns, rowBlock: block.rows, columnBlock: block.columns };
    }
    const [rows, columns] = scale.shape;
    if (shape === `${n}` || shape === `${n},1`) {
      return { rows: n, columns: 1, rowBlock: 1, columnBlock: k };
    }
    const isGrouped = scale.shape.length === 2 && rows === n && columns !== undefined &&
      columns > 0 && k % columns === 0 && this.#quantization.method === "compressed-tensors";
    if (isGrouped) return { rows: n, columns, rowBlock: 1, columnBlock: k / columns };
    const blocks = this.#blocks().map(({ rows, columns }) =>
      `[${Math.ceil(n / rows)}, ${Math.ceil(k / columns)}]`
    );
    const groups = bits === 4 ? [`[${n}, a divisor of ${k}]`] : [];
    refuse(
      scale,
      `it has the shape [${scale.shape.join(", ")}]: for a weight [${n}, ${k}] it must be ` +
        [...blocks, `[${n}, 1]`, ...groups, "[1]"].join(" or "),
    );
  }

  /** Blocks that fp8's config states are those of all matrices. */
  #checkBlockScale(scale: FoundTensor): void {
    if (this.#quantization.method !== "fp8" || this.#quantization.block === undefined) return;
    const { rows, columns } = this.#quantization.block;
    const right = [Math.ceil(this.#n / rows), Math.ceil(this.#k / columns)];
    const isRight = scale.shape.join() === right.join() ||
      (right.join() === "1,1" && ["", "1"].includes(scale.shape.join()));
    if (isRight) return;
    refuse(
      scale,
      `it has the shape [${
        scale.shape.join(", ")
      }]: for a weight [${this.#n}, ${this.#k}] it must ` +
        `be [${right.join(", ")}], as weight_block_size of config.json is [${rows}, ${columns}]`,
    );
  }

  #blocks(): readonly ScaleBlock[] {
    switch (this.#quantization.method) {
      case "fp8":
        return this.#quantization.block === undefined ? [] : [this.#quantization.block];
      case "compressed-tensors": {
        const block = this.#statement?.kind === "quantized" && this.#statement.scheme.block;
        return block ? [block] : [];
      }
      default:
        return [];
    }
  }

  #zeroPoints(scales: ScaleGrid | undefined, bits: 4 | 8): ZeroPointGrid | undefined {
    const found = this.#find(`${this.#module}weight_zero_point`);
    if (found === undefined) {
      if (this.#statement?.kind === "quantized" && this.#statement.scheme.isSymmetric === false) {
        refuse(
          this.#stored,
          `"${this.#module}weight_zero_point" is missing: ${this.#statement.scheme.place}.symmetric ` +
            "of config.json is false",
        );
      }
      return undefined;
    }
    if (scales === undefined || scales.shape.rowBlock !== 1) {
      refuse(found, "zero points can only be read beside one scale a row or a group");
    }
    this.#used.push(found.name);
    const { rows, columns } = scales.shape;
    const isPacked = found.dtype === "I32";
    if (!isPacked && found.dtype !== "I8") {
      refuse(found, `it is of type ${found.dtype}: zero points must be I8, or packed into I32`);
    }
    this.#checkShape(found, [isPacked ? Math.ceil(rows * bits / 32) : rows, columns]);
    return new ZeroPointGrid(found, scales.shape, bits);
  }

  #noZeroPoints(): undefined {
    const found = this.#find(`${this.#module}weight_zero_point`);
    if (found !== undefined) refuse(found, "weights that are floats have no zero points");
    return undefined;
  }

  #globalScale(): number {
    const name = `${this.#module}weight_global_scale`;
    const found = this.#find(name) ??
      refuse(this.#stored, `"${name}" is missing, which its scales are divided by`);
    this.#used.push(name);
    const isOne = found.dtype === "F32" && ["", "1"].includes(found.shape.join());
    if (!isOne) refuse(found, "it must be one F32 number");
    const bytes = new Uint8Array(4);
    found.source.readAt(found.position, bytes);
    const value = plainFloats("F32", bytes)[0]!;
    if (!(Number.isFinite(value) && value > 0)) {
      refuse(found, `it is ${value}: it must be above 0 and finite`);
    }
    return value;
  }

  /** The shape before packing, which files of packed weights hold as two numbers. */
  #checkWeightShape(): void {
    const found = this.#find(`${this.#module}weight_shape`);
    if (found === undefined) return;
    this.#used.push(found.name);
    if (found.dtype !== "I64" || found.shape.join() !== "2") {
      refuse(found, "it must hold two numbers of type I64");
    }
    const bytes = new Uint8Array(16);
    found.source.readAt(found.position, bytes);
    const stated = [...new BigInt64Array(bytes.buffer)].join(", ");
    if (stated !== `${this.#n}, ${this.#k}`) {
      refuse(found, `it is [${stated}], but the config calls for [${this.#n}, ${this.#k}]`);
    }
  }

  #checkShape(found: FoundTensor, shape: readonly number[]): void {
    if (found.shape.join() === shape.join()) return;
    refuse(
      found,
      `it has the shape [${found.shape.join(", ")}]: for a weight [${this.#n}, ${this.#k}] ` +
        `it must be [${shape.join(", ")}]`,
    );
  }

  #refuseMissingScale(): never {
    const names = SCALES.map((suffix) => `"${this.#module}${suffix}"`).join(" or ");
    refuse(this.#stored, `its scale ${names} is missing`);
  }
}

function refuse({ name, source }: FoundTensor, why: string): never {
  throw new CheckpointError(
    source.name,
    `Cannot use tensor "${name}" of "${source.name}": ${why}`,
  );
}
