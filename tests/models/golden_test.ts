/** The tiny golden models through loading, device and engine: logits and greedy tokens of the reference. */

import { assert, assertEquals } from "@std/assert";
import type { LoadedModel } from "../../lib/loading.ts";
import type { LLMOptions } from "../../mod.ts";
import { engineParams, sequencesOf } from "../helpers/engine_requests.ts";
import {
  GOLDEN_MODEL_NAMES,
  type GoldenModel,
  goldenModel,
  goldenPrompt,
} from "../helpers/golden_models.ts";
import { withModel } from "../helpers/loaded_model.ts";
import { modelLogits, promptLogits } from "../helpers/model_logits.ts";
import {
  encodeValues,
  tinyGgufBytes,
  type TinyModelOptions,
  writeTinyGguf,
  writeTinyModel,
} from "../helpers/tiny_model.ts";

/** As the reference states it: 2e-5 absolute or 1e-5 relative, whichever is larger. */
function assertLogit(actual: number, expected: number, what: string): void {
  const tolerance = Math.max(2e-5, 1e-5 * Math.abs(expected));
  assert(Math.abs(actual - expected) <= tolerance, `${what}: ${actual}, not ${expected}`);
}

async function checkLogits(
  { model }: LoadedModel,
  { expect, config }: GoldenModel,
  ids: readonly number[],
): Promise<void> {
  const rows = await promptLogits(model, ids);
  for (const [position, row] of rows.entries()) {
    assertEquals(row.length, config.vocab_size);
    const mean = row.reduce((sum, logit) => sum + logit, 0) / row.length;
    assertLogit(mean, expect.mean[position] as number, `mean at position ${position}`);
    assertEquals(row.indexOf(Math.max(...row)), expect.argmax[position], `argmax at ${position}`);
  }
  for (const [i, logit] of expect.last8.entries()) {
    assertLogit(rows.at(-1)?.[i] as number, logit, `logit ${i}`);
  }
  const kernels = (await model.device.trace()).map((entry) => entry.kernel);
  assert(
    kernels.length > 0 && kernels.every((name) => name.startsWith("simd.")),
    kernels.join(" "),
  );
}

async function checkGreedy(
  { engine }: LoadedModel,
  { expect }: GoldenModel,
  promptTokenIds: readonly number[],
): Promise<void> {
  const maxTokens = expect.greedy12.length;
  const params = engineParams({ temperature: 0, maxTokens, ignoreEos: true });
  const [events = []] = await sequencesOf(engine.submit({ id: "greedy", promptTokenIds, params }));
  assertEquals(events.map(({ tokenId }) => tokenId), expect.greedy12);
}

async function check(path: string, golden: GoldenModel, options: LLMOptions = {}): Promise<void> {
  const ids = goldenPrompt(golden);
  await withModel(path, { kvCacheDtype: "float32", ...options }, async (loaded) => {
    await checkLogits(loaded, golden, ids);
    await checkGreedy(loaded, golden, ids);
  });
}

