/**
 * config.json's `quantization_config`: which kinds of quantised checkpoints can be read.
 *
 * What a tensor is follows from its own type, shape and companions. Of `fp8` the lists of modules
 * that were not converted are not needed for that, and files are known to be at odds with them. What
 * compressed-tensors says of each module must agree with what is stored.
 */

import { type CompressedTensors, readCompressedTensors } from "./compressed_tensors.ts";
import type { Fields } from "./fields.ts";
import { readBlock, type ScaleBlock } from "./scale_block.ts";

/** What a config says about its quantised tensors. */
export type Quantization =
  | { readonly method: "none" }
  /** F8 weights with `weight_scale_inv`: by blocks, or one for the whole tensor. */
  | {
    readonly method: "fp8";
    readonly dtype: "F8_E4M3" | "F8_E5M2" | undefined;
    readonly block: ScaleBlock | undefined;
  }
  | CompressedTensors
  /** Experts as `_blocks` and `_scales`. */
  | { readonly method: "mxfp4" };

const METHODS = '"fp8", "compressed-tensors" and "mxfp4"';
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
  return {
    method: "fp8",
    dtype: format === undefined ? undefined : format === "e4m3" ? "F8_E4M3" : "F8_E5M2",
    block: readBlock(fields, "weight_block_size"),
  };
}
