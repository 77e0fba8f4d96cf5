/**
 * Attention of rows that see the same keys, several rows at once.
 *
 * Rows of a sequence whose tokens all see each other go through the keys together: a pass takes as
 * heads what are the same head of up to four rows. It finds them one after another in scratch, and
 * leaves its sums there.
 *
 * ```text
 * q rows ─copy─▶ scratch [row][headDim] ─pass─▶ scratch [row][headDim] ─copy─▶ out rows
 * ```
 */

import {
  type Body,
  call,
  doWhile,
  type Expr,
  type FunctionRef,
  increment,
  type Local,
  ModuleBuilder,
  setI32,
  when,
} from "./assembler.ts";
import {
  attentionScratchBytes,
  type AttentionShape,
  defineAttentionPass,
} from "./attention_pass.ts";
import { ATTENTION_ROWS } from "../kernel_table.ts";
import { f32, i32, memoryCopy } from "./instructions.ts";
import { kvLayout } from "./kv_layout.ts";

/** The kernel's parameters, in order; addresses and strides are in bytes. */
export type RowAttentionKernel = (
  q: number,
  qStride: number,
  out: number,
  outStride: number,
  keys: number,
  values: number,
  kvHeads: number,
  positions: number,
  sequences: number,
  blockTables: number,
  blockTableStride: number,
  rowCount: number,
  unitStart: number,
  unitEnd: number,
  unitStep: number,
  scale: number,
  scratch: number,
) => void;

/** Bytes of scratch the kernel uses: the pass's own, its queries and its sums. */
export function rowAttentionScratchBytes(headDim: number): number {
  return attentionScratchBytes(headDim) + 2 * ATTENTION_ROWS * 4 * headDim;
}

/** Compiles the attention of one shape. */
export function compileRowAttention(
  memory: WebAssembly.Memory,
  shape: AttentionShape,
): RowAttentionKernel {
  const module = new ModuleBuilder();
  const passes = Array.from(
    { length: ATTENTION_ROWS },
    (_, i) => defineAttentionPass(module, shape, i + 1),
  );
  const attention = defineRowAttention(module, shape, passes);
  return module.link(memory).get(attention);
}

/** The loop over units, over runs of rows that see the same keys, and over the heads of a unit. */
function defineRowAttention(
  module: ModuleBuilder,
  shape: AttentionShape,
  passes: readonly ReturnType<typeof defineAttentionPass>[],
): FunctionRef {
  const { headDim, group } = shape;
  const layout = kvLayout(shape.dtype, headDim);
  const headBytes = 4 * headDim;
  const queriesAt = attentionScratchBytes(headDim);
  const sumsAt = queriesAt + ATTENTION_ROWS * headBytes;
  const params = [
    ...["i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32"] as const,
    ...["i32", "i32", "i32", "i32", "i32", "i32", "i32", "f32", "i32"] as const,
  ] as const;
  return module.define("attention", params, "none", (
    scope,
    q,
    qStride,
    out,
    outStride,
    keys,
    values,
    kvHeads,
    positions,
    sequences,
    blockTables,
    blockTableStride,
    rowCount,
    unit,
    unitEnd,
    unitStep,
    scale,
    scratch,
  ) => {
    const row = scope.local("i32");
    const rowEnd = scope.local("i32");
    const kvHead = scope.local("i32");
    const last = scope.local("i32");
    const sequence = scope.local("i32");
    const count = scope.local("i32");
    const headOffset = scope.local("i32");
    const headEnd = scope.local("i32");
    const at = (array: Expr<"i32">, index: Expr<"i32">) =>
      i32.load(i32.add(array, i32.shl(index, 2)));
    const next = i32.add(row, count);
    const seesTheSame = i32.and(
      i32.eq(at(sequences, next), sequence),
      i32.eq(at(positions, next), last),
    );
    /** Where head headOffset of the run's i-th row is. */
    const ofRow = (rows: Local<"i32">, stride: Local<"i32">, i: number) =>
      i32.add(i32.add(rows, i32.mul(i32.add(row, i), stride)), headOffset);
    const eachRow = (visit: (i: number) => Body): Body =>
      passes.map((_, i) => i === 0 ? visit(0) : [when(i32.gtS(count, i), visit(i))]);
    const runPass = (pass: typeof passes[number], i: number): Body => [
      when(i32.eq(count, i + 1), [
        call(
          pass,
          i32.add(scratch, queriesAt),
          i32.add(scratch, sumsAt),
          i32.add(blockTables, i32.mul(sequence, blockTableStride)),
          i32.const(0),
          last,
          i32.add(keys, i32.mul(kvHead, layout.headBytes)),
          i32.add(values, i32.mul(kvHead, layout.headBytes)),
          i32.mul(kvHeads, layout.headBytes),
          scale,
          scratch,
          f32.const(0),
          i32.const(0),
        ),
      ]),
    ];
    const attendHead: Body = [
      eachRow((i) => [
        memoryCopy(i32.add(scratch, queriesAt + i * headBytes), ofRow(q, qStride, i), headBytes),
      ]),
      passes.map(runPass),
      eachRow((i) => [
        memoryCopy(ofRow(out, outStride, i), i32.add(scratch, sumsAt + i * headBytes), headBytes),
      ]),
    ];
    return [
      doWhile(
        i32.ltS(unit, unitEnd),
        setI32(row, i32.mul(i32.divU(unit, kvHeads), ATTENTION_ROWS)),
        setI32(kvHead, i32.remU(unit, kvHeads)),
        setI32(rowEnd, i32.add(row, ATTENTION_ROWS)),
        when(i32.gtS(rowEnd, rowCount), [setI32(rowEnd, rowCount)]),
        doWhile(
          i32.ltS(row, rowEnd),
          setI32(last, at(positions, row)),
          setI32(sequence, at(sequences, row)),
          setI32(count, 1),
          // Never looks behind the last row.
          ...passes.slice(1).map((_, i) =>
            when(i32.and(i32.eq(count, i + 1), i32.ltS(next, rowEnd)), [
              when(seesTheSame, [increment(count, 1)]),
            ])
          ),
          setI32(headOffset, i32.mul(kvHead, group * headBytes)),
          setI32(headEnd, i32.add(headOffset, group * headBytes)),
          doWhile(i32.ne(headOffset, headEnd), attendHead, increment(headOffset, headBytes)),
          setI32(row, next),
        ),
        increment(unit, unitStep),
      ),
    ];
  });
}
