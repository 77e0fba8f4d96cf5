/** A panel expanded to float32, by classes of k: what the GEMM tiles and the embedding read. */

import {
  type Body,
  call,
  doWhile,
  type FunctionRef,
  type FunctionScope,
  increment,
  type ModuleBuilder,
  setI32,
  when,
} from "./assembler.ts";
import { PANEL_COLUMNS, type WeightFormat } from "../block_formats.ts";
import { i32, v128 } from "./instructions.ts";
import type { PanelDecoder } from "./decoder.ts";
import { createDecoder, createFastDecoder, mayDoubt } from "./panel_decoder.ts";

/** Partial sums of an output: over k ≡ 0, 1, 2, 3 (mod 4). */
export const CLASS_COUNT = 4;

/** Bytes of one k of an expanded panel. */
export const EXPANDED_ROW_BYTES: number = 4 * PANEL_COLUMNS;

/** Bytes of an expanded panel. */
export function expandedBytes(k: number): number {
  return k * EXPANDED_ROW_BYTES;
}

/** (panel, target) */
export type ExpandRef = FunctionRef<readonly ["i32", "i32"], "none">;

/**
 * Defines expand(panel, target): target is [4 classes][k / 4][8] float32. A larger `rowBytes`
 * leaves room between the rows, for the columns of other panels.
 */
export function defineExpand(
  module: ModuleBuilder,
  format: WeightFormat,
  k: number,
  rowBytes: number = EXPANDED_ROW_BYTES,
): ExpandRef {
  const shape = { k, rowBytes };
  // A faster decoder hands a panel that it is in doubt about to the exact one.
  const exact = mayDoubt(format)
    ? defineExpandBy(module, "expandExact", shape, (scope) => createDecoder(format, scope))
    : undefined;
  return defineExpandBy(
    module,
    "expand",
    shape,
    (scope) => createFastDecoder(format, scope),
    exact,
  );
}

function defineExpandBy(
  module: ModuleBuilder,
  functionName: string,
  { k, rowBytes }: { readonly k: number; readonly rowBytes: number },
  decoderIn: (scope: FunctionScope) => PanelDecoder,
  exact?: ExpandRef,
): ExpandRef {
  return module.define(functionName, ["i32", "i32"], "none", (scope, panel, target) => {
    const decoder = decoderIn(scope);
    const end = scope.local("i32");
    const panelSize = k / decoder.stepK * decoder.stepBytes;
    const classBytes = k / CLASS_COUNT * rowBytes;
    const storeWeights = (i: number): Body => {
      const weights = decoder.weights(panel, i);
      const row = Math.floor(i / CLASS_COUNT);
      const offset = i % CLASS_COUNT * classBytes + row * rowBytes;
      return [
        weights.prepare,
        v128.store(target, weights.low, offset),
        v128.store(target, weights.high, offset + 16),
      ];
    };
    return [
      decoder.setup,
      decoder.doubt?.reset ?? [],
      setI32(end, i32.add(panel, panelSize)),
      doWhile(
        i32.ne(panel, end),
        decoder.begin(panel),
        decoder.order.map(storeWeights),
        increment(panel, decoder.stepBytes),
        increment(target, decoder.stepK / CLASS_COUNT * rowBytes),
      ),
      decoder.doubt === undefined || exact === undefined ? [] : when(decoder.doubt.found, [
        call(exact, i32.sub(panel, panelSize), i32.sub(target, classBytes)),
      ]),
    ];
  });
}
