/** The tokenizer on another thread: the same tokens, fair turns, limits, and an end to waiting. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { ClosedError, InvalidParameterError } from "../../lib/base/errors.ts";
import { ALLOWANCE_MAX, BackgroundTokenizer } from "../../lib/text/background_tokenizer.ts";
import { forcedTokenIds } from "../../lib/text/forced_text.ts";
import { Tokenizer } from "../../lib/text/tokenizer.ts";
import { partsOf, TokenizerParts } from "../../lib/text/tokenizer_parts.ts";
import { type TokenizerResult, TokenizerThread } from "../../lib/text/tokenizer_thread.ts";
import {
  byteLevelMetadata,
  type Random,
  sentencePieceJson,
  TEXT_PIECES,
  withRandom,
  wordPieceJson,
} from "./vocabularies.ts";

const TOKENIZERS: ReadonlyMap<string, Tokenizer> = new Map([
  ["byte level", Tokenizer.fromGguf(byteLevelMetadata(), "tiny.gguf")],
  ["SentencePiece", Tokenizer.fromHuggingFace(sentencePieceJson(), {}, "tokenizer.json")],
  ["WordPiece", Tokenizer.fromHuggingFace(wordPieceJson(), {}, "tokenizer.json")],
]);
const byteLevel = TOKENIZERS.get("byte level") as Tokenizer;
const PLAIN = { addSpecialTokens: false };

function someText({ below, pick }: Random, most: number): string {
  return Array.from({ length: below(most) }, () => pick(TEXT_PIECES)).join("");
}

function idsOf(result: TokenizerResult): number[] {
  if (result.kind !== "ids") throw new Error(`A ${result.kind} came`);
  return [...result.ids];
}

for (const [name, tokenizer] of TOKENIZERS) {
  Deno.test(`The thread gives the tokens that the calling thread gives: ${name}`, async () => {
    using thread = new TokenizerThread(tokenizer);
    const texts = ["", "a", "a".repeat(20_000), " ".repeat(3000), "👩‍👩‍👧".repeat(500), "half \ud83d"];
    withRandom((random) => {
      for (let i = 0; i < 100; i++) texts.push(someText(random, 40));
      texts.push(someText(random, 10_000));
    });
    for (const text of texts) {
      for (const addSpecialTokens of [false, true]) {
        const expected = tokenizer.encode(text, { addSpecialTokens });
        const ids = idsOf(await thread.ask({ kind: "encode", text, addSpecialTokens }));
        assertEquals(ids, expected, JSON.stringify(text.slice(0, 200)));
        const skipSpecialTokens = addSpecialTokens;
        const request = { kind: "decode", ids: Int32Array.from(ids), skipSpecialTokens } as const;
        const decoded = tokenizer.decode(ids, { skipSpecialTokens });
        assertEquals(await thread.ask(request), { kind: "text", text: decoded });
      }
    }
  });
}

Deno.test("A tokenizer's source arrives whole, whatever its tokens are called", () => {
  const vocab = Object.fromEntries([["__proto__", 0], ["7", 1], ["constructor", 2]]);
  for (const merges of [undefined, [], ["a b"]]) {
    for (const entries of [vocab, [["a", -1], ["b", -2]]]) {
      const model = { type: "X", vocab: entries, ...(merges === undefined ? {} : { merges }) };
      const source = { json: { model, decoder: null }, config: { eos_token: "a" }, vocabSize: 9 };
      const parts = new TokenizerParts();
      for (const part of partsOf(source, "file")) parts.add(structuredClone(part));
      assertEquals(parts.finish(), { source, file: "file" });
    }
  }
});

Deno.test("A forced text is spelled the same, and a refusal keeps its class", async () => {
  for (
    const [name, unit] of [["byte level", "hello <|im_end|> 서울 "], ["SentencePiece", "ab a "]]
  ) {
    const tokenizer = TOKENIZERS.get(name as string) as Tokenizer;
    using background = new BackgroundTokenizer(tokenizer);
    const text = (unit as string).repeat(2000);
    const ids = background.forcedTokenIds(text, [70, 71], {});
    assert(ids instanceof Promise, "a long text goes away");
    assertEquals(await ids, forcedTokenIds(text, tokenizer, [70, 71]));
  }
  using background = new BackgroundTokenizer(byteLevel);
  const text = "half \ud83d".repeat(3000);
  const error = await assertRejects(
    async () => await background.forcedTokenIds(text, [], {}),
    InvalidParameterError,
    "Cannot use forcedOutput",
  );
  assertEquals([error.parameter, error.value], ["forcedOutput", text]);
});

Deno.test("Short texts are done at once until the allowance is used up, long ones never", async () => {
  using background = new BackgroundTokenizer(byteLevel);
  const long = "a".repeat(ALLOWANCE_MAX + 1);
  const away = background.encode(long, PLAIN);
  assert(away instanceof Promise);
  assertEquals((await away).length, long.length);

  const text = "hello ".repeat(400);
  const expected = byteLevel.encode(text, PLAIN);
  const answers = Array.from({ length: 60 }, () => background.encode(text, PLAIN));
  assert(Array.isArray(answers[0]), "the first is done at once");
  assert(answers.some((answer) => answer instanceof Promise), "144,000 characters are too many");
  for (const answer of answers) assertEquals(await answer, expected);
});

Deno.test("Whoever asks a hundred times does not keep another waiting for all of them", async () => {
  using thread = new TokenizerThread(byteLevel);
  const [many, one] = [new AbortController(), new AbortController()];
  let done = 0;
  const request = { kind: "encode", text: "hello ".repeat(500), addSpecialTokens: false } as const;
  const all = Array.from(
    { length: 100 },
    () => thread.ask(request, many.signal).then(() => void done++),
  );
  await thread.ask(request, one.signal);
  assert(done <= 2, `${done} came first`);
  await Promise.all(all);
  assertEquals(done, 100);
});

Deno.test("Whoever leaves does not wait: neither in the queue nor while the text is worked on", async () => {
  using thread = new TokenizerThread(byteLevel);
  const reason = new DOMException("gone", "AbortError");
  const client = new AbortController();
  const text = "a".repeat(300_000);
  const asked = [1, 2, 3].map(() =>
    thread.ask({ kind: "encode", text, addSpecialTokens: false }, client.signal)
      .then(() => "done", (error) => error)
  );
  client.abort(reason);
  assertEquals(await Promise.all(asked), [reason, reason, reason]);
  const late = await thread.ask(
    { kind: "encode", text: "a", addSpecialTokens: false },
    client.signal,
  )
    .catch((error) => error);
  assertEquals(late, reason);
  const request = { kind: "encode", text: "hello", addSpecialTokens: false } as const;
  assertEquals(idsOf(await thread.ask(request)), byteLevel.encode("hello", PLAIN));
});

Deno.test("A text that takes too long is refused, and the next one gets a new thread", async () => {
  using thread = new TokenizerThread(byteLevel, { timeoutMs: 200 });
  const request = { kind: "encode", text: "a".repeat(8_000_000), addSpecialTokens: false } as const;
  const slow = thread.ask(request);
  const next = thread.ask({ ...request, text: "hello" });
  const error = await assertRejects(() => slow, InvalidParameterError, "longer than 200 ms");
  assertEquals(error.parameter, "prompt");
  assertEquals(idsOf(await next), byteLevel.encode("hello", PLAIN));
});

Deno.test("Closing rejects what waits and what comes later", async () => {
  const thread = new TokenizerThread(byteLevel);
  const request = { kind: "encode", text: "hello", addSpecialTokens: false } as const;
  const asked = [thread.ask(request), thread.ask(request)];
  thread.close();
  for (const one of [...asked, thread.ask(request)]) await assertRejects(() => one, ClosedError);
});

Deno.test("An idle thread ends by itself, and another one starts when it is needed", async () => {
  using thread = new TokenizerThread(byteLevel, { idleMs: 1 });
  const request = { kind: "encode", text: "hello", addSpecialTokens: false } as const;
  const expected = byteLevel.encode("hello", PLAIN);
  for (let round = 0; round < 2; round++) {
    assertEquals(idsOf(await thread.ask(request)), expected);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
});
