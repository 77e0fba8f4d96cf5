/**
 * A `Runner` without a device: its KV memory holds token ids, and a row of logits is a function of
 * the tokens that are read back through the block table.
 *
 * A wrong block table, a block that was given to somebody else, a lost preemption or a skipped
 * chunk changes what is read back, hence the row, hence the tokens that come out.
 *
 * Where there is a window pool, its memory holds for each token a hash of all tokens up to it. Those
 * of a row's window must be the right ones, and blocks before the window must have been given back.
 */

import type { StepShape } from "../../lib/device/bucket.ts";
import type { Batch } from "../../lib/engine/batch.ts";
import type { Rows, Runner, WindowPool } from "../../lib/engine/runner.ts";

export interface ScriptedRunnerOptions {
  readonly blockCount?: number;
  readonly window?: WindowPool | undefined;
  readonly maxBatchSize?: number;
  readonly maxTokensPerStep?: number;
  readonly maxOutputRows?: number;
  readonly maxContextLength?: number;
  readonly maxPromptLength?: number;
  readonly vocabSize?: number;
  readonly isGenerative?: boolean;
  /** Hidden states follow from all tokens of the sequence. Default false. */
  readonly isEncoder?: boolean;
  readonly tokenTypeCount?: number;
  /** Writes the logits after a history. Default: {@linkcode hashedRow}. */
  readonly script?: (history: readonly number[], row: Float32Array) => void;
  /** Called before each step; what it throws is what the device fails with. */
  readonly onRun?: (batch: Batch) => void | Promise<void>;
}

const BLOCK_SIZE = 16;
/** Numbers in a hidden state; see {@linkcode hiddenState}. */
const HIDDEN_SIZE = 4;

export class ScriptedRunner implements Runner {
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
  /** One line a step. */
  readonly trace: string[] = [];
  readonly #options: ScriptedRunnerOptions;
  /** Token id by slot; −1 was never written. */
  readonly #memory: Int32Array;
  /** Hash of a history by slot of the window pool; 0 was never written. */
  readonly #windowMemory: Int32Array;
  /** Most blocks of the window pool that one sequence had in a step. */
  windowBlocksMost = 0;

  constructor(options: ScriptedRunnerOptions = {}) {
    this.#options = options;
    this.blockCount = options.blockCount ?? 64;
    this.maxBatchSize = options.maxBatchSize ?? 8;
    this.maxTokensPerStep = options.maxTokensPerStep ?? 64;
    this.maxOutputRows = options.maxOutputRows ?? this.maxBatchSize;
    this.maxContextLength = options.maxContextLength ?? 512;
    this.maxPromptLength = options.maxPromptLength ?? this.maxContextLength;
    this.vocabSize = options.vocabSize ?? 50;
    this.isGenerative = options.isGenerative ?? true;
    this.isEncoder = options.isEncoder ?? false;
    this.tokenTypeCount = options.tokenTypeCount ?? 0;
    this.#memory = new Int32Array(this.blockCount * BLOCK_SIZE).fill(-1);
    this.window = options.window;
    this.#windowMemory = new Int32Array((this.window?.blockCount ?? 0) * BLOCK_SIZE);
  }

  async run(batch: Batch): Promise<Rows> {
    await this.#options.onRun?.(batch);
    this.#check(batch);
    this.trace.push(
      `${batch.kind} ${batch.blockTables.length}x${batch.tokenIds.length} ` +
        `${batch.positions.join(",")} -> ${batch.slots.join(",")}` +
        (batch.blockCopies ?? []).map(({ from, to }) => ` ${from}=>${to}`).join(""),
    );
    for (const { from, to, pool } of batch.blockCopies ?? []) {
      const memory = pool === "window" ? this.#windowMemory : this.#memory;
      memory.copyWithin(to * BLOCK_SIZE, from * BLOCK_SIZE, (from + 1) * BLOCK_SIZE);
    }
    batch.slots.forEach((slot, row) => this.#memory[slot] = batch.tokenIds[row]!);
    const sequences = this.#readSequences(batch);
    const history = (row: number) =>
      sequences[batch.sequences[row]!]!.slice(0, batch.positions[row]! + 1);
    this.#runWindow(batch, sequences);
    const script = this.#options.script ?? hashedRow;
    const rows = [...batch.outputRows].map((index) => {
      const row = new Float32Array(this.vocabSize);
      script(history(index), row);
      return row;
    });
    const hidden = [...batch.hiddenRows ?? []].map((index) => {
      const seen = history(this.isEncoder ? lastOf(batch, index) : index);
      return hiddenState(seen, batch.positions[index]!, batch.tokenTypes?.[index] ?? 0);
    });
    return {
      count: rows.length,
      row: (index) => rows[index]!,
      hidden: (index) => hidden[index]!,
    };
  }

  /** The tokens of each sequence up to its last row, read through its block table. */
  #readSequences(batch: Batch): number[][] {
    const lengths = new Int32Array(batch.blockTables.length);
    batch.sequences.forEach((sequence, row) =>
      lengths[sequence] = Math.max(lengths[sequence]!, batch.positions[row]! + 1)
    );
    return batch.blockTables.map((table, sequence) => {
      const tokenIds: number[] = [];
      for (let position = 0; position < lengths[sequence]!; position++) {
        const block = table[position >> 4];
        const tokenId = block === undefined
          ? -1
          : this.#memory[block * BLOCK_SIZE + position % BLOCK_SIZE]!;
        if (tokenId < 0) throw new Error(`Position ${position} is read but was never written`);
        tokenIds.push(tokenId);
      }
      return tokenIds;
    });
  }

