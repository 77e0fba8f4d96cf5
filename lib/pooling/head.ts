/** The small layers behind pooling: dense layers and activations, in float32 whatever the model is in. */

import { invariant } from "../base/invariant.ts";

/** What a layer ends with. */
export type Activation = "identity" | "sigmoid" | "softmax" | "tanh" | "relu" | "silu";

/** activation(weight · x + bias) */
export interface DenseLayer {
  readonly inputs: number;
  readonly outputs: number;
  /** [outputs, inputs] */
  readonly weight: Float32Array;
  readonly bias: Float32Array | undefined;
  readonly activation: Activation;
}

/** Sums are kept in double precision and rounded once, before the activation. */
export function applyDense(layer: DenseLayer, x: Float32Array): Float32Array {
  const { inputs, outputs, weight, bias, activation } = layer;
  invariant(x.length === inputs, `A layer of ${inputs} inputs is given ${x.length}`);
  const y = new Float32Array(outputs);
  for (let row = 0; row < outputs; row++) {
    let sum = bias?.[row] ?? 0;
    for (let column = 0; column < inputs; column++) {
      sum += (weight[row * inputs + column] as number) * (x[column] as number);
    }
    y[row] = sum;
  }
  return activate(activation, y);
}

/** Applies layers one after the other. */
export function applyLayers(layers: readonly DenseLayer[], x: Float32Array): Float32Array {
  return layers.reduce((values, layer) => applyDense(layer, values), x);
}

/** Applies an activation to every value, or, for softmax, to all of them together. */
export function activate(activation: Activation, values: Float32Array): Float32Array {
  switch (activation) {
    case "identity":
      return values;
    case "sigmoid":
      return values.map(sigmoid);
    case "tanh":
      return values.map((value) => Math.tanh(value));
    case "relu":
      return values.map((value) => Math.max(value, 0));
    case "silu":
      return values.map((value) => value * sigmoid(value));
    case "softmax":
      return softmax(values);
    default:
      return activation satisfies never;
  }
}

function sigmoid(value: number): number {
  return 1 / (1 + Math.exp(-value));
}

function softmax(values: Float32Array): Float32Array {
  const largest = values.reduce((best, value) => Math.max(best, value), -Infinity);
  const powers = Float64Array.from(values, (value) => Math.exp(value - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return Float32Array.from(powers, (power) => power / sum);
}
