/** `embed`, `encode` and `classify` on an engine that is not there: shapes, truncation, errors, ends. */

import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { ContextLengthError, InvalidParameterError, UnsupportedTaskError } from "../mod.ts";
import { classify, embed, encode } from "../lib/embedding.ts";
import type {
  ClassificationRequestOutput,
  EmbeddingRequestOutput,
  PoolingRequestOutput,
} from "../lib/outputs.ts";
import { PoolingParams } from "../lib/pooling/params.ts";
import { normalized } from "../lib/pooling/pooler.ts";
import type { PoolingContext } from "../lib/pooling_requests.ts";
import type { Prompt } from "../lib/prompts.ts";
import { BackgroundTokenizer } from "../lib/text/background_tokenizer.ts";
import {
  classifierModel,
  embeddingModel,
  FAKE_WIDTH,
  FakePoolingEngine,
  fakeRow,
  generativeModel,
  pairTokenizer,
  poolingContext,
} from "./helpers/fake_pooling.ts";

const last = embeddingModel({ modes: ["lasttoken"] });

async function vector(
  context: PoolingContext,
  prompt: Prompt,
  params?: PoolingParams,
): Promise<EmbeddingRequestOutput> {
  return await embed(context, prompt, params, {}) as EmbeddingRequestOutput;
}

Deno.test("One prompt gives one embedding, a list gives a list in its order", async () => {
  const context = poolingContext(last);
  const one = await vector(context, { promptTokenIds: [5, 6, 7] });
  assertEquals(one.outputs.embedding, normalized(fakeRow([5, 6, 7])));
  assertEquals(one.outputs.hiddenSize, FAKE_WIDTH);
  assertEquals(one.promptTokenIds, [5, 6, 7]);
  assert(one.finished);
  const prompts = Array.from({ length: 30 }, (_, i) => ({ promptTokenIds: [i + 3] }));
  const list = await embed(context, prompts, undefined, { requestId: "job" });
  assert(Array.isArray(list));
  for (const [i, { requestId, outputs }] of list.entries()) {
    assertEquals(requestId, `job-${i}`);
    assertEquals(outputs.embedding, normalized(fakeRow([i + 3])));
  }
  assertEquals(await embed(context, [], undefined, {}), []);
  const named = await embed(context, "x", undefined, { requestId: "job" });
  assertEquals((named as EmbeddingRequestOutput).requestId, "job");
});

Deno.test("Any number of prompts fit, as only so many are in the engine at once", async () => {
  const engine = new FakePoolingEngine({ limit: 8 });
  const prompts = Array.from({ length: 50 }, (_, i) => ({ promptTokenIds: [3 + i] }));
  const outputs = await embed(poolingContext(last, engine), prompts, undefined, {});
  assertEquals((outputs as EmbeddingRequestOutput[]).length, 50);
  assertEquals(engine.mostAtOnce, 8);
  assertEquals(engine.liveCount, 0);
});

Deno.test("Truncation from the right keeps the first tokens, and those that stand behind every text", async () => {
  const params = (truncatePromptTokens: number) => new PoolingParams({ truncatePromptTokens });
  const text = "one two three four";
  for (
    const [framesTexts, endTokenId, behind] of [
      [false, undefined, 0],
      [false, 2, 1],
      [true, undefined, 1],
      [true, 2, 1],
      [true, 3, 2],
    ] as const
  ) {
    const tokenizer = pairTokenizer(framesTexts);
    const context = {
      ...poolingContext(embeddingModel({ endTokenId }, { maxLength: 40 })),
      tokenizer,
      background: new BackgroundTokenizer(tokenizer),
    };
    const kept = async (prompt: Prompt, count: number, addSpecialTokens = true) => {
      const options = { truncationSide: "right", addSpecialTokens } as const;
      const output = await embed(context, prompt, params(count), options);
      return (output as EmbeddingRequestOutput).promptTokenIds;
    };
    const ids = (await vector(context, text)).promptTokenIds;
    const bare = context.tokenizer.encode(text, { addSpecialTokens: false });
    assertEquals(ids.at(-1 - behind), bare.at(-1));
    for (let count = 1; count < ids.length; count++) {
      const end = Math.min(behind, count);
      const expected = [...ids.slice(0, count - end), ...ids.slice(ids.length - end)];
      assertEquals(await kept(text, count), expected);
      assertEquals(await kept({ promptTokenIds: ids }, count), ids.slice(0, count));
    }
    assertEquals(await kept(text, 2, false), bare.slice(0, 2));
    assertEquals(await kept(text, ids.length), ids);
  }
});

