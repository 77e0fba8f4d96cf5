/** Rotary position embedding: from a model's rope settings to the table that the device rotates by. */

import { invariant } from "../base/invariant.ts";

/** How the plain frequencies θ^(−2i/d) are stretched for longer contexts. */
export type RopeScaling =
  | { readonly kind: "none" }
  /** Every frequency divided by `factor`. */
  | { readonly kind: "linear"; readonly factor: number }
  /** Long waves divided by `factor`, short ones kept, a blend in between. */
  | {
    readonly kind: "llama3";
    readonly factor: number;
    readonly lowFrequencyFactor: number;
    readonly highFrequencyFactor: number;
    readonly originalMaxPositions: number;
  }
  /** As llama3 in spirit, with a ramp over the index; cosines and sines grow by `attentionFactor`. */
  | {
    readonly kind: "yarn";
    readonly factor: number;
    readonly attentionFactor: number;
    readonly betaFast: number;
    readonly betaSlow: number;
    readonly truncate: boolean;
    readonly originalMaxPositions: number;
  }
  /** θ grown as for a context `factor` times the trained one, whatever a sequence's length is. */
  | { readonly kind: "dynamic"; readonly factor: number }
  /**
   * Frequency i divided by the i-th of two lists: the long one where contexts can outgrow the
   * original one. Cosines and sines grow by `attentionFactor`.
   */
  | {
    readonly kind: "longrope";
    readonly shortDivisors: readonly number[];
    readonly longDivisors: readonly number[];
    readonly attentionFactor: number;
    readonly originalMaxPositions: number;
  }
  /** Frequency i divided by `divisors[i]`: what GGUF stores in `rope_freqs.weight`. */
  | { readonly kind: "divisors"; readonly divisors: readonly number[] };

/** A model's rotary settings. */
export interface RopeConfig {
  readonly theta: number;
  /** How many of a head's leading floats rotate: even, at most headDim. */
  readonly rotaryDim: number;
  readonly scaling: RopeScaling;
}

/**
 * The table of the first `positionCount` positions: [position][rotaryDim], the cosines of every
 * frequency, then the sines.
 *
 * The product position · frequency is rounded to float32 before the sine is taken, because that is
 * what the models were trained and measured with; at position 131,072 the rounding is up to 0.008
 * radians, so leaving it out would not be more right, only different.
 */
export function ropeTable(rope: RopeConfig, positionCount: number): Float32Array {
  const frequencies = ropeFrequencies(rope, positionCount);
  const { scaling } = rope;
  const magnitude = scaling.kind === "yarn" || scaling.kind === "longrope"
    ? scaling.attentionFactor
    : 1;
  const table = new Float32Array(positionCount * rope.rotaryDim);
  const half = frequencies.length;
  for (let position = 0; position < positionCount; position++) {
    const row = position * rope.rotaryDim;
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(position * (frequencies[i] as number));
      table[row + i] = Math.cos(angle) * magnitude;
      table[row + half + i] = Math.sin(angle) * magnitude;
    }
  }
  return table;
}

/**
 * Radians a position, one for each pair of floats that rotate together, of a model whose contexts
 * have at most `positionCount` tokens.
 */
export function ropeFrequencies(
  { theta, rotaryDim, scaling }: RopeConfig,
  positionCount: number,
): Float32Array {
  const half = rotaryDim / 2;
  const frequenciesOf = (base: number) =>
    Float32Array.from({ length: half }, (_, i) => base ** (-2 * i / rotaryDim));
  const plain = frequenciesOf(theta);
  const divide = (divisors: readonly number[]) => {
    invariant(divisors.length === half, "A rope divisor is missing");
    return plain.map((frequency, i) => frequency / (divisors[i] as number));
  };
  switch (scaling.kind) {
    case "none":
      return plain;
    case "linear":
      return plain.map((frequency) => frequency / scaling.factor);
    case "llama3":
      return plain.map((frequency) => stretchLongWaves(frequency, scaling));
    case "yarn": {
      const ramp = yarnRamp(theta, rotaryDim, scaling);
      return plain.map((frequency, i) => blend(frequency, frequency / scaling.factor, ramp(i)));
    }
    case "dynamic": {
      const { factor } = scaling;
      const growth = factor * factor - (factor - 1);
      return frequenciesOf(theta * growth ** (rotaryDim / (rotaryDim - 2)));
    }
    case "longrope":
      return divide(
        outgrows(scaling, positionCount) ? scaling.longDivisors : scaling.shortDivisors,
      );
    case "divisors":
      return divide(scaling.divisors);
    default:
      return scaling satisfies never;
  }
}

/**
 * What the tables depend on besides the settings, as text: of longrope the list that is used. A
 * model's answers are those of its tables, so this belongs to what identifies it.
 */
export function ropeChoice({ scaling }: RopeConfig, positionCount: number): string | undefined {
  if (scaling.kind !== "longrope") return undefined;
  return `longrope ${outgrows(scaling, positionCount) ? "long" : "short"}`;
}

function outgrows(
  { originalMaxPositions }: RopeScaling & { kind: "longrope" },
  positionCount: number,
): boolean {
  return positionCount > originalMaxPositions;
}

/** Waves that the original context saw many times stay; those it never saw whole are stretched. */
function stretchLongWaves(frequency: number, scaling: RopeScaling & { kind: "llama3" }): number {
  const { factor, lowFrequencyFactor, highFrequencyFactor, originalMaxPositions } = scaling;
  const wavesSeen = originalMaxPositions * frequency / (2 * Math.PI);
  if (wavesSeen > highFrequencyFactor) return frequency;
  if (wavesSeen < lowFrequencyFactor) return frequency / factor;
  const kept = (wavesSeen - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor);
  return blend(frequency / factor, frequency, kept);
}

/** YaRN's ramp over the frequency's index: 0 keeps a frequency, 1 stretches it in full. */
function yarnRamp(
  theta: number,
  rotaryDim: number,
  scaling: RopeScaling & { kind: "yarn" },
): (index: number) => number {
  const { betaFast, betaSlow, truncate, originalMaxPositions } = scaling;
  /** The index whose wave turns `rotations` times within the original context. */
  const indexTurning = (rotations: number) =>
    rotaryDim * Math.log(originalMaxPositions / (2 * Math.PI * rotations)) / (2 * Math.log(theta));
  const [fast, slow] = [indexTurning(betaFast), indexTurning(betaSlow)];
  const low = Math.max(truncate ? Math.floor(fast) : fast, 0);
  const high = Math.min(truncate ? Math.ceil(slow) : slow, rotaryDim - 1);
  const width = high === low ? 0.001 : high - low;
  return (index) => Math.min(Math.max((index - low) / width, 0), 1);
}

/** From a (share 0) to b (share 1). */
function blend(a: number, b: number, share: number): number {
  return a * (1 - share) + b * share;
}
