/**
 * Kernels over several banks of HBM: a table for each bank, and rows that are brought to it.
 *
 * ```text
 * bank 0   x ──┐                       ┌──▶ out
 *              ▼ a few rows at a time  │
 * bank b    stage ─▶ kernel ─▶ stage ──┘
 *                      ▲
 *                    weight, or keys and values
 * ```
 *
 * A kernel reads and writes one memory of 32-bit addresses. Activations are in the first bank;
 * where a weight or a layer's keys and values are in another one, the rows go there and back. That
 * is a small part of the work that is done on them. The same kernel gets the same operands: where
 * something lies changes no bit.
 */

import { invariant } from "../../base/invariant.ts";
import { PANEL_COLUMNS, panelBytes } from "../block_formats.ts";
import {
  type AddArgs,
  type AddBiasArgs,
  ATTENTION_ROWS,
  type AttentionArgs,
  type ClampedSwigluArgs,
  type EmbedArgs,
  type GeluArgs,
  type GeluTanhMultiplyArgs,
  type KernelLimits,
  type KernelTable,
  type LayerNormArgs,
  type MatmulArgs,
  type RmsNormArgs,
  type RopeArgs,
  type ScaleArgs,
  type SiluMultiplyArgs,
  type SoftcapArgs,
  type SumExpertsArgs,
  type SummarizeRowsArgs,
  type TakeRowsArgs,
  type WriteKvArgs,
} from "../kernel_table.ts";
import { bankOf, offsetInBank } from "../memory.ts";
import type { RouteArgs } from "../routing.ts";

/** Rows of the widest operand that are brought at once. */
const STAGED_ROWS = 128;
/** More rows of a narrow one serve nothing. */
const STAGED_ROWS_MAX = 512;
/** For columns of products, and for what is not rows: ids, positions, block tables. */
const SIDE_BYTES = 1024 * 1024;
/** Cache line, and the floats in one. */
const LINE_BYTES = 64;
const LINE_FLOATS = LINE_BYTES / 4;

/** Floats from one staged row to the next: an odd number of cache lines, as `compiler/place.ts` has it. */
function stagedStride(width: number): number {
  return (Math.ceil(width / LINE_FLOATS) | 1) * LINE_FLOATS;
}

/** Bytes of stage that suffice for shapes up to these limits, so many rows at once. */
export function stageBytes(
  { kMax }: Pick<KernelLimits, "kMax">,
  rowCount: number = STAGED_ROWS,
): number {
  return 2 * rowCount * 4 * stagedStride(kMax) + SIDE_BYTES;
}

/** One bank as an element sees it. */
export interface KernelBank {
  readonly memory: WebAssembly.Memory;
  readonly table: KernelTable;
  /** Where rows are brought to; in the bank, aligned to a cache line. */
  readonly stage: { readonly address: number; readonly sizeBytes: number };
}

/** A run of rows in a bank. */
interface Rows {
  readonly bank: Bank;
  /** Of the first float. */
  readonly address: number;
  /** Floats from one row to the next. */
  readonly stride: number;
}

/** A bank, its memory as float32 and what of its stage serves for what. */
class Bank {
  readonly table: KernelTable;
  /** For rows: two halves of the same size. */
  readonly halves: readonly [number, number];
  readonly halfBytes: number;
  /** The rest, {@linkcode SIDE_BYTES}. */
  readonly side: number;
  readonly #memory: WebAssembly.Memory;
  #cells: Float32Array;

  constructor({ memory, table, stage }: KernelBank) {
    this.table = table;
    this.#memory = memory;
    this.#cells = new Float32Array(memory.buffer);
    this.halfBytes = Math.floor((stage.sizeBytes - SIDE_BYTES) / 2 / LINE_BYTES) * LINE_BYTES;
    this.halves = [stage.address, stage.address + this.halfBytes];
    this.side = stage.address + 2 * this.halfBytes;
  }

  /** So many of the rows fit into a half. */
  rowsInHalf(stride: number): number {
    const count = Math.min(STAGED_ROWS_MAX, Math.floor(this.halfBytes / (4 * stride)));
    invariant(count > 0, `A stage is too small for rows of ${stride} floats`);
    return count;
  }

  /** The memory, which may have grown. Copying keeps every bit: of a NaN, and of an int32. */
  cells(): Float32Array {
    if (this.#cells.buffer !== this.#memory.buffer) {
      this.#cells = new Float32Array(this.#memory.buffer);
    }
    return this.#cells;
  }

