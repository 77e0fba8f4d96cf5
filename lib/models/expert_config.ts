/** What the experts of a decoder are, whichever file it came from. */

import type { Router } from "../device/routing.ts";
import type { NumberRule } from "./fields.ts";

/** The experts of a decoder. Plain data. */
export interface ExpertConfig {
  /** Experts of a layer. */
  readonly count: number;
  /** Experts that a token goes to. */
  readonly choiceCount: number;
  readonly intermediateSize: number;
  /** Inner size of the MLP that every token passes besides; 0: there is none. */
  readonly sharedIntermediateSize: number;
  /** One a layer: whether it has experts, or one MLP like other models. */
  readonly layers: readonly boolean[];
  readonly router: Router;
  /** Where the router's weight is, behind the layer's prefix. */
  readonly routerName: "mlp.gate" | "mlp.router";
  /** Whether the router's scores have a bias. */
  readonly routerBias: boolean;
  /** Whether the choice alone, not the weight, has one. */
  readonly choiceBias: boolean;
  /** Whether the experts' three projections have biases. */
  readonly biases: boolean;
  /**
   * How tensors of all experts of a layer are stored: inputs before outputs, gate and up in turns.
   * Otherwise outputs before inputs, gate before up.
   */
  readonly interleaves: boolean;
  /** Limit of the clamped SwiGLU; undefined: gate and up are combined by SiLU. */
  readonly swigluLimit: number | undefined;
}

/** Past these a config is taken for damaged. */
export const EXPERT_RULES: Readonly<Record<"count" | "shared" | "scale" | "limit", NumberRule>> = {
  count: { min: 1, max: 1024 },
  shared: { min: 0, max: 64 },
  scale: { min: 0, max: 1000, aboveMin: true },
  limit: { min: 0, max: 1e6, aboveMin: true },
};
