/** The files that sentence-transformers puts beside a model: how its hidden states become an embedding. */

import { CheckpointError } from "../base/errors.ts";
import { isRecord } from "../base/record.ts";
import { Fields } from "./fields.ts";
import { openSafetensorsFolder, type SafetensorsFolder } from "./formats/safetensors_folder.ts";
import type { ModelFolder } from "./model_folder.ts";
import { isPlainDtype, plainFloats } from "./plain_floats.ts";
import { type HeadActivation, readTorchActivation } from "./torch_activations.ts";

/** How rows become one; in this order where there are several. */
export type SentencePoolingMode =
  | "cls"
  | "max"
  | "mean"
  | "mean_sqrt_len"
  | "weightedmean"
  | "lasttoken";

/** A dense layer behind the pooling. */
export interface SentenceDense {
  readonly inputs: number;
  readonly outputs: number;
  /** [outputs, inputs] */
  readonly weight: Float32Array;
  readonly bias: Float32Array | undefined;
  readonly activation: HeadActivation;
}

/** What modules.json and the files it names say. */
export interface SentenceTransformers {
  /** At least one; their vectors are put one after the other. */
  readonly modes: readonly SentencePoolingMode[];
  readonly dense: readonly SentenceDense[];
  /** Longest text in tokens, special ones included; undefined: the model's. */
  readonly maxSequenceLength: number | undefined;
  /** Texts are lower-cased before the tokenizer sees them. */
  readonly lowerCases: boolean;
  /** Texts that are put before others, by name: "query" → "Instruct: …". */
  readonly prompts: ReadonlyMap<string, string>;
  /** What this release cannot compute, as a clause for messages; the rest above is then void. */
  readonly unsupported: string | undefined;
}

/** What is true where no file says otherwise. */
export const NO_MODULES: SentenceTransformers = {
  modes: [],
  dense: [],
  maxSequenceLength: undefined,
  lowerCases: false,
  prompts: new Map(),
  unsupported: undefined,
};

/** What the Pooling module calls its modes, in the order in which it puts vectors together. */
const MODE_KEYS: readonly (readonly [key: string, mode: SentencePoolingMode])[] = [
  ["pooling_mode_cls_token", "cls"],
  ["pooling_mode_max_tokens", "max"],
  ["pooling_mode_mean_tokens", "mean"],
  ["pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len"],
  ["pooling_mode_weightedmean_tokens", "weightedmean"],
  ["pooling_mode_lasttoken", "lasttoken"],
];

const DENSE_SIZE_MAX = 65_536;

interface Module {
  /** The last part of its type: "Pooling". */
  readonly type: string;
  /** The folder that holds its files; "" for the model's own. */
  readonly path: string;
}

/**
 * Reads the files of `folder`; undefined where there is no modules.json. `hiddenSize` is the width of
 * what is pooled.
 */
export function readSentenceTransformers(
  folder: ModelFolder,
  hiddenSize: number,
): SentenceTransformers | undefined {
  if (!folder.has("modules.json")) return undefined;
  const modules = readModules(folder);
  const problem = orderProblem(modules.map(({ type }) => type)) ?? placeProblem(modules);
  if (problem !== undefined) return { ...NO_MODULES, unsupported: problem };
  const ofType = (type: string) => modules.filter((module) => module.type === type);
  return {
    modes: ofType("Pooling").flatMap(({ path }) => readModes(folder.subfolder(path), hiddenSize)),
    dense: ofType("Dense").map(({ path }) => readDense(folder.subfolder(path))),
    ...readTextRules(folder),
    prompts: readPrompts(folder),
    unsupported: undefined,
  };
}

function readModules(folder: ModelFolder): Module[] {
  const file = folder.nameOf("modules.json");
  const json = folder.readJson("modules.json");
  const fail = (what: string): never => {
    throw new CheckpointError(file, `Cannot use "${file}": ${what}`);
  };
  if (!Array.isArray(json)) return fail("it must hold a list of modules");
  const names = new Set<unknown>();
  return json.map((entry: unknown, index) => {
    const { type, path, idx, name } = isRecord(entry) ? entry : {};
    if (typeof type !== "string" || typeof path !== "string") {
      return fail("each module must have a type and a path");
    }
    if (idx !== undefined && idx !== index) {
      return fail(`module ${index} has the idx ${JSON.stringify(idx)}: they must stand in order`);
    }
    // Its own reader would keep the last of two.
    if (name !== undefined && names.has(name)) {
      return fail(`two modules have the name ${JSON.stringify(name)}: it must be one's own`);
    }
    names.add(name);
    return { type: type.slice(type.lastIndexOf(".") + 1), path };
  });
}

/** What a Transformer in a folder of its own has is not what is in the model's. */
function placeProblem(modules: readonly Module[]): string | undefined {
  const path = modules.find(({ type }) => type === "Transformer")?.path ?? "";
  return path === "" || path === "."
    ? undefined
    : `its modules.json has the Transformer in ${
      JSON.stringify(path)
    }: it must be in the folder itself`;
}

/** Transformer, Pooling, any number of Dense, Normalize; dropout does nothing outside training. */
function orderProblem(types: readonly string[]): string | undefined {
  const known = ["Transformer", "Pooling", "Dense", "Normalize", "Dropout"];
  const unknown = types.find((type) => !known.includes(type));
  if (unknown !== undefined) {
    return `its modules.json has a module of type "${unknown}": supported are ${known.join(", ")}`;
  }
  const order = types.filter((type) => type !== "Dropout").join(" ");
  if (/^Transformer Pooling( Dense)*( Normalize)?$/.test(order)) return undefined;
  return `its modules.json has the modules ${order}: they must be Transformer, Pooling, ` +
    "then any number of Dense, then Normalize or nothing";
}

