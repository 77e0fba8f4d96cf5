import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import { BYTE_CHARACTERS } from "../../lib/text/byte_alphabet.ts";
import { Tokenizer } from "../../lib/text/tokenizer.ts";
import { jsonOfVocabularyFiles, type VocabularyFiles } from "../../lib/text/vocabulary_files.ts";
import { minilmTest } from "../helpers/minilm.ts";
import { TEXT_PIECES, withRandom } from "./vocabularies.ts";

const bare = { addSpecialTokens: false };
const framed = { addSpecialTokens: true };

function load(files: VocabularyFiles, config: Record<string, unknown> = {}): Tokenizer {
  return Tokenizer.fromHuggingFace(jsonOfVocabularyFiles(files, config), config, files.file);
}

const wordPiece = (vocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nplay\n##ing\nball\n"): VocabularyFiles => ({
  kind: "wordPiece",
  vocab,
  file: "vocab.txt",
});

const TOKENS = ["<s>", "</s>", ...BYTE_CHARACTERS, "he", "ll", "hell", "12", "<mask>"];

function byteLevel(changes: Partial<Extract<VocabularyFiles, { kind: "byteLevel" }>> = {}) {
  return {
    kind: "byteLevel",
    vocab: Object.fromEntries(TOKENS.map((token, id) => [token, id])),
    file: "vocab.json",
    merges: "#version: 0.2\nh e\nl l\nhe ll\n1 2\n",
    mergesFile: "merges.txt",
    addedTokens: { "<mask>": TOKENS.length - 1 },
    modelType: "roberta",
    ...changes,
  } as const;
}

Deno.test("A vocab.txt is as good as the tokenizer.json that is made of it", () => {
  const tokenizer = load(wordPiece());
  assertEquals(tokenizer.encode("Playing ball?", framed), [2, 4, 5, 6, 1, 3]);
  assertEquals(tokenizer.encode("[SEP]", bare), [3]);
  assertEquals(load(wordPiece(), { do_lower_case: false }).encode("Play play", bare), [1, 4]);
});

minilmTest("MiniLM's vocab.txt gives the same ids as its tokenizer.json", (folder) => {
  const json = JSON.parse(Deno.readTextFileSync(`${folder}/tokenizer.json`));
  const config = JSON.parse(Deno.readTextFileSync(`${folder}/tokenizer_config.json`));
  const direct = Tokenizer.fromHuggingFace(json, config, "tokenizer.json");
  const tokens: [string, number][] = Object.entries(json.model.vocab);
  const vocab = tokens.toSorted((a, b) => a[1] - b[1]).map(([token]) => token).join("\n");
  const rebuilt = load(wordPiece(`${vocab}\n`), config);
  withRandom((random) => {
    for (let run = 0; run < 100; run++) {
      const text = Array.from({ length: 6 }, () => random.pick(TEXT_PIECES)).join(" ");
      assertEquals(rebuilt.encode(text, framed), direct.encode(text, framed), text);
    }
  });
});

Deno.test("vocab.json and merges.txt are cut as the class or the model type says", () => {
  const id = (token: string) => TOKENS.indexOf(token);
  const roberta = load(byteLevel());
  assertEquals(roberta.encode("hell12<mask>", framed), [
    0,
    id("hell"),
    id("12"),
    id("<mask>"),
    1,
  ]);
  assertEquals(roberta.encodePair([5], [6]).ids, [0, 5, 1, 1, 6, 1]);
  const qwen = load(byteLevel({ modelType: "qwen3" }));
  assertEquals(qwen.encode("hell12", framed), [id("hell"), id("1"), id("2")]);
  const named = load(byteLevel({ modelType: "x" }), { tokenizer_class: "GPT2TokenizerFast" });
  assertEquals(named.encode("12", framed), [id("12")]);
});

Deno.test("Damaged vocabulary files are refused, naming file, line and value", () => {
  const cases: [VocabularyFiles, Record<string, unknown>, string][] = [
    [wordPiece("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\na\n"), {}, 'lines 5 and 6 both are "a"'],
    [wordPiece("[PAD]\n[UNK]\n[CLS]\n"), {}, 'no line "[SEP]"'],
    [wordPiece(), { do_lower_case: "yes" }, '"do_lower_case" of its configuration is "yes"'],
    [byteLevel({ vocab: { a: "1" } }), {}, 'the id of "a" is "1"'],
    [byteLevel({ vocab: [] }), {}, "must be an object of tokens"],
    [byteLevel({ merges: "h e\nhel\n" }), {}, 'line 2 is "hel"'],
    [byteLevel({ modelType: "klingon" }), {}, '"klingon" cuts texts is not known'],
    [byteLevel(), { added_tokens_decoder: { x: { content: "y" } } }, 'entry "x"'],
    [
      byteLevel(),
      { added_tokens_decoder: { "99": { content: "y", single_word: true } } },
      'entry "99" has "single_word" true',
    ],
    [byteLevel(), { bos_token: "<begin>" }, 'no "<begin>"'],
  ];
  for (const [files, config, says] of cases) {
    const error = assertThrows(() => load(files, config), CheckpointError);
    assertStringIncludes(error.message, says);
  }
});
