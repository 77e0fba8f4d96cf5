import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { loadSlowEngine, SlowTokenizerError } from "../../lib/text/slow_engine.ts";
import { Tokenizer } from "../../lib/text/tokenizer.ts";
import { wordPieceJson } from "./vocabularies.ts";

/** A package with the same door as the large one; it knows two words. */
const PACKAGE = `data:text/javascript,${
  encodeURIComponent(`
    const IDS = new Map([["the", 8], ["ball", 6], ["[CLS]", 1]]);
    const makeClass = (shift) => class {
      constructor() {
        const call = (text, { text_pair, add_special_tokens, return_tensor }) => {
          if (return_tensor !== false) throw new Error("tensors are not wanted");
          const ids = (t) => t === null ? [] : t.split(" ").map((w) => IDS.get(w) + shift);
          const input_ids = [...(add_special_tokens ? [1] : []), ...ids(text), ...ids(text_pair)];
          return { input_ids, token_type_ids: input_ids.map(() => 0) };
        };
        return Object.assign(call, {
          get_vocab: () => IDS,
          decode: (ids, { clean_up_tokenization_spaces }) =>
            ids.join(clean_up_tokenization_spaces === false ? " " : ""),
        });
      }
    };
    export const PreTrainedTokenizer = makeClass(0);
    export const BertTokenizer = makeClass(-2);
  `)
}`;

const load = async (config: Record<string, unknown>) =>
  Tokenizer.fromHuggingFace(wordPieceJson(), config, "x.json", await loadSlowEngine(PACKAGE));

Deno.test("In slow mode texts are cut by the other package, by the class that the file names", async () => {
  const bare = { addSpecialTokens: false };
  assertEquals((await load({})).encode("the ball", bare), [8, 6]);
  assertEquals((await load({})).encode("the ball", { addSpecialTokens: true }), [1, 8, 6]);
  assertEquals((await load({ tokenizer_class: "BertTokenizerFast" })).encode("ball", bare), [4]);
  assertEquals((await load({ tokenizer_class: "Unheard" })).encode("ball", bare), [6]);
  const tokenizer = await load({});
  assertEquals(tokenizer.decode([8, 6, 7], { skipSpecialTokens: false }), "8 6");
  assertEquals(tokenizer.tokenString(6), "ball");
  assertEquals(tokenizer.tokenId("the"), 8);
});

Deno.test("Slow mode without its package says what is missing, and what needs nothing", async () => {
  const specifier = new URL("./no_such_package.js", import.meta.url).href;
  const error = await assertRejects(() => loadSlowEngine(specifier), SlowTokenizerError);
  assertStringIncludes(error.message, specifier);
  assertStringIncludes(error.message, "npm must be reachable");
  assertStringIncludes(error.message, 'tokenizerMode "auto"');
});