  /** Writes to the window pool, and checks that it has each row's window after the right tokens. */
  #runWindow(batch: Batch, sequences: readonly number[][]): void {
    if (this.window === undefined) return;
    const { window } = this.window;
    const hashes = sequences.map(hashesOf);
    batch.windowSlots?.forEach((slot, row) =>
      this.#windowMemory[slot] = hashes[batch.sequences[row]!]![batch.positions[row]!]!
    );
    for (const [row, sequence] of batch.sequences.entries()) {
      const last = batch.positions[row]!;
      const table = batch.windowBlockTables![sequence]!;
      for (let at = Math.max(0, last - window + 1); at <= last; at++) {
        const cell = this.#windowMemory[table[at >> 4]! * BLOCK_SIZE + at % BLOCK_SIZE];
        expect(cell === hashes[sequence]![at], `position ${at} is wrong in the window`);
      }
    }
  }

  /** What the tables of the window pool must obey. */
  #checkWindowTables(batch: Batch): void {
    if (this.window === undefined) {
      expect(batch.windowSlots === undefined, "slots of a pool that is not there");
      return;
    }
    const { window, blockCount } = this.window;
    const tables = batch.windowBlockTables ?? [];
    const slots = batch.windowSlots ?? [];
    expect(tables.length === batch.blockTables.length, "a sequence without window blocks");
    expect(new Set(slots).size === batch.slots.length, "two tokens go to one slot of the window");
    const readers = new Map<number, number>();
    for (const [index, table] of tables.entries()) {
      const first = batch.positions[batch.sequences.indexOf(index)]!;
      const seen = Math.floor(Math.max(0, first - window + 1) / BLOCK_SIZE);
      const held = table.slice(seen);
      expect(table.length === batch.blockTables[index]!.length, "tables of two lengths");
      expect(table.slice(0, seen).every((id) => id === -1), "a block is kept that nobody sees");
      expect(held.every((id) => id >= 0 && id < blockCount), "a window block outside the pool");
      expect(new Set(held).size === held.length, "a block twice in one window");
      this.windowBlocksMost = Math.max(this.windowBlocksMost, held.length);
      for (const id of held) readers.set(id, (readers.get(id) ?? 0) + 1);
    }
    slots.forEach((slot, row) => {
      const position = batch.positions[row]!;
      const table = tables[batch.sequences[row]!]!;
      const right = table[position >> 4]! * BLOCK_SIZE + position % BLOCK_SIZE;
      expect(slot === right, "a window slot is not where the block table says");
      expect(readers.get(slot >> 4) === 1, "a window block that several read is written to");
    });
  }

  /** What every batch must obey, whatever is in it. */
  #check(batch: Batch): void {
    this.#checkWindowTables(batch);
    const rowCount = batch.tokenIds.length;
    expect(rowCount > 0 && rowCount <= this.maxTokensPerStep, `${rowCount} tokens in a step`);
    expect(batch.blockTables.length <= this.maxBatchSize, "too many sequences");
    expect(batch.outputRows.length <= this.maxOutputRows, "too many rows of logits");
    expect(new Set(batch.slots).size === rowCount, "two tokens go to one slot");
    const shape = shapeOf(batch);
    expect(!this.isEncoder || shape.kind !== "append", "an encoder's prompt in pieces");
    expect(this.isGenerative || batch.outputRows.length === 0, "logits of a model without");
    expect(batch.kind === shape.kind, `a ${shape.kind} step is called ${batch.kind}`);
    expect(shape.attentionSize <= this.maxContextLength, "beyond the context");
    expect(
      shape.kind === "decode" || shape.attentionSize <= this.maxPromptLength,
      "several tokens of a sequence beyond the longest prompt",
    );
    for (let row = 0; row < rowCount; row++) {
      const position = batch.positions[row]!;
      const table = batch.blockTables[batch.sequences[row]!]!;
      const slot = table[Math.floor(position / BLOCK_SIZE)]! * BLOCK_SIZE + position % BLOCK_SIZE;
      expect(batch.slots[row] === slot, "a slot is not where the block table says");
      const followsOn = row > 0 && batch.sequences[row] === batch.sequences[row - 1];
      expect(!followsOn || position === batch.positions[row - 1]! + 1, "positions with a gap");
    }
    const readers = new Map<number, number>();
    for (const id of batch.blockTables.flat()) readers.set(id, (readers.get(id) ?? 0) + 1);
    expect(
      batch.slots.every((slot) => readers.get(Math.floor(slot / BLOCK_SIZE)) === 1),
      "a block that several sequences read is written to",
    );
    for (const [index, table] of batch.blockTables.entries()) {
      const last = batch.sequences.lastIndexOf(index);
      expect(last >= 0, "a sequence without tokens");
      const context = batch.positions[last]! + 1;
      expect(table.length === Math.ceil(context / BLOCK_SIZE), "a table of the wrong length");
      expect(new Set(table).size === table.length, "a block twice in one table");
      expect(table.every((id) => id >= 0 && id < this.blockCount), "a block outside the pool");
    }
  }
}

