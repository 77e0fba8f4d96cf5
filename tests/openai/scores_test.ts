/** `/score` and `/rerank` on a fake engine: pairs, order, usage, refusals. */

import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { classifierModel, embeddingModel } from "../helpers/fake_pooling.ts";
import { FakeLLM } from "./fake_llm.ts";
import { ask, type Json, refusal } from "./requests.ts";

const SCORE_PATHS = ["/score", "/v1/score"];
const RERANK_PATHS = ["/rerank", "/v1/rerank", "/v2/rerank"];

function scorer(): FakeLLM {
  return new FakeLLM({ pooling: classifierModel(1, {}, { maxLength: 60 }) });
}

async function scores(body: object, llm = scorer()): Promise<number[]> {
  const answer = await ask("/score", body, llm);
  assertEquals(answer.status, 200, JSON.stringify(answer.body));
  return answer.body.data.map(({ score }: Json) => score);
}

Deno.test("A score answer has the keys of vLLM and Furiosa-LLM, on each path", async () => {
  for (const path of SCORE_PATHS) {
    const llm = scorer();
    const { status, body } = await ask(path, { text_1: "one", text_2: ["two", "three"] }, llm);
    assertEquals(status, 200);
    assertMatch(body.id, /^score-[0-9a-f]{32}$/);
    assertEquals([body.object, body.model, body.data.length], ["list", "fake/model", 2]);
    for (const [at, { index, object, score }] of body.data.entries()) {
      assertEquals([index, object], [at, "score"]);
      assertEquals(score > 0 && score < 1, true);
    }
    const tokens = llm.engine.requests.flatMap(({ promptTokenIds }) => promptTokenIds).length;
    assertEquals(
      [body.usage.prompt_tokens, body.usage.total_tokens, body.usage.completion_tokens],
      [tokens, tokens, 0],
    );
  }
});

Deno.test("Texts pair 1:1, 1:N and N:N, under each of their names and spellings", async () => {
  const [one] = await scores({ text_1: "a b", text_2: "c" });
  const [, two] = await scores({ text_1: ["x", "d"], text_2: ["y", "e f"] });
  assertEquals(await scores({ text_1: ["a b", "d"], text_2: ["c", "e f"] }), [one, two]);
  assertEquals(await scores({ text_1: ["d"], text_2: ["e f", "e f"] }), [two, two]);
  for (
    const [left, right] of [["queries", "documents"], ["queries", "items"], ["data_1", "data_2"]]
  ) {
    assertEquals(await scores({ [left!]: "a b", [right!]: ["c"] }), [one]);
  }
  const part = { content: [{ type: "text", text: "c" }] };
  assertEquals(await scores({ text_1: { text: "a b" }, text_2: [part] }), [one]);
});

Deno.test("An embedding model scores by the cosine, and reranks by it", async () => {
  const llm = new FakeLLM({ pooling: embeddingModel() });
  const [same] = await scores({ text_1: "one two", text_2: "one two" }, llm);
  assertEquals(Math.abs(same! - 1) < 1e-6, true);
  const { body } = await ask("/rerank", { query: "one", documents: ["two", "one"] }, llm);
  assertEquals(body.results[0].index, 1);
});

Deno.test("Without its activation a score is the classifier's number", async () => {
  const body = { text_1: "one", text_2: "two" };
  const [score] = await scores(body);
  const [logit] = await scores({ ...body, use_activation: false });
  assertEquals(Math.abs(score! - 1 / (1 + Math.exp(-logit!))) < 1e-6, true);
});

Deno.test("A limit on the document's tokens, or on the pair's, lowers the usage", async () => {
  const body = { text_1: "one", text_2: "two three four five" };
  const used = async (extra: object) =>
    (await ask("/score", { ...body, ...extra }, scorer())).body.usage.prompt_tokens;
  const all = await used({});
  assertEquals(await used({ max_tokens_per_doc: 2 }) < all, true);
  assertEquals(await used({ truncate_prompt_tokens: all - 1 }), all - 1);
  assertEquals(await used({ truncate_prompt_tokens: -1, truncation_side: "right" }), all);
});

Deno.test("A rerank answer is sorted, cut to top_n, and counts every document", async () => {
  const documents = ["one", "two", "three four", "five", "six"];
  const single = await scores({ text_1: "which", text_2: documents });
  for (const path of RERANK_PATHS) {
    for (const top_n of [undefined, null, 0, 2, 99]) {
      const { status, body } = await ask(path, { query: "which", documents, top_n }, scorer());
      assertEquals(status, 200);
      assertMatch(body.id, /^rerank-[0-9a-f]{32}$/);
      assertEquals(body.results.length, top_n === 2 ? 2 : 5);
      const found = body.results.map((result: Json) => result.relevance_score);
      assertEquals(found, single.toSorted((a, b) => b - a).slice(0, found.length));
      for (const { index, document, relevance_score } of body.results) {
        assertEquals(document, { text: documents[index], multi_modal: null });
        assertEquals(relevance_score, single[index]);
      }
      const { prompt_tokens, total_tokens } = body.usage;
      assertEquals([prompt_tokens, body.meta.billed_units.total_tokens], [
        total_tokens,
        total_tokens,
      ]);
      const whole = await ask("/rerank", { query: "which", documents }, scorer());
      assertEquals(total_tokens, whole.body.usage.total_tokens);
    }
  }
});

