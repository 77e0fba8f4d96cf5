/** Checkpoints as folders and as GGUF files: one face, and what is wrong with a bad one. */

import { Tokenizer } from "@huggingface/tokenizers";
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { decodeRow } from "../../lib/device/block_formats.ts";
import { CheckpointError, ModelNotFoundError } from "../../lib/base/errors.ts";
import { type Checkpoint, openCheckpoint } from "../../lib/models/checkpoint.ts";
import type { TensorInfo } from "../../lib/models/expected_tensors.ts";
import { ropeFrequencies } from "../../lib/models/rope.ts";
import type { GgufEntry, GgufPart } from "../helpers/gguf_writer.ts";
import {
  GOLDEN_MODEL_NAMES,
  goldenModel,
  type GoldenModelName,
  goldenPrompt,
} from "../helpers/golden_models.ts";
import { modelLogits } from "../helpers/model_logits.ts";
import { safetensorsBytes } from "../helpers/safetensors_writer.ts";
import {
  tinyConfig,
  tinyGgufBytes,
  type TinyModelOptions,
  tinyTensors,
  tinyValues,
  writeTinyGguf,
  writeTinyModel,
} from "../helpers/tiny_model.ts";

async function inTempFolder(run: (dir: string) => Promise<void>): Promise<void> {
  const dir = Deno.makeTempDirSync();
  try {
    await run(dir);
  } finally {
    Deno.removeSync(dir, { recursive: true });
  }
}

/** Every value of a tensor, read in pieces of `rowsAtOnce` rows. */
function readValues(checkpoint: Checkpoint, name: string, rowsAtOnce: number): number[] {
  const tensor = checkpoint.tensors.get(name);
  assert(tensor !== undefined, name);
  const rowCount = tensor.shape.length === 1 ? 1 : tensor.shape[0] as number;
  const rowBytes = tensor.sizeBytes / rowCount;
  const values: number[] = [];
  for (let row = 0; row < rowCount; row += rowsAtOnce) {
    const end = Math.min(row + rowsAtOnce, rowCount);
    const bytes = new Uint8Array((end - row) * rowBytes);
    checkpoint.readRows(name, row, end, bytes);
    if (tensor.format === "e2m1") {
      for (let at = 0; at < bytes.length; at += rowBytes) {
        values.push(
          ...decodeRow("e2m1", tensor.shape[1] as number, bytes.subarray(at, at + rowBytes)),
        );
      }
    } else if (tensor.format === "f32") values.push(...new Float32Array(bytes.buffer));
    else if (tensor.format === "f16") values.push(...new Float16Array(bytes.buffer));
    else {
      const words = Uint32Array.from(new Uint16Array(bytes.buffer), (half) => half << 16);
      values.push(...new Float32Array(words.buffer));
    }
  }
  return values;
}

function assertHoldsModel(checkpoint: Checkpoint, name: GoldenModelName): void {
  const expected = tinyTensors(goldenModel(name));
  assertEquals([...checkpoint.tensors.keys()], expected.map((tensor) => tensor.name));
  for (const [index, { name, shape, values }] of expected.entries()) {
    assertEquals(checkpoint.tensors.get(name)?.shape, shape);
    assertEquals(readValues(checkpoint, name, 1 + index % 7), [...values], name);
  }
}

Deno.test("The tiny models' values follow the published rule", () => {
  const norm = [-17, 117, 18, 22, -8, -2, -31, 121].map((t) => 1 + (t >> 1) / 128);
  assertEquals([...tinyValues("model.norm.weight", 8)], norm);
  const query = [-76, -38, -54, -66, 124, 61, -95, -94].map((t) => t / 512);
  assertEquals([...tinyValues("model.layers.0.self_attn.q_proj.weight", 8)], query);
  assertEquals(goldenPrompt(goldenModel("llama")).slice(0, 4), [5, 15, 39, 77]);
});

const WAYS: readonly TinyModelOptions[] = [
  {},
  { dtype: "F16", shards: 3 },
  { dtype: "BF16", ropeSpelling: "v5" },
];

