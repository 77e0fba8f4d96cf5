/** dtype: conversions against the engine's own typed arrays, fused multiply-add against whole numbers. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  bf16ArrayToF32,
  bf16ToF32,
  f16ArrayToF32,
  f16ToF32,
  f32ArrayToBf16,
  f32ArrayToF16,
  f32BitsToBf16,
  f32ToBf16,
  f32ToF16,
  fusedMultiplyAdd,
} from "../../lib/device/dtype.ts";
import { Random, randomSeed } from "./kernel_contract.ts";

/** All 65,536 patterns of 16 bits. */
const ALL_HALVES = Uint16Array.from({ length: 65536 }, (_, bits) => bits);

Deno.test("bfloat16 bits are the upper half of a float32, for every pattern", () => {
  const bulk = new Float32Array(65536);
  bf16ArrayToF32(ALL_HALVES, bulk);
  const view = new DataView(new ArrayBuffer(4));
  for (let bits = 0; bits < 65536; bits++) {
    view.setUint16(2, bits, true);
    const expected = view.getFloat32(0, true);
    assert(Object.is(bf16ToF32(bits), expected), `scalar ${bits.toString(16)}`);
    assert(Object.is(bulk[bits], expected), `bulk ${bits.toString(16)}`);
  }
});

Deno.test("float16 bits become what Float16Array reads, for every pattern", () => {
  const expected = new Float16Array(ALL_HALVES.buffer);
  const bulk = new Float32Array(65536);
  f16ArrayToF32(ALL_HALVES, bulk);
  for (let bits = 0; bits < 65536; bits++) {
    assert(Object.is(f16ToF32(bits), expected[bits]), `scalar ${bits.toString(16)}`);
    assert(Object.is(bulk[bits], expected[bits]), `bulk ${bits.toString(16)}`);
  }
});

Deno.test("Every 16-bit number survives the way to float32 and back", () => {
  const wide = new Float32Array(65536);
  const back = new Uint16Array(65536);
  for (
    const [widen, narrow, read] of [
      [bf16ArrayToF32, f32ArrayToBf16, bf16ToF32],
      [f16ArrayToF32, f32ArrayToF16, f16ToF32],
    ] as const
  ) {
    widen(ALL_HALVES, wide);
    narrow(wide, back);
    for (let bits = 0; bits < 65536; bits++) {
      if (Number.isNaN(read(bits))) assert(Number.isNaN(read(back[bits]!)), `${bits}`);
      else assertEquals(back[bits], bits);
    }
  }
});

Deno.test("Rounding to 16 bits takes the nearest, and the even one of two that are as near", () => {
  // 1 + 2^-8 is halfway between the bfloat16 1 (even) and 1 + 2^-7; 1 + 3·2^-8 the other way round.
  assertEquals(f32ToBf16(1 + 2 ** -8), 0x3f80);
  assertEquals(f32ToBf16(1 + 2 ** -8 + 2 ** -20), 0x3f81);
  assertEquals(f32ToBf16(1 + 3 * 2 ** -8), 0x3f82);
  assertEquals(f32ToBf16(-(1 + 3 * 2 ** -8)), 0xbf82);
  assertEquals(f32ToBf16(3.4028234663852886e38), 0x7f80, "the largest float32 rounds to infinity");
  assertEquals(f32ToBf16(-Infinity), 0xff80);
  assertEquals(f32ToBf16(-0), 0x8000);
  assertEquals(f32ToF16(1 + 2 ** -11), 0x3c00);
  assertEquals(f32ToF16(1 + 3 * 2 ** -11), 0x3c02);
  assertEquals(f32ToF16(65519), 0x7bff);
  assertEquals(f32ToF16(65520), 0x7c00);
  assertEquals(f32ToF16(2 ** -25), 0);
  assertEquals(f32ToF16(2 ** -25 * 1.5), 1);
});

Deno.test("bfloat16 rounding picks the nearer neighbour of random float32", () => {
  const random = new Random(randomSeed());
  const view = new DataView(new ArrayBuffer(4));
  for (let i = 0; i < 20000; i++) {
    const bits = random.integer(0, 0x7f7f_0000) | (random.integer(0, 2) << 31);
    view.setInt32(0, bits);
    const value = view.getFloat32(0);
    const below = bf16ToF32((bits >>> 16) & 0xffff);
    const above = bf16ToF32(((bits >>> 16) + 1) & 0xffff);
    const chosen = bf16ToF32(f32BitsToBf16(bits >>> 0));
    const best = Math.min(Math.abs(value - below), Math.abs(value - above));
    assertEquals(Math.abs(value - chosen), best, `${random} value ${value}`);
  }
});

Deno.test("A NaN stays a NaN, even if its payload is all in the lower half", () => {
  assert(Number.isNaN(bf16ToF32(f32BitsToBf16(0x7f800001))));
  assert(Number.isNaN(bf16ToF32(f32BitsToBf16(0xff800001))));
  assert(Number.isNaN(bf16ToF32(f32BitsToBf16(0x7fffffff))));
  assert(Number.isNaN(bf16ToF32(f32ToBf16(NaN))));
  assert(Number.isNaN(f16ToF32(f32ToF16(NaN))));
});

Deno.test("A conversion into a shorter array is refused", () => {
  assertThrows(
    () => f32ArrayToBf16(new Float32Array(3), new Uint16Array(2)),
    RangeError,
    "Cannot convert 3 elements into 2",
  );
});

