/** A plan is what loading makes of a model, and nothing heavy is read for it. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { FileSource } from "../lib/models/formats/byte_source.ts";
import { readGgufHeader } from "../lib/models/formats/gguf.ts";
import {
  DeviceMemoryError,
  inspectModel,
  LLM,
  type LLMOptions,
  type ModelPlan,
  type WeightPart,
} from "../mod.ts";
import { writeEmptyModel } from "./helpers/empty_model.ts";
import { GOLDEN_MODEL_NAMES, goldenEncoder, goldenModel } from "./helpers/golden_models.ts";
import { modelTest } from "./helpers/smollm2.ts";
import { type TinyModel, writeTinyModel } from "./helpers/tiny_model.ts";

async function inTempFolder(run: (dir: string) => Promise<void>): Promise<void> {
  const dir = Deno.makeTempDirSync();
  try {
    await run(dir);
  } finally {
    Deno.removeSync(dir, { recursive: true });
  }
}

/** Inspects a model, counts the bytes that are read of weights files, and lets no thread start. */
async function watched(model: string, options: LLMOptions = {}): Promise<[ModelPlan, number]> {
  const { readAt } = FileSource.prototype;
  const { Worker } = globalThis;
  let bytesRead = 0;
  FileSource.prototype.readAt = function (position, target) {
    bytesRead += target.byteLength;
    readAt.call(this, position, target);
  };
  globalThis.Worker = class {
    constructor() {
      throw new Error("A thread was started");
    }
  } as unknown as typeof Worker;
  try {
    return [await inspectModel(model, options), bytesRead];
  } finally {
    FileSource.prototype.readAt = readAt;
    globalThis.Worker = Worker;
  }
}

function sum(parts: readonly WeightPart[], of: (part: WeightPart) => number): number {
  return parts.reduce((total, part) => total + of(part), 0);
}

function part(plan: ModelPlan, name: string): Omit<WeightPart, "part"> {
  const found = plan.parts.find((each) => each.part === name);
  assert(found !== undefined, name);
  const { part: _, ...rest } = found;
  return rest;
}

for (const golden of [...GOLDEN_MODEL_NAMES.map(goldenModel), goldenEncoder()]) {
  Deno.test(`The plan of ${golden.name} is what loading makes of it`, () =>
    inTempFolder(async (dir) => {
      writeTinyModel(dir, golden, { dtype: "BF16" });
      for (
        const options of [{}, { kvCacheBytes: 400_000, maxBatchSize: 3, dtype: "float32" }] as const
      ) {
        const [plan] = await watched(dir, options);
        await using llm = await LLM.load(dir, { ...options, threads: 1 });
        const { info } = llm;
        assertEquals(plan.architecture, info.architecture);
        assertEquals([plan.task, plan.poolingTasks], [info.task, info.poolingTasks]);
        assertEquals(plan.parameterCount, info.parameterCount);
        // Experts in MXFP4: the case counts packed bytes, the plan the numbers in them.
        const isPacked = golden.name === "gpt_oss";
        if (!isPacked) assertEquals(plan.parameterCount, golden.expect.params);
        assertEquals(plan.activeParameterCount, info.activeParameterCount);
        assertEquals(plan.kvCacheBytes, info.kvCacheBytes);
        assertEquals(plan.maxPromptLength, info.maxPromptLength);
        assertEquals(plan.maxContextLength, info.maxContextLength);
        assertEquals(plan.hasChatTemplate, info.hasChatTemplate);
        assertEquals(plan.buckets, info.buckets);
        assertEquals(plan.vocabSize, info.vocabSize);
        assertEquals(sum(plan.parts, (each) => each.parameterCount), info.parameterCount);
        const storedBytes = sum(plan.parts, (each) => each.storedBytes);
        if (isPacked) assert(storedBytes < 2 * info.parameterCount);
        else assertEquals(storedBytes, 2 * info.parameterCount);
        const deviceBytes = sum(plan.parts, (each) => each.deviceBytes);
        assert(deviceBytes > info.weightBytes, "there are vectors too");
        assertEquals(plan.neededBytes, deviceBytes + info.kvCacheBytes);
        assertEquals(
          plan.kvPools.reduce((all, pool) => all + pool.sizeBytes, 0),
          info.kvCacheBytes,
        );
        assertEquals([plan.fits, plan.problem], [true, null]);
      }
    }));
}

