/** Pooling from end to end: real checkpoints on the device, against values computed elsewhere. */

import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import {
  CheckpointError,
  ClosedError,
  ContextLengthError,
  type EmbeddingRequestOutput,
  InvalidParameterError,
  LLM,
  type LLMOptions,
  PoolingParams,
  UnsupportedTaskError,
} from "../mod.ts";
import { dot } from "../lib/pooling/pooler.ts";
import {
  type GoldenEncoder,
  goldenEncoder,
  type GoldenModel,
  goldenModel,
  goldenPrompt,
} from "./helpers/golden_models.ts";
import { withModel as withLoaded } from "./helpers/loaded_model.ts";
import { minilmTest } from "./helpers/minilm.ts";
import { minilmGolden } from "./helpers/minilm_golden.ts";
import { safetensorsBytes } from "./helpers/safetensors_writer.ts";
import { type TinyModel, tinyTensors, tinyValues, writeTinyModel } from "./helpers/tiny_model.ts";

/** A qwen3 case with other settings in its config. */
function qwen3(config: Record<string, unknown> = {}, architecture?: string): GoldenModel {
  const golden = goldenModel("qwen3");
  return {
    ...golden,
    architectures: architecture === undefined ? golden.architectures : [architecture],
    config: { ...golden.config, ...config },
  };
}

