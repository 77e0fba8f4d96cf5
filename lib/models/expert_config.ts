/** Mixtures of experts as config.json describes them: each family in its own words. */

import type { Router } from "../device/device.ts";
import type { Fields, NumberRule } from "./fields.ts";
import { SIZE_RULES } from "./model_config.ts";

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

/** How a family says which layers have experts, and what it always does. */
export type ExpertRule =
  | { readonly kind: "none" }
  | { readonly kind: "qwen3_moe" }
  | { readonly kind: "gpt_oss" }
  | { readonly kind: "exaone_moe" }
  | { readonly kind: "solar_open" };

/** Past these a config is taken for damaged. */
export const EXPERT_RULES: Readonly<Record<"count" | "shared" | "scale" | "limit", NumberRule>> = {
  count: { min: 1, max: 1024 },
  shared: { min: 0, max: 64 },
  scale: { min: 0, max: 1000, aboveMin: true },
  limit: { min: 0, max: 1e6, aboveMin: true },
};

/** Reads a family's fields; undefined where the family has no experts. */
export function readExperts(
  fields: Fields,
  layerCount: number,
  { kind }: ExpertRule,
): ExpertConfig | undefined {
  switch (kind) {
    case "none":
      return undefined;
    case "qwen3_moe":
      return readQwen3Moe(fields, layerCount);
    case "gpt_oss":
      return readGptOss(fields, layerCount);
    case "exaone_moe":
      return readDeepSeekStyle(fields, {
        countKey: "num_experts",
        sharedKey: "num_shared_experts",
        counts: { experts: 64, shared: 1 },
        intermediateSize: 1024,
        scale: 2.5,
        layers: readMlpLayers(fields, layerCount),
      });
    case "solar_open":
      return readDeepSeekStyle(fields, {
        countKey: "n_routed_experts",
        sharedKey: "n_shared_experts",
        counts: { experts: 128, shared: 1 },
        intermediateSize: 1280,
        scale: 1,
        layers: new Array<boolean>(layerCount).fill(true),
      });
    default:
      return kind satisfies never;
  }
}

const COMMON = {
  sharedIntermediateSize: 0,
  routerName: "mlp.gate",
  routerBias: false,
  choiceBias: false,
  biases: false,
  interleaves: false,
  swigluLimit: undefined,
} as const;

function readCounts(
  fields: Fields,
  { key, count, choiceCount }: {
    readonly key: string;
    readonly count: number;
    readonly choiceCount: number;
  },
): Pick<ExpertConfig, "count" | "choiceCount"> {
  const experts = fields.integer(key, EXPERT_RULES.count, count);
  return {
    count: experts,
    choiceCount: fields.integer("num_experts_per_tok", { min: 1, max: experts }, choiceCount),
  };
}

function readSize(fields: Fields, fallback: number): number {
  return fields.integer("moe_intermediate_size", SIZE_RULES.intermediateSize, fallback);
}

/** Layer i has experts iff it is not listed as an MLP and (i + 1) is a multiple of the step. */
function readQwen3Moe(fields: Fields, layerCount: number): ExpertConfig {
  const step = fields.integer("decoder_sparse_step", { min: 1 }, 1);
  const dense = fields.value("mlp_only_layers") ?? [];
  const isLayer = (item: unknown) =>
    Number.isSafeInteger(item) && item as number >= 0 && (item as number) < layerCount;
  if (!Array.isArray(dense) || !dense.every(isLayer)) {
    fields.fail("mlp_only_layers", `it must be a list of layers, each from 0 to ${layerCount - 1}`);
  }
  const key = fields.value("num_experts") === undefined ? "num_local_experts" : "num_experts";
  const normalizes = fields.boolean("norm_topk_prob", false);
  return {
    ...COMMON,
    ...readCounts(fields, { key, count: 128, choiceCount: 8 }),
    intermediateSize: readSize(fields, 768),
    layers: Array.from(
      { length: layerCount },
      (_, layer) => !dense.includes(layer) && (layer + 1) % step === 0,
    ),
    router: { kind: "softmax", normalizes },
  };
}

/** The softmax over the chosen logits is that over all of them, normalised. */
function readGptOss(fields: Fields, layerCount: number): ExpertConfig {
  return {
    ...COMMON,
    ...readCounts(fields, { key: "num_local_experts", count: 128, choiceCount: 4 }),
    intermediateSize: fields.integer("intermediate_size", SIZE_RULES.intermediateSize, 2880),
    layers: new Array<boolean>(layerCount).fill(true),
    router: { kind: "softmax", normalizes: true },
    routerName: "mlp.router",
    routerBias: true,
    biases: true,
    interleaves: true,
    swigluLimit: fields.number("swiglu_limit", EXPERT_RULES.limit, 7),
  };
}

function readDeepSeekStyle(
  fields: Fields,
  family: {
    readonly countKey: string;
    readonly sharedKey: string;
    readonly counts: { readonly experts: number; readonly shared: number };
    readonly intermediateSize: number;
    readonly scale: number;
    readonly layers: readonly boolean[];
  },
): ExpertConfig {
  for (const key of ["n_group", "topk_group"]) {
    if (fields.integer(key, { min: 1 }, 1) !== 1) {
      fields.fail(key, "it must be 1, as experts are chosen among all of a layer");
    }
  }
  const intermediateSize = readSize(fields, family.intermediateSize);
  const shared = fields.integer(family.sharedKey, EXPERT_RULES.shared, family.counts.shared);
  return {
    ...COMMON,
    ...readCounts(fields, {
      key: family.countKey,
      count: family.counts.experts,
      choiceCount: 8,
    }),
    intermediateSize,
    sharedIntermediateSize: shared * intermediateSize,
    layers: family.layers,
    router: {
      kind: "sigmoid",
      normalizes: fields.boolean("norm_topk_prob", true),
      scale: fields.number("routed_scaling_factor", EXPERT_RULES.scale, family.scale),
    },
    choiceBias: true,
  };
}

/** `mlp_layer_types` wins over the number of first layers without experts. */
function readMlpLayers(fields: Fields, layerCount: number): boolean[] {
  const listed = fields.value("mlp_layer_types");
  if (listed === undefined) {
    const first = fields.integer("first_k_dense_replace", { min: 0 }, 1);
    return Array.from({ length: layerCount }, (_, layer) => layer >= first);
  }
  if (!Array.isArray(listed) || listed.length !== layerCount) {
    fields.fail("mlp_layer_types", `it must be a list of num_hidden_layers ${layerCount} names`);
  }
  return listed.map((name) => {
    if (name === "dense" || name === "sparse") return name === "sparse";
    fields.fail("mlp_layer_types", 'each must be "dense" or "sparse"');
  });
}
