import { assertEquals, assertRejects } from "@std/assert";
import { Channel } from "../../lib/base/channel.ts";

Deno.test("Channel delivers what was pushed before and after the consumer waits", async () => {
  const channel = new Channel<number>();
  channel.push(1);
  queueMicrotask(() => {
    channel.push(2);
    channel.close();
  });
  const seen: number[] = [];
  for await (const item of channel) seen.push(item);
  assertEquals(seen, [1, 2]);
});

Deno.test("Channel tells its producer once when the consumer leaves early", async () => {
  let left = 0;
  const channel = new Channel<number>(() => left++);
  channel.push(1);
  channel.push(2);
  for await (const _ of channel) break;
  assertEquals(left, 1);
});

Deno.test("Channel hands over its items before the error it failed with", async () => {
  let left = 0;
  const channel = new Channel<number>(() => left++);
  channel.push(1);
  channel.fail(new RangeError("late"));
  const seen: number[] = [];
  await assertRejects(
    async () => {
      for await (const item of channel) seen.push(item);
    },
    RangeError,
    "late",
  );
  assertEquals([seen, left], [[1], 0]);
});