function readModes(folder: ModelFolder, hiddenSize: number): SentencePoolingMode[] {
  const fields = Fields.ofJson(folder.nameOf("config.json"), folder.readJson("config.json"));
  const width = "word_embedding_dimension";
  if (fields.integer(width, { min: 1 }, hiddenSize) !== hiddenSize) {
    fields.fail(width, `it must be the model's hidden_size ${hiddenSize}`);
  }
  if (!fields.boolean("include_prompt", true)) {
    fields.fail("include_prompt", "a pooling that leaves out the prompt is not supported");
  }
  const named = fields.value("pooling_mode"); // how later versions write it
  if (named !== undefined) {
    const modes = MODE_KEYS.map(([, mode]) => mode);
    const names = Array.isArray(named) ? named : [named];
    if (names.length === 0 || !names.every((name) => modes.includes(name))) {
      fields.fail("pooling_mode", `it must be one or several of ${modes.join(", ")}`);
    }
    refuseUnknownModes(fields);
    for (const [key, mode] of MODE_KEYS) {
      if (fields.value(key) === undefined || fields.boolean(key, false) === names.includes(mode)) {
        continue;
      }
      fields.fail(key, `pooling_mode is ${JSON.stringify(named)}, and both must say the same`);
    }
    return modes.filter((mode) => names.includes(mode));
  }
  refuseUnknownModes(fields);
  const modes = MODE_KEYS.filter(([key]) => fields.boolean(key, false)).map(([, mode]) => mode);
  if (modes.length === 0) fields.fail("pooling_mode_mean_tokens", "one of the modes must be true");
  return modes;
}

/** A way to pool that is not known here is there all the same. */
function refuseUnknownModes(fields: Fields): void {
  const known = MODE_KEYS.map(([key]) => key);
  for (const key of fields.keys()) {
    if (!/^pooling_mode_/.test(key) || known.includes(key) || !fields.boolean(key, false)) continue;
    fields.fail(key, `supported are ${known.join(", ")}`);
  }
}

function readDense(folder: ModelFolder): SentenceDense {
  const fields = Fields.ofJson(folder.nameOf("config.json"), folder.readJson("config.json"));
  const size = { min: 1, max: DENSE_SIZE_MAX };
  const inputs = fields.integer("in_features", size);
  const outputs = fields.integer("out_features", size);
  const hasBias = fields.boolean("bias", true);
  // The class's own default is Tanh.
  const activation = readTorchActivation(fields, "activation_function") ?? "tanh";
  const weights = openSafetensorsFolder(folder);
  try {
    const weight = readFloats(weights, "linear.weight", [outputs, inputs]);
    const bias = hasBias ? readFloats(weights, "linear.bias", [outputs]) : undefined;
    const names = ["linear.weight", ...hasBias ? ["linear.bias"] : []];
    const other = [...weights.tensors.keys()].find((name) => !names.includes(name));
    if (other !== undefined) {
      fields.fail("bias", `by it there are ${names.join(" and ")}, but also "${other}"`);
    }
    return { inputs, outputs, weight, bias, activation };
  } finally {
    for (const source of weights.sources) source[Symbol.dispose]();
  }
}

function readFloats(weights: SafetensorsFolder, name: string, shape: number[]): Float32Array {
  const tensor = weights.tensors.get(name);
  const file = tensor?.source.name ?? weights.sources[0]?.name ?? "";
  const dtype = tensor?.dtype;
  if (tensor === undefined || !isPlainDtype(dtype) || tensor.shape.join() !== shape.join()) {
    const found = tensor === undefined ? "none" : `${dtype} [${tensor.shape.join(", ")}]`;
    throw new CheckpointError(
      file,
      `Cannot use tensor "${name}" of "${file}": it must be F32, F16 or BF16 of the shape ` +
        `[${shape.join(", ")}], and there is ${found}`,
    );
  }
  const bytes = new Uint8Array(tensor.sizeBytes);
  tensor.source.readAt(tensor.position, bytes);
  return plainFloats(dtype, bytes);
}

/** The first one counts. All but that one are from versions that had a class for each family. */
const TEXT_RULE_FILES = [
  "sentence_bert_config.json",
  "sentence_roberta_config.json",
  "sentence_distilbert_config.json",
  "sentence_camembert_config.json",
  "sentence_albert_config.json",
  "sentence_xlm-roberta_config.json",
  "sentence_xlnet_config.json",
];

function readTextRules(
  folder: ModelFolder,
): Pick<SentenceTransformers, "maxSequenceLength" | "lowerCases"> {
  const name = TEXT_RULE_FILES.find((file) => folder.has(file));
  if (name === undefined) return { maxSequenceLength: undefined, lowerCases: false };
  const fields = Fields.ofJson(folder.nameOf(name), folder.readJson(name));
  return {
    maxSequenceLength: fields.optionalInteger("max_seq_length", { min: 1 }),
    lowerCases: fields.boolean("do_lower_case", false),
  };
}

function readPrompts(folder: ModelFolder): ReadonlyMap<string, string> {
  const name = "config_sentence_transformers.json";
  if (!folder.has(name)) return new Map();
  const fields = Fields.ofJson(folder.nameOf(name), folder.readJson(name));
  const prompts = fields.value("prompts") ?? {};
  if (!isRecord(prompts) || !Object.values(prompts).every((text) => typeof text === "string")) {
    fields.fail("prompts", "it must be an object of texts");
  }
  return new Map(Object.entries(prompts as Record<string, string>));
}
