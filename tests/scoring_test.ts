/** `score` and `rerank` on an engine that is not there: pairs, prompts, truncation, order, errors. */

import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import {
  ChatTemplateError,
  ContextLengthError,
  InvalidParameterError,
  UnsupportedTaskError,
} from "../mod.ts";
import { PoolingParams } from "../lib/pooling/params.ts";
import { cosine, normalized } from "../lib/pooling/pooler.ts";
import { rerankerPrompt } from "../lib/reranker_prompt.ts";
import { rerank, score, type ScoreOptions } from "../lib/scoring.ts";
import { TextWorker } from "../lib/text/text_worker.ts";
import {
  classifierModel,
  embeddingModel,
  FakePoolingEngine,
  fakeRow,
  generativeModel,
  poolingContext,
} from "./helpers/fake_pooling.ts";

const bare = { addSpecialTokens: false };
const pairs = () => poolingContext(classifierModel(1));
const prompted = (maxLength = 400) =>
  poolingContext(classifierModel(1, { pairs: "prompt" }, { maxLength }));

/** sigmoid of the fake classifier's weights −2, −1, 0, 1. */
function expectedScore(ids: readonly number[]): number {
  const row = fakeRow(ids);
  return 1 / (1 + Math.exp(-(-2 * row[0]! - row[1]! + row[3]!)));
}

Deno.test("Texts are scored one and one, one and each of several, or pair by pair", async () => {
  const context = pairs();
  const scores = async (a: string | string[], b: string | string[]) =>
    (await score(context, a, b)).map(({ outputs }) => outputs.score);
  const [ax, ay, bx, by] = await scores(["a", "a", "b", "b"], ["x", "y", "x", "y"]);
  assertEquals(await scores("a", "x"), [ax]);
  assertEquals(await scores("a", ["x", "y"]), [ax, ay]);
  assertEquals(await scores(["b"], ["x", "y"]), [bx, by]);
  assertEquals(await scores(["a", "b"], ["y", "x"]), [ay, bx]);
  assert(new Set([ax, ay, bx, by]).size === 4);
});

Deno.test("Other numbers of texts are refused", async () => {
  const context = pairs();
  const refused: [string | string[], string | string[], string][] = [
    [["a", "b"], "x", "2 first texts with a single second one"],
    [["a", "b"], ["x", "y", "z"], "different lengths: got 2 and 3"],
    [["a", "b"], ["x"], "different lengths: got 2 and 1"],
    [[], [], "data1 must hold at least one"],
    ["a", [], "data2 must hold at least one"],
  ];
  for (const [a, b, words] of refused) {
    await assertRejects(() => score(context, a, b), InvalidParameterError, words);
  }
  await assertRejects(() => score(context, "a", [7 as never]), TypeError, "data2 must be");
});

Deno.test("A cross-encoder reads both texts as segments, and the second alone is cut", async () => {
  const engine = new FakePoolingEngine();
  const context = poolingContext(classifierModel(1, {}, { maxLength: 12 }), engine);
  const [a, b] = ["the cat", "dogs"].map((text) => context.tokenizer.encode(text, bare));
  const [whole] = await score(context, "the cat", "dogs");
  const ids = [1, ...a!, 2, ...b!, 2];
  assertEquals(whole?.promptTokenIds, ids);
  assertAlmostEquals(whole!.outputs.score, expectedScore(ids), 1e-6);
  assertEquals(engine.requests[0]?.tokenTypeIds, [0, ...a!.map(() => 0), 0, ...b!.map(() => 1), 1]);

  const cut = (truncatePromptTokens: number) =>
    score(context, "the cat", "dogs", new PoolingParams({ truncatePromptTokens }));
  const frame = a!.length + 3;
  for (let room = 0; room <= b!.length; room++) {
    const [output] = await cut(frame + room);
    assertEquals(output?.promptTokenIds, [1, ...a!, 2, ...b!.slice(0, room), 2]);
  }
  await assertRejects(() => cut(frame - 1), InvalidParameterError, "the first text");
  await assertRejects(() => score(context, "the cat", "dogs and dogs"), ContextLengthError);
  const [short] = await score(context, "the cat", "dogs", undefined, {
    maxTokensPerQuery: 1,
    maxTokensPerDoc: 2,
  });
  assertEquals(short?.promptTokenIds, [1, a![0]!, 2, b![0]!, b![1]!, 2]);
});

Deno.test("The reranker's prompt is the model card's, to the byte", () => {
  const prompt = rerankerPrompt({ instruction: "I", query: "Q", document: "D" });
  assertEquals(
    prompt,
    '<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n<Instruct>: I\n<Query>: Q\n<Document>: D<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n',
  );
});

