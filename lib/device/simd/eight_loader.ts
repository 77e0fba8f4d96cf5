/** Eight stored numbers, float32 or bfloat16, as two vectors of float32. */

import { type Body, type Expr, type FunctionScope, type Local, set } from "./assembler.ts";
import { i32x4, v128 } from "./instructions.ts";

/** Emits the loads of one kind of number. */
export interface EightLoader {
  /** Bytes of eight numbers. */
  readonly bytes: number;
  /** Constants into locals: once a function. */
  readonly setup: Body;
  /** low, high = numbers 0–3 and 4–7 at address + offset. */
  load(low: Local<"v128">, high: Local<"v128">, address: Expr<"i32">, offset: number): Body;
}

/** The loader of a dtype; its locals belong to `scope`. */
export function createEightLoader(dtype: "f32" | "bf16", scope: FunctionScope): EightLoader {
  if (dtype === "f32") {
    return {
      bytes: 32,
      setup: [],
      load: (low, high, address, offset) => [
        set(low, v128.load(address, offset)),
        set(high, v128.load(address, offset + 16)),
      ],
    };
  }
  // Stored in the order 0 4 1 5 2 6 3 7, so that lower and upper halves are runs of four.
  const mask = scope.local("v128");
  return {
    bytes: 16,
    setup: [set(mask, v128.constI32(0xffff0000))],
    load: (low, high, address, offset) => [
      set(high, v128.load(address, offset)),
      set(low, i32x4.shl(high, 16)),
      set(high, v128.and(high, mask)),
    ],
  };
}
