/** A forced output is said word for word, streamed and whole, as the model would have said it. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { InvalidParameterError, LLM, SamplingParams } from "../mod.ts";
import { FileSource } from "../lib/models/formats/byte_source.ts";
import { readGgufHeader } from "../lib/models/formats/gguf.ts";
import { Tokenizer } from "../lib/text/tokenizer.ts";
import { modelTest } from "./helpers/smollm2.ts";
import { collect, tinyTest } from "./helpers/tiny_llm.ts";
import { TEXT_PIECES, withRandom } from "./text/vocabularies.ts";

/** Says texts, whole and in streams; each must come back as it is. */
async function checkRoundTrips(llm: LLM, texts: readonly string[]): Promise<void> {
  const params = texts.map((forcedOutput) =>
    new SamplingParams({ forcedOutput, skipSpecialTokens: false, ignoreEos: true })
  );
  const [outputs, ...streams] = await Promise.all([
    llm.generate(texts.map(() => "the"), params),
    ...params.map((one) => collect(llm.stream("the", one))),
  ]);
  for (const [i, text] of texts.entries()) {
    const [output] = outputs[i]?.outputs ?? [];
    assertEquals([output?.text, output?.finishReason], [text, "stop"]);
    const deltas = streams[i] ?? [];
    assertEquals(deltas.map((delta) => delta.text).join(""), text);
    assert(deltas.every((delta) => delta.text.isWellFormed()));
    assertEquals(deltas.flatMap((delta) => delta.tokenIds), output?.tokenIds);
  }
}

function readTokenizer(path: string): Tokenizer {
  using source = new FileSource(path);
  return Tokenizer.fromGguf(readGgufHeader(source).metadata, path);
}

modelTest("SmolLM2 says every special token and any Unicode it is told to", async (path) => {
  const tokenizer = readTokenizer(path);
  const ids = Array.from({ length: tokenizer.vocabSize }, (_, id) => id);
  const special = ids.filter((id) => tokenizer.isSpecial(id)).map((id) =>
    tokenizer.tokenString(id)
  );
  assert(special.length >= 15, `${special}`);
  const texts = [
    ...special,
    ...special.map((token) => `a ${token}b`),
    "<|im_start|>assistant\nhi<|im_end|>\n",
    ...TEXT_PIECES,
    "한국어와 emoji 👩‍👩‍👧‍👦🇰🇷, e\u0301, a\u0308\u0323, ᄒ\u1161\u11ab, 𝔘𝔫𝔦",
  ];
  withRandom((random) => {
    for (let round = 0; round < 20; round++) {
      texts.push(
        Array.from({ length: 1 + random.below(5) }, () => random.pick(TEXT_PIECES)).join(""),
      );
    }
  });
  await using llm = await LLM.load(path, { maxModelLength: 256 });
  await checkRoundTrips(llm, texts);
});

tinyTest(
  "A forced output is as long as its text, and over with the first end token",
  async (llm) => {
    const say = async (forcedOutput: string, more = {}) => {
      const { outputs } = await llm.generate("the", new SamplingParams({ forcedOutput, ...more }));
      return outputs[0];
    };
    const long = "the cat sat on the mat and went on sitting there for more than sixteen tokens";
    assertEquals((await say(long))?.text, long);
    const cut = await say(long, { maxTokens: 3 });
    assertEquals([cut?.tokenIds.length, cut?.finishReason], [3, "length"]);
    const ended = await say("hi<|im_end|>");
    assertEquals([ended?.text, ended?.finishReason, ended?.stopReason], ["hi", "stop", null]);
    assertEquals((await say("hi<|im_end|>", { skipSpecialTokens: false }))?.text, "hi<|im_end|>");
    const stopped = await say("one two three", { stop: "two" });
    assertEquals([stopped?.text, stopped?.stopReason], ["one ", "two"]);
  },
);

tinyTest("Forced tokens have the log-probabilities they would have had", async (llm) => {
  const params = new SamplingParams({
    temperature: 0,
    maxTokens: 12,
    ignoreEos: true,
    logprobs: 2,
  });
  const { outputs: [free] } = await llm.generate("the", params);
  assert(free !== undefined);
  const forced = params.clone({ forcedOutput: free.tokenIds, maxTokens: undefined });
  const { outputs: [said] } = await llm.generate("the", forced);
  assertEquals([said?.text, said?.logprobs], [free.text, free.logprobs]);
});

tinyTest("A forced text that the vocabulary cannot spell is refused", async (llm) => {
  await assertRejects(
    () => llm.generate("the", new SamplingParams({ forcedOutput: "서울" })),
    InvalidParameterError,
    "forcedOutput",
  );
});
