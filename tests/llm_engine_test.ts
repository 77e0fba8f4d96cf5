/** `LLMEngine` and `AsyncLLMEngine`: on a model whose deltas the test lets out one by one, and on a real one. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  AsyncLLMEngine,
  ClosedError,
  ContextLengthError,
  type EngineModel,
  type EngineOutput,
  type GenerationDelta,
  InvalidParameterError,
  LLMEngine,
  type PoolingOptions,
  PoolingParams,
  type PoolingRequestOutput,
  type Prompt,
  type RequestOptions,
  type RequestOutput,
  SamplingParams,
  UnsupportedTaskError,
} from "../mod.ts";
import { Channel } from "../lib/base/channel.ts";
import { collect, idle, tinyTest } from "./helpers/tiny_llm.ts";

/** Its prompts name what happens; the test sends the deltas. */
class ScriptedLLM implements EngineModel {
  readonly #channels = new Map<string, Channel<GenerationDelta>>();
  readonly ended: string[] = [];

  submit(
    prompt: Prompt,
    _params?: SamplingParams,
    options: RequestOptions = {},
  ): AsyncGenerator<GenerationDelta, void, void> {
    if (prompt === "refused") throw new ContextLengthError(9, 8, "too long");
    const { requestId = "", signal } = options;
    const channel = new Channel<GenerationDelta>();
    this.#channels.set(requestId, channel);
    signal?.addEventListener("abort", () => {
      this.ended.push(requestId);
      channel.fail(signal.reason);
    });
    return channel[Symbol.asyncIterator]();
  }

  submitPooling(
    prompt: Prompt,
    _params?: PoolingParams,
    { requestId = "", signal }: PoolingOptions = {},
  ): Promise<PoolingRequestOutput> {
    if (prompt === "refused") throw new ContextLengthError(9, 8, "too long");
    return shortly().then(() => {
      signal?.throwIfAborted();
      if (prompt === "fails") throw new RangeError("broken");
      return {
        requestId,
        outputs: { data: Float32Array.of(1) },
        promptTokenIds: [1],
        finished: true,
        cachedTokens: 0,
      };
    });
  }

  /** Sends one token of a request's sequence. */
  send(requestId: string, text: string, change: Partial<GenerationDelta> = {}): void {
    this.#channel(requestId).push({
      requestId,
      index: 0,
      text,
      tokenIds: [text.length],
      logprobs: null,
      finishReason: null,
      stopReason: null,
      ...change,
    });
  }

  finish(requestId: string, text: string, index = 0): void {
    this.send(requestId, text, { index, finishReason: "stop" });
  }

  close(requestId: string): void {
    this.#channel(requestId).close();
  }

  fail(requestId: string, error: unknown): void {
    this.#channel(requestId).fail(error);
  }

  #channel(requestId: string): Channel<GenerationDelta> {
    const channel = this.#channels.get(requestId);
    if (channel === undefined) throw new Error(`no request ${requestId}`);
    return channel;
  }
}

const DELTA = new SamplingParams({ outputKind: "DELTA" });
const FINAL = new SamplingParams({ outputKind: "FINAL" });

const shortly = () => new Promise((resolve) => setTimeout(resolve, 1));
const briefly = ({ requestId, outputs, finished }: EngineOutput) =>
  [
    requestId,
    ...("data" in outputs ? ["numbers"] : outputs.map(({ text }) => text)),
    finished,
  ] as const;

