import { assertEquals, assertInstanceOf, assertStringIncludes, assertThrows } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import { FileSource } from "../../lib/models/formats/byte_source.ts";
import { readGgufHeader } from "../../lib/models/formats/gguf.ts";
import { tokenizerFromGguf } from "../../lib/text/gguf_tokenizer.ts";
import { Tokenizer } from "../../lib/text/tokenizer.ts";
import { modelTest } from "../helpers/smollm2.ts";
import {
  BYTE_0,
  BYTE_LEVEL_SIZE,
  byteLevelMetadata,
  sentencePieceJson,
  TEXT_PIECES,
  withRandom,
  wordPieceJson,
} from "./vocabularies.ts";

interface Golden {
  readonly tokenizer: readonly { text: string; ids: number[]; decoded: string }[];
  readonly prompt_logprobs: readonly { text: string; ids: number[] }[];
}

const golden: Golden = JSON.parse(
  Deno.readTextFileSync(new URL("../golden/smollm2/golden.json", import.meta.url)),
);

function loadSmolLM2(path: string): Tokenizer {
  using source = new FileSource(path);
  return Tokenizer.fromGguf(readGgufHeader(source).metadata, path);
}

const byteLevel = (changes?: Record<string, unknown>) =>
  Tokenizer.fromGguf(byteLevelMetadata(changes), "tiny.gguf");

const sentencePiece = () =>
  Tokenizer.fromHuggingFace(
    sentencePieceJson(),
    { bos_token: { content: "<s>" }, eos_token: "</s>" },
    "tokenizer.json",
  );

const bare = { addSpecialTokens: false };
const framed = { addSpecialTokens: true };
const shown = { skipSpecialTokens: false };

modelTest("Tokenizer gives SmolLM2's ids and texts exactly", (path) => {
  const tokenizer = loadSmolLM2(path);
  for (const { text, ids, decoded } of golden.tokenizer) {
    assertEquals(tokenizer.encode(text, bare), ids, text);
    assertEquals(tokenizer.decode(ids, { skipSpecialTokens: true }), decoded);
  }
  for (const { text, ids } of golden.prompt_logprobs) {
    assertEquals(tokenizer.encode(text, framed), ids, text); // the file asks for no special token
  }
});

modelTest("Tokenizer knows SmolLM2's special tokens", (path) => {
  const tokenizer = loadSmolLM2(path);
  assertEquals(tokenizer.vocabSize, 49152);
  assertEquals(tokenizer.bosTokenId, 1);
  assertEquals(tokenizer.eosTokenId, 2);
  assertEquals(tokenizer.endTokenIds, [2, 0]);
  assertEquals(tokenizer.bosToken, "<|im_start|>");
  assertEquals(tokenizer.specialTokens["eos_token"], "<|im_end|>");
  assertEquals(tokenizer.padToken, "<|im_end|>");
  assertEquals(tokenizer.specialTokens["unk_token"], "<|endoftext|>");
  const ids = Array.from({ length: tokenizer.vocabSize }, (_, id) => id);
  assertEquals(ids.filter((id) => tokenizer.isSpecial(id)), ids.slice(0, 17));
  assertEquals(tokenizer.tokenId("<|im_end|>"), 2);
});

modelTest("Tokenizer brings every text back from SmolLM2's ids", (path) => {
  const tokenizer = loadSmolLM2(path);
  withRandom((random) => {
    for (let run = 0; run < 300; run++) {
      const text = Array.from({ length: random.below(12) }, () => random.pick(TEXT_PIECES)).join(
        "",
      );
      const ids = tokenizer.encode(text, bare);
      assertEquals(tokenizer.decode(ids, shown), text);
    }
  });
});

modelTest("Tokenizer spells the bytes of SmolLM2's tokens as they decode", (path) => {
  const tokenizer = loadSmolLM2(path);
  for (let id = 0; id < tokenizer.vocabSize; id += 7) {
    const bytes = tokenizer.tokenBytes(id);
    const decoded = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    assertEquals(tokenizer.decode([id], shown), decoded);
    assertEquals(tokenizer.tokenText(id), decoded.includes("\ufffd") ? "" : decoded);
  }
});