Deno.test("Truncation keeps the last tokens, and −1 as many as the model takes", async () => {
  const context = poolingContext(embeddingModel({ modes: ["lasttoken"] }, { maxLength: 6 }));
  const ids = [9, 8, 7, 6, 5];
  const cases: [number | null, number[]][] = [
    [null, ids],
    [0, ids],
    [5, ids],
    [3, [7, 6, 5]],
    [1, [5]],
    [-1, ids],
  ];
  for (const [truncatePromptTokens, expected] of cases) {
    const params = new PoolingParams({ truncatePromptTokens });
    const output = await vector(context, { promptTokenIds: ids }, params);
    assertEquals(output.promptTokenIds, expected);
    assertEquals(output.outputs.embedding, normalized(fakeRow(expected)));
  }
  const long = { promptTokenIds: [...ids, ...ids] };
  const cut = await vector(context, long, new PoolingParams({ truncatePromptTokens: -1 }));
  assertEquals(cut.promptTokenIds, [5, 9, 8, 7, 6, 5]);
  const error = await assertRejects(() => vector(context, long), ContextLengthError);
  assertEquals([error.tokenCount, error.tokenLimit], [10, 6]);
  await assertRejects(
    () => vector(context, long, new PoolingParams({ truncatePromptTokens: 7 })),
    InvalidParameterError,
    "at most 6 tokens. Please request a smaller truncation size.",
  );
});

Deno.test("The end token of Qwen3-Embedding comes behind a text once, and never behind ids", async () => {
  const context = poolingContext(embeddingModel({ modes: ["lasttoken"], endTokenId: 0 }));
  const bare = context.tokenizer.encode("the cat", { addSpecialTokens: false });
  assertEquals((await vector(context, "the cat")).promptTokenIds, [...bare, 0]);
  assertEquals((await vector(context, "the cat<|endoftext|>")).promptTokenIds, [...bare, 0]);
  assertEquals((await vector(context, { promptTokenIds: [5] })).promptTokenIds, [5]);
  const without = await embed(context, "the cat", undefined, { addSpecialTokens: false });
  assertEquals((without as EmbeddingRequestOutput).promptTokenIds, bare);
  const cut = await vector(context, "the cat", new PoolingParams({ truncatePromptTokens: 2 }));
  assertEquals(cut.promptTokenIds, [bare.at(-1)!, 0]);
});

Deno.test("Dimensions are cut before the length is made 1, where the model allows it", async () => {
  const prompt = { promptTokenIds: [5, 6] };
  const any = embeddingModel({ modes: ["lasttoken"], lengths: { min: 2, only: undefined } });
  const whole = fakeRow([5, 6]);
  const short = await vector(poolingContext(any), prompt, new PoolingParams({ dimensions: 2 }));
  assertEquals(short.outputs.embedding, normalized(whole.slice(0, 2)));
  assertEquals(short.outputs.hiddenSize, 2);
  const raw = new PoolingParams({ dimensions: 3, normalize: false });
  const unscaled = await vector(poolingContext(any), prompt, raw);
  assertEquals(unscaled.outputs.embedding, whole.slice(0, 3));
  const some = embeddingModel({ lengths: { min: 1, only: [2, 4] } });
  const refused: [PoolingContext, number, string][] = [
    [poolingContext(last), 2, 'model "tiny" does not support Matryoshka embeddings'],
    [poolingContext(any), 1, "only supports dimensions in range [2, 4]"],
    [poolingContext(any), 5, "only supports dimensions in range [2, 4]"],
    [poolingContext(some), 3, "only supports Matryoshka dimensions [2, 4]"],
  ];
  for (const [context, dimensions, words] of refused) {
    await assertRejects(
      () => vector(context, prompt, new PoolingParams({ dimensions })),
      InvalidParameterError,
      words,
    );
  }
});

Deno.test("Dense layers come between pooling and length", async () => {
  const dense = [{
    inputs: FAKE_WIDTH,
    outputs: 1,
    weight: Float32Array.of(1, 0, 0, 0),
    bias: Float32Array.of(1),
    activation: "tanh" as const,
  }];
  const context = poolingContext(embeddingModel({ modes: ["lasttoken"], dense, width: 1 }));
  const params = new PoolingParams({ normalize: false });
  const { outputs } = await vector(context, { promptTokenIds: [5] }, params);
  assertAlmostEquals(outputs.embedding[0]!, Math.tanh(fakeRow([5])[0]! + 1), 1e-6);
});

Deno.test("Texts are lower-cased and introduced where the model's files say so", async () => {
  const prompts = new Map([["query", "Find: "]]);
  const context = poolingContext(embeddingModel({}, { lowerCases: true, prompts }));
  const plain = await vector(context, "find: the cat");
  const named = await embed(context, "The CAT", undefined, { promptName: "query" });
  assertEquals((named as EmbeddingRequestOutput).promptTokenIds, plain.promptTokenIds);
  await assertRejects(
    () => embed(context, "x", undefined, { promptName: "passage" }),
    InvalidParameterError,
    'the prompts of "tiny" are "query"',
  );
});

