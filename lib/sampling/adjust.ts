/**
 * A row of logits after bans, bias, processors and penalties, without a copy of it.
 *
 * Nearly all that these do is done to few tokens, so that what they make of a row is the row and a
 * short list of logits that are different. A processor sees, and may change, all of them: it gets a
 * copy, which is compared with the row afterwards, and takes its place only where much is changed.
 */

import { InvalidLogitsError, InvalidParameterError } from "../base/errors.ts";
import { bannedIds, isTooShort } from "./bans.ts";
import { penalize } from "./penalties.ts";
import { SamplerScratch } from "./scratch.ts";
import type { SamplingState } from "./state.ts";

/** From so many changes of processors on, what they left is read like a new row. */
const PROCESSED_COUNT_MAX = 1024;

/** What became of a row. */
export interface AdjustedRow {
  /** The row that was given, or what processors made of it. */
  readonly base: Float32Array;
  /** Tokens whose logits are others than in `base`, ascending. */
  readonly ids: readonly number[];
  /** Their logits, each a float32. */
  readonly logits: readonly number[];
  /** Whether `ids` are the only tokens that are possible, and all others at −Infinity. */
  readonly isList: boolean;
}

/**
 * Applies, in this order: allowed tokens, bad words, `minTokens`, bias, processors, penalties.
 *
 * @throws {InvalidParameterError} A processor returned something else than a row, or the penalty on
 *   repetition brings a logit to +Infinity or NaN.
 * @throws {InvalidLogitsError} A processor left +Infinity or NaN.
 */
export function adjust(
  row: Float32Array,
  state: SamplingState,
  scratch: SamplerScratch = new SamplerScratch(),
): AdjustedRow {
  const banned = bannedIds(state);
  if (state.params.logitsProcessors.length > 0) {
    const changes = changeLogits(row, state, { banned, penalizes: false });
    const processed = processedRow(materialize(changes, scratch.rowOf(row.length)), state);
    const changed = changedIds(row, processed);
    const penalized = inside(state.penalizedIds, row.length);
    const isShort = changed.length < PROCESSED_COUNT_MAX;
    return {
      base: isShort ? row : processed,
      ...(isShort && changed.length > 0
        ? penalizedAmong(union(penalized, changed), processed, state)
        : { ids: penalized, logits: penalties(processed, penalized, state) }),
      isList: false,
    };
  }
  return changeLogits(row, state, { banned, penalizes: true });
}

/** A row of its own, or the one that is given, with the changes in it. */
export function materialize(
  { base, ids, logits, isList }: AdjustedRow,
  copy: Float32Array = new Float32Array(base.length),
): Float32Array {
  if (isList) copy.fill(-Infinity);
  else copy.set(base);
  for (let i = 0; i < ids.length; i++) copy[ids[i]!] = logits[i]!;
  return copy;
}

/** What can leave a row without possible tokens, of that which a request asks for. */
export function bansInUse(state: SamplingState): readonly string[] {
  const { params } = state;
  return [
    ...(params.allowedTokenIds === null ? [] : ["allowedTokenIds"]),
    ...(params.badTokenSequences.length === 0 ? [] : ["badWords"]),
    ...(isTooShort(state) ? ["minTokens"] : []),
    ...(params.logitsProcessors.length === 0 ? [] : ["logitsProcessors"]),
  ];
}

function changeLogits(
  row: Float32Array,
  state: SamplingState,
  { banned, penalizes }: { banned: readonly number[]; penalizes: boolean },
): AdjustedRow {
  const { logitBias } = state.params;
  const isList = state.allowedIds !== null;
  const changed = state.allowedIds ??
    union(penalizes ? state.penalizedIds : [], [...logitBias.keys(), ...banned]);
  if (changed.length === 0) return { base: row, ids: changed, logits: changed, isList };
  const ids = inside(changed, row.length);
  // By far the most common changes are long lists of penalties and nothing else.
  if (changed === state.penalizedIds) {
    return { base: row, ids, logits: penalties(row, ids, state), isList };
  }
  const isBanned = new Set(banned);
  const logits = ids.map((id) => {
    if (isBanned.has(id)) return -Infinity;
    let value = row[id]!;
    const bias = logitBias.get(id);
    if (bias !== undefined) value = Math.fround(value + bias);
    const place = penalizes ? state.penalizedPlace(id) : undefined;
    if (place !== undefined) value = penalize(value, state.penalizedCounts[place]!, state.params);
    return checked(value, id, state);
  });
  return { base: row, ids, logits, isList };
}

