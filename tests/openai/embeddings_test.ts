/** `/v1/embeddings`, `/pooling` and `/classify` on a fake engine: inputs, formats, usage, refusals. */

import { assertEquals, assertMatch, assertNotEquals, assertStringIncludes } from "@std/assert";
import { PoolingParams } from "../../lib/pooling/params.ts";
import {
  classifierModel,
  embeddingModel,
  FakePoolingEngine,
  pairTokenizer,
} from "../helpers/fake_pooling.ts";
import { FakeLLM } from "./fake_llm.ts";
import { ask, get, type Json, post, refusal, send, until } from "./requests.ts";

const EMBEDDINGS = "/v1/embeddings";

function embedder(): FakeLLM {
  return new FakeLLM({
    pooling: embeddingModel({ lengths: { min: 1, only: undefined } }, { maxLength: 40 }),
  });
}

function idsOf(text: string): number[] {
  return pairTokenizer().encode(text, { addSpecialTokens: true });
}

async function vectors(body: object, llm = embedder()): Promise<Json[]> {
  const answer = await ask(EMBEDDINGS, body, llm);
  assertEquals(answer.status, 200, JSON.stringify(answer.body));
  return answer.body.data.map(({ embedding }: Json) => embedding);
}

Deno.test("The length of an embedding model is that of the longest text it takes", async () => {
  const llm = embedder();
  const { data: [card] } = await (await send(get("/v1/models"), llm)).json();
  const { body } = await ask("/tokenize", { prompt: "one" }, llm);
  assertEquals([card.max_model_len, body.max_model_len], [40, 40]);
});

Deno.test("An embeddings answer has the keys of OpenAI, vLLM and Furiosa-LLM", async () => {
  const { status, body } = await ask(EMBEDDINGS, { input: ["one", "two"] }, embedder());
  assertEquals(status, 200);
  assertMatch(body.id, /^embd-[0-9a-f]{32}$/);
  assertEquals([body.object, body.model, typeof body.created], ["list", "fake/model", "number"]);
  assertEquals(body.data.map(({ index, object }: Json) => [index, object]), [
    [0, "embedding"],
    [1, "embedding"],
  ]);
  const tokens = idsOf("one").length + idsOf("two").length;
  assertEquals(body.usage, {
    prompt_tokens: tokens,
    total_tokens: tokens,
    completion_tokens: 0,
    prompt_tokens_details: { cached_tokens: 0 },
    completion_tokens_details: null,
  });
});

Deno.test("An input may be a text, texts, token ids or lists of them, with the same vectors", async () => {
  const [one, two] = ["one two", "three"];
  const expected = await vectors({ input: [one, two] });
  assertNotEquals(expected[0], expected[1]);
  assertEquals(await vectors({ input: one }), expected.slice(0, 1));
  assertEquals(await vectors({ input: idsOf(one) }), expected.slice(0, 1));
  assertEquals(await vectors({ input: [idsOf(one), idsOf(two)] }), expected);
});

Deno.test("Messages are embedded as the template renders them, without the assistant's header", async () => {
  const llm = embedder();
  const messages = [{ role: "user", content: "Hi" }];
  await vectors({ messages }, llm);
  await vectors({ messages, add_generation_prompt: true }, llm);
  const texts = llm.engine.requests.map(({ promptTokenIds }) => llm.detokenize(promptTokenIds));
  assertEquals(texts, ["<user>Hi", "<user>Hi<assistant>"]);
});

Deno.test("In base64 a vector is the bits of its float32 numbers, in the byte order asked for", async () => {
  const [floats] = await vectors({ input: "one", encoding_format: "float" });
  const decode = (text: string, littleEndian: boolean) => {
    const view = new DataView(Uint8Array.fromBase64(text).buffer);
    return Array.from(
      { length: view.byteLength / 4 },
      (_, i) => view.getFloat32(4 * i, littleEndian),
    );
  };
  for (const [endianness, little] of [[null, true], ["little", true], ["big", false]] as const) {
    const [text] = await vectors({ input: "one", encoding_format: "base64", endianness });
    assertEquals(decode(text, little), floats);
  }
});

