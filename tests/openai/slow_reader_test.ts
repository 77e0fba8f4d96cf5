/** Readers that do not read: what they are owed waits, within bounds, and nobody else does. */

import { assert, assertEquals } from "@std/assert";
import { SamplingParams } from "../../mod.ts";
import { collect, idle, tinyTest } from "../helpers/tiny_llm.ts";
import { FakeLLM } from "./fake_llm.ts";
import { readUntil, Served } from "./raw_client.ts";
import { CHAT, HELLO } from "./requests.ts";

const PIECE_LENGTH = 65_536;
const PIECE_COUNT = 400;

Deno.test("A client that reads nothing stops its stream, and gets all of it when it reads", async () => {
  let steps = 0;
  const pieces = Array<string>(PIECE_COUNT).fill("~".repeat(PIECE_LENGTH));
  const llm = new FakeLLM({ pieces, before: () => void steps++ });
  await using served = new Served(llm);
  const client = await served.send(CHAT, { ...HELLO, stream: true });
  let before = -1;
  while (before < steps || steps === 0) { // until the sockets' buffers are full
    before = steps;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert(steps < PIECE_COUNT, `all ${steps} pieces were made for a client that reads nothing`);

  const other = await served.send(CHAT, { ...HELLO, stream: true, max_tokens: 2 });
  await readUntil(other, "data: [DONE]");
  other.close();
  const text = await readUntil(client, "data: [DONE]");
  client.close();
  assertEquals(text.split("~").length - 1, PIECE_COUNT * PIECE_LENGTH);
});

tinyTest(
  "A stream that nobody reads ends in the engine, keeps no blocks, and is whole when it is read",
  async (llm) => {
    const params = new SamplingParams({ temperature: 0, maxTokens: 60, ignoreEos: true });
    const { outputs: [expected] } = await llm.generate("the cat", params);
    const slow = llm.stream("the cat", params);
    const first = await slow.next();
    const other = await llm.generate("the dog", params); // is not held up
    assertEquals(other.outputs[0]?.tokenIds.length, 60);
    await idle(llm);
    const deltas = [first.value ?? [], await collect(slow)].flat();
    assertEquals(deltas.map(({ text }) => text).join(""), expected?.text);
    assertEquals(deltas.flatMap(({ tokenIds }) => tokenIds), expected?.tokenIds);
  },
  { enablePrefixCaching: false },
);
