/** Sums of products of integers: a group of 4 k of four columns times 4 k of one row, four sums. */

import { QUANT_BLOCK, type QuantizedFormat } from "../block_formats.ts";
import { type Body, type Expr, type FunctionScope, type Local, set } from "./assembler.ts";
import { i16x8, i32x4, v128 } from "./instructions.ts";
import type { IntegerCodes } from "./integer_rows.ts";

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
  load([low, high]: Halves, block: Expr<"i32">, group: number): Body {
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

/** What belongs to columns 0–3 and 4–7. */
export type Halves = readonly [Local<"v128">, Local<"v128">];

/** Locals for both halves of the columns. */
export function halvesIn(scope: FunctionScope): Halves {
  return [scope.local("v128"), scope.local("v128")];
}

/** Multiplies groups with the codes of rows. */
export interface GroupDot {
  /** Constants into locals: once a function. */
  readonly setup: Body;
  /** Before `add`, for each group. */
  prepare(weights: Halves): Body;
  /**
   * sums += the prepared weights times 4 k of a row. `spread` gives them in all four lanes: all
   * four bytes as part 0, or two words each as parts 0 and 1.
   */
  add(sums: Halves, spread: (part: number) => Expr<"v128">): Body;
  /** What a sum has come to at the end of a block, a lane of 32 bits for each column. */
  total(sum: Local<"v128">): Expr<"v128">;
}

/** The way that such codes are multiplied. */
export function createGroupDot(
  scope: FunctionScope,
  format: QuantizedFormat,
  { dot }: IntegerCodes,
): GroupDot {
  switch (dot) {
    case "quads":
      return dotQuads(scope, format);
    case "pairs":
      return dotPairs(scope);
    case "words":
      return dotWords(scope);
    default:
      return dot satisfies never;
  }
}

/** The second operand is 0…127. */
function dotQuads(scope: FunctionScope, format: QuantizedFormat): GroupDot {
  const activations = scope.local("v128");
  let prepared: Halves;
  const product = (weights: Local<"v128">, sum: Local<"v128">): Expr<"v128"> =>
    format === "q8_0"
      ? i32x4.relaxedDotAdd(weights, activations, sum)
      : i32x4.relaxedDotAdd(activations, weights, sum);
  return {
    setup: [],
    prepare(weights) {
      prepared = weights;
      return [];
    },
    add: (sums, spread) => [
      set(activations, spread(0)),
      sums.map((sum, half) => set(sum, product(prepared[half]!, sum))),
    ],
    total: (sum) => sum,
  };
}

/** Of a block, a lane of 16 bits adds up 16 products of −128…127 with 0…15: at most 30 720. */
function dotPairs(scope: FunctionScope): GroupDot {
  const activations = scope.local("v128");
  const ones = scope.local("v128");
  let prepared: Halves;
  return {
    setup: [set(ones, v128.constI32(0x00010001))],
    prepare(weights) {
      prepared = weights;
      return [];
    },
    add: (sums, spread) => [
      set(activations, spread(0)),
      sums.map((sum, half) =>
        set(sum, i16x8.add(sum, i16x8.relaxedDot(activations, prepared[half]!)))
      ),
    ],
    total: (sum) => i32x4.dotI16x8S(sum, ones),
  };
}

/** Bytes are widened: the even k of four columns into one vector, the odd k into another. */
function dotWords(scope: FunctionScope): GroupDot {
  const words = [halvesIn(scope), halvesIn(scope)] as const;
  const activations = scope.local("v128");
  return {
    setup: [],
    prepare: (weights) =>
      weights.map((weight, half) => [
        set(words[0][half]!, i16x8.shrS(i16x8.shl(weight, 8), 8)),
        set(words[1][half]!, i16x8.shrS(weight, 8)),
      ]),
    add: (sums, spread) =>
      words.map((pair, part) => [
        set(activations, spread(part)),
        sums.map((sum, half) =>
          set(sum, i32x4.add(sum, i32x4.dotI16x8S(pair[half]!, activations)))
        ),
      ]),
    total: (sum) => sum,
  };
}
