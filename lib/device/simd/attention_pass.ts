/**
 * One pass of attention: up to four query heads that share one KV head, for one row, by online
 * softmax.
 *
 * Each key and value that is loaded serves all heads of the pass. It goes through the row's visible
 * keys in tiles of one KV block:
 *
 * ```text
 * scores    scale · (q · key), one chain over d a score, capped if asked; −∞ where the key is not visible
 * softmax   the new maximum, e^(score − maximum), and by how much what was summed before shrinks
 * values    out = out · shrink + Σ weight · value, in ascending order of the visible keys
 * ```
 *
 * A head never sees its neighbours: its lanes go through the same operations in every pass, so its
 * bits do not depend on how heads are grouped. Slots that are not visible may hold anything: their
 * scores are masked, and their values are not read.
 */

import {
  type Body,
  doWhile,
  type Expr,
  type FunctionRef,
  type FunctionScope,
  increment,
  type Local,
  type ModuleBuilder,
  set,
  setI32,
  type Statement,
  when,
} from "./assembler.ts";
import { KV_BLOCK_SIZE, type KvDtype } from "../kernel_table.ts";
import { createEightLoader, type EightLoader } from "./eight_loader.ts";
import { Exponential } from "./exponential.ts";
import { f32x4, i32, i32x4, v128 } from "./instructions.ts";
import { KV_RUN, type KvLayout, kvLayout } from "./kv_layout.ts";
import { maxLanes, splatLane, sumLanes, transpose } from "./lanes.ts";
import { Softcap } from "./tanh.ts";

/** What an attention kernel is compiled for. */
export interface AttentionShape {
  readonly dtype: KvDtype;
  readonly headDim: number;
  /** Query heads that share one KV head. */
  readonly group: number;
  /** Whether scores are capped softly. */
  readonly isCapped: boolean;
  /** Whether each head begins with a score that has no value. */
  readonly hasSinks: boolean;
}

/** Query heads of one pass: two accumulators each, and eight are what fits beside the rest. */
export const PASS_HEADS_MAX = 4;

/** Bytes of scratch an attention kernel uses. */
export function attentionScratchBytes(headDim: number): number {
  return scratchOffsets(headDim).size;
}

/** A pass keeps in scratch: queries [headDim][4], scores [4][16], weights [16][4], shrink [4][4]. */
function scratchOffsets(headDim: number) {
  const scores = 16 * headDim;
  const weights = scores + 4 * KV_BLOCK_SIZE * PASS_HEADS_MAX;
  const shrink = weights + 16 * KV_BLOCK_SIZE;
  return { queries: 0, scores, weights, shrink, size: shrink + 16 * PASS_HEADS_MAX };
}

type PassParams = readonly [
  ...["i32", "i32", "i32", "i32", "i32"],
  ...["i32", "i32", "i32", "f32", "i32"],
  ...["f32", "i32"],
];
const PASS_PARAMS: PassParams = [
  ...["i32", "i32", "i32", "i32", "i32"] as const,
  ...["i32", "i32", "i32", "f32", "i32"] as const,
  ...["f32", "i32"] as const,
];

/**
 * (q, out, table, first, last, keys, values, blockBytes, scale, scratch, softcap, sinks): `heads`
 * heads of one row over the keys at positions first … last. keys and values point at the KV head in
 * block 0, sinks at the score of the first head. What the shape has no use for is not looked at.
 */
export function defineAttentionPass(
  module: ModuleBuilder,
  shape: AttentionShape,
  heads: number,
): FunctionRef<PassParams, "none"> {
  const layout = kvLayout(shape.dtype, shape.headDim);
  return module.define(`pass${heads}`, PASS_PARAMS, "none", (
    scope,
    q,
    out,
    table,
    first,
    last,
    keys,
    values,
    blockBytes,
    scale,
    scratch,
    softcap,
    sinks,
  ) => {
    const context: PassContext = {
      scope,
      heads,
      headDim: shape.headDim,
      layout,
      loader: createEightLoader(shape.dtype, scope),
      offsets: scratchOffsets(shape.headDim),
      scratch,
      first,
      last,
      tile: scope.local("i32"),
      softcap: shape.isCapped ? new Softcap(scope, softcap) : undefined,
      maxima: scope.locals("v128", heads),
      totals: scope.locals("v128", heads),
    };
    const { tile, loader, maxima, totals } = context;
    const block = scope.local("i32");
    const scores = emitScores(context, i32.add(keys, block), scale);
    const softmax = emitSoftmax(context);
    const weighted = emitValues(context, i32.add(values, block), out);
    const divide = emitDivide(context, out);
    return [
      loader.setup,
      softmax.setup,
      context.softcap?.setup ?? [],
      emitPackQueries(context, q),
      emitClear(context, out),
      maxima.map((maximum, head) =>
        set(
          maximum,
          shape.hasSinks ? v128.load32Splat(sinks, 4 * head) : v128.constF32(-Infinity),
        )
      ),
      totals.map((total) => set(total, shape.hasSinks ? v128.constF32(1) : v128.zero)),
      setI32(tile, i32.and(first, -KV_BLOCK_SIZE)),
      doWhile(
        i32.leS(tile, last),
        setI32(
          block,
          i32.mul(i32.load(i32.add(table, i32.shl(i32.shrU(tile, 4), 2))), blockBytes),
        ),
        scores,
        softmax.body,
        weighted,
        increment(tile, KV_BLOCK_SIZE),
      ),
      divide,
    ];
  });
}

