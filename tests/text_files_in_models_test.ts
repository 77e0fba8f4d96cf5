/** Which of a model's chat templates renders a conversation. */

import { assertEquals } from "@std/assert";
import { LLM, SamplingParams } from "../mod.ts";
import { goldenModel } from "./helpers/golden_models.ts";
import { writeTinyModel } from "./helpers/tiny_model.ts";

const TOOL = { type: "function", function: { name: "f", parameters: {} } } as const;

Deno.test("A conversation with tools is rendered by the template that the model has for them", async () => {
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(dir, goldenModel("llama"));
    const path = `${dir}/tokenizer_config.json`;
    const config = JSON.parse(await Deno.readTextFile(path));
    const list = [{ name: "tool_use", template: "the the the" }, {
      name: "default",
      template: "the",
    }];
    await Deno.writeTextFile(path, JSON.stringify({ ...config, chat_template: list }));
    await using llm = await LLM.load(dir, { threads: 1 });
    const params = new SamplingParams({ maxTokens: 1 });
    const promptLength = async (options: Parameters<LLM["chat"]>[2]) => {
      const output = await llm.chat([{ role: "user", content: "x" }], params, options);
      return output.promptTokenIds?.length;
    };
    assertEquals(await promptLength({}), 1);
    assertEquals(await promptLength({ tools: [TOOL] }), 5); // three words and two spaces
    assertEquals(await promptLength({ tools: [] }), 1);
    assertEquals(await promptLength({ tools: [TOOL], chatTemplate: "the the" }), 3);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("A model without tokenizer.json is loaded from its vocab.json and merges.txt", async () => {
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(dir, goldenModel("llama"));
    const prompt = "the <|im_start|>";
    const idsOf = async () => {
      await using llm = await LLM.load(dir, { threads: 1 });
      return llm.tokenize(prompt);
    };
    const expected = await idsOf();
    const { model, added_tokens } = JSON.parse(await Deno.readTextFile(`${dir}/tokenizer.json`));
    const merges = model.merges.map((merge: unknown) =>
      Array.isArray(merge) ? merge.join(" ") : merge
    );
    const added = added_tokens.map((token: { id: number }) => [token.id, token]);
    const path = `${dir}/tokenizer_config.json`;
    const config = JSON.parse(await Deno.readTextFile(path));
    await Deno.writeTextFile(
      path,
      JSON.stringify({
        ...config,
        tokenizer_class: "GPT2Tokenizer",
        added_tokens_decoder: Object.fromEntries(added),
      }),
    );
    await Deno.writeTextFile(`${dir}/vocab.json`, JSON.stringify(model.vocab));
    await Deno.writeTextFile(`${dir}/merges.txt`, `#version: 0.2\n${merges.join("\n")}\n`);
    await Deno.remove(`${dir}/tokenizer.json`);
    assertEquals(await idsOf(), expected);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
