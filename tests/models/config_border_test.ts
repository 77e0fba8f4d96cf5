/** Damaged config.json files of every class: each is read or refused by its file's name, and nothing else. */

import { assert } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import { readModelConfig } from "../../lib/models/config.ts";
import { type ModelConfig, SIZE_RULES } from "../../lib/models/model_config.ts";
import { readPoolingConfig } from "../../lib/models/pooling_config.ts";

/** Of every family one with a language head or none, and one that classifies. */
const CLASSES = [
  "LlamaForCausalLM",
  "LlamaForSequenceClassification",
  "MistralForCausalLM",
  "Qwen2ForCausalLM",
  "Qwen3ForCausalLM",
  "Qwen3ForSequenceClassification",
  "ExaoneForCausalLM",
  "Exaone4ForCausalLM",
  "Gemma3ForCausalLM",
  "Gemma3TextForSequenceClassification",
  "BertModel",
  "BertForSequenceClassification",
  "RobertaModel",
  "XLMRobertaForSequenceClassification",
];

const FIELDS = [
  "architectures",
  "model_type",
  "vocab_size",
  "hidden_size",
  "intermediate_size",
  "num_hidden_layers",
  "num_layers",
  "num_attention_heads",
  "num_key_value_heads",
  "head_dim",
  "hidden_act",
  "hidden_activation",
  "activation_function",
  "max_position_embeddings",
  "original_max_position_embeddings",
  "rms_norm_eps",
  "layer_norm_epsilon",
  "layer_norm_eps",
  "tie_word_embeddings",
  "attention_bias",
  "bias",
  "mlp_bias",
  "rope_theta",
  "rope_local_base_freq",
  "rope_scaling",
  "rope_parameters",
  "partial_rotary_factor",
  "sliding_window",
  "sliding_window_pattern",
  "use_sliding_window",
  "max_window_layers",
  "layer_types",
  "query_pre_attn_scalar",
  "final_logit_softcapping",
  "attn_logit_softcapping",
  "use_bidirectional_attention",
  "logit_scale",
  "pad_token_id",
  "bos_token_id",
  "eos_token_id",
  "type_vocab_size",
  "position_embedding_type",
  "is_decoder",
  "add_cross_attention",
  "id2label",
  "num_labels",
  "problem_type",
  "is_original_qwen3_reranker",
  "classifier_from_token",
  "matryoshka_dimensions",
  "is_matryoshka",
  "quantization_config",
  "torch_dtype",
  "dtype",
];

const LISTS = { short_factor: [1, 1], long_factor: [1, 1] };

const VALUES: readonly unknown[] = [
  null,
  true,
  false,
  0,
  1,
  -1,
  3,
  8,
  0.5,
  1e-300,
  1e308,
  2 ** 53,
  2 ** 31,
  NaN,
  Infinity,
  "",
  "8",
  "constructor",
  "LLG",
  [],
  [null],
  [1],
  ["full_attention"],
  {},
  { type: "__proto__" },
  { type: "linear" },
  { type: "linear", factor: 1e9 },
  { rope_type: "dynamic", factor: 10_000 },
  { rope_type: "llama3", factor: 8, low_freq_factor: 4, high_freq_factor: 1 },
  { rope_type: "yarn", factor: 0 },
  { rope_type: "yarn", beta_fast: 0, beta_slow: 5 },
  { rope_type: "longrope", ...LISTS },
  { full_attention: { rope_type: "default" } },
  { sliding_attention: 5 },
  { "0": "a", "1": 5 },
];

/** What every config that passed must be. */
function assertSound(config: ModelConfig, where: string): void {
  const { hiddenSize, layerCount, headCount, kvHeadCount, headDim, contextLength } = config;
  assert(hiddenSize > 0 && hiddenSize <= SIZE_RULES.hiddenSize.max, where);
  assert(layerCount > 0 && layerCount <= SIZE_RULES.layerCount.max, where);
  assert(headCount % kvHeadCount === 0 && headDim % 8 === 0 && headDim > 0, where);
  assert(Number.isSafeInteger(contextLength) && contextLength >= 1, where);
  if (config.kind === "encoder") return;
  const { windows, attentionScale, rope: { theta, rotaryDim, scaling } } = config;
  assert(windows.length === layerCount, where);
  assert(windows.every((window) => Number.isSafeInteger(window) && window >= 0), where);
  assert(Number.isFinite(attentionScale) && attentionScale > 0, where);
  assert(theta > 1 && rotaryDim % 8 === 0 && rotaryDim <= headDim, where);
  const numbers = Object.values(scaling).flat().filter((value) => typeof value === "number");
  assert(numbers.every((value) => Number.isFinite(value) && value > 0), where);
}

Deno.test("A damaged config is read into sound numbers, or refused by the name of its file", () => {
  for (const className of CLASSES) {
    const sound = { architectures: [className], head_dim: 128 };
    for (const field of FIELDS) {
      for (const value of VALUES) {
        const json = { ...sound, [field]: value };
        const where = JSON.stringify(json);
        try {
          assertSound(readModelConfig("folder/config.json", json), where);
          readPoolingConfig("folder/config.json", json);
        } catch (error) {
          assert(error instanceof CheckpointError, `${where}: ${error}`);
          assert(error.file === "folder/config.json", where);
          assert(error.message.includes("folder/config.json"), where);
        }
      }
    }
  }
});