Deno.test("A step gives what came since the last one, of every request at most one output", async () => {
  const llm = new ScriptedLLM();
  await using engine = LLMEngine.fromLLM(llm);
  engine.addRequest("all", "x");
  engine.addRequest("new", "x", DELTA);
  engine.addRequest("end", "x", FINAL);
  for (const id of ["all", "new", "end"]) {
    llm.send(id, "a");
    llm.send(id, "b");
  }
  await shortly();
  assertEquals((await engine.step()).map(briefly), [["all", "ab", false], ["new", "ab", false]]);
  for (const id of ["all", "new", "end"]) llm.finish(id, "c");
  for (const id of ["all", "new", "end"]) llm.close(id);
  await shortly();
  assertEquals((await engine.step()).map(briefly), [
    ["all", "abc", true],
    ["new", "c", true],
    ["end", "abc", true],
  ]);
  assertEquals([engine.hasUnfinishedRequests(), await engine.step()], [false, []]);
});

Deno.test("A step waits for an output, and no longer than there are requests", async () => {
  const llm = new ScriptedLLM();
  await using engine = LLMEngine.fromLLM(llm);
  engine.addRequest("a", "x");
  const step = engine.step();
  await shortly();
  llm.send("a", "hi");
  assertEquals((await step).map(briefly), [["a", "hi", false]]);
  const next = engine.step();
  await shortly();
  engine.abortRequest("a");
  assertEquals(await next, []);
  assertEquals(llm.ended, ["a"]);
});

Deno.test("A request stays unfinished until its last output was taken", async () => {
  const llm = new ScriptedLLM();
  await using engine = LLMEngine.fromLLM(llm);
  engine.addRequest("a", "x");
  llm.finish("a", "hi");
  llm.close("a");
  await shortly();
  assert(engine.hasUnfinishedRequests());
  assertThrows(() => engine.addRequest("a", "x"), InvalidParameterError, '"a"');
  assertEquals((await engine.step()).map(briefly), [["a", "hi", true]]);
  engine.addRequest("a", "x"); // free again
});

Deno.test("Several sequences are finished when all are", async () => {
  const llm = new ScriptedLLM();
  await using engine = LLMEngine.fromLLM(llm);
  engine.addRequest("a", "x", DELTA.clone({ n: 2 }));
  llm.finish("a", "first");
  await shortly();
  assertEquals((await engine.step()).map(briefly), [["a", "first", false]]);
  llm.send("a", "second", { index: 1 });
  await shortly();
  assertEquals((await engine.step()).map(briefly), [["a", "second", false]]);
  llm.finish("a", "", 1);
  llm.close("a");
  await shortly();
  const [last] = await engine.step() as RequestOutput[];
  assertEquals([last?.outputs.map(({ index }) => index), last?.finished], [[1], true]);
});

Deno.test("What a request fails with rejects one step, and the others go on", async () => {
  const llm = new ScriptedLLM();
  await using engine = LLMEngine.fromLLM(llm);
  engine.addRequest("bad", "x");
  engine.addRequest("good", "x");
  llm.send("bad", "lost");
  llm.fail("bad", new RangeError("broken"));
  llm.send("good", "a");
  await shortly();
  await assertRejects(() => engine.step(), RangeError, "broken");
  assertEquals((await engine.step()).map(briefly), [["good", "a", false]]);
  engine.addRequest("bad", "x"); // free again
});

Deno.test("A refused request leaves nothing registered", async () => {
  const llm = new ScriptedLLM();
  await using engine = LLMEngine.fromLLM(llm);
  assertThrows(() => engine.addRequest("a", "refused"), ContextLengthError);
  assertThrows(() => engine.addRequest("a", "refused", new PoolingParams()), ContextLengthError);
  assertThrows(() => engine.addRequest("", "x"), InvalidParameterError, "not empty");
  assertThrows(() => engine.addRequest(5 as never, "x"), InvalidParameterError, "request id 5");
  assertThrows(() => engine.addRequest("a", "x", { n: 1 } as never), TypeError, "SamplingParams");
  assertEquals(engine.hasUnfinishedRequests(), false);
  engine.addRequest("a", "x");
});

