/** Where sampling defaults come from: the model, a folder of its own, or options; and what they limit. */

import { assertEquals, assertThrows } from "@std/assert";
import { LLM, type LLMOptions, SamplingParams } from "../mod.ts";
import { InvalidParameterError } from "../lib/base/errors.ts";
import { checkGenerationOverrides, readGenerationFolder } from "../lib/models/generation_config.ts";
import { resolveSamplingParams } from "../lib/sampling/resolved_params.ts";
import { goldenModel } from "./helpers/golden_models.ts";
import { writeTinyModel } from "./helpers/tiny_model.ts";

const MODEL_DEFAULTS = { temperature: 0.25, top_k: 7, max_new_tokens: 9 };
const FOLDER_DEFAULTS = { top_p: 0.5, max_new_tokens: 5 };

/** A model with defaults, and a folder with others. */
async function withModel(
  test: (load: (options: LLMOptions) => Promise<LLM>, folder: string) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    const model = `${dir}/model`;
    const folder = `${dir}/other`;
    await Deno.mkdir(model);
    await Deno.mkdir(folder);
    writeTinyModel(model, goldenModel("llama"));
    await Deno.writeTextFile(`${model}/generation_config.json`, JSON.stringify(MODEL_DEFAULTS));
    await Deno.writeTextFile(`${folder}/generation_config.json`, JSON.stringify(FOLDER_DEFAULTS));
    await test((options) => LLM.load(model, { threads: 0, ...options }), folder);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("Defaults come from the model, a folder in its place, or nowhere; overrides win over all", async () => {
  await withModel(async (load, folder) => {
    const overrideGenerationConfig = { temperature: 0.75, topK: 3 };
    for (
      const [options, expected] of [
        [{}, { temperature: 0.25, topK: 7, maxTokens: 9 }],
        [{ generationConfig: "none" }, {}],
        [{ generationConfig: folder }, { topP: 0.5, maxTokens: 5 }],
        [{ overrideGenerationConfig }, { temperature: 0.75, topK: 3, maxTokens: 9 }],
        [{ generationConfig: "none", overrideGenerationConfig }, { temperature: 0.75, topK: 3 }],
        [
          { generationConfig: folder, overrideGenerationConfig },
          { temperature: 0.75, topK: 3, topP: 0.5, maxTokens: 5 },
        ],
      ] as const
    ) {
      await using llm = await load(options);
      const { temperature, topK, topP, maxTokens } = llm.getDefaultSamplingParams();
      const given = Object.entries({ temperature, topK, topP, maxTokens })
        .filter(([, value]) => value !== undefined);
      assertEquals(Object.fromEntries(given), expected);
    }
  });
});

Deno.test("The model's max_new_tokens is a default; one of a folder or of an override is a limit too", async () => {
  await withModel(async (load, folder) => {
    const overrideGenerationConfig = { maxNewTokens: 3 };
    for (
      const [options, silent, asking] of [
        [{}, 9, 12],
        [{ generationConfig: folder }, 5, 5],
        [{ overrideGenerationConfig }, 3, 3],
        [{ generationConfig: "none", overrideGenerationConfig }, 3, 3],
      ] as const
    ) {
      await using llm = await load(options);
      const count = async (maxTokens: number | undefined) => {
        const params = new SamplingParams({
          ignoreEos: true,
          ...(maxTokens === undefined ? {} : { maxTokens }),
        });
        return (await llm.generate("the cat", params)).outputs[0]?.tokenIds.length;
      };
      assertEquals([await count(undefined), await count(12)], [silent, asking]);
    }
  });
});

Deno.test("A limit cuts what is asked for, and leaves what is less or open to the room there is", () => {
  const limited = (maxTokens: number | null | undefined, defaults: object) => {
    const params = new SamplingParams(maxTokens === undefined ? {} : { maxTokens });
    const resolved = resolveSamplingParams(params, { ...defaults, maxTokensLimit: 10 });
    return [resolved.maxTokens, resolved.cutMaxTokens];
  };
  assertEquals(limited(20, {}), [10, true]);
  assertEquals(limited(10, {}), [10, false]);
  assertEquals(limited(4, { maxTokens: 10 }), [4, false]);
  assertEquals(limited(undefined, { maxTokens: 16 }), [10, true]);
  assertEquals(limited(undefined, { maxTokens: null }), [10, true]);
  assertEquals(limited(null, {}), [10, true]);
});

Deno.test("A folder without a file, and overrides that are wrong, are refused by name", async () => {
  const dir = await Deno.makeTempDir();
  try {
    assertThrows(() => readGenerationFolder(dir), InvalidParameterError, dir);
    const words = "it must be auto, vllm, none or a folder";
    assertThrows(() => readGenerationFolder("nowhere"), InvalidParameterError, words);
  } finally {
    await Deno.remove(dir);
  }
  for (
    const [overrides, words] of [
      [{ topQ: 1 }, 'Cannot use "topQ" in overrideGenerationConfig: it may have temperature, topP'],
      [
        { topP: 0 },
        'Cannot use top_p 0 of "overrideGenerationConfig": it must be a number above 0 and at most 1',
      ],
      [{ maxNewTokens: 0 }, "max_new_tokens"],
      [[], "it must be an object"],
    ] as const
  ) assertThrows(() => checkGenerationOverrides(overrides), InvalidParameterError, words);
});
