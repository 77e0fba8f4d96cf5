/**
 * One small problem for each operation, in the shape that a call is about to use: what a kernel is
 * checked on before it is used.
 */

import { CHUNK_COLUMNS, drawNeed } from "../../base/row_summary.ts";
import {
  ATTENTION_ROWS,
  type AttentionArgs,
  type ClampedSwigluArgs,
  type EmbedArgs,
  type KernelTable,
  KV_BLOCK_SIZE,
  type KvCacheLayer,
  type KvDtype,
  type LayerNormArgs,
  type MatmulArgs,
  type RmsNormArgs,
  type RopeArgs,
  summaryPartWords,
  type WriteKvArgs,
} from "../kernel_table.ts";
import { routingWords } from "../routing.ts";
import { CHECK_PANELS, type CheckArea } from "./check_area.ts";

/** Words of memory, from a byte address on. */
export interface Words {
  readonly address: number;
  readonly count: number;
}

/** How far a right answer may be from the twin's: `absolute`, plus `relative` of its size. */
export interface Tolerance {
  readonly absolute: number;
  readonly relative: number;
}

/** A problem, set in memory. */
export interface Problem {
  run(kernels: KernelTable): void;
  /** The part that the twin computes, where all of it would take too long. */
  runTwin?(twin: KernelTable): void;
  /** What is compared. */
  readonly outputs: readonly Words[];
  /** Bit for bit, or that close. */
  readonly accuracy: "bits" | Tolerance;
}

/** What the order of an operation's sums leaves open, for numbers up to 1. */
const CLOSE: Tolerance = { absolute: 1e-6, relative: 2e-6 };

/** A width that is no multiple of any vector's. */
const ODD_WIDTH = 29;

/** x rows overlap, each this many floats after the one before: different rows in little memory. */
const ROW_SHIFT = 4;

/** The rows of which the twin computes some: those of the first tiles and of the last ones. */
function sampleRows(rowCount: number): number[] {
  const near = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);
  const rows = [...near(0, 6), ...near(Math.floor(0.75 * rowCount), 2), ...near(rowCount - 5, 5)];
  return [...new Set(rows)].filter((row) => row >= 0 && row < rowCount);
}

/** The call's own format, k and number of rows, on two panels. */
export function matmulProblem(
  area: CheckArea,
  args: MatmulArgs,
  fusesMultiplyAdd: boolean,
): Problem {
  const { rowCount, weight: { format, k } } = args;
  const weight = area.weight(format, k);
  const x = area.floats(k + ROW_SHIFT * rowCount);
  const outStride = 8 * CHECK_PANELS;
  const out = area.output(rowCount * outStride);
  const whole = { ...args, x, xStride: ROW_SHIFT, weight, out, outStride };
  // One panel a row, in turns: all lanes of every row of a tile are seen in one panel or another.
  const samples = rowCount === 1
    ? [{ row: 0, panelStart: 0 }, { row: 0, panelStart: 1 }]
    : sampleRows(rowCount).map((row) => ({ row, panelStart: row % CHECK_PANELS }));
  return {
    run: (kernels) => kernels.matmul({ ...whole, panelStart: 0, panelEnd: CHECK_PANELS }),
    runTwin: (twin) => {
      for (const { row, panelStart } of samples) {
        twin.matmul({
          ...whole,
          x: x + 4 * ROW_SHIFT * row,
          rowCount: 1,
          panelStart,
          panelEnd: panelStart + 1,
          out: out + 4 * outStride * row,
        });
      }
    },
    outputs: samples.map(({ row, panelStart }) => ({
      address: out + 4 * (outStride * row + 8 * panelStart),
      count: 8,
    })),
    // Rounded twice a term, sums are those of another class of numerics, and only close to these.
    accuracy: fusesMultiplyAdd ? "bits" : { absolute: 1e-6 * k, relative: 0 },
  };
}

export function embedProblem(area: CheckArea, { weight: { format, k } }: EmbedArgs): Problem {
  const weight = area.weight(format, k);
  const ids = area.integers([9, 0, 7]);
  const out = area.output(3 * k);
  return {
    run: (kernels) => kernels.embed({ weight, ids, out, outStride: k, rowStart: 0, rowEnd: 3 }),
    outputs: [{ address: out, count: 3 * k }],
    accuracy: "bits",
  };
}

export function takeRowsProblem(area: CheckArea): Problem {
  const width = ODD_WIDTH;
  const xStride = width + 3;
  const x = area.floats(4 * xStride);
  const indices = area.integers([3, 0]);
  const out = area.output(2 * xStride);
  const rows = { rowStart: 0, rowEnd: 2 };
  return {
    run: (kernels) =>
      kernels.takeRows({ x, xStride, indices, width, out, outStride: xStride, ...rows }),
    outputs: [{ address: out, count: 2 * xStride }],
    accuracy: "bits",
  };
}

