import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { InvalidLogitsError } from "../../lib/base/errors.ts";
import { logSumExp } from "../../lib/base/row_summary.ts";
import { cutRow } from "../../lib/sampling/filters.ts";
import { tokenLogprobs } from "../../lib/sampling/logprobs.ts";
import { SamplingParams, type SamplingParamsOptions } from "../../lib/sampling/params.ts";
import { resolveSamplingParams } from "../../lib/sampling/resolved_params.ts";
import { largestLogit, sample, SamplingState } from "../../lib/sampling/sampler.ts";
import { kthLargest, topIds } from "../../lib/sampling/top_values.ts";
import { seededRandom } from "../helpers/scripted_runner.ts";

const SEED = 20260301;

function stateOf(
  options: SamplingParamsOptions,
  { prompt = [0], endTokenIds = [] as number[], seed = 1 } = {},
): SamplingState {
  const params = resolveSamplingParams(new SamplingParams(options));
  return new SamplingState(params, seed, prompt, endTokenIds);
}

function randomRow(random: () => number, length: number, levels = Infinity): Float32Array {
  return Float32Array.from({ length }, () => {
    const value = (random() + random() + random() - 1.5) * 6;
    return levels === Infinity ? value : Math.round(value * levels / 6) * 6 / levels;
  });
}

/** The distribution of spec and textbook: sort everything, then drop, step by step. */
function exactDistribution(row: Float32Array, options: SamplingParamsOptions): Float64Array {
  const { temperature, minP, topK, topP } = resolveSamplingParams(new SamplingParams(options));
  let kept = Array.from(row, (logit, id) => ({ id, logit, mass: Math.exp(logit / temperature) }))
    .filter(({ mass }) => mass > 0)
    .sort((a, b) => b.logit - a.logit || a.id - b.id);
  const total = () => kept.reduce((sum, { mass }) => sum + mass, 0);
  kept = kept.filter(({ mass }) => mass >= minP * kept[0]!.mass * (1 - 1e-12));
  if (topK > 0 && topK < kept.length) {
    const last = kept[topK - 1]!.logit;
    kept = kept.filter(({ logit }) => logit >= last);
  }
  if (topP < 1) {
    const limit = topP * total();
    let before = 0;
    kept = kept.filter(({ mass }) => {
      const stays = before < limit;
      before += mass;
      return stays;
    });
  }
  const result = new Float64Array(row.length);
  for (const { id, mass } of kept) result[id] = mass / total();
  return result;
}

/** The ids that a cut leaves. */
function keptIds(row: Float32Array, options: SamplingParamsOptions): number[] {
  const params = resolveSamplingParams(new SamplingParams(options));
  const { value, equalCount } = cutRow(row, largestLogit(row), params);
  let equalsLeft = equalCount;
  return [...row.keys()].filter((id) =>
    row[id]! > value || (row[id] === value && equalsLeft-- > 0)
  );
}

Deno.test("Step 1: the sampler refuses a row that is not numbers, and takes impossible tokens", () => {
  for (const temperature of [0, 1]) {
    const draw = (values: number[]) => sample(Float32Array.from(values), stateOf({ temperature }));
    assertThrows(() => draw([1, NaN, 2]), InvalidLogitsError, "the logit of token 1 is NaN");
    assertThrows(() => draw([1, 2, Infinity]), InvalidLogitsError, "token 2 is Infinity");
    assertThrows(() => draw([-Infinity, -Infinity]), InvalidLogitsError, "none is possible");
    assertEquals(draw([-Infinity, 3, -Infinity]).tokenId, 1);
  }
});

Deno.test("Step 2: log-probabilities are those of the untouched row", () => {
  const row = Float32Array.of(1, 3, 2, 3, -Infinity);
  const options = { temperature: 0, logprobs: 3, repetitionPenalty: 10, minTokens: 1 };
  const { tokenId, logprobs } = sample(row, stateOf(options, { prompt: [3], endTokenIds: [1] }));
  assertEquals(tokenId, 2);
  assertEquals(logprobs!.map((entry) => [entry.tokenId, entry.rank]), [[2, 3], [1, 1], [3, 1]]);
  const normalizer = Math.log(Math.exp(1) + 2 * Math.exp(3) + Math.exp(2));
  assertAlmostEquals(logprobs![0]!.logprob, 2 - normalizer, 1e-12);
  assertAlmostEquals(logprobs![1]!.logprob, 3 - normalizer, 1e-12);
  assertEquals(sample(row, stateOf({ temperature: 0 })).logprobs, null);
});

