/** Models with experts: bits that do not depend on company, and files that do not fit. */

import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import { openCheckpoint } from "../../lib/models/checkpoint.ts";
import { readModelConfig } from "../../lib/models/config.ts";
import { LLM, type LLMOptions, type RequestOutput, SamplingParams } from "../../mod.ts";
import { goldenModel, type GoldenModelName, goldenPrompt } from "../helpers/golden_models.ts";
import {
  tinyConfig,
  tinyGgufBytes,
  type TinyModelOptions,
  writeTinyModel,
} from "../helpers/tiny_model.ts";
import { tinyBytes, type TinyTensor } from "../helpers/tiny_values.ts";

async function inFolder(
  name: GoldenModelName,
  options: TinyModelOptions,
  run: (dir: string) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(dir, goldenModel(name), options);
    await run(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Everything of an output that must not move, numbers to the last bit. */
function bits({ outputs }: RequestOutput): string {
  return JSON.stringify(outputs.map(({ tokenIds, logprobs }) => ({
    tokenIds,
    logprobs: logprobs?.map((map) => [...map].map(([id, { logprob }]) => [id, logprob])),
  })));
}

for (const name of ["qwen3_moe", "gpt_oss", "exaone_moe"] as const) {
  Deno.test(`${name} answers to the bit: alone, in a crowd, in chunks, on 0 to 3 threads`, async () => {
    await inFolder(name, { dtype: "BF16" }, async (dir) => {
      const prompt = [...goldenPrompt(goldenModel(name)), ...goldenPrompt(goldenModel(name))];
      const params = new SamplingParams({
        temperature: 0.8,
        seed: 7,
        maxTokens: 16,
        logprobs: 3,
        ignoreEos: true,
      });
      const ask = async (llm: LLM, crowd: number) => {
        const others = Array.from({ length: crowd }, (_, i) =>
          llm.generate(
            { promptTokenIds: prompt.slice(i, 5 + 5 * i) },
            new SamplingParams({ temperature: 1, seed: i, maxTokens: 3 + 4 * i, ignoreEos: true }),
          ));
        const answer = await llm.generate({ promptTokenIds: prompt }, params);
        await Promise.all(others);
        return bits(answer);
      };
      let expected: string | undefined;
      const check = (answer: string, what: string) => {
        expected ??= answer;
        assertEquals(answer, expected, what);
      };
      const load = (options: LLMOptions) => LLM.load(dir, { maxModelLength: 128, ...options });
      for (const threads of [1, 2, 3, 0]) {
        await using llm = await load({ threads });
        check(await ask(llm, 0), `${threads} threads`);
        check(await ask(llm, 5), `${threads} threads, in a crowd`);
      }
      await using chunked = await load({ maxTokensPerStep: 7, maxBatchSize: 4 });
      check(await ask(chunked, 4), "in chunks of 7");
    });
  });
}

Deno.test("Experts are quantised, routers are not", async () => {
  await inFolder("gpt_oss", { dtype: "BF16" }, async (dir) => {
    for (const dtype of ["bfloat16", "float16", "float32", "q8", "q4"] as const) {
      await using llm = await LLM.load(dir, { dtype, maxModelLength: 64 });
      const params = new SamplingParams({ temperature: 0, maxTokens: 4, ignoreEos: true });
      const promptTokenIds = goldenPrompt(goldenModel("gpt_oss"));
      const { outputs } = await llm.generate({ promptTokenIds }, params);
      assertEquals(outputs[0]?.tokenIds.length, 4, dtype);
      const isExact = dtype !== "q8" && dtype !== "q4";
      const { greedy12 } = goldenModel("gpt_oss").expect;
      if (isExact) assertEquals(outputs[0]?.tokenIds, greedy12.slice(0, 4), dtype);
    }
  });
});

Deno.test("Both spellings of EXAONE's architecture are one", () => {
  const json = tinyConfig(goldenModel("exaone_moe"));
  const other = { ...json, architectures: ["ExaoneMoEForCausalLM"] };
  const { className, ...config } = readModelConfig("c", other);
  assertEquals(className, "ExaoneMoEForCausalLM");
  assertEquals({ ...config, className: "ExaoneMoeForCausalLM" }, readModelConfig("c", json));
});

Deno.test("Which layers have experts follows from the config", () => {
  const layers = (name: GoldenModelName, change: Record<string, unknown>) => {
    const config = readModelConfig("c", { ...tinyConfig(goldenModel(name)), ...change });
    assert(config.kind === "decoder");
    return config.experts?.layers.map(Number).join("");
  };
  assertEquals(layers("qwen3_moe", {}), "101");
  assertEquals(layers("qwen3_moe", { mlp_only_layers: null }), "111");
  assertEquals(layers("qwen3_moe", { mlp_only_layers: [], decoder_sparse_step: 2 }), "010");
  assertEquals(layers("exaone_moe", {}), "0111");
  assertEquals(layers("exaone_moe", { first_k_dense_replace: 3 }), "0001");
  const mlp_layer_types = ["sparse", "dense", "dense", "sparse"];
  assertEquals(layers("exaone_moe", { mlp_layer_types }), "1001");
  assertEquals(layers("solar_open", {}), "11");
});

const BAD_CONFIGS: readonly [GoldenModelName, Record<string, unknown>, says: string][] = [
  ["qwen3_moe", { num_experts_per_tok: 7 }, "num_experts_per_tok"],
  ["qwen3_moe", { num_experts_per_tok: 0 }, "num_experts_per_tok"],
  ["qwen3_moe", { num_experts: 0 }, "num_experts"],
  ["qwen3_moe", { num_experts: 1e9 }, "num_experts"],
  ["qwen3_moe", { moe_intermediate_size: 20 }, "moe_intermediate_size"],
  ["qwen3_moe", { mlp_only_layers: [3] }, "mlp_only_layers"],
  ["qwen3_moe", { mlp_only_layers: 1 }, "mlp_only_layers"],
  ["qwen3_moe", { decoder_sparse_step: 0 }, "decoder_sparse_step"],
  ["qwen3_moe", { norm_topk_prob: "yes" }, "norm_topk_prob"],
  ["gpt_oss", { swiglu_limit: 0 }, "swiglu_limit"],
  ["gpt_oss", { num_local_experts: 1 }, "num_experts_per_tok"],
  ["gpt_oss", { rope_scaling: null }, "rope_parameters"],
  ["exaone_moe", { n_group: 2 }, "n_group"],
  ["exaone_moe", { mlp_layer_types: ["dense"] }, "mlp_layer_types"],
  ["exaone_moe", { mlp_layer_types: ["dense", "a", "b", "c"] }, "mlp_layer_types"],
  ["exaone_moe", { routed_scaling_factor: 0 }, "routed_scaling_factor"],
  ["solar_open", { n_shared_experts: -1 }, "n_shared_experts"],
  ["solar_open", { topk_group: 4 }, "topk_group"],
];

Deno.test("Configs of experts that make no sense are refused by field", () => {
  for (const [name, change, says] of BAD_CONFIGS) {
    const json = { ...tinyConfig(goldenModel(name)), ...change };
    const error = assertThrows(() => readModelConfig("c.json", json), CheckpointError);
    assertStringIncludes(error.message, says);
  }
});

const GATE_UP = "model.layers.0.mlp.experts.gate_up_proj";

/** What is done to a tensor's name, or to the tensor in the file. */
const BAD_FILES: readonly [GoldenModelName, TinyModelOptions, says: string][] = [
  [
    "gpt_oss",
    { rename: (name) => name.replace("router.bias", "router.offset") },
    "model.layers.0.mlp.router.bias",
  ],
  [
    "gpt_oss",
    { experts: "fused" }, // outputs before inputs
    "model.layers.0.mlp.experts.down_proj",
  ],
  [
    "gpt_oss",
    { rename: (name) => name.replace("gate_up_proj_bias", "gate_up_bias") },
    "gate_proj.bias",
  ],
  [
    "qwen3_moe",
    { experts: "columns" },
    GATE_UP,
  ],
  [
    "qwen3_moe",
    { rename: (name) => name.replace("experts.3.up_proj", "experts.9.up_proj") },
    "model.layers.0.mlp.experts.3.up_proj.weight",
  ],
  [
    "solar_open",
    { rename: (name) => name.replace("e_score_correction_bias", "score_bias") },
    "e_score_correction_bias",
  ],
  [
    "exaone_moe",
    { rename: (name) => name.replace("shared_experts.up_proj", "shared_experts.top_proj") },
    "shared_experts.up_proj",
  ],
  [
    "qwen3_moe",
    {
      extra: [{
        name: "model.layers.0.mlp.experts.6.up_proj.weight",
        shape: [24, 32],
        values: new Float32Array(24 * 32),
      }],
    },
    "experts.6.up_proj",
  ],
];

Deno.test("Files whose experts do not fit are refused by tensor", async () => {
  for (const [name, options, says] of BAD_FILES) {
    await inFolder(name, options, async (dir) => {
      const error = await assertRejects(() => openCheckpoint(dir), CheckpointError);
      assertStringIncludes(error.message, says);
    });
  }
});

/** Greedy tokens with their log-probabilities, to the bit. */
async function greedyBits(path: string, name: GoldenModelName): Promise<string> {
  await using llm = await LLM.load(path, { kvCacheDtype: "float32", maxModelLength: 64 });
  const params = new SamplingParams({ temperature: 0, maxTokens: 8, logprobs: 5, ignoreEos: true });
  return bits(await llm.generate({ promptTokenIds: goldenPrompt(goldenModel(name)) }, params));
}

/** Twice the floats of four bits, by code. */
const E2M1 = [0, 1, 2, 3, 4, 6, 8, 12, -0, -1, -2, -3, -4, -6, -8, -12];

/** Blocks of GGUF's MXFP4: the exponent, then the codes of k and k + 16 in one byte. */
function mxfp4Blocks(values: Float32Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(values.length / 32 * 17);
  for (let block = 0; block < values.length / 32; block++) {
    const own = values.subarray(32 * block, 32 * block + 32);
    const largest = Math.max(...own.map(Math.abs));
    const exponent = largest > 6 * 2 ** -5 ? -4 : -5;
    const codes = [...own].map((value) => E2M1.indexOf(2 * value / 2 ** exponent));
    assert(codes.every((code) => code >= 0));
    bytes[17 * block] = 127 + exponent;
    for (let i = 0; i < 16; i++) bytes[17 * block + 1 + i] = codes[i]! | codes[i + 16]! << 4;
  }
  return bytes;
}

Deno.test("GPT-OSS as GGUF with experts in MXFP4 has the bits of the folder", async () => {
  const path = await Deno.makeTempFile({ suffix: ".gguf" });
  try {
    await Deno.writeFile(
      path,
      tinyGgufBytes(goldenModel("gpt_oss"), (file) => {
        file.tensors = file.tensors.map((part) => {
          if (!part.name.endsWith("_exps.weight")) return part;
          const values = new Float32Array(part.bytes.slice().buffer);
          return { ...part, typeId: 39, bytes: mxfp4Blocks(values) };
        });
      }),
    );
    await inFolder("gpt_oss", {}, async (dir) => {
      assertEquals(await greedyBits(path, "gpt_oss"), await greedyBits(dir, "gpt_oss"));
    });
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("Solar Open with experts in NVFP4 has the bits of their values in float32", async () => {
  const golden = goldenModel("solar_open");
  const wide = { ...golden, config: { ...golden.config, moe_intermediate_size: 32 } };
  const quantization_config = {
    quant_method: "compressed-tensors",
    format: "nvfp4-pack-quantized",
  };
  const packed = { ...wide, config: { ...wide.config, quantization_config } };
  // The scale is 1 in E4M3, divided by 16; a byte has the codes of two neighbours, low first.
  const codes = ({ name, shape }: TinyTensor) => tinyBytes(name, shape[0]! * shape[1]! / 2);
  const isExpert = ({ name }: TinyTensor) => /mlp\.experts\.\d/.test(name);
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(`${dir}/packed`, packed, {
      replace(tensor) {
        if (!isExpert(tensor)) return undefined;
        const module = tensor.name.replace(/weight$/, "");
        const [n, k] = tensor.shape as [number, number];
        return [
          {
            name: `${module}weight_packed`,
            dtype: "U8",
            shape: [n, k / 2],
            bytes: codes(tensor),
          },
          {
            name: `${module}weight_scale`,
            dtype: "F8_E4M3",
            shape: [n, k / 16],
            bytes: new Uint8Array(n * k / 16).fill(0x38),
          },
          {
            name: `${module}weight_global_scale`,
            dtype: "F32",
            shape: [1],
            bytes: new Uint8Array(Float32Array.of(16).buffer),
          },
        ];
      },
    });
    writeTinyModel(`${dir}/plain`, wide, {
      replace(tensor) {
        if (!isExpert(tensor)) return undefined;
        const values = Float32Array.from(
          [...codes(tensor)].flatMap((byte) => [E2M1[byte & 15]!, E2M1[byte >> 4]!]),
          (twice) => twice / 32,
        );
        return [{ ...tensor, dtype: "F32", bytes: new Uint8Array(values.buffer) }];
      },
    });
    assertEquals(
      await greedyBits(`${dir}/packed`, "solar_open"),
      await greedyBits(`${dir}/plain`, "solar_open"),
    );
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

const u32 = (value: number) => ({ type: "u32", value }) as const;

Deno.test("GGUF files whose experts do not fit are refused by key or tensor", async () => {
  type Change = Parameters<typeof tinyGgufBytes>[1] & object;
  const cases: readonly [GoldenModelName, Change, says: string][] = [
    ["qwen3_moe", (f) => f.metadata.delete("qwen3moe.expert_count"), "expert_count"],
    ["qwen3_moe", (f) => f.metadata.set("qwen3moe.expert_used_count", u32(7)), "used_count"],
    ["qwen3_moe", (f) => f.metadata.set("qwen3moe.expert_gating_func", u32(2)), "gating_func"],
    ["qwen3_moe", (f) => f.metadata.set("qwen3moe.expert_count", u32(5)), "ffn_gate_inp.weight"],
    [
      "exaone_moe",
      (f) => f.tensors = f.tensors.filter(({ name }) => !name.endsWith("exp_probs_b.bias")),
      "exp_probs_b.bias",
    ],
    [
      "gpt_oss",
      (f) => f.tensors = f.tensors.filter(({ name }) => !name.endsWith("up_exps.bias")),
      "ffn_up_exps.bias",
    ],
    [
      "gpt_oss",
      (f) =>
        f.tensors = f.tensors.map((part) =>
          part.name === "blk.1.ffn_down_exps.weight" ? { ...part, shape: [4, 32, 64] } : part
        ),
      "blk.1.ffn_down_exps.weight",
    ],
    [
      "gpt_oss",
      (f) => f.tensors = f.tensors.filter(({ name }) => !name.includes("attn_sinks")),
      "attn_sinks",
    ],
  ];
  for (const [name, change, says] of cases) {
    const path = await Deno.makeTempFile({ suffix: ".gguf" });
    try {
      await Deno.writeFile(path, tinyGgufBytes(goldenModel(name), change));
      const error = await assertRejects(() => openCheckpoint(path), CheckpointError);
      assertStringIncludes(error.message, says);
    } finally {
      await Deno.remove(path);
    }
  }
});

Deno.test("A model with experts tells how many parameters take part in one token", async () => {
  await inFolder("qwen3_moe", {}, async (dir) => {
    await using llm = await LLM.load(dir, { maxModelLength: 64 });
    const { parameterCount, activeParameterCount } = llm.info;
    assertEquals(parameterCount, goldenModel("qwen3_moe").expect.params);
    // Two layers of six experts, three matrices [24, 32] each, of which two experts are chosen.
    assertEquals(activeParameterCount, parameterCount - 2 * (6 - 2) * 3 * 24 * 32);
  });
});
