/** The WebAssembly instructions the kernels use, as typed functions on expressions. */

import {
  type Expr,
  expression,
  type I32,
  operand,
  type Statement,
  statement,
  type ValueType,
} from "./assembler.ts";
import { type Code, float32, int32, unsigned } from "./encoding.ts";

type Vector = Expr<"v128">;
type Unary<T extends ValueType> = (a: Expr<T>) => Expr<T>;
type Binary<T extends ValueType> = (a: Expr<T>, b: Expr<T>) => Expr<T>;
type I32Binary = (a: I32, b: I32) => Expr<"i32">;
type Shift = (a: Vector, bits: number) => Vector;
/** Reads at address + offset; the offset is part of the instruction and costs nothing to add. */
type Load<T extends ValueType> = (address: Expr<"i32">, offset?: number) => Expr<T>;
type Store<T extends ValueType> = (
  address: Expr<"i32">,
  value: Expr<T>,
  offset?: number,
) => Statement;
type LaneStore = (address: Expr<"i32">, value: Vector, lane: number, offset?: number) => Statement;
/** Named instructions of one shape. */
type Group<Names extends string, Shape> = Readonly<Record<Names, Shape>>;

const simd = (opcode: number): Code => [0xfd, unsigned(opcode)];

const unary = <T extends ValueType>(type: T, opcode: Code): Unary<T> => (a) =>
  expression(type, [a.code, opcode]);
const binary = <T extends ValueType>(type: T, opcode: Code): Binary<T> => (a, b) =>
  expression(type, [a.code, b.code, opcode]);
const i32Binary = (opcode: number): I32Binary => (a, b) =>
  expression("i32", [operand(a), operand(b), opcode]);

const vectorUnary = (opcode: number): Unary<"v128"> => unary("v128", simd(opcode));
const vectorBinary = (opcode: number): Binary<"v128"> => binary("v128", simd(opcode));
const vectorTernary = (opcode: number) => (a: Vector, b: Vector, c: Vector): Vector =>
  expression("v128", [a.code, b.code, c.code, simd(opcode)]);
const shift = (opcode: number): Shift => (a, bits) =>
  expression("v128", [a.code, operand(bits), simd(opcode)]);

// A memory operand is the logarithm of its natural alignment (a hint), then the offset.
const load =
  <T extends ValueType>(type: T, opcode: Code, alignment: number): Load<T> =>
  (address, offset = 0) => expression(type, [address.code, opcode, alignment, unsigned(offset)]);
const laneStore =
  (opcode: number, alignment: number): LaneStore => (address, value, lane, offset = 0) =>
    statement([address.code, value.code, simd(opcode), alignment, unsigned(offset), lane]);
const store =
  <T extends ValueType>(opcode: Code, alignment: number): Store<T> =>
  (address, value, offset = 0) =>
    statement([address.code, value.code, opcode, alignment, unsigned(offset)]);

/** 32-bit integers; comparisons give 1 or 0. */
export const i32:
  & Group<
    "add" | "sub" | "mul" | "divU" | "remU" | "and" | "or" | "shl" | "shrS" | "shrU",
    I32Binary
  >
  & Group<"eq" | "ne" | "ltS" | "ltU" | "gtS" | "leS" | "geU", I32Binary>
  & {
    load: Load<"i32">;
    store: Store<"i32">;
    const(value: number): Expr<"i32">;
    reinterpret(a: Expr<"f32">): Expr<"i32">;
  } = {
    const: (value) => expression("i32", operand(value)),
    add: i32Binary(0x6a),
    sub: i32Binary(0x6b),
    mul: i32Binary(0x6c),
    divU: i32Binary(0x6e),
    remU: i32Binary(0x70),
    and: i32Binary(0x71),
    or: i32Binary(0x72),
    shl: i32Binary(0x74),
    shrS: i32Binary(0x75),
    shrU: i32Binary(0x76),
    eq: i32Binary(0x46),
    ne: i32Binary(0x47),
    ltS: i32Binary(0x48),
    ltU: i32Binary(0x49),
    gtS: i32Binary(0x4a),
    leS: i32Binary(0x4c),
    geU: i32Binary(0x4f),
    load: load("i32", [0x28], 2),
    store: store([0x36], 2),
    reinterpret: (a) => expression("i32", [a.code, 0xbc]),
  };

