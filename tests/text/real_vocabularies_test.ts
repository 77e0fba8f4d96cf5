/**
 * Vocabularies of real models against ids that the Rust library `tokenizers` 0.23.3 gave: from the
 * tokenizer.json, and from a GGUF file that is written here out of the same vocabulary.
 */

import { assertEquals } from "@std/assert";
import { FileSource } from "../../lib/models/formats/byte_source.ts";
import { readGgufHeader } from "../../lib/models/formats/gguf.ts";
import { decodeWhole, Detokenizer } from "../../lib/text/detokenizer.ts";
import { Tokenizer } from "../../lib/text/tokenizer.ts";
import { ggufBytes, type GgufEntry } from "../helpers/gguf_writer.ts";
import { minilmTest } from "../helpers/minilm.ts";
import {
  readTokenizerFiles,
  type TokenizerFiles,
  vocabularyTest,
} from "../helpers/real_vocabularies.ts";
import { modelTest } from "../helpers/smollm2.ts";

const golden: {
  readonly texts: readonly string[];
  readonly vocabularies: Readonly<Record<string, readonly (readonly number[])[]>>;
} = JSON.parse(
  Deno.readTextFileSync(new URL("../golden/tokenizers/real.json", import.meta.url)),
);

/** Published with the packages' descriptions: the ids of one text in four vocabularies. */
const HELLO = "Hello world! 안녕하세요 🚀 don't 12345";

/** Encoding gives the expected ids, and decoding them at once, in one go and by pieces the same. */
function checkVocabulary(tokenizer: Tokenizer, name: string): void {
  golden.texts.forEach((text, index) => {
    const expected = withoutSecondBegin(golden.vocabularies[name]?.[index] ?? [], tokenizer, text);
    const ids = tokenizer.encode(text, { addSpecialTokens: true });
    assertEquals(ids, expected, `${name}: ${JSON.stringify(text)}`);
    const options = { promptIds: [], skipSpecialTokens: false };
    const whole = decodeWhole(tokenizer, ids, options);
    assertEquals(whole, tokenizer.decode(ids, options), `${name}: ${JSON.stringify(text)}`);
    const streamed = new Detokenizer(tokenizer, options);
    assertEquals(ids.map((id) => streamed.push([id])).join("") + streamed.finish(), whole);
  });
}

/** The Rust library doubles a begin token that the text carries; here that is left out. */
function withoutSecondBegin(
  ids: readonly number[],
  { bosTokenId, bosToken }: Tokenizer,
  text: string,
): readonly number[] {
  const doubled = bosToken !== undefined && text.startsWith(bosToken) && ids[1] === bosTokenId &&
    ids[0] === bosTokenId;
  return doubled ? ids.slice(1) : ids;
}

const direct = ({ json, config }: TokenizerFiles) =>
  Tokenizer.fromHuggingFace(json, config, "tokenizer.json");

/** Through a real file, so that the reader of GGUF metadata has its part. */
function throughGguf(entries: readonly (readonly [string, GgufEntry])[]): Tokenizer {
  const path = Deno.makeTempFileSync({ suffix: ".gguf" });
  try {
    Deno.writeFileSync(path, ggufBytes(entries, []));
    using source = new FileSource(path);
    return Tokenizer.fromGguf(readGgufHeader(source).metadata, path);
  } finally {
    Deno.removeSync(path);
  }
}

