/** Partial summaries of rows: the largest values of a run of columns, and sums of exponentials. */

import {
  CHUNK_COLUMNS,
  POWER_POLYNOMIAL,
  POWER_ROUNDER,
  POWER_SMALLEST,
  SUMMARY_NEED,
  SUMMARY_TOP_COUNT,
} from "../../base/row_summary.ts";
import { SUMMARY_PART } from "../kernel_table.ts";
import {
  block,
  type Body,
  branchIf,
  call,
  doWhile,
  type Expr,
  type FunctionRef,
  type FunctionScope,
  increment,
  type Local,
  ModuleBuilder,
  set,
  setI32,
  when,
  whileTrue,
} from "./assembler.ts";
import { allTrue, compareF32, f64x2, i64x2, lessOrEqual } from "./double_instructions.ts";
import { f32, f32x4, i32, i32x4, v128 } from "./instructions.ts";
import { maxLanes, permute } from "./lanes.ts";

/** (x, xStrideBytes, rowCount, columnStart, columnEnd, needs, out, outStrideBytes) */
export type SummarizeRows = (
  x: number,
  xStrideBytes: number,
  rowCount: number,
  columnStart: number,
  columnEnd: number,
  needs: number,
  out: number,
  outStrideBytes: number,
) => void;

const TOP_COUNT = 4 * SUMMARY_PART.topCount;
const HAS_NAN = 4 * SUMMARY_PART.hasNaN;
const LOGITS = 4 * SUMMARY_PART.topLogits;
const IDS = 4 * SUMMARY_PART.topIds;
const UNIT_SUMS = 4 * SUMMARY_PART.unitSums;
const SCALED_SUMS = 4 * SUMMARY_PART.scaledSums;
const LAST = 4 * (SUMMARY_TOP_COUNT - 1);

/** Columns that are compared with the smallest value of the list at once. */
const STRIDE = 16;

type Params = readonly ["i32", "i32", "i32", "i32"];

/** Compiles the kernel; no shape is baked in. */
export function compileSummarizeRows(memory: WebAssembly.Memory): SummarizeRows {
  const module = new ModuleBuilder();
  const insert = defineInsert(module);
  const top = defineTop(module, insert);
  const sums = defineSums(module, "one");
  const bothSums = defineSums(module, "both");
  const params = ["i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32"] as const;
  const summarize = module.define("summarizeRows", params, "none", (
    scope,
    x,
    xStride,
    rowCount,
    columnStart,
    columnEnd,
    needs,
    out,
    outStride,
  ) => {
    const need = scope.local("i32");
    return [
      doWhile(
        rowCount,
        set(need, i32.load(needs)),
        when(i32.ne(need, SUMMARY_NEED.nothing), [
          i32.store(out, i32.const(0), TOP_COUNT),
          i32.store(out, i32.const(0), HAS_NAN),
          call(top, x, columnStart, columnEnd, out),
        ]),
        when(i32.eq(need, SUMMARY_NEED.logprobs), [
          call(sums, x, columnStart, columnEnd, i32.add(out, UNIT_SUMS), f32.const(1)),
        ]),
        // `drawNeed`: its bits are the scale, and its sign asks for the scale 1 as well.
        when(i32.gtS(need, SUMMARY_NEED.logprobs), [
          call(sums, x, columnStart, columnEnd, i32.add(out, SCALED_SUMS), f32.load(needs)),
        ]),
        when(i32.ltS(need, 0), [
          call(bothSums, x, columnStart, columnEnd, i32.add(out, UNIT_SUMS), f32.load(needs)),
        ]),
        increment(x, xStride),
        increment(needs, 4),
        increment(out, outStride),
        increment(rowCount, -1),
      ),
    ];
  });
  return module.link(memory).get(summarize);
}

/**
 * (out, value, column): puts a value into the list before all smaller ones and behind all others,
 * so that of equal values the one that came first stays first. A full list loses its last.
 */
function defineInsert(module: ModuleBuilder): FunctionRef<readonly ["i32", "f32", "i32"], "none"> {
  return module.define("insert", ["i32", "f32", "i32"], "none", (scope, out, value, column) => {
    const at = scope.local("i32");
    const count = scope.local("i32");
    return [
      set(count, i32.load(out, TOP_COUNT)),
      set(at, i32.add(out, LAST)),
      when(i32.ltS(count, SUMMARY_TOP_COUNT), [
        set(at, i32.add(out, i32.shl(count, 2))),
        i32.store(out, i32.add(count, 1), TOP_COUNT),
      ]),
      // `at` is where the value would go: one place forward as long as what is before it is smaller.
      block(
        doWhile(
          i32.const(1),
          branchIf(1, i32.eq(at, out)),
          branchIf(1, compareF32.le(value, f32.load(i32.sub(at, 4), LOGITS))),
          f32.store(at, f32.load(i32.sub(at, 4), LOGITS), LOGITS),
          i32.store(at, i32.load(i32.sub(at, 4), IDS), IDS),
          increment(at, -4),
        ),
      ),
      f32.store(at, value, LOGITS),
      i32.store(at, column, IDS),
    ];
  });
}

