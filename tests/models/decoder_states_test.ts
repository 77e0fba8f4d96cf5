/** Hidden states of the golden decoder Qwen 3: as generator, as bare backbone and as classifier. */

import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import type { Engine } from "../../lib/engine/engine.ts";
import type { PoolingRows } from "../../lib/engine/pooling_request.ts";
import { openCheckpoint } from "../../lib/models/checkpoint.ts";
import { SamplingParams } from "../../lib/sampling/params.ts";
import { resolveSamplingParams } from "../../lib/sampling/resolved_params.ts";
import type { LLMOptions } from "../../mod.ts";
import { goldenModel, goldenPrompt } from "../helpers/golden_models.ts";
import { withModel } from "../helpers/loaded_model.ts";
import {
  type TinyModel,
  type TinyModelOptions,
  type TinyTensor,
  tinyTensors,
  writeTinyModel,
} from "../helpers/tiny_model.ts";

const golden = goldenModel("qwen3");
const prompt = goldenPrompt(golden);
const width = golden.config["hidden_size"] as number;

const { values: embedding } = tinyTensors(golden)
  .find(({ name }) => name === "model.embed_tokens.weight") as TinyTensor;

/** Row `id` of the embedding, which is the head too. */
function embeddingRow(id: number): Float32Array {
  return embedding.subarray(id * width, (id + 1) * width);
}

const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);