for (const name of GOLDEN_MODEL_NAMES) {
  Deno.test(`A folder holding ${name} gives its tensors in every dtype, sharded or not`, async () => {
    await inTempFolder(async (root) => {
      for (const [index, way] of WAYS.entries()) {
        const dir = `${root}/${index}`;
        writeTinyModel(dir, goldenModel(name), way);
        using checkpoint = await openCheckpoint(dir);
        assertEquals(checkpoint.path, dir);
        assertHoldsModel(checkpoint, name);
        const format = (way.dtype ?? "F32").toLowerCase();
        const isStored = ({ name: tensor, format: own }: TensorInfo) =>
          own === (name === "gpt_oss" && /experts\.\d/.test(tensor) ? "e2m1" : format);
        assert([...checkpoint.tensors.values()].every(isStored));
      }
    });
  });
}

for (const name of ["llama", "qwen3"] as const) {
  Deno.test(`A GGUF file holding ${name} gives the folder's config, tensors and row order`, async () => {
    await inTempFolder(async (dir) => {
      writeTinyModel(`${dir}/hf`, goldenModel(name));
      writeTinyGguf(`${dir}/m.gguf`, goldenModel(name));
      using folder = await openCheckpoint(`${dir}/hf`);
      using file = await openCheckpoint(`${dir}/m.gguf`);
      assertHoldsModel(file, name);
      // What only one of the two can say: the precision, and divisors in place of a formula.
      assert(file.config.kind === "decoder" && folder.config.kind === "decoder");
      const { rope, dtype: _, ...config } = file.config;
      const { rope: expectedRope, dtype: __, ...expected } = folder.config;
      assertEquals(
        { ...config, bosTokenId: 1, endTokenIds: [2] },
        { ...expected, bosTokenId: 1, endTokenIds: [2] },
      );
      const frequencies = ropeFrequencies(rope, 1);
      ropeFrequencies(expectedRope, 1).forEach((frequency, i) =>
        assertAlmostEquals(frequencies[i] as number, frequency, frequency * 2e-7)
      );
      assertEquals(file.generation, { endTokenIds: [2, 0] });
    });
  });
}

Deno.test("A paired bias of a GGUF file comes back in Hugging Face order", async () => {
  await inTempFolder(async (dir) => {
    const golden = goldenModel("llama");
    const { config } = golden;
    const biased = { ...golden, config: { ...config, attention_bias: true } };
    Deno.writeFileSync(`${dir}/m.gguf`, tinyGgufBytes(biased));
    using checkpoint = await openCheckpoint(`${dir}/m.gguf`);
    assert(checkpoint.config.kind === "decoder" && checkpoint.config.attentionBias);
    for (const module of ["q_proj", "k_proj", "v_proj", "o_proj"]) {
      const name = `model.layers.1.self_attn.${module}.bias`;
      const count = checkpoint.tensors.get(name)?.shape[0] ?? 0;
      assertEquals(readValues(checkpoint, name, 1), [...tinyValues(name, count)]);
    }
  });
});

Deno.test("A folder's tokenizer files and chat template come along and work", async () => {
  await inTempFolder(async (dir) => {
    writeTinyModel(dir, goldenModel("llama"));
    using checkpoint = await openCheckpoint(dir);
    assertEquals(checkpoint.generation, { endTokenIds: [2, 0] });
    const { text } = checkpoint;
    assert(text.kind === "huggingface");
    assertEquals(text.files.chatTemplate, `${dir}/tokenizer_config.json`);
    assertStringIncludes(text.chatTemplate ?? "", "<|im_start|>");

    const tokenizer = new Tokenizer(text.tokenizer as object, text.tokenizerConfig as object);
    assertEquals(tokenizer.get_vocab().size, 101);
    const prompt = "<|im_start|>the café 🚀<|im_end|>\n";
    const { ids } = tokenizer.encode(prompt, { add_special_tokens: false });
    assertEquals([ids[0], ids[1], ids.at(-1)], [1, 100, 3]);
    assertEquals(tokenizer.decode(ids, { skip_special_tokens: false }), prompt);
  });
});

Deno.test("A GGUF file's metadata comes along for the text floor", async () => {
  await inTempFolder(async (dir) => {
    writeTinyGguf(`${dir}/m.gguf`, goldenModel("llama"));
    using checkpoint = await openCheckpoint(`${dir}/m.gguf`);
    const { text } = checkpoint;
    assert(text.kind === "gguf");
    assertEquals(text.file, `${dir}/m.gguf`);
    const tokens = text.metadata.get("tokenizer.ggml.tokens");
    assert(Array.isArray(tokens));
    assertEquals([tokens.length, tokens[2], tokens[100]], [101, "<|im_end|>", "the"]);
  });
});