Deno.test("A reranker reads query and document in its prompt, whose frame is never cut", async () => {
  const context = prompted();
  const { tokenizer } = context;
  const instruction = "Given a web search query, retrieve relevant passages that answer the query";
  const question = { instruction, query: "what is it", document: "a cat, the cat" };
  const whole = tokenizer.encode(rerankerPrompt(question), bare);
  const [output] = await score(context, question.query, question.document);
  assertEquals(output?.promptTokenIds, whole);
  assertAlmostEquals(output!.outputs.score, expectedScore(whole), 1e-6);

  const own = { ...question, instruction: "find cats" };
  const [instructed] = await score(context, own.query, own.document, undefined, {
    instruction: own.instruction,
  });
  assertEquals(instructed?.promptTokenIds, tokenizer.encode(rerankerPrompt(own), bare));

  const limit = whole.length - 3;
  const params = new PoolingParams({ truncatePromptTokens: limit });
  const [cut] = await score(context, question.query, question.document, params);
  const end = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
  const endStart = whole.length - tokenizer.encode(end, bare).length;
  assertEquals(cut?.promptTokenIds, [...whole.slice(0, endStart - 3), ...whole.slice(endStart)]);
  await assertRejects(
    () => score(context, "q", "d", new PoolingParams({ truncatePromptTokens: 20 })),
    InvalidParameterError,
    "the reranker's prompt around it",
  );
  await assertRejects(() => score(prompted(100), "q", "d"), ContextLengthError, "at most 100");
  const [first] = await score(context, "what is it", "a cat, the cat", undefined, {
    maxTokensPerDoc: 5,
  });
  const head = tokenizer.encode(question.document, bare).slice(0, 5);
  const document = tokenizer.decode(head, { skipSpecialTokens: false });
  assertEquals(
    first?.promptTokenIds,
    tokenizer.encode(rerankerPrompt({ ...question, document }), bare),
  );
});

Deno.test("A template of one's own takes the place of the reranker's prompt", async () => {
  using worker = new TextWorker();
  const model = classifierModel(1, { pairs: "prompt" });
  const context = poolingContext(model, new FakePoolingEngine(), worker);
  const chatTemplate = "{{ instruction }}|{% for m in messages %}{{ m.role }}={{ m.content }};" +
    "{% endfor %}";
  const options = { chatTemplate, instruction: "find" };
  const [output] = await score(context, "the cat", "a dog", undefined, options);
  const text = "find|query=the cat;document=a dog;";
  assertEquals(output?.promptTokenIds, context.tokenizer.encode(text, bare));
  const [cut] = await score(context, "the cat", "a dog", undefined, {
    ...options,
    maxTokensPerDoc: 1,
  });
  const shorter = context.tokenizer.encode("find|query=the cat;document=a;", bare);
  assertEquals(cut?.promptTokenIds, shorter);
  await assertRejects(
    () => score(context, "a", "b", new PoolingParams({ truncatePromptTokens: 90 }), options),
    InvalidParameterError,
    "use maxTokensPerDoc",
  );
  await assertRejects(
    () => score(context, "a", "b", undefined, { chatTemplate: "{% for %}" }),
    ChatTemplateError,
  );
});

Deno.test("A pair's template has the variables of a call, and an instruction among them is one", async () => {
  using worker = new TextWorker();
  const model = classifierModel(1, { pairs: "prompt" }, { maxLength: 800 });
  const context = poolingContext(model, new FakePoolingEngine(), worker);
  const idsOf = async (options: ScoreOptions) =>
    (await score(context, "the cat", "a dog", undefined, options))[0]?.promptTokenIds;
  const chatTemplate = "{{ instruction }}|{{ depth }}";
  const kwargs = { chatTemplate, chatTemplateKwargs: { depth: 7, instruction: "find" } };
  assertEquals(await idsOf(kwargs), context.tokenizer.encode("find|7", bare));
  assertEquals(
    await idsOf({ ...kwargs, instruction: "this" }),
    context.tokenizer.encode("this|7", bare),
  );
  // The prompt that is built in reads the instruction and nothing else.
  const own = await idsOf({ chatTemplateKwargs: { instruction: "find", depth: 7 } });
  assertEquals(own, await idsOf({ instruction: "find" }));
  const refused = (chatTemplateKwargs: Record<string, unknown>) => () =>
    idsOf({ chatTemplate, chatTemplateKwargs });
  await assertRejects(refused({ instruction: 5 }), InvalidParameterError, "it must be a string");
  await assertRejects(refused({ messages: [] }), ChatTemplateError, "the name is taken");
});

Deno.test("Without its activation a score is the logit", async () => {
  const context = pairs();
  const [scored] = await score(context, "a", "x");
  const [logit] = await score(context, "a", "x", new PoolingParams({ useActivation: false }));
  assertAlmostEquals(scored!.outputs.score, 1 / (1 + Math.exp(-logit!.outputs.score)), 1e-6);
});

