/** The instructions on pairs of doubles, and the comparisons that go with them. */

import { type Expr, expression, type Statement, statement } from "./assembler.ts";
import { type Code, signed, unsigned } from "./encoding.ts";

type Vector = Expr<"v128">;

const simd = (opcode: number): Code => [0xfd, unsigned(opcode)];
const binary = (opcode: number) => (a: Vector, b: Vector): Vector =>
  expression("v128", [a.code, b.code, simd(opcode)]);

/** Two double lanes; comparisons give all ones or zero. */
export const f64x2: {
  add(a: Vector, b: Vector): Vector;
  sub(a: Vector, b: Vector): Vector;
  mul(a: Vector, b: Vector): Vector;
  div(a: Vector, b: Vector): Vector;
  abs(a: Vector): Vector;
  ge(a: Vector, b: Vector): Vector;
  /** The two low float lanes as doubles. */
  promoteLow(a: Vector): Vector;
  /** Two doubles as the two low float lanes; the others are zero. */
  demote(a: Vector): Vector;
  /** Two equal lanes. */
  const(value: number): Vector;
  /** Stores the first lane. */
  storeFirst(address: Expr<"i32">, value: Vector, offset: number): Statement;
} = {
  add: binary(0xf0),
  sub: binary(0xf1),
  mul: binary(0xf2),
  div: binary(0xf3),
  abs: (a) => expression("v128", [a.code, simd(0xec)]),
  ge: binary(0x4c),
  promoteLow: (a) => expression("v128", [a.code, simd(0x5f)]),
  demote: (a) => expression("v128", [a.code, simd(0x5e)]),
  const: (value) => {
    const bytes = [...new Uint8Array(Float64Array.of(value).buffer)];
    return expression("v128", [simd(0x0c), [...bytes, ...bytes]]);
  },
  storeFirst: (address, value, offset) =>
    statement([address.code, value.code, simd(0x5b), 3, unsigned(offset), 0]),
};

/** Two 64-bit integer lanes. */
export const i64x2: {
  add(a: Vector, b: Vector): Vector;
  shl(a: Vector, bits: number): Vector;
} = {
  add: binary(0xce),
  shl: (a, bits) => expression("v128", [a.code, 0x41, signed(bits), simd(0xcb)]),
};

/** All ones in each float lane where a ≤ b. */
export const lessOrEqual: (a: Vector, b: Vector) => Vector = binary(0x45);

/** 1 if no 32-bit lane is zero. */
export function allTrue(a: Vector): Expr<"i32"> {
  return expression("i32", [a.code, simd(0xa3)]);
}

/** Comparisons of single floats: 1 or 0. */
export const compareF32: {
  lt(a: Expr<"f32">, b: Expr<"f32">): Expr<"i32">;
  le(a: Expr<"f32">, b: Expr<"f32">): Expr<"i32">;
  ne(a: Expr<"f32">, b: Expr<"f32">): Expr<"i32">;
} = {
  lt: (a, b) => expression("i32", [a.code, b.code, 0x5d]),
  le: (a, b) => expression("i32", [a.code, b.code, 0x5f]),
  ne: (a, b) => expression("i32", [a.code, b.code, 0x5c]),
};
