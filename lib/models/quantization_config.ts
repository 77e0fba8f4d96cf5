/**
 * config.json's `quantization_config`: which kinds of quantised checkpoints can be read.
 *
 * What a tensor is follows from its own type, shape and companions. The lists of modules that were
 * or were not converted are not needed for that, and files are known to be at odds with them.
 */

import type { Fields } from "./fields.ts";

/** Rows and columns that share a scale. */
export interface ScaleBlock {
  readonly rows: number;
  readonly columns: number;
}

/** What a config says about its quantised tensors. */
export type Quantization =
  | { readonly method: "none" }
  /** F8 weights with `weight_scale_inv`: by blocks, or one for the whole tensor. */
  | { readonly method: "fp8"; readonly block: ScaleBlock | undefined }
  | {
    readonly method: "compressed-tensors";
    /** The blocks that scales of a grid may belong to. */
    readonly blocks: readonly ScaleBlock[];
    /** Whether all weights have zero points. */
    readonly isAsymmetric: boolean;
  }
  /** Experts as `_blocks` and `_scales`. */
  | { readonly method: "mxfp4" };

const METHODS = '"fp8", "compressed-tensors" and "mxfp4"';
/** compressed-tensors' formats; where groups differ the whole is "mixed-precision". */
const FORMATS = [
  "float-quantized",
  "int-quantized",
  "naive-quantized",
  "pack-quantized",
  "nvfp4-pack-quantized",
  "mxfp4-pack-quantized",
  "mixed-precision",
  "dense",
];
const BLOCK_MAX = 65_536;

/** Reads the setting, or its old name `compression_config`; refuses what cannot be read. */
export function readQuantization(fields: Fields): Quantization {
  const key = fields.value("quantization_config") === undefined
    ? "compression_config"
    : "quantization_config";
  const inner = fields.object(key);
  if (inner === undefined) return { method: "none" };
  const method = inner.optionalString("quant_method") ??
    (key === "compression_config" ? "compressed-tensors" : undefined);
  switch (method) {
    case "fp8":
      return readFp8(inner);
    case "compressed-tensors":
      return readCompressedTensors(inner);
    case "mxfp4":
      return { method };
    default:
      return inner.fail(
        "quant_method",
        `the supported methods are ${METHODS}; take another checkpoint of the model, ` +
          "as F32, F16 or BF16, or as a GGUF file",
      );
  }
}

function readFp8(fields: Fields): Quantization {
  const format = fields.optionalString("fmt");
  if (format !== undefined && format !== "e4m3" && format !== "e5m2") {
    fields.fail("fmt", 'it must be "e4m3" or "e5m2"');
  }
  return { method: "fp8", block: readBlock(fields, "weight_block_size") };
}

function readCompressedTensors(fields: Fields): Quantization {
  checkFormat(fields);
  const status = fields.optionalString("quantization_status");
  if (status !== undefined && status !== "compressed") {
    fields.fail(
      "quantization_status",
      'it must be "compressed": scales are applied by nobody else',
    );
  }
  const sparsity = fields.object("sparsity_config")?.optionalString("format");
  if (sparsity !== undefined && sparsity !== "dense") {
    fields.object("sparsity_config")?.fail("format", 'it must be "dense"');
  }
  const transforms = fields.object("transform_config")?.object("config_groups");
  if (transforms !== undefined) {
    fields.fail("transform_config", "weights that were rotated cannot be read");
  }
  const groups = readGroups(fields);
  const blocks: ScaleBlock[] = [];
  for (const group of groups) {
    checkFormat(group);
    const weights = group.object("weights");
    const block = weights && readBlock(weights, "block_structure");
    if (block === undefined) continue;
    if (!blocks.some(({ rows, columns }) => rows === block.rows && columns === block.columns)) {
      blocks.push(block);
    }
  }
  const isAsymmetric = groups.length > 0 &&
    groups.every((group) => group.object("weights")?.boolean("symmetric", true) === false);
  return { method: "compressed-tensors", blocks, isAsymmetric };
}

function checkFormat(fields: Fields): void {
  const format = fields.optionalString("format");
  if (format !== undefined && !FORMATS.includes(format)) {
    fields.fail("format", `the supported formats are ${FORMATS.join(", ")}`);
  }
}

function readGroups(fields: Fields): Fields[] {
  const groups = fields.object("config_groups");
  if (groups === undefined) return [];
  return groups.keys().flatMap((name) => groups.object(name) ?? []);
}

/** Two sizes in a list; undefined where the key is absent or null. */
function readBlock(fields: Fields, key: string): ScaleBlock | undefined {
  const value = fields.value(key);
  if (value === undefined) return undefined;
  const isSize = (size: unknown): size is number =>
    Number.isSafeInteger(size) && (size as number) >= 1 && (size as number) <= BLOCK_MAX;
  if (!Array.isArray(value) || value.length !== 2 || !value.every(isSize)) {
    fields.fail(key, `it must be two sizes, integers of 1 to ${BLOCK_MAX}`);
  }
  const [rows, columns] = value as [number, number];
  return { rows, columns };
}
