/** Causal attention over paged keys and values: which rows, heads and positions a call computes. */

import {
  type Body,
  call,
  doWhile,
  type Expr,
  type FunctionRef,
  increment,
  ModuleBuilder,
  setI32,
  when,
} from "./assembler.ts";
import { type AttentionShape, defineAttentionPass, PASS_HEADS_MAX } from "./attention_pass.ts";
import { i32 } from "./instructions.ts";
import { kvLayout } from "./kv_layout.ts";

/** The kernel's parameters, in order; addresses and strides are in bytes. */
export type AttentionKernel = (
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
  window: number,
  unitStart: number,
  unitEnd: number,
  unitStep: number,
  scale: number,
  scratch: number,
  softcap: number,
  sinks: number,
) => void;

/** Compiles the attention of one shape. */
export function compileAttention(
  memory: WebAssembly.Memory,
  shape: AttentionShape,
): AttentionKernel {
  const module = new ModuleBuilder();
  const attention = defineAttention(module, shape);
  return module.link(memory).get(attention);
}

/** As few passes as possible, of nearly equal size: 7 heads are 4 + 3. */
function planPasses(group: number): number[] {
  const count = Math.ceil(group / PASS_HEADS_MAX);
  return Array.from(
    { length: count },
    (_, i) => Math.floor(group * (i + 1) / count) - Math.floor(group * i / count),
  );
}

/** The loop over units; for each, one pass after another. */
function defineAttention(module: ModuleBuilder, shape: AttentionShape): FunctionRef {
  const { headDim, group } = shape;
  const layout = kvLayout(shape.dtype, headDim);
  const passes = planPasses(group);
  const functions = new Map<number, ReturnType<typeof defineAttentionPass>>();
  for (const heads of passes) {
    if (!functions.has(heads)) functions.set(heads, defineAttentionPass(module, shape, heads));
  }
  const params = [
    ...["i32", "i32", "i32", "i32", "i32", "i32", "i32", "i32"] as const,
    ...["i32", "i32", "i32", "i32", "i32", "i32", "i32", "f32", "i32"] as const,
    ...["f32", "i32"] as const,
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
    window,
    unit,
    unitEnd,
    unitStep,
    scale,
    scratch,
    softcap,
    sinks,
  ) => {
    const row = scope.local("i32");
    const kvHead = scope.local("i32");
    const first = scope.local("i32");
    const last = scope.local("i32");
    const table = scope.local("i32");
    const headOffset = scope.local("i32");
    const ofRow = (array: Expr<"i32">) => i32.load(i32.add(array, i32.shl(row, 2)));
    const runPass = (heads: number, i: number): Body => {
      const before = passes.slice(0, i).reduce((sum, count) => sum + count, 0);
      const at = i32.add(headOffset, 4 * headDim * before);
      return [
        call(
          functions.get(heads)!,
          i32.add(i32.add(q, i32.mul(row, qStride)), at),
          i32.add(i32.add(out, i32.mul(row, outStride)), at),
          table,
          first,
          last,
          i32.add(keys, i32.mul(kvHead, layout.headBytes)),
          i32.add(values, i32.mul(kvHead, layout.headBytes)),
          i32.mul(kvHeads, layout.headBytes),
          scale,
          scratch,
          softcap,
          i32.add(i32.add(sinks, i32.mul(kvHead, 4 * group)), 4 * before),
        ),
      ];
    };
    return [
      doWhile(
        i32.ltS(unit, unitEnd),
        setI32(row, i32.divU(unit, kvHeads)),
        setI32(kvHead, i32.remU(unit, kvHeads)),
        setI32(last, ofRow(positions)),
        setI32(first, i32.add(i32.sub(last, window), 1)),
        when(i32.or(i32.eq(window, 0), i32.ltS(first, 0)), [setI32(first, 0)]),
        setI32(table, i32.add(blockTables, i32.mul(ofRow(sequences), blockTableStride))),
        setI32(headOffset, i32.mul(kvHead, 4 * headDim * group)),
        passes.map(runPass),
        increment(unit, unitStep),
      ),
    ];
  });
}