  words(address: number, count: number): Int32Array {
    return new Int32Array(this.#memory.buffer, address, count);
  }
}

/** Copies `width` floats of so many rows from one bank to another. */
function copyRows(from: Rows, to: Rows, rowCount: number, width: number): void {
  const source = from.bank.cells();
  const target = to.bank.cells();
  let sourceAt = from.address / 4;
  let targetAt = to.address / 4;
  for (let row = 0; row < rowCount; row++) {
    target.set(source.subarray(sourceAt, sourceAt + width), targetAt);
    sourceAt += from.stride;
    targetAt += to.stride;
  }
}

/** Copies so many words. */
function copyWords(from: Bank, address: number, to: Bank, target: number, count: number): void {
  copyRows({ bank: from, address, stride: 0 }, { bank: to, address: target, stride: 0 }, 1, count);
}

/** The first of the units start, start + step, … that is not below `bound`. */
function firstUnit(start: number, step: number, bound: number): number {
  return start + Math.max(0, Math.ceil((bound - start) / step)) * step;
}

/** The table of an element of a device with several banks. */
export class BankedKernels implements KernelTable {
  readonly #banks: readonly Bank[];
  readonly #first: Bank;
  #last: KernelTable;

  /** Bank 0 first. */
  constructor(banks: readonly KernelBank[]) {
    this.#banks = banks.map((bank) => new Bank(bank));
    this.#first = this.#at(0);
    this.#last = this.#first.table;
  }

  get backend(): KernelTable["backend"] {
    return this.#last.backend;
  }

  get compiledCount(): number {
    return this.#banks.reduce((sum, { table }) => sum + table.compiledCount, 0);
  }

