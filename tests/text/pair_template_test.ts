import { assertEquals, assertThrows } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import { Tokenizer } from "../../lib/text/tokenizer.ts";
import { tinyTokenizerConfig, tinyTokenizerJson } from "../helpers/tiny_tokenizer_files.ts";
import { wordPieceJson } from "./vocabularies.ts";

const bare = { addSpecialTokens: false };

function withTemplate(pair: readonly unknown[], ids: Record<string, number>): Tokenizer {
  const special_tokens = Object.fromEntries(
    Object.entries(ids).map(([token, id]) => [token, { id: token, ids: [id], tokens: [token] }]),
  );
  const single = [{ Sequence: { id: "A", type_id: 0 } }];
  const json = {
    ...tinyTokenizerJson(),
    post_processor: { type: "TemplateProcessing", single, pair, special_tokens },
  };
  return Tokenizer.fromHuggingFace(json, tinyTokenizerConfig(), "tokenizer.json");
}

const special = (id: string, type_id: number) => ({ SpecialToken: { id, type_id } });
const text = (id: string, type_id: number) => ({ Sequence: { id, type_id } });

Deno.test("A pair has the special tokens and the segments that the tokenizer's file gives it", () => {
  const tokenizer = withTemplate([
    special("<|im_start|>", 0),
    text("A", 0),
    special("<|im_end|>", 0),
    special("<|im_end|>", 1),
    text("B", 1),
    special("<|im_end|>", 1),
  ], { "<|im_start|>": 1, "<|im_end|>": 2 });
  const [first, second] = [tokenizer.encode("the cat", bare), tokenizer.encode("dog", bare)];
  const { ids, typeIds } = tokenizer.encodePair(first, second);
  assertEquals(ids, [1, ...first, 2, 2, ...second, 2]);
  assertEquals(typeIds, [0, ...first.map(() => 0), 0, 1, ...second.map(() => 1), 1]);
});

Deno.test("A pair keeps its special tokens where a text is empty", () => {
  const tokenizer = withTemplate(
    [text("A", 0), special("<|im_end|>", 0), text("B", 1), special("<|im_end|>", 1)],
    { "<|im_end|>": 2 },
  );
  assertEquals(tokenizer.encodePair([], []), { ids: [2, 2], typeIds: [0, 1] });
  assertEquals(tokenizer.encodePair([], [7]), { ids: [2, 7, 2], typeIds: [0, 1, 1] });
});

Deno.test("A pair without a rule for it is one text after the other", () => {
  const json = { ...wordPieceJson(), post_processor: null };
  const tokenizer = Tokenizer.fromHuggingFace(json, { unk_token: "[UNK]" }, "tokenizer.json");
  assertEquals(tokenizer.encodePair([3, 4], [5]), { ids: [3, 4, 5], typeIds: [0, 0, 0] });
});

Deno.test("A tokenizer whose pairs drop a text is refused when a pair is asked for", () => {
  const tokenizer = withTemplate([text("A", 0), special("<|im_end|>", 0)], { "<|im_end|>": 2 });
  assertThrows(() => tokenizer.encodePair([5], [6]), CheckpointError, "must keep both texts");
});
