/** config.json and generation_config.json: what is read, what is assumed, what is refused. */

import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import { readModelConfig } from "../../lib/models/config.ts";
import { expectedTensors } from "../../lib/models/expected_tensors.ts";
import { readGenerationConfig } from "../../lib/models/generation_config.ts";
import type { DecoderConfig } from "../../lib/models/model_config.ts";
import { GOLDEN_MODEL_NAMES, goldenModel } from "../helpers/golden_models.ts";
import { storeExperts } from "../helpers/tiny_experts.ts";
import { tinyConfig, tinyTensors } from "../helpers/tiny_model.ts";

const LLAMA = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: 1000,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
};
const QWEN2 = { ...LLAMA, architectures: ["Qwen2ForCausalLM"], model_type: "qwen2" };
const QWEN3 = { ...LLAMA, architectures: ["Qwen3ForCausalLM"], model_type: "qwen3" };

function read(json: unknown): DecoderConfig {
  const config = readModelConfig("folder/config.json", json);
  assert(config.kind === "decoder");
  return config;
}

for (const name of GOLDEN_MODEL_NAMES) {
  Deno.test(`The config of ${name} calls for as many tensors and parameters as were counted`, () => {
    const golden = goldenModel(name);
    const config = read(tinyConfig(golden));
    // What is counted is what a file holds, which of GPT-OSS is blocks and scales.
    const tensors = name === "gpt_oss"
      ? storeExperts(tinyTensors(golden), config, "mxfp4")
      : expectedTensors(config);
    const sizes = tensors.map(({ shape }) => shape.reduce((product, size) => product * size, 1));
    assertEquals(tensors.length, golden.expect.tensors);
    assertEquals(sizes.reduce((sum, size) => sum + size, 0), golden.expect.params);
  });

  Deno.test(`The config of ${name} is the same in both spellings`, () => {
    const golden = goldenModel(name);
    assertEquals(read(tinyConfig(golden, "v5")), read(tinyConfig(golden, "v4")));
  });
}

Deno.test("A Llama config gives every field its place", () => {
  const config = read({
    ...LLAMA,
    rms_norm_eps: 1e-5,
    max_position_embeddings: 512,
    rope_theta: 5e5,
    attention_bias: true,
    mlp_bias: true,
    bos_token_id: 7,
    eos_token_id: [8, 9],
    torch_dtype: "bfloat16",
  });
  assertEquals(config, {
    kind: "decoder",
    head: { kind: "language" },
    architecture: "LlamaForCausalLM",
    className: "LlamaForCausalLM",
    modelType: "llama",
    vocabSize: 1000,
    hiddenSize: 64,
    intermediateSize: 128,
    layerCount: 2,
    aheadLayerCount: 0,
    headCount: 4,
    kvHeadCount: 2,
    headDim: 16,
    rmsNormEpsilon: Math.fround(1e-5),
    maxPositionEmbeddings: 512,
    contextLength: 512,
    tieWordEmbeddings: false,
    attentionBias: true,
    attentionOutputBias: true,
    mlpBias: true,
    norms: "before",
    normOffset: 0,
    activation: "silu",
    attentionScale: 0.25,
    qkNorm: false,
    windows: [0, 0],
    rope: { theta: 5e5, rotaryDim: 16, scaling: { kind: "none" } },
    slidingRope: undefined,
    fullLayersRotate: true,
    embeddingScale: 1,
    roundsEmbeddingScale: false,
    logitSoftcap: 0,
    attentionSinks: false,
    experts: undefined,
    bosTokenId: 7,
    endTokenIds: [8, 9],
    dtype: "bfloat16",
  });
});

Deno.test("What a config leaves out is what its architecture's classes assume", () => {
  const llama = read({ architectures: ["LlamaForCausalLM"] });
  assertEquals(
    [llama.vocabSize, llama.hiddenSize, llama.intermediateSize, llama.layerCount],
    [32_000, 4096, 11_008, 32],
  );
  assertEquals([llama.headCount, llama.kvHeadCount, llama.headDim], [32, 32, 128]);
  assertEquals([llama.maxPositionEmbeddings, llama.rope.theta], [2048, 10_000]);
  assertEquals([llama.bosTokenId, llama.endTokenIds], [1, [2]]);
  assertEquals(llama.rmsNormEpsilon, Math.fround(1e-6));

  const qwen2 = read({ architectures: ["Qwen2ForCausalLM"] });
  assertEquals(
    [qwen2.vocabSize, qwen2.intermediateSize, qwen2.maxPositionEmbeddings, qwen2.endTokenIds],
    [151_936, 22_016, 32_768, []],
  );
  assertEquals(read({ ...QWEN3, num_key_value_heads: null }).kvHeadCount, 4);
});