interface Added {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

/** The entries that all kinds have, as a converter writes them. */
function commonEntries(
  { json, config }: TokenizerFiles,
  spell: (token: string) => string = (token) => token,
): { entries: (readonly [string, GgufEntry])[]; tokens: string[]; types: number[] } {
  const { vocab } = json["model"] as { readonly vocab: Readonly<Record<string, number>> };
  const added = json["added_tokens"] as readonly Added[];
  const count = 1 + [...Object.values(vocab), ...added.map(({ id }) => id)]
    .reduce((largest, id) => Math.max(largest, id), 0);
  const tokens = Array.from({ length: count }, (_, id) => `[PAD${id}]`);
  const types = new Array<number>(count).fill(5);
  for (const [token, id] of Object.entries(vocab)) {
    tokens[id] = spell(token);
    types[id] = /^<0x[0-9A-F]{2}>$/.test(token) ? 6 : 1;
  }
  for (const { id, content, special } of added) {
    tokens[id] = special ? content : content.replaceAll("▁", " ");
    types[id] = special ? 3 : 4;
  }
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const roles = [["bos_token", "bos"], ["eos_token", "eos"], ["unk_token", "unknown"]] as const;
  const entries = roles.flatMap(([name, role]): (readonly [string, GgufEntry])[] => {
    const value = config[name];
    const id = typeof value === "string" ? ids.get(value) : undefined;
    return id === undefined
      ? []
      : [[`tokenizer.ggml.${role}_token_id`, { type: "u32", value: id }]];
  });
  return { entries, tokens, types };
}

function listEntries(
  model: string,
  { entries, tokens, types }: ReturnType<typeof commonEntries>,
): (readonly [string, GgufEntry])[] {
  return [
    ["tokenizer.ggml.model", { type: "string", value: model }],
    ["tokenizer.ggml.tokens", { type: "strings", value: tokens }],
    ["tokenizer.ggml.token_type", { type: "i32s", value: types }],
    ...entries,
  ];
}

function mergesOf({ json }: TokenizerFiles): [string, string][] {
  const { merges } = json["model"] as { readonly merges: readonly (string | [string, string])[] };
  return merges.map((merge) =>
    typeof merge === "string" ? merge.split(" ") as [string, string] : merge
  );
}

/** Byte-level BPE: merges as texts. */
function byteLevelGguf(files: TokenizerFiles, pre: string): Tokenizer {
  return throughGguf([
    ...listEntries("gpt2", commonEntries(files)),
    ["tokenizer.ggml.pre", { type: "string", value: pre }],
    ["tokenizer.ggml.merges", {
      type: "strings",
      value: mergesOf(files).map((merge) => merge.join(" ")),
    }],
  ]);
}

/** Scores say in which order pieces come to be. */
function scoredGguf(files: TokenizerFiles): Tokenizer {
  const common = commonEntries(files);
  const ranks = new Map<string, number>();
  mergesOf(files).forEach((merge, rank) => {
    const piece = merge.join("");
    if (!ranks.has(piece)) ranks.set(piece, rank);
  });
  const scores = common.tokens.map((token) => -(ranks.get(token) ?? 0));
  return throughGguf([
    ...listEntries("llama", common),
    ["tokenizer.ggml.scores", { type: "f32s", value: scores }],
    ["tokenizer.ggml.add_space_prefix", { type: "bool", value: 0 }],
  ]);
}

/** WordPiece: beginnings of words are marked in place of continuations. */
function wordPieceGguf(files: TokenizerFiles): Tokenizer {
  const spell = (token: string) => token.startsWith("##") ? token.slice(2) : `▁${token}`;
  return throughGguf([
    ...listEntries("bert", commonEntries(files, spell)),
    ["tokenizer.ggml.cls_token_id", { type: "u32", value: 101 }],
    ["tokenizer.ggml.seperator_token_id", { type: "u32", value: 102 }],
  ]);
}

function helloTest(vocabulary: string, ids: readonly number[]): void {
  vocabularyTest(vocabulary, `${vocabulary} gives the published ids of a text`, (files) => {
    assertEquals(direct(files).encode(HELLO, { addSpecialTokens: true }), [...ids]);
  });
}

// deno-fmt-ignore
helloTest("qwen3", [9707,1879,0,95170,144370,91145,11162,248,222,1513,944,220,16,17,18,19,20]);
// deno-fmt-ignore
helloTest("llama3_1", [128000,9906,1917,0,96270,124409,11410,248,222,1541,956,220,4513,1774]);
// deno-fmt-ignore
helloTest("gptoss", [13225,2375,0,24497,171731,169883,222,4128,220,7633,2548]);
// deno-fmt-ignore
helloTest("gemma3", [2,9259,1902,236888,83732,236743,242015,1537,236789,236745,236743,236770,
  236778,236800,236812,236810]);

for (const [name, pre] of [["qwen3", "qwen2"], ["llama3_1", "llama-bpe"], ["gptoss", "gpt-4o"]]) {
  vocabularyTest(name as string, `${name} is exact from its tokenizer.json`, (files) => {
    checkVocabulary(direct(files), name as string);
  });
  vocabularyTest(name as string, `${name} is exact from a GGUF file`, (files) => {
    checkVocabulary(byteLevelGguf(files, pre as string), name as string);
  });
}

vocabularyTest("gemma3", "gemma3 is exact from its tokenizer.json", (files) => {
  checkVocabulary(direct(files), "gemma3");
});

vocabularyTest("gemma3", "gemma3 is exact from a GGUF file with scores", (files) => {
  checkVocabulary(scoredGguf(files), "gemma3");
});

modelTest("SmolLM2 is exact from its GGUF file", (path) => {
  using source = new FileSource(path);
  checkVocabulary(Tokenizer.fromGguf(readGgufHeader(source).metadata, path), "smollm2");
});

minilmTest("MiniLM is exact from its tokenizer.json", (folder) => {
  checkVocabulary(direct(readTokenizerFiles(folder)), "minilm");
});

minilmTest("MiniLM is exact from a GGUF file", (folder) => {
  checkVocabulary(wordPieceGguf(readTokenizerFiles(folder)), "minilm");
});
