/** Eight stored numbers, float32, bfloat16 or float16, as two vectors of float32. */

import { type Body, type Expr, type FunctionScope, type Local, set } from "./assembler.ts";
import { HALF_BITS, HALF_FACTOR } from "./half_expander.ts";
import { i32x4, v128 } from "./instructions.ts";

/** Emits the loads of one kind of number. */
export interface EightLoader {
  /** Bytes of eight numbers. */
  readonly bytes: number;
  /** The power of two that numbers come divided by. */
  readonly factor: number;
  /** Constants into locals: once a function. */
  readonly setup: Body;
  /** low, high = numbers 0–3 and 4–7 at address + offset. */
  load(low: Local<"v128">, high: Local<"v128">, address: Expr<"i32">, offset: number): Body;
}

/** The loader of a dtype; its locals belong to `scope`. */
export function createEightLoader(
  dtype: "f32" | "bf16" | "f16",
  scope: FunctionScope,
): EightLoader {
  if (dtype === "f32") {
    return {
      bytes: 32,
      factor: 1,
      setup: [],
      load: (low, high, address, offset) => [
        set(low, v128.load(address, offset)),
        set(high, v128.load(address, offset + 16)),
      ],
    };
  }
  // Stored in the order 0 4 1 5 2 6 3 7, so that lower and upper halves are runs of four.
  const bits = scope.local("v128");
  if (dtype === "f16") {
    // With a half's bias in the exponent of a float32; infinities and NaN become finite. Shifts are
    // not the shortest way, but the one that needs one constant: a tile has no register for more.
    const expand = (top: Expr<"v128">) => v128.and(i32x4.shrS(top, 3), bits);
    return {
      bytes: 16,
      factor: HALF_FACTOR,
      setup: [set(bits, v128.constI32(HALF_BITS))],
      load: (low, high, address, offset) => [
        set(high, v128.load(address, offset)),
        set(low, expand(i32x4.shl(high, 16))),
        set(high, expand(high)),
      ],
    };
  }
  return {
    bytes: 16,
    factor: 1,
    setup: [set(bits, v128.constI32(0xffff0000))],
    load: (low, high, address, offset) => [
      set(high, v128.load(address, offset)),
      set(low, i32x4.shl(high, 16)),
      set(high, v128.and(high, bits)),
    ],
  };
}
