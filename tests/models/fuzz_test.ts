/**
 * Checkpoints of every family with one thing in them changed: each is the model that it says it is,
 * or refused by the name of its file, shortly. Nothing else may happen.
 */

import { assert } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import { openCheckpoint } from "../../lib/models/checkpoint.ts";
import type { ModelConfig } from "../../lib/models/model_config.ts";
import { Random, randomSeed } from "../device/kernel_contract.ts";
import { GOLDEN_MODEL_NAMES, goldenModel } from "../helpers/golden_models.ts";
import type { GgufEntry, GgufPart } from "../helpers/gguf_writer.ts";
import { tinyConfig, tinyGgufBytes, writeTinyModel } from "../helpers/tiny_model.ts";

/** Changes a family and a format. */
const ROUNDS = 60;
const MESSAGE_LENGTH_MAX = 500;

type Json = Record<string, unknown>;

/** Fields that follow from tensors' shapes: with other values no checkpoint may open. */
const IN_SHAPES = [
  "vocabSize",
  "hiddenSize",
  "layerCount",
  "headCount",
  "kvHeadCount",
  "attentionBias",
  "mlpBias",
  "qkNorm",
] as const;

function strange(old: unknown, random: Random): unknown {
  const values: unknown[] = [null, true, false, 0, -1, 1, 1.5, 2 ** 31, 2 ** 53, "", "x", [], {}];
  if (typeof old === "number") values.push(String(old), old + 1, 2 * old, old / 2, -old, old - 1);
  return random.pick(values);
}

/** One field of the config, or of an object in it, is missing or another. */
function damageConfig(config: Json, random: Random): string {
  const key = random.pick(Object.keys(config));
  const inner = config[key];
  const isObject = typeof inner === "object" && inner !== null && !Array.isArray(inner);
  const holder = isObject && random.integer(0, 3) > 0 ? inner as Json : config;
  const field = holder === config ? key : random.pick(Object.keys(holder));
  const old = holder[field];
  if (random.integer(0, 5) === 0) delete holder[field];
  else holder[field] = strange(old, random);
  return `${field}: ${JSON.stringify(old)} → ${JSON.stringify(holder[field])}`;
}

type GgufFile = { metadata: Map<string, GgufEntry>; tensors: GgufPart[] };

/** One metadata value or one tensor is missing or another. */
function damageGguf(file: GgufFile, random: Random): string {
  if (random.integer(0, 2) === 0) {
    const at = random.integer(0, file.tensors.length - 1);
    const part = file.tensors[at]!;
    const changed: GgufPart[] = random.pick([
      [],
      [part, part],
      [{ ...part, typeId: random.pick([1, 2, 8, 12, 24, 28, 99]) }],
      [{ ...part, shape: [1, ...part.shape] }],
      [{ ...part, shape: part.shape.map((size) => size + 1) }],
      [part, { ...part, name: random.pick(["output_norm.bias", "blk.99.x", "blk.0.attn_q.bais"]) }],
    ]);
    file.tensors.splice(at, 1, ...changed);
    return `${part.name} → ${
      changed.map(({ name, typeId, shape }) => `${name} ${typeId} [${shape}]`)
    }`;
  }
  const keys = [...file.metadata.keys()].filter((key) => !key.startsWith("tokenizer."));
  const key = random.pick(keys);
  const values: readonly GgufEntry[] = [
    { type: "u32", value: 0 },
    { type: "u32", value: 1 },
    { type: "u32", value: 0xffffffff },
    { type: "i32", value: -1 },
    { type: "u64", value: 2n ** 63n },
    { type: "f32", value: NaN },
    { type: "f32", value: 2.5 },
    { type: "bool", value: 1 },
    { type: "string", value: "constructor" },
    { type: "strings", value: [] },
    { type: "i32s", value: [1, 2] },
  ];
  const value = random.pick(values);
  if (random.integer(0, 5) === 0) file.metadata.delete(key);
  else file.metadata.set(key, value);
  return `${key} → ${file.metadata.has(key) ? `${value.type} ${value.value}` : "missing"}`;
}

/** What is opened differs from the sound model in settings at most that its tensors do not show. */
async function check(path: string, sound: ModelConfig, where: string): Promise<void> {
  try {
    using checkpoint = await openCheckpoint(path);
    for (const field of IN_SHAPES) {
      const [found, right] = [checkpoint.config, sound].map((config) =>
        (config as unknown as Json)[field]
      );
      assert(found === right, `${where}: opened with ${field} ${found}, not ${right}`);
    }
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw new Error(where, { cause: error });
    assert(error.message.includes(path), `${where}: ${error.message}`);
    assert(error.message.length < MESSAGE_LENGTH_MAX, `${where}: ${error.message}`);
  }
}

Deno.test("A checkpoint with one thing changed is the model it was in shape, or refused by its file", async () => {
  const seed = randomSeed();
  const random = new Random(seed);
  const dir = await Deno.makeTempDir();
  try {
    for (const name of GOLDEN_MODEL_NAMES) {
      const golden = goldenModel(name);
      const folder = `${dir}/${name}`;
      writeTinyModel(folder, golden);
      const config = `${folder}/config.json`;
      const sound = soundConfig(await openCheckpoint(folder));
      for (let round = 0; round < ROUNDS; round++) {
        const json = structuredClone(tinyConfig(golden, random.pick(["v4", "v5"])));
        const what = damageConfig(json, random);
        await Deno.writeTextFile(config, JSON.stringify(json));
        await check(folder, sound, `seed ${seed}, ${name}, ${what}`);
      }
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("A GGUF file with one thing changed is the model it was in shape, or refused by its name", async () => {
  const seed = randomSeed();
  const random = new Random(seed);
  const path = await Deno.makeTempFile({ suffix: ".gguf" });
  try {
    for (const name of ["llama", "exaone4-hybrid", "gemma3", "qwen3_moe", "gpt_oss"] as const) {
      const golden = goldenModel(name);
      await Deno.writeFile(path, tinyGgufBytes(golden));
      const sound = soundConfig(await openCheckpoint(path));
      for (let round = 0; round < ROUNDS; round++) {
        let what = "";
        await Deno.writeFile(
          path,
          tinyGgufBytes(golden, (file) => {
            what = damageGguf(file, random);
          }),
        );
        await check(path, sound, `seed ${seed}, ${name}, ${what}`);
      }
    }
  } finally {
    await Deno.remove(path);
  }
});

function soundConfig(checkpoint: Disposable & { readonly config: ModelConfig }): ModelConfig {
  using open = checkpoint;
  return open.config;
}