Deno.test("tokenLogprobs puts the chosen token first, ties by id, and gives the whole vocabulary for -1", () => {
  const row = Float32Array.of(0, 2, -Infinity, 2, 1);
  const ids = (tokenId: number, topCount: number) =>
    tokenLogprobs(row, tokenId, topCount).map((entry) => [entry.tokenId, entry.rank]);
  assertEquals(ids(4, 0), [[4, 3]]);
  assertEquals(ids(3, 1), [[3, 1], [1, 1]]);
  assertEquals(ids(1, 2), [[1, 1], [3, 1]]);
  assertEquals(ids(0, -1), [[0, 4], [1, 1], [3, 1], [4, 3], [2, 5]]);
  assertEquals(tokenLogprobs(row, 2, 0)[0]!.logprob, -Infinity);
  const mass = tokenLogprobs(row, 0, -1).reduce((sum, { logprob }) => sum + Math.exp(logprob), 0);
  assertAlmostEquals(mass, 1, 1e-12);
});

Deno.test("logSumExp neither overflows nor underflows", () => {
  assertAlmostEquals(logSumExp(Float32Array.of(1e30, 1e30)) / Math.fround(1e30), 1, 1e-12);
  assertAlmostEquals(logSumExp(Float32Array.of(-2000, -2000)), -2000 + Math.log(2), 1e-9);
});

Deno.test("Step 3: end and stop tokens are impossible while the output is short", () => {
  const row = Float32Array.of(5, 4, 3, 2);
  const options = { temperature: 0, minTokens: 2, stopTokenIds: [1, 99] };
  const state = stateOf(options, { endTokenIds: [0], prompt: [3] });
  assertEquals(sample(row, state).tokenId, 2);
  state.accept(2);
  assertEquals(sample(row, state).tokenId, 2);
  state.accept(2);
  assertEquals(sample(row, state).tokenId, 0);
  const impossible = stateOf({ minTokens: 1, stopTokenIds: [0, 1] });
  assertThrows(() => sample(Float32Array.of(1, 2), impossible), InvalidLogitsError);
});

Deno.test("Step 4: the repetition penalty meets every token of prompt and output once", () => {
  const row = Float32Array.of(6, 5, -1, -1.5);
  const greedy = (penalty: number, prompt: number[], output: number[] = []) => {
    const state = stateOf({ temperature: 0, repetitionPenalty: penalty }, { prompt });
    for (const id of output) state.accept(id);
    return sample(row, state).tokenId;
  };
  assertEquals(greedy(1.1, [0, 0, 0]), 0); // 6 / 1.1 is still the largest, however often 0 is there
  assertEquals(greedy(1.3, [0]), 1);
  assertEquals(greedy(1.3, [3], [0]), 1);
  assertEquals(greedy(1.3, [0, 1]), 0);
  // Negative logits are multiplied: below 1 that brings them up.
  const negative = Float32Array.of(-2, -1.9);
  assertEquals(sample(negative, stateOf({ temperature: 0, repetitionPenalty: 0.5 })).tokenId, 0);
});

Deno.test("Step 5: greedy takes the largest, of equals the lowest id", () => {
  const row = Float32Array.of(-7, 2, 9, 9, 1);
  assertEquals(sample(row, stateOf({ temperature: 0 })).tokenId, 2);
});

Deno.test("Step 6: min-p drops what is less likely than a share of the best", () => {
  const row = Float32Array.from([0, Math.log(0.5), Math.log(0.1)]);
  assertEquals(keptIds(row, { minP: 0.2 }), [0, 1]);
  assertEquals(keptIds(row, { minP: 0.05 }), [0, 1, 2]);
  assertEquals(keptIds(row, { minP: 1 }), [0]);
  assertEquals(keptIds(row, { minP: 0.2, temperature: 2 }), [0, 1, 2]); // flatter first
});

Deno.test("Step 6: top-k keeps ties with the k-th", () => {
  const row = Float32Array.of(1, 3, 2, 2, 0);
  assertEquals(keptIds(row, { topK: 1 }), [1]);
  assertEquals(keptIds(row, { topK: 2 }), [1, 2, 3]);
  assertEquals(keptIds(row, { topK: 4 }), [0, 1, 2, 3]);
  assertEquals(keptIds(row, { topK: 50 }), [0, 1, 2, 3, 4]);
});

Deno.test("Step 6: top-p keeps the fewest that reach the mass, of equals the lower ids, at least one", () => {
  const row = Float32Array.from([0.1, 0.5, 0.2, 0.2], Math.log);
  assertEquals(keptIds(row, { topP: 0.01 }), [1]);
  assertEquals(keptIds(row, { topP: 0.49 }), [1]);
  assertEquals(keptIds(row, { topP: 0.69 }), [1, 2]);
  assertEquals(keptIds(row, { topP: 0.89 }), [1, 2, 3]);
  assertEquals(keptIds(row, { topP: 0.91 }), [0, 1, 2, 3]);
  assertEquals(keptIds(Float32Array.of(1, 1, 1, 1), { topP: 0.5 }), [0, 1]);
  // Top-k leaves 0.5, 0.2 and 0.2; the first of them is 0.5556 of these.
  assertEquals(keptIds(row, { topK: 2, topP: 0.56 }), [1, 2]);
  assertEquals(keptIds(row, { topK: 2, topP: 0.55 }), [1]);
});

