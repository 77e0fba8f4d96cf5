/** Small floats to float32 and back, and the float32 fused multiply-add. */

/** 2^(e − 134) and 2^(e − 25): the scales of a bfloat16 and a float16 with exponent bits e. */
const BF16_SCALES: readonly number[] = Array.from({ length: 255 }, (_, e) => 2 ** (e - 134));
const F16_SCALES: readonly number[] = Array.from({ length: 31 }, (_, e) => 2 ** (e - 25));

/** The float32 that has these bfloat16 bits as its upper half. */
export function bf16ToF32(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 7) & 0xff;
  const mantissa = bits & 0x7f;
  if (exponent === 0xff) return mantissa === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * mantissa * 2 ** -133;
  return sign * (0x80 | mantissa) * BF16_SCALES[exponent]!;
}

/** The float32 that these float16 bits stand for. */
export function f16ToF32(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const mantissa = bits & 0x3ff;
  if (exponent === 0x1f) return mantissa === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  return sign * (0x400 | mantissa) * F16_SCALES[exponent]!;
}

/** The float32 of a byte of F8_E4M3: bias 7, no infinities, all ones is NaN. */
export function e4m3ToF32(bits: number): number {
  const sign = bits & 0x80 ? -1 : 1;
  const exponent = (bits >> 3) & 15;
  const mantissa = bits & 7;
  if ((bits & 0x7f) === 0x7f) return NaN;
  if (exponent === 0) return sign * mantissa * 2 ** -9;
  return sign * (8 | mantissa) * 2 ** (exponent - 10);
}

/** The float32 of a byte of F8_E5M2: the upper half of a float16. */
export function e5m2ToF32(bits: number): number {
  return f16ToF32(bits << 8);
}

/** float32 bits → bfloat16 bits, rounded to nearest, ties to even. A NaN stays a (quiet) NaN. */
export function f32BitsToBf16(bits: number): number {
  // A signalling NaN whose payload sits in the lower half would otherwise turn into infinity.
  if ((bits & 0x7fffffff) > 0x7f800000) return ((bits >>> 16) | 0x40) & 0xffff;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** bfloat16 bits of one value, which is first rounded to float32. For many, see {@linkcode f32ArrayToBf16}. */
export function f32ToBf16(value: number): number {
  const target = new Uint16Array(1);
  f32ArrayToBf16(Float32Array.of(value), target);
  return target[0]!;
}

/** float16 bits of one value. For many, see {@linkcode f32ArrayToF16}. */
export function f32ToF16(value: number): number {
  return new Uint16Array(Float16Array.of(Math.fround(value)).buffer)[0]!;
}

/** bfloat16 bits → float32; `target` must be at least as long as `source`. */
export function bf16ArrayToF32(source: Uint16Array, target: Float32Array): void {
  checkLengths(source, target);
  const bits = new Uint32Array(target.buffer, target.byteOffset, target.length);
  for (let i = 0; i < source.length; i++) bits[i] = source[i]! << 16;
}

/** float32 → bfloat16 bits; `target` must be at least as long as `source`. */
export function f32ArrayToBf16(source: Float32Array, target: Uint16Array): void {
  checkLengths(source, target);
  const bits = new Uint32Array(source.buffer, source.byteOffset, source.length);
  for (let i = 0; i < bits.length; i++) target[i] = f32BitsToBf16(bits[i]!);
}

/** float16 bits → float32; `target` must be at least as long as `source`. */
export function f16ArrayToF32(source: Uint16Array, target: Float32Array): void {
  checkLengths(source, target);
  target.set(new Float16Array(source.buffer, source.byteOffset, source.length));
}

/** float32 → float16 bits, to nearest even; `target` must be at least as long as `source`. */
export function f32ArrayToF16(source: Float32Array, target: Uint16Array): void {
  checkLengths(source, target);
  new Float16Array(target.buffer, target.byteOffset, target.length).set(source);
}

/**
 * a · b + c for float32 operands, rounded once to float32.
 *
 * The product of two float32 is exact in a double. The sum in double is off by at most half a
 * unit of its own last place, and rounding it a second time goes wrong only where it landed exactly
 * in the middle between two neighbouring float32: there the lost part decides.
 */
export function fusedMultiplyAdd(a: number, b: number, c: number): number {
  const product = a * b;
  const sum = product + c;
  const rounded = Math.fround(sum);
  if (rounded === sum) return rounded;
  // The neighbour on the other side of the sum: a float32 only if the sum is in the middle (or,
  // as the other infinity, if it is beyond the range).
  const other = sum + (sum - rounded);
  return Math.fround(other) === other ? resolveTie(product, c, sum, rounded) : rounded;
}

/** Halfway between the largest float32 and 2^128: rounds to infinity unless something was lost. */
const OVERFLOW_TIE = 2 ** 128 - 2 ** 103;
const LARGEST_F32 = 2 ** 128 - 2 ** 104;

function resolveTie(product: number, c: number, sum: number, rounded: number): number {
  // Knuth's two-sum: product + c is exactly sum + lost.
  const cPart = sum - product;
  const lost = (product - (sum - cPart)) + (c - cPart);
  if (lost === 0) return rounded; // a true tie: fround chose the even one
  if (Math.abs(rounded) === Infinity) {
    const inRange = Math.abs(sum) === OVERFLOW_TIE && Math.sign(lost) !== Math.sign(sum);
    return inRange ? Math.sign(sum) * LARGEST_F32 : rounded;
  }
  const other = sum + (sum - rounded);
  return lost < 0 ? Math.min(rounded, other) : Math.max(rounded, other);
}

function checkLengths(source: ArrayLike<number>, target: ArrayLike<number>): void {
  if (target.length < source.length) {
    throw new RangeError(
      `Cannot convert ${source.length} elements into ${target.length}: the target must be at least as long as the source`,
    );
  }
}