Deno.test("Tokenizer rebuilt from GGUF merges, and splits digits and spaces as smollm does", () => {
  const tokenizer = byteLevel();
  const strings = (text: string) =>
    tokenizer.encode(text, bare).map((id) => tokenizer.tokenString(id));
  assertEquals(strings("hello hello"), ["hello", "Ġhello"]);
  assertEquals(strings("12"), ["1", "2"]); // the merge "1 2" never sees them together
  assertEquals(strings("   x"), ["ĠĠ", "Ġ", "x"]);
  assertEquals(strings("e\u0301"), ["e", "Ìģ"]);
  assertEquals(tokenizer.encode("\n", bare), [BYTE_0 + 10]);
});

Deno.test("Tokenizer rebuilt from GGUF honours the rules that tokenizer.ggml.pre names", () => {
  const pieces = (pre: string, text: string) => {
    const tokenizer = byteLevel({ "tokenizer.ggml.pre": pre });
    return tokenizer.encode(text, bare).map((id) => tokenizer.tokenString(id));
  };
  assertEquals(pieces("gpt-2", "12"), ["12"]);
  assertEquals(pieces("llama-bpe", "12"), ["12"]);
  assertEquals(pieces("qwen2", "12"), ["1", "2"]);
  assertEquals(pieces("qwen2", "\u0065\u0301"), ["Ã", "©"]); // composed first
  assertEquals(pieces("gpt-4o", "hello"), ["hello"]);
  assertEquals(pieces("gpt-4o", "heLl"), ["he", "L", "l"]);
  assertEquals(pieces("tekken", "12"), ["1", "2"]);
});

Deno.test("Tokenizer rebuilt from GGUF puts control and user-defined tokens in both lists", () => {
  const { json } = tokenizerFromGguf(byteLevelMetadata(), "tiny.gguf") as {
    json: {
      added_tokens: { id: number; content: string; special: boolean; normalized: boolean }[];
      model: { vocab: Record<string, number>; merges: string[][]; unk_token: unknown };
    };
  };
  assertEquals(
    json.added_tokens.map(({ id, content, special }) => [id, content, special]),
    [[0, "<|endoftext|>", true], [1, "<|im_start|>", true], [2, "<|im_end|>", true], [
      3,
      "<tool>",
      false,
    ]],
  );
  for (const { id, content } of json.added_tokens) assertEquals(json.model.vocab[content], id);
  assertEquals(json.model.unk_token, null);
  assertEquals(json.model.merges[0], ["h", "e"]);
  assertEquals("[PAD0]" in json.model.vocab, false);
});

Deno.test("Tokenizer rebuilt from GGUF keeps the ids of fillers, which have no text", () => {
  const tokenizer = byteLevel();
  const filler = BYTE_LEVEL_SIZE - 1;
  assertEquals(tokenizer.vocabSize, BYTE_LEVEL_SIZE);
  assertEquals(tokenizer.tokenString(filler), "");
  assertEquals(tokenizer.tokenText(filler), "");
  assertEquals(tokenizer.tokenBytes(filler), new Uint8Array());
  assertEquals(tokenizer.decode([filler, BYTE_0 + 65, 999_999], shown), "A");
  assertEquals(tokenizer.encode("[PAD1]", bare).includes(filler), false);
});

Deno.test("Tokenizer rebuilt from GGUF takes a token named like an object's own property", () => {
  const metadata = byteLevelMetadata();
  const tokens = [...metadata.get("tokenizer.ggml.tokens") as string[], "__proto__"];
  const types = [...metadata.get("tokenizer.ggml.token_type") as number[], 4];
  metadata.set("tokenizer.ggml.tokens", tokens).set("tokenizer.ggml.token_type", types);
  const tokenizer = Tokenizer.fromGguf(metadata, "tiny.gguf");
  assertEquals(tokenizer.encode("__proto__", bare), [BYTE_LEVEL_SIZE]);
});