  embed(args: EmbedArgs): void {
    const bank = this.#use(args.weight.address);
    if (bank === this.#first) return bank.table.embed(args);
    const weight = { ...args.weight, address: offsetInBank(args.weight.address) };
    const staged = { bank, address: bank.halves[0], stride: stagedStride(weight.k) };
    const rowsMax = bank.rowsInHalf(staged.stride);
    for (let row = args.rowStart; row < args.rowEnd; row += rowsMax) {
      const rowCount = Math.min(rowsMax, args.rowEnd - row);
      copyWords(this.#first, args.ids + 4 * row, bank, bank.side, rowCount);
      bank.table.embed({
        weight,
        ids: bank.side,
        out: staged.address,
        outStride: staged.stride,
        rowStart: 0,
        rowEnd: rowCount,
      });
      copyRows(staged, this.#row(args.out, args.outStride, row), rowCount, weight.k);
    }
  }

  matmul(args: MatmulArgs): void {
    const bank = this.#use(args.weight.address);
    if (bank === this.#first) return bank.table.matmul(args);
    const { k } = args.weight;
    const x = { bank, address: bank.halves[0], stride: stagedStride(k) };
    const rowsMax = bank.rowsInHalf(x.stride);
    for (let row = 0; row < args.rowCount; row += rowsMax) {
      const rowCount = Math.min(rowsMax, args.rowCount - row);
      copyRows(this.#row(args.x, args.xStride, row), x, rowCount, k);
      this.#multiply(args, x, row, rowCount);
    }
  }

  /** Rows that are staged with the panels, as many columns at a time as the stage has room for. */
  #multiply(args: MatmulArgs, x: Rows, row: number, rowCount: number): void {
    const { bank } = x;
    const { format, k, n, address } = args.weight;
    // A row of products takes up to two cache lines more than it has columns.
    const columns = Math.floor(SIDE_BYTES / (4 * rowCount)) - 2 * LINE_FLOATS;
    const panelsMax = Math.max(1, Math.floor(columns / PANEL_COLUMNS));
    for (let panel = args.panelStart; panel < args.panelEnd; panel += panelsMax) {
      const panelCount = Math.min(panelsMax, args.panelEnd - panel);
      const width = panelCount * PANEL_COLUMNS;
      const columnStart = panel * PANEL_COLUMNS;
      const out = { bank, address: bank.side, stride: stagedStride(width) };
      bank.table.matmul({
        x: x.address,
        xStride: x.stride,
        rowCount,
        weight: {
          address: offsetInBank(address) + panel * panelBytes(format, k),
          format,
          n: Math.min(width, n - columnStart),
          k,
        },
        panelStart: 0,
        panelEnd: panelCount,
        out: out.address,
        outStride: out.stride,
        ...(args.activations === undefined ? {} : { activations: args.activations }),
      });
      const target = this.#row(args.out + 4 * columnStart, args.outStride, row);
      copyRows(out, target, rowCount, width);
    }
  }

  writeKv(args: WriteKvArgs): void {
    const bank = this.#use(args.cache.keys);
    if (bank === this.#first) return bank.table.writeKv(args);
    const { kvHeads, headDim } = args.cache;
    const width = kvHeads * headDim;
    const stride = stagedStride(width);
    const k = { bank, address: bank.halves[0], stride };
    const v = { bank, address: bank.halves[1], stride };
    const rowsMax = bank.rowsInHalf(stride);
    for (let row = args.rowStart; row < args.rowEnd; row += rowsMax) {
      const rowCount = Math.min(rowsMax, args.rowEnd - row);
      copyRows(this.#row(args.k, args.kStride, row), k, rowCount, width);
      copyRows(this.#row(args.v, args.vStride, row), v, rowCount, width);
      copyWords(this.#first, args.slots + 4 * row, bank, bank.side, rowCount);
      bank.table.writeKv({
        k: k.address,
        kStride: stride,
        v: v.address,
        vStride: stride,
        slots: bank.side,
        cache: this.#cacheInBank(args.cache),
        rowStart: 0,
        rowEnd: rowCount,
      });
    }
  }

  attention(args: AttentionArgs): void {
    const bank = this.#use(args.cache.keys);
    if (bank === this.#first) return bank.table.attention(args);
    const { kvHeads, headDim } = args.cache;
    const unitRows = args.rowBlocks === undefined ? 1 : ATTENTION_ROWS;
    const rowEnd = args.rowBlocks?.rowCount ?? Math.ceil(args.unitEnd / kvHeads);
    const rowsFit = bank.rowsInHalf(stagedStride(args.heads * headDim));
    const rowsMax = rowsFit - rowsFit % unitRows;
    let row = Math.floor(args.unitStart / kvHeads) * unitRows;
    while (row < rowEnd) row += this.#attend(args, bank, row, Math.min(rowEnd, row + rowsMax));
  }

  /** Attention of rows from `rowStart` on, as many as the stage has room for; how many it were. */
  #attend(args: AttentionArgs, bank: Bank, rowStart: number, rowEndMax: number): number {
    const { kvHeads, headDim } = args.cache;
    const { heads, unitStep, blockTableStride } = args;
    const stride = stagedStride(heads * headDim);
    const q = { bank, address: bank.halves[0], stride };
    const out = { bank, address: bank.halves[1], stride };
    const positions = bank.side;
    const sequences = positions + 4 * STAGED_ROWS_MAX;
    const sinks = sequences + 4 * STAGED_ROWS_MAX;
    const blockTables = sinks + 4 * heads;
    const unitRows = args.rowBlocks === undefined ? 1 : ATTENTION_ROWS;
    const rowCount = this.#stageTables(args, bank, {
      rowStart,
      rowEnd: rowEndMax,
      unitRows,
      sequences,
      blockTables,
    });
    copyWords(this.#first, args.positions + 4 * rowStart, bank, positions, rowCount);
    copyRows(this.#row(args.q, args.qStride, rowStart), q, rowCount, heads * headDim);
    if (args.sinks !== undefined && args.sinks !== null) {
      copyWords(this.#first, args.sinks, bank, sinks, heads);
    }
    // Units of these rows, counted from the first of them.
    const unitBase = rowStart / unitRows * kvHeads;
    const unitEnd = Math.min(args.unitEnd - unitBase, Math.ceil(rowCount / unitRows) * kvHeads);
    const unitStart = firstUnit(args.unitStart, unitStep, unitBase) - unitBase;
    bank.table.attention({
      ...args,
      q: q.address,
      qStride: stride,
      out: out.address,
      outStride: stride,
      sinks: args.sinks === undefined || args.sinks === null ? null : sinks,
      cache: this.#cacheInBank(args.cache),
      positions,
      sequences,
      blockTables,
      blockTableStride,
      unitStart,
      unitEnd,
      rowBlocks: args.rowBlocks === undefined ? undefined : { rowCount },
    });
    // Only this element's units: the others are another one's to write.
    const width = heads / kvHeads * headDim;
    for (let unit = unitStart; unit < unitEnd; unit += unitStep) {
      const unitRow = Math.floor(unit / kvHeads) * unitRows;
      const column = 4 * (unit % kvHeads) * width;
      copyRows(
        { bank, address: out.address + 4 * unitRow * stride + column, stride },
        this.#row(args.out + column, args.outStride, rowStart + unitRow),
        Math.min(unitRows, rowCount - unitRow),
        width,
      );
    }
    return rowCount;
  }

  /** Brings the block tables of rows, sequences numbered anew; the number of rows that have one. */
  #stageTables(
    { sequences: givenSequences, blockTables: givenTables, blockTableStride }: AttentionArgs,
    bank: Bank,
    stage: {
      readonly rowStart: number;
      readonly rowEnd: number;
      readonly unitRows: number;
      readonly sequences: number;
      readonly blockTables: number;
    },
  ): number {
    const { rowStart, rowEnd, unitRows, sequences, blockTables } = stage;
    const tableBytes = 4 * blockTableStride;
    const tablesMax = Math.floor((bank.side + SIDE_BYTES - blockTables) / tableBytes);
    const given = this.#first.words(givenSequences + 4 * rowStart, rowEnd - rowStart);
    const staged = bank.words(sequences, rowEnd - rowStart);
    let count = 0;
    for (let row = 0; row < given.length; row++) {
      const sequence = given[row] as number;
      if (row === 0 || sequence !== given[row - 1]) {
        if (count === tablesMax) {
          // Rows that are computed together stay together.
          const fitting = row - row % unitRows;
          invariant(fitting > 0, `A stage is too small for block tables of ${blockTableStride}`);
          return fitting;
        }
        const target = blockTables + count * tableBytes;
        const source = givenTables + sequence * tableBytes;
        copyWords(this.#first, source, bank, target, blockTableStride);
        count++;
      }
      staged[row] = count - 1;
    }
    return given.length;
  }

  takeRows(args: TakeRowsArgs): void {
    this.#useFirst().takeRows(args);
  }

  rmsNorm(args: RmsNormArgs): void {
    this.#useFirst().rmsNorm(args);
  }

  layerNorm(args: LayerNormArgs): void {
    this.#useFirst().layerNorm(args);
  }

  addBias(args: AddBiasArgs): void {
    this.#useFirst().addBias(args);
  }

  add(args: AddArgs): void {
    this.#useFirst().add(args);
  }

  siluMultiply(args: SiluMultiplyArgs): void {
    this.#useFirst().siluMultiply(args);
  }

  geluTanhMultiply(args: GeluTanhMultiplyArgs): void {
    this.#useFirst().geluTanhMultiply(args);
  }

  scale(args: ScaleArgs): void {
    this.#useFirst().scale(args);
  }

  softcap(args: SoftcapArgs): void {
    this.#useFirst().softcap(args);
  }

  gelu(args: GeluArgs): void {
    this.#useFirst().gelu(args);
  }

  rope(args: RopeArgs): void {
    this.#useFirst().rope(args);
  }

  summarizeRows(args: SummarizeRowsArgs): void {
    this.#useFirst().summarizeRows(args);
  }

  route(args: RouteArgs): void {
    this.#useFirst().route(args);
  }

  clampedSwiglu(args: ClampedSwigluArgs): void {
    this.#useFirst().clampedSwiglu(args);
  }

  sumExperts(args: SumExpertsArgs): void {
    this.#useFirst().sumExperts(args);
  }

  #useFirst(): KernelTable {
    this.#last = this.#first.table;
    return this.#last;
  }

  /** The bank that has the operand at an address; its table computes. */
  #use(address: number): Bank {
    const bank = this.#at(bankOf(address));
    this.#last = bank.table;
    return bank;
  }

  #at(index: number): Bank {
    const bank = this.#banks[index];
    invariant(bank !== undefined, `There is no bank ${index} of ${this.#banks.length}`);
    return bank;
  }

  /** Rows of the first bank, from one on. */
  #row(address: number, stride: number, row: number): Rows {
    return { bank: this.#first, address: address + 4 * row * stride, stride };
  }

  #cacheInBank<Cache extends AttentionArgs["cache"]>(cache: Cache): Cache {
    return {
      ...cache,
      keys: offsetInBank(cache.keys),
      values: offsetInBank(cache.values),
    };
  }
}
