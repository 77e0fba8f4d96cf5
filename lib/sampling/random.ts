/**
 * Random numbers by counting: the i-th draw of a request is a function of its seed and i alone.
 *
 * There is no state to advance, so batching, chunking and preemption cannot shift a draw. The
 * function is Philox 4x32 with ten rounds (Salmon and others, "Parallel random numbers: as easy
 * as 1, 2, 3", 2011): a small block cipher whose key is the seed and whose plain text is i.
 */

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const KEY_STEP_0 = 0x9e3779b9;
const KEY_STEP_1 = 0xbb67ae85;
const ROUND_COUNT = 10;
const TWO_32 = 0x1_0000_0000;

/** A signed integer of 64 bits: a number where that is exact, a bigint beyond. */
export type Seed = number | bigint;

/** The draw `index` of the stream `seed`: 53 random bits as a number in [0, 1). */
export function uniform(seed: Seed, index: number): number {
  const [word0, word1] = philox(
    [index >>> 0, Math.floor(index / TWO_32) >>> 0, 0, 0],
    seedWords(seed),
  );
  return ((word0 >>> 5) * 0x400_0000 + (word1 >>> 6)) / 0x20_0000_0000_0000;
}

/** The seed in two's complement: −2 and 2 differ in both words. */
function seedWords(seed: Seed): readonly [number, number] {
  if (typeof seed === "number") return [seed >>> 0, Math.floor(seed / TWO_32) >>> 0];
  return [Number(BigInt.asUintN(32, seed)), Number(BigInt.asUintN(32, seed >> 32n))];
}

/** A seed for a request that names none. */
export function randomSeed(): number {
  const [low, high] = crypto.getRandomValues(new Uint32Array(2)) as unknown as [number, number];
  return (high >>> 11) * TWO_32 + low;
}

/** The seed of the i-th of several sequences. Beyond the largest seed it goes on at the smallest. */
export function offsetSeed(seed: Seed, index: number): Seed {
  if (typeof seed === "number" && Number.isSafeInteger(seed + index)) return seed + index;
  const sum = BigInt.asIntN(64, BigInt(seed) + BigInt(index));
  return Number.isSafeInteger(Number(sum)) ? Number(sum) : sum;
}

type Counter = readonly [number, number, number, number];

/** Philox 4x32-10. All words are unsigned 32-bit. */
export function philox(counter: Counter, key: readonly [number, number]): Counter {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < ROUND_COUNT; round++) {
    const low0 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const low1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + KEY_STEP_0) >>> 0;
    k1 = (k1 + KEY_STEP_1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** The upper 32 bits of a 32 × 32 bit product, from four 16 × 16 bit ones. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + (middle >>> 16) + (carry >>> 16)) >>> 0;
}