Deno.test("Tokenizer rebuilt from GGUF ends answers at all ids and texts that end them", () => {
  assertEquals(byteLevel().endTokenIds, [2, 0]);
  assertEquals(byteLevel({ "tokenizer.ggml.eot_token_id": 3 }).endTokenIds, [2, 3, 0]);
  const renamed = (names: string[]) => {
    const tokens = [...byteLevelMetadata().get("tokenizer.ggml.tokens") as string[]];
    tokens.splice(0, names.length, ...names);
    return byteLevel({ "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.eos_token_id": 0 });
  };
  assertEquals(renamed(["<|return|>", "<|call|>", "<|end|>"]).endTokenIds, [0, 1]);
  assertEquals(renamed(["<|x|>", "<|y|>", "<|end|>"]).endTokenIds, [0, 2]);
});

Deno.test("Tokenizer adds the begin and end tokens that a GGUF file asks for", () => {
  const h = BYTE_0 + 104;
  assertEquals(byteLevel().encode("h", framed), [h]);
  const both = byteLevel({
    "tokenizer.ggml.add_bos_token": true,
    "tokenizer.ggml.add_eos_token": true,
  });
  assertEquals(both.encode("h", framed), [1, h, 2]);
  assertEquals(both.encode("h", bare), [h]);
  const llama = byteLevel({
    "tokenizer.ggml.pre": "llama-bpe",
    "tokenizer.ggml.add_bos_token": undefined,
  });
  assertEquals(llama.encode("h", framed), [1, h]); // the default of this kind
});

Deno.test("Tokenizer does not double a begin token that the text carries", () => {
  const tokenizer = byteLevel({ "tokenizer.ggml.add_bos_token": true });
  const h = BYTE_0 + 104;
  assertEquals(tokenizer.encode("<|im_start|>h", framed), [1, h]);
  assertEquals(tokenizer.encode("<|im_start|><|im_start|>h", framed), [1, 1, h]);
  assertEquals(tokenizer.encode("<|im_start|>", framed), [1]);
  assertEquals(tokenizer.encode("", framed), [1]);
  // Where nothing is added, nothing is taken away.
  assertEquals(byteLevel().encode("<|im_start|><|im_start|>h", framed), [1, 1, h]);
});

Deno.test("Tokenizer prefers a whole tokenizer.json inside a GGUF file", () => {
  const metadata = byteLevelMetadata({
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.bos_token_id": undefined,
    "tokenizer.ggml.eos_token_id": undefined,
    "tokenizer.huggingface.json": JSON.stringify(sentencePieceJson()),
  });
  const tokenizer = Tokenizer.fromGguf(metadata, "tiny.gguf");
  assertEquals(tokenizer.isByteLevel, false);
  assertEquals(tokenizer.tokenString(3 + 0x41), "<0x41>");
});

Deno.test("Tokenizer refuses GGUF metadata that it cannot rebuild, naming file and key", () => {
  const tokens = byteLevelMetadata().get("tokenizer.ggml.tokens") as string[];
  const cases: [changes: Record<string, unknown>, says: string][] = [
    [{ "tokenizer.ggml.model": "rwkv" }, "known are gpt2"],
    [{ "tokenizer.ggml.model": undefined }, "tokenizer.ggml.model must be a string"],
    [{ "tokenizer.ggml.pre": "klingon" }, 'is "klingon": known are'],
    [{ "tokenizer.ggml.tokens": undefined }, "tokenizer.ggml.tokens must be a list"],
    [{ "tokenizer.ggml.tokens": [...tokens.slice(1), 5] }, `entry ${tokens.length - 1} is none`],
    [{ "tokenizer.ggml.token_type": [1, 2] }, `must be a list of ${tokens.length} numbers`],
    [{ "tokenizer.ggml.merges": ["a b", "ab"] }, 'holds "ab" at index 1'],
    [{ "tokenizer.ggml.merges": undefined }, "tokenizer.ggml.merges must be a list"],
    [{ "tokenizer.ggml.eos_token_id": 100_000 }, "is 100000: it must be one of"],
    [{ "tokenizer.ggml.bos_token_id": "x" }, "tokenizer.ggml.bos_token_id is x"],
    [{ "tokenizer.ggml.add_bos_token": 1 }, "must be a boolean"],
    [
      { "tokenizer.ggml.add_bos_token": true, "tokenizer.ggml.bos_token_id": undefined },
      "bos_token_id is missing",
    ],
    [{ "tokenizer.huggingface.json": "{" }, "is not JSON"],
    [{ "tokenizer.huggingface.json": 5 }, "tokenizer.huggingface.json must be a string"],
    [
      { "tokenizer.huggingface.json": JSON.stringify(sentencePieceJson()) },
      '"bos_token" of its configuration is "<|im_start|>", which is no token',
    ],
  ];
  for (const [changes, says] of cases) {
    const error = assertThrows(() => byteLevel(changes), CheckpointError);
    assertStringIncludes(error.message, says);
    assertStringIncludes(error.message, '"tiny.gguf"');
    assertEquals(error.file, "tiny.gguf");
  }
});

