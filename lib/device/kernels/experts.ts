/** What a mixture of experts needs besides matrix products: a clamped SwiGLU, and the sum of answers. */

import type { IntVector, Matrix, Vector } from "./ndarray.ts";

/** gate[row, c] = (u + 1) · g / (1 + e^(−1.702 · g)), g = min(gate, limit), u = up in −limit … limit */
export function clampedSwiglu(gate: Matrix, up: Matrix, limit: number): void {
  const [rows, width] = gate.shape as [number, number];
  for (let row = 0; row < rows; row++) {
    const [gateAt, upAt] = [gate.index(row, 0), up.index(row, 0)];
    for (let i = 0; i < width; i++) {
      gate.data[gateAt + i] = clampedSwigluOf(gate.data[gateAt + i]!, up.data[upAt + i]!, limit);
    }
  }
}

/** Written so that NaN stays. */
function clampedSwigluOf(gate: number, up: number, limit: number): number {
  const g = limit < gate ? limit : gate;
  const u = limit < up ? limit : up < -limit ? -limit : up;
  return Math.fround(u + 1) * Math.fround(g / (1 + Math.exp(-1.702 * g)));
}

/** out[token, c] = Σ weights[token · n + rank] · y[rows[token · n + rank], c], rank = 0, 1, … n − 1 */
export function sumExperts(out: Matrix, y: Matrix, weights: Vector, rows: IntVector): void {
  const [tokens, width] = out.shape as [number, number];
  const choiceCount = (weights.shape[0] as number) / Math.max(1, tokens);
  for (let token = 0; token < tokens; token++) {
    const outAt = out.index(token, 0);
    for (let i = 0; i < width; i++) {
      let sum = 0;
      for (let choice = token * choiceCount; choice < (token + 1) * choiceCount; choice++) {
        const product = Math.fround(weights.get(choice) * y.get(rows.get(choice), i));
        sum = choice === token * choiceCount ? product : Math.fround(sum + product);
      }
      out.data[outAt + i] = sum;
    }
  }
}