export function rmsNormProblem(area: CheckArea, { width, epsilon }: RmsNormArgs): Problem {
  const x = area.floats(2 * width);
  const weight = area.floats(width);
  const out = area.output(2 * width);
  const strides = { xStride: width, outStride: width, groups: 1 };
  return {
    run: (kernels) =>
      kernels.rmsNorm({ x, weight, epsilon, width, out, ...strides, rowStart: 0, rowEnd: 2 }),
    outputs: [{ address: out, count: 2 * width }],
    accuracy: CLOSE,
  };
}

export function layerNormProblem(area: CheckArea, { width, epsilon }: LayerNormArgs): Problem {
  const x = area.floats(2 * width);
  const weight = area.floats(width);
  const bias = area.floats(width);
  const shape = { xStride: width, width, rowStart: 0, rowEnd: 2 };
  return {
    run: (kernels) => kernels.layerNorm({ x, weight, bias, epsilon, ...shape }),
    outputs: [{ address: x, count: 2 * width }],
    accuracy: "bits",
  };
}

const ELEMENTS = { rowCount: 2, columnStart: 0, columnEnd: ODD_WIDTH } as const;

export function addBiasProblem(area: CheckArea): Problem {
  const xStride = ODD_WIDTH + 3;
  const x = area.floats(2 * xStride);
  const bias = area.floats(ODD_WIDTH);
  return {
    run: (kernels) => kernels.addBias({ x, xStride, bias, ...ELEMENTS }),
    outputs: [{ address: x, count: 2 * xStride }],
    accuracy: "bits",
  };
}

export function addProblem(area: CheckArea): Problem {
  const stride = ODD_WIDTH + 3;
  const x = area.floats(2 * stride);
  const y = area.floats(2 * stride);
  return {
    run: (kernels) => kernels.add({ x, xStride: stride, y, yStride: stride, ...ELEMENTS }),
    outputs: [{ address: x, count: 2 * stride }],
    accuracy: "bits",
  };
}

export function siluMultiplyProblem(area: CheckArea): Problem {
  const stride = ODD_WIDTH + 3;
  const gate = area.floats(2 * stride);
  const up = area.floats(2 * stride);
  return {
    run: (kernels) =>
      kernels.siluMultiply({ gate, gateStride: stride, up, upStride: stride, ...ELEMENTS }),
    outputs: [{ address: gate, count: 2 * stride }],
    accuracy: CLOSE,
  };
}

export function geluTanhMultiplyProblem(area: CheckArea): Problem {
  const stride = ODD_WIDTH + 3;
  const gate = area.floats(2 * stride);
  const up = area.floats(2 * stride);
  return {
    run: (kernels) =>
      kernels.geluTanhMultiply({ gate, gateStride: stride, up, upStride: stride, ...ELEMENTS }),
    outputs: [{ address: gate, count: 2 * stride }],
    accuracy: CLOSE,
  };
}

export function clampedSwigluProblem(area: CheckArea, { limit }: ClampedSwigluArgs): Problem {
  const stride = ODD_WIDTH + 3;
  const gate = area.floats(2 * stride);
  const up = area.floats(2 * stride);
  return {
    run: (kernels) =>
      kernels.clampedSwiglu({ gate, gateStride: stride, up, upStride: stride, limit, ...ELEMENTS }),
    outputs: [{ address: gate, count: 2 * stride }],
    accuracy: CLOSE,
  };
}

/** Two tokens that choose two of three experts each. */
export function sumExpertsProblem(area: CheckArea): Problem {
  const shape = { expertCount: 3, choiceCount: 2 };
  const stride = ODD_WIDTH + 3;
  const logits = area.floats(6);
  const routing = area.zeros(2 * routingWords(shape));
  const y = area.floats(4 * stride);
  const out = area.output(2 * stride);
  const router = { kind: "softmax", normalizes: true } as const;
  return {
    run: (kernels) => {
      kernels.route({
        ...shape,
        logits,
        logitsStride: 3,
        rowCount: 2,
        router,
        bias: null,
        out: routing,
      });
      kernels.sumExperts({
        ...shape,
        y,
        yStride: stride,
        routing,
        out,
        outStride: stride,
        ...ELEMENTS,
      });
    },
    outputs: [{ address: out, count: 2 * stride }],
    accuracy: "bits",
  };
}

export function scaleProblem(area: CheckArea): Problem {
  const xStride = ODD_WIDTH + 3;
  const x = area.floats(2 * xStride);
  return {
    run: (kernels) => kernels.scale({ x, xStride, factor: 25.25, ...ELEMENTS }),
    outputs: [{ address: x, count: 2 * xStride }],
    accuracy: "bits",
  };
}

/** A cap of half: elements are on both sides of where the way of computing changes. */
export function softcapProblem(area: CheckArea): Problem {
  const xStride = ODD_WIDTH + 3;
  const x = area.floats(2 * xStride);
  return {
    run: (kernels) => kernels.softcap({ x, xStride, cap: 0.5, ...ELEMENTS }),
    outputs: [{ address: x, count: 2 * xStride }],
    accuracy: CLOSE,
  };
}

