/** Folders that are not what a model's folder should be: each is refused by path, with what to do. */

import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { ChatTemplateError, CheckpointError, ModelNotFoundError } from "../../lib/base/errors.ts";
import { openCheckpoint } from "../../lib/models/checkpoint.ts";
import { ModelFolder } from "../../lib/models/model_folder.ts";
import { loadChatTemplates, loadTokenizer } from "../../lib/loading.ts";
import { TextWorker } from "../../lib/text/text_worker.ts";
import { goldenModel } from "../helpers/golden_models.ts";
import { tinyGgufBytes, writeTinyModel } from "../helpers/tiny_model.ts";

type Json = Record<string, unknown>;

/** Runs on a whole model's folder that `change` has touched. */
async function withFolder(
  change: (dir: string) => void,
  fn: (dir: string) => void | Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(`${dir}/m`, goldenModel("llama"));
    change(`${dir}/m`);
    await fn(`${dir}/m`);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function edit(dir: string, file: string, change: (json: Json) => void): void {
  const json = JSON.parse(Deno.readTextFileSync(`${dir}/${file}`));
  change(json);
  Deno.writeTextFileSync(`${dir}/${file}`, JSON.stringify(json));
}

const ADAPTER = JSON.stringify({ base_model_name_or_path: "meta/base", peft_type: "LORA" });

const REFUSED: readonly (readonly [what: string, change: (dir: string) => void, says: string])[] = [
  [
    "an adapter alone",
    (dir) => {
      Deno.removeSync(`${dir}/config.json`);
      Deno.removeSync(`${dir}/model.safetensors`);
      Deno.writeTextFileSync(`${dir}/adapter_config.json`, ADAPTER);
    },
    'its adapter_config.json makes it an adapter of "meta/base"',
  ],
  [
    "an adapter beside weights",
    (dir) => Deno.writeTextFileSync(`${dir}/adapter_config.json`, ADAPTER),
    "remove the file if the weights are whole",
  ],
  [
    "no config, and a GGUF file",
    (dir) => {
      Deno.removeSync(`${dir}/config.json`);
      Deno.writeFileSync(`${dir}/tiny.gguf`, tinyGgufBytes(goldenModel("llama")));
    },
    'its "tiny.gguf" is opened by its own path',
  ],
  ["no weights", (dir) => Deno.removeSync(`${dir}/model.safetensors`), "must be safetensors files"],
  ["an empty config", (dir) => Deno.writeTextFileSync(`${dir}/config.json`, ""), "not valid JSON"],
  [
    "an end token behind the vocabulary",
    (dir) => edit(dir, "generation_config.json", (json) => json["eos_token_id"] = [2, 101]),
    'generation_config.json": 101 is no token: vocab_size is 101',
  ],
  [
    "an end token of the config behind the vocabulary",
    (dir) => edit(dir, "config.json", (json) => json["eos_token_id"] = 5000),
    'config.json": 5000 is no token',
  ],
  [
    "a begin token behind the vocabulary",
    (dir) => edit(dir, "config.json", (json) => json["bos_token_id"] = 101),
    "bos_token_id 101",
  ],
  [
    "two templates of a name",
    (dir) =>
      edit(dir, "tokenizer_config.json", (json) => {
        json["chat_template"] = [1, 2].map(() => ({ name: "default", template: "x" }));
      }),
    'it has two templates of the name "default"',
  ],
  [
    "a file of templates that is no object",
    (dir) => Deno.writeTextFileSync(`${dir}/chat_template.json`, "[]"),
    'chat_template.json": it must hold a JSON object',
  ],
];

for (const [what, change, says] of REFUSED) {
  Deno.test(`A folder with ${what} is refused`, async () => {
    await withFolder(change, async (dir) => {
      const error = await assertRejects(() => openCheckpoint(dir), CheckpointError);
      assertStringIncludes(error.message, says);
      assertStringIncludes(error.message, dir);
    });
  });
}

Deno.test("A path below a file leads to no model, and one that no system has is refused", async () => {
  await withFolder(() => {}, async (dir) => {
    await assertRejects(() => openCheckpoint(`${dir}/config.json/x`), ModelNotFoundError, dir);
    await assertRejects(() => openCheckpoint(`${dir}/a\0b`), CheckpointError, "NUL");
  });
});

Deno.test({
  name: "Files that may not be read are refused by their path",
  // As if the system would not let this process read them.
  permissions: { read: false, write: true },
  fn() {
    const error = assertThrows(() => new ModelFolder("/nowhere/m"), CheckpointError);
    assertStringIncludes(error.message, 'Cannot read "/nowhere/m": Requires read access');
  },
});

Deno.test("A vocabulary that any text may come to has a row for each token", async () => {
  const load = async (dir: string) => {
    using checkpoint = await openCheckpoint(dir);
    return loadTokenizer(checkpoint, undefined);
  };
  const beyond = (json: Json) => {
    const model = json["model"] as { vocab: Record<string, number> };
    model.vocab["zz"] = 5000;
  };
  await withFolder((dir) => edit(dir, "tokenizer.json", beyond), async (dir) => {
    const error = await assertRejects(() => load(dir), CheckpointError);
    assertStringIncludes(error.message, `${dir}/tokenizer.json`);
    assertStringIncludes(
      error.message,
      'token "zz" has the id 5000, but the model\'s vocab_size is 101',
    );
  });
  // One that only its own spelling leads to may lie behind the rows: no other text needs it.
  const added = (json: Json) =>
    void (json["added_tokens"] as Json[]).push({ id: 101, content: "<image>", special: true });
  await withFolder((dir) => edit(dir, "tokenizer.json", added), async (dir) => {
    assertEquals((await load(dir)).vocabSize, 102);
  });
});

Deno.test("Added tokens that only tokenizer_config.json has are added, and none contradicts", async () => {
  const load = (entry: Json) => async (dir: string) => {
    edit(dir, "tokenizer_config.json", (json) => json["added_tokens_decoder"] = entry);
    using checkpoint = await openCheckpoint(dir);
    return loadTokenizer(checkpoint, undefined);
  };
  await withFolder(() => {}, async (dir) => {
    const tokenizer = await load({ "101": { content: "<new>", special: true } })(dir);
    assertEquals(tokenizer.encode("<new>", { addSpecialTokens: false }), [101]);
    assertEquals(tokenizer.isSpecial(101), true);
    const same = await load({ "2": { content: "<|im_end|>", special: true } })(dir);
    assertEquals(same.vocabSize, 101);
    for (
      const [entry, says] of [
        [{ "5": { content: "<|im_end|>" } }, "has the id 5, and elsewhere the id 2"],
        [{ "5": { content: "<new>" } }, "has the id 5, which is another token's"],
        [{ x: { content: "<new>" } }, '"added_tokens_decoder" of its configuration has "x"'],
        [{ "101": {} }, "it must be an id with a token"],
      ] as const
    ) {
      const error = await assertRejects(() => load(entry)(dir), CheckpointError);
      assertStringIncludes(error.message, says);
    }
  });
});

Deno.test("Templates that are none are refused by the file that they are in", async () => {
  const load = async (path: string) => {
    using checkpoint = await openCheckpoint(path);
    const worker = new TextWorker();
    try {
      loadChatTemplates(checkpoint, loadTokenizer(checkpoint, undefined), {
        given: undefined,
        contentFormat: "auto",
        worker,
      });
    } finally {
      worker.close();
    }
  };
  const additional = (dir: string) => {
    Deno.mkdirSync(`${dir}/additional_chat_templates`);
    Deno.writeTextFileSync(`${dir}/additional_chat_templates/tool_use.jinja`, "{{ a");
  };
  await withFolder(additional, async (dir) => {
    const file = `${dir}/additional_chat_templates/tool_use.jinja`;
    await assertRejects(() => load(dir), ChatTemplateError, file);
  });
  await withFolder(() => {}, async (dir) => {
    const bytes = tinyGgufBytes(goldenModel("llama"), ({ metadata }) => {
      metadata.set("tokenizer.chat_template", { type: "u32", value: 5 });
    });
    Deno.writeFileSync(`${dir}/tiny.gguf`, bytes);
    const error = await assertRejects(() => load(`${dir}/tiny.gguf`), CheckpointError);
    assertStringIncludes(error.message, `tokenizer.chat_template of "${dir}/tiny.gguf"`);
  });
});
