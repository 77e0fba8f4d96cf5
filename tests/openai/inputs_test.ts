/** Conversations as inputs of `/v1/embeddings`, `/pooling` and `/classify`, under both of their names. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { classifierModel, embeddingModel } from "../helpers/fake_pooling.ts";
import { WatchedLLM } from "./parameter_bodies.ts";
import { ask, type Json, refusal } from "./requests.ts";

const FIRST = [{ role: "user", content: "one" }];
const SECOND = [{ role: "system", content: "two" }, { role: "user", content: "three" }];
const ROUTES = ["/v1/embeddings", "/pooling", "/classify"];

function modelFor(path: string): WatchedLLM {
  const pooling = path === "/classify" ? classifierModel(3) : embeddingModel();
  return new WatchedLLM({ pooling });
}

async function entries(path: string, body: object): Promise<Json[]> {
  const answer = await ask(path, body, modelFor(path));
  assertEquals(answer.status, 200, JSON.stringify(answer.body));
  return answer.body.data.map((entry: Json) => entry.embedding ?? entry.data ?? entry.probs);
}

Deno.test("One conversation or several are inputs, as messages and as input, in their order", async () => {
  for (const path of ROUTES) {
    const one = await entries(path, { messages: FIRST });
    const other = await entries(path, { messages: SECOND });
    for (const name of ["messages", "input"]) {
      assertEquals(await entries(path, { [name]: FIRST }), one, `${path} ${name}`);
      const both = await entries(path, { [name]: [FIRST, SECOND] });
      assertEquals(both, [...one, ...other], `${path} ${name}`);
    }
  }
});

Deno.test("A conversation gets special tokens beside the template's where that is asked for", async () => {
  for (const add_special_tokens of [undefined, false, true]) {
    const llm = modelFor("/v1/embeddings");
    await ask("/v1/embeddings", { messages: FIRST, add_special_tokens }, llm);
    assertEquals(llm.rendered[0]?.options.addSpecialTokens, add_special_tokens ?? false);
  }
});

Deno.test("A fault in a conversation is named by its place", async () => {
  const faulty = [{ role: "user", content: 5 }];
  for (
    const [body, param, word] of [
      [{ input: [{}] }, "body.input.0.role", "Field required"],
      [{ input: faulty }, "body.input.0.content", "5"],
      [{ messages: faulty }, "body.messages.0.content", "5"],
      [{ messages: [FIRST, faulty] }, "body.messages.1.0.content", "5"],
      [{ input: [FIRST, faulty] }, "body.input.1.0.content", "5"],
      [{ messages: [FIRST, "x"] }, "body.messages.1", '"x"'],
      [{ messages: Array(2049).fill(FIRST) }, "messages", "at most 2048"],
      [{ input: Array(2049).fill(FIRST) }, "input", "at most 2048"],
      [{ input: Array(2049).fill(FIRST[0]) }, "input_tokens", "maximum context length"],
    ] as const
  ) {
    const error = await refusal("/v1/embeddings", body, modelFor("/v1/embeddings"));
    assertEquals([error.code, error.param], [400, param]);
    assertStringIncludes(error.message, word);
  }
});
