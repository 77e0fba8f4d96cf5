/** The soak's reading of answers: whole and streamed ones of equal content compare equal, others not. */

import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { handler } from "../../lib/openai/handler.ts";
import { readStream, readWhole } from "../../tools/soak/answers.ts";
import { Random } from "../../tools/soak/random.ts";
import { makeRequests } from "../../tools/soak/requests.ts";
import { FakeLLM } from "../openai/fake_llm.ts";
import { CHAT, COMPLETIONS, HELLO, post } from "../openai/requests.ts";

const SHARED = { n: 2, return_token_ids: true, stream_options: { include_usage: true } };
const BODIES = [
  [CHAT, { ...HELLO, ...SHARED, logprobs: true, top_logprobs: 2 }],
  [COMPLETIONS, { prompt: ["Hi", "Ho"], ...SHARED, logprobs: 2 }],
] as const;

async function ask(path: string, body: object, pieces?: readonly string[]): Promise<string> {
  const llm = new FakeLLM(pieces === undefined ? {} : { pieces });
  return await (await handler(llm)(post(path, body))).text();
}

Deno.test("An answer has one form, whole or streamed, and every difference shows in it", async () => {
  for (const [path, { stream_options, ...body }] of BODIES) {
    const whole = readWhole(await ask(path, body));
    const stream = await ask(path, { ...body, stream: true, stream_options });
    assertEquals(readStream(stream), whole);
    const { choices } = JSON.parse(whole);
    assertEquals(choices.length, path === CHAT ? 2 : 4);
    assert(
      choices.every(({ logprobs, tokenIds }: { logprobs: string[]; tokenIds: number[] }) =>
        logprobs.length === tokenIds.length && tokenIds.length > 0
      ),
      whole,
    );
    assertNotEquals(readWhole(await ask(path, body, ["Hel", "lo", " World"])), whole);
    assertNotEquals(readWhole(await ask(path, { ...body, max_tokens: 1 })), whole);
  }
});

Deno.test("A stream that was cut anywhere is no answer", async () => {
  const [[path, body]] = BODIES;
  const stream = await ask(path, { ...body, stream: true });
  for (let end = 0; end < stream.length; end++) {
    assertThrows(() => readStream(stream.slice(0, end)));
  }
});

Deno.test("A seed makes the same requests again, of all kinds on both routes", () => {
  const requests = makeRequests(new Random(7));
  assertEquals(makeRequests(new Random(7)), requests);
  assertNotEquals(makeRequests(new Random(8)), requests);
  assertEquals(new Set(requests.map(({ path }) => path)).size, 2);
  const names = new Set(requests.flatMap(({ fields }) => Object.keys(fields)));
  for (const name of ["n", "best_of", "use_beam_search", "stop", "seed", "logprobs"]) {
    assert(names.has(name), name);
  }
});
