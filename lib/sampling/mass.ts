/**
 * The mass of a whole row, and a draw from it that reads one chunk of it.
 *
 * A token's weight is exp((logit − largest) · scale). The weights of a row are added up by chunks
 * of columns, which the processing elements do where they can. Where the logits of few tokens are
 * changed, their old weights are taken off their chunks again, and the new ones stand in a last
 * group behind all chunks: so nobody has to read a row because some tokens are penalised.
 *
 * Taking off loses digits where little is left: there the chunk's other tokens are added up anew.
 * These rules are the definition of the mass: it is the same number whoever added up the chunks.
 */

import { CHUNK_COLUMNS, powerOfTwo } from "../base/row_summary.ts";
import { invariant } from "../base/invariant.ts";
import type { Choice } from "./candidates.ts";
import type { SamplerScratch } from "./scratch.ts";

/** A chunk of which a smaller share is left is added up anew: 33 of 53 bits are good. */
const LEAST_SHARE = 2 ** -20;

/** What the weights of a row are relative to. */
export interface WeightScale {
  /** The largest logit. */
  readonly max: number;
  /** 1 / temperature, as a float32. */
  readonly scale: number;
}

/** Weighs the candidates in the scratch memory; those below `least` have no weight. */
export function weigh(
  count: number,
  { max, scale, least = -Infinity }: WeightScale & { readonly least?: number },
  { logits, weights }: SamplerScratch,
): void {
  const rate = scale * Math.LOG2E;
  for (let i = 0; i < count; i++) {
    const logit = logits[i]!;
    weights[i] = logit >= least ? powerOfTwo((logit - max) * rate) : 0;
  }
}

/** Adds up all weights; leaves those of the chunks in the scratch memory, for {@linkcode drawFromMass}. */
export function measureMass(
  choice: Choice,
  { max, scale }: WeightScale,
  scratch: SamplerScratch,
): number {
  const { base, adjusted: { ids, logits } } = choice;
  const { maxima, sums } = base.sums(scale);
  scratch.reserveChunks(sums.length);
  const { chunkMaxima, chunkSums, chunkMasses } = scratch;
  const rate = scale * Math.LOG2E;
  let total = 0;
  let next = 0;
  for (let chunk = 0; chunk < sums.length; chunk++) {
    const end = (chunk + 1) * CHUNK_COLUMNS;
    const chunkMax = maxima[chunk]!;
    const first = next;
    let rest = sums[chunk]!;
    for (; next < ids.length && ids[next]! < end; next++) {
      rest -= powerOfTwo((base.logits[ids[next]!]! - chunkMax) * rate);
    }
    chunkMaxima[chunk] = chunkMax;
    chunkSums[chunk] = rest;
    const isLost = !(rest >= LEAST_SHARE * sums[chunk]!);
    if (next > first && isLost) addUpAnew(choice, { chunk, first, next, scale }, scratch);
    chunkMasses[chunk] = chunkSums[chunk]! * factorOf((chunkMaxima[chunk]! - max) * rate);
    total += chunkMasses[chunk]!;
  }
  for (const logit of logits) total += powerOfTwo((logit - max) * rate);
  return total;
}

/**
 * 2^x. What a chunk's weights are relative to may be above the largest logit that is left, but not
 * by more than the share that is left of the chunk allows.
 */
function factorOf(x: number): number {
  return x > 0 ? 1 / powerOfTwo(-x) : powerOfTwo(x);
}

/** Draws a token: `mass` is what {@linkcode measureMass} gave, `point` is below it. */
export function drawFromMass(
  choice: Choice,
  { max, scale, point }: WeightScale & { readonly point: number },
  scratch: SamplerScratch,
): number {
  const { base, adjusted: { ids, logits } } = choice;
  const { chunkMasses, chunkSums } = scratch;
  const chunkCount = Math.ceil(base.logits.length / CHUNK_COLUMNS);
  const rate = scale * Math.LOG2E;
  let left = point;
  let lastChunk = -1;
  for (let chunk = 0; chunk < chunkCount; chunk++) {
    const mass = chunkMasses[chunk]!;
    if (mass === 0) continue;
    if (left < mass) {
      return drawFromChunk(
        choice,
        { chunk, scale, point: left / mass * chunkSums[chunk]! },
        scratch,
      );
    }
    left -= mass;
    lastChunk = chunk;
  }
  // A rounding may leave the point behind the last token: then that is the one.
  let last = -1;
  for (let i = 0; i < ids.length; i++) {
    const weight = powerOfTwo((logits[i]! - max) * rate);
    if (weight === 0) continue;
    if (left < weight) return ids[i]!;
    left -= weight;
    last = ids[i]!;
  }
  if (last >= 0) return last;
  return drawFromChunk(choice, { chunk: lastChunk, scale, point: Infinity }, scratch);
}

function drawFromChunk(
  choice: Choice,
  { chunk, scale, point }: { chunk: number; scale: number; point: number },
  scratch: SamplerScratch,
): number {
  const { base: { logits }, adjusted: { ids } } = choice;
  const start = chunk * CHUNK_COLUMNS;
  const end = Math.min(logits.length, start + CHUNK_COLUMNS);
  const max = scratch.chunkMaxima[chunk]!;
  const rate = scale * Math.LOG2E;
  let next = 0;
  while (next < ids.length && ids[next]! < start) next++;
  let sum = 0;
  let last = -1;
  for (let id = start; id < end; id++) {
    if (ids[next] === id) {
      next++;
      continue;
    }
    const weight = powerOfTwo((logits[id]! - max) * rate);
    if (weight === 0) continue;
    sum += weight;
    last = id;
    if (sum > point) return id;
  }
  invariant(last >= 0, "A draw falls into a chunk without mass");
  return last;
}

/** Adds up the tokens of a chunk that are not changed; the changes first … next − 1 are in it. */
function addUpAnew(
  { base: { logits }, adjusted: { ids } }: Choice,
  options: { chunk: number; first: number; next: number; scale: number },
  scratch: SamplerScratch,
): void {
  const { chunk, first, scale } = options;
  const start = chunk * CHUNK_COLUMNS;
  const end = Math.min(logits.length, start + CHUNK_COLUMNS);
  let max = -Infinity;
  let next = first;
  for (let id = start; id < end; id++) {
    if (ids[next] === id) next++;
    else if (logits[id]! > max) max = logits[id]!;
  }
  const rate = scale * Math.LOG2E;
  let sum = 0;
  next = first;
  for (let id = start; id < end; id++) {
    if (ids[next] === id) next++;
    else sum += powerOfTwo((logits[id]! - max) * rate);
  }
  scratch.chunkMaxima[chunk] = max;
  scratch.chunkSums[chunk] = max === -Infinity ? 0 : sum;
}
