/**
 * How the activations of a matrix product are counted: as float32, or as integers by blocks.
 *
 * As integers, each run of 32 activations that meets one block of a quantised weight becomes 32
 * codes −R…R under one float32 scale: with the largest magnitude `max` among them, the scale is
 * max / R, and a code is x · (R / max), every step rounded to float32, then to the nearest integer,
 * ties to even. R is a matter of the two types ({@linkcode activationRange}).
 *
 * Two kinds of blocks are not measured. If max is below {@linkcode ACTIVATION_MIN}, zero included,
 * the scale and the codes are 0. If there is an infinity or NaN among them, the codes are 0 and the
 * scale is NaN, and so is every output of the row.
 */

import { isQuantized, type QuantizedFormat, type WeightFormat } from "./block_formats.ts";

/** Activations as they are, or as integers of so many bits where the weight is quantised. */
export type ActivationType = "f32" | "i16" | "i8";

/**
 * What the activations of one matrix are, if quantised matrices get `wanted`. A matrix that is
 * sensitive gets no less than sixteen bits.
 */
export function activationsFor(
  format: WeightFormat,
  wanted: ActivationType,
  isSensitive: boolean,
): ActivationType {
  if (!isQuantized(format)) return "f32";
  return wanted === "i8" && isSensitive ? "i16" : wanted;
}

/** Blocks of smaller numbers count as zeros: R / max would leave the range of float32. */
export const ACTIVATION_MIN: number = 2 ** -100;

/**
 * The largest code.
 *
 * It is what dot products of bytes take without rounding anything on the way
 * (`simd/self_check.ts`): one side has seven bits. A four-bit weight is that side; beside an
 * eight-bit weight it has to be the activation. A code of "i8" is one such byte, a code of "i16" is
 * two: 256 · high + low with both signed, or 128 · high + low with seven bits each. Seven bits alone
 * are too coarse, and memory is what eight-bit weights wait for: beside them "i8" is "i16".
 */
export function activationRange(
  activations: Exclude<ActivationType, "f32">,
  format: QuantizedFormat,
): number {
  if (format === "q8_0") return 8191;
  return activations === "i16" ? 127 * 256 + 127 : 127;
}
