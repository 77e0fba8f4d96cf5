/** A model's weights by what they are for: how many, and what they take as stored and on the device. */

import { headTensors } from "./expected_tensors.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { floatBytes, type PlannedModel } from "./planned_model.ts";

/** What weights are for. */
export type WeightPartName =
  | "embedding"
  | "attention"
  | "mlp"
  | "experts"
  | "norms"
  | "head"
  | "rope";

/** One part of a model's weights. Biases count to the part that they are of. */
export interface WeightPart {
  /** "rope" is the table that the device rotates by: it is computed, not stored. */
  readonly part: WeightPartName;
  /** Numbers in it. */
  readonly parameterCount: number;
  /** Bytes as the files have them; of a format that is repacked without loss, as it is repacked. */
  readonly storedBytes: number;
  /** Bytes on the device; 0 of a head that the host computes. */
  readonly deviceBytes: number;
  /** The formats of its tensors in the files, most bytes first: "bf16", "q4_1". */
  readonly storedFormats: readonly string[];
  /** The same on the device, where vectors and tables are "f32". */
  readonly deviceFormats: readonly string[];
}

const ORDER: readonly WeightPartName[] = [
  "embedding",
  "attention",
  "mlp",
  "experts",
  "norms",
  "head",
  "rope",
];

/** The first pattern that fits a tensor's name decides. What fits none is the head. */
const PATTERNS: readonly (readonly [RegExp, WeightPartName])[] = [
  [/norm\.(?:weight|bias)$/i, "norms"],
  [/embed_tokens\.|embeddings\./, "embedding"],
  [/\.(?:self_attn|attention)\./, "attention"],
  [/\.mlp\.(?:(?:shared_)?experts|gate|router)\./, "experts"],
  [/\.(?:mlp|intermediate|output)\./, "mlp"],
];

/** Bytes by format. */
class Formats {
  readonly #bytes = new Map<string, number>();

  add(format: string, bytes: number): void {
    this.#bytes.set(format, (this.#bytes.get(format) ?? 0) + bytes);
  }

  get sizeBytes(): number {
    return [...this.#bytes.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  get names(): string[] {
    return [...this.#bytes].sort(([, a], [, b]) => b - a).map(([format]) => format);
  }
}

interface Sums {
  count: number;
  readonly stored: Formats;
  readonly device: Formats;
}

/** The parts that there are, from the embedding to the rotary tables. */
export function weightParts(checkpoint: Checkpoint, planned: PlannedModel): WeightPart[] {
  const parts = new Map(
    ORDER.map((part): [WeightPartName, Sums] => [
      part,
      { count: 0, stored: new Formats(), device: new Formats() },
    ]),
  );
  const partNamed = (part: WeightPartName) => parts.get(part) as Sums;
  const heads = new Set(headTensors(planned.config).map(({ name }) => name));
  const partOf = (name: string) => partNamed(heads.has(name) ? "head" : partOfName(name));
  for (const { name, shape, format, sizeBytes } of checkpoint.tensors.values()) {
    const part = partOf(name);
    part.count += shape.reduce((product, size) => product * size, 1);
    part.stored.add(format, sizeBytes);
  }
  for (const { info, format, sizeBytes } of planned.matrices) {
    partOf(info.name).device.add(format, sizeBytes);
  }
  for (const [name, shape] of planned.graph.weights) {
    const bytes = floatBytes(shape);
    if (bytes === 0) continue;
    // A table that no checkpoint has is computed.
    const part = checkpoint.tensors.has(name) ? partOf(name) : partNamed("rope");
    part.device.add("f32", bytes);
  }
  return [...parts]
    .map(([part, { count, stored, device }]): WeightPart => ({
      part,
      parameterCount: count,
      storedBytes: stored.sizeBytes,
      deviceBytes: device.sizeBytes,
      storedFormats: stored.names,
      deviceFormats: device.names,
    }))
    .filter(({ storedBytes, deviceBytes }) => storedBytes + deviceBytes > 0);
}

function partOfName(name: string): WeightPartName {
  return PATTERNS.find(([pattern]) => pattern.test(name))?.[1] ?? "head";
}