Deno.test("Step 6: the filters keep what sorting everything keeps, on any row", () => {
  const random = seededRandom(SEED);
  for (let round = 0; round < 400; round++) {
    const levels = random() < 0.4 ? 12 : Infinity; // many ties
    const row = randomRow(random, 2 + Math.floor(random() * 700), levels);
    if (random() < 0.2) row.fill(-Infinity, 1, Math.floor(row.length / 2));
    const options = {
      temperature: 0.05 + random() * 1.9,
      ...(random() < 0.5 ? { topK: Math.floor(random() * row.length) } : {}),
      ...(random() < 0.6 ? { topP: Math.max(1e-3, random()) } : {}),
      ...(random() < 0.4 ? { minP: random() ** 3 } : {}),
    };
    const exact = exactDistribution(row, options);
    const expected = [...row.keys()].filter((id) => exact[id]! > 0);
    const actual = keptIds(row, options).filter((id) => row[id] !== -Infinity);
    assertEquals(actual, expected, `seed ${SEED}, round ${round}, ${JSON.stringify(options)}`);
  }
});

Deno.test("Step 7: draws follow the exact filtered distribution", () => {
  const random = seededRandom(SEED);
  const cases: SamplingParamsOptions[] = [
    {},
    { temperature: 0.5 },
    { temperature: 1.7 },
    { topK: 7 },
    { topP: 0.8 },
    { minP: 0.1 },
    { temperature: 1.3, topK: 12, topP: 0.9, minP: 0.02 },
  ];
  const drawCount = 20_000;
  for (const options of cases) {
    const row = randomRow(random, 40);
    const exact = exactDistribution(row, options);
    const counts = new Float64Array(row.length);
    const state = stateOf(options, { seed: 99 });
    for (let draw = 0; draw < drawCount; draw++) {
      const { tokenId } = sample(row, state);
      counts[tokenId]!++;
      state.accept(tokenId);
    }
    let chiSquare = 0;
    let freedom = -1;
    let [rareExpected, rareCount] = [0, 0];
    for (const [id, probability] of exact.entries()) {
      const expected = probability * drawCount;
      if (probability === 0) assertEquals(counts[id], 0, "a dropped token was drawn");
      else if (expected < 5) {
        [rareExpected, rareCount] = [rareExpected + expected, rareCount + counts[id]!];
      } else {
        chiSquare += (counts[id]! - expected) ** 2 / expected;
        freedom++;
      }
    }
    if (rareExpected >= 5) {
      chiSquare += (rareCount - rareExpected) ** 2 / rareExpected;
      freedom++;
    }
    // Mean freedom, variance 2 · freedom: four sigmas, a fixed seed.
    const limit = freedom + 4 * Math.sqrt(2 * freedom);
    assert(chiSquare < limit, `${JSON.stringify(options)}: ${chiSquare} > ${limit}`);
  }
});

Deno.test("Step 7: the draw depends on the seed and on how many came before, and on nothing else", () => {
  const row = new Float32Array(1000);
  const draws = (seed: number, skip: number) => {
    const state = stateOf({}, { seed });
    for (let index = 0; index < skip; index++) state.accept(0);
    return Array.from({ length: 5 }, () => {
      const { tokenId } = sample(row, state);
      assertEquals(sample(row, state).tokenId, tokenId); // asking twice changes nothing
      state.accept(tokenId);
      return tokenId;
    });
  };
  assertEquals(draws(3, 0).slice(2), draws(3, 2).slice(0, 3));
  assert(String(draws(3, 0)) !== String(draws(4, 0)));
});

Deno.test("The sampler never writes to the row", () => {
  const random = seededRandom(SEED);
  const row = randomRow(random, 300);
  const before = row.slice();
  const options = {
    minTokens: 3,
    repetitionPenalty: 1.5,
    topK: 20,
    topP: 0.7,
    minP: 0.01,
    logprobs: 5,
  };
  for (const temperature of [0, 1]) {
    sample(row, stateOf({ temperature, ...options }, { prompt: [1, 2, 3], endTokenIds: [4] }));
  }
  assertEquals(row, before);
});

Deno.test("kthLargest and topIds agree with sorting, ties included", () => {
  const random = seededRandom(SEED);
  for (let round = 0; round < 200; round++) {
    const row = randomRow(random, 1 + Math.floor(random() * 2000), random() < 0.5 ? 8 : Infinity);
    if (random() < 0.3) row.fill(-Infinity, 0, Math.floor(row.length * random()));
    const sorted = [...row.keys()].sort((a, b) =>
      row[a] === row[b] ? a - b : row[b]! > row[a]! ? 1 : -1
    );
    const k = 1 + Math.floor(random() * Math.min(row.length, random() < 0.5 ? 5 : 2000));
    const where = `seed ${SEED}, round ${round}, k ${k} of ${row.length}`;
    assertEquals(kthLargest(row, k), row[sorted[k - 1]!], where);
    assertEquals(topIds(row, k), sorted.slice(0, k), where);
  }
});