async function inFolder<Result>(
  model: TinyModel,
  options: TinyModelOptions,
  use: (dir: string) => Promise<Result>,
): Promise<Result> {
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(dir, model, options);
    return await use(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function rowsOf(engine: Engine, rows: PoolingRows, ids = prompt): Promise<Float32Array[]> {
  const id = crypto.randomUUID();
  return [...(await engine.submitPooling({ id, promptTokenIds: ids, rows })).rows];
}

const FLOATS: LLMOptions = { kvCacheDtype: "float32" };

for (const dtype of ["F32", "F16", "BF16"] as const) {
  Deno.test(`Golden model qwen3 as ${dtype} gives the hidden states that its logits are made of, and makes no logits`, async () => {
    await inFolder(golden, { dtype }, (dir) =>
      withModel(dir, FLOATS, async ({ engine, model }) => {
        const logitCount = async () => {
          const trace = await model.device.trace();
          return trace.find(({ kernel }) => kernel.endsWith("summarizeRows"))?.count ?? 0;
        };
        assert(model.isGenerative && !model.isEncoder);
        const before = await logitCount();
        const all = await rowsOf(engine, "all");
        assertEquals(await rowsOf(engine, "last"), all.slice(-1));
        assertEquals(await rowsOf(engine, "first"), all.slice(0, 1));
        const logits = Array.from({ length: 101 }, (_, id) => dot(all.at(-1)!, embeddingRow(id)));
        for (const [id, logit] of golden.expect.last8.entries()) {
          assertAlmostEquals(logits[id]!, logit, Math.max(2e-5, 1e-5 * Math.abs(logit)));
        }
        for (const [position, id] of golden.expect.argmax.entries()) {
          const best = logits.keys().toArray().reduce((a, b) =>
            dot(all[position]!, embeddingRow(b)) > dot(all[position]!, embeddingRow(a)) ? b : a
          );
          assertEquals(best, id, `argmax at ${position}`);
        }
        assertEquals(await logitCount(), before);
      }));
  });
}

Deno.test("A bare Qwen 3 backbone, without a prefix or a head, gives the same hidden states", async () => {
  const ask = (dir: string) => withModel(dir, FLOATS, ({ engine }) => rowsOf(engine, "all"));
  const expected = await inFolder(golden, {}, ask);
  const bare = { ...golden, architectures: ["Qwen3Model"] };
  const rename = (name: string) => name.replace(/^model\./, "");
  assertEquals(await inFolder(bare, { rename }, ask), expected);
  const untied = { ...bare, config: { ...golden.config, tie_word_embeddings: false } };
  assertEquals(await inFolder(untied, {}, ask), expected, "an untied head is not asked for");
  // As Qwen3-Embedding 8B: the language model's class, untied, without its head.
  const asLanguageModel = (dir: string) => {
    const path = `${dir}/config.json`;
    const config = {
      ...JSON.parse(Deno.readTextFileSync(path)),
      architectures: ["Qwen3ForCausalLM"],
    };
    Deno.writeTextFileSync(path, JSON.stringify(config));
  };
  const states = await inFolder(untied, { rename }, async (dir) => {
    asLanguageModel(dir);
    return await withModel(dir, FLOATS, async ({ engine, model }) => {
      assert(!model.isGenerative);
      return await rowsOf(engine, "all");
    });
  });
  assertEquals(states, expected);
  await inFolder(untied, {}, async (dir) => {
    asLanguageModel(dir);
    await assertRejects(() => openCheckpoint(dir), CheckpointError, '"lm_head.weight"');
  });
});

Deno.test("The bias of a head is refused where that head is used", async () => {
  const bias = (name: string): TinyTensor => ({ name, shape: [1], values: Float32Array.of(1) });
  const refused = [
    [golden, "lm_head.bias"],
    [{ ...golden, architectures: ["Qwen3ForSequenceClassification"] }, "score.bias"],
  ] as const;
  for (const [model, name] of refused) {
    await inFolder(model, { extra: [bias(name)] }, async (dir) => {
      await assertRejects(
        () => openCheckpoint(dir),
        CheckpointError,
        `Cannot use tensor "${name}"`,
      );
    });
  }
  const bare = { ...golden, architectures: ["Qwen3Model"] };
  await inFolder(bare, { extra: [bias("lm_head.bias")] }, async (dir) => {
    (await openCheckpoint(dir))[Symbol.dispose]();
  });
});

Deno.test("A classifying Qwen 3 brings its score.weight to the host; the score is the two answers' softmax", async () => {
  const [yes, no] = [embeddingRow(4), embeddingRow(5)];
  const weight = yes.map((value, i) => value - no[i]!);
  const config = { ...golden.config, num_labels: 1 };
  const model = { ...golden, architectures: ["Qwen3ForSequenceClassification"], config };
  const [name] = tinyTensors(model).slice(-1).map((tensor) => tensor.name);
  assertEquals(name, "score.weight");
  const score = await inFolder(
    model,
    { values: { "score.weight": weight } },
    (dir) =>
      withModel(dir, FLOATS, async ({ engine, model }) => {
        assert(!model.isGenerative);
        assertEquals(model.tensorF32("score.weight"), weight);
        const [last] = await rowsOf(engine, "last");
        return 1 / (1 + Math.exp(-dot(last!, weight)));
      }),
  );
  assertAlmostEquals(score, 0.92747, 1e-5);
});

Deno.test("Hidden states have the same bits alone, beside requests for tokens, in chunks, from cached prefixes and on any number of threads", async () => {
  const prompts = [
    prompt,
    ...[40, 100, 17].map((n) => Array.from({ length: n }, (_, i) => i % 101)),
  ];
  const ask = (options: LLMOptions, inCrowd: boolean) =>
    inFolder(golden, { dtype: "BF16" }, (dir) =>
      withModel(dir, options, async ({ engine }) => {
        const params = resolveSamplingParams(
          new SamplingParams({ temperature: 0, maxTokens: 20, ignoreEos: true, promptLogprobs: 1 }),
        );
        const tokens = inCrowd
          ? prompts.map((promptTokenIds, i) =>
            Array.fromAsync(engine.submit({ id: `t${i}`, promptTokenIds, params }))
          )
          : [];
        const rows: Float32Array[][] = [];
        for (const kind of ["all", "mean", "last", "last", "first"] as const) {
          const asked = prompts.map((ids) => () => rowsOf(engine, kind, ids));
          if (inCrowd) rows.push(...await Promise.all(asked.map((it) => it())));
          else for (const it of asked) rows.push(await it());
        }
        await Promise.all(tokens);
        return rows;
      }));
  const alone = await ask({ threads: 1, enablePrefixCaching: false }, false);
  for (const threads of [0, 1, 3]) {
    assertEquals(await ask({ threads }, true), alone, `${threads} threads`);
  }
  const small = { maxTokensPerStep: 24, maxBatchSize: 3, maxModelLength: 128 };
  assertEquals(await ask({ threads: 1, ...small }, true), alone, "in chunks");
  const few = { ...small, kvCacheBytes: 10 * 16 * 2 * 2 * 2 * 2 * 16 };
  assertEquals(await ask({ threads: 2, ...few }, true), alone, "with few blocks");
});