Deno.test("A document may be a string by itself, or an object with its text", async () => {
  const plain = await ask("/rerank", { query: "q", documents: ["one"] }, scorer());
  for (const documents of ["one", [{ text: "one" }], { text: "one" }]) {
    const { body } = await ask("/rerank", { query: "q", documents }, scorer());
    assertEquals(body.results, plain.body.results);
  }
});

Deno.test("Fields of other rerankers that change nothing are accepted", async () => {
  const { status } = await ask("/rerank", {
    model: "any",
    query: "q",
    documents: ["a"],
    return_documents: true,
    rank_fields: ["text"],
    max_chunks_per_doc: 3,
    use_qwen3_template: true,
    chat_template_kwargs: {},
  }, scorer());
  assertEquals(status, 200);
});

Deno.test("Scores that cannot be given are refused by field, value and right form", async () => {
  const pair = { text_1: "a", text_2: "b" };
  const many = Array(10_001).fill("a");
  for (
    const [body, param, ...words] of [
      [{}, "body.text_1", "Field required"],
      [{ text_1: "a" }, "body.text_2", "Field required"],
      [{ queries: "a" }, "body.documents", "Field required"],
      [{ items: ["a"] }, "body.queries", "Field required"],
      [{ data_2: "a" }, "body.data_1", "Field required"],
      [{ text_1: 5, text_2: "b" }, "body.text_1", "5", "a string"],
      [{ text_1: ["a", null], text_2: "b" }, "body.text_1.1", "null", "a string"],
      [{ text_1: "a", text_2: [{ image: 1 }] }, "body.text_2.0", "{…}", "a string"],
      [
        { text_1: "a", text_2: { content: [{ type: "image_url" }] } },
        "body.text_2.content.0",
        "text",
      ],
      [{ text_1: [], text_2: "b" }, "text_1", "At least one text element must be given"],
      [{ text_1: "a", text_2: [] }, "text_2", "At least one text_pair element must be given"],
      [{ text_1: ["a", "b"], text_2: "c" }, "text_1", "either 1:1, 1:N or N:N", "2:1"],
      [{ text_1: ["a", "b"], text_2: ["c"] }, "text_1", "either 1:1, 1:N or N:N", "2:1"],
      [{ text_1: ["a", "b"], text_2: ["c", "d", "e"] }, "text_1", "N:N", "2:3"],
      [{ text_1: "a", text_2: many }, "text_2", "10001", "at most 10000"],
      [{ ...pair, max_tokens_per_doc: -1 }, "max_tokens_per_doc", "non-negative integer", "-1"],
      [{ ...pair, max_tokens_per_query: 60 }, "max_tokens_per_query", "(60) must be less than"],
      [{ ...pair, truncation_side: "left" }, "truncation_side", '"left"', '"right"'],
      [
        { ...pair, truncate_prompt_tokens: 61 },
        "truncate_prompt_tokens",
        "Please request a smaller truncation size.",
      ],
      [{ ...pair, truncate_prompt_tokens: -2 }, "body.truncate_prompt_tokens", "-2", "at least -1"],
      [{ ...pair, chat_template_kwargs: [] }, "body.chat_template_kwargs", "an object"],
      [{ ...pair, instruction: 5 }, "body.instruction", "5", "a string"],
      [
        { text_1: "a ".repeat(50), text_2: "b ".repeat(50) },
        "input_tokens",
        "maximum context length is 60",
        "Please reduce the length of the input prompt",
      ],
    ] as const
  ) {
    const error = await refusal("/score", body, scorer());
    assertEquals([error.code, error.param], [400, param], JSON.stringify(body).slice(0, 80));
    for (const word of words) assertStringIncludes(error.message, word);
  }
});

Deno.test("Documents that cannot be sorted are refused by field, value and right form", async () => {
  for (
    const [body, param, ...words] of [
      [{ documents: ["a"] }, "body.query", "Field required"],
      [{ query: "q" }, "body.documents", "Field required"],
      [{ query: ["q"], documents: ["a"] }, "body.query", "one string"],
      [{ query: "q", documents: [] }, "documents", "At least one text_pair element"],
      [{ query: "q", documents: ["a", 1] }, "body.documents.1", "1", "a string"],
      [{ query: "q", documents: ["a"], top_n: -1 }, "body.top_n", "-1", "at least 0"],
      [{ query: "q", documents: ["a"], top_n: 1.5 }, "body.top_n", "1.5", "an integer"],
      [{ query: "q", documents: ["a"], top_n: "x" }, "body.top_n", '"x"', "an integer"],
    ] as const
  ) {
    const error = await refusal("/rerank", body, scorer());
    assertEquals([error.code, error.param], [400, param], JSON.stringify(body));
    for (const word of words) assertStringIncludes(error.message, word);
  }
});
