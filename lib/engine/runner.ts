/** Batch → device → rows: the engine's only hand on the device. */

import { type RowSummary, SUMMARY_NEED } from "../base/row_summary.ts";
import { type BucketTables, chooseBucket, findBucket, type StepShape } from "../device/bucket.ts";
import type { Model } from "../models/model.ts";
import type { Batch } from "./batch.ts";

/** The logits of one step: float32 rows [vocabSize], valid until the next step runs. */
export interface Rows {
  readonly count: number;
  /** Row i belongs to `batch.outputRows[i]`. The caller must not write to it. */
  row(index: number): Float32Array;
  /** What is known of row i without reading it, if the runner can tell and was asked. */
  summary?(index: number): RowSummary | undefined;
  /** Float32 [hiddenSize] of `batch.hiddenRows[i]`, after the final norm. The same rules. */
  hidden?(index: number): Float32Array;
}

/** The pool of layers that see a window only. Its block ids are 0 … blockCount − 1 too. */
export interface WindowPool {
  /** Keys a query sees, itself included. */
  readonly window: number;
  readonly blockCount: number;
  /** Whether all layers have a window: blocks of the first pool hold nothing, and only count tokens. */
  readonly isOnly: boolean;
}

/** What the engine may ask of device and model, and the limits it plans within. */
export interface Runner {
  /** KV blocks in the pool. Block ids are 0 … blockCount − 1. */
  readonly blockCount: number;
  /** The second pool, of layers with a window. Default: there are none. */
  readonly window?: WindowPool | undefined;
  /** Most sequences in one step. */
  readonly maxBatchSize: number;
  /** Most tokens in one step. */
  readonly maxTokensPerStep: number;
  /** Most rows of logits in one step. */
  readonly maxOutputRows: number;
  /** Longest context, prompt and output together. */
  readonly maxContextLength: number;
  /** Longest prompt. */
  readonly maxPromptLength: number;
  readonly vocabSize: number;
  /** Whether it gives logits. Default true. */
  readonly isGenerative?: boolean;
  /** Whether tokens see those after them too: prompts run whole, and none is the prefix of another. Default false. */
  readonly isEncoder?: boolean;
  /** Token types that are told apart. Default 0: there are none. */
  readonly tokenTypeCount?: number;
  run(batch: Batch): Promise<Rows>;
}

/** The least its bucket must hold. */
function stepShape(batch: Batch): StepShape {
  let attentionSize = 0;
  const newTokens = new Int32Array(batch.blockTables.length);
  batch.sequences.forEach((sequence, row) => {
    newTokens[sequence] = (newTokens[sequence] as number) + 1;
    attentionSize = Math.max(attentionSize, (batch.positions[row] as number) + 1);
  });
  return {
    kind: batch.kind,
    batchSize: batch.blockTables.length,
    attentionSize,
    inputSize: newTokens.reduce((most, count) => Math.max(most, count), 0),
    tokenCount: batch.tokenIds.length,
  };
}

const largestBatch = (tables: BucketTables) =>
  Math.min(
    ...[tables.prefill, tables.decode, tables.append].map((table) =>
      Math.max(...table.map((bucket) => bucket.batchSize))
    ),
  );

/** As few as take part in choosing the kernel for many rows: all their time is waited for. */
const WARM_UP_ROWS = 16;

/** Runs batches of a loaded model. */
export class DeviceRunner implements Runner {
  readonly #model: Model;
  readonly blockCount: number;
  readonly window: WindowPool | undefined;
  readonly maxBatchSize: number;
  readonly maxTokensPerStep: number;
  readonly maxOutputRows: number;
  readonly maxContextLength: number;
  readonly maxPromptLength: number;
  readonly vocabSize: number;
  readonly isGenerative: boolean;
  readonly isEncoder: boolean;
  readonly tokenTypeCount: number;

  constructor(model: Model) {
    this.#model = model;
    this.blockCount = model.blockCount;
    this.window = model.windowPool;
    this.maxBatchSize = largestBatch(model.buckets);
    this.maxTokensPerStep = model.buckets.tokenwise.at(-1) as number;
    this.maxOutputRows = model.maxOutputRows;
    this.maxContextLength = model.maxContextLength;
    this.maxPromptLength = model.maxPromptLength;
    this.vocabSize = model.config.vocabSize;
    this.isGenerative = model.isGenerative;
    this.isEncoder = model.isEncoder;
    this.tokenTypeCount = model.tokenTypeCount;
  }

  /** Whether some bucket holds a step. */
  fits(step: StepShape): boolean {
    return findBucket(this.#model.buckets, step) !== undefined;
  }

  async run(batch: Batch): Promise<Rows> {
    const { device, graph, buckets } = this.#model;
    const wire = device.prepare(graph, chooseBucket(buckets, stepShape(batch)));
    const rows = await device.run(wire, batch);
    await this.#model.noticeFallbacks();
    return rows;
  }

  /**
   * Runs a few made-up steps, so that wires are compiled and kernels optimised before the first
   * request pays for it. What it writes to KV blocks is overwritten by whoever gets them.
   */
  async warmUp(onStep: (done: number, total: number) => void): Promise<void> {
    const rows = Math.min(WARM_UP_ROWS, this.maxTokensPerStep, this.maxContextLength);
    const steps = [this.#madeUp(rows), this.#madeUp(1), this.#madeUp(1)];
    for (const [done, batch] of steps.entries()) {
      onStep(done, steps.length);
      await this.run(batch);
    }
    await this.#model.device.recheckKernels();
    await this.#model.noticeFallbacks();
    onStep(steps.length, steps.length);
  }

  #madeUp(rows: number): Batch {
    const count = Int32Array.from({ length: rows }, (_, i) => i);
    const blockTables = [Array.from({ length: Math.ceil(rows / 16) }, (_, i) => i)];
    return {
      kind: rows === 1 ? "decode" : "prefill",
      tokenIds: new Int32Array(rows),
      positions: count,
      slots: count,
      sequences: new Int32Array(rows),
      blockTables,
      ...(this.window && { windowSlots: count, windowBlockTables: blockTables }),
      ...(this.isGenerative
        ? {
          outputRows: Int32Array.of(rows - 1),
          summaryNeeds: Int32Array.of(SUMMARY_NEED.logprobs),
        }
        : { outputRows: new Int32Array(0), hiddenRows: Int32Array.of(rows - 1) }),
    };
  }
}