Deno.test("A chat template is taken from its own file, then the legacy file, then the config", async () => {
  await inTempFolder(async (dir) => {
    writeTinyModel(dir, goldenModel("llama"));
    const template = async (): Promise<string | undefined> => {
      using checkpoint = await openCheckpoint(dir);
      return checkpoint.text.kind === "huggingface" ? checkpoint.text.chatTemplate : undefined;
    };
    const named = [{ name: "tool_use", template: "T" }, { name: "default", template: "D" }];
    writeJson(dir, "tokenizer_config.json", { chat_template: named });
    assertEquals(await template(), "D");
    writeJson(dir, "chat_template.json", { chat_template: "J" });
    assertEquals(await template(), "J");
    Deno.writeTextFileSync(`${dir}/chat_template.jinja`, "file");
    assertEquals(await template(), "file");
    for (const file of ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"]) {
      Deno.removeSync(`${dir}/${file}`);
    }
    assertEquals(await template(), undefined);
  });
});

Deno.test("Names without the backbone's prefix, tied heads and old buffers are understood", async () => {
  await inTempFolder(async (dir) => {
    const golden = goldenModel("qwen3");
    writeTinyModel(dir, golden);
    rewrite(dir, (parts) => {
      const bare = parts.map((part) => ({ ...part, name: part.name.replace(/^model\./, "") }));
      const buffer = { name: "layers.0.self_attn.rotary_emb.inv_freq", dtype: "F64", shape: [1] };
      const head = { name: "lm_head.weight", dtype: "F32", shape: [1] };
      return [
        ...bare,
        { ...buffer, bytes: new Uint8Array(8) },
        { ...head, bytes: new Uint8Array(4) },
      ];
    });
    using checkpoint = await openCheckpoint(dir);
    assertHoldsModel(checkpoint, "qwen3");
  });
});

Deno.test("A tied model computes with its embedding, whatever head is stored beside it", async () => {
  await inTempFolder(async (dir) => {
    const golden = goldenModel("qwen3"); // tied
    const { vocab_size, hidden_size } = golden.config as Record<string, number>;
    const shape = [vocab_size!, hidden_size!];
    const values = Float32Array.from({ length: vocab_size! * hidden_size! }, (_, i) => i % 7);
    writeTinyModel(`${dir}/alone`, golden);
    writeTinyModel(`${dir}/beside`, golden, {
      extra: [{ name: "lm_head.weight", shape, values }],
    });
    using alone = await openCheckpoint(`${dir}/alone`);
    using beside = await openCheckpoint(`${dir}/beside`);
    assertEquals([...beside.tensors.keys()], [...alone.tensors.keys()]);
    const ids = [5, 8, 3];
    assertEquals(
      await modelLogits(`${dir}/beside`, ids),
      await modelLogits(`${dir}/alone`, ids),
    );
  });
});

Deno.test("Without a generation config the config's own end tokens count", async () => {
  await inTempFolder(async (dir) => {
    writeTinyModel(dir, goldenModel("llama"));
    writeJson(dir, "config.json", { ...tinyConfig(goldenModel("llama")), eos_token_id: 77 });
    Deno.removeSync(`${dir}/generation_config.json`);
    using checkpoint = await openCheckpoint(dir);
    assertEquals(checkpoint.generation, { endTokenIds: [77] });
  });
});

Deno.test("The identity tells weights and configs apart, but not folders or tokenizers", async () => {
  await inTempFolder(async (root) => {
    const identityOf = async (name: string, change: (dir: string) => void): Promise<string> => {
      const dir = `${root}/${name}`;
      writeTinyModel(dir, goldenModel("llama"));
      change(dir);
      using checkpoint = await openCheckpoint(dir);
      return checkpoint.identity;
    };
    const original = await identityOf("a", () => {});
    assertEquals(original.length, 64);
    assertEquals(await identityOf("b", () => {}), original);
    assertEquals(await identityOf("c", (dir) => writeJson(dir, "tokenizer.json", {})), original);
    const theta = { ...tinyConfig(goldenModel("llama")), rope_theta: 20_000 };
    assertNotEquals(await identityOf("d", (dir) => writeJson(dir, "config.json", theta)), original);
    const changed = await identityOf("e", (dir) => {
      const file = Deno.readFileSync(`${dir}/model.safetensors`);
      file[file.byteLength - 1] = 0x40;
      Deno.writeFileSync(`${dir}/model.safetensors`, file);
    });
    assertNotEquals(changed, original);
  });
});

