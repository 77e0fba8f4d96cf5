/** Clients that close their socket: everything that was made for them ends, on every route. */

import { assert, assertEquals } from "@std/assert";
import { classifierModel, embeddingModel, FakePoolingEngine } from "../helpers/fake_pooling.ts";
import { door, FakeLLM } from "./fake_llm.ts";
import { readUntil, Served } from "./raw_client.ts";
import { CHAT, COMPLETIONS, until } from "./requests.ts";

const LONG = "x".repeat(20_000);

/** Bodies of a route, small and large. */
function bodiesOf(path: string): readonly Readonly<Record<string, unknown>>[] {
  const texts = (text: string): Readonly<Record<string, unknown>> => {
    switch (path) {
      case CHAT:
        return { messages: [{ role: "user", content: text }] };
      case COMPLETIONS:
        return { prompt: [text, "b"] };
      case "/score":
        return { text_1: "a", text_2: ["b", text], user: LONG };
      case "/rerank":
        return { query: "a", documents: ["b", text] };
      default:
        return { input: ["a", text] };
    }
  };
  return [texts("a"), { ...texts("a"), user: LONG }];
}

for (const path of [CHAT, COMPLETIONS]) {
  for (const stream of [true, false]) {
    for (const when of ["before", "after"]) {
      const what = `${stream ? "a stream" : "a whole answer"} of ${path} ${when} its first token`;
      Deno.test(`A client that closes its socket ends ${what}, whatever its body's size`, async () => {
        await Promise.all(
          bodiesOf(path).map(async (body) => {
            const { wait } = door();
            let waiting = 0;
            const llm = new FakeLLM({
              before(step, signal) {
                if (step < (when === "before" ? 0 : 1)) return;
                waiting++;
                return wait(signal);
              },
            });
            await using served = new Served(llm);
            const client = await served.send(path, { ...body, stream });
            await until(() => waiting > 0, "the generation waits behind the door");
            if (when === "after" && stream) await readUntil(client, "data: ");
            assert(llm.running > 0);
            client.close();
            await until(() => llm.running === 0, "the generation ends");
          }),
        );
      });
    }
  }
}

for (
  const [path, pooling] of [
    ["/v1/embeddings", embeddingModel()],
    ["/pooling", embeddingModel()],
    ["/classify", classifierModel(3)],
    ["/score", classifierModel(1)],
    ["/rerank", classifierModel(1)],
  ] as const
) {
  Deno.test(`A client that closes its socket takes its prompts out of the engine: ${path}`, async () => {
    await Promise.all(
      bodiesOf(path).map(async (body) => {
        const engine = new FakePoolingEngine({ stuck: true });
        await using served = new Served(new FakeLLM({ pooling, engine }));
        const client = await served.send(path, body);
        await until(() => engine.liveCount > 0, "the prompts are queued");
        client.close();
        await until(() => engine.liveCount === 0, "none of them is left");
      }),
    );
  });
}

Deno.test("An answer whose head went out early is whole, and a refusal is still a status", async () => {
  let { open, wait } = door();
  const llm = new FakeLLM({ before: (step, signal) => step === 0 ? wait(signal) : undefined });
  await using served = new Served(llm);
  for (const stream of [true, false]) {
    ({ open, wait } = door());
    const client = await served.send(CHAT, { ...bodiesOf(CHAT)[1], stream });
    await readUntil(client, "200 OK"); // though there is no token yet
    assertEquals(llm.running, 1);
    open();
    await readUntil(client, stream ? "data: [DONE]" : '"finish_reason":"stop"');
    client.close();
    await until(() => llm.running === 0, "the generation ends");
  }
  const refused = await served.send(CHAT, { messages: [], user: LONG });
  await readUntil(refused, "400 Bad Request");
  refused.close();
});
