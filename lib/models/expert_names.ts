/** What the weights of experts are called: here, in the graph, and expert by expert. */

import type { ExpertConfig } from "./expert_config.ts";

/** The projections of an expert. */
const EXPERT_PROJECTIONS = ["gate_proj", "up_proj", "down_proj"] as const;

/** One of them. */
export type ExpertProjection = typeof EXPERT_PROJECTIONS[number];

/** What a graph calls the matrices of all experts of a layer together. */
export function expertStackName(layer: number, projection: ExpertProjection): string {
  return `model.layers.${layer}.mlp.experts.*.${projection}.weight`;
}

/** The matrix of one of them. */
export function expertName(stackName: string, expert: number): string {
  return stackName.replace("*", String(expert));
}

/** The biases of all experts of a layer: one vector, expert after expert. */
export function expertBiasName(layer: number, projection: ExpertProjection): string {
  return `model.layers.${layer}.mlp.experts.${projection}.bias`;
}

/** A tensor of experts taken apart: of the whole layer where there is no expert in it. */
export interface ExpertTensorName {
  readonly layer: number;
  readonly expert: number | undefined;
  readonly projection: ExpertProjection;
  readonly kind: "weight" | "bias";
}

/** Takes a name apart; undefined where it is not one of experts. */
export function parseExpertName(name: string): ExpertTensorName | undefined {
  const [, layer, expert, projection, kind] =
    /^model\.layers\.(\d+)\.mlp\.experts\.(?:(\d+)\.)?(gate_proj|up_proj|down_proj)\.(weight|bias)$/
      .exec(name) ?? [];
  if (layer === undefined) return undefined;
  return {
    layer: Number(layer),
    expert: expert === undefined ? undefined : Number(expert),
    projection: projection as ExpertProjection,
    kind: kind as "weight" | "bias",
  };
}

/** All tensors of a layer's experts, router and shared experts. */
export function expertTensors(
  layer: number,
  hiddenSize: number,
  experts: ExpertConfig,
): { readonly name: string; readonly shape: readonly number[] }[] {
  const prefix = `model.layers.${layer}`;
  const { count, intermediateSize, sharedIntermediateSize, routerName } = experts;
  const tensors: { readonly name: string; readonly shape: readonly number[] }[] = [];
  const add = (name: string, ...shape: number[]) => tensors.push({ name, shape });
  add(`${prefix}.${routerName}.weight`, count, hiddenSize);
  if (experts.routerBias) add(`${prefix}.${routerName}.bias`, count);
  if (experts.choiceBias) add(`${prefix}.mlp.gate.e_score_correction_bias`, count);
  const shapeOf = (projection: ExpertProjection, inner: number) =>
    projection === "down_proj" ? [hiddenSize, inner] as const : [inner, hiddenSize] as const;
  for (const projection of EXPERT_PROJECTIONS) {
    const [outputs, inputs] = shapeOf(projection, intermediateSize);
    for (let expert = 0; expert < count; expert++) {
      add(expertName(expertStackName(layer, projection), expert), outputs, inputs);
    }
    if (experts.biases) add(expertBiasName(layer, projection), count * outputs);
  }
  if (sharedIntermediateSize > 0) {
    for (const projection of EXPERT_PROJECTIONS) {
      add(
        `${prefix}.mlp.shared_experts.${projection}.weight`,
        ...shapeOf(projection, sharedIntermediateSize),
      );
    }
  }
  return tensors;
}
