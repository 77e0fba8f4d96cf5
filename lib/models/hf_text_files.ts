/** The tokenizer and the chat templates of a Hugging Face folder. */

import { CheckpointError } from "../base/errors.ts";
import { isRecord } from "../base/record.ts";
import type { ModelFolder } from "./model_folder.ts";
import type { StoredVocabulary, TextFiles } from "./text_files.ts";

/** Tokenizers that cannot be read, and what they are. */
const UNREADABLE: readonly (readonly [file: string, what: string])[] = [
  ["tokenizer.model", "a SentencePiece model"],
  ["spiece.model", "a SentencePiece model"],
  ["sentencepiece.bpe.model", "a SentencePiece model"],
  ["tekken.json", "Mistral's own format"],
];

/** Reads the files; what is in them is checked by those who use it. */
export function readTextFiles(folder: ModelFolder, modelConfig: unknown): TextFiles {
  const configName = "tokenizer_config.json";
  const tokenizerConfig = folder.has(configName) ? folder.readJson(configName) : {};
  if (!isRecord(tokenizerConfig)) {
    const file = folder.nameOf(configName);
    throw new CheckpointError(file, `Cannot use "${file}": it must hold a JSON object`);
  }
  const vocabulary = folder.has("tokenizer.json") ? undefined : readVocabulary(folder, modelConfig);
  const { templates, file } = readChatTemplates(folder, tokenizerConfig);
  return {
    kind: "huggingface",
    tokenizer: vocabulary === undefined ? folder.readVocabulary("tokenizer.json") : undefined,
    ...(vocabulary === undefined ? {} : { vocabulary }),
    tokenizerConfig,
    chatTemplate: templates.get("default"),
    namedTemplates: templates,
    files: {
      tokenizer: vocabulary?.file ?? folder.nameOf("tokenizer.json"),
      tokenizerConfig: folder.nameOf(configName),
      chatTemplate: file,
      ...folder.has(`${ADDITIONAL}/${TOOL_USE}`) &&
        { toolTemplate: folder.nameOf(`${ADDITIONAL}/${TOOL_USE}`) },
    },
  };
}

/** undefined where only tokenizer.json could help, and opening it will say so. */
function readVocabulary(folder: ModelFolder, modelConfig: unknown): StoredVocabulary | undefined {
  if (folder.has("vocab.txt")) {
    return {
      kind: "wordPiece",
      vocab: folder.readText("vocab.txt"),
      file: folder.nameOf("vocab.txt"),
    };
  }
  if (folder.has("vocab.json") && folder.has("merges.txt")) {
    const modelType = isRecord(modelConfig) ? modelConfig["model_type"] : undefined;
    return {
      kind: "byteLevel",
      vocab: folder.readVocabulary("vocab.json"),
      file: folder.nameOf("vocab.json"),
      merges: folder.readText("merges.txt"),
      mergesFile: folder.nameOf("merges.txt"),
      addedTokens: folder.has("added_tokens.json")
        ? folder.readVocabulary("added_tokens.json")
        : undefined,
      modelType: typeof modelType === "string" ? modelType : "",
    };
  }
  for (const [name, what] of UNREADABLE) {
    if (!folder.has(name)) continue;
    const file = folder.nameOf(name);
    throw new CheckpointError(
      file,
      `Cannot read the tokenizer "${file}": it is ${what}, and there is no tokenizer.json; ` +
        "make one: AutoTokenizer.from_pretrained(folder).save_pretrained(folder) in Python",
    );
  }
  return undefined;
}

/** Templates by name, the main one as "default", and the file that this one comes from. */
interface FoundTemplates {
  readonly templates: ReadonlyMap<string, string>;
  readonly file: string | undefined;
}

/** A file of its own wins over the legacy JSON file, and that over the tokenizer's config. */
function readChatTemplates(
  folder: ModelFolder,
  tokenizerConfig: Readonly<Record<string, unknown>>,
): FoundTemplates {
  const named = readAdditional(folder);
  if (folder.has("chat_template.jinja") || named.size > 0) {
    const own = folder.has("chat_template.jinja")
      ? [["default", folder.readText("chat_template.jinja")] as const]
      : [];
    return {
      templates: new Map([...named, ...own]),
      file: folder.nameOf(own.length > 0 ? "chat_template.jinja" : ADDITIONAL),
    };
  }
  const holders: [string, () => unknown][] = [
    ["chat_template.json", () => folder.readJson("chat_template.json")],
    ["tokenizer_config.json", () => tokenizerConfig],
  ];
  for (const [name, read] of holders) {
    if (!folder.has(name)) continue;
    const file = folder.nameOf(name);
    const content = read();
    if (!isRecord(content)) {
      throw new CheckpointError(file, `Cannot use "${file}": it must hold a JSON object`);
    }
    const templates = readTemplates(file, content["chat_template"]);
    if (templates.size > 0) return { templates, file };
  }
  return { templates: new Map(), file: undefined };
}

const ADDITIONAL = "additional_chat_templates";
const TOOL_USE = "tool_use.jinja";

/** One template a file, which is called as the template is. */
function readAdditional(folder: ModelFolder): Map<string, string> {
  if (!folder.has(ADDITIONAL)) return new Map();
  const inner = folder.subfolder(ADDITIONAL);
  const names = inner.names((name) => name.endsWith(".jinja"));
  return new Map(
    names.map((name) => [name.slice(0, -".jinja".length), inner.readText(name)]),
  );
}

/** One template, or several with names. */
function readTemplates(file: string, value: unknown): ReadonlyMap<string, string> {
  if (value === undefined || value === null) return new Map();
  if (typeof value === "string") return new Map([["default", value]]);
  if (!Array.isArray(value)) {
    throw new CheckpointError(
      file,
      `Cannot use chat_template of "${file}": it must be a string or a list of named templates`,
    );
  }
  const templates = new Map<string, string>();
  for (const entry of value) {
    if (
      !isRecord(entry) || typeof entry["name"] !== "string" || typeof entry["template"] !== "string"
    ) {
      throw new CheckpointError(
        file,
        `Cannot use chat_template of "${file}": each entry must have a name and a template`,
      );
    }
    if (templates.has(entry["name"])) {
      throw new CheckpointError(
        file,
        `Cannot use chat_template of "${file}": it has two templates of the name ` +
          JSON.stringify(entry["name"]),
      );
    }
    templates.set(entry["name"], entry["template"]);
  }
  return templates;
}
