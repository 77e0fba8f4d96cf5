import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { logSumExp, powerOfTwo } from "../../lib/base/row_summary.ts";
import { tokenLogprobs } from "../../lib/sampling/logprobs.ts";
import { sample } from "../../lib/sampling/sampler.ts";
import { randomRow, stateOf } from "../helpers/sampling.ts";
import { seededRandom } from "../helpers/scripted_runner.ts";

const SEED = Math.floor(performance.timeOrigin) % 1_000_000;

Deno.test("Log-probabilities are asked for or null", () => {
  const row = Float32Array.of(1, 3, 2, 3, -Infinity);
  const logprobs = (logprobs?: number) =>
    sample(
      row,
      stateOf({ options: { temperature: 0, ...(logprobs === undefined ? {} : { logprobs }) } }),
    )
      .logprobs;
  assertEquals(logprobs(), null);
  const normalizer = Math.log(Math.exp(1) + 2 * Math.exp(3) + Math.exp(2));
  assertEquals(logprobs(0)!.map((entry) => [entry.tokenId, entry.rank]), [[1, 1]]);
  assertAlmostEquals(logprobs(0)![0]!.logprob, 3 - normalizer, 1e-7);
});

Deno.test("There are k entries if the chosen token is among the k most likely, else k + 1", () => {
  const row = Float32Array.of(5, 4, 3, 2);
  const ids = (chosen: number, logprobs: number) => {
    const options = { temperature: 0, logprobs, allowedTokenIds: [chosen] };
    return sample(row, stateOf({ options })).logprobs!.map((entry) => [entry.tokenId, entry.rank]);
  };
  assertEquals(ids(1, 2), [[1, 2], [0, 1]]);
  assertEquals(ids(3, 2), [[3, 4], [0, 1], [1, 2]]);
  assertEquals(ids(3, 0), [[3, 4]]);
  assertEquals(ids(3, 9), [[3, 4], [0, 1], [1, 2], [2, 3]]);
});

Deno.test("Tokens asked for by id are reported instead of the most likely, behind the chosen one", () => {
  const row = Float32Array.of(5, 4, 3, 2);
  const options = { temperature: 0, logprobs: 2, logprobTokenIds: [3, 0, 2] };
  const entries = sample(row, stateOf({ options })).logprobs!;
  assertEquals(entries.map(({ tokenId, rank }) => [tokenId, rank]), [[0, 1], [3, 4], [2, 3]]);
  const alone = tokenLogprobs(row, 2, 0)[0]!;
  assertEquals(entries[2], alone);
});

Deno.test("The chosen token comes first, ties by id and of one rank; -1 is the whole vocabulary", () => {
  const row = Float32Array.of(0, 2, -Infinity, 2, 1);
  const ids = (tokenId: number, topCount: number) =>
    tokenLogprobs(row, tokenId, topCount).map((entry) => [entry.tokenId, entry.rank]);
  assertEquals(ids(4, 0), [[4, 3]]);
  assertEquals(ids(3, 1), [[3, 1], [1, 1]]);
  assertEquals(ids(1, 2), [[1, 1], [3, 1]]);
  assertEquals(ids(0, -1), [[0, 4], [1, 1], [3, 1], [4, 3], [2, 5]]);
  assertEquals(tokenLogprobs(row, 2, 0)[0]!.logprob, -Infinity);
  const mass = tokenLogprobs(row, 0, -1).reduce((sum, { logprob }) => sum + Math.exp(logprob), 0);
  assertAlmostEquals(mass, 1, 1e-7);
});

Deno.test("Log-probabilities are right to a float32, on any row", () => {
  const random = seededRandom(SEED);
  for (let round = 0; round < 50; round++) {
    const row = randomRow(random, 1 + Math.floor(random() * 3000));
    const exact = Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0));
    assertAlmostEquals(logSumExp(row), exact, 1e-7, `seed ${SEED}, round ${round}`);
  }
});

Deno.test("powerOfTwo is right to 3e-9, never above 1, and 0 far down", () => {
  for (let x = 0; x > -1020; x -= 0.0137) {
    const value = powerOfTwo(x);
    assert(Math.abs(value / 2 ** x - 1) < 3e-9 && value <= 1, `2^${x}`);
  }
  const edges = [0, -1, -10, -1022, -Infinity, NaN].map(powerOfTwo);
  assertEquals(edges, [1, 0.5, 2 ** -10, 0, 0, 0]);
});

Deno.test("logSumExp neither overflows nor underflows", () => {
  assertAlmostEquals(logSumExp(Float32Array.of(1e30, 1e30)) / Math.fround(1e30), 1, 1e-12);
  assertAlmostEquals(logSumExp(Float32Array.of(-2000, -2000)), -2000 + Math.log(2), 1e-9);
});