type Parts = Parameters<typeof safetensorsBytes>[0];

/** Writes the weights of a folder anew, from the tiny llama's or qwen3's tensors after a change. */
function rewrite(dir: string, change: (parts: Parts) => Parts): void {
  const config = JSON.parse(Deno.readTextFileSync(`${dir}/config.json`));
  const golden = goldenModel(config.model_type === "llama" ? "llama" : "qwen3");
  const parts = tinyTensors(golden).map(({ name, shape, values }) => {
    return { name, dtype: "F32", shape, bytes: new Uint8Array(values.slice().buffer) };
  });
  Deno.writeFileSync(`${dir}/model.safetensors`, safetensorsBytes(change(parts)));
}

function writeJson(dir: string, file: string, value: unknown): void {
  Deno.writeTextFileSync(`${dir}/${file}`, JSON.stringify(value));
}

const NORM = "model.norm.weight";

/** A tensor of one number. */
const extra = (name: string): Parts[number] => ({
  name,
  dtype: "F32",
  shape: [1],
  bytes: new Uint8Array(4),
});

const BAD_FOLDERS: readonly [
  what: string,
  change: (dir: string) => void,
  file: string,
  says: string,
][] = [
  [
    "without config.json",
    (dir) => Deno.removeSync(`${dir}/config.json`),
    "config.json",
    "no such file",
  ],
  [
    "with a config.json that is cut",
    (dir) => Deno.writeTextFileSync(`${dir}/config.json`, '{"a":'),
    "config.json",
    "not valid JSON",
  ],
  [
    "with a config.json that is not UTF-8",
    (dir) => Deno.writeFileSync(`${dir}/config.json`, Uint8Array.of(0x22, 0xff, 0x22)),
    "config.json",
    "UTF-8",
  ],
  [
    "of an unknown architecture",
    (dir) => writeJson(dir, "config.json", { architectures: ["X"] }),
    "config.json",
    "supported architectures are LlamaForCausalLM",
  ],
  [
    "without tokenizer.json",
    (dir) => Deno.removeSync(`${dir}/tokenizer.json`),
    "tokenizer.json",
    "no such file",
  ],
  [
    "with a tokenizer.json that is no JSON",
    (dir) => Deno.writeTextFileSync(`${dir}/tokenizer.json`, "?"),
    "tokenizer.json",
    "not valid JSON",
  ],
  [
    "with a tokenizer_config.json that is a list",
    (dir) => writeJson(dir, "tokenizer_config.json", []),
    "tokenizer_config.json",
    "object",
  ],
  [
    "with a chat template that is a number",
    (dir) => writeJson(dir, "tokenizer_config.json", { chat_template: 5 }),
    "tokenizer_config.json",
    "chat_template",
  ],
  [
    "with a chat template without a name",
    (dir) => writeJson(dir, "tokenizer_config.json", { chat_template: [{ template: "x" }] }),
    "tokenizer_config.json",
    "a name and a template",
  ],
  [
    "with a bad generation_config.json",
    (dir) => writeJson(dir, "generation_config.json", { top_k: "many" }),
    "generation_config.json",
    "top_k",
  ],
  [
    "without weights",
    (dir) => Deno.removeSync(`${dir}/model.safetensors`),
    "model.safetensors",
    "index",
  ],
  [
    "that lacks a tensor",
    (dir) => rewrite(dir, (parts) => parts.filter(({ name }) => name !== NORM)),
    "model.safetensors",
    `"${NORM}"`,
  ],
  [
    "whose index lacks a tensor",
    (dir) => {
      writeTinyModel(dir, goldenModel("llama"), { shards: 2 });
      const file = `${dir}/model.safetensors.index.json`;
      const index = JSON.parse(Deno.readTextFileSync(file));
      delete index.weight_map[NORM];
      Deno.writeTextFileSync(file, JSON.stringify(index));
    },
    "model.safetensors.index.json",
    `"${NORM}"`,
  ],
  [
    "whose tensor contradicts the config",
    (dir) =>
      writeJson(dir, "config.json", { ...tinyConfig(goldenModel("llama")), intermediate_size: 88 }),
    "model.safetensors",
    "the shape [80, 48], but the config calls for [88, 48]",
  ],
  [
    "whose config has more layers than the weights",
    (dir) =>
      writeJson(dir, "config.json", { ...tinyConfig(goldenModel("llama")), num_hidden_layers: 3 }),
    "model.safetensors",
    '"model.layers.2.',
  ],
  [
    "whose config has fewer layers than the weights",
    (dir) =>
      writeJson(dir, "config.json", { ...tinyConfig(goldenModel("llama")), num_hidden_layers: 1 }),
    "model.safetensors",
    '"model.layers.1.',
  ],
  [
    "with a bias of the last norm",
    (dir) => rewrite(dir, (parts) => [...parts, extra("model.norm.bias")]),
    "model.safetensors",
    '"model.norm.bias"',
  ],
  [
    "whose config says a thing twice",
    (dir) =>
      Deno.writeTextFileSync(
        `${dir}/config.json`,
        JSON.stringify(tinyConfig(goldenModel("llama")))
          .replace("{", '{ "rope_theta" : 5.0, "notes": { "rope_theta": "\\"{" },'),
      ),
    "config.json",
    'the key "rope_theta" appears twice',
  ],
  [
    "with a tensor of an unsupported type",
    (dir) =>
      rewrite(
        dir,
        (parts) =>
          parts.map((part) =>
            part.name === NORM
              ? { ...part, dtype: "F8_E4M3", bytes: part.bytes.subarray(0, 48) }
              : part
          ),
      ),
    "model.safetensors",
    `"${NORM}" of`,
  ],
  [
    "with a bias that the config does not know",
    (dir) =>
      rewrite(
        dir,
        (parts) => [...parts, extra("model.layers.0.mlp.up_proj.bias")],
      ),
    "model.safetensors",
    '"model.layers.0.mlp.up_proj.bias"',
  ],
  [
    "with truncated weights",
    (dir) => Deno.truncateSync(`${dir}/model.safetensors`, 100_000),
    "model.safetensors",
    "truncated",
  ],
];

