/**
 * Forward passes as a property: small models with random settings of every family are written,
 * loaded and asked, one request at a time and in a crowd, and every log-probability is that of a
 * plain forward pass, whether prompts were cut in chunks, windows left behind, prefixes cached or
 * requests preempted. The hidden states and embeddings that the same weights give without a head are
 * those of that pass too.
 */

import { assert, assertEquals } from "@std/assert";
import { InvalidParameterError } from "../../lib/base/errors.ts";
import { kvBlockBytes } from "../../lib/device/kv_blocks.ts";
import { readModelConfig } from "../../lib/models/config.ts";
import { expectedTensors } from "../../lib/models/expected_tensors.ts";
import { planKv } from "../../lib/models/kv_plan.ts";
import {
  LLM,
  type LLMOptions,
  PoolingParams,
  type RequestOutput,
  SamplingParams,
} from "../../mod.ts";
import { seededRandom } from "../helpers/mutations.ts";
import {
  referenceHiddenStates,
  referenceLogits,
  type ReferenceModel,
  storedName,
} from "../helpers/reference_forward.ts";
import { safetensorsBytes } from "../helpers/safetensors_writer.ts";
import { tinyTokenizerConfig, tinyTokenizerJson } from "../helpers/tiny_tokenizer_files.ts";

/** The tiny tokenizer's. */
const VOCAB_SIZE = 101;

/** Models a family. */
const ROUNDS = 2;

type Json = Record<string, unknown>;

/** Numbers and choices from a seed. */
class Dice {
  readonly #random: (limit: number) => number;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  integer(min: number, max: number): number {
    return min + this.#random(max - min + 1);
  }

  one<T>(...choices: readonly T[]): T {
    return choices[this.#random(choices.length)] as T;
  }

  /** Between −1 and 1. */
  real(): number {
    return this.#random(2 ** 16) / 2 ** 15 - 1;
  }
}

/** What a family's config.json has besides sizes. */
const FAMILIES: Readonly<Record<string, (dice: Dice, layerCount: number) => Json>> = {
  llama: (dice) => ({
    architectures: ["LlamaForCausalLM"],
    attention_bias: dice.one(true, false),
    mlp_bias: dice.one(true, false),
  }),
  mistral: (dice) => ({
    architectures: ["MistralForCausalLM"],
    sliding_window: dice.one<number | null>(null, dice.integer(1, 40), dice.integer(1, 40)),
  }),
  qwen2: (dice, layerCount) => ({
    architectures: ["Qwen2ForCausalLM"],
    ...sometimesSliding(dice, layerCount),
  }),
  qwen3: (dice, layerCount) => ({
    architectures: ["Qwen3ForCausalLM"],
    attention_bias: dice.one(true, false),
    ...sometimesSliding(dice, layerCount),
  }),
  exaone: (dice, layerCount) => ({
    architectures: ["ExaoneForCausalLM"],
    num_layers: layerCount,
    num_hidden_layers: dice.one(layerCount, undefined),
    activation_function: "silu",
    attention_bias: dice.one(true, false),
    layer_norm_epsilon: 1e-5,
    rms_norm_eps: undefined,
  }),
  exaone4: (dice) => ({
    architectures: ["Exaone4ForCausalLM"],
    sliding_window: dice.one<number | null>(null, dice.integer(1, 40), dice.integer(1, 40)),
    sliding_window_pattern: dice.one<number | string>(2, 3, "LG", "LLG"),
  }),
  gemma3_text: (dice, layerCount) => ({
    architectures: ["Gemma3ForCausalLM"],
    sliding_window: dice.integer(1, 40),
    ...dice.one<Json>(
      { sliding_window_pattern: 2 },
      { layer_types: layerTypes(dice, layerCount) },
    ),
    query_pre_attn_scalar: dice.one(8, 24),
    rope_local_base_freq: dice.one(100, 10_000),
    final_logit_softcapping: dice.one<number | null>(null, 5),
  }),
  qwen3_moe: (dice) => ({
    architectures: ["Qwen3MoeForCausalLM"],
    ...experts(dice, "num_experts"),
    norm_topk_prob: dice.one(true, false),
    mlp_only_layers: dice.one([], [0]),
    decoder_sparse_step: dice.one(1, 2),
    attention_bias: dice.one(true, false),
  }),
  gpt_oss: (dice, layerCount) => ({
    architectures: ["GptOssForCausalLM"],
    ...experts(dice, "num_local_experts"),
    sliding_window: dice.integer(1, 40),
    ...dice.one<Json>({}, { layer_types: layerTypes(dice, layerCount) }),
    swiglu_limit: dice.one(7, 0.5),
    attention_bias: true,
    partial_rotary_factor: undefined,
    rope_scaling: {
      rope_type: "yarn",
      factor: 4,
      truncate: false,
      original_max_position_embeddings: 48,
    },
  }),
  exaone_moe: (dice) => ({
    architectures: ["ExaoneMoeForCausalLM"],
    ...experts(dice, "num_experts"),
    num_shared_experts: dice.integer(0, 2),
    norm_topk_prob: dice.one(true, false),
    routed_scaling_factor: dice.one(1, 2.5),
    first_k_dense_replace: dice.integer(0, 2),
    sliding_window: dice.integer(1, 40),
    sliding_window_pattern: dice.one<number | string>(2, 3, "LG", "LLG"),
  }),
  solar_open: (dice) => ({
    architectures: ["SolarOpenForCausalLM"],
    ...experts(dice, "n_routed_experts"),
    n_shared_experts: dice.integer(0, 2),
    routed_scaling_factor: dice.one(1, 1.5),
    attention_bias: dice.one(true, false),
  }),
};