/** The row of the last token of a row's sequence. */
function lastOf(batch: Batch, row: number): number {
  return batch.sequences.lastIndexOf(batch.sequences[row]!);
}

/** A hidden state that depends on every token that is seen, on the place and on the token type. */
export function hiddenState(
  seen: readonly number[],
  position: number,
  tokenType: number,
): Float32Array {
  const row = new Float32Array(HIDDEN_SIZE);
  hashedRow([...seen, 1000 + position, 2000 + tokenType], row);
  return row;
}

/** The shape of a batch, counted from its rows. */
export function shapeOf(batch: Batch): StepShape {
  const counts = batch.blockTables.map((_, index) =>
    batch.sequences.filter((sequence) => sequence === index).length
  );
  const inputSize = Math.max(...counts);
  const startsAtZero = batch.blockTables.every((_, index) =>
    batch.positions[batch.sequences.indexOf(index)] === 0
  );
  return {
    kind: inputSize === 1 ? "decode" : startsAtZero ? "prefill" : "append",
    batchSize: counts.length,
    attentionSize: Math.max(...batch.positions) + 1,
    inputSize,
    tokenCount: batch.tokenIds.length,
  };
}

/** A hash of all tokens up to each one; never 0. */
function hashesOf(tokenIds: readonly number[]): Int32Array {
  let hash = 0x811c9dc5 | 0;
  return Int32Array.from(tokenIds, (tokenId) => {
    hash = Math.imul(hash ^ (tokenId + 1), 0x01000193);
    return hash | 1;
  });
}

/** Pseudo-random logits from −4 to 4 that depend on every token of the history and its place. */
export function hashedRow(history: readonly number[], row: Float32Array): void {
  let hash = 0x811c9dc5;
  for (const tokenId of history) hash = Math.imul(hash ^ (tokenId + 1), 0x01000193) ^ (hash >>> 15);
  for (let id = 0; id < row.length; id++) {
    let word = Math.imul(hash ^ Math.imul(id + 1, 0x9e3779b9), 0x85ebca6b);
    word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35);
    row[id] = ((word ^ (word >>> 16)) >>> 0) / 2 ** 29 - 4;
  }
}

/** A seeded generator for tests: numbers in [0, 1). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let word = Math.imul(state ^ (state >>> 15), state | 1);
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61);
    return ((word ^ (word >>> 14)) >>> 0) / 2 ** 32;
  };
}

function expect(condition: boolean, what: string): void {
  if (!condition) throw new Error(`The batch breaks its contract: ${what}`);
}