for (const [what, change, file, says] of BAD_FOLDERS) {
  Deno.test(`A folder ${what} is refused, and nothing stays open`, async () => {
    await inTempFolder(async (dir) => {
      writeTinyModel(dir, goldenModel("llama"));
      change(dir);
      const error = await assertRejects(() => openCheckpoint(dir), CheckpointError, says);
      assertStringIncludes(error.message, `${dir}/${file}`);
      assertEquals(error.file, `${dir}/${file}`);
    });
  });
}

Deno.test("Layers that guess ahead may be in the weights if the config says how many there are", async () => {
  await inTempFolder(async (dir) => {
    writeTinyModel(dir, goldenModel("llama"));
    rewrite(dir, (parts) => [...parts, extra("model.layers.2.enorm.weight")]);
    const config = tinyConfig(goldenModel("llama"));
    writeJson(dir, "config.json", { ...config, num_nextn_predict_layers: 1 });
    (await openCheckpoint(dir))[Symbol.dispose]();
    writeJson(dir, "config.json", config);
    await assertRejects(
      () => openCheckpoint(dir),
      CheckpointError,
      '"model.layers.2.enorm.weight"',
    );
  });
});

type GgufFile = { metadata: Map<string, GgufEntry>; tensors: GgufPart[] };

const u32 = (value: number): GgufEntry => ({ type: "u32", value });

function changePart(file: GgufFile, name: string, change: (part: GgufPart) => GgufPart): void {
  file.tensors = file.tensors.map((part) => part.name === name ? change(part) : part);
}