Deno.test("Qwen2 has biases on queries, keys and values whatever the config says", () => {
  const { attentionBias, attentionOutputBias, mlpBias } = read({ ...QWEN2, mlp_bias: true });
  assertEquals([attentionBias, attentionOutputBias, mlpBias], [true, false, false]);
});

Deno.test("Qwen3 assumes heads of 128 and norms queries and keys", () => {
  const config = read(QWEN3);
  assertEquals([config.headDim, config.qkNorm, config.attentionBias], [128, true, false]);
  const biased = read({ ...QWEN3, attention_bias: true });
  assertEquals([biased.attentionBias, biased.attentionOutputBias], [true, true]);
});

Deno.test("A config without architectures goes by its model type", () => {
  const { architectures: _, ...rest } = QWEN3;
  assertEquals(read(rest).architecture, "Qwen3ForCausalLM");
});

Deno.test("Every family can be a bare backbone or a classifier, and keeps the name of its class", () => {
  const stems = {
    LlamaForCausalLM: "Llama",
    MistralForCausalLM: "Mistral",
    Qwen2ForCausalLM: "Qwen2",
    Qwen3ForCausalLM: "Qwen3",
    ExaoneForCausalLM: "Exaone",
    Exaone4ForCausalLM: "Exaone4",
    Gemma3ForCausalLM: "Gemma3Text",
  };
  for (const [architecture, stem] of Object.entries(stems)) {
    const bare = read({ architectures: [`${stem}Model`] });
    assertEquals([bare.architecture as string, bare.className, bare.head.kind], [
      architecture,
      `${stem}Model`,
      "none",
    ]);
    const className = `${stem}ForSequenceClassification`;
    const classifier = read({ architectures: [className], num_labels: 3 });
    assertEquals([classifier.architecture as string, classifier.className, classifier.head], [
      architecture,
      className,
      { kind: "classifier", labelCount: 3, dense: undefined, output: "score" },
    ]);
  }
});

Deno.test("EXAONE 3 has fields of its own, and what its class assumes", () => {
  const exaone = { architectures: ["ExaoneForCausalLM"], model_type: "exaone" };
  const assumed = read(exaone);
  assertEquals(
    [assumed.hiddenSize, assumed.intermediateSize, assumed.layerCount, assumed.kvHeadCount],
    [2048, 8192, 32, 32],
  );
  assertEquals([assumed.tieWordEmbeddings, assumed.vocabSize], [true, 102_400]);
  const stated = read({
    ...exaone,
    num_layers: 3,
    layer_norm_epsilon: 1e-5,
    rms_norm_eps: 1e-3,
    activation_function: "silu",
    intermediate_size: 512,
    head_dim: 80,
    bias: true,
  });
  assertEquals([stated.layerCount, stated.rmsNormEpsilon], [3, Math.fround(1e-5)]);
  assertEquals([stated.intermediateSize, stated.headDim], [512, 80]);
  assertEquals([stated.attentionBias, stated.attentionOutputBias], [true, true]);
  assertEquals(read({ ...exaone, num_layers: 3, num_hidden_layers: 3 }).layerCount, 3);
  assertEquals(read({ ...exaone, num_hidden_layers: 5 }).layerCount, 5);
});

Deno.test("Sliding windows follow the explicit list, else the first sliding layer", () => {
  const sliding = { ...QWEN2, num_hidden_layers: 3, use_sliding_window: true, sliding_window: 5 };
  assertEquals(read({ ...sliding, max_window_layers: 1 }).windows, [0, 5, 5]);
  assertEquals(read({ ...sliding, sliding_window: null, max_window_layers: 0 }).windows, [0, 0, 0]);
  assertEquals(read({ ...sliding, use_sliding_window: false }).windows, [0, 0, 0]);
  const layer_types = ["sliding_attention", "full_attention", "sliding_attention"];
  assertEquals(read({ ...sliding, layer_types }).windows, [5, 0, 5]);
  assertEquals(read({ ...LLAMA, use_sliding_window: true, max_window_layers: 0 }).windows, [0, 0]);
});

