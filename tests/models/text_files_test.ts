import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import { readTextFiles } from "../../lib/models/hf_text_files.ts";
import { ModelFolder } from "../../lib/models/model_folder.ts";
import type { TextFiles } from "../../lib/models/text_files.ts";

type FolderFiles = Extract<TextFiles, { kind: "huggingface" }>;

/** Reads a folder that holds just these files. */
function read(files: Readonly<Record<string, string>>, modelConfig: unknown = {}): FolderFiles {
  const path = Deno.makeTempDirSync();
  try {
    for (const [name, text] of Object.entries(files)) {
      const folder = /^(.*)\//.exec(name)?.[1];
      if (folder !== undefined) Deno.mkdirSync(`${path}/${folder}`, { recursive: true });
      Deno.writeTextFileSync(`${path}/${name}`, text);
    }
    return readTextFiles(new ModelFolder(path), modelConfig) as FolderFiles;
  } finally {
    Deno.removeSync(path, { recursive: true });
  }
}

const templates = (files: Readonly<Record<string, string>>) =>
  Object.fromEntries(read({ "tokenizer.json": "{}", ...files }).namedTemplates ?? []);

const configWith = (template: unknown) => JSON.stringify({ chat_template: template });

Deno.test("Chat templates come from a file of their own, else from the older places", () => {
  const list = [{ name: "default", template: "d" }, { name: "tool_use", template: "t" }];
  const older = { "tokenizer_config.json": configWith(list) };
  assertEquals(templates(older), { default: "d", tool_use: "t" });
  const processor = { ...older, "chat_template.json": configWith("p") };
  assertEquals(templates(processor), { default: "p" });
  assertEquals(templates({ ...processor, "chat_template.jinja": "j" }), { default: "j" });
  assertEquals(
    templates({
      ...processor,
      "chat_template.jinja": "j",
      "additional_chat_templates/tool_use.jinja": "a",
      "additional_chat_templates/notes.txt": "x",
    }),
    { default: "j", tool_use: "a" },
  );
  assertEquals(templates({}), {});
  const text = read({ "tokenizer.json": "{}", "tokenizer_config.json": configWith(list) });
  assertEquals(text.chatTemplate, "d");
});

Deno.test("A folder without tokenizer.json gives the files that one can be made from", () => {
  const wordPiece = read({ "vocab.txt": "a\nb\n" });
  assertEquals(wordPiece.vocabulary?.kind, "wordPiece");
  assertStringIncludes(wordPiece.files.tokenizer, "/vocab.txt");
  const byteLevel = read(
    { "vocab.json": '{"a": 0}', "merges.txt": "a b\n", "added_tokens.json": '{"<x>": 1}' },
    { model_type: "qwen2" },
  ).vocabulary;
  assertEquals(byteLevel?.kind === "byteLevel" && byteLevel.modelType, "qwen2");
  assertEquals(byteLevel?.kind === "byteLevel" && byteLevel.addedTokens, { "<x>": 1 });
  const both = read({ "vocab.txt": "a\n", "tokenizer.json": '{"x": 1}' });
  assertEquals(both.vocabulary, undefined);
  assertEquals(both.tokenizer, { x: 1 });
});

Deno.test("A folder with another tokenizer, or none, says what is there and what to do", () => {
  const refused = (files: Record<string, string>) =>
    assertThrows(() => read(files), CheckpointError).message;
  assertStringIncludes(refused({ "tokenizer.model": "x" }), '/tokenizer.model": it is a Sentence');
  assertStringIncludes(refused({ "tokenizer.model": "x" }), "save_pretrained");
  assertStringIncludes(refused({ "tekken.json": "{}" }), "Mistral's own format");
  assertStringIncludes(refused({ "vocab.json": "{}" }), '/tokenizer.json": there is no such file');
});
