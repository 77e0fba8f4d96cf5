/** Random small encoders, alone and in a crowd, against a plain forward pass. */

import { assert, assertEquals } from "@std/assert";
import { readModelConfig } from "../../lib/models/config.ts";
import { expectedTensors } from "../../lib/models/expected_tensors.ts";
import { withModel } from "../helpers/loaded_model.ts";
import { seededRandom } from "../helpers/mutations.ts";
import { referenceStates } from "../helpers/reference_encoder.ts";
import { safetensorsBytes } from "../helpers/safetensors_writer.ts";
import { tinyTokenizerConfig, tinyTokenizerJson } from "../helpers/tiny_tokenizer_files.ts";

const ARCHITECTURES = {
  bert: "BertModel",
  roberta: "RobertaModel",
  "xlm-roberta": "XLMRobertaModel",
} as const;

const VOCAB_SIZE = 101;
const ROUNDS = 2;

for (const [modelType, architecture] of Object.entries(ARCHITECTURES)) {
  Deno.test(`Random models of the family ${modelType} have the hidden states of a plain forward pass`, async () => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    for (let round = 0; round < ROUNDS; round++) {
      const where = `seed ${seed + round}`;
      try {
        await compare(modelType, architecture, seededRandom(seed + round));
      } catch (error) {
        throw new Error(where, { cause: error });
      }
    }
  });
}

async function compare(
  modelType: string,
  architecture: string,
  random: (limit: number) => number,
): Promise<void> {
  const integer = (min: number, max: number) => min + random(max - min + 1);
  const heads = integer(1, 3);
  const typeCount = modelType === "bert" ? integer(1, 3) : 1;
  const config = {
    architectures: [architecture],
    model_type: modelType,
    vocab_size: VOCAB_SIZE,
    hidden_size: heads * 8 * integer(1, 3),
    intermediate_size: 8 * integer(3, 9),
    num_hidden_layers: integer(1, 3),
    num_attention_heads: heads,
    max_position_embeddings: 64,
    type_vocab_size: typeCount,
    layer_norm_eps: 1e-5,
    pad_token_id: integer(0, 5),
  };
  const parsed = readModelConfig("config.json", config);
  const tensors = new Map<string, Float32Array>();
  const parts = expectedTensors(parsed).map(({ name, shape }) => {
    const fanIn = shape[1] ?? 1;
    const real = () => random(2 ** 16) / 2 ** 15 - 1;
    const values = Float32Array.from(
      { length: shape.reduce((product, size) => product * size, 1) },
      name.endsWith("LayerNorm.weight")
        ? () => 1 + real() / 3
        : name.includes("embeddings")
        ? real
        : () => 2 * real() / Math.sqrt(fanIn),
    );
    tensors.set(name, values);
    return { name, dtype: "F32", shape, bytes: new Uint8Array(values.buffer) };
  });
  const dir = await Deno.makeTempDir();
  try {
    Deno.writeFileSync(`${dir}/model.safetensors`, safetensorsBytes(parts));
    const files = {
      "config.json": config,
      "tokenizer.json": tinyTokenizerJson(),
      "tokenizer_config.json": tinyTokenizerConfig(),
    };
    for (const [name, json] of Object.entries(files)) {
      Deno.writeTextFileSync(`${dir}/${name}`, JSON.stringify(json));
    }
    const lengths = [1, integer(2, 20), integer(2, 20), parsed.contextLength];
    const prompts = lengths.map((length) => ({
      ids: Array.from({ length }, () => random(VOCAB_SIZE)),
      types: Array.from({ length }, () => random(typeCount)),
    }));
    await withModel(
      dir,
      { threads: 0, maxBatchSize: 3, maxTokensPerStep: 80 },
      async ({ engine }) => {
        const ask = async ({ ids, types }: typeof prompts[number], id: string) => {
          const request = {
            id,
            promptTokenIds: ids,
            rows: "all",
            ...(typeCount > 1 && { tokenTypeIds: types }),
          } as const;
          return (await engine.submitPooling(request)).rows;
        };
        const alone: (readonly Float32Array[])[] = [];
        for (const [i, prompt] of prompts.entries()) alone.push(await ask(prompt, `alone ${i}`));
        const together = await Promise.all(prompts.map((prompt, i) => ask(prompt, `crowd ${i}`)));
        assertEquals(together, alone);
        for (const [i, { ids, types }] of prompts.entries()) {
          const expected = referenceStates({ config, tensors }, ids, types);
          assertEquals(alone[i]!.length, ids.length);
          expected.forEach((state, position) =>
            state.forEach((value, column) => {
              const actual = alone[i]![position]![column]!;
              const tolerance = 1e-4 * Math.max(1, Math.abs(value));
              assert(
                Math.abs(actual - value) <= tolerance,
                `${
                  JSON.stringify(config)
                }, prompt ${i}: [${position}, ${column}] is ${actual}, not ${value}`,
              );
            })
          );
        }
      },
    );
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}
