/** modules.json and its files, and what config.json says of labels: what is read and what is refused. */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import { ModelFolder } from "../../lib/models/model_folder.ts";
import { readPoolingConfig } from "../../lib/models/pooling_config.ts";
import { ggufPoolingFiles } from "../../lib/models/pooling_files.ts";
import {
  readSentenceTransformers,
  type SentenceTransformers,
} from "../../lib/models/sentence_transformers.ts";
import { safetensorsBytes } from "../helpers/safetensors_writer.ts";

type Files = Record<string, unknown>;

/** Of the model that the modules are behind. */
const HIDDEN_SIZE = 4;
const MODULE = "sentence_transformers.models.";
const modules = (...types: string[]) =>
  types.map((type, idx) => ({
    idx,
    name: `${idx}`,
    path: type === "Transformer" ? "" : `${idx}_${type}`,
    type: MODULE + type,
  }));
const MEAN = { word_embedding_dimension: 4, pooling_mode_mean_tokens: true };

async function inFolder(files: Files, fn: (dir: string) => void | Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    for (const [name, content] of Object.entries(files)) {
      const path = `${dir}/${name}`;
      await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
      const bytes = content instanceof Uint8Array
        ? content
        : new TextEncoder().encode(JSON.stringify(content));
      await Deno.writeFile(path, bytes);
    }
    await fn(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function read(files: Files): Promise<SentenceTransformers | undefined> {
  let found: SentenceTransformers | undefined;
  await inFolder(files, (dir) => {
    found = readSentenceTransformers(new ModelFolder(dir), HIDDEN_SIZE);
  });
  return found;
}

function floats(name: string, shape: readonly number[], values: readonly number[]) {
  return { name, dtype: "F32", shape, bytes: new Uint8Array(Float32Array.from(values).buffer) };
}

Deno.test("A folder without modules.json says nothing about embeddings", async () => {
  assertEquals(await read({ "sentence_bert_config.json": { max_seq_length: 8 } }), undefined);
});

Deno.test("The modules, their settings and the prompts are read", async () => {
  const weights = safetensorsBytes([
    floats("linear.weight", [2, 4], [1, 2, 3, 4, 5, 6, 7, 8]),
    floats("linear.bias", [2], [9, 10]),
  ]);
  const found = await read({
    "modules.json": modules("Transformer", "Pooling", "Dense", "Normalize"),
    "1_Pooling/config.json": MEAN,
    "2_Dense/config.json": {
      in_features: 4,
      out_features: 2,
      bias: true,
      activation_function: "torch.nn.modules.linear.Identity",
    },
    "2_Dense/model.safetensors": weights,
    "sentence_bert_config.json": { max_seq_length: 256, do_lower_case: true },
    "config_sentence_transformers.json": { prompts: { query: "Find: ", document: "" } },
  });
  assertEquals(found, {
    modes: ["mean"],
    dense: [{
      inputs: 4,
      outputs: 2,
      weight: Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8),
      bias: Float32Array.of(9, 10),
      activation: "identity",
    }],
    maxSequenceLength: 256,
    lowerCases: true,
    prompts: new Map([["query", "Find: "], ["document", ""]]),
    unsupported: undefined,
  });
});

Deno.test("The rules for texts may stand in a file named after the family", async () => {
  const layout = {
    "modules.json": modules("Transformer", "Pooling"),
    "1_Pooling/config.json": MEAN,
  };
  for (const family of ["roberta", "xlm-roberta", "distilbert"]) {
    const rules = { max_seq_length: 128, do_lower_case: true };
    const found = await read({ ...layout, [`sentence_${family}_config.json`]: rules });
    assertEquals([found?.maxSequenceLength, found?.lowerCases], [128, true]);
  }
});

Deno.test("Every way to pool is known in the old spelling and in the new one", async () => {
  const spellings: [Record<string, unknown>, string[]][] = [
    [{ pooling_mode_cls_token: true }, ["cls"]],
    [{ pooling_mode_lasttoken: true }, ["lasttoken"]],
    [{ pooling_mode_weightedmean_tokens: true }, ["weightedmean"]],
    [{ pooling_mode_mean_sqrt_len_tokens: true }, ["mean_sqrt_len"]],
    [{ pooling_mode_mean_tokens: true, pooling_mode_max_tokens: true }, ["max", "mean"]],
    [{ pooling_mode: "lasttoken", embedding_dimension: 8 }, ["lasttoken"]],
    [{ pooling_mode: ["mean", "cls"] }, ["cls", "mean"]],
  ];
  for (const [config, modes] of spellings) {
    const found = await read({
      "modules.json": modules("Transformer", "Pooling"),
      "1_Pooling/config.json": config,
    });
    assertEquals(found?.modes as string[], modes);
  }
  // Newer versions write longer paths to the same classes.
  const found = await read({
    "modules.json": [
      { path: "", type: "sentence_transformers.base.modules.transformer.Transformer" },
      { path: "p", type: "sentence_transformers.sentence_transformer.modules.pooling.Pooling" },
    ],
    "p/config.json": MEAN,
  });
  assertEquals(found?.modes, ["mean"]);
});

Deno.test("Modules that cannot be computed are named, not left out", async () => {
  const cases: [string[], string][] = [
    [["Transformer", "Pooling", "CNN"], 'a module of type "CNN"'],
    [["Transformer", "Pooling", "Normalize", "Dense"], "the modules Transformer Pooling Normalize"],
    [["Transformer"], "must be Transformer, Pooling"],
  ];
  for (const [types, words] of cases) {
    const found = await read({ "modules.json": modules(...types) });
    assertEquals(found?.unsupported?.includes(words), true, found?.unsupported);
  }
});

Deno.test("A Transformer in a folder of its own is not taken for the one in the model's", async () => {
  const [first, second] = modules("Transformer", "Pooling");
  const found = await read({ "modules.json": [{ ...first, path: "0_Transformer" }, second] });
  assertEquals(found?.unsupported?.includes('the Transformer in "0_Transformer"'), true);
});

Deno.test("Broken files are refused by name", async () => {
  const base = { "modules.json": modules("Transformer", "Pooling") };
  const dense = {
    "modules.json": modules("Transformer", "Pooling", "Dense"),
    "1_Pooling/config.json": MEAN,
    "2_Dense/model.safetensors": safetensorsBytes([floats("linear.weight", [1, 2], [1, 2])]),
  };
  const cases: [Files, string][] = [
    [{ "modules.json": {} }, "must hold a list of modules"],
    [{ "modules.json": [{ type: 3 }] }, "each module must have a type and a path"],
    [base, "it must be a folder directly inside the model's"],
    [{ ...base, "1_Pooling/config.json": {} }, "one of the modes must be true"],
    [{ ...base, "1_Pooling/config.json": { pooling_mode: "middle" } }, "one or several of cls"],
    [{ ...base, "1_Pooling/config.json": { ...MEAN, include_prompt: false } }, "include_prompt"],
    [{
      "modules.json": [
        { path: "", type: "Transformer" },
        { path: "../elsewhere", type: "Pooling" },
      ],
    }, "it must be a folder directly inside the model's"],
    [
      { ...base, "1_Pooling/config.json": { ...MEAN, word_embedding_dimension: 8 } },
      "word_embedding_dimension 8",
    ],
    [
      { ...base, "1_Pooling/config.json": { ...MEAN, pooling_mode: "cls" } },
      'pooling_mode is "cls", and both must say the same',
    ],
    [
      { ...base, "1_Pooling/config.json": { ...MEAN, pooling_mode_new: true } },
      "pooling_mode_new true",
    ],
    [{ "modules.json": modules("Transformer", "Pooling").toReversed() }, "module 0 has the idx 1"],
    [{
      "modules.json": modules("Transformer", "Pooling").map((module) => ({ ...module, name: "a" })),
    }, 'two modules have the name "a"'],
    [{
      ...dense,
      "2_Dense/model.safetensors": safetensorsBytes([
        floats("linear.weight", [1, 4], [1, 2, 3, 4]),
        floats("linear.bias", [1], [1]),
      ]),
      "2_Dense/config.json": {
        in_features: 4,
        out_features: 1,
        bias: false,
        activation_function: "torch.nn.modules.linear.Identity",
      },
    }, 'but also "linear.bias"'],
    [{
      ...dense,
      "2_Dense/config.json": { in_features: 2, out_features: 2, bias: false },
    }, 'tensor "linear.weight"'],
    [{
      ...dense,
      "2_Dense/config.json": { in_features: 2, out_features: 1, bias: true },
    }, 'tensor "linear.bias"'],
    [{
      ...dense,
      "2_Dense/config.json": {
        in_features: 2,
        out_features: 1,
        bias: false,
        activation_function: "torch.nn.modules.activation.GELU",
      },
    }, "activation_function"],
    [{
      ...base,
      "1_Pooling/config.json": MEAN,
      "config_sentence_transformers.json": { prompts: { query: 1 } },
    }, "it must be an object of texts"],
  ];
  for (const [files, words] of cases) {
    await assertRejects(() => read(files), CheckpointError, words);
  }
});

Deno.test("A module's folder that leads out of the model's is refused", async () => {
  await inFolder({ "elsewhere/config.json": MEAN, "model/x": 1 }, (dir) => {
    Deno.symlinkSync(`${dir}/elsewhere`, `${dir}/model/1_Pooling`);
    const folder = new ModelFolder(`${dir}/model`);
    assertThrows(() => folder.subfolder("1_Pooling"), CheckpointError, "inside the model's");
    for (const name of ["..", ".", "", "a/b", "x"]) {
      assertThrows(() => folder.subfolder(name), CheckpointError);
    }
  });
});

Deno.test("In the hub's cache a module's files may be links to the same model's blobs", async () => {
  await inFolder({ "models--a--b/blobs/123": MEAN }, (dir) => {
    const snapshot = `${dir}/models--a--b/snapshots/main`;
    Deno.mkdirSync(`${snapshot}/1_Pooling`, { recursive: true });
    Deno.symlinkSync("../../../blobs/123", `${snapshot}/1_Pooling/config.json`);
    const folder = new ModelFolder(snapshot).subfolder("1_Pooling");
    assertEquals(folder.readJson("config.json"), MEAN);
  });
});

Deno.test("A classifier's labels and activation are those of its config", () => {
  const read = (config: object) =>
    readPoolingConfig("config.json", {
      architectures: ["BertForSequenceClassification"],
      ...config,
    }).classifier;
  assertEquals(read({}), { labels: [undefined, undefined], activation: "softmax" });
  assertEquals(read({ num_labels: 1 }), { labels: [undefined], activation: "sigmoid" });
  const names = { id2label: { "1": "b", "0": "a" } };
  assertEquals(read(names), { labels: ["a", "b"], activation: "softmax" });
  const activations: [object, string][] = [
    [{ problem_type: "regression" }, "identity"],
    [{ problem_type: "multi_label_classification" }, "sigmoid"],
    [{ problem_type: "single_label_classification", num_labels: 1 }, "softmax"],
    [{ sentence_transformers: { activation_fn: "torch.nn.modules.linear.Identity" } }, "identity"],
    [
      { sbert_ce_default_activation_function: "torch.nn.modules.activation.Sigmoid" },
      "sigmoid",
    ],
  ];
  for (const [config, activation] of activations) {
    assertEquals(read(config)?.activation as string, activation);
  }
  for (const wrong of [{ problem_type: "x" }, { id2label: {} }, { num_labels: 0 }]) {
    assertThrows(() => read(wrong), CheckpointError);
  }
  const harmful = { sbert_ce_default_activation_function: "os.system" };
  assertThrows(() => read(harmful), CheckpointError, "one of torch.nn's");
  const backbone = readPoolingConfig("config.json", { architectures: ["BertModel"] });
  assertEquals(backbone.classifier, undefined);
});

Deno.test("Matryoshka lengths and a reranker's answers are those of its config", () => {
  const read = (config: object) => readPoolingConfig("config.json", config);
  assertEquals(read({}).matryoshka, undefined);
  assertEquals(read({ is_matryoshka: true }).matryoshka, { dimensions: undefined });
  assertEquals(read({ matryoshka_dimensions: [64, 32] }).matryoshka, { dimensions: [64, 32] });
  assertThrows(() => read({ matryoshka_dimensions: [0] }), CheckpointError);
  assertEquals(read({ is_original_qwen3_reranker: true }).answers, ["no", "yes"]);
  assertEquals(read({ classifier_from_token: ["bad", "good"] }).answers, ["bad", "good"]);
  assertThrows(() => read({ classifier_from_token: ["yes"] }), CheckpointError, "two tokens");
});

Deno.test("A GGUF file says by a number how it is pooled", () => {
  const read = (type?: number) =>
    ggufPoolingFiles(
      new Map<string, unknown>([
        ["general.architecture", "qwen3"],
        ...(type === undefined ? [] : [["qwen3.pooling_type", type] as const]),
      ]),
    ).modules;
  assertEquals(read(), undefined);
  assertEquals(read(0), undefined);
  assertEquals([1, 2, 3].map((type) => read(type)?.modes), [["mean"], ["cls"], ["lasttoken"]]);
  assertEquals(read(4)?.unsupported, "its pooling_type is 4: supported are 0 to 3");
});