function experts(dice: Dice, key: string): Json {
  const count = dice.integer(1, 6);
  return {
    [key]: count,
    num_experts_per_tok: dice.integer(1, Math.min(3, count)),
    moe_intermediate_size: 8 * dice.integer(1, 4),
  };
}

/** Experts that are closer to each other than this may be chosen one for the other. */
const CLOSE_EXPERTS = 2e-5;

function sometimesSliding(dice: Dice, layerCount: number): Json {
  return dice.one<Json>({ sliding_window: 7, use_sliding_window: false }, {
    use_sliding_window: true,
    sliding_window: dice.integer(1, 40),
    ...dice.one<Json>(
      { max_window_layers: dice.integer(0, layerCount) },
      { layer_types: layerTypes(dice, layerCount) },
    ),
  });
}

function layerTypes(dice: Dice, layerCount: number): string[] {
  return Array.from(
    { length: layerCount },
    () => dice.one("full_attention", "sliding_attention"),
  );
}

function ropeScaling(dice: Dice, width: number): Json | null {
  const list = () => Array.from({ length: width / 2 }, () => 1 + dice.integer(0, 30) / 10);
  const original_max_position_embeddings = 48;
  return dice.one<Json | null>(
    null,
    { type: "linear", factor: 2.5 },
    { rope_type: "dynamic", factor: 2 },
    {
      rope_type: "llama3",
      factor: 4,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings,
    },
    {
      rope_type: "yarn",
      factor: 4,
      truncate: dice.one(true, false),
      ...dice.one<Json>({}, { attention_factor: 1.2 }, { beta_fast: 8, beta_slow: 0.5 }),
      original_max_position_embeddings,
    },
    {
      rope_type: "longrope",
      short_factor: list(),
      long_factor: list(),
      original_max_position_embeddings: dice.one(48, 4096),
      ...dice.one<Json>({}, { attention_factor: 1.1 }),
    },
  );
}