/** Loads a tiny model; `change` may touch its folder first. */
async function withModel(
  golden: TinyModel,
  fn: (llm: LLM) => Promise<void>,
  { change, ...options }: LLMOptions & { change?: (dir: string) => void } = {},
): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(dir, golden);
    change?.(dir);
    await using llm = await LLM.load(dir, { threads: 1, kvCacheDtype: "float32", ...options });
    await fn(llm);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function writeJson(path: string, value: unknown): void {
  Deno.mkdirSync(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  Deno.writeTextFileSync(path, JSON.stringify(value));
}

/** Files that make a decoder one for embeddings. */
function writeModules(
  dir: string,
  pooling: Record<string, unknown> = { pooling_mode_lasttoken: true },
  last: "Normalize" | "Dense" = "Normalize",
): void {
  const type = (name: string) => `sentence_transformers.models.${name}`;
  writeJson(`${dir}/modules.json`, [
    { idx: 0, name: "0", path: "", type: type("Transformer") },
    { idx: 1, name: "1", path: "1_Pooling", type: type("Pooling") },
    { idx: 2, name: "2", path: `2_${last}`, type: type(last) },
  ]);
  writeJson(`${dir}/1_Pooling/config.json`, pooling);
  writeJson(`${dir}/config_sentence_transformers.json`, { prompts: { query: "Find: " } });
}

const PROMPT = { promptTokenIds: goldenPrompt(goldenModel("qwen3")) };

async function scoreOf(llm: LLM, params?: PoolingParams): Promise<number> {
  const { outputs } = await llm.encode(PROMPT, params, { task: "score" });
  return (outputs.data as Float32Array)[0] as number;
}

minilmTest("MiniLM's embeddings and similarities are sentence-transformers' own", async (path) => {
  const { sentences, similarity } = minilmGolden();
  await using llm = await LLM.load(path);
  assertEquals(llm.info.task, "embed");
  assertEquals(llm.info.poolingTasks, ["embed", "token_embed"]);
  assertEquals([llm.info.embeddingSize, llm.info.maxPromptLength], [384, 256]);
  const texts = sentences.map(({ text }) => text);
  const outputs = await llm.embed(texts);
  const raw = await llm.embed(texts, new PoolingParams({ normalize: false }));
  for (const [i, { ids, unit8, mean8 }] of sentences.entries()) {
    assertEquals(outputs[i]!.promptTokenIds, ids);
    const near = (vector: Float32Array, expected: readonly number[]) =>
      expected.forEach((value, j) => assertAlmostEquals(vector[j]!, value, 1e-4, texts[i]));
    near(outputs[i]!.outputs.embedding, unit8);
    near(raw[i]!.outputs.embedding, mean8);
  }
  const scores = await llm.score(texts[0]!, texts);
  for (const [i, row] of similarity.entries()) {
    for (const [j, cosine] of row.entries()) {
      const product = dot(outputs[i]!.outputs.embedding, outputs[j]!.outputs.embedding);
      assertAlmostEquals(product, cosine, 1e-4);
    }
    assertAlmostEquals(scores[i]!.outputs.score, similarity[0]![i]!, 1e-4);
  }
  const [best] = await llm.rerank(texts[4]!, texts.filter((_, i) => i !== 4), { topN: 1 });
  assertEquals(best?.document, texts[5]); // the password, and the login that was forgotten
});

minilmTest("MiniLM gives the same bits alone and in any crowd", async (path) => {
  const { sentences } = minilmGolden();
  const texts = sentences.map(({ text }) => text);
  await using llm = await LLM.load(path, { threads: 2 });
  const crowd = await llm.embed([...texts, ...texts.toReversed(), ...Array(40).fill("crowd")]);
  for (const [i, text] of texts.entries()) {
    const alone = await llm.embed(text);
    assertEquals(alone.outputs, crowd[i]!.outputs, text);
    assertEquals(alone.outputs, crowd[2 * texts.length - 1 - i]!.outputs, text);
  }
});

minilmTest("MiniLM refuses what it cannot do, and takes long texts cut", async (path) => {
  await using llm = await LLM.load(path);
  const long = "tide mill ".repeat(300);
  await assertRejects(() => llm.embed(long), ContextLengthError, "at most 256");
  const cut = await llm.embed(long, new PoolingParams({ truncatePromptTokens: -1 }));
  assertEquals(cut.promptTokenIds.length, 256);
  await assertRejects(
    () => llm.embed("x", new PoolingParams({ dimensions: 64 })),
    InvalidParameterError,
    "does not support Matryoshka embeddings",
  );
  await assertRejects(() => llm.generate("x"), UnsupportedTaskError, "it was loaded for embed");
  await assertRejects(() => llm.classify("x"), UnsupportedTaskError, "Cannot classify");
  await assertRejects(
    () => LLM.load(path, { task: "generate" }),
    UnsupportedTaskError,
    "no head that gives tokens",
  );
});

Deno.test("A reranker scores by its answers' rows of the vocabulary", async () => {
  // Ids 4 and 5 of the tiny vocabulary are spelt "Ġ" and "!": yes and no of the golden value.
  const answers = { classifier_from_token: ["!", "Ġ"] };
  await withModel(qwen3(answers), async (llm) => {
    assertEquals(llm.info.task, "score");
    assertAlmostEquals(await scoreOf(llm), 0.92747, 1e-5);
    const raw = new PoolingParams({ useActivation: false });
    assertAlmostEquals(await scoreOf(llm, raw), 2.27318 + 0.275241, 2e-5);
  });
});

Deno.test("A reranker that is called a classifier but is the original scores by its answers", async () => {
  const settings = { is_original_qwen3_reranker: true, classifier_from_token: ["!", "Ġ"] };
  await withModel(qwen3(settings, "Qwen3ForSequenceClassification"), async (llm) => {
    assertEquals(llm.info.task, "score");
    assertAlmostEquals(await scoreOf(llm), 0.92747, 1e-5);
  });
});

Deno.test("A reranker that was converted scores the same by its own head", async () => {
  const model = qwen3({ num_labels: 1 }, "Qwen3ForSequenceClassification");
  const width = model.config["hidden_size"] as number;
  const change = (dir: string) => {
    const embedding = tinyValues("model.embed_tokens.weight", 6 * width);
    const difference = Float32Array.from(
      { length: width },
      (_, i) => embedding[4 * width + i]! - embedding[5 * width + i]!,
    );
    const parts = tinyTensors(model).map(({ name, shape, values }) => ({
      name,
      dtype: "F32",
      shape,
      bytes: new Uint8Array((name === "score.weight" ? difference : values).slice().buffer),
    }));
    Deno.writeFileSync(`${dir}/model.safetensors`, safetensorsBytes(parts));
  };
  await withModel(model, async (llm) => {
    assertEquals(llm.info.task, "score");
    assertAlmostEquals(await scoreOf(llm), 0.92747, 1e-5);
    const { outputs } = await llm.classify(PROMPT);
    assertAlmostEquals(outputs.probs[0]!, 0.92747, 1e-5);
    const tokens = await llm.encode(PROMPT, undefined, { task: "token_classify" });
    const rows = tokens.outputs.data as Float32Array[];
    assertEquals(rows.length, PROMPT.promptTokenIds.length);
    assertEquals(rows.at(-1), outputs.probs);
    await assertRejects(() => llm.embed("x"), UnsupportedTaskError, "the model is for score");
  }, { change });
});

/** Scores of a cross-encoder against its head, put on the first hidden state by hand. */
async function checkCrossEncoder(
  golden: GoldenEncoder,
  architecture: string,
  layers: readonly [dense: string, output: string],
): Promise<void> {
  const hasSegments = golden.config["type_vocab_size"] !== 1;
  const model = {
    ...golden,
    architectures: [architecture],
    config: { ...golden.config, num_labels: 1 },
  };
  const change = (dir: string) => {
    const token = (id: string, type_id: number) => ({ SpecialToken: { id, type_id } });
    const text = (id: string, type_id: number) => ({ Sequence: { id, type_id } });
    const post_processor = {
      type: "TemplateProcessing",
      single: [text("A", 0)],
      pair: [token("<|im_start|>", 0), text("A", 0), token("<|im_end|>", 0), text("B", 1)],
      special_tokens: {
        "<|im_start|>": { id: "<|im_start|>", ids: [1], tokens: ["<|im_start|>"] },
        "<|im_end|>": { id: "<|im_end|>", ids: [2], tokens: ["<|im_end|>"] },
      },
    };
    const path = `${dir}/tokenizer.json`;
    writeJson(path, { ...JSON.parse(Deno.readTextFileSync(path)), post_processor });
  };
  const weights = new Map(tinyTensors(model).map(({ name, values }) => [name, values]));
  const layer = (name: string, x: Float32Array) =>
    Array.from(weights.get(`${name}.bias`)!, (bias, row) => {
      const weight = weights.get(`${name}.weight`)!.subarray(row * x.length, (row + 1) * x.length);
      return bias + dot(weight, x);
    });
  let expected = 0;
  let promptTokenIds: readonly number[] = [];
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(dir, model);
    change(dir);
    await withLoaded(dir, { threads: 1 }, async ({ engine, tokenizer }) => {
      const encode = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
      const [a, b] = [encode("the cat"), encode("a dog")];
      promptTokenIds = [1, ...a, 2, ...b];
      const tokenTypeIds = promptTokenIds.map((_, i) => i < a.length + 2 ? 0 : 1);
      const { rows } = await engine.submitPooling({
        id: "pair",
        promptTokenIds,
        ...(hasSegments && { tokenTypeIds }),
        rows: "first",
      });
      const pooled = Float32Array.from(layer(layers[0], rows[0]!), Math.tanh);
      expected = layer(layers[1], pooled)[0]!;
    });
    await using llm = await LLM.load(dir, { threads: 1 });
    assertEquals(llm.info.poolingTasks, ["score", "classify"]);
    const [scored] = await llm.score("the cat", ["a dog", "the sea"]);
    assertEquals(scored?.promptTokenIds, promptTokenIds);
    assertAlmostEquals(scored!.outputs.score, 1 / (1 + Math.exp(-expected)), 1e-6);
    const [raw] = await llm.score("the cat", "a dog", new PoolingParams({ useActivation: false }));
    assertAlmostEquals(raw!.outputs.score, expected, 1e-5);
    await assertRejects(() => llm.embed("x"), UnsupportedTaskError, "for score, classify");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("A cross-encoder scores by the first token of both texts, read as segments", async () => {
  const head = ["pooler.dense", "classifier"] as const;
  await checkCrossEncoder(goldenEncoder(), "BertForSequenceClassification", head);
});

Deno.test("A cross-encoder of the RoBERTa families has a head of its own, and no segments", async () => {
  const head = ["classifier.dense", "classifier.out_proj"] as const;
  const golden = goldenEncoder("roberta");
  await checkCrossEncoder(golden, "RobertaForSequenceClassification", head);
  const xlm = { ...golden, model_type: "xlm-roberta" };
  await checkCrossEncoder(xlm, "XLMRobertaForSequenceClassification", head);
});

Deno.test("A classifying decoder of any family scores by the last token of both texts, put together", async () => {
  for (
    const [name, architecture] of [
      ["llama", "LlamaForSequenceClassification"],
      ["gemma3", "Gemma3TextForSequenceClassification"],
    ] as const
  ) {
    const golden = goldenModel(name);
    const model = {
      ...golden,
      architectures: [architecture],
      config: { ...golden.config, num_labels: 1 },
    };
    const weight = tinyTensors(model).find((tensor) => tensor.name === "score.weight")!.values;
    await withModel(model, async (llm) => {
      assertEquals([llm.info.architecture, llm.info.task], [architecture, "score"]);
      const [scored] = await llm.score("the cat", "a dog");
      const { promptTokenIds } = scored!;
      const { outputs } = await llm.classify("the cata dog");
      assertEquals([...outputs.probs], [scored!.outputs.score]);
      const data = await hiddenStates(golden, promptTokenIds);
      const expected = 1 / (1 + Math.exp(-dot(data.at(-1)!, weight)));
      assertAlmostEquals(scored!.outputs.score, expected, 1e-5);
      const raw = new PoolingParams({ truncatePromptTokens: promptTokenIds.length - 1 });
      const [cut] = await llm.score("the cat", "a dog", raw);
      assertEquals(cut!.promptTokenIds, promptTokenIds.slice(0, -1));
    });
  }
});

/** The hidden states of a model that generates, by a load of their own. */
async function hiddenStates(
  golden: TinyModel,
  promptTokenIds: readonly number[],
): Promise<Float32Array[]> {
  let rows: Float32Array[] = [];
  await withModel(golden, async (llm) => {
    const raw = new PoolingParams({ normalize: false });
    const prompt = { promptTokenIds: [...promptTokenIds] };
    const { outputs } = await llm.encode(prompt, raw, { task: "token_embed" });
    rows = outputs.data as Float32Array[];
  }, { task: "embed" });
  return rows;
}

Deno.test("An encoder without further files embeds by its first token", async () => {
  const golden = goldenEncoder();
  await withModel(golden, async (llm) => {
    const prompt = { promptTokenIds: golden.expect.ids };
    const raw = new PoolingParams({ normalize: false });
    const { outputs } = await llm.encode(prompt, raw, { task: "token_embed" });
    const first = (outputs.data as Float32Array[])[0]!;
    assertEquals((await llm.embed(prompt, raw)).outputs.embedding, first);
  });
});

Deno.test("Several poolings are put together, and pass through a dense layer", async () => {
  const golden = goldenEncoder();
  const prompt = { promptTokenIds: golden.expect.ids };
  const raw = new PoolingParams({ normalize: false });
  const width = golden.config.hidden_size;
  const pooling = { pooling_mode_cls_token: true, pooling_mode_mean_tokens: true };
  let both = new Float32Array();
  await withModel(golden, async (llm) => {
    const { outputs } = await llm.encode(prompt, raw, { task: "token_embed" });
    const rows = outputs.data as Float32Array[];
    const mean = rows[0]!.map((_, i) => rows.reduce((sum, row) => sum + row[i]!, 0) / rows.length);
    both = Float32Array.of(...rows[0]!, ...mean);
  });
  await withModel(golden, async (llm) => {
    assertEquals(llm.info.embeddingSize, 2 * width);
    assertEquals(llm.info.poolingTasks, ["embed"]); // what would that be for a token?
    const { outputs } = await llm.embed(prompt, raw);
    outputs.embedding.forEach((value, i) => assertAlmostEquals(value, both[i]!, 1e-6));
  }, { change: (dir) => writeModules(dir, pooling) });
  const weight = tinyValues("linear.weight", 3 * 2 * width);
  await withModel(golden, async (llm) => {
    assertEquals(llm.info.embeddingSize, 3);
    const { outputs } = await llm.embed(prompt, raw);
    for (const row of [0, 1, 2]) {
      const sum = dot(weight.subarray(row * 2 * width, (row + 1) * 2 * width), both);
      assertAlmostEquals(outputs.embedding[row]!, Math.tanh(sum), 1e-5);
    }
  }, {
    change(dir) {
      writeModules(dir, pooling, "Dense");
      writeJson(`${dir}/2_Dense/config.json`, {
        in_features: 2 * width,
        out_features: 3,
        bias: false,
        activation_function: "torch.nn.modules.activation.Tanh",
      });
      const bytes = new Uint8Array(weight.slice().buffer);
      const part = { name: "linear.weight", dtype: "F32", shape: [3, 2 * width], bytes };
      Deno.writeFileSync(`${dir}/2_Dense/model.safetensors`, safetensorsBytes([part]));
    },
  });
  await assertRejects(
    () =>
      withModel(golden, () => Promise.resolve(), {
        change(dir) {
          writeModules(dir, { pooling_mode_mean_tokens: true }, "Dense");
          const config = { in_features: 2, out_features: 1, bias: false };
          writeJson(`${dir}/2_Dense/config.json`, config);
          const part = {
            name: "linear.weight",
            dtype: "F32",
            shape: [1, 2],
            bytes: new Uint8Array(8),
          };
          Deno.writeFileSync(`${dir}/2_Dense/model.safetensors`, safetensorsBytes([part]));
        },
      }),
    CheckpointError,
    `takes 2 numbers and gets ${width}`,
  );
});

Deno.test("A classifier names the most likely of its labels", async () => {
  const golden = goldenEncoder();
  const model = {
    ...golden,
    architectures: ["BertForSequenceClassification"],
    config: { ...golden.config, id2label: { "0": "bad", "1": "fair", "2": "good" } },
  };
  await withModel(model, async (llm) => {
    assertEquals(llm.info.task, "classify");
    const outputs = await llm.classify(["the cat", { promptTokenIds: golden.expect.ids }]);
    for (const { outputs: { probs, numClasses, label } } of outputs) {
      assertEquals(numClasses, 3);
      assertAlmostEquals(probs[0]! + probs[1]! + probs[2]!, 1, 1e-6);
      assertEquals(label, ["bad", "fair", "good"][probs.indexOf(Math.max(...probs))]!);
    }
    await assertRejects(() => llm.score("a", "b"), UnsupportedTaskError, "for classify");
  });
  await assertRejects(
    () => withModel(model, () => Promise.resolve(), { task: "score" }),
    UnsupportedTaskError,
    "one label, and it has 3",
  );
});

Deno.test("A generative model embeds when it is asked to, by its last token", async () => {
  await withModel(qwen3(), async (llm) => {
    assertEquals([llm.info.task, llm.info.embeddingSize], ["generate", null]);
    await assertRejects(() => llm.embed("x"), UnsupportedTaskError, 'the option task "embed"');
    await assertRejects(() => llm.score("x", "y"), UnsupportedTaskError, 'the option task "score"');
    await llm.generate("x");
  });
  await withModel(qwen3(), async (llm) => {
    const whole = await llm.embed(PROMPT);
    const { outputs } = await llm.encode(PROMPT, undefined, { task: "token_embed" });
    const tokens = outputs.data as Float32Array[];
    assertEquals(tokens.length, PROMPT.promptTokenIds.length);
    assertEquals(tokens.at(-1), whole.outputs.embedding);
    await assertRejects(() => llm.generate("x"), UnsupportedTaskError, "it was loaded for embed");
    const cut = new PoolingParams({ dimensions: 8 });
    await assertRejects(() => llm.embed("x", cut), InvalidParameterError, "does not support");
  }, { task: "embed" });
  await assertRejects(
    () => withModel(qwen3(), () => Promise.resolve(), { task: "score" }),
    UnsupportedTaskError,
    'no token "no"',
  );
  await assertRejects(
    () => withModel(qwen3(), () => Promise.resolve(), { task: "classify" }),
    UnsupportedTaskError,
    "has no classifier",
  );
});

Deno.test("Qwen3-Embedding ends each text with its pad token, and may be cut to 32 numbers", async () => {
  const change = (dir: string) => {
    writeModules(dir);
    const path = `${dir}/tokenizer_config.json`;
    const config = JSON.parse(Deno.readTextFileSync(path));
    writeJson(path, { ...config, pad_token: "<|endoftext|>" });
  };
  await withModel(qwen3(), async (llm) => {
    const bare = llm.tokenize("the cat");
    const { promptTokenIds, outputs } = await llm.embed("the cat");
    assertEquals(promptTokenIds, [...bare, 0]);
    const named = await llm.embed("the cat", undefined, { promptName: "query" });
    assertEquals(named.promptTokenIds, [...llm.tokenize("Find: the cat"), 0]);
    const size = llm.info.embeddingSize as number;
    assert(size >= 32);
    const short = await llm.embed("the cat", new PoolingParams({ dimensions: 32 }));
    const length = Math.sqrt(dot(outputs.embedding.slice(0, 32), outputs.embedding.slice(0, 32)));
    short.outputs.embedding.forEach((value, i) =>
      assertAlmostEquals(value, outputs.embedding[i]! / length, 1e-6)
    );
    for (const dimensions of [31, size + 1]) {
      await assertRejects(
        () => llm.embed("the cat", new PoolingParams({ dimensions })),
        InvalidParameterError,
        `in range [32, ${size}]`,
      );
    }
  }, { change });
});

Deno.test("A decoder's embeddings are the same bits alone, in a crowd, in chunks and from the cache", async () => {
  const seed = Date.now() >>> 0;
  let state = seed;
  const below = (count: number) => (state = Math.imul(state, 1664525) + 1013904223 >>> 0) % count;
  const vocabSize = goldenModel("qwen3").config.vocab_size;
  const prompts = Array.from({ length: 24 }, (_, i) => ({
    promptTokenIds: i % 4 === 3
      ? PROMPT.promptTokenIds // its blocks are cached
      : Array.from({ length: 1 + below(60) }, () => below(vocabSize)),
  }));
  const embeddings = (outputs: EmbeddingRequestOutput[]) => outputs.map(({ outputs }) => outputs);
  let alone: EmbeddingRequestOutput["outputs"][] = [];
  await withModel(qwen3(), async (llm) => {
    const outputs: EmbeddingRequestOutput[] = [];
    for (const prompt of prompts) outputs.push(await llm.embed(prompt));
    alone = embeddings(outputs);
  }, { task: "embed", enablePrefixCaching: false });
  const settings: LLMOptions[] = [{}, { maxTokensPerStep: 24 }, { maxBatchSize: 3, threads: 2 }];
  for (const options of settings) {
    await withModel(qwen3(), async (llm) => {
      assertEquals(embeddings(await llm.embed(prompts)), alone, `seed ${seed}`);
      assertEquals(embeddings(await llm.embed(prompts)), alone, `seed ${seed}, again`);
    }, { task: "embed", ...options });
  }
});

Deno.test("Ending a call, or the model, leaves nothing in the engine", async () => {
  await withModel(qwen3(), async (llm) => {
    const prompts = Array(40).fill(PROMPT);
    const controller = new AbortController();
    const pending = llm.embed(prompts, undefined, { signal: controller.signal });
    setTimeout(() => controller.abort(new TypeError("enough")), 1);
    await assertRejects(() => pending, TypeError, "enough");
    const wrong = [...prompts, { promptTokenIds: [99_999] }];
    await assertRejects(() => llm.embed(wrong), InvalidParameterError, "99999");
    await llm.embed(PROMPT);
    const { runningCount, waitingCount, usedBlockCount } = llm.stats().engine;
    assertEquals([runningCount, waitingCount, usedBlockCount], [0, 0, 0]);
    const last = llm.embed(prompts);
    const closing = llm.close();
    await assertRejects(() => last, ClosedError);
    await closing;
    await assertRejects(() => llm.embed("x"), ClosedError);
  }, { task: "embed" });
});

Deno.test("Modules that cannot be computed fail the load by name, unless the model generates", async () => {
  const change = (dir: string) =>
    writeJson(`${dir}/modules.json`, [{ path: "", type: "x.Transformer" }, {
      path: "1_LSTM",
      type: "x.LSTM",
    }]);
  await assertRejects(
    () => withModel(qwen3(), () => Promise.resolve(), { change }),
    CheckpointError,
    'a module of type "LSTM"',
  );
  await withModel(qwen3(), async (llm) => {
    await llm.generate("x");
  }, { change, task: "generate" });
});
