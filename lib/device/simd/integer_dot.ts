/** Sums of products of integers: a group of 4 k of four columns times 4 k of one row, four sums. */

import { QUANT_BLOCK, type QuantizedFormat } from "../block_formats.ts";
import { type Body, type Expr, type FunctionScope, type Local, set } from "./assembler.ts";
import { i16x8, i32x4, i8x16, v128 } from "./instructions.ts";
import type { IntegerCodes } from "./integer_rows.ts";
import { splatLane } from "./lanes.ts";

/** Groups of 4 k in a block. */
export const GROUPS: number = QUANT_BLOCK / 4;

/** Where the codes of a block begin, behind its scales. */
function headerBytes(format: QuantizedFormat): number {
  return format === "q4_1" ? 32 : 16;
}

/** Bytes of a panel's block. */
export function blockBytes(format: QuantizedFormat): number {
  return headerBytes(format) + GROUPS * (format === "q8_0" ? 32 : 16);
}

/** Takes groups of codes out of a panel. Nibbles come as they are, 0…15. */
export class CodeLoader {
  /** Constants into locals: once a function. */
  readonly setup: Body;
  readonly #format: QuantizedFormat;
  readonly #mask: Local<"v128">;

  constructor(scope: FunctionScope, format: QuantizedFormat) {
    this.#format = format;
    this.#mask = scope.local("v128");
    this.setup = [set(this.#mask, v128.constI32(0x0f0f0f0f))];
  }

  /** A byte for each k in the lanes of columns 0–3 and 4–7. */
  load(low: Local<"v128">, high: Local<"v128">, block: Expr<"i32">, group: number): Body {
    const header = headerBytes(this.#format);
    if (this.#format === "q8_0") {
      return [
        set(low, v128.load(block, header + 32 * group)),
        set(high, v128.load(block, header + 32 * group + 16)),
      ];
    }
    return [
      set(high, v128.load(block, header + 16 * group)),
      set(low, v128.and(high, this.#mask)),
      set(high, v128.and(i32x4.shrU(high, 4), this.#mask)),
    ];
  }
}

/** Multiplies groups with the codes of rows. */
export interface GroupDot {
  /** Constants into locals: once a function. */
  readonly setup: Body;
  /** Before `add`, for each group of four columns. */
  prepare(weights: Local<"v128">): Body;
  /**
   * sum += the prepared weights times 4 k of a row: `lane` and, for words, the lane behind it of
   * `row` hold them.
   */
  add(sum: Local<"v128">, row: Local<"v128">, lane: number): Body;
}

/** The way that codes of such a kind are multiplied. */
export function createGroupDot(
  scope: FunctionScope,
  format: QuantizedFormat,
  codes: IntegerCodes,
): GroupDot {
  return codes.bits === 16 ? dotWords(scope) : dotBytes(format);
}

/** One instruction on processors that have it, three on others. Its second operand is 0…127. */
function dotBytes(format: QuantizedFormat): GroupDot {
  let prepared: Local<"v128">;
  return {
    setup: [],
    prepare(weights) {
      prepared = weights;
      return [];
    },
    add(sum, row, lane) {
      const activations = splatLane(row, lane);
      return [
        set(
          sum,
          format === "q8_0"
            ? i32x4.relaxedDotAdd(prepared, activations, sum)
            : i32x4.relaxedDotAdd(activations, prepared, sum),
        ),
      ];
    },
  };
}

/** Bytes are widened: k 0 and 1 of all four columns into one vector, k 2 and 3 into another. */
function dotWords(scope: FunctionScope): GroupDot {
  const pairs = scope.local("v128");
  const words = scope.locals("v128", 2) as [Local<"v128">, Local<"v128">];
  return {
    setup: [
      set(pairs, v128.constBytes([0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15])),
    ],
    prepare: (weights) => [
      set(words[1], i8x16.relaxedSwizzle(weights, pairs)),
      set(words[0], i16x8.extendLowI8x16S(words[1])),
      set(words[1], i16x8.extendHighI8x16S(words[1])),
    ],
    add: (sum, row, lane) =>
      words.map((word, i) =>
        set(sum, i32x4.add(sum, i32x4.dotI16x8S(word, splatLane(row, lane + i))))
      ),
  };
}