Deno.test("encode makes what the task says: its argument, else the params', else the model's", async () => {
  const context = poolingContext(last);
  const prompt = { promptTokenIds: [5, 6] };
  const data = async (params?: PoolingParams, task?: "embed" | "token_embed") => {
    const output = await encode(context, prompt, params, task === undefined ? {} : { task });
    return (output as PoolingRequestOutput).outputs.data;
  };
  const tokens = [fakeRow([5]), fakeRow([5, 6])].map(normalized);
  assertEquals(await data(), tokens[1]);
  assertEquals(await data(undefined, "token_embed"), tokens);
  assertEquals(await data(new PoolingParams({ task: "token_embed" })), tokens);
  assertEquals(await data(new PoolingParams({ task: "token_embed" }), "embed"), tokens[1]);

  const classifier = poolingContext(classifierModel(1));
  const logits = await encode(
    classifier,
    prompt,
    new PoolingParams({ task: "token_classify", useActivation: false }),
    {},
  ) as PoolingRequestOutput;
  assertEquals((logits.outputs.data as Float32Array[]).map((row) => row.length), [1, 1]);
});

Deno.test("classify gives a probability a label, and the name of the best", async () => {
  const context = poolingContext(classifierModel(3));
  const prompt = { promptTokenIds: [5, 6] };
  const { outputs } = await classify(context, prompt, undefined, {}) as ClassificationRequestOutput;
  assertEquals(outputs.numClasses, 3);
  assertAlmostEquals(outputs.probs.reduce((sum, value) => sum + value), 1, 1e-6);
  const best = outputs.probs.indexOf(Math.max(...outputs.probs));
  assertEquals(outputs.label, `LABEL_${best}`);
  const raw = new PoolingParams({ useActivation: false });
  const logits = await classify(context, [prompt], raw, {}) as ClassificationRequestOutput[];
  const powers = logits[0]!.outputs.probs.map((logit) => Math.exp(logit));
  const sum = powers.reduce((total, power) => total + power);
  powers.forEach((power, i) => assertAlmostEquals(outputs.probs[i]!, power / sum, 1e-6));
});

Deno.test("What a model is not for is refused with what it is for", async () => {
  const cases: [PoolingContext, "embed" | "score" | "token_classify", string][] = [
    [
      poolingContext(generativeModel()),
      "embed",
      'Cannot embed with "tiny": it is a generative model; load it with the option task "embed"',
    ],
    [poolingContext(generativeModel()), "score", 'load it with the option task "score"'],
    [poolingContext(classifierModel(3)), "embed", "the model is for classify"],
    [poolingContext(last), "token_classify", "the model is for embed, token_embed"],
  ];
  for (const [context, task, words] of cases) {
    const error = await assertRejects(
      () => encode(context, "x", undefined, { task }),
      UnsupportedTaskError,
      words,
    );
    assertEquals(error.task, task);
  }
});

Deno.test("Prompts and parameters of the wrong shape are refused before anything runs", async () => {
  const engine = new FakePoolingEngine();
  const context = poolingContext(last, engine);
  const two = [new PoolingParams(), new PoolingParams()];
  await assertRejects(() => embed(context, "x", two, {}), TypeError, "One prompt takes one");
  await assertRejects(() => embed(context, ["x"], two, {}), TypeError, "1 prompts take one");
  for (const params of ["x", {}, 5]) {
    const wrong = params as never;
    await assertRejects(() => embed(context, "x", wrong, {}), TypeError, "must be PoolingParams");
  }
  const other = new PoolingParams({ task: "classify" });
  await assertRejects(
    () => embed(context, ["x"], other, {}),
    InvalidParameterError,
    'Cannot use task "classify": this call is for the task "embed"',
  );
  assertEquals(engine.requests, []);
  for (const prompt of [7, null, { promptTokenIds: ["x"] }, { text: "x" }]) {
    await assertRejects(() => vector(context, prompt as never), TypeError);
  }
});

Deno.test("A signal ends a call with its reason and leaves nothing in the engine", async () => {
  const engine = new FakePoolingEngine({ stuck: true });
  const context = poolingContext(last, engine);
  const before = AbortSignal.abort(new RangeError("too late"));
  await assertRejects(() => embed(context, ["x"], undefined, { signal: before }), RangeError);
  assertEquals(engine.requests, []);
  for (const input of ["x", Array(20).fill("x")]) {
    const controller = new AbortController();
    const { signal } = controller;
    const pending = embed(context, input, undefined, { signal });
    setTimeout(() => controller.abort(new TypeError("enough")), 1);
    await assertRejects(() => pending, TypeError, "enough");
    assertEquals(engine.liveCount, 0);
  }
});

Deno.test("One failing prompt ends the others of its call", async () => {
  const engine = new FakePoolingEngine({ stuck: true, failOn: 9 });
  const prompts = [5, 6, 9, 7].map((id) => ({ promptTokenIds: [id] }));
  const context = poolingContext(last, engine);
  await assertRejects(
    () => embed(context, prompts, undefined, {}),
    Error,
    "The fake engine fails",
  );
  assertEquals(engine.liveCount, 0);
});
