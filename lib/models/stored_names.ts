/** What a safetensors checkpoint calls its tensors: prefixes and old spellings. */

import type { DecoderConfig, ModelConfig } from "./model_config.ts";

/** The names of one checkpoint. */
export interface StoredNames {
  /** What the checkpoint calls a tensor that the config calls for. */
  stored(name: string): string;
  /**
   * Whether a tensor that the config does not call for may be there all the same. Inside the model
   * it may not: leaving it out would give another model's answers without a word.
   */
  mayBeLeftOut(storedName: string): boolean;
}

/** Finds out how a checkpoint of `config` spells its names. */
export function storedNames(config: ModelConfig, has: (name: string) => boolean): StoredNames {
  return config.kind === "encoder" ? encoderNames(has) : decoderNames(config, has);
}

/** What the checkpoints of one family call what the others call by the names of Llama. */
interface Spelling {
  /** Stands before every name of the backbone, but where the backbone is all there is. */
  readonly backbone: string;
  /** Stands before the number of a layer. */
  readonly layers: string;
  /** Its own names of parts: of a layer within that, of the others within the backbone. */
  readonly names: ReadonlyMap<string, string>;
}

const LLAMA: Spelling = { backbone: "model", layers: "layers", names: new Map() };

/** GPT's names for Llama's parts. */
const EXAONE: Spelling = {
  backbone: "transformer",
  layers: "h",
  names: new Map([
    ["embed_tokens", "wte"],
    ["norm", "ln_f"],
    ["input_layernorm", "ln_1"],
    ["self_attn.q_proj", "attn.attention.q_proj"],
    ["self_attn.k_proj", "attn.attention.k_proj"],
    ["self_attn.v_proj", "attn.attention.v_proj"],
    ["self_attn.o_proj", "attn.attention.out_proj"],
    ["post_attention_layernorm", "ln_2"],
    ["mlp.gate_proj", "mlp.c_fc_0"],
    ["mlp.up_proj", "mlp.c_fc_1"],
    ["mlp.down_proj", "mlp.c_proj"],
  ]),
};

function spellingOf({ architecture }: DecoderConfig): Spelling {
  return architecture === "ExaoneForCausalLM" ? EXAONE : LLAMA;
}

/** Checkpoints of a bare backbone leave out the prefix of every name. */
function isBare(spelling: Spelling, has: (name: string) => boolean): boolean {
  const embedding = spelled("embed_tokens.weight", spelling);
  return has(embedding) && !has(`${spelling.backbone}.${embedding}`);
}

/**
 * The config with the head that a checkpoint has. Embedding models that were trained from a
 * language model, as Qwen3-Embedding 8B, go on naming its class without having its head.
 */
export function withStoredHead(config: ModelConfig, has: (name: string) => boolean): ModelConfig {
  if (config.kind !== "decoder" || config.head.kind !== "language") return config;
  if (config.tieWordEmbeddings || has("lm_head.weight")) return config;
  return isBare(spellingOf(config), has) ? { ...config, head: { kind: "none" } } : config;
}

function decoderNames(config: DecoderConfig, has: (name: string) => boolean): StoredNames {
  const choiceBias = /\.mlp\.gate\.e_score_correction_bias$/;
  const spelling = spellingOf(config);
  const prefix = isBare(spelling, has) ? "" : `${spelling.backbone}.`;
  const inLayer = new RegExp(`^(?:${spelling.backbone}\\.)?${spelling.layers}\\.(\\d+)\\.`);
  const outer = ["embed_tokens", "norm"].map((name) => spelling.names.get(name) ?? name);
  const inBackbone = new RegExp(`^(?:${spelling.backbone}\\.)?(?:${outer.join("|")})\\.`);
  return {
    stored(name) {
      const full = name.startsWith("model.")
        ? prefix + spelled(name.slice("model.".length), spelling)
        : name;
      // EXAONE's files leave the gate out of this name.
      const other = full.replace(choiceBias, ".mlp.e_score_correction_bias");
      return !has(full) && has(other) ? other : full;
    },
    mayBeLeftOut(name) {
      // No head here has a bias.
      if (name === "lm_head.bias") return config.head.kind !== "language";
      if (name === "score.bias") return config.head.kind !== "classifier";
      // Old checkpoints carry the rotary frequencies along, which the config gives too.
      if (/\.rotary(?:_emb)?\.inv_freq$/.test(name)) return true;
      const layer = inLayer.exec(name)?.[1];
      // Heads, whatever they hold: of a model whose head is tied to its embedding, a stored
      // lm_head.weight too, even one that differs. The family's own code ties over it as well.
      if (layer === undefined) return !inBackbone.test(name);
      // Layers at the end may guess tokens further ahead; the config says how many do.
      const ahead = Number(layer) - config.layerCount;
      return ahead >= 0 && ahead < config.aheadLayerCount;
    },
  };
}

/** A name inside the backbone as a family spells it. */
function spelled(name: string, { layers, names }: Spelling): string {
  const [, layer = "", part = name, kind = ""] = /^(layers\.\d+\.)?(.+)(\.\w+)$/.exec(name) ?? [];
  return layer.replace(/^layers/, layers) + (names.get(part) ?? part) + kind;
}

/** What checkpoints with a head may put before the backbone's names. */
const ENCODER_PREFIXES = ["bert.", "roberta.", "model."];

/** Very old checkpoints have gamma and beta. */
function encoderNames(has: (name: string) => boolean): StoredNames {
  const isPrefix = (prefix: string) => has(`${prefix}embeddings.word_embeddings.weight`);
  const prefix = ENCODER_PREFIXES.find(isPrefix) ?? "";
  const backbone = /^(?:bert\.|roberta\.|model\.)?(?:embeddings|encoder)\./;
  return {
    stored(name) {
      const full = name.startsWith("classifier.") ? name : prefix + name;
      const old = full.replace(/LayerNorm\.weight$/, "LayerNorm.gamma")
        .replace(/LayerNorm\.bias$/, "LayerNorm.beta");
      return !has(full) && has(old) ? old : full;
    },
    // The pooler, other heads and the list 0, 1, 2 … of positions are no part of the backbone.
    mayBeLeftOut: (name) => !backbone.test(name) || name.endsWith(".position_ids"),
  };
}