Deno.test("An embedding model scores by the cosine, and embeds each text once", async () => {
  const engine = new FakePoolingEngine();
  const context = poolingContext(embeddingModel({ modes: ["lasttoken"] }), engine);
  const outputs = await score(context, "a", ["x", "a"]);
  assertEquals(engine.requests.length, 2);
  const [a, x] = ["a", "x"].map((text) =>
    context.tokenizer.encode(text, { addSpecialTokens: true })
  );
  assertEquals(outputs[0]?.promptTokenIds, [...a!, 0, ...x!]);
  const expected = cosine(normalized(fakeRow(a!)), normalized(fakeRow(x!)));
  assertAlmostEquals(outputs[0]!.outputs.score, expected, 1e-6);
  assertAlmostEquals(outputs[1]!.outputs.score, 1, 1e-6);
  // The length of the vectors is the cosine's business, whatever the parameters say.
  const raw = await score(context, "a", ["x", "a"], new PoolingParams({ normalize: false }));
  assertEquals(raw.map((output) => output.outputs), outputs.map((output) => output.outputs));
});

Deno.test("A cosine is never beyond 1, whatever rounding does to the vectors", () => {
  const vector = new Float32Array(384).fill(Math.fround(1 / Math.sqrt(384)));
  for (const [length, sign] of [[1.0001, 1], [1.0001, -1]] as const) {
    const long = vector.map((value) => value * length);
    assertEquals(cosine(long, long.map((value) => value * sign)), sign);
  }
});

Deno.test("rerank sorts by score and keeps where each document was", async () => {
  const context = pairs();
  const documents = Array.from({ length: 12 }, (_, i) => `document ${i % 10}`);
  const scores = (await score(context, "q", documents)).map(({ outputs }) => outputs.score);
  const ranked = await rerank(context, "q", documents, {});
  assertEquals(ranked.length, documents.length);
  for (const [i, { index, document, relevanceScore }] of ranked.entries()) {
    assertEquals(document, documents[index]);
    assertEquals(relevanceScore, scores[index]);
    const next = ranked[i + 1];
    const isInOrder = next === undefined || relevanceScore > next.relevanceScore ||
      relevanceScore === next.relevanceScore && index < next.index;
    assert(isInOrder, `place ${i}`);
  }
  const plain = (outputs: typeof ranked) =>
    outputs.map(({ index, relevanceScore }) => [index, relevanceScore]);
  assertEquals(
    plain(await rerank(context, "q", documents, { topN: 3 })),
    plain(ranked.slice(0, 3)),
  );
  assertEquals(plain(await rerank(context, "q", documents, { topN: 99 })), plain(ranked));
  assertEquals(await rerank(context, "q", [], {}), []);
  await assertRejects(
    () => rerank(context, "q", documents, { topN: -1 }),
    InvalidParameterError,
    "Cannot use topN -1",
  );
  await assertRejects(() => rerank(context, "q", "x" as never, {}), TypeError, "an array");
});

Deno.test("A model that cannot score is refused, and an end leaves nothing behind", async () => {
  await assertRejects(
    () => score(poolingContext(generativeModel()), "a", "x"),
    UnsupportedTaskError,
    'Cannot score with "tiny"',
  );
  await assertRejects(
    () => score(poolingContext(classifierModel(3)), "a", "x"),
    UnsupportedTaskError,
    "the model is for classify",
  );
  const engine = new FakePoolingEngine({ stuck: true });
  const controller = new AbortController();
  const context = poolingContext(classifierModel(1), engine);
  const pending = rerank(context, "q", Array(20).fill("d"), { signal: controller.signal });
  setTimeout(() => controller.abort(new TypeError("enough")), 1);
  await assertRejects(() => pending, TypeError, "enough");
  assertEquals(engine.liveCount, 0);
});

Deno.test("Options that there are not are refused by name, whatever scores the texts", async () => {
  for (const context of [pairs(), poolingContext(embeddingModel())]) {
    const named = async (call: Promise<unknown>, right: string) => {
      const error = await assertRejects(() => call, InvalidParameterError, right);
      return error.parameter;
    };
    const topn = { topn: 1 } as never; // as a caller without types may
    assertEquals(await named(rerank(context, "a", ["x"], topn), "topN"), "topn");
    assertEquals(await named(score(context, "a", "x", undefined, topn), "no such field"), "topn");
    // Those that there are may all be given, and count for nothing where they have no meaning.
    const options = { instruction: "x", chatTemplateKwargs: {}, maxTokensPerDoc: 1 };
    assertEquals((await rerank(context, "a", ["x"], { ...options, topN: 1 })).length, 1);
  }
});