/** What the parts of a pass share. */
interface PassContext {
  readonly scope: FunctionScope;
  readonly heads: number;
  readonly headDim: number;
  readonly layout: KvLayout;
  readonly loader: EightLoader;
  readonly offsets: ReturnType<typeof scratchOffsets>;
  readonly scratch: Local<"i32">;
  readonly softcap: Softcap | undefined;
  /** The visible positions, both included. */
  readonly first: Local<"i32">;
  readonly last: Local<"i32">;
  /** Position of the tile's first key. */
  readonly tile: Local<"i32">;
  /** Of each head, in all four lanes: the largest score and the sum of the weights so far. */
  readonly maxima: readonly Local<"v128">[];
  readonly totals: readonly Local<"v128">[];
}

/** Queries [heads][headDim] to scratch as [headDim][4]: one load gives a d of all heads. */
function emitPackQueries({ scope, heads, headDim, scratch }: PassContext, q: Local<"i32">): Body {
  const rows = scope.locals("v128", 4);
  const spare = scope.locals("v128", 4);
  const end = scope.local("i32");
  const target = scope.local("i32");
  // Lanes without a head repeat the first one: they are computed with and never looked at.
  const load = (row: number) => v128.load(q, 4 * headDim * (row < heads ? row : 0));
  return [
    setI32(target, scratch),
    setI32(end, i32.add(scratch, 16 * headDim)),
    doWhile(
      i32.ne(target, end),
      rows.map((row, i) => set(row, load(i))),
      transpose(rows, spare),
      rows.map((row, i) => v128.store(target, row, 16 * i)),
      increment(q, 16),
      increment(target, 64),
    ),
  ];
}

function emitClear({ scope, heads, headDim }: PassContext, out: Local<"i32">): Body {
  const at = scope.local("i32");
  const end = scope.local("i32");
  return [
    setI32(at, out),
    setI32(end, i32.add(out, 4 * headDim * heads)),
    doWhile(
      i32.ne(at, end),
      v128.store(at, v128.zero),
      v128.store(at, v128.zero, 16),
      increment(at, 32),
    ),
  ];
}

/** Scores of the tile to scratch, [head][16]. `keys` is the address of the block's keys. */
function emitScores(context: PassContext, keys: Expr<"i32">, scale: Local<"f32">): Body {
  const { scope, heads, layout, tile, last, scratch, offsets, softcap } = context;
  // One or two heads leave room for both panels at once, and need that many chains side by side.
  const panels = heads <= 2 ? 2 : 1;
  const sums = scope.locals("v128", 2 * heads * panels);
  const keyAt = scope.local("i32");
  const scales = scope.local("v128");
  const invisible = scope.local("v128");
  const multiply = emitPanelProducts(context, sums, panels, keyAt);
  const store = (half: number): Body => {
    // Lanes are positions relative to the first visible one, as unsigned numbers.
    const position = i32.add(i32.sub(tile, context.first), 4 * half);
    const visibleSpan = i32x4.splat(i32.sub(last, context.first));
    return [
      set(
        invisible,
        i32x4.gtU(i32x4.add(i32x4.splat(position), v128.constLanes([0, 1, 2, 3])), visibleSpan),
      ),
      Array.from({ length: heads }, (_, head) => {
        const sum = sums[(half % (2 * panels)) * heads + head] as Local<"v128">;
        return [
          set(sum, f32x4.mul(sum, scales)),
          softcap?.apply(sum) ?? [],
          v128.store(
            scratch,
            v128.bitselect(v128.constF32(-Infinity), sum, invisible),
            offsets.scores + 64 * head + 16 * half,
          ),
        ];
      }),
    ];
  };
  const begin: Body = [set(scales, f32x4.splat(scale)), setI32(keyAt, keys)];
  if (panels === 2) return [begin, multiply, [0, 1, 2, 3].map(store)];
  const hide = [2, 3].map((half) =>
    Array.from({ length: heads }, (_, head) =>
      v128.store(
        scratch,
        v128.constF32(-Infinity),
        offsets.scores + 64 * head + 16 * half,
      ))
  );
  return [
    begin,
    multiply,
    store(0),
    store(1),
    when(
      i32.leS(i32.add(tile, KV_RUN), last),
      [setI32(keyAt, i32.add(keys, layout.keyPanelBytes)), multiply, store(2), store(3)],
      hide,
    ),
  ];
}

