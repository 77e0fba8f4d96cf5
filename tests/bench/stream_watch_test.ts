/** A question to the bench's server ends when its streams do, and when one of them fails. */

import { assertEquals, assertRejects } from "@std/assert";
import { withLimit } from "../../bench/server/limit.ts";
import { StreamWatch } from "../../bench/server/stream_watch.ts";
import type { GenerationDelta } from "../../lib/outputs.ts";
import { SubjectProcess } from "../../bench/server/subject_process.ts";
import { goldenModel } from "../helpers/golden_models.ts";
import { collect } from "../helpers/tiny_llm.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

async function* deltas(count: number, failAt = Infinity): AsyncGenerator<GenerationDelta> {
  for (let at = 1; at <= count; at++) {
    await Promise.resolve();
    if (at === failAt) throw new Error("the device broke");
    yield {
      requestId: "r",
      index: 0,
      text: "a",
      tokenIds: [5],
      logprobs: null,
      finishReason: at === count ? "length" : null,
      stopReason: null,
    };
  }
}

Deno.test("Streams that all write side by side are counted from their second token on", async () => {
  const watch = new StreamWatch(2);
  await Promise.all([collect(watch.watch(deltas(5))), collect(watch.watch(deltas(5)))]);
  const { tokens } = await watch.done;
  assertEquals(tokens > 0 && tokens <= 6, true, `${tokens} tokens`);
});

Deno.test("A stream that fails, is left or is refused ends the question with an error", async () => {
  const failed = new StreamWatch(64);
  await assertRejects(() => collect(failed.watch(deltas(5, 3))), Error, "the device broke");
  await assertRejects(() => failed.done, Error, "the device broke");

  const left = new StreamWatch(64);
  for await (const _ of left.watch(deltas(5))) break;
  await assertRejects(() => left.done, Error, "left before its end");

  const refused = new StreamWatch(64);
  refused.fail(new Error("answered with 503"));
  await assertRejects(() => refused.done, Error, "503");
});

Deno.test("Waiting ends at its limit with what did not come", async () => {
  assertEquals(await withLimit(Promise.resolve(7), 1000, "Seven"), 7);
  const never = new Promise<never>(() => {});
  await assertRejects(() => withLimit(never, 5, "An answer"), Error, "An answer did not come");
});

Deno.test("A process under test tells of streams that are refused, and answers the next question", async () => {
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(dir, goldenModel("llama"));
    await using subject = await SubjectProcess.start(dir);
    const question = { streams: 2, tokens: 100_000, round: 1 };
    const ask = (way: "direct" | "completions", tokens: number) =>
      subject.measure({ ...question, way, tokens });
    await assertRejects(() => ask("completions", 100_000), Error, "answered with 400");
    await assertRejects(() => ask("direct", 100_000), Error, "A stream has failed: ");
    assertEquals((await ask("completions", 8)).tokens > 0, true);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
