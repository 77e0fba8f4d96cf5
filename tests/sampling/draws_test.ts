import { assert, assertEquals } from "@std/assert";
import type { SamplingParamsOptions } from "../../lib/sampling/params.ts";
import { sample, SamplingState } from "../../lib/sampling/sampler.ts";
import { SamplerScratch } from "../../lib/sampling/scratch.ts";
import {
  exactDistribution,
  randomRow,
  type Situation,
  stateOf,
  summaryOf,
} from "../helpers/sampling.ts";
import { seededRandom } from "../helpers/scripted_runner.ts";

const SEED = Math.floor(performance.timeOrigin) % 1_000_000;
const DRAW_COUNT = 20_000;

/**
 * Chi-square of draws with many seeds against the exact distribution, rare tokens taken together.
 * Four and a half sigmas: once in a hundred thousand times chance alone is worse.
 */
function checkDraws(row: Float32Array, situation: Situation, what: string): void {
  const exact = exactDistribution(row, situation);
  const counts = new Float64Array(row.length);
  const { params } = stateOf(situation);
  const scratch = new SamplerScratch();
  const summary = summaryOf(row, stateOf(situation));
  const output = situation.output ?? [];
  for (let seed = 0; seed < DRAW_COUNT; seed++) {
    const state = new SamplingState(
      params,
      SEED + seed,
      situation.prompt ?? [0],
      situation.endTokenIds ?? [],
    );
    for (const id of output) state.accept(id);
    counts[sample(row, state, { scratch, summary }).tokenId]!++;
  }
  let chiSquare = 0;
  let freedom = -1;
  const add = (expected: number, count: number) => {
    chiSquare += (count - expected) ** 2 / expected;
    freedom++;
  };
  let [rareExpected, rareCount] = [0, 0];
  for (const [id, probability] of exact.entries()) {
    const expected = probability * DRAW_COUNT;
    if (probability === 0) assertEquals(counts[id], 0, `${what}: dropped token ${id} was drawn`);
    else if (expected >= 5) add(expected, counts[id]!);
    else [rareExpected, rareCount] = [rareExpected + expected, rareCount + counts[id]!];
  }
  if (rareExpected >= 5) add(rareExpected, rareCount);
  const limit = freedom + 4.5 * Math.sqrt(2 * freedom) + 10;
  assert(chiSquare < limit, `${what}: chi-square ${chiSquare} above ${limit}, seed ${SEED}`);
}

const HISTORY = { prompt: [3, 7, 7, 11], output: [5, 7, 5, 20] };

const KNOBS: Readonly<Record<string, Situation>> = {
  "nothing": {},
  "temperature 0.5": { options: { temperature: 0.5 } },
  "temperature 1.7": { options: { temperature: 1.7 } },
  "top-k": { options: { topK: 7 } },
  "top-p": { options: { topP: 0.8 } },
  "min-p": { options: { minP: 0.1 } },
  "all filters": { options: { temperature: 1.3, topK: 12, topP: 0.9, minP: 0.02 } },
  "allowed tokens": { options: { allowedTokenIds: [3, 1, 20, 5] } },
  "allowed tokens, top-p": { options: { allowedTokenIds: [3, 1, 20, 5], topP: 0.7 } },
  "bad words": { tokenized: { badTokenSequences: [[1], [5, 20, 2], [20, 4]] }, ...HISTORY },
  "minTokens": { options: { minTokens: 9, stopTokenIds: [6, 9] }, endTokenIds: [0], ...HISTORY },
  "bias": { options: { logitBias: { 2: 1.5, 8: -3, 30: 4 } } },
  "a processor": { options: { logitsProcessors: [(_, logits) => logits.map((x) => x / 2)] } },
  "repetition penalty": { options: { repetitionPenalty: 1.6 }, ...HISTORY },
  "frequency penalty": { options: { frequencyPenalty: 1.2 }, ...HISTORY },
  "presence penalty": { options: { presencePenalty: -1.5 }, ...HISTORY },
};

for (const [name, situation] of Object.entries(KNOBS)) {
  Deno.test(`Draws with ${name} follow the exact distribution`, () => {
    const row = randomRow(seededRandom(SEED), 40);
    checkDraws(row, situation, name);
  });
}

Deno.test("Draws from rows of several chunks follow the exact distribution, changed or not", () => {
  const random = seededRandom(SEED);
  const row = randomRow(random, 2500).map((logit) => logit * 2);
  row[100] = 14;
  row[1500] = 12.5;
  const history = { prompt: [100, 1500, 2400], output: [100, 7] };
  checkDraws(row, {}, "all tokens");
  checkDraws(row, { options: { repetitionPenalty: 1.2 }, ...history }, "penalised");
  checkDraws(row, { options: { logitBias: { 100: -9, 1500: -9 } } }, "the largest are lowered");
  // What is left of the first chunk is too little to be found by subtraction.
  row[100] = 60;
  checkDraws(row, { options: { logitBias: { 100: -100 } } }, "the largest is banned");
  checkDraws(row, { options: { logitBias: { 100: -46, 2499: 8 } } }, "a far larger one is lowered");
});

Deno.test("Draws with any knobs together follow the exact distribution", () => {
  const random = seededRandom(SEED + 1);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!;
  for (let round = 0; round < 6; round++) {
    const options: SamplingParamsOptions = {
      temperature: pick([0.6, 1, 1.5]),
      ...pick([{}, { topK: 15 }]),
      ...pick([{}, { topP: 0.85 }]),
      ...pick([{}, { minP: 0.03 }]),
      ...pick([{}, { logitBias: { 2: 2, 4: -2 } }]),
      ...pick([{}, { allowedTokenIds: [1, 2, 3, 4, 5, 20, 25] }]),
      ...pick([{}, { logitsProcessors: [(_, logits: Float32Array) => logits.toReversed()] }]),
      repetitionPenalty: pick([1, 1.3]),
      frequencyPenalty: pick([0, 0.7]),
      presencePenalty: pick([0, 0.5]),
    };
    const tokenized = pick([{}, { badTokenSequences: [[20, 3]] }]);
    const situation = { options, tokenized, ...HISTORY };
    checkDraws(randomRow(random, 40), situation, JSON.stringify(situation));
  }
});

Deno.test("A draw depends on the seed and on how many came before, and on nothing else", () => {
  const row = new Float32Array(1000);
  const draws = (seed: number, skip: number) => {
    const state = stateOf({ seed, output: Array(skip).fill(0) });
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