Deno.test("Requests for pooling give one output each, among those for texts", async () => {
  const llm = new ScriptedLLM();
  await using engine = LLMEngine.fromLLM(llm);
  engine.addRequest("numbers", "x", new PoolingParams());
  engine.addRequest("bad", "fails", new PoolingParams());
  engine.addRequest("left", "x", new PoolingParams());
  engine.abortRequest("left");
  engine.addRequest("text", "x");
  llm.finish("text", "hi");
  llm.close("text");
  await shortly();
  await shortly();
  await assertRejects(() => engine.step(), RangeError, "broken");
  assertEquals((await engine.step()).map(briefly), [
    ["numbers", "numbers", true],
    ["text", "hi", true],
  ]);
  assertEquals(await engine.step(), []);
});

Deno.test("Aborted requests give no further output", async () => {
  const llm = new ScriptedLLM();
  await using engine = LLMEngine.fromLLM(llm);
  for (const id of ["a", "b", "c"]) {
    engine.addRequest(id, "x");
    llm.send(id, id);
  }
  await shortly();
  engine.abortRequest(["a", "b", "unknown"]);
  assertEquals((await engine.step()).map(briefly), [["c", "c", false]]);
  engine.abortRequest("c");
  assertEquals([llm.ended, engine.hasUnfinishedRequests()], [["a", "b", "c"], false]);
});

Deno.test("A closed engine has ended its requests and takes no more", async () => {
  const llm = new ScriptedLLM();
  const engine = LLMEngine.fromLLM(llm);
  engine.addRequest("a", "x");
  await engine[Symbol.asyncDispose]();
  assertEquals([llm.ended, await engine.step()], [["a"], []]);
  assertThrows(() => engine.addRequest("b", "x"), ClosedError);
});

Deno.test("An asynchronous engine gives an output a token, of the kind that was asked for", async () => {
  const llm = new ScriptedLLM();
  const engine = AsyncLLMEngine.fromLLM(llm);
  const all = async (params: SamplingParams) => {
    const outputs = collect(engine.generate("x", params, "a"));
    llm.send("a", "a");
    llm.send("a", "b");
    llm.finish("a", "c");
    llm.close("a");
    return (await outputs).map(briefly);
  };
  assertEquals(await all(new SamplingParams()), [
    ["a", "a", false],
    ["a", "ab", false],
    ["a", "abc", true],
  ]);
  assertEquals(await all(DELTA), [["a", "a", false], ["a", "b", false], ["a", "c", true]]);
  assertEquals(await all(FINAL), [["a", "abc", true]]);
});

Deno.test("An asynchronous engine ends a request on abort, and frees its id on every way out", async () => {
  const llm = new ScriptedLLM();
  const engine = AsyncLLMEngine.fromLLM(llm);
  const outputs = engine.generate("x", DELTA, "a");
  const first = outputs.next();
  llm.send("a", "a");
  assertEquals((await first).value?.outputs[0]?.text, "a");
  const second = engine.generate("x", DELTA, "a");
  await assertRejects(() => second.next(), InvalidParameterError, '"a"');
  llm.send("a", "b");
  engine.abort("a");
  engine.abort("unknown");
  assertEquals((await outputs.next()).done, true);

  const refused = engine.generate("refused", DELTA, "a");
  await assertRejects(() => refused.next(), ContextLengthError);
  const failing = collect(engine.generate("x", DELTA, "a"));
  llm.fail("a", new RangeError("broken"));
  await assertRejects(() => failing, RangeError, "broken");
  const last = collect(engine.generate("x", DELTA, "a"));
  llm.close("a");
  assertEquals(await last, []);
});