Deno.test("In base64 a number may have fewer bits, and as an array it never has", async () => {
  const [floats] = await vectors({ input: "one" });
  const decoders: Record<string, (view: DataView, index: number) => number> = {
    float16: (view, index) => view.getFloat16(2 * index, true),
    bfloat16: (view, index) => {
      const bits = Uint32Array.of(view.getUint16(2 * index, true) << 16);
      return new Float32Array(bits.buffer)[0]!;
    },
  };
  for (const [embed_dtype, decode] of Object.entries(decoders)) {
    assertEquals((await vectors({ input: "one", embed_dtype }))[0], floats);
    const [text] = await vectors({ input: "one", embed_dtype, encoding_format: "base64" });
    const view = new DataView(Uint8Array.fromBase64(text).buffer);
    assertEquals(view.byteLength, 2 * floats.length);
    for (const [index, float] of floats.entries()) {
      assertEquals(Math.abs(decode(view, index) - float) <= Math.abs(float) / 256, true);
    }
  }
  for (const embed_dtype of ["fp8_e4m3", "fp8_e5m2"]) {
    const [text] = await vectors({ input: "one", embed_dtype, encoding_format: "base64" });
    assertEquals(Uint8Array.fromBase64(text).length, floats.length);
  }
});

Deno.test("Dimensions cut a vector, which has the length 1 unless that is not wanted", async () => {
  const raw = (await vectors({ input: "one", normalize: false }))[0];
  assertEquals((await vectors({ input: "one", use_activation: false }))[0], raw);
  const [cut] = await vectors({ input: "one", dimensions: 2, normalize: false });
  assertEquals(cut, raw.slice(0, 2));
  const [unit] = await vectors({ input: "one", dimensions: "2" });
  assertEquals(Math.abs(Math.hypot(...unit) - 1) < 1e-6, true);
});

Deno.test("As many of a prompt's last tokens are embedded as the truncation says, or of its first", async () => {
  const llm = embedder();
  const long = Array.from({ length: 60 }, (_, i) => 3 + i % 5);
  for (const [count, kept] of [[5, 5], [-1, 40], ["7", 7]] as const) {
    const { body } = await ask(
      EMBEDDINGS,
      { input: long, truncate_prompt_tokens: count, truncation_side: "left" },
      llm,
    );
    assertEquals(body.usage.prompt_tokens, kept);
    assertEquals(llm.engine.requests.at(-1)?.promptTokenIds, long.slice(-kept));
  }
  await vectors({ input: long, truncate_prompt_tokens: 5, truncation_side: "right" }, llm);
  assertEquals(llm.engine.requests.at(-1)?.promptTokenIds, long.slice(0, 5));
});

Deno.test("An answer's id is the header's or the body's request id", async () => {
  const request = post(EMBEDDINGS, { input: "one" }, { headers: { "x-request-id": "r1" } });
  const response = await send(request, embedder());
  assertEquals([(await response.json()).id, response.headers.get("x-request-id")], [
    "embd-r1",
    "r1",
  ]);
  const { body } = await ask(EMBEDDINGS, { input: "one", request_id: "r2" }, embedder());
  assertEquals(body.id, "embd-r2");
});

Deno.test("An embeddings request that cannot be served names its field, value and right form", async () => {
  const ids = Array(41).fill(3);
  for (
    const [body, param, ...words] of [
      [{}, "body.input", "Field required"],
      [{ input: null }, "body.input", "Field required"],
      [{ input: 5 }, "body.input", "5", "a string, an array of strings"],
      [{ input: [] }, "input", "at least one prompt", "[]"],
      [{ input: [[]] }, "input.0", "at least one token id"],
      [{ input: ["a", 5] }, "body.input.1", "5", "a string like the first"],
      [{ input: [[1], "a"] }, "body.input.1", '"a"', "an array of token ids"],
      [{ input: [true] }, "body.input.0", "true", "an array of token ids"],
      [{ input: [-1] }, "body.input.0", "-1", "at least 0", "out of vocabulary"],
      [{ input: [[1, 512]] }, "input.0.1", "512", "out of vocabulary"],
      [{ input: [1.5] }, "body.input.0", "1.5", "a token id"],
      [{ input: Array(2049).fill("a") }, "input", "2049", "at most 2048"],
      [{ input: ids }, "input_tokens", "maximum context length is 40", "41"],
      [{ input: "a", messages: [] }, "input", "together with messages"],
      [{ input: "a", encoding_format: "hex" }, "body.encoding_format", '"hex"', "literal_error"],
      [{ input: "a", embed_dtype: "int3" }, "body.embed_dtype", '"int3"', "literal_error"],
      [{ input: "a", endianness: "middle" }, "body.endianness", '"middle"', "literal_error"],
      [{ input: "a", dimensions: 0 }, "dimensions", "0", "at least 1"],
      [{ input: "a", dimensions: 5 }, "dimensions", "5", "in range [1, 4]"],
      [{ input: "a", dimensions: "x" }, "body.dimensions", '"x"', "an integer"],
      [{ input: "a", truncate_prompt_tokens: -2 }, "body.truncate_prompt_tokens", "-2", "at least"],
      [
        { input: "a", truncate_prompt_tokens: 41 },
        "truncate_prompt_tokens",
        "41",
        "at most 40",
        "Please request a smaller truncation size.",
      ],
      [{ input: "a", truncation_side: "up" }, "body.truncation_side", '"up"', "literal_error"],
      [{ input: "a", normalize: "maybe" }, "body.normalize", '"maybe"', "true or false"],
      [{ input: "a", priority: 0.5 }, "body.priority", "0.5", "an integer"],
    ] as const
  ) {
    const llm = embedder();
    const error = await refusal(EMBEDDINGS, body, llm);
    assertEquals([error.code, error.param], [400, param], JSON.stringify(body).slice(0, 80));
    for (const word of words) assertStringIncludes(error.message, word);
    assertEquals(llm.engine.liveCount, 0);
  }
});

