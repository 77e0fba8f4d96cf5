/** A runner without a model: rows that are there before the first step, and their summaries. */

import {
  CHUNK_COLUMNS,
  type RowSummary,
  SUMMARY_NEED,
  type SummaryNeed,
} from "../../lib/base/row_summary.ts";
import { summaryChunkStart, summaryPartWords } from "../../lib/device/kernel_table.ts";
import { joinSummary } from "../../lib/device/row_summary.ts";
import { createSimdKernels } from "../../lib/device/simd/simd.ts";
import type { Batch } from "../../lib/engine/batch.ts";
import type { Rows, Runner } from "../../lib/engine/runner.ts";
import { median } from "../report/figures.ts";

const PE_COUNT = 2;
/** Steps until the same rows come again. */
const CYCLE = 8;
/**
 * Logits as those of SmolLM2 are in the middle of a text: a bell, and some favourites far above it,
 * of which the first has about a third of the mass. 95 % of it are in a few hundred tokens.
 */
const DEVIATION = 3.3;
const FAVOURITE_COUNT = 50;
const FAVOURITE_START = 12;
const FAVOURITE_MEAN = 2;

/** Answers at once, so that what is timed is what the host does with the rows. */
export class PreparedRunner implements Runner {
  readonly blockCount = 4096;
  readonly maxContextLength = 2048;
  readonly maxPromptLength = 2048;
  readonly maxTokensPerStep = 512;
  readonly #memory = new WebAssembly.Memory({ initial: 1024, maximum: 1024, shared: true });
  readonly #kernels: ReturnType<typeof createSimdKernels>;
  readonly #rowStride: number;
  readonly #parts: { address: number; stride: number; width: number; copyBytes: number };
  readonly #needs: Int32Array;
  stepCount = 0;

  constructor(
    readonly vocabSize: number,
    readonly maxBatchSize: number,
    readonly offersSummaries: boolean,
  ) {
    this.#rowStride = Math.ceil(vocabSize / 16) * 16;
    const rowCount = CYCLE * maxBatchSize;
    const rows = new Float32Array(this.#memory.buffer, 0, this.#rowStride * rowCount);
    for (let i = 0; i < rows.length; i++) rows[i] = DEVIATION * bell();
    for (let i = 0; i < FAVOURITE_COUNT * rowCount; i++) {
      const id = Math.floor(Math.random() * vocabSize);
      const logit = FAVOURITE_START - FAVOURITE_MEAN * Math.log(1 - Math.random());
      rows[(i % rowCount) * this.#rowStride + id] = logit;
    }
    const width = summaryPartWords(vocabSize);
    const stride = Math.ceil(width / 16) * 16;
    this.#parts = {
      address: rows.byteLength,
      stride,
      width,
      copyBytes: 4 * stride * rowCount,
    };
    const needs = this.#parts.address + PE_COUNT * this.#parts.copyBytes;
    this.#needs = new Int32Array(this.#memory.buffer, needs, rowCount);
    const scratch = { address: needs + 4096, sizeBytes: 4096 };
    this.#kernels = createSimdKernels(this.#memory, scratch);
  }

  get maxOutputRows(): number {
    return this.maxBatchSize;
  }

  run(batch: Batch): Promise<Rows> {
    this.stepCount++;
    const buffer = this.#memory.buffer;
    const need = this.offersSummaries ? batch.summaryNeeds?.[0] ?? SUMMARY_NEED.nothing : 0;
    if (need !== this.#needs[0]) this.#prepare(need);
    const first = (this.stepCount % CYCLE) * this.maxBatchSize;
    const summary = (i: number): RowSummary | undefined =>
      joinSummary(buffer, this.#parts, {
        index: first + i,
        width: this.vocabSize,
        peCount: PE_COUNT,
        need,
      });
    const rows: Rows = {
      count: batch.outputRows.length,
      row: (i) => new Float32Array(buffer, 4 * (first + i) * this.#rowStride, this.vocabSize),
      ...(this.offersSummaries ? { summary } : {}),
    };
    // The device answers through the event loop, and others have their turn while it works.
    return new Promise((resolve) => setImmediate(() => resolve(rows)));
  }

  /** Milliseconds that one of two elements, working at the same time, takes for a step's rows. */
  summaryMs(need: SummaryNeed, rounds: number): number {
    this.#needs.fill(need);
    const times: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const start = performance.now();
      this.#summarise(0, this.maxBatchSize);
      times.push(performance.now() - start);
    }
    return median(times);
  }

  #prepare(need: SummaryNeed): void {
    this.#needs.fill(need);
    for (let pe = 0; pe < PE_COUNT; pe++) this.#summarise(pe, CYCLE * this.maxBatchSize);
  }

  #summarise(pe: number, rowCount: number): void {
    const chunkCount = Math.ceil(this.vocabSize / CHUNK_COLUMNS);
    this.#kernels.summarizeRows({
      x: 0,
      xStride: this.#rowStride,
      width: this.vocabSize,
      rowCount,
      chunkStart: summaryChunkStart(pe, PE_COUNT, chunkCount),
      chunkEnd: summaryChunkStart(pe + 1, PE_COUNT, chunkCount),
      needs: this.#needs.byteOffset,
      out: this.#parts.address + pe * this.#parts.copyBytes,
      outStride: this.#parts.stride,
    });
  }
}

/** A normally distributed number, by the method of Box and Muller. */
function bell(): number {
  const radius = Math.sqrt(-2 * Math.log(1 - Math.random()));
  return radius * Math.cos(2 * Math.PI * Math.random());
}