Deno.test("Mistral slides in all layers, by 4096 unless the file says null or another width", () => {
  const mistral = { architectures: ["MistralForCausalLM"], num_hidden_layers: 2 };
  assertEquals(read(mistral).windows, [4096, 4096]);
  assertEquals(read({ ...mistral, sliding_window: null }).windows, [0, 0]);
  const layer_types = ["full_attention", "full_attention"];
  assertEquals(read({ ...mistral, sliding_window: 7, layer_types }).windows, [7, 7]);
  const nemo = read({ ...mistral, hidden_size: 5120, head_dim: 128 });
  assertEquals([nemo.headDim, nemo.headCount * nemo.headDim], [128, 4096]);
});

Deno.test("EXAONE 4 slides by a list, letters or a number, and then rotates only where it slides", () => {
  const exaone = { architectures: ["Exaone4ForCausalLM"], num_hidden_layers: 5, sliding_window: 9 };
  assertEquals(read(exaone).windows, [9, 9, 9, 0, 9]);
  assertEquals(read({ ...exaone, sliding_window_pattern: 2 }).windows, [9, 0, 9, 0, 9]);
  assertEquals(read({ ...exaone, sliding_window_pattern: "LLG" }).windows, [9, 9, 0, 9, 9]);
  assertEquals(read(exaone).fullLayersRotate, false);
  const whole = read({ ...exaone, sliding_window: null, sliding_window_pattern: 0 });
  assertEquals([whole.windows, whole.fullLayersRotate], [[0, 0, 0, 0, 0], true]);
  assertEquals([whole.norms, whole.qkNorm, whole.rmsNormEpsilon], [
    "after",
    true,
    Math.fround(1e-5),
  ]);
});

Deno.test("Gemma 3 assumes its classes' defaults, and has rotary settings by type of layer", () => {
  const gemma = read({ architectures: ["Gemma3ForCausalLM"] });
  assertEquals([gemma.headDim, gemma.attentionScale, gemma.tieWordEmbeddings], [256, 1 / 16, true]);
  assertEquals([gemma.rope.theta, gemma.slidingRope?.theta], [1e6, 1e4]);
  assertEquals(gemma.windows.slice(0, 7), [4096, 4096, 4096, 4096, 4096, 0, 4096]);
  assertEquals([gemma.normOffset, gemma.embeddingScale], [1, Math.sqrt(2304)]);
  const scaled = {
    architectures: ["Gemma3ForCausalLM"],
    rope_theta: 5e5,
    rope_local_base_freq: 2e4,
    rope_scaling: { rope_type: "linear", factor: 8 },
    max_position_embeddings: 1000,
  };
  const fourth = read(scaled);
  const { rope_theta: _, rope_local_base_freq: __, rope_scaling: ___, ...rest } = scaled;
  const fifth = read({
    ...rest,
    rope_parameters: {
      full_attention: { rope_type: "linear", factor: 8, rope_theta: 5e5 },
      sliding_attention: { rope_type: "default", rope_theta: 2e4 },
    },
  });
  assertEquals(fifth, fourth);
  assertEquals([fourth.rope.scaling, fourth.slidingRope?.scaling], [
    { kind: "linear", factor: 8 },
    { kind: "none" },
  ]);
  assertEquals(fourth.contextLength, 1000);
});

Deno.test("Rope settings of two kinds of layers that contradict each other are refused by name", () => {
  const read3 = (config: Record<string, unknown>) =>
    read({ architectures: ["Gemma3ForCausalLM"], ...config });
  const sliding_attention = { rope_type: "default", rope_theta: 2e4 };
  for (
    const [config, says] of [
      [
        { rope_local_base_freq: 1e4, rope_parameters: { sliding_attention } },
        "rope_local_base_freq 10000",
      ],
      [
        {
          rope_scaling: { rope_type: "linear", factor: 8 },
          rope_parameters: { full_attention: { rope_type: "linear", factor: 4 } },
        },
        "must ask for the same scaling",
      ],
      [
        { rope_parameters: { sliding_attention, rope_type: "linear", factor: 8 } },
        "rope_parameters.rope_type",
      ],
      [{ rope_parameters: { chunked_attention: {} } }, "rope_parameters.chunked_attention"],
    ] as const
  ) {
    const error = assertThrows(() => read3(config), CheckpointError);
    assertStringIncludes(error.message, says);
  }
  const both = { rope_local_base_freq: 2e4, rope_parameters: { sliding_attention } };
  assertEquals(read3(both).slidingRope?.theta, 2e4);
});