/** Single floats. */
export const f32:
  & Group<"add" | "sub" | "mul" | "div", Binary<"f32">>
  & {
    const(value: number): Expr<"f32">;
    sqrt: Unary<"f32">;
    load: Load<"f32">;
    store: Store<"f32">;
  } = {
    const: (value) => expression("f32", [0x43, float32(value)]),
    add: binary("f32", [0x92]),
    sub: binary("f32", [0x93]),
    mul: binary("f32", [0x94]),
    div: binary("f32", [0x95]),
    sqrt: unary("f32", [0x91]),
    load: load("f32", [0x2a], 2),
    store: store([0x38], 2),
  };

/** Vectors of 128 bits, whatever their lanes. */
export const v128:
  & Group<
    "load" | "load32Splat" | "load32Zero",
    Load<"v128">
  >
  & Group<"and" | "or" | "xor", Binary<"v128">>
  & Group<"store16Lane" | "store32Lane", LaneStore>
  & {
    zero: Vector;
    store: Store<"v128">;
    /** a and not b. */
    andNot: Binary<"v128">;
    /** 1 if any bit is set. */
    anyTrue(a: Vector): Expr<"i32">;
    /** Bits of `a` where the mask is 1, of `b` where it is 0. */
    bitselect(a: Vector, b: Vector, mask: Vector): Vector;
    /** Four equal 32-bit lanes. */
    constI32(value: number): Vector;
    constF32(value: number): Vector;
    /** Four 32-bit lanes, lowest first. */
    constLanes(lanes: readonly [number, number, number, number]): Vector;
    constBytes(bytes: readonly number[]): Vector;
  } = {
    zero: expression("v128", [simd(0x0c), Array(16).fill(0)]),
    load: load("v128", simd(0x00), 4),
    load32Splat: load("v128", simd(0x09), 2),
    load32Zero: load("v128", simd(0x5c), 2),
    store: store(simd(0x0b), 4),
    store16Lane: laneStore(0x59, 1),
    store32Lane: laneStore(0x5a, 2),
    and: vectorBinary(0x4e),
    andNot: vectorBinary(0x4f),
    or: vectorBinary(0x50),
    xor: vectorBinary(0x51),
    anyTrue: (a) => expression("i32", [a.code, simd(0x53)]),
    bitselect: vectorTernary(0x52),
    constI32: (value) => v128.constLanes([value, value, value, value]),
    constF32: (value) => {
      const bytes = float32(value);
      return v128.constBytes([...bytes, ...bytes, ...bytes, ...bytes]);
    },
    constLanes: (lanes) => v128.constBytes(lanes.flatMap(int32)),
    constBytes: (bytes) => expression("v128", [simd(0x0c), bytes]),
  };

/** Sixteen 8-bit lanes. */
export const i8x16: {
  /** Byte i of the result is byte indices[i] of a (0–15) or b (16–31). */
  shuffle(a: Vector, b: Vector, indices: readonly number[]): Vector;
  /** Byte i is a[indices[i]], or 0 where the index is 128 or more; indices 16–127 are not used. */
  relaxedSwizzle: Binary<"v128">;
  add: Binary<"v128">;
  /** All ones where bytes are equal, else 0. */
  eq: Binary<"v128">;
  /** The 16-bit lanes of a, then of b, cut to −128…127. */
  narrowI16x8S: Binary<"v128">;
} = {
  shuffle: (a, b, indices) => expression("v128", [a.code, b.code, simd(0x0d), indices]),
  relaxedSwizzle: vectorBinary(0x100),
  add: vectorBinary(0x6e),
  eq: vectorBinary(0x23),
  narrowI16x8S: vectorBinary(0x65),
};