/** (row, columnStart, columnEnd, out): fills the list, and notes whether NaN was met. */
function defineTop(
  module: ModuleBuilder,
  insert: FunctionRef<readonly ["i32", "f32", "i32"], "none">,
): FunctionRef<Params, "none"> {
  const params = ["i32", "i32", "i32", "i32"] as const;
  return module.define("top", params, "none", (scope, row, column, columnEnd, out) => {
    const xAt = scope.local("i32");
    const strideEnd = scope.local("i32");
    const slowEnd = scope.local("i32");
    const value = scope.local("f32");
    const smallest = scope.local("f32");
    const smallests = scope.local("v128");
    // A value stands out unless it is at most the smallest of the list; NaN always does.
    const isSmall = (offset: number) => lessOrEqual(v128.load(xAt, offset), smallests);
    const noneStandsOut = allTrue(
      v128.and(v128.and(isSmall(0), isSmall(16)), v128.and(isSmall(32), isSmall(48))),
    );
    const lookAt = (end: Expr<"i32">): Body => [
      whileTrue(
        i32.ne(column, end),
        set(value, f32.load(xAt)),
        when(compareF32.ne(value, value), [i32.store(out, i32.const(1), HAS_NAN)]),
        when(compareF32.lt(smallest, value), [
          call(insert, out, value, column),
          when(i32.eq(i32.load(out, TOP_COUNT), SUMMARY_TOP_COUNT), [
            set(smallest, f32.load(out, LOGITS + LAST)),
          ]),
        ]),
        increment(xAt, 4),
        increment(column, 1),
      ),
      set(smallests, f32x4.splat(smallest)),
    ];
    return [
      set(smallest, f32.const(-Infinity)),
      set(smallests, f32x4.splat(smallest)),
      setI32(xAt, i32.add(row, i32.shl(column, 2))),
      setI32(strideEnd, i32.sub(columnEnd, i32.remU(i32.sub(columnEnd, column), STRIDE))),
      whileTrue(
        i32.ne(column, strideEnd),
        when(noneStandsOut, [
          increment(xAt, 4 * STRIDE),
          increment(column, STRIDE),
        ], [
          setI32(slowEnd, i32.add(column, STRIDE)),
          lookAt(slowEnd),
        ]),
      ),
      lookAt(columnEnd),
    ];
  });
}

/**
 * (row, columnStart, columnEnd, out, ±scale): maximum and sum of each chunk, in the order of
 * `chunkSum`; `out` is where chunk 0 would go. With "both", those at the scale 1 go there, and those
 * at the other scale to their place behind it.
 */