Deno.test("A YaRN config reaches as far as it stretches", () => {
  const rope_scaling = { type: "yarn", factor: 4, original_max_position_embeddings: 32_768 };
  const config = read({ ...QWEN3, max_position_embeddings: 40_960, rope_scaling });
  assertEquals([config.maxPositionEmbeddings, config.contextLength], [40_960, 131_072]);
});

Deno.test("A dynamic config reaches as far as it stretches, a longrope config as far as it says", () => {
  const sizes = { max_position_embeddings: 1024 };
  const dynamic = { type: "dynamic", factor: 2 };
  assertEquals(read({ ...LLAMA, ...sizes, rope_scaling: dynamic }).contextLength, 2048);
  const factors = new Array<number>(8).fill(1);
  const longrope = { type: "longrope", short_factor: factors, long_factor: factors };
  const original_max_position_embeddings = 256;
  const json = { ...LLAMA, ...sizes, original_max_position_embeddings, rope_scaling: longrope };
  assertEquals(read(json).contextLength, 1024);
});

const REFUSED: readonly [field: string, json: unknown, says: string][] = [
  ["architectures", { ...LLAMA, architectures: ["MambaForCausalLM"] }, "BertModel"],
  ["architectures", { model_type: "t5" }, "Qwen3ForCausalLM"],
  ["architectures", { ...LLAMA, architectures: "LlamaForCausalLM" }, '"LlamaForCausalLM"'],
  ["architectures", { ...LLAMA, architectures: [] }, "LlamaForCausalLM, MistralForCausalLM"],
  [
    "model_type",
    { ...LLAMA, model_type: "qwen2" },
    'names LlamaForCausalLM, whose model_type is "llama"',
  ],
  ["model_type", { ...LLAMA, architectures: ["BertModel"] }, '"bert"'],
  [
    "num_hidden_layers",
    { architectures: ["ExaoneForCausalLM"], num_layers: 3, num_hidden_layers: 4 },
    "num_layers is 3",
  ],
  [
    "activation_function",
    { architectures: ["ExaoneForCausalLM"], activation_function: "gelu_new" },
    '"silu"',
  ],
  ["num_key_value_heads", { ...LLAMA, num_key_value_heads: 3 }, "divide num_attention_heads 4"],
  ["num_key_value_heads", { ...QWEN2, num_key_value_heads: undefined }, "the default is 32"],
  ["hidden_size", { ...LLAMA, hidden_size: 60 }, "multiple of 8"],
  ["hidden_size", { ...LLAMA, hidden_size: 2 ** 40 }, "at most"],
  ["hidden_size", { ...LLAMA, hidden_size: "64" }, '"64"'],
  ["intermediate_size", { ...LLAMA, intermediate_size: 12.5 }, "12.5"],
  ["num_hidden_layers", { ...LLAMA, num_hidden_layers: 0 }, "at least 1"],
  ["num_hidden_layers", { ...LLAMA, num_hidden_layers: 1e6 }, "at most 1024"],
  ["num_attention_heads", { ...LLAMA, num_attention_heads: 16 }, "= 4"],
  ["head_dim", { ...LLAMA, head_dim: 20 }, "multiple of 8"],
  ["vocab_size", { ...LLAMA, vocab_size: -1 }, "-1"],
  ["rms_norm_eps", { ...LLAMA, rms_norm_eps: 0 }, "above 0"],
  ["max_position_embeddings", { ...LLAMA, max_position_embeddings: 1e9 }, "1000000000"],
  ["tie_word_embeddings", { ...LLAMA, tie_word_embeddings: "yes" }, "true or false"],
  ["hidden_act", { ...LLAMA, hidden_act: "gelu" }, '"silu"'],
  ["eos_token_id", { ...LLAMA, eos_token_id: ["</s>"] }, "token id"],
  ["bos_token_id", { ...LLAMA, bos_token_id: -5 }, "at least 0"],
  ["torch_dtype", { ...LLAMA, torch_dtype: 16 }, "string"],
  ["quantization_config", { ...LLAMA, quantization_config: { quant_method: "awq" } }, '"awq"'],
  ["layer_types", { ...QWEN2, layer_types: ["full_attention"] }, "num_hidden_layers 2"],
  ["layer_types", { ...QWEN2, layer_types: ["full_attention", "spiral"] }, "sliding_attention"],
  [
    "layer_types",
    { ...QWEN2, layer_types: ["full_attention", "sliding_attention"] },
    "use_sliding_window",
  ],
  [
    "sliding_window_pattern",
    { architectures: ["Exaone4ForCausalLM"], sliding_window_pattern: "LX" },
    '"L" or "G"',
  ],
  [
    "hidden_activation",
    { architectures: ["Gemma3ForCausalLM"], hidden_activation: "gelu" },
    "gelu_pytorch_tanh",
  ],
  [
    "use_bidirectional_attention",
    { architectures: ["Gemma3ForCausalLM"], use_bidirectional_attention: true },
    "before them",
  ],
  [
    "attn_logit_softcapping",
    { architectures: ["Gemma3ForCausalLM"], attn_logit_softcapping: 50 },
    "null",
  ],
  ["logit_scale", { architectures: ["Exaone4ForCausalLM"], logit_scale: 0.5 }, "must be 1"],
  ["sliding_window", { ...QWEN3, use_sliding_window: true, sliding_window: 0 }, "at least 1"],
];

