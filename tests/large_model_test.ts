/** A model beyond 4 GiB: written, loaded, asked, and compared with plain arithmetic. */

import { assert, assertEquals } from "@std/assert";
import { LLM, SamplingParams } from "../mod.ts";
import { largeModelLogits, writeLargeModel } from "./helpers/large_model.ts";

const LAYERS = 8;
const PROMPT = [17, 42, 99];
const NEW_TOKENS = 5;
const GIBIBYTE = 2 ** 30;

const isAsked = Deno.env.get("RNGD_TEST_LARGE_MODEL") === "1";
const name = isAsked
  ? "A checkpoint of 5 GiB loads and answers as plain arithmetic does"
  : "A checkpoint of 5 GiB loads and answers (skipped: takes 6 GiB of memory, 5.2 GiB of disk " +
    "and a minute; RNGD_TEST_LARGE_MODEL=1 asks for it)";

Deno.test({ name, ignore: !isAsked, fn: checkLargeModel });

async function checkLargeModel(): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    const timed = timer();
    const bytes = writeLargeModel(dir, LAYERS);
    assert(bytes > 5 * GIBIBYTE, `${bytes} bytes are written`);
    timed(`${(bytes / GIBIBYTE).toFixed(2)} GiB are written`);
    const { tokenIds, logprobs } = await answer(dir, timed);
    const logits = largeModelLogits(LAYERS, [...PROMPT, ...tokenIds.slice(0, -1)])
      .slice(PROMPT.length - 1);
    timed("plain arithmetic is done");
    tokenIds.forEach((tokenId, i) => {
      const row = logits[i] as Float64Array;
      const ranked = [...row.keys()].sort((a, b) => (row[b] as number) - (row[a] as number));
      assertEquals(tokenId, ranked[0], `token ${i}`);
      const total = Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0));
      for (const id of ranked.slice(0, 5)) {
        const [found, expected] = [logprobs[i]!.get(id) as number, (row[id] as number) - total];
        // The greatest error of sums of float32 over 24,576 products, eight layers deep.
        assert(Math.abs(found - expected) < 2e-3, `token ${i}, ${id}: ${found}, not ${expected}`);
      }
    });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Greedy tokens, and at each of them the log-probabilities of the five best by id. */
async function answer(
  dir: string,
  timed: (what: string) => number,
): Promise<{ tokenIds: readonly number[]; logprobs: ReadonlyMap<number, number>[] }> {
  await using llm = await LLM.load(dir, {
    threads: 2,
    kvCacheDtype: "float32",
    maxModelLength: 512,
    maxBatchSize: 1,
  });
  timed("it is loaded");
  const params = new SamplingParams({
    temperature: 0,
    maxTokens: NEW_TOKENS,
    ignoreEos: true,
    logprobs: 5,
  });
  const { outputs: [output] } = await llm.generate({ promptTokenIds: PROMPT }, params);
  assert(output !== undefined && output.logprobs !== null);
  timed(`${NEW_TOKENS} tokens are answered`);
  await llm.generate("the", new SamplingParams({ maxTokens: 32, ignoreEos: true }));
  console.log(
    `${(32 / timed("32 more are answered")).toFixed(2)} tokens/s, RSS ${
      (Deno.memoryUsage().rss / GIBIBYTE).toFixed(2)
    } GiB`,
  );
  return {
    tokenIds: output.tokenIds,
    logprobs: output.logprobs.map((position) =>
      new Map([...position].map(([id, { logprob }]) => [id, logprob]))
    ),
  };
}

/** Says how long each part took: the test runs on request, to be read. */
function timer(): (what: string) => number {
  let last = performance.now();
  return (what) => {
    const seconds = (performance.now() - last) / 1000;
    console.log(`${what} after ${seconds.toFixed(1)} s`);
    last = performance.now();
    return seconds;
  };
}