export function geluProblem(area: CheckArea): Problem {
  const xStride = ODD_WIDTH + 3;
  const x = area.floats(2 * xStride);
  return {
    run: (kernels) => kernels.gelu({ x, xStride, ...ELEMENTS }),
    outputs: [{ address: x, count: 2 * xStride }],
    accuracy: "bits",
  };
}

/** Two heads that are somewhat longer than what is rotated, at two positions. */
export function ropeProblem(area: CheckArea, { rotaryDim, headDim }: RopeArgs): Problem {
  const xStride = 2 * headDim;
  const x = area.floats(2 * xStride);
  const positions = area.integers([1, 3]);
  const table = area.floats(4 * rotaryDim);
  const shape = { xStride, heads: 2, headDim, rotaryDim, rowStart: 0, rowEnd: 2 };
  return {
    run: (kernels) => kernels.rope({ x, positions, table, ...shape }),
    outputs: [{ address: x, count: 2 * xStride }],
    accuracy: CLOSE,
  };
}

const KV_HEADS = 2;
const KV_BLOCKS = 3;

interface Pool {
  readonly cache: KvCacheLayer;
  /** Words of the keys, and of the values. */
  readonly words: number;
}

function emptyPool(area: CheckArea, dtype: KvDtype, headDim: number): Pool {
  const elements = KV_BLOCKS * KV_HEADS * KV_BLOCK_SIZE * headDim;
  const words = dtype === "f32" ? elements : elements / 2;
  const keys = area.zeros(words);
  const values = area.zeros(words);
  return { cache: { keys, values, dtype, kvHeads: KV_HEADS, headDim }, words };
}

export function writeKvProblem(area: CheckArea, args: WriteKvArgs): Problem {
  const { dtype, headDim } = args.cache;
  const { cache, words } = emptyPool(area, dtype, headDim);
  const stride = KV_HEADS * headDim;
  const k = area.floats(3 * stride);
  const v = area.floats(3 * stride);
  const slots = area.integers([37, 2, 16]);
  const shape = { kStride: stride, vStride: stride, rowStart: 0, rowEnd: 3 };
  return {
    run: (kernels) => kernels.writeKv({ k, v, slots, cache, ...shape }),
    outputs: [{ address: cache.keys, count: words }, { address: cache.values, count: words }],
    accuracy: "bits",
  };
}

/**
 * Rows that see 37 keys in three blocks out of order: one, or so many that each size of a pass
 * over rows occurs.
 */
export function attentionProblem(area: CheckArea, args: AttentionArgs): Problem {
  const { dtype, headDim, kvHeads } = args.cache;
  const isOfBlocks = args.rowBlocks !== undefined;
  const { softcap = 0, sinks = null } = args;
  const sequenceOfRow = isOfBlocks ? [0, 0, 0, 0, 1, 1, 1, 0, 1, 1] : [0];
  const rowCount = sequenceOfRow.length;
  const blockCount = isOfBlocks ? Math.ceil(rowCount / ATTENTION_ROWS) : rowCount;
  const heads = KV_HEADS * args.heads / kvHeads;
  const { cache, words } = emptyPool(area, dtype, headDim);
  area.fillKv(cache, words);
  const stride = heads * headDim;
  const q = area.floats(rowCount * stride);
  const out = area.output(rowCount * stride);
  const positions = area.integers(sequenceOfRow.map(() => 36));
  const sequences = area.integers(sequenceOfRow);
  const blockTables = area.integers([2, 0, 1, 1, 2, 0]);
  // Scores are about as large as the sinks, and some are half a cap.
  const rules = {
    softcap: softcap === 0 ? 0 : 0.5,
    sinks: sinks === null ? null : area.floats(heads),
  };
  return {
    run: (kernels) =>
      kernels.attention({
        q,
        qStride: stride,
        out,
        outStride: stride,
        heads,
        scale: 1 / Math.sqrt(headDim),
        window: 0,
        ...rules,
        cache,
        positions,
        sequences,
        blockTables,
        blockTableStride: KV_BLOCKS,
        unitStart: 0,
        unitEnd: blockCount * KV_HEADS,
        unitStep: 1,
        rowBlocks: isOfBlocks ? { rowCount } : undefined,
      }),
    outputs: [{ address: out, count: rowCount * stride }],
    // Exponentials are approximated in more than one way.
    accuracy: { absolute: 4e-6, relative: 4e-6 },
  };
}

export function summarizeRowsProblem(area: CheckArea): Problem {
  const width = CHUNK_COLUMNS + ODD_WIDTH;
  const xStride = width + 3;
  const x = area.floats(xStride);
  const needs = area.integers([drawNeed(1.5, { logprobs: true })]);
  const outStride = summaryPartWords(width);
  const out = area.zeros(outStride);
  const shape = { xStride, width, rowCount: 1, chunkStart: 0, chunkEnd: 2, outStride };
  return {
    run: (kernels) => kernels.summarizeRows({ x, needs, out, ...shape }),
    outputs: [{ address: out, count: outStride }],
    accuracy: "bits",
  };
}