for (const [field, json, says] of REFUSED) {
  Deno.test(`A config with a bad ${field} is refused: ${says}`, () => {
    const error = assertThrows(() => read(json), CheckpointError, field);
    assertStringIncludes(error.message, says);
    assertStringIncludes(error.message, "folder/config.json");
    assertEquals(error.file, "folder/config.json");
  });
}

Deno.test("A config that is no object is refused", () => {
  for (const json of [null, [], "llama", 3]) {
    assertThrows(() => read(json), CheckpointError, "object");
  }
});

Deno.test("Names that every object inherits are not taken for fields or architectures", () => {
  assertThrows(() => read({ architectures: ["constructor"] }), CheckpointError, "supported");
});

Deno.test("Generation defaults are the six keys and the end tokens, where they are given", () => {
  const json = {
    temperature: 0.6,
    top_p: 0.95,
    top_k: 20,
    min_p: 0,
    repetition_penalty: 1.05,
    max_new_tokens: 100,
    eos_token_id: [151_645, 151_643],
    do_sample: true,
    max_length: 20,
  };
  assertEquals(readGenerationConfig("generation_config.json", json), {
    temperature: 0.6,
    topP: 0.95,
    topK: 20,
    minP: 0,
    repetitionPenalty: 1.05,
    maxNewTokens: 100,
    endTokenIds: [151_645, 151_643],
  });
  const sparse = { eos_token_id: 2, temperature: null };
  assertEquals(readGenerationConfig("generation_config.json", sparse), { endTokenIds: [2] });
});

Deno.test("Generation defaults of a wrong kind are refused by name", () => {
  const bad: readonly [string, unknown][] = [
    ["temperature", "warm"],
    ["temperature", -1],
    ["top_p", 1.5],
    ["top_k", 2.5],
    ["min_p", true],
    ["repetition_penalty", 0],
    ["max_new_tokens", 0],
    ["eos_token_id", "</s>"],
  ];
  for (const [field, value] of bad) {
    const read = () => readGenerationConfig("dir/generation_config.json", { [field]: value });
    const error = assertThrows(read, CheckpointError, field);
    assertStringIncludes(error.message, "dir/generation_config.json");
  }
});

Deno.test("Settings of a scaling without its type are refused, not left out", () => {
  for (const rope_scaling of [{ factor: 8 }, { low_freq_factor: 1, rope_type: null }]) {
    const error = assertThrows(() => read({ ...LLAMA, rope_scaling }), CheckpointError);
    assertStringIncludes(error.message, "rope_scaling.rope_type");
  }
  assertEquals(read({ ...LLAMA, rope_parameters: { rope_theta: 5 } }).rope.theta, 5);
});

Deno.test("The message of an unknown architecture is short", () => {
  const error = assertThrows(() => read({ architectures: ["x"] }), CheckpointError);
  assert(error.message.length < 500, error.message);
});