Deno.test("An asynchronous engine gives one output of a prompt that is pooled, and frees its id", async () => {
  const engine = AsyncLLMEngine.fromLLM(new ScriptedLLM());
  const params = new PoolingParams();
  const outputs = engine.encode("x", params, "a");
  assertEquals((await outputs.next()).value?.outputs.data, Float32Array.of(1));
  await assertRejects(() => engine.encode("x", params, "a").next(), InvalidParameterError, '"a"');
  assertEquals((await outputs.next()).done, true);

  await assertRejects(() => engine.encode("refused", params, "a").next(), ContextLengthError);
  await assertRejects(() => engine.encode("fails", params, "a").next(), RangeError, "broken");
  await assertRejects(
    () => engine.encode("x", {} as never, "a").next(),
    TypeError,
    "PoolingParams",
  );
  await assertRejects(() => engine.encode("x", params, "").next(), InvalidParameterError);
  const aborted = collect(engine.encode("x", params, "a"));
  engine.abort("a");
  assertEquals(await aborted, []);
  assertEquals((await collect(engine.encode("x", params, "a"))).map(briefly), [
    ["a", "numbers", true],
  ]);
});

tinyTest("Both engines give what generate gives, and leave nothing behind", async (llm) => {
  const params = new SamplingParams({ temperature: 0.9, seed: 4, maxTokens: 20, logprobs: 1 });
  const prompts = ["the cat", "a dog", "one"];
  const expected = await llm.generate(prompts, params);
  {
    await using engine = LLMEngine.fromLLM(llm);
    for (const [i, prompt] of prompts.entries()) engine.addRequest(`${i}`, prompt, params);
    const last = new Map<string, RequestOutput>();
    while (engine.hasUnfinishedRequests()) {
      for (const output of await engine.step() as RequestOutput[]) {
        last.set(output.requestId, output);
      }
    }
    for (const [i, { outputs, promptTokenIds }] of expected.entries()) {
      assertEquals(last.get(`${i}`)?.outputs, outputs);
      assertEquals(last.get(`${i}`)?.promptTokenIds, promptTokenIds);
    }
    engine.addRequest("left", "the", params.clone({ maxTokens: null, ignoreEos: true }));
  }
  await idle(llm);
  const engine = AsyncLLMEngine.fromLLM(llm);
  const deltas = await collect(
    engine.generate("the cat", params.clone({ outputKind: "DELTA" }), "a"),
  );
  assertEquals(
    deltas.map(({ outputs }) => outputs[0]?.text).join(""),
    expected[0]?.outputs[0]?.text,
  );
  assertEquals(
    deltas.at(-1)?.outputs[0]?.cumulativeLogprob,
    expected[0]?.outputs[0]?.cumulativeLogprob,
  );
  for await (const _ of engine.generate("the", params, "b")) break;
  await idle(llm);
});

tinyTest("Both engines give what encode gives, and refuse a bad prompt at once", async (llm) => {
  const params = new PoolingParams({ normalize: false });
  const expected = await llm.encode("the cat", params);
  await using engine = LLMEngine.fromLLM(llm);
  engine.addRequest("a", "the cat", params);
  const [output] = await engine.step() as PoolingRequestOutput[];
  assertEquals(output?.outputs, expected.outputs);
  const asynchronous = AsyncLLMEngine.fromLLM(llm);
  const outputs = await collect(asynchronous.encode("the cat", params, "a"));
  assertEquals(outputs.map(({ outputs }) => outputs), [expected.outputs]);

  const long = { promptTokenIds: Array<number>(llm.info.maxContextLength + 1).fill(1) };
  const scores = new PoolingParams({ task: "score" });
  assertThrows(() => engine.addRequest("a", long, params), ContextLengthError);
  assertThrows(
    () => engine.addRequest("a", { promptTokenIds: [-1] }, params),
    InvalidParameterError,
    "out of vocabulary",
  );
  assertThrows(() => engine.addRequest("a", ["x"] as never, params), TypeError, "A prompt must be");
  assertThrows(() => engine.addRequest("a", "x", scores), UnsupportedTaskError, "the model is for");
  assertEquals(engine.hasUnfinishedRequests(), false);
  engine.addRequest("a", "the", params); // nobody holds the id
  engine.abortRequest("a");
  await idle(llm);
}, { task: "embed" });