Deno.test("Tokenizer refuses a malformed tokenizer.json, naming file and field", () => {
  const good = sentencePieceJson();
  const model = good["model"] as Record<string, unknown>;
  const cases: [json: unknown, says: string][] = [
    [null, "must hold a JSON object"],
    [[], "must hold a JSON object"],
    [{}, '"model" must be an object'],
    [{ ...good, model: { ...model, vocab: 7 } }, '"model.vocab" of BPE must be'],
    [{ ...good, model: { ...model, vocab: {} } }, '"model.vocab" must not be empty'],
    [{ ...good, model: { ...model, vocab: { a: -1 } } }, 'entry "a" is -1'],
    [{ ...good, model: { ...model, vocab: { a: 1e12 } } }, "is 1000000000000"],
    [{ ...good, model: { ...model, vocab: [["a", 1]] } }, '"model.vocab" of BPE must be'],
    [{ ...good, model: { type: "Unigram", vocab: [["a", "b"]] } }, '"model.vocab" entry 0'],
    [{ ...good, model: { ...model, merges: {} } }, '"model.merges" must be a list'],
    [{ ...good, model: { ...model, merges: ["ab"] } }, '"model.merges" entry 0 is "ab"'],
    [{ ...good, model: { ...model, merges: [["a"]] } }, '"model.merges" entry 0 is ["a"]'],
    [{ ...good, model: { ...model, merges: ["a\u0000 b"] } }, 'is not in "model.vocab"'],
    [{ ...good, added_tokens: 3 }, '"added_tokens" must be a list'],
    [{ ...good, added_tokens: [null] }, '"added_tokens" entry 0'],
    [{ ...good, added_tokens: [{ id: 1, content: "" }] }, '"content"'],
    [{ ...good, added_tokens: [{ id: "1", content: "x" }] }, 'is "1"'],
    [{ ...good, decoder: 5 }, '"decoder" is 5: it must be null or an object'],
    [{ ...good, decoder: { type: "Telepathy" } }, "Telepathy"],
    [{ ...good, normalizer: { type: "Sequence" } }, '"normalizer.normalizers" is missing'],
    [
      {
        ...good,
        pre_tokenizer: { type: "Split", behavior: "Isolated", pattern: { Regex: "(" } },
      },
      "Cannot build",
    ],
    [{ ...good, post_processor: { type: "TemplateProcessing" } }, '"post_processor.single"'],
    [{ ...good, decoder: { type: "Sequence", decoders: [7] } }, '"decoder.decoders[0]" is 7'],
    [{ ...good, model: { type: "Magic", vocab: {} } }, '"model.type" is "Magic"'],
  ];
  for (const [json, says] of cases) {
    const error = assertThrows(() => Tokenizer.fromHuggingFace(json, {}, "tokenizer.json"));
    assertInstanceOf(error, CheckpointError, JSON.stringify(json)?.slice(0, 80));
    assertStringIncludes(error.message, says);
    assertStringIncludes(error.message, '"tokenizer.json"');
  }
  assertThrows(
    () => Tokenizer.fromHuggingFace(good, { bos_token: 5 }, "tokenizer.json"),
    CheckpointError,
    '"bos_token"',
  );
});

