/** New keys and values into their slots of the KV pool. */

import {
  type Body,
  doWhile,
  type Expr,
  type FunctionRef,
  type FunctionScope,
  increment,
  type Local,
  ModuleBuilder,
  set,
  setI32,
} from "./assembler.ts";
import { KV_BLOCK_SIZE, type KvDtype } from "../kernel_table.ts";
import { i32, i32x4, v128 } from "./instructions.ts";
import { KV_RUN, kvLayout } from "./kv_layout.ts";

/** (k, kStrideBytes, v, vStrideBytes, slots, keys, values, kvHeads, rowCount) */
export type WriteKv = (
  k: number,
  kStrideBytes: number,
  v: number,
  vStrideBytes: number,
  slots: number,
  keys: number,
  values: number,
  kvHeads: number,
  rowCount: number,
) => void;

/** Compiles the writer of one dtype and head size. */
export function compileWriteKv(
  memory: WebAssembly.Memory,
  dtype: KvDtype,
  headDim: number,
): WriteKv {
  const module = new ModuleBuilder();
  const writeKv = defineWriteKv(module, dtype, headDim);
  return module.link(memory).get(writeKv);
}

function defineWriteKv(module: ModuleBuilder, dtype: KvDtype, headDim: number): FunctionRef {
  const layout = kvLayout(dtype, headDim);
  const params = ["i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32"] as const;
  return module.define("writeKv", params, "none", (
    scope,
    k,
    kStride,
    v,
    vStride,
    slots,
    keys,
    values,
    kvHeads,
    rowCount,
  ) => {
    const writer = dtype === "bf16" ? writeBf16(scope) : writeF32(scope);
    const slot = scope.local("i32");
    const offset = scope.local("i32");
    const headsLeft = scope.local("i32");
    const kAt = scope.local("i32");
    const vAt = scope.local("i32");
    const vEnd = scope.local("i32");
    const keyAt = scope.local("i32");
    const valueAt = scope.local("i32");
    const block = i32.mul(i32.shrU(slot, 4), i32.mul(kvHeads, layout.headBytes));
    const panel = i32.mul(i32.shrU(offset, 3), layout.keyPanelBytes);
    const column = i32.and(offset, KV_RUN - 1);
    return [
      writer.setup,
      doWhile(
        rowCount,
        setI32(slot, i32.load(slots)),
        setI32(offset, i32.and(slot, KV_BLOCK_SIZE - 1)),
        setI32(
          keyAt,
          i32.add(i32.add(keys, block), i32.add(panel, writer.columnOffset(column))),
        ),
        setI32(valueAt, i32.add(i32.add(values, block), i32.mul(offset, layout.valueRowBytes))),
        setI32(kAt, k),
        setI32(vAt, v),
        setI32(headsLeft, kvHeads),
        doWhile(
          headsLeft,
          setI32(vEnd, i32.add(vAt, 4 * headDim)),
          doWhile(
            i32.ne(vAt, vEnd),
            writer.writeKeys(keyAt, kAt, layout.runBytes),
            writer.writeRun(valueAt, vAt),
            increment(kAt, 4 * KV_RUN),
            increment(vAt, 4 * KV_RUN),
            increment(keyAt, KV_RUN * layout.runBytes),
            increment(valueAt, layout.runBytes),
          ),
          // The other tokens of this head, in both pools.
          increment(keyAt, layout.headBytes - layout.keyPanelBytes),
          increment(valueAt, layout.headBytes - layout.valueRowBytes),
          increment(headsLeft, -1),
        ),
        increment(k, kStride),
        increment(v, vStride),
        increment(slots, 4),
        increment(rowCount, -1),
      ),
    ];
  });
}

/** How eight floats are stored. */
interface RunWriter {
  readonly setup: Body;
  /** Bytes from a run's start to the element of a column. */
  columnOffset(column: Expr<"i32">): Expr<"i32">;
  /** Eight floats at `source` to target, target + step, …, one each. */
  writeKeys(target: Expr<"i32">, source: Expr<"i32">, step: number): Body;
  /** Eight floats at `source` to one run. */
  writeRun(target: Expr<"i32">, source: Expr<"i32">): Body;
}

function writeF32(scope: FunctionScope): RunWriter {
  const four = scope.local("v128");
  return {
    setup: [],
    columnOffset: (column) => i32.shl(column, 2),
    writeKeys: (target, source, step) =>
      [0, 4].map((start) => [
        set(four, v128.load(source, 4 * start)),
        [0, 1, 2, 3].map((lane) => v128.store32Lane(target, four, lane, (start + lane) * step)),
      ]),
    writeRun: (target, source) => [
      v128.store(target, v128.load(source)),
      v128.store(target, v128.load(source, 16), 16),
    ],
  };
}

/** Rounds to nearest even; a NaN stays one. */
function writeBf16(scope: FunctionScope): RunWriter {
  const low = scope.local("v128");
  const high = scope.local("v128");
  const half = scope.local("v128");
  const one = scope.local("v128");
  const magnitude = scope.local("v128");
  const infinity = scope.local("v128");
  const quiet = scope.local("v128");
  const mask = scope.local("v128");
  /** local = its bfloat16 bits in the upper halves; the lower halves are left over. */
  const round = (local: Local<"v128">): Body => {
    const odd = v128.and(i32x4.shrU(local, 16), one);
    const isNaN = i32x4.gtS(v128.and(local, magnitude), infinity);
    return [
      set(
        local,
        v128.bitselect(
          v128.or(local, quiet),
          i32x4.add(i32x4.add(local, half), odd),
          isNaN,
        ),
      ),
    ];
  };
  return {
    setup: [
      set(half, v128.constI32(0x7fff)),
      set(one, v128.constI32(1)),
      set(magnitude, v128.constI32(0x7fffffff)),
      set(infinity, v128.constI32(0x7f800000)),
      set(quiet, v128.constI32(0x00400000)),
      set(mask, v128.constI32(0xffff0000)),
    ],
    // Halves of four lanes: columns 0-3 are the lower ones, 4-7 the upper ones.
    columnOffset: (column) =>
      i32.add(i32.shl(i32.and(column, 3), 2), i32.shrU(i32.and(column, 4), 1)),
    writeKeys: (target, source, step) =>
      [0, 4].map((start) => [
        set(low, v128.load(source, 4 * start)),
        round(low),
        [0, 1, 2, 3].map((lane) =>
          v128.store16Lane(target, low, 2 * lane + 1, (start + lane) * step)
        ),
      ]),
    writeRun: (target, source) => [
      set(low, v128.load(source)),
      set(high, v128.load(source, 16)),
      round(low),
      round(high),
      v128.store(target, v128.or(i32x4.shrU(low, 16), v128.and(high, mask))),
    ],
  };
}