function makeUp(dice: Dice, modelType: string): Json {
  const kvHeads = dice.integer(1, 2);
  const heads = kvHeads * dice.integer(1, 3);
  const headDim = dice.one(16, 32);
  const layerCount = dice.integer(2, 4);
  const isPartial = dice.integer(0, 3) === 0;
  return {
    model_type: modelType,
    vocab_size: VOCAB_SIZE,
    hidden_size: 8 * dice.integer(3, 6),
    intermediate_size: 8 * dice.integer(4, 9),
    num_hidden_layers: layerCount,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    max_position_embeddings: 160,
    rms_norm_eps: 1e-5,
    rope_theta: dice.one(100, 10_000, 1e6),
    ...isPartial ? { partial_rotary_factor: 0.5 } : {},
    rope_scaling: ropeScaling(dice, isPartial ? headDim / 2 : headDim),
    tie_word_embeddings: dice.one(true, false),
    ...FAMILIES[modelType]!(dice, layerCount),
  };
}

/** Of a size at which every part of the model shows in the logits. */
function makeUpTensor(dice: Dice, name: string, shape: readonly number[], isGemma: boolean) {
  const count = shape.reduce((product, size) => product * size, 1);
  const values = new Float32Array(count);
  const fanIn = shape[1] ?? 1;
  for (let i = 0; i < count; i++) {
    const value = dice.real();
    values[i] = name.endsWith("norm.weight")
      ? (isGemma ? 0 : 1) + 0.3 * value
      : name.endsWith("bias")
      ? 0.3 * value
      : name.includes("embed_tokens")
      ? isGemma ? value / 4 : value
      : value * 2 / Math.sqrt(fanIn);
  }
  return values;
}

/** Writes the model into `dir`. */
function write(dir: string, config: Json, dice: Dice): ReferenceModel["tensors"] {
  const modelType = config["model_type"] as string;
  const tensors = new Map<string, Float32Array>();
  const parts = expectedTensors(readModelConfig("config.json", config)).map(({ name, shape }) => {
    const values = makeUpTensor(dice, name, shape, modelType === "gemma3_text");
    const stored = storedName(modelType, name);
    tensors.set(stored, values);
    return { name: stored, dtype: "F32", shape, bytes: new Uint8Array(values.buffer) };
  });
  Deno.writeFileSync(`${dir}/model.safetensors`, safetensorsBytes(parts));
  const files = {
    "config.json": config,
    "tokenizer.json": tinyTokenizerJson(),
    "tokenizer_config.json": tinyTokenizerConfig(),
  };
  for (const [name, json] of Object.entries(files)) {
    Deno.writeTextFileSync(`${dir}/${name}`, JSON.stringify(json));
  }
  return tensors;
}

function logSoftmax(logits: Float64Array): Float64Array {
  const most = Math.max(...logits);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - most), 0);
  return logits.map((logit) => logit - most - Math.log(sum));
}

/** Every log-probability of an answer against the plain pass over the same tokens. */
function check(model: ReferenceModel, output: RequestOutput, where: string): void {
  const { promptTokenIds, promptLogprobs, outputs: [answer] } = output;
  assert(answer !== undefined && answer.logprobs !== null);
  const ids = [...promptTokenIds, ...answer.tokenIds];
  let gap = Infinity;
  const note = (found: number) => gap = Math.min(gap, found);
  const rows = referenceLogits(model, ids.slice(0, -1), note).map(logSoftmax);
  if (gap < CLOSE_EXPERTS) return;
  const told = [...promptLogprobs ?? promptTokenIds.map(() => null), ...answer.logprobs];
  let compared = 0;
  for (const [position, map] of told.entries()) {
    const row = rows[position - 1];
    if (map === null || row === undefined) continue;
    for (const [tokenId, { logprob }] of map) {
      const expected = row[tokenId] as number;
      const tolerance = 1e-4 * Math.max(1, Math.abs(expected));
      assert(
        Math.abs(logprob - expected) <= tolerance,
        `${where}: position ${position}, token ${tokenId}: ${logprob}, not ${expected}`,
      );
      compared++;
    }
    if (position < promptTokenIds.length) continue;
    const chosen = row[ids[position] as number] as number;
    assert(chosen >= Math.max(...row) - 1e-4, `${where}: position ${position} is not greedy`);
  }
  assert(compared >= answer.tokenIds.length, `${where}: nothing to compare`);
}

