/** What GGUF files say of experts: metadata, and the names of tensors. */

import type { Router } from "../device/routing.ts";
import { EXPERT_RULES, type ExpertConfig } from "./expert_config.ts";
import { parseExpertName } from "./expert_names.ts";
import type { Fields } from "./fields.ts";
import type { GgufHeader } from "./formats/gguf.ts";
import { SIZE_RULES } from "./model_config.ts";

/** How experts are scored, as `expert_gating_func` numbers it. */
const GATING = { softmax: 1, sigmoid: 2, softmaxOfChosen: 3 } as const;

/** What is so in every file of an architecture. */
interface GgufFamily {
  readonly gating: keyof typeof GATING;
  readonly isGptOss: boolean;
}

const FAMILIES: Readonly<Record<string, GgufFamily>> = {
  "qwen3moe": { gating: "softmax", isGptOss: false },
  "gpt-oss": { gating: "softmaxOfChosen", isGptOss: true },
  "exaone-moe": { gating: "sigmoid", isGptOss: false },
};

/** Reads them; undefined where the architecture has no experts. */
export function readGgufExperts(
  fields: Fields,
  tensors: GgufHeader["tensors"],
  { modelType, layerCount }: { readonly modelType: string; readonly layerCount: number },
): ExpertConfig | undefined {
  const key = (name: string) => `${modelType}.${name}`;
  const family = Object.hasOwn(FAMILIES, modelType) ? FAMILIES[modelType] : undefined;
  if (family === undefined) {
    if ((fields.optionalInteger(key("expert_count"), { min: 0 }) ?? 0) > 0) {
      fields.fail(key("expert_count"), "the architecture has no experts");
    }
    return undefined;
  }
  const { gating, isGptOss } = family;
  const count = fields.integer(key("expert_count"), EXPERT_RULES.count);
  const intermediateSize = fields.integer(
    key("expert_feed_forward_length"),
    SIZE_RULES.intermediateSize,
  );
  const gatingKey = key("expert_gating_func");
  if (fields.integer(gatingKey, {}, GATING[gating]) !== GATING[gating]) {
    fields.fail(gatingKey, `in this architecture it must be ${GATING[gating]}`);
  }
  const shared = fields.integer(key("expert_shared_count"), EXPERT_RULES.shared, 0);
  return {
    count,
    choiceCount: fields.integer(key("expert_used_count"), { min: 1, max: count }),
    intermediateSize,
    sharedIntermediateSize: shared === 0 ? 0 : fields.integer(
      key("expert_shared_feed_forward_length"),
      SIZE_RULES.intermediateSize,
      shared * intermediateSize,
    ),
    layers: Array.from(
      { length: layerCount },
      (_, layer) => tensors.has(`blk.${layer}.ffn_gate_inp.weight`),
    ),
    router: readRouter(fields, key, gating),
    routerName: isGptOss ? "mlp.router" : "mlp.gate",
    routerBias: isGptOss,
    choiceBias: gating === "sigmoid",
    biases: isGptOss,
    interleaves: false, // the converter has taken gate and up apart
    swigluLimit: isGptOss ? 7 : undefined,
  };
}

function readRouter(
  fields: Fields,
  key: (name: string) => string,
  gating: keyof typeof GATING,
): Router {
  switch (gating) {
    case "softmax":
    case "softmaxOfChosen":
      // llama.cpp, whose files these are, normalises Qwen's weights whatever the file says.
      return { kind: "softmax", normalizes: true };
    case "sigmoid":
      return {
        kind: "sigmoid",
        normalizes: fields.boolean(key("expert_weights_norm"), false),
        scale: fields.number(key("expert_weights_scale"), EXPERT_RULES.scale, 1),
      };
    default:
      return gating satisfies never;
  }
}

/** What GGUF calls a tensor of a layer with experts; undefined: as in other layers. */
export function ggufExpertName(name: string): string | undefined {
  const expert = parseExpertName(name);
  if (expert !== undefined) {
    const { layer, projection, kind } = expert;
    return `blk.${layer}.ffn_${projection.replace("_proj", "")}_exps.${kind}`;
  }
  const [, layer, inner] = /^model\.layers\.(\d+)\.mlp\.(.+)$/.exec(name) ?? [];
  if (layer === undefined || inner === undefined) return undefined;
  if (inner === "gate.e_score_correction_bias") return `blk.${layer}.exp_probs_b.bias`;
  const router = /^(?:gate|router)\.(weight|bias)$/.exec(inner);
  if (router !== null) return `blk.${layer}.ffn_gate_inp.${router[1]}`;
  const shared = /^shared_experts\.(gate|up|down)_proj\.weight$/.exec(inner);
  if (shared !== null) return `blk.${layer}.ffn_${shared[1]}_shexp.weight`;
  return undefined;
}
