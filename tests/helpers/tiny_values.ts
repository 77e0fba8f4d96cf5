/** The values that the tensors of the tiny models have: they follow from their names. */

/** One tensor of a tiny model. */
export interface TinyTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/**
 * The values of a tensor follow from its name: FNV-1a of it seeds a linear congruential generator,
 * whose top byte t in −128 … 127 is scaled by the kind of tensor.
 */
export function tinyValues(name: string, count: number): Float32Array {
  const bytes = tinyBytes(name, count);
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const t = bytes[i]! - 128;
    values[i] = /(?:norm|LayerNorm)\.weight$/.test(name)
      ? 1 + (t >> 1) / 128
      : t / (name.includes("embed") || name.endsWith(".sinks")
        ? 128
        : name.endsWith("bias")
        ? 1024
        : 512);
  }
  return values;
}

/** The bytes t + 128 that a tensor's values are made of. */
export function tinyBytes(name: string, count: number): Uint8Array {
  let state = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) state = Math.imul(state ^ byte, 0x01000193);
  return Uint8Array.from({ length: count }, () => {
    state = Math.imul(state, 1664525) + 1013904223 | 0;
    return state >>> 24;
  });
}