/** sums[(2 · panel + half) · heads + head] = q · key for `panels` panels of keys from keyAt on. */
function emitPanelProducts(
  context: PassContext,
  sums: readonly Local<"v128">[],
  panels: number,
  keyAt: Local<"i32">,
): Body {
  const { scope, heads, headDim, layout, loader, scratch } = context;
  const low = scope.local("v128");
  const high = scope.local("v128");
  const four = scope.local("v128");
  const query = scope.local("v128");
  const queryAt = scope.local("i32");
  const keyEnd = scope.local("i32");
  const unroll = 4;
  const step = (u: number): Body => [
    set(four, v128.load(queryAt, 16 * u)),
    Array.from({ length: panels }, (_, panel) => [
      loader.load(low, high, keyAt, u * layout.runBytes + panel * layout.keyPanelBytes),
      Array.from({ length: heads }, (_, head) => {
        const a = sums[2 * panel * heads + head] as Local<"v128">;
        const b = sums[(2 * panel + 1) * heads + head] as Local<"v128">;
        return [
          set(query, splatLane(four, head)),
          set(a, f32x4.relaxedMadd(query, low, a)),
          set(b, f32x4.relaxedMadd(query, high, b)),
        ];
      }),
    ]),
  ];
  return [
    sums.map((sum) => set(sum, v128.zero)),
    setI32(queryAt, scratch),
    setI32(keyEnd, i32.add(keyAt, headDim * layout.runBytes)),
    doWhile(
      i32.ne(keyAt, keyEnd),
      Array.from({ length: unroll }, (_, u) => step(u)),
      increment(keyAt, unroll * layout.runBytes),
      increment(queryAt, 16 * unroll),
    ),
  ];
}

/** Scores to weights [16][4], and by how much earlier sums shrink, both in scratch. */
function emitSoftmax(context: PassContext): { setup: Body; body: Body } {
  const { scope, heads, scratch, offsets, maxima, totals } = context;
  const exponential = new Exponential(scope);
  const weights = scope.locals("v128", 4);
  const spare = scope.locals("v128", 4);
  const [maximum, shrink, total] = scope.locals("v128", 3) as [
    Local<"v128">,
    Local<"v128">,
    Local<"v128">,
  ];
  const [w0, w1, w2, w3] = weights as [Local<"v128">, Local<"v128">, Local<"v128">, Local<"v128">];
  const headSoftmax = (head: number): Body => {
    const scores = offsets.scores + 64 * head;
    const before = maxima[head] as Local<"v128">;
    const sum = totals[head] as Local<"v128">;
    return [
      weights.map((weight, i) => set(weight, v128.load(scratch, scores + 16 * i))),
      set(maximum, f32x4.pmax(f32x4.pmax(w0, w1), f32x4.pmax(w2, w3))),
      maxLanes(maximum),
      set(maximum, f32x4.pmax(before, maximum)),
      set(shrink, before),
      set(before, maximum),
      // Should all scores be −∞, their distance from 0 is taken: −∞ − −∞ is no number.
      set(
        maximum,
        v128.andNot(maximum, f32x4.eq(maximum, v128.constF32(-Infinity))),
      ),
      set(shrink, f32x4.sub(shrink, maximum)),
      exponential.apply(shrink, shrink),
      v128.store(scratch, shrink, offsets.shrink + 16 * head),
      weights.map((weight) => [
        set(weight, f32x4.sub(weight, maximum)),
        exponential.apply(weight, weight),
      ]),
      set(total, f32x4.add(f32x4.add(w0, w1), f32x4.add(w2, w3))),
      sumLanes(total),
      set(sum, f32x4.add(f32x4.mul(sum, shrink), total)),
      weights.map((weight, i) => v128.store(scratch, weight, scores + 16 * i)),
    ];
  };
  const transposeKeys = (quad: number): Body => [
    weights.map((weight, head) =>
      set(
        weight,
        v128.load(scratch, offsets.scores + 64 * (head < heads ? head : 0) + 16 * quad),
      )
    ),
    transpose(weights, spare),
    weights.map((weight, i) => v128.store(scratch, weight, offsets.weights + 64 * quad + 16 * i)),
  ];
  return {
    setup: exponential.setup,
    body: [
      Array.from({ length: heads }, (_, head) => headSoftmax(head)),
      [0, 1, 2, 3].map(transposeKeys),
    ],
  };
}