/** The logits of some ids, with penalties on those that are penalised. */
function penalizedAmong(
  ids: readonly number[],
  row: Float32Array,
  state: SamplingState,
): Pick<AdjustedRow, "ids" | "logits"> {
  const logits = ids.map((id) => {
    const place = state.penalizedPlace(id);
    if (place === undefined) return row[id]!;
    return checked(penalize(row[id]!, state.penalizedCounts[place]!, state.params), id, state);
  });
  return { ids, logits };
}

function penalties(row: Float32Array, ids: readonly number[], state: SamplingState): number[] {
  const logits = new Array<number>(ids.length);
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!;
    logits[i] = checked(penalize(row[id]!, state.penalizedCounts[i]!, state.params), id, state);
  }
  return logits;
}

/** All of the ids once, ascending. */
function union(penalized: readonly number[], others: readonly number[]): readonly number[] {
  if (others.length === 0) return penalized;
  return [...new Set([...penalized, ...others])].sort(ascending);
}

/** Ids beyond the row cannot be chosen anyway. */
function inside(ids: readonly number[], length: number): readonly number[] {
  const isInside = ids.length === 0 || ids[ids.length - 1]! < length;
  return isInside ? ids : ids.filter((id) => id < length);
}

function ascending(a: number, b: number): number {
  return a - b;
}

/** A penalty near 0 can bring a logit anywhere; bias and the other penalties are bounded. */
function checked(value: number, id: number, { params: { repetitionPenalty } }: SamplingState) {
  if (value < Infinity) return value;
  throw new InvalidParameterError(
    "repetitionPenalty",
    repetitionPenalty,
    `Cannot use repetitionPenalty ${repetitionPenalty}: it brings the logit of token ${id} to ` +
      `${value}; it must be nearer to 1`,
  );
}

function processedRow(row: Float32Array, state: SamplingState): Float32Array {
  let logits = row;
  for (const processor of state.params.logitsProcessors) {
    // Copies: what a function of the user does to them must not reach the state.
    const result: unknown = processor(
      state.outputTokenIds.slice(),
      logits,
      state.promptTokenIds.slice(),
    );
    if (result === undefined) continue;
    if (!(result instanceof Float32Array) || result.length !== logits.length) {
      throw new InvalidParameterError(
        "logitsProcessors",
        processor,
        `Cannot use what the logits processor "${
          processor.name || "without a name"
        }" returned: it must be nothing ` +
          `or a Float32Array of ${logits.length} logits`,
      );
    }
    logits = result;
  }
  return logits;
}

/**
 * The first `PROCESSED_COUNT_MAX` tokens whose logits processors have changed, ascending.
 *
 * @throws {InvalidLogitsError} One of them is +Infinity or NaN, whichever it is.
 */
function changedIds(row: Float32Array, processed: Float32Array): readonly number[] {
  const ids: number[] = [];
  const note = (id: number) => {
    if (!(processed[id]! < Infinity)) {
      throw new InvalidLogitsError(
        `Cannot choose a token: the logit of token ${id} is ${
          processed[id]
        } after the logits processors`,
      );
    }
    if (ids.length < PROCESSED_COUNT_MAX) ids.push(id);
  };
  // Bits, four at a time: nearly all are equal.
  const before = new Int32Array(row.buffer, row.byteOffset, row.length);
  const after = new Int32Array(processed.buffer, processed.byteOffset, row.length);
  const whole = row.length - row.length % 4;
  for (let id = 0; id < whole; id += 4) {
    const difference = (before[id]! ^ after[id]!) | (before[id + 1]! ^ after[id + 1]!) |
      (before[id + 2]! ^ after[id + 2]!) | (before[id + 3]! ^ after[id + 3]!);
    if (difference === 0) continue;
    for (let i = id; i < id + 4; i++) if (before[i] !== after[i]) note(i);
  }
  for (let id = whole; id < row.length; id++) if (before[id] !== after[id]) note(id);
  return ids;
}