const greedy = (options: { promptLogprobs?: number } = {}) =>
  new SamplingParams({ temperature: 0, maxTokens: 36, ignoreEos: true, logprobs: 3, ...options });

async function ask(
  llm: LLM,
  prompts: readonly (readonly number[])[],
  params: SamplingParams,
): Promise<RequestOutput[]> {
  const all = prompts.map((ids) => ({ promptTokenIds: [...ids] }));
  return await llm.generate(all, params);
}

for (const modelType of Object.keys(FAMILIES)) {
  Deno.test(`Random models of the family ${modelType} compute what a plain forward pass does`, async () => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    for (let round = 0; round < ROUNDS; round++) {
      const dice = new Dice(seed + round);
      const config = makeUp(dice, modelType);
      const where = `seed ${seed + round}: ${JSON.stringify(config)}`;
      const dir = await Deno.makeTempDir();
      try {
        const tensors = write(dir, config, dice);
        const contextLength = dice.one(96, 128);
        const model = { config, tensors, contextLength };
        const prompts = makeUpPrompts(dice);
        await compare(dir, model, prompts, where);
        await compareStates(dir, model, prompts, where);
      } catch (error) {
        throw new Error(where, { cause: error });
      } finally {
        await Deno.remove(dir, { recursive: true });
      }
    }
  });
}

/** Two of them begin alike. */
function makeUpPrompts(dice: Dice): number[][] {
  const ids = (count: number) =>
    Array.from({ length: count }, () => dice.integer(0, VOCAB_SIZE - 1));
  const shared = ids(20);
  return [
    ids(dice.integer(1, 5)),
    [...shared, ...ids(dice.integer(1, 10))],
    [...shared, ...ids(dice.integer(1, 10))],
    ids(dice.integer(25, 31)),
    ids(dice.integer(40, 60)),
  ];
}

function roomyOptions({ contextLength }: ReferenceModel): LLMOptions {
  return { threads: 0, kvCacheDtype: "float32", maxModelLength: contextLength };
}

function tightOptions(model: ReferenceModel): LLMOptions {
  return {
    ...roomyOptions(model),
    maxTokensPerStep: 24,
    maxBatchSize: 4,
    kvCacheBytes: tightCache(model),
  };
}

async function compare(
  dir: string,
  model: ReferenceModel,
  prompts: readonly (readonly number[])[],
  where: string,
): Promise<void> {
  const alone: RequestOutput[] = [];
  await using roomy = await LLM.load(dir, roomyOptions(model));
  for (const prompt of prompts) {
    const [output] = await ask(roomy, [prompt], greedy({ promptLogprobs: 2 }));
    check(model, output!, `alone, ${where}`);
    alone.push(output!);
  }
  const tokens = (outputs: readonly RequestOutput[]) =>
    outputs.map(({ outputs: [answer] }) => answer?.tokenIds);

  await using tight = await LLM.load(dir, tightOptions(model));
  const together = await ask(tight, prompts, greedy({ promptLogprobs: 2 }));
  for (const output of together) check(model, output, `in a crowd, ${where}`);
  assertEquals(tokens(together), tokens(alone), `in a crowd, ${where}`);
  for (const i of [1, 2]) {
    const again = await ask(tight, [prompts[i]!], greedy());
    check(model, again[0]!, `from cached prefixes, ${where}`);
    assertEquals(tokens(again), [tokens(alone)[i]], `from cached prefixes, ${where}`);
  }
  // Of layers with a window the blocks that are needed may be gone, and others there in plenty.
  if (windowsOf(model).some((window) => window > 0)) return;
  const { preemptionCount, prefixHitTokens } = tight.stats().engine;
  assert(preemptionCount > 0, `nothing was preempted, ${where}`);
  assert(prefixHitTokens > 0, `no prefix was found again, ${where}`);
}

