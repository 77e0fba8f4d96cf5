/** The plain kernel backend: addresses become `ndarray` views, and the definitions run on them. */

import { invariant } from "../../base/invariant.ts";
import { isQuantized, panelBytes } from "../block_formats.ts";
import { SUMMARY_NEED } from "../../base/row_summary.ts";
import {
  ATTENTION_ROWS,
  type ColumnRange,
  type KernelTable,
  type PanelWeight,
  type RowRange,
  type SiluMultiplyArgs,
  SUMMARY_PART,
} from "../kernel_table.ts";
import { attention } from "../kernels/attention.ts";
import {
  add,
  addBias,
  geluTanhMultiply,
  scale,
  siluMultiply,
  softcap,
} from "../kernels/elementwise.ts";
import { clampedSwiglu, sumExperts } from "../kernels/experts.ts";
import { gelu } from "../kernels/gelu.ts";
import { integerMatmul } from "../kernels/integer_matmul.ts";
import { layerNorm } from "../kernels/layer_norm.ts";
import { matmul, type Panels } from "../kernels/matmul.ts";
import { countToEnd, intVector, type Matrix, matrix, vector } from "../kernels/ndarray.ts";
import { summarizeRow } from "../kernels/summarize_rows.ts";
import { rmsNorm } from "../kernels/rms_norm.ts";
import { rope } from "../kernels/rope.ts";
import { embed, takeRows } from "../kernels/take_rows.ts";
import { kvCache, writeKv } from "../kernels/write_kv.ts";
import { route, routingParts } from "../routing.ts";

const F32 = 4;

