/** The tiny golden encoders through loading, device and engine: hidden states of the reference. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { CheckpointError, ContextLengthError } from "../../lib/base/errors.ts";
import type { Engine } from "../../lib/engine/engine.ts";
import { readModelConfig } from "../../lib/models/config.ts";
import { expectedTensors } from "../../lib/models/expected_tensors.ts";
import { openCheckpoint } from "../../lib/models/checkpoint.ts";
import type { LLMOptions } from "../../mod.ts";
import { goldenEncoder } from "../helpers/golden_models.ts";
import { withModel } from "../helpers/loaded_model.ts";
import {
  tinyConfig,
  type TinyModelOptions,
  type TinyTensor,
  tinyTensors,
  writeTinyModel,
} from "../helpers/tiny_model.ts";

const golden = goldenEncoder();

async function inFolder(
  options: TinyModelOptions,
  use: (dir: string) => Promise<void>,
  model = golden as Parameters<typeof writeTinyModel>[1],
): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(dir, model, options);
    await use(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function assertStarts(row: Float32Array | undefined, expected: readonly number[]): void {
  assertEquals(row?.length, 32);
  for (const [i, number] of expected.entries()) {
    const tolerance = Math.max(2e-5, 1e-5 * Math.abs(number));
    const actual = row?.[i] ?? NaN;
    assert(Math.abs(actual - number) <= tolerance, `number ${i}: ${actual}, not ${number}`);
  }
}

async function checkStates(engine: Engine, { expect, config } = golden): Promise<void> {
  const length = expect.mask.filter((mask) => mask === 1).length;
  const prompt = {
    promptTokenIds: expect.ids.slice(0, length),
    // Of a single type there is nothing to say.
    ...(config["type_vocab_size"] !== 1 && { tokenTypeIds: expect.types.slice(0, length) }),
  };
  const ask = (rows: "first" | "last" | "mean" | "all") =>
    engine.submitPooling({ id: rows, ...prompt, rows });
  const [first, last, mean, all] = await Promise.all([
    ask("first"),
    ask("last"),
    ask("mean"),
    ask("all"),
  ]);
  assertStarts(first.rows[0], expect.cls8);
  assertStarts(last.rows[0], expect.last_real8);
  assertStarts(mean.rows[0], expect.mean8);
  assertEquals(all.rows.length, length);
  assertEquals([all.rows[0], all.rows[length - 1]], [first.rows[0], last.rows[0]]);
}

async function check(dir: string, options: LLMOptions = {}, model = golden): Promise<void> {
  await withModel(dir, options, async ({ engine, model: { isEncoder, isGenerative, device } }) => {
    assert(isEncoder && !isGenerative);
    await checkStates(engine, model);
    const kernels = (await device.trace()).map((entry) => entry.kernel);
    assert(kernels.every((name) => name.startsWith("simd.")), kernels.join(" "));
  });
}

for (const name of ["bert", "roberta"] as const) {
  const model = goldenEncoder(name);

  Deno.test(`The config of ${name} calls for as many tensors and parameters as were counted`, () => {
    const tensors = expectedTensors(readModelConfig("config.json", tinyConfig(model)));
    const sizes = tensors.map(({ shape }) => shape.reduce((product, size) => product * size, 1));
    assertEquals(tensors.length, model.expect.tensors);
    assertEquals(sizes.reduce((sum, size) => sum + size, 0), model.expect.params);
  });

  for (const dtype of ["F32", "F16", "BF16"] as const) {
    Deno.test(`Golden model ${name} as ${dtype} gives the reference's hidden states`, async () => {
      await inFolder({ dtype }, (dir) => check(dir, {}, model), model);
    });
  }

  Deno.test(`Repacked as float32, bfloat16 or float16 ${name} keeps its hidden states`, async () => {
    await inFolder({ dtype: "BF16", shards: 2 }, async (dir) => {
      for (const dtype of ["float32", "bfloat16", "float16"] as const) {
        await check(dir, { dtype }, model);
      }
    }, model);
  });

  Deno.test(`On the plain kernels ${name} gives the reference's hidden states`, async () => {
    const options = { kernels: "reference", threads: 0 } as const;
    await inFolder(
      {},
      (dir) => withModel(dir, options, ({ engine }) => checkStates(engine, model)),
      model,
    );
  });

  Deno.test(`The names of ${name} may have a prefix and old spellings, and other heads beside it`, async () => {
    const extra: TinyTensor[] = ["pooler.dense.bias", "embeddings.position_ids", "cls.bias"].map(
      (name) => ({ name, shape: [1], values: Float32Array.of(0) }),
    );
    for (const prefix of ["bert", "roberta", "model"]) {
      const rename = (name: string) =>
        `${prefix}.${name}`
          .replace(/LayerNorm\.weight$/, "LayerNorm.gamma")
          .replace(/LayerNorm\.bias$/, "LayerNorm.beta");
      await inFolder({ rename, extra }, (dir) => check(dir, {}, model), model);
    }
  });
}

Deno.test("XLM-RoBERTa is RoBERTa under another name", async () => {
  const roberta = goldenEncoder("roberta");
  const model = { ...roberta, architectures: ["XLMRobertaModel"], model_type: "xlm-roberta" };
  await inFolder({}, (dir) => check(dir, {}, model), model);
});

Deno.test("RoBERTa's positions begin behind the pad token, which shortens its prompts", async () => {
  const roberta = goldenEncoder("roberta");
  const limits: readonly (readonly [Record<string, unknown>, number])[] = [
    [{}, 38],
    [{ pad_token_id: 4 }, 35],
    [{ pad_token_id: undefined }, 38],
  ];
  for (const [change, limit] of limits) {
    const json = { ...tinyConfig(roberta), ...change };
    assertEquals(readModelConfig("config.json", json).contextLength, limit);
  }
  assertEquals(readModelConfig("config.json", tinyConfig(golden)).contextLength, 40);
  const none = { ...tinyConfig(roberta), pad_token_id: 39 };
  assertThrows(
    () => readModelConfig("config.json", none),
    CheckpointError,
    "pad_token_id + 1 = 40",
  );
  await inFolder({}, async (dir) => {
    await withModel(dir, {}, async ({ engine, model }) => {
      assertEquals(model.maxPromptLength, 38);
      const promptTokenIds = Array.from({ length: 38 }, (_, i) => i);
      const { rows } = await engine.submitPooling({ id: "a", promptTokenIds, rows: "last" });
      assert(rows[0]?.every(Number.isFinite));
      await assertRejects(
        async () =>
          await engine.submitPooling({
            id: "b",
            promptTokenIds: [...promptTokenIds, 5],
            rows: "last",
          }),
        ContextLengthError,
        "at most 38",
      );
    });
  }, roberta);
});

Deno.test("A tensor inside an encoder that its config has no use for is refused", async () => {
  const name = "encoder.layer.0.attention.self.distance_embedding.weight";
  const extra: TinyTensor[] = [{ name, shape: [1], values: Float32Array.of(0) }];
  await inFolder({ extra }, async (dir) => {
    await assertRejects(() => openCheckpoint(dir), CheckpointError, `Cannot use tensor "${name}"`);
  });
});

Deno.test("An encoder's settings that cannot be run are refused by name", () => {
  const refused: readonly (readonly [Record<string, unknown>, string])[] = [
    [
      { position_embedding_type: "relative_key" },
      'position_embedding_type "relative_key" of "config.json": it must be "absolute"',
    ],
    [{ hidden_act: "relu" }, 'hidden_act "relu" of "config.json": it must be "gelu"'],
    [{ is_decoder: true }, "is_decoder true"],
    [{ num_attention_heads: 5 }, "it makes heads of hidden_size 32 / 5 = 6.4"],
    [{ type_vocab_size: 0 }, "type_vocab_size 0"],
    [{ layer_norm_eps: 0 }, "layer_norm_eps 0"],
    [{ quantization_config: {} }, 'the supported methods are "fp8"'],
  ];
  for (const [change, text] of refused) {
    const json = { ...tinyConfig(golden), ...change };
    const error = catchError(() => readModelConfig("config.json", json));
    assert(error instanceof CheckpointError && error.message.includes(text), error?.message);
  }
});

Deno.test("A step of an encoder takes its longest prompt, and a longer one is refused by its length", async () => {
  const ids = Array.from({ length: 40 }, (_, i) => i);
  const last = async (dir: string, options: LLMOptions, length: number) =>
    await withModel(dir, options, async ({ engine, model }) => {
      const promptTokenIds = ids.slice(0, length);
      const { rows } = await engine.submitPooling({ id: "a", promptTokenIds, rows: "last" });
      return { row: rows[0], limit: model.maxPromptLength };
    });
  await inFolder({}, async (dir) => {
    const { row, limit } = await last(dir, {}, 40);
    assertEquals(limit, 40);
    assertEquals((await last(dir, { maxTokensPerStep: 8, maxBatchSize: 3 }, 40)).row, row);
    const short: readonly LLMOptions[] = [
      { maxModelLength: 24 },
      { tokenwiseBuckets: [8, 24], maxBatchSize: 2 },
    ];
    for (const options of short) {
      assertEquals((await last(dir, options, 24)).limit, 24);
      await assertRejects(
        () => last(dir, options, 25),
        ContextLengthError,
        "Cannot run a prompt of 25 tokens as the model takes at most 24",
      );
    }
  });
});

Deno.test("A classifying encoder brings its head to the host as float32", async () => {
  const heads = {
    BertForSequenceClassification: ["pooler.dense", "classifier"],
    RobertaForSequenceClassification: ["classifier.dense", "classifier.out_proj"],
    XLMRobertaForSequenceClassification: ["classifier.dense", "classifier.out_proj"],
  };
  for (const [architecture, layers] of Object.entries(heads)) {
    const prefix = architecture.startsWith("Bert") ? "bert" : "roberta";
    const encoder = goldenEncoder(prefix);
    const model = {
      ...encoder,
      architectures: [architecture],
      config: { ...encoder.config, id2label: { "0": "bad", "1": "fair", "2": "good" } },
    };
    const tensors = tinyTensors(model).slice(-4);
    const names = layers.flatMap((layer) => [`${layer}.weight`, `${layer}.bias`]);
    assertEquals(tensors.map(({ name }) => name), names);
    const rename = (name: string) => name.startsWith("classifier.") ? name : `${prefix}.${name}`;
    await inFolder({ dtype: "BF16", rename }, async (dir) => {
      await withModel(dir, {}, async ({ engine, model }) => {
        for (const { name, values } of tensors) assertEquals(model.tensorF32(name), values);
        await checkStates(engine, encoder);
      });
    }, model);
  }
});

function catchError(run: () => unknown): Error | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    return error as Error;
  }
}