Deno.test("Dimensions of a model without Matryoshka embeddings are refused in vLLM's words", async () => {
  const llm = new FakeLLM({ pooling: embeddingModel() });
  const { message, param } = await refusal(EMBEDDINGS, { input: "a", dimensions: 2 }, llm);
  assertEquals(param, "dimensions");
  assertStringIncludes(message, "does not support Matryoshka embeddings; dimensions must be unset");
});

Deno.test("A client that leaves takes its embeddings out of the engine", async () => {
  const llm = new FakeLLM({
    pooling: embeddingModel(),
    engine: new FakePoolingEngine({ stuck: true }),
  });
  const leaving = new AbortController();
  const answer = send(
    post(EMBEDDINGS, { input: ["a", "b", "c"] }, { signal: leaving.signal }),
    llm,
  );
  await until(() => llm.engine.liveCount === 3, "all three are in the engine");
  leaving.abort();
  assertEquals((await answer).status, 499);
  assertEquals(llm.engine.liveCount, 0);
});

Deno.test("Pooling gives what the task says: a vector, or one a token, as numbers or base64", async () => {
  const data = async (body: object, llm = embedder()) => {
    const answer = await ask("/pooling", { input: "one two", ...body }, llm);
    assertEquals([answer.status, answer.body.data?.[0].object], [200, "pooling"]);
    assertMatch(answer.body.id, /^pooling-[0-9a-f]{32}$/);
    return answer.body.data[0].data;
  };
  const [embedding] = await vectors({ input: "one two" });
  assertEquals(await data({}), embedding);
  assertEquals(await data({ task: "embed" }), embedding);
  const cut = await data({ dimensions: 2, normalize: false });
  assertEquals(cut, (await data({ normalize: false })).slice(0, 2));
  const rows = await data({ task: "token_embed" });
  assertEquals([rows.length, rows[0].length], [idsOf("one two").length, 4]);
  const text = await data({ task: "token_embed", encoding_format: "base64" });
  assertEquals([...new Float32Array(Uint8Array.fromBase64(text).buffer)], rows.flat());
  const scored = await data({ task: "score" }, new FakeLLM({ pooling: classifierModel(1) }));
  assertEquals(scored.length, 1);
});

Deno.test("Pooling refuses a task that the model is not for, and names those it is for", async () => {
  for (
    const [task, reason] of [
      ["classify", "Unsupported task: 'classify'"],
      ["", "Unsupported task: ''"],
      ["plugin", "No IOProcessor plugin installed."],
    ] as const
  ) {
    const error = await refusal("/pooling", { input: "a", task }, embedder());
    assertEquals([error.code, error.param], [400, "task"]);
    assertEquals(error.message, `${reason} Supported tasks: 'embed', 'token_embed'`);
  }
});

Deno.test("Classify gives the probability of each label, and the label of the largest", async () => {
  const llm = new FakeLLM({ pooling: classifierModel(3) });
  const { status, body } = await ask("/classify", { input: ["one", "two"] }, llm);
  assertEquals(status, 200);
  assertMatch(body.id, /^classify-[0-9a-f]{32}$/);
  for (const [index, entry] of body.data.entries()) {
    const { probs, label } = entry;
    assertEquals([entry.index, entry.num_classes, probs.length], [index, 3, 3]);
    assertEquals(label, `LABEL_${probs.indexOf(Math.max(...probs))}`);
    assertEquals(Math.abs(probs.reduce((a: number, b: number) => a + b) - 1) < 1e-6, true);
  }
  const raw = await ask("/classify", { input: "one", use_activation: false }, llm);
  const [direct] = await llm.encode(
    ["one"],
    new PoolingParams({ useActivation: false, task: "classify" }),
    {},
  );
  assertEquals(raw.body.data[0].probs, [...direct!.outputs.data]);
});

Deno.test("Classify refuses an empty text and an empty list", async () => {
  const llm = new FakeLLM({ pooling: classifierModel(3) });
  for (const input of ["", [], [""]]) {
    const error = await refusal("/classify", { input }, llm);
    assertEquals([error.code, error.param], [400, "input"]);
  }
});