modelTest("The plan of SmolLM2 has the numbers that follow from its shape", async (path) => {
  const [plan, bytesRead] = await watched(path);
  const [layers, width, inner, vocabulary, kvWidth] = [30, 576, 1536, 49152, 3 * 64];
  const numbers = (name: string) => {
    const { parameterCount, storedBytes, deviceBytes } = part(plan, name);
    return [parameterCount, storedBytes, deviceBytes];
  };
  const embedding = vocabulary * width;
  assertEquals(numbers("embedding"), [embedding, embedding / 32 * 34, embedding / 32 * 34]);
  const attention = layers * (2 * width * width + 2 * kvWidth * width);
  assertEquals(numbers("attention"), [attention, attention / 32 * 20, attention / 32 * 20]);
  const mlp = layers * 3 * inner * width;
  assertEquals(numbers("mlp"), [mlp, mlp / 32 * 20, mlp / 32 * 20]);
  const norms = (2 * layers + 1) * width;
  assertEquals(numbers("norms"), [norms, 4 * norms, 4 * norms]);
  assertEquals(numbers("rope"), [0, 0, 4 * 8192 * 64]);
  assertEquals(plan.parts.length, 5);
  assertEquals(plan.parts.map(({ storedFormats }) => storedFormats.join()), [
    "q8_0",
    "q4_1",
    "q4_1",
    "f32",
    "",
  ]);
  {
    using source = new FileSource(path);
    const tensors = [...readGgufHeader(source).tensors.values()];
    const stored = tensors.reduce((total, { sizeBytes }) => total + sizeBytes, 0);
    assertEquals(sum(plan.parts, (each) => each.storedBytes), stored);
  }

  const [pool] = plan.kvPools;
  assertEquals(pool?.bytesPerToken, layers * 2 * kvWidth * 2);
  assertEquals(pool?.blockCount, Math.floor(2 ** 29 / (16 * layers * 2 * kvWidth * 2)));
  assertEquals(plan.sequences.at(-1), { length: 8192, count: 2 });
  assertEquals(plan.endTokens, [{ id: 2, text: "<|im_end|>" }, { id: 0, text: "<|endoftext|>" }]);
  assertEquals(plan.rope, [{ layers: "all", kind: "default", theta: 100000, rotaryDim: 64 }]);
  assertEquals(plan.tokenizer, { kind: "BPE", vocabSize: 49152 });
  assertEquals([plan.task, plan.hasChatTemplate, plan.hasTiedHead], ["generate", true, true]);
  assert(bytesRead < 3_000_000, `${bytesRead} bytes are more than a header and samples`);

  const [float32] = await watched(path, { dtype: "float32" });
  const { deviceBytes, deviceFormats, storedFormats } = part(float32, "mlp");
  assertEquals([deviceBytes, deviceFormats, storedFormats], [4 * mlp, ["f32"], ["q4_1"]]);
});

Deno.test("The plan of a hybrid model has a pool for each kind of layer", () =>
  inTempFolder(async (dir) => {
    const golden = goldenModel("exaone4-hybrid");
    writeTinyModel(dir, golden);
    const [plan] = await watched(dir, { kvCacheDtype: "float32" });
    const { config } = golden;
    const layerCount = config["num_hidden_layers"] as number;
    const types = config["layer_types"] as string[];
    const window = config["sliding_window"] as number;
    const layerBytes = 2 * plan.kvHeadCount * plan.headDim * 4;
    const slidingCount = types.filter((type) => type === "sliding_attention").length;
    const facts = plan.kvPools.map(({ pool, layerCount, window, bytesPerToken }) => {
      return { pool, layerCount, window, bytesPerToken };
    });
    const globalCount = layerCount - slidingCount;
    assertEquals(facts, [
      {
        pool: "global",
        layerCount: globalCount,
        window: null,
        bytesPerToken: globalCount * layerBytes,
      },
      {
        pool: "window",
        layerCount: slidingCount,
        window,
        bytesPerToken: slidingCount * layerBytes,
      },
    ]);
    assertEquals(plan.kvPools[1]?.blocksPerSequenceMax, Math.floor((window + 14) / 16) + 1);
    assertEquals(plan.rope.map(({ layers }) => layers), ["window"]);
    assert(plan.sequences.every(({ count }) => count >= plan.maxBatchSize), "memory is ample");
  }));

