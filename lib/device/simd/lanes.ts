/** Moving floats between the four lanes of a vector. */

import { type Expr, type Local, set, type Statement } from "./assembler.ts";
import { f32x4, i8x16 } from "./instructions.ts";

/** Lane `lane` of `vector` in all four lanes. */
export function splatLane(vector: Expr<"v128">, lane: number): Expr<"v128"> {
  return permute(vector, vector, [lane, lane, lane, lane]);
}

/** Four 32-bit lanes chosen from a (0–3) and b (4–7). */
export function permute(
  a: Expr<"v128">,
  b: Expr<"v128">,
  lanes: readonly [number, number, number, number],
): Expr<"v128"> {
  return i8x16.shuffle(a, b, lanes.flatMap((lane) => [0, 1, 2, 3].map((i) => 4 * lane + i)));
}

/**
 * Turns four vectors into their columns: afterwards rows[i] holds what was lane i of each.
 * `spare` are four more locals that are overwritten.
 */
export function transpose(
  rows: readonly Local<"v128">[],
  spare: readonly Local<"v128">[],
): Statement[] {
  const [a, b, c, d] = rows as [Local<"v128">, Local<"v128">, Local<"v128">, Local<"v128">];
  const [ab, cd, ab2, cd2] = spare as [Local<"v128">, Local<"v128">, Local<"v128">, Local<"v128">];
  return [
    set(ab, permute(a, b, [0, 4, 1, 5])),
    set(cd, permute(c, d, [0, 4, 1, 5])),
    set(ab2, permute(a, b, [2, 6, 3, 7])),
    set(cd2, permute(c, d, [2, 6, 3, 7])),
    set(a, permute(ab, cd, [0, 1, 4, 5])),
    set(b, permute(ab, cd, [2, 3, 6, 7])),
    set(c, permute(ab2, cd2, [0, 1, 4, 5])),
    set(d, permute(ab2, cd2, [2, 3, 6, 7])),
  ];
}

/** ((lane 0 + lane 2) + (lane 1 + lane 3)) in all four lanes; `local` is overwritten. */
export function sumLanes(local: Local<"v128">): Statement[] {
  return [
    set(local, f32x4.add(local, permute(local, local, [2, 3, 0, 1]))),
    set(local, f32x4.add(local, permute(local, local, [1, 0, 3, 2]))),
  ];
}

/** The largest lane in all four lanes; `local` is overwritten. */
export function maxLanes(local: Local<"v128">): Statement[] {
  return [
    set(local, f32x4.pmax(local, permute(local, local, [2, 3, 0, 1]))),
    set(local, f32x4.pmax(local, permute(local, local, [1, 0, 3, 2]))),
  ];
}