const BAD_GGUFS: readonly [what: string, change: (file: GgufFile) => void, says: string][] = [
  [
    "of an unknown architecture",
    (f) => f.metadata.set("general.architecture", { type: "string", value: "mamba" }),
    '"mamba"',
  ],
  [
    "without an architecture",
    (f) => f.metadata.delete("general.architecture"),
    "general.architecture",
  ],
  ["with experts", (f) => f.metadata.set("llama.expert_count", u32(8)), "llama.expert_count"],
  ["with fewer layers than tensors", (f) => f.metadata.set("llama.block_count", u32(1)), "blk.1."],
  [
    "with a tensor that the architecture has not",
    (f) => {
      const bytes = new Uint8Array(4);
      f.tensors.push({ name: "output_norm.bias", typeId: 0, shape: [1], bytes });
    },
    "output_norm.bias",
  ],
  ["that is split", (f) => f.metadata.set("split.count", u32(4)), "split.no is missing"],
  [
    "without a context length",
    (f) => f.metadata.delete("llama.context_length"),
    "llama.context_length",
  ],
  [
    "with a context length of text",
    (f) => f.metadata.set("llama.context_length", { type: "string", value: "long" }),
    '"long"',
  ],
  [
    "with an absurd layer count",
    (f) => f.metadata.set("llama.block_count", u32(1e9)),
    "llama.block_count 1000000000",
  ],
  [
    "with head counts that do not divide",
    (f) => f.metadata.set("llama.attention.head_count_kv", u32(4)),
    "divide the head count 6",
  ],
  [
    "with layers of different heads",
    (f) => f.metadata.set("llama.attention.head_count_kv", { type: "i32s", value: [2, 1] }),
    "all 2 layers",
  ],
  [
    "with values narrower than keys",
    (f) => f.metadata.set("llama.attention.value_length", u32(16)),
    "value_length",
  ],
  [
    "with an unknown rope scaling",
    (f) => f.metadata.set("llama.rope.scaling.type", { type: "string", value: "longrope" }),
    '"longrope"',
  ],
  [
    "with one divisor too few",
    (f) =>
      changePart(
        f,
        "rope_freqs.weight",
        (p) => ({ ...p, shape: [3], bytes: p.bytes.subarray(0, 12) }),
      ),
    "rope_freqs.weight",
  ],
  [
    "with a divisor of zero",
    (f) => changePart(f, "rope_freqs.weight", (p) => ({ ...p, bytes: new Uint8Array(16) })),
    "rope_freqs.weight",
  ],
  ["without token embedding", (f) => f.tensors.shift(), "token_embd.weight"],
  [
    "that lacks a tensor",
    (f) => f.tensors = f.tensors.filter((p) => p.name !== "blk.1.ffn_up.weight"),
    '"blk.1.ffn_up.weight"',
  ],
  [
    "with fused queries, keys and values of another size",
    (f) => changePart(f, "blk.0.attn_q.weight", (p) => ({ ...p, name: "blk.0.attn_qkv.weight" })),
    '"blk.0.attn_qkv.weight"',
  ],
  [
    "with a tensor of another shape",
    (f) => f.metadata.set("llama.feed_forward_length", u32(72)),
    "the shape [80, 48], but the config calls for [72, 48]",
  ],
  [
    "with an unsupported type",
    (f) =>
      changePart(
        f,
        "blk.0.ffn_down.weight",
        (p) => ({ ...p, typeId: 24, bytes: p.bytes.subarray(0, 48 * 80) }),
      ),
    "I8; the supported types are F32, F16, BF16, Q8_0, Q4_0, Q4_1",
  ],
  [
    "with a tensor that its layers do not have",
    (f) =>
      f.tensors.push({
        name: "blk.0.attn_sinks.weight",
        typeId: 0,
        shape: [6],
        bytes: new Uint8Array(24),
      }),
    '"blk.0.attn_sinks.weight"',
  ],
];

for (const [what, change, says] of BAD_GGUFS) {
  Deno.test(`A GGUF file ${what} is refused, and nothing stays open`, async () => {
    await inTempFolder(async (dir) => {
      const path = `${dir}/m.gguf`;
      Deno.writeFileSync(path, tinyGgufBytes(goldenModel("llama"), change));
      const error = await assertRejects(() => openCheckpoint(path), CheckpointError, says);
      assertStringIncludes(error.message, path);
      assertEquals(error.file, path);
    });
  });
}

Deno.test("A path that is no model is refused", async () => {
  await inTempFolder(async (dir) => {
    await assertRejects(() => openCheckpoint(`${dir}/none`), ModelNotFoundError, `${dir}/none`);
    Deno.writeTextFileSync(`${dir}/model.bin`, "");
    await assertRejects(() => openCheckpoint(`${dir}/model.bin`), CheckpointError, "config.json");
  });
});
