/** Mixtures of experts as config.json describes them: each family in its own words. */

import { EXPERT_RULES, type ExpertConfig } from "./expert_config.ts";
import type { Fields } from "./fields.ts";
import { SIZE_RULES } from "./model_config.ts";

/** Whose fields they are. */
export type ExpertFamily = "none" | "qwen3_moe" | "gpt_oss" | "exaone_moe" | "solar_open";

/** Reads a family's fields; undefined where the family has no experts. */
export function readExperts(
  fields: Fields,
  layerCount: number,
  family: ExpertFamily,
): ExpertConfig | undefined {
  switch (family) {
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
      return family satisfies never;
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
