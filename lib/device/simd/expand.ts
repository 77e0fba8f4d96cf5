/** A panel expanded to float32, by classes of k: what the GEMM tiles and the embedding read. */

import { doWhile, type FunctionRef, increment, type ModuleBuilder, setI32 } from "./assembler.ts";
import { PANEL_COLUMNS, panelBytes, type WeightFormat } from "../block_formats.ts";
import { i32, v128 } from "./instructions.ts";
import { createDecoder } from "./panel_decoder.ts";

/** Partial sums of an output: over k ≡ 0, 1, 2, 3 (mod 4). */
export const CLASS_COUNT = 4;

/** Bytes of one k of an expanded panel. */
export const EXPANDED_ROW_BYTES: number = 4 * PANEL_COLUMNS;

/** Bytes of an expanded panel. */
export function expandedBytes(k: number): number {
  return k * EXPANDED_ROW_BYTES;
}

/** Defines expand(panel, target): target is [4 classes][k / 4][8] float32. */
export function defineExpand(
  module: ModuleBuilder,
  format: WeightFormat,
  k: number,
): FunctionRef<readonly ["i32", "i32"], "none"> {
  return module.define("expand", ["i32", "i32"], "none", (scope, panel, target) => {
    const decoder = createDecoder(format, scope);
    const end = scope.local("i32");
    const classBytes = expandedBytes(k / CLASS_COUNT);
    const storeWeights = (i: number) => {
      const weights = decoder.weights(panel, i);
      const offset = i % CLASS_COUNT * classBytes +
        Math.floor(i / CLASS_COUNT) * EXPANDED_ROW_BYTES;
      return [
        weights.prepare,
        v128.store(target, weights.low, offset),
        v128.store(target, weights.high, offset + 16),
      ];
    };
    return [
      decoder.setup,
      setI32(end, i32.add(panel, panelBytes(format, k))),
      doWhile(
        i32.ne(panel, end),
        decoder.begin(panel),
        decoder.order.map((i) => storeWeights(i)),
        increment(panel, decoder.stepBytes),
        increment(target, decoder.stepK / CLASS_COUNT * EXPANDED_ROW_BYTES),
      ),
    ];
  });
}