/** Eight 16-bit lanes. */
export const i16x8:
  & Group<"add" | "maxU" | "gtU" | "narrowI32x4S", Binary<"v128">>
  & Group<"shl" | "shrS", Shift>
  & {
    /**
     * Sums of two neighbours among the products of signed bytes of a and bytes of b that are
     * 0…127; what other bytes of b give is up to the implementation.
     */
    relaxedDot: Binary<"v128">;
  } = {
    shl: shift(0x8b),
    shrS: shift(0x8c),
    add: vectorBinary(0x8e),
    maxU: vectorBinary(0x99),
    gtU: vectorBinary(0x32),
    narrowI32x4S: vectorBinary(0x85),
    relaxedDot: vectorBinary(0x112),
  };

/** Four 32-bit integer lanes; comparisons give all ones or zero. */
export const i32x4:
  & Group<"add" | "sub" | "eq" | "ltS" | "gtS" | "gtU" | "maxU", Binary<"v128">>
  & Group<"shl" | "shrS" | "shrU", Shift>
  & {
    /** Of eight products of signed 16-bit lanes the sums of neighbours. */
    dotI16x8S: Binary<"v128">;
    /**
     * c + the sums of four neighbours among the products of signed bytes of a and bytes of b that
     * are 0…127; what other bytes of b give is up to the implementation.
     */
    relaxedDotAdd(a: Vector, b: Vector, c: Vector): Vector;
    /** Floats to integers, towards zero; what does not fit is up to the implementation. */
    relaxedTruncF32x4S: Unary<"v128">;
    splat(a: I32): Vector;
    extractLane(a: Vector, lane: number): Expr<"i32">;
  } = {
    add: vectorBinary(0xae),
    sub: vectorBinary(0xb1),
    eq: vectorBinary(0x37),
    ltS: vectorBinary(0x39),
    gtS: vectorBinary(0x3b),
    gtU: vectorBinary(0x3c),
    maxU: vectorBinary(0xb9),
    dotI16x8S: vectorBinary(0xba),
    relaxedDotAdd: vectorTernary(0x113),
    relaxedTruncF32x4S: vectorUnary(0x101),
    shl: shift(0xab),
    shrS: shift(0xac),
    shrU: shift(0xad),
    splat: (a) => expression("v128", [operand(a), simd(0x11)]),
    extractLane: (a, lane) => expression("i32", [a.code, simd(0x1b), lane]),
  };

/** Four float lanes; comparisons give all ones or zero. */
export const f32x4:
  & Group<"add" | "sub" | "mul" | "div" | "pmin" | "pmax" | "lt" | "eq" | "ne", Binary<"v128">>
  & Group<"sqrt" | "neg" | "nearest" | "convertI32x4S", Unary<"v128">>
  & {
    splat(a: Expr<"f32">): Vector;
    extractLane(a: Vector, lane: number): Expr<"f32">;
    /** a · b + c, rounded once where the CPU fuses (`self_check.ts` tells), else twice. */
    relaxedMadd(a: Vector, b: Vector, c: Vector): Vector;
  } = {
    add: vectorBinary(0xe4),
    sub: vectorBinary(0xe5),
    mul: vectorBinary(0xe6),
    div: vectorBinary(0xe7),
    pmin: vectorBinary(0xea),
    pmax: vectorBinary(0xeb),
    lt: vectorBinary(0x43),
    eq: vectorBinary(0x41),
    ne: vectorBinary(0x42),
    sqrt: vectorUnary(0xe3),
    neg: vectorUnary(0xe1),
    nearest: vectorUnary(0x6a),
    convertI32x4S: vectorUnary(0xfa),
    splat: (a) => expression("v128", [a.code, simd(0x13)]),
    extractLane: (a, lane) => expression("f32", [a.code, simd(0x1f), lane]),
    relaxedMadd: vectorTernary(0x105),
  };

/** Copies `sizeBytes` bytes; the areas may overlap. */
export function memoryCopy(target: I32, source: I32, sizeBytes: I32): Statement {
  return statement([operand(target), operand(source), operand(sizeBytes), 0xfc, 0x0a, 0, 0]);
}