Deno.test("Repacked as float32, bfloat16 or float16 the golden models keep logits and tokens", async () => {
  for (const name of ["llama", "mistral", "qwen2", "qwen3", "exaone4-hybrid"] as const) {
    const dir = await Deno.makeTempDir();
    try {
      writeTinyModel(dir, goldenModel(name), { dtype: "BF16" });
      for (const dtype of ["float32", "bfloat16", "float16"] as const) {
        await check(dir, goldenModel(name), { dtype });
      }
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  }
});

const variants: readonly (readonly [string, TinyModelOptions])[] = [
  ["F32", { dtype: "F32" }],
  ["F16 in three shards", { dtype: "F16", shards: 3 }],
  ["BF16", { dtype: "BF16" }],
  ["BF16 in two shards, rope as version 5 spells it", {
    dtype: "BF16",
    shards: 2,
    ropeSpelling: "v5",
  }],
];

for (const name of GOLDEN_MODEL_NAMES) {
  for (const [variant, options] of variants) {
    Deno.test(`Golden model ${name} as ${variant} gives the reference's logits and greedy tokens`, async () => {
      const dir = await Deno.makeTempDir();
      try {
        writeTinyModel(dir, goldenModel(name), options);
        // The reference ran in float32, where Gemma's factor of the embedding is not rounded.
        await check(dir, goldenModel(name), name.startsWith("gemma3") ? { dtype: "float32" } : {});
      } finally {
        await Deno.remove(dir, { recursive: true });
      }
    });
  }
}

for (
  const [name, form] of [
    ["qwen3_moe", "fused"],
    ["exaone_moe", "fused"],
    ["solar_open", "fused"],
    ["gpt_oss", "columns"],
  ] as const
) {
  for (const dtype of ["F32", "F16", "BF16"] as const) {
    Deno.test(`Golden model ${name} with experts in one tensor of ${dtype} gives the reference's logits and greedy tokens`, async () => {
      const dir = await Deno.makeTempDir();
      try {
        writeTinyModel(dir, goldenModel(name), { dtype, experts: form });
        await check(dir, goldenModel(name));
      } finally {
        await Deno.remove(dir, { recursive: true });
      }
    });
  }
}

for (
  const name of [
    "llama",
    "mistral",
    "qwen3",
    "qwen3-yarn",
    "exaone4-full",
    "exaone4-hybrid",
    "gemma3",
    "gemma3-softcap",
    "qwen3_moe",
    "gpt_oss",
    "exaone_moe",
  ] as const
) {
  for (const [dtype, typeId] of [["F32", 0], ["F16", 1], ["BF16", 30]] as const) {
    Deno.test(`Golden model ${name} as GGUF ${dtype} gives the reference's logits and greedy tokens`, async () => {
      const path = await Deno.makeTempFile({ suffix: ".gguf" });
      try {
        const bytes = tinyGgufBytes(goldenModel(name), ({ tensors }) => {
          for (const [i, tensor] of tensors.entries()) {
            // Vectors and routers are never less than float32 in such files.
            if (tensor.shape.length < 2 || tensor.name.includes("ffn_gate_inp")) continue;
            const values = new Float32Array(tensor.bytes.slice().buffer);
            tensors[i] = { ...tensor, typeId, bytes: encodeValues(values, dtype) };
          }
        });
        Deno.writeFileSync(path, bytes);
        await check(path, goldenModel(name));
      } finally {
        await Deno.remove(path);
      }
    });
  }
}

/** What the checkpoints of EXAONE 3 call the parts of Llama, in the order of replacement. */
const EXAONE_NAMES = [
  ["model.embed_tokens", "transformer.wte"],
  ["model.norm", "transformer.ln_f"],
  ["model.layers", "transformer.h"],
  ["input_layernorm", "ln_1"],
  ["post_attention_layernorm", "ln_2"],
  ["self_attn.o_proj", "attn.attention.out_proj"],
  ["self_attn", "attn.attention"],
  ["mlp.gate_proj", "mlp.c_fc_0"],
  ["mlp.up_proj", "mlp.c_fc_1"],
  ["mlp.down_proj", "mlp.c_proj"],
] as const;

/** The golden Llama as a model of EXAONE 3, which has the same parts. */
function goldenExaone(): GoldenModel {
  const golden = goldenModel("llama");
  const config = {
    tie_word_embeddings: false,
    ...golden.config,
    num_layers: golden.config["num_hidden_layers"],
    layer_norm_epsilon: golden.config["rms_norm_eps"],
    activation_function: "silu",
  };
  return { ...golden, architectures: ["ExaoneForCausalLM"], model_type: "exaone", config };
}

Deno.test("The golden Llama under the names of EXAONE 3 gives the reference's logits and greedy tokens", async () => {
  const golden = goldenExaone();
  const { num_hidden_layers: _, rms_norm_eps: __, ...config } = golden.config;
  const exaone = { ...golden, config };
  const rename = (name: string) =>
    EXAONE_NAMES.reduce((before, [from, to]) => before.replace(from, to), name);
  const extra = ["transformer.rotary.inv_freq", "transformer.h.0.attn.attention.rotary.inv_freq"]
    .map((name) => ({ name, shape: [8], values: new Float32Array(8) }));
  for (const options of [{ ropeSpelling: "v4" }, { ropeSpelling: "v5", shards: 2 }] as const) {
    const dir = await Deno.makeTempDir();
    try {
      writeTinyModel(dir, exaone, { dtype: "BF16", rename, extra, ...options });
      await check(dir, golden);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  }
});

Deno.test("The golden Llama as a GGUF of EXAONE 3 gives the reference's logits and greedy tokens", async () => {
  const path = await Deno.makeTempFile({ suffix: ".gguf" });
  try {
    writeTinyGguf(path, goldenExaone());
    await check(path, goldenExaone());
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("The golden Qwen 2 without its window, which GGUF cannot name, has the same logits from either format", async () => {
  const golden = goldenModel("qwen2");
  const plain = { ...golden, config: { ...golden.config, use_sliding_window: false } };
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(dir, plain);
    writeTinyGguf(`${dir}/a.gguf`, plain);
    const ids = goldenPrompt(golden);
    assertEquals(await modelLogits(`${dir}/a.gguf`, ids), await modelLogits(dir, ids));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