Deno.test("Tokenizer reads a SentencePiece-like tokenizer.json", () => {
  const tokenizer = sentencePiece();
  assertEquals(tokenizer.isByteLevel, false);
  assertEquals(tokenizer.specialTokens, { bos_token: "<s>", eos_token: "</s>" });
  assertEquals(tokenizer.endTokenIds, [2]);
  const ids = tokenizer.encode("ab a", framed);
  assertEquals(ids.map((id) => tokenizer.tokenString(id)), ["<s>", "▁ab", "▁a"]);
  assertEquals(tokenizer.decode(ids, { skipSpecialTokens: true }), "ab a");
  assertEquals(tokenizer.encode("ñ", bare).map((id) => tokenizer.byteValue(id)), [
    undefined,
    0xc3,
    0xb1,
  ]);
});

Deno.test("Tokenizer gives the bytes of tokens of every kind", () => {
  const bytes = (tokenizer: Tokenizer, token: string) =>
    new TextDecoder().decode(tokenizer.tokenBytes(tokenizer.tokenId(token) ?? -1));
  const spm = sentencePiece();
  assertEquals(bytes(spm, "▁ab"), " ab");
  assertEquals(spm.tokenBytes(spm.tokenId("<0xC3>") as number), Uint8Array.of(0xc3));
  assertEquals(spm.tokenText(spm.tokenId("<0xC3>") as number), "");
  assertEquals(spm.tokenText(spm.tokenId("<0x41>") as number), "A");
  const words = Tokenizer.fromHuggingFace(wordPieceJson(), {}, "tokenizer.json");
  assertEquals(bytes(words, "##ing"), "ing");
  assertEquals(bytes(byteLevel(), "Ġhello"), " hello");
  assertEquals(bytes(byteLevel(), "<|im_end|>"), "<|im_end|>");
});

Deno.test("Tokenizer never cleans up spaces and decodes no ids as no text", () => {
  const words = Tokenizer.fromHuggingFace(wordPieceJson(), {}, "tokenizer.json");
  const ids = words.encode("Playing ball, the balls", bare);
  assertEquals(words.decode(ids, shown), "playing ball , the balls");
  assertEquals(words.decode([], shown), "");
  assertEquals(words.decode([1, 2], { skipSpecialTokens: true }), "");
});

Deno.test("Settings of a SentencePiece class decide on the tokens around a text", () => {
  const ids = (config: Record<string, unknown>) =>
    Tokenizer.fromHuggingFace(
      sentencePieceJson(),
      { bos_token: { content: "<s>" }, eos_token: "</s>", ...config },
      "tokenizer.json",
    ).encode("ab", framed);
  const [ab] = sentencePiece().encode("ab", bare) as [number];
  const llama = { tokenizer_class: "LlamaTokenizerFast" };
  assertEquals(ids(llama), [1, ab]); // without settings the file's own rule holds
  assertEquals(ids({ ...llama, add_bos_token: false }), [ab]);
  assertEquals(ids({ ...llama, add_eos_token: true }), [1, ab, 2]);
  assertEquals(ids({ tokenizer_class: "GemmaTokenizer", add_bos_token: false }), [ab]);
  // Other classes keep to the file, whatever their configuration says.
  assertEquals(ids({ tokenizer_class: "Qwen2Tokenizer", add_bos_token: false }), [1, ab]);
  assertEquals(ids({ add_bos_token: false }), [1, ab]);
  for (const wrong of [{ add_bos_token: "yes" }, { add_bos_token: true, bos_token: "<begin>" }]) {
    const error = assertThrows(() => ids({ ...llama, ...wrong }), CheckpointError);
    assertStringIncludes(error.message, '"add_bos_token" is');
  }
});

Deno.test("A WordPiece vocabulary takes rare Chinese characters one by one, as common ones", () => {
  const json = wordPieceJson();
  const normalizer = { ...json["normalizer"] as object, handle_chinese_chars: true };
  const words = Tokenizer.fromHuggingFace({ ...json, normalizer }, {}, "tokenizer.json");
  assertEquals(words.encode("東東ball", bare), [0, 0, 6]);
  assertEquals(words.encode("\u{20000}\u{2a6aa}ball", bare), [0, 0, 6]);
});