/** A backend over `memory`, whose buffer is looked up at every call since a memory may grow. */
export function createReferenceKernels(
  memory: WebAssembly.Memory | { readonly buffer: ArrayBufferLike },
): KernelTable {
  /** `columns` floats of the rows in `range`, from column `columnStart` on. */
  const rowsOf = (
    address: number,
    rowStride: number,
    columns: number,
    { rowStart, rowEnd }: RowRange,
    columnStart = 0,
  ): Matrix =>
    matrix(memory.buffer, address + (rowStart * rowStride + columnStart) * F32, {
      rows: Math.max(0, rowEnd - rowStart),
      columns,
      rowStride,
    });
  /** The columns that a call is for, of its rows. */
  const columnsOf = (
    address: number,
    rowStride: number,
    { rowCount, columnStart, columnEnd }: ColumnRange & { readonly rowCount: number },
  ): Matrix => {
    const rows = { rowStart: 0, rowEnd: rowCount };
    return rowsOf(address, rowStride, Math.max(0, columnEnd - columnStart), rows, columnStart);
  };
  const gateAndUp = (args: SiluMultiplyArgs): [gate: Matrix, up: Matrix] => [
    columnsOf(args.gate, args.gateStride, args),
    columnsOf(args.up, args.upStride, args),
  ];
  /** A matrix whose rows are chosen by index: it reaches to the end of the memory. */
  const table = (address: number, rowStride: number, columns: number): Matrix =>
    matrix(memory.buffer, address, {
      rows: Math.floor((countToEnd(memory.buffer, address, F32) - columns) / rowStride) + 1,
      columns,
      rowStride,
    });
  const integers = (address: number, { rowStart, rowEnd }: RowRange) =>
    intVector(memory.buffer, address + rowStart * F32, Math.max(0, rowEnd - rowStart));

  return {
    backend: "reference",
    compiledCount: 0,

    embed(args) {
      const out = rowsOf(args.out, args.outStride, args.weight.k, args);
      embed(out, panelsOf(memory.buffer, args.weight), integers(args.ids, args));
    },

    takeRows(args) {
      const out = rowsOf(args.out, args.outStride, args.width, args);
      takeRows(out, table(args.x, args.xStride, args.width), integers(args.indices, args));
    },

    rmsNorm(args) {
      const weight = vector(memory.buffer, args.weight, args.width);
      for (let group = 0; group < args.groups; group++) {
        const at = group * args.width;
        const out = rowsOf(args.out, args.outStride, args.width, args, at);
        rmsNorm(out, rowsOf(args.x, args.xStride, args.width, args, at), weight, args.epsilon);
      }
    },

    layerNorm(args) {
      const weight = vector(memory.buffer, args.weight, args.width);
      const bias = vector(memory.buffer, args.bias, args.width);
      layerNorm(rowsOf(args.x, args.xStride, args.width, args), weight, bias, args.epsilon);
    },

    matmul(args) {
      const rows = { rowStart: 0, rowEnd: args.rowCount };
      const out = rowsOf(args.out, args.outStride, Math.ceil(args.weight.n / 8) * 8, rows);
      const x = rowsOf(args.x, args.xStride, args.weight.k, rows);
      const weight = panelsOf(memory.buffer, args.weight);
      const { activations = "f32" } = args;
      if (activations === "f32") {
        matmul(out, x, weight, args);
        return;
      }
      const { format } = weight;
      invariant(isQuantized(format), `Integer activations meet a weight of ${format}`);
      integerMatmul(out, x, { ...weight, format }, { ...args, activations });
    },

    addBias(args) {
      const { columnStart, columnEnd } = args;
      const width = Math.max(0, columnEnd - columnStart);
      const bias = vector(memory.buffer, args.bias + columnStart * F32, width);
      addBias(columnsOf(args.x, args.xStride, args), bias);
    },

    add(args) {
      add(columnsOf(args.x, args.xStride, args), columnsOf(args.y, args.yStride, args));
    },

    siluMultiply(args) {
      siluMultiply(...gateAndUp(args));
    },

    geluTanhMultiply(args) {
      geluTanhMultiply(...gateAndUp(args));
    },

    clampedSwiglu(args) {
      clampedSwiglu(...gateAndUp(args), args.limit);
    },

    route(args) {
      route(memory.buffer, args);
    },

    sumExperts(args) {
      const { rowCount } = args;
      const parts = routingParts(args, rowCount);
      const size = rowCount * args.choiceCount;
      sumExperts(
        columnsOf(args.out, args.outStride, args),
        columnsOf(args.y, args.yStride, { ...args, rowCount: size }),
        vector(memory.buffer, args.routing + parts.weights * F32, size),
        intVector(memory.buffer, args.routing + parts.rows * F32, size),
      );
    },

    scale(args) {
      scale(columnsOf(args.x, args.xStride, args), args.factor);
    },

    softcap(args) {
      softcap(columnsOf(args.x, args.xStride, args), args.cap);
    },

    gelu(args) {
      gelu(columnsOf(args.x, args.xStride, args));
    },

    rope(args) {
      const x = rowsOf(args.x, args.xStride, args.heads * args.headDim, args);
      const angles = table(args.table, args.rotaryDim, args.rotaryDim);
      rope(x, args.headDim, integers(args.positions, args), angles);
    },

    writeKv(args) {
      const width = args.cache.kvHeads * args.cache.headDim;
      const k = rowsOf(args.k, args.kStride, width, args);
      const v = rowsOf(args.v, args.vStride, width, args);
      writeKv(kvCache(memory.buffer, args.cache), k, v, integers(args.slots, args));
    },

    attention(args) {
      const { kvHeads, headDim } = args.cache;
      const { rowBlocks } = args;
      const rowCount = rowBlocks?.rowCount ?? Math.ceil(args.unitEnd / kvHeads);
      const rowsPerUnit = rowBlocks === undefined ? 1 : ATTENTION_ROWS;
      const rows = { rowStart: 0, rowEnd: rowCount };
      const width = args.heads * headDim;
      const { softcap = 0, sinks = null } = args;
      const tables = args.blockTables;
      attention(
        {
          out: rowsOf(args.out, args.outStride, width, rows),
          q: rowsOf(args.q, args.qStride, width, rows),
          cache: kvCache(memory.buffer, args.cache),
          positions: integers(args.positions, rows),
          sequences: integers(args.sequences, rows),
          blockTables: intVector(memory.buffer, tables, countToEnd(memory.buffer, tables, F32)),
          blockTableStride: args.blockTableStride,
        },
        { ...args, rowCount, rowsPerUnit },
        {
          ...args,
          softcap,
          sinks: sinks === null ? null : vector(memory.buffer, sinks, args.heads),
        },
      );
    },

    summarizeRows(args) {
      const rows = { rowStart: 0, rowEnd: args.rowCount };
      const needs = integers(args.needs, rows);
      const x = rowsOf(args.x, args.xStride, args.width, rows);
      const { topCount, hasNaN, topLogits, topIds, chunkWords } = SUMMARY_PART;
      for (let row = 0; row < args.rowCount; row++) {
        if (needs.get(row) === SUMMARY_NEED.nothing) continue;
        const view = new DataView(memory.buffer, args.out + row * args.outStride * F32);
        const part = summarizeRow(x, row, {
          ...args,
          need: needs.get(row),
        });
        view.setInt32(topCount * F32, part.ids.length, true);
        view.setInt32(hasNaN * F32, part.hasNaN ? 1 : 0, true);
        part.ids.forEach((id, i) => {
          view.setFloat32((topLogits + i) * F32, x.get(row, id), true);
          view.setInt32((topIds + i) * F32, id, true);
        });
        for (const kind of ["unitSums", "scaledSums"] as const) {
          part[kind].forEach(({ max, sum }, i) => {
            const at = (SUMMARY_PART[kind] + (args.chunkStart + i) * chunkWords) * F32;
            view.setFloat64(at, sum, true);
            view.setFloat32(at + 8, max, true);
          });
        }
      }
    },
  };
}

function panelsOf(buffer: ArrayBufferLike, weight: PanelWeight): Panels {
  const { format, k } = weight;
  const size = Math.ceil(weight.n / 8) * panelBytes(format, k);
  return { format, k, bytes: new Uint8Array(buffer, weight.address, size) };
}