Deno.test("fusedMultiplyAdd rounds once: random operands against whole-number arithmetic", () => {
  const random = new Random(randomSeed());
  for (let i = 0; i < 20000; i++) {
    const spread = random.integer(0, 3) === 0 ? 150 : 12;
    const draw = () =>
      Math.fround((random.float() - 0.5) * 2 ** random.integer(-spread, Math.min(spread, 120)));
    checkFma(draw(), draw(), draw(), random);
  }
});

Deno.test("fusedMultiplyAdd rounds once where the double sum lands in the middle of two float32", () => {
  const random = new Random(randomSeed());
  let wrongByPlainRounding = 0;
  for (let i = 0; i < 20000; i++) {
    // The product is half a unit in the last place of c, give or take a part too small for a double.
    const exponent = random.integer(-140, 120);
    const c = Math.fround((1 + random.integer(0, 1 << 23) / (1 << 23)) * 2 ** exponent);
    const unitExponent = Math.max(exponent - 23, -149);
    const split = Math.floor(unitExponent / 2);
    const bump = random.integer(0, 4) === 0 ? 0 : 2 ** -random.integer(12, 24);
    const sign = random.integer(0, 2) === 0 ? 1 : -1;
    const a = (1 + bump) * 2 ** split;
    const b = sign * (1 - bump) * 2 ** (unitExponent - 1 - split);
    checkFma(a, b, c, random);
    checkFma(-a, b, -c, random);
    if (Math.fround(a * b + c) !== fusedMultiplyAdd(a, b, c)) wrongByPlainRounding++;
  }
  assert(wrongByPlainRounding > 1000, "the cases should be ones that plain rounding gets wrong");
});

Deno.test("fusedMultiplyAdd is right at the ends of the range", () => {
  const random = new Random(0);
  const largest = Math.fround(3.4028234663852886e38);
  const half = 2 ** 103;
  const down = Math.fround(1 - 2 ** -24);
  const up = Math.fround(1 + 2 ** -23);
  for (const c of [largest, -largest]) {
    const sign = Math.sign(c);
    checkFma(sign * 2 ** 52, 2 ** 51, c, random);
    checkFma(sign * half, 1, c, random);
    checkFma(sign * half * down, down, c, random);
    checkFma(sign * half * down, up, c, random);
    checkFma(sign * half * up, up, c, random);
    // Short of the middle by less than a double shows: the largest number, not infinity.
    checkFma(sign * half * (1 + 2 ** -16), 1 - 2 ** -16, c, random);
    assert(fusedMultiplyAdd(sign * half * (1 + 2 ** -16), 1 - 2 ** -16, c) === c);
  }
  for (const c of [0, 2 ** -149, 3 * 2 ** -149, 2 ** -126]) {
    checkFma(2 ** -75, 2 ** -75, c, random);
    checkFma(-(2 ** -75), 2 ** -75, c, random);
    checkFma(2 ** -75 * up, 2 ** -75 * down, c, random);
    checkFma(2 ** -149, 2 ** -149, c, random);
    checkFma(2 ** -75 * (1 + 2 ** -16), 2 ** -75 * (1 - 2 ** -16), c, random);
  }
  assert(Object.is(fusedMultiplyAdd(-0, 1, 0), 0));
  assert(Object.is(fusedMultiplyAdd(-0, 1, -0), -0));
  assert(Object.is(fusedMultiplyAdd(Infinity, 1, 1), Infinity));
  assert(Object.is(fusedMultiplyAdd(1, 1, -Infinity), -Infinity));
  assert(Number.isNaN(fusedMultiplyAdd(Infinity, 0, 1)));
  assert(Number.isNaN(fusedMultiplyAdd(Infinity, 1, -Infinity)));
  assert(Number.isNaN(fusedMultiplyAdd(1, 1, NaN)));
});

function checkFma(a: number, b: number, c: number, random: Random): void {
  const actual = fusedMultiplyAdd(a, b, c);
  const expected = exactFma(Math.fround(a), Math.fround(b), Math.fround(c));
  assert(actual === expected, `${random}: ${a} · ${b} + ${c} is ${actual}, not ${expected}`);
}

/** a · b + c in units of 2^-298, rounded to float32 by hand. */
function exactFma(a: number, b: number, c: number): number {
  const exact = wholeOf(a) * wholeOf(b) + (wholeOf(c) << 149n);
  const negative = exact < 0n;
  const magnitude = negative ? -exact : exact;
  const length = magnitude.toString(2).length;
  const drop = BigInt(Math.max(length - 24, 149));
  const rest = magnitude & ((1n << drop) - 1n);
  const half = 1n << (drop - 1n);
  let kept = magnitude >> drop;
  if (rest > half || (rest === half && (kept & 1n) === 1n)) kept++;
  const value = Number(kept) * 2 ** (Number(drop) - 149) * 2 ** -149;
  return (negative ? -1 : 1) * (value >= 2 ** 128 ? Infinity : value);
}

/** A float32 in units of 2^-149. */
function wholeOf(value: number): bigint {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, value);
  const bits = view.getUint32(0);
  const exponent = (bits >>> 23) & 0xff;
  const mantissa = BigInt(bits & 0x7fffff);
  const magnitude = exponent === 0 ? mantissa : (mantissa | 0x800000n) << BigInt(exponent - 1);
  return bits >>> 31 ? -magnitude : magnitude;
}
