/** The activations that configs name by their class in PyTorch. */

import type { Fields } from "./fields.ts";

/** What a head's layer ends with. */
export type HeadActivation = "identity" | "sigmoid" | "softmax" | "tanh" | "relu" | "silu";

const BY_CLASS: Readonly<Record<string, HeadActivation>> = {
  Identity: "identity",
  Sigmoid: "sigmoid",
  Softmax: "softmax",
  Tanh: "tanh",
  ReLU: "relu",
  SiLU: "silu",
};

/** Reads a field like `torch.nn.modules.activation.Tanh`; undefined where it is absent. */
export function readTorchActivation(fields: Fields, key: string): HeadActivation | undefined {
  const name = fields.optionalString(key);
  if (name === undefined) return undefined;
  const className = /^torch\.nn\.(?:modules\.)?(?:\w+\.)?(\w+)$/.exec(name)?.[1] ?? "";
  const known = Object.hasOwn(BY_CLASS, className) ? BY_CLASS[className] : undefined;
  return known ??
    fields.fail(
      key,
      `it must be one of torch.nn's ${Object.keys(BY_CLASS).join(", ")}`,
    );
}