/** The same files as a bare backbone: states of every token, and embeddings, which are pooled. */
async function compareStates(
  dir: string,
  model: ReferenceModel,
  prompts: readonly (readonly number[])[],
  where: string,
): Promise<void> {
  const [name] = model.config["architectures"] as [string];
  const bare = name.replace("Gemma3", "Gemma3Text").replace("ForCausalLM", "Model");
  Deno.writeTextFileSync(
    `${dir}/config.json`,
    JSON.stringify({ ...model.config, architectures: [bare] }),
  );
  const inputs = prompts.map((ids) => ({ promptTokenIds: [...ids] }));
  const near = (actual: Float32Array, expected: Float64Array, what: string) => {
    assertEquals(actual.length, expected.length);
    expected.forEach((value, column) => {
      const tolerance = 1e-4 * Math.max(1, Math.abs(value));
      const difference = Math.abs(actual[column]! - value);
      assert(difference <= tolerance, `${what}, ${column}: ${actual[column]}, not ${value}`);
    });
  };
  const raw = new PoolingParams({ normalize: false });
  await using roomy = await LLM.load(dir, roomyOptions(model));
  const alone: (readonly Float32Array[])[] = [];
  const embeddings: Float32Array[] = [];
  for (const [i, input] of inputs.entries()) {
    const { outputs: { data } } = await roomy.encode(input, raw, { task: "token_embed" });
    const { outputs: { embedding } } = await roomy.embed(input);
    alone.push(data as readonly Float32Array[]);
    embeddings.push(embedding);
    let gap = Infinity;
    const states = referenceHiddenStates(model, prompts[i]!, (found) => gap = Math.min(gap, found));
    if (gap < CLOSE_EXPERTS) continue;
    assertEquals(alone[i]!.length, states.length);
    states.forEach((state, position) =>
      near(alone[i]![position]!, state, `state ${position} of prompt ${i}, ${where}`)
    );
    const last = states.at(-1)!;
    const length = Math.hypot(...last);
    near(embedding, last.map((value) => value / length), `embedding of prompt ${i}, ${where}`);
  }
  await using tight = await LLM.load(dir, tightOptions(model));
  const [states, pooled] = await Promise.all([
    tight.encode(inputs, raw, { task: "token_embed" }),
    tight.embed(inputs),
  ]);
  assertEquals(states.map(({ outputs }) => outputs.data), alone, `in a crowd, ${where}`);
  assertEquals(
    pooled.map(({ outputs }) => outputs.embedding),
    embeddings,
    `in a crowd, ${where}`,
  );
}

function windowsOf({ config }: ReferenceModel): readonly number[] {
  const { kind, ...rest } = readModelConfig("config.json", config);
  return kind === "decoder" && "windows" in rest ? rest.windows : [];
}

/** Room for little more than the longest context: several requests at once preempt each other. */
function tightCache({ config, contextLength }: ReferenceModel): number {
  const parsed = readModelConfig("config.json", config);
  const { layerCount, kvHeadCount: kvHeads, headDim } = parsed;
  const blockBytes = kvBlockBytes({ dtype: "f32", kvHeads, headDim });
  const limits = { maxModelLength: contextLength, maxBatchSize: 4, maxTokensPerStep: 24 };
  for (let blocks = layerCount; true; blocks++) {
    try {
      planKv(parsed, "f32", { ...limits, kvCacheBytes: blocks * blockBytes });
      return (blocks + 2 * layerCount) * blockBytes;
    } catch (error) {
      if (!(error instanceof InvalidParameterError)) throw error;
    }
  }
}