Deno.test("The plan of Gemma 3 has two kinds of rotation, one of BERT has none", () =>
  inTempFolder(async (dir) => {
    writeTinyModel(`${dir}/gemma`, goldenModel("gemma3"));
    const [gemma] = await watched(`${dir}/gemma`);
    assertEquals(gemma.rope.map(({ layers }) => layers), ["global", "window"]);
    writeTinyModel(`${dir}/bert`, goldenEncoder());
    const [bert] = await watched(`${dir}/bert`);
    assertEquals([bert.rope, bert.sequences, bert.hasTiedHead], [[], [], false]);
    assertEquals([bert.kvCacheDtype, bert.kvPools[0]?.layerCount], ["float32", 1]);
    assertEquals(bert.parts.map((each) => each.part), ["embedding", "attention", "mlp", "norms"]);
  }));

/** Llama 3.1 405B: 810 GB. */
const HUGE: TinyModel = {
  name: "huge",
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  config: {
    hidden_size: 16384,
    intermediate_size: 53248,
    num_hidden_layers: 126,
    num_attention_heads: 128,
    num_key_value_heads: 8,
    vocab_size: 128256,
    max_position_embeddings: 131072,
    rms_norm_eps: 1e-5,
    rope_theta: 500000,
    tie_word_embeddings: false,
  },
};

Deno.test("A model that is far too large has a plan, which says why it does not fit", () =>
  inTempFolder(async (dir) => {
    writeEmptyModel(dir, HUGE);
    const options = { threads: 0 };
    const [plan, bytesRead] = await watched(dir, options);
    assertEquals(plan.parameterCount, 405_853_388_800);
    assertEquals(sum(plan.parts, (each) => each.storedBytes), 811_706_777_600);
    assertEquals(part(plan, "head").parameterCount, 128256 * 16384);
    assertEquals(plan.kvPools[0]?.bytesPerToken, 126 * 2 * 8 * 128 * 2);
    assertEquals(plan.fits, false);
    assert(plan.neededBytes > plan.availableBytes);
    const error = await assertRejects(() => LLM.load(dir, options), DeviceMemoryError);
    assertEquals(plan.problem, error.message);
    // 1138 tensors: the header, and three kilobytes of each.
    assert(bytesRead < 5_000_000, `${bytesRead} bytes of ${plan.parts.length} parts`);
  }));

Deno.test("What loading refuses has no plan, and the error of loading", () =>
  inTempFolder(async (dir) => {
    const golden = goldenModel("llama");
    writeTinyModel(`${dir}/good`, golden);
    writeTinyModel(`${dir}/fancy`, golden);
    const config = JSON.parse(Deno.readTextFileSync(`${dir}/fancy/config.json`));
    config["architectures"] = ["FancyForCausalLM"];
    Deno.writeTextFileSync(`${dir}/fancy/config.json`, JSON.stringify(config));
    const cases: [string, LLMOptions, string, string][] = [
      ["fancy", {}, "CheckpointError", "the supported architectures are LlamaForCausalLM"],
      ["good", { maxModelLength: 1e6 }, "InvalidParameterError", "the model takes at most"],
      ["good", { kvCacheBytes: 10 }, "InvalidParameterError", "one block of 16 tokens takes"],
      ["good", { activationDtype: "int8" }, "InvalidParameterError", "no weight of this model"],
      ["good", { task: "classify" }, "UnsupportedTaskError", "has no classifier"],
      ["good", { chatTemplate: "{% if %}" }, "ChatTemplateError", "Cannot read the chat template"],
    ];
    for (const [model, options, name, message] of cases) {
      const path = `${dir}/${model}`;
      const error = await assertRejects(() => inspectModel(path, options), Error, message);
      const same = await assertRejects(() => LLM.load(path, { ...options, threads: 0 }), Error);
      assertEquals([error.name, error.message], [name, same.message]);
    }
  }));