function defineSums(
  module: ModuleBuilder,
  kind: "one" | "both",
): FunctionRef<readonly ["i32", "i32", "i32", "i32", "f32"], "none"> {
  const params = ["i32", "i32", "i32", "i32", "f32"] as const;
  return module.define(
    `${kind}Sums`,
    params,
    "none",
    (scope, row, column, columnEnd, out, signed) => {
      const chunkEnd = scope.local("i32");
      const xAt = scope.local("i32");
      const xEnd = scope.local("i32");
      const restMask = scope.local("v128");
      const chunk = scope.local("i32");
      const values = scope.local("v128");
      const max = scope.local("v128");
      const maxDouble = scope.local("v128");
      const rate = scope.local("v128");
      const unitRate = scope.local("v128");
      const difference = scope.local("v128");
      const groups = (kind === "one" ? [rate] : [unitRate, rate]).map((rate) => {
        const [low, high] = scope.locals("v128", 2) as [Local<"v128">, Local<"v128">];
        return { rate, low, high };
      });
      const power = new DoublePower(scope);

      /** Runs over the chunk's columns four by four; what is beyond its end reads as −Infinity. */
      const overChunk = (each: Body): Body => [
        setI32(xAt, i32.add(row, i32.shl(column, 2))),
        setI32(xEnd, i32.add(xAt, i32.shl(i32.and(i32.sub(chunkEnd, column), -4), 2))),
        whileTrue(
          i32.ne(xAt, xEnd),
          set(values, v128.load(xAt)),
          each,
          increment(xAt, 16),
        ),
        when(i32.and(chunkEnd, 3), [
          set(values, v128.bitselect(v128.load(xAt), v128.constF32(-Infinity), restMask)),
          each,
        ]),
      ];
      const addPowers = (side: "low" | "high", two: Expr<"v128">): Body => [
        set(difference, f64x2.sub(f64x2.promoteLow(two), maxDouble)),
        groups.map((group) => [
          power.apply(f64x2.mul(difference, group.rate)),
          set(group[side], f64x2.add(group[side], power.result)),
        ]),
      ];
      return [
        power.setup,
        set(rate, v128.and(f32x4.splat(signed), v128.constI32(0x7fffffff))),
        set(unitRate, f64x2.const(Math.LOG2E)),
        set(rate, f64x2.mul(f64x2.promoteLow(rate), unitRate)),
        setI32(
          chunk,
          i32.add(out, i32.mul(i32.divU(column, CHUNK_COLUMNS), 4 * SUMMARY_PART.chunkWords)),
        ),
        whileTrue(
          i32.ltS(column, columnEnd),
          setI32(chunkEnd, i32.add(column, CHUNK_COLUMNS)),
          when(i32.gtS(chunkEnd, columnEnd), [setI32(chunkEnd, columnEnd)]),
          set(
            restMask,
            i32x4.gtS(i32x4.splat(i32.and(chunkEnd, 3)), v128.constLanes([0, 1, 2, 3])),
          ),
          set(max, v128.constF32(-Infinity)),
          overChunk([set(max, f32x4.pmax(max, values))]),
          maxLanes(max),
          set(maxDouble, f64x2.promoteLow(max)),
          groups.map(({ low, high }) => [set(low, v128.zero), set(high, v128.zero)]),
          overChunk([
            addPowers("low", values),
            addPowers("high", permute(values, values, [2, 3, 2, 3])),
          ]),
          groups.map(({ low, high }, i) => [
            set(low, f64x2.add(low, high)),
            set(low, f64x2.add(low, permute(low, low, [2, 3, 0, 1]))),
            f64x2.storeFirst(chunk, low, i * (SCALED_SUMS - UNIT_SUMS)),
            v128.store32Lane(chunk, max, 0, i * (SCALED_SUMS - UNIT_SUMS) + 8),
          ]),
          increment(chunk, 4 * SUMMARY_PART.chunkWords),
          setI32(column, chunkEnd),
        ),
      ];
    },
  );
}

/** Emits 2^x of two doubles, x ≤ 0, step by step as `powerOfTwo` of `base/row_summary.ts`. */
class DoublePower {
  /** Constants into locals, once a function: in a loop each would be put together every time. */
  readonly setup: Body;
  /** Where the result is. */
  readonly result: Local<"v128">;
  readonly #x: Local<"v128">;
  readonly #shifted: Local<"v128">;
  readonly #rounder: Local<"v128">;
  readonly #smallest: Local<"v128">;
  readonly #coefficients: readonly Local<"v128">[];

  constructor(scope: FunctionScope) {
    this.result = scope.local("v128");
    this.#x = scope.local("v128");
    this.#shifted = scope.local("v128");
    this.#rounder = scope.local("v128");
    this.#smallest = scope.local("v128");
    this.#coefficients = scope.locals("v128", POWER_POLYNOMIAL.length);
    this.setup = [
      set(this.#rounder, f64x2.const(POWER_ROUNDER)),
      set(this.#smallest, f64x2.const(POWER_SMALLEST)),
      this.#coefficients.map((local, i) => set(local, f64x2.const(POWER_POLYNOMIAL[i]!))),
    ];
  }

  apply(x: Expr<"v128">): Body {
    const argument = this.#x;
    const shifted = this.#shifted;
    const power = this.result;
    return [
      set(argument, x),
      set(shifted, f64x2.add(argument, this.#rounder)),
      // The exponent's bits, or none of them, before the argument makes room for its rest.
      set(power, f64x2.ge(argument, this.#smallest)),
      set(argument, f64x2.sub(argument, f64x2.sub(shifted, this.#rounder))),
      set(shifted, i64x2.shl(shifted, 52)),
      set(power, v128.and(power, i64x2.add(this.#polynomial(argument), shifted))),
    ];
  }

  #polynomial(rest: Local<"v128">): Expr<"v128"> {
    return this.#coefficients.slice(1).reduce<Expr<"v128">>(
      (sum, coefficient) => f64x2.add(f64x2.mul(sum, rest), coefficient),
      this.#coefficients[0]!,
    );
  }
}
