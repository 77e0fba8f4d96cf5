/** The matrix product with integer activations: the definition of its numbers and their order. */

import { ACTIVATION_MIN, activationRange, type ActivationType } from "../activations.ts";
import {
  PANEL_COLUMNS,
  panelBytes,
  QUANT_BLOCK,
  type QuantizedColumn,
  type QuantizedFormat,
  unpackQuantized,
} from "../block_formats.ts";
import { fusedMultiplyAdd } from "../dtype.ts";
import type { Panels } from "./matmul.ts";
import type { Matrix } from "./ndarray.ts";

/** A block of activations: codes under a scale. */
interface ActivationBlock {
  readonly scale: number;
  readonly codes: readonly number[];
  /** Σ codes. */
  readonly sum: number;
}

/**
 * out[row, c] = Σ x[row, i] · weight[c, i] as `matmul` has it, for a quantised weight: each row of x
 * is turned into integers first (`activations.ts`), and products are summed as integers by blocks.
 */
export function integerMatmul(
  out: Matrix,
  x: Matrix,
  weight: Panels & { readonly format: QuantizedFormat },
  options: {
    readonly panelStart: number;
    readonly panelEnd: number;
    readonly activations: Exclude<ActivationType, "f32">;
  },
): void {
  const [rowCount, k] = x.shape as [number, number];
  const { format, bytes } = weight;
  const range = activationRange(options.activations, format);
  const rows = Array.from({ length: rowCount }, (_, row) => quantizeRow(x, row, range));
  const size = panelBytes(format, k);
  for (let panel = options.panelStart; panel < options.panelEnd; panel++) {
    const panelAt = bytes.subarray(panel * size, (panel + 1) * size);
    for (let column = 0; column < PANEL_COLUMNS; column++) {
      const blocks = Array.from(
        { length: k / QUANT_BLOCK },
        (_, block) => unpackQuantized(format, panelAt, block, column),
      );
      rows.forEach((activations, row) => {
        out.set(row, panel * PANEL_COLUMNS + column, multiplyBlocks(activations, blocks));
      });
    }
  }
}

/** One chain over the blocks, ascending, from +0. */
function multiplyBlocks(
  activations: readonly ActivationBlock[],
  weights: readonly QuantizedColumn[],
): number {
  return activations.reduce((total, block, i) => addBlock(total, block, weights[i]!), 0);
}

/** total + Σ x · w over a block: the codes' products, then the minimum if there is one. */
function addBlock(total: number, x: ActivationBlock, weight: QuantizedColumn): number {
  const dot = x.codes.reduce((sum, code, i) => sum + code * weight.codes[i]!, 0);
  const scale = Math.fround(weight.scale * x.scale);
  const products = fusedMultiplyAdd(Math.fround(dot), scale, total);
  if (weight.minimum === undefined) return products;
  return fusedMultiplyAdd(weight.minimum, Math.fround(x.scale * x.sum), products);
}

function quantizeRow(x: Matrix, row: number, range: number): ActivationBlock[] {
  const k = x.shape[1] as number;
  return Array.from({ length: k / QUANT_BLOCK }, (_, block) => {
    const start = x.index(row, block * QUANT_BLOCK);
    return quantizeBlock(x.data.subarray(start, start + QUANT_BLOCK), range);
  });
}

/** As `activations.ts` says. */
function quantizeBlock(x: Float32Array, range: number): ActivationBlock {
  const largest = x.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  if (!Number.isFinite(largest)) return { scale: NaN, codes: ZEROS, sum: 0 };
  if (largest < ACTIVATION_MIN) return { scale: 0, codes: ZEROS, sum: 0 };
  const factor = Math.fround(range / largest);
  const codes = Array.from(x, (value) => roundToEven(Math.fround(value * factor)));
  const sum = codes.reduce((total, code) => total + code, 0);
  return { scale: Math.fround(largest / range), codes, sum };
}

const ZEROS: readonly number[] = Array(QUANT_BLOCK).fill(0);

function roundToEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest === 0.5) return below % 2 === 0 ? below : below + 1;
  return rest < 0.5 ? below : below + 1;
}
