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

/** Checkpoints of a bare backbone leave out the "model." of every name. */
function decoderNames(config: DecoderConfig, has: (name: string) => boolean): StoredNames {
  const choiceBias = /\.mlp\.gate\.e_score_correction_bias$/;
  const isBare = has("embed_tokens.weight") && !has("model.embed_tokens.weight");
  return {
    stored(name) {
      const full = isBare ? name.replace(/^model\./, "") : name;
      // EXAONE's files leave the gate out of this name.
      const other = full.replace(choiceBias, ".mlp.e_score_correction_bias");
      return !has(full) && has(other) ? other : full;
    },
    mayBeLeftOut(name) {
      const layer = /^(?:model\.)?layers\.(\d+)\./.exec(name)?.[1];
      const isOutside = layer === undefined || Number(layer) >= config.layerCount;
      // Old checkpoints carry the rotary frequencies along, which the config gives too.
      return isOutside || name.endsWith(".rotary_emb.inv_freq");
    },
  };
}

/** Checkpoints with a head put "bert." before the backbone's names; very old ones have gamma and beta. */
function encoderNames(has: (name: string) => boolean): StoredNames {
  const prefix = has("bert.embeddings.word_embeddings.weight") ? "bert." : "";
  return {
    stored(name) {
      const full = name.startsWith("classifier.") ? name : prefix + name;
      const old = full.replace(/LayerNorm\.weight$/, "LayerNorm.gamma")
        .replace(/LayerNorm\.bias$/, "LayerNorm.beta");
      return !has(full) && has(old) ? old : full;
    },
    // The pooler, other heads and the list 0, 1, 2 … of positions are no part of the backbone.
    mayBeLeftOut: (name) =>
      !/^(?:bert\.)?(?:embeddings|encoder)\./.test(name) || name.endsWith(".position_ids"),
  };
}