/** out = out · shrink + Σ weight · value over the visible keys of the tile. */
function emitValues(context: PassContext, values: Expr<"i32">, out: Local<"i32">): Body {
  const { scope, heads, headDim, layout, loader, scratch, offsets, tile } = context;
  // Few heads take several runs of columns at once: one chain of sums waits for itself.
  const runs = runsAtOnce(heads, headDim);
  const sums = scope.locals("v128", 2 * heads * runs);
  const low = scope.local("v128");
  const high = scope.local("v128");
  const four = scope.local("v128");
  const weight = scope.local("v128");
  const weightsStart = scope.local("i32");
  const weightsEnd = scope.local("i32");
  const weightAt = scope.local("i32");
  const valuesStart = scope.local("i32");
  const valueAt = scope.local("i32");
  const runsEnd = scope.local("i32");
  const outAt = scope.local("i32");
  const firstKey = scope.local("i32");
  const endKey = scope.local("i32");
  const ofHeads = (visit: (head: number) => Body): Body =>
    Array.from({ length: heads }, (_, head) => visit(head));
  const ofRuns = (visit: (run: number) => Body): Body =>
    Array.from({ length: runs }, (_, run) => visit(run));
  const sumOf = (head: number, run: number, half: number) =>
    sums[2 * (head * runs + run) + half] as Local<"v128">;
  const ofSums = (
    head: number,
    visit: (sum: Local<"v128">, offset: number) => Statement,
  ): Body =>
    ofRuns((run) =>
      [0, 1].map((half) =>
        visit(sumOf(head, run, half), 4 * (headDim * head + KV_RUN * run + 4 * half))
      )
    );
  const addKey: Body = [
    set(four, v128.load(weightAt, offsets.weights)),
    ofRuns((run) => [
      loader.load(low, high, valueAt, run * layout.runBytes),
      ofHeads((head) => {
        const [a, b] = [sumOf(head, run, 0), sumOf(head, run, 1)];
        return [
          set(weight, splatLane(four, head)),
          set(a, f32x4.relaxedMadd(weight, low, a)),
          set(b, f32x4.relaxedMadd(weight, high, b)),
        ];
      }),
    ]),
  ];
  return [
    setI32(firstKey, i32.sub(context.first, tile)),
    when(i32.ltS(firstKey, 0), [setI32(firstKey, 0)]),
    setI32(endKey, i32.add(i32.sub(context.last, tile), 1)),
    when(i32.gtS(endKey, KV_BLOCK_SIZE), [setI32(endKey, KV_BLOCK_SIZE)]),
    setI32(weightsStart, i32.add(scratch, i32.shl(firstKey, 4))),
    setI32(weightsEnd, i32.add(scratch, i32.shl(endKey, 4))),
    setI32(valuesStart, i32.add(values, i32.mul(firstKey, layout.valueRowBytes))),
    setI32(runsEnd, i32.add(valuesStart, layout.valueRowBytes)),
    setI32(outAt, out),
    doWhile(
      i32.ne(valuesStart, runsEnd),
      ofHeads((head) => [
        set(weight, v128.load(scratch, offsets.shrink + 16 * head)),
        ofSums(
          head,
          (sum, offset) => set(sum, f32x4.mul(v128.load(outAt, offset), weight)),
        ),
      ]),
      setI32(valueAt, valuesStart),
      setI32(weightAt, weightsStart),
      doWhile(
        i32.ne(weightAt, weightsEnd),
        addKey,
        increment(valueAt, layout.valueRowBytes),
        increment(weightAt, 16),
      ),
      ofHeads((head) => ofSums(head, (sum, offset) => v128.store(outAt, sum, offset))),
      increment(valuesStart, runs * layout.runBytes),
      increment(outAt, 4 * KV_RUN * runs),
    ),
  ];
}

/** Runs of eight columns whose sums, with those of all heads of a pass, take eight registers. */
function runsAtOnce(heads: number, headDim: number): number {
  let runs = heads === 1 ? 4 : heads === 2 ? 2 : 1;
  while (headDim / KV_RUN % runs !== 0) runs /= 2;
  return runs;
}

/** out = out / total */
function emitDivide({ scope, headDim, totals }: PassContext, out: Local<"i32">): Body {
  const at = scope.local("i32");
  const end = scope.local("i32");
  return [
    setI32(at, out),
    totals.map((total) => [
      setI32(end, i32.add(at, 4 * headDim)),
      doWhile(
        i32.ne(at, end),
        v128.store(at, f32x4.div(v128.load(at), total)),
        v128.store(at, f32x4.div(v128.load(at, 16), total), 16),
        increment(at, 32),
      ),
    ]),
  ];
}
