/**
 * Milliseconds of the main thread a decode step, the device left out: scheduling, packing,
 * sampling, detokenising, events.
 *
 * The runner answers at once with rows of the model's vocabulary and, unless told otherwise, with
 * the summaries that two processing elements would have made of them; the tokenizer is the model's.
 */

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
import { Engine } from "../../lib/engine/engine.ts";
import type { Rows, Runner } from "../../lib/engine/runner.ts";
import { generateDeltas } from "../../lib/generation.ts";
import { openCheckpoint } from "../../lib/models/checkpoint.ts";
import { SamplingParams } from "../../lib/sampling/params.ts";
import { resolveSamplingParams } from "../../lib/sampling/resolved_params.ts";
import type { Tokenizer } from "../../lib/text/tokenizer.ts";
import { median, rounded } from "../report/figures.ts";
import type { PartFindings } from "../report/results.ts";
import type { PartOptions } from "./part.ts";

const PE_COUNT = 2;
/** Whole rows take so much longer that fewer steps tell as much. */
const EFFORTS = [
  { offersSummaries: true, steps: 300, rounds: 7 },
  { offersSummaries: false, steps: 40, rounds: 3 },
] as const;
const BATCH_SIZE = 16;

const SAMPLING = [
  ["greedy", { temperature: 0 }],
  ["top-k 40", { temperature: 1, topK: 40 }],
  ["top-k 40, logprobs 5", { temperature: 1, topK: 40, logprobs: 5 }],
  ["temperature 1", { temperature: 1 }],
] as const;

/** Rows that are all there before the first step: what is timed is what the host does with them. */
class PreparedRunner implements Runner {
  readonly blockCount = 4096;
  readonly maxContextLength = 2048;
  readonly maxPromptLength = 2048;
  readonly maxTokensPerStep = 512;
  readonly #memory = new WebAssembly.Memory({ initial: 1024, maximum: 1024, shared: true });
  readonly #rowStride: number;
  readonly #parts: { address: number; stride: number; width: number; copyBytes: number };
  stepCount = 0;

  constructor(
    readonly vocabSize: number,
    readonly maxBatchSize: number,
    readonly offersSummaries: boolean,
  ) {
    this.#rowStride = Math.ceil(vocabSize / 16) * 16;
    const rows = new Float32Array(this.#memory.buffer, 0, this.#rowStride * maxBatchSize);
    for (let i = 0; i < rows.length; i++) rows[i] = Math.random() * 20 - 10;
    const width = summaryPartWords(vocabSize);
    const stride = Math.ceil(width / 16) * 16;
    this.#parts = {
      address: rows.byteLength,
      stride,
      width,
      copyBytes: 4 * stride * maxBatchSize,
    };
    const needs = this.#parts.address + PE_COUNT * this.#parts.copyBytes;
    new Int32Array(this.#memory.buffer, needs, maxBatchSize).fill(SUMMARY_NEED.logprobs);
    const kernels = createSimdKernels(this.#memory, { address: needs + 4096, sizeBytes: 4096 });
    const chunkCount = Math.ceil(vocabSize / CHUNK_COLUMNS);
    for (let pe = 0; pe < PE_COUNT; pe++) {
      kernels.summarizeRows({
        x: 0,
        xStride: this.#rowStride,
        width: vocabSize,
        rowCount: maxBatchSize,
        chunkStart: summaryChunkStart(pe, PE_COUNT, chunkCount),
        chunkEnd: summaryChunkStart(pe + 1, PE_COUNT, chunkCount),
        needs,
        out: this.#parts.address + pe * this.#parts.copyBytes,
        outStride: stride,
      });
    }
  }

  get maxOutputRows(): number {
    return this.maxBatchSize;
  }

  run(batch: Batch): Promise<Rows> {
    this.stepCount++;
    const buffer = this.#memory.buffer;
    const needs = batch.summaryNeeds;
    const summary = (index: number): RowSummary | undefined =>
      joinSummary(buffer, this.#parts, {
        index,
        width: this.vocabSize,
        peCount: PE_COUNT,
        need: needs?.[index] as SummaryNeed,
      });
    const rows: Rows = {
      count: batch.outputRows.length,
      row: (index) => new Float32Array(buffer, 4 * index * this.#rowStride, this.vocabSize),
      ...(this.offersSummaries ? { summary } : {}),
    };
    // The device answers through the event loop, and others have their turn while it works.
    return new Promise((resolve) => setImmediate(() => resolve(rows)));
  }
}

/** Milliseconds a step of `batchSize` requests that decode together. */
async function stepMs(
  tokenizer: Tokenizer,
  runner: PreparedRunner,
  options: ConstructorParameters<typeof SamplingParams>[0],
): Promise<number> {
  const engine = new Engine(runner, {
    enablePrefixCaching: true,
    maxWaitingRequests: 1000,
    endTokenIds: [],
  });
  const params = resolveSamplingParams(
    new SamplingParams({ ...options, ignoreEos: true }),
  );
  let start = 0;
  let startStep = 0;
  await Promise.all(Array.from({ length: runner.maxBatchSize }, async (_, i) => {
    const promptTokenIds = Array.from({ length: 16 }, (_, token) => 100 + i * 20 + token);
    const deltas = generateDeltas(engine, tokenizer, {
      requestId: `${i}`,
      prompt: { text: "", tokenIds: promptTokenIds },
      params,
      priority: 0,
      signal: undefined,
    });
    let seen = 0;
    for await (const _ of deltas) {
      // All are decoding by now.
      if (++seen === 10 && start === 0) {
        start = performance.now();
        startStep = runner.stepCount;
      }
    }
  }));
  const elapsed = performance.now() - start;
  await engine.close();
  return elapsed / (runner.stepCount - startStep);
}

/** Batch 16, with summaries of rows as the device makes them, and with whole rows. */
export async function measureEngine({ models, say }: PartOptions): Promise<PartFindings> {
  const tokenizer = await models.tokenizer();
  using checkpoint = await openCheckpoint(await models.path("q4_1"));
  const { vocabSize } = checkpoint.config;
  const rows: (string | number)[][] = [];
  for (const [name, options] of SAMPLING) {
    const cells: number[] = [];
    for (const { offersSummaries, steps, rounds } of EFFORTS) {
      const runner = new PreparedRunner(vocabSize, BATCH_SIZE, offersSummaries);
      const times: number[] = [];
      for (let round = 0; round < rounds; round++) {
        times.push(await stepMs(tokenizer, runner, { ...options, maxTokens: steps }));
      }
      cells.push(rounded(median(times)));
    }
    say(`${name}: ${cells[0]} ms a step with summaries, ${cells[1]} ms with whole rows`);
    rows.push([name, ...cells]);
  }
  const table = {
    title: `Milliseconds a decode step of ${BATCH_SIZE} sequences`,
    text: "Scheduling, packing, sampling, detokenising and events, with a device that answers at " +
      "once. The device summarises rows for greedy sampling and top-k up to 64: whole rows are " +
      "what it costs without. The aim is 0.3 ms for these two.",
    columns: ["sampling", "summaries", "whole rows"],
    rows,
  };
  return { findings: [], tables: [table], charts: [], facts: {} };
}
