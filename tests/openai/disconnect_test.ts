/** Clients that leave, read slowly, or come in crowds. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { InvalidParameterError } from "../../lib/base/errors.ts";
import { handler } from "../../lib/openai/handler.ts";
import { merge } from "../../lib/openai/merge.ts";
import { door, FakeLLM } from "./fake_llm.ts";
import { ask, CHAT, COMPLETIONS, HELLO, post, until } from "./requests.ts";

const BODIES = [[CHAT, HELLO], [COMPLETIONS, { prompt: ["a", "b", "c"] }]] as const;

Deno.test("A client that leaves before the first token ends its generation, streamed or not", async () => {
  for (const [path, body] of BODIES) {
    for (const stream of [false, true]) {
      const { wait } = door();
      const llm = new FakeLLM({ before: (_, signal) => wait(signal) });
      const client = new AbortController();
      const request = post(path, { ...body, stream }, { signal: client.signal });
      const answer = handler(llm)(request);
      await until(() => llm.running > 0, "the generation starts");
      client.abort();
      await answer;
      assertEquals(llm.running, 0);
    }
  }
});

Deno.test("A client that has left already starts nothing", async () => {
  const llm = new FakeLLM();
  const request = post(CHAT, HELLO, { signal: AbortSignal.abort() });
  await handler(llm)(request).catch(() => {});
  assertEquals(llm.running, 0);
});

Deno.test("A client that leaves in the middle of a stream ends its generation", async () => {
  for (const [path, body] of BODIES) {
    const { wait } = door();
    const llm = new FakeLLM({ before: (step, signal) => step < 2 ? undefined : wait(signal) });
    const response = await handler(llm)(post(path, { ...body, stream: true }));
    const reader = response.body?.getReader();
    await reader?.read();
    await reader?.read();
    const last = reader?.read(); // waits behind the door
    await reader?.cancel();
    await last;
    await until(() => llm.running === 0, "the generation ends");
  }
});

Deno.test("A client that leaves a whole answer after its first token ends the generation", async () => {
  for (const [path, body] of BODIES) {
    for (const isReading of [false, true]) {
      const { wait } = door();
      const llm = new FakeLLM({ before: (step, signal) => step < 1 ? undefined : wait(signal) });
      const response = await handler(llm)(post(path, body));
      assertEquals(response.status, 200);
      const reader = response.body?.getReader();
      const reading = isReading ? reader?.read() : undefined;
      await reader?.cancel();
      await reading;
      await until(() => llm.running === 0, "the generation ends");
    }
  }
});

Deno.test("A failure in the middle of a whole answer is a status, unless its head is out already", async () => {
  const failure = new Error("the device is gone");
  const refusal = new InvalidParameterError("badWords", ["a"], "Cannot choose a token");
  for (const [path, body] of BODIES) {
    for (const [thrown, status] of [[failure, 500], [refusal, 400]] as const) {
      const seen: unknown[] = [];
      const { open, wait } = door();
      let isEarly = false;
      const llm = new FakeLLM({
        async before(step, signal) {
          if (step < 2) return;
          if (isEarly) await wait(signal);
          throw thrown;
        },
      });
      const serve = handler(llm, { onError: (error) => seen.push(error) });
      const refused = await serve(post(path, body));
      assertEquals([refused.status, (await refused.json()).error.code], [status, status]);
      isEarly = true;
      const broken = await serve(post(path, body));
      assertEquals(broken.status, 200);
      open();
      await assertRejects(() => broken.text(), Error);
      assertEquals(seen, status === 500 ? [failure, failure] : []);
      await until(() => llm.running === 0, "the generation ends");
    }
  }
});

Deno.test("After the Response is returned the request's signal no longer counts", async () => {
  const llm = new FakeLLM();
  const client = new AbortController();
  const request = post(CHAT, { ...HELLO, stream: true }, { signal: client.signal });
  const response = await handler(llm)(request);
  client.abort();
  assert((await response.text()).endsWith("data: [DONE]\n\n"));
});

Deno.test("A stream makes tokens only as fast as its client reads", async () => {
  let steps = 0;
  const llm = new FakeLLM({ pieces: Array(1000).fill("x"), before: () => void steps++ });
  const response = await handler(llm)(post(CHAT, { ...HELLO, stream: true }));
  const reader = response.body?.getReader();
  for (let count = 0; count < 10; count++) await reader?.read();
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert(steps <= 12, `${steps} steps ran for 10 events`);
  await reader?.cancel();
  assertEquals(llm.running, 0);
});

Deno.test("Many clients are answered at once, each with its own answer", async () => {
  const llm = new FakeLLM({ before: () => new Promise((resolve) => setTimeout(resolve, 1)) });
  const serve = handler(llm);
  const started = performance.now();
  const answers = await Promise.all(
    Array.from({ length: 50 }, async (_, index) => {
      const body = { ...HELLO, stream: index % 2 === 0, max_tokens: 1 + index % 4 };
      const response = await serve(post(CHAT, { ...body, request_id: `r${index}` }));
      return await response.text();
    }),
  );
  for (const [index, text] of answers.entries()) assert(text.includes(`"chatcmpl-r${index}"`));
  assert(performance.now() - started < 1000, "they ran side by side");
  assertEquals(llm.running, 0);
});

Deno.test("After many short-lived clients a fresh one is answered promptly", async () => {
  const llm = new FakeLLM({ before: () => new Promise((resolve) => setTimeout(resolve, 1)) });
  const serve = handler(llm);
  await Promise.all(Array.from({ length: 20 }, async (_, index) => {
    const client = new AbortController();
    const request = post(CHAT, { ...HELLO, stream: index % 2 === 0 }, { signal: client.signal });
    setTimeout(() => client.abort(), index % 4);
    const response = await serve(request);
    await response.body?.cancel();
  }));
  await until(() => llm.running === 0, "all generations end");
  assertEquals((await ask(CHAT, HELLO, llm)).status, 200);
});

async function* numbers(from: number, count: number): AsyncGenerator<number, void, void> {
  for (let value = from; value < from + count; value++) {
    await Promise.resolve();
    yield value;
  }
}

Deno.test("Merged generators give every value, each source in its order", async () => {
  const seen: number[][] = [[], [], []];
  for await (const [index, value] of merge([numbers(0, 3), numbers(10, 0), numbers(20, 5)])) {
    seen[index]?.push(value);
  }
  assertEquals(seen, [[0, 1, 2], [], [20, 21, 22, 23, 24]]);
});

Deno.test("Leaving a merged generator ends all its sources", async () => {
  let ended = 0;
  async function* endless(): AsyncGenerator<number, void, void> {
    try {
      while (true) yield await Promise.resolve(1);
    } finally {
      ended++;
    }
  }
  for await (const _ of merge([endless(), endless(), endless()])) break;
  await until(() => ended === 3, "all three end");
});

Deno.test("The failure of one source fails the merged generator", async () => {
  async function* broken(): AsyncGenerator<number, void, void> {
    yield await Promise.resolve(1);
    throw new RangeError("broken");
  }
  const all = async () => {
    for await (const _ of merge([numbers(0, 2), broken()]));
  };
  await assertRejects(all, RangeError, "broken");
});
