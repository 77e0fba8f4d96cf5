import { assert, assertEquals } from "@std/assert";
import { drawNeed, SUMMARY_NEED, SUMMARY_TOP_COUNT } from "../../lib/base/row_summary.ts";
import type { SamplingParamsOptions } from "../../lib/sampling/params.ts";
import { sample } from "../../lib/sampling/sampler.ts";
import { SamplerScratch } from "../../lib/sampling/scratch.ts";
import { summaryNeed } from "../../lib/sampling/summary.ts";
import { type Situation, stateOf, summaryOf } from "../helpers/sampling.ts";
import { seededRandom } from "../helpers/scripted_runner.ts";

const SEED = Math.floor(performance.timeOrigin) % 1_000_000;

/** A token and its log-probabilities, or what was thrown. */
function outcome(choose: () => unknown): unknown {
  try {
    return choose();
  } catch (error) {
    return String(error);
  }
}

Deno.test("With a summary and without one the choice is the same, with any row and any knobs", () => {
  const random = seededRandom(SEED);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!;
  const scratch = new SamplerScratch();
  let chosen = 0;
  for (let round = 0; round < 4000; round++) {
    const length = pick([1, 5, 60, 71, 72, 73, 300, 1024, 1025, 2000, 3500]);
    const levels = pick([3, 40, 1e9, 1e9]);
    const hollow = pick([0, 0, 0, 0.9, 1]);
    const steepness = pick([1, 8, 60]);
    const row = Float32Array.from({ length }, () => {
      if (random() < hollow) return -Infinity;
      return Math.round((random() + random() + random() - 1.5) * levels) * steepness / levels;
    });
    const best = Math.floor(random() * length);
    row[best] = pick([4, steepness, 2 * steepness]);
    const token = () => pick([best, Math.floor(random() * length)]);
    const tokens = (count: number) => Array.from({ length: count }, token);
    const situation: Situation = {
      options: {
        temperature: pick([0, 0.01, 0.3, 1, 1, 1.7]),
        topK: pick([0, 0, 1, 2, 40, 64, 65, 100, 1000]),
        topP: pick([1, 1, 0.9, 0.5, 0.999]),
        minP: pick([0, 0, 0.05, 1e-6]),
        minTokens: pick([0, 0, 1]),
        stopTokenIds: pick([[], [0, 7], [best]]),
        ...pick([{}, {}, { logprobs: 0 }, { logprobs: 5 }, { logprobs: 80 }]),
        ...pick([{}, {}, { logitBias: { [token()]: -100, [token()]: 2 } }]),
        ...pick([{}, {}, {}, { allowedTokenIds: tokens(5) }]),
        ...pick([{}, {}, {}, { logitsProcessors: [(_, logits) => logits.map((x) => x / 2)] }]),
        repetitionPenalty: pick([1, 1, 1.3, 0.7]),
        presencePenalty: pick([0, 0, 1.5]),
        frequencyPenalty: pick([0, 0, -0.3]),
      } as SamplingParamsOptions,
      tokenized: pick([{}, {}, { badTokenSequences: [tokens(1), tokens(2)] }]),
      prompt: tokens(pick([1, 5, 100])),
      output: tokens(pick([0, 1, 20])),
      endTokenIds: [2],
      seed: round,
    };
    const state = stateOf(situation);
    const summary = summaryOf(row, state);
    const where = `seed ${SEED}, round ${round}, ${length} logits, ${JSON.stringify(situation)}`;
    const whole = outcome(() => sample(row, state));
    assertEquals(outcome(() => sample(row, state, { summary, scratch })), whole, where);
    if (typeof whole !== "string") chosen++;
  }
  assert(chosen > 3000, `seed ${SEED}: only ${chosen} of 4000 could choose`);
});

/** A row of which nothing can be read beyond the largest logits and the ids that are named. */
function hidden(row: Float32Array, ids: readonly number[]): Float32Array {
  return row.map((logit, id) => ids.includes(id) ? logit : NaN);
}

Deno.test("Where few tokens decide, the others are not read", () => {
  const row = Float32Array.from({ length: 5000 }, (_, id) => Math.sin(id) * 5);
  const history = { prompt: [11, 33, 4000], output: [55, 77] };
  const changes = [11, 33, 4000, 55, 77, 9];
  const knobs: SamplingParamsOptions[] = [
    { temperature: 0 },
    { topK: 40 },
    { topK: 64, topP: 0.5, minP: 0.01 },
    { minP: 0.999 },
    { topP: 0.001 },
    { temperature: 0, logprobs: 20 },
    { topK: 40, logprobs: 5, temperature: 0.7 },
    { temperature: 0, repetitionPenalty: 1.2, presencePenalty: 0.1, frequencyPenalty: 0.3 },
    { topK: 40, repetitionPenalty: 1.2, logitBias: { 9: -100 }, logprobs: 2 },
    { allowedTokenIds: [9, 11, 33] },
  ];
  for (const options of knobs) {
    const state = stateOf({ options, ...history });
    const summary = summaryOf(row, state)!;
    assert(summary.topIds.length === SUMMARY_TOP_COUNT);
    const partly = hidden(row, [...summary.topIds, ...changes]);
    assertEquals(sample(partly, state, { summary }), sample(row, state), JSON.stringify(options));
  }
});

Deno.test("A draw from all tokens reads one chunk, whichever logits were changed", () => {
  const row = Float32Array.from({ length: 5000 }, (_, id) => Math.sin(id) * 5);
  const prompt = [11, 1033, 4000];
  for (let seed = 0; seed < 50; seed++) {
    const state = stateOf({ options: { repetitionPenalty: 1.3 }, prompt, seed });
    const summary = summaryOf(row, state)!;
    const { tokenId } = sample(row, state);
    const start = Math.floor(tokenId / 1024) * 1024;
    const chunk = Array.from({ length: 1024 }, (_, i) => start + i);
    const partly = hidden(row, prompt.includes(tokenId) ? prompt : [...chunk, ...prompt]);
    assertEquals(sample(partly, state, { summary }).tokenId, tokenId);
  }
});

Deno.test("A row's summary is asked for what helps", () => {
  const need = (options: SamplingParamsOptions, rest: Situation = {}) =>
    summaryNeed(stateOf({ options, ...rest }));
  const { top, logprobs } = SUMMARY_NEED;
  assertEquals(need({ temperature: 0 }), top);
  assertEquals(need({ temperature: 1, topK: 64 }), top);
  assertEquals(need({ temperature: 1, minP: 0.1 }), top);
  assertEquals(need({ temperature: 0, logprobs: 0 }), logprobs);
  assertEquals(need({ temperature: 1, topK: 5, logprobs: 5 }), logprobs);
  assertEquals(need({ temperature: 1 }), logprobs, "sums at the scale 1");
  const scale = Math.fround(1 / 0.7);
  assertEquals(need({ temperature: 0.7 }), drawNeed(scale, { logprobs: false }));
  assertEquals(need({ temperature: 0.7, topP: 0.9 }), drawNeed(scale, { logprobs: false }));
  assertEquals(need({ temperature: 0.7, logprobs: 2 }), drawNeed(scale, { logprobs: true }));
  assertEquals(need({ temperature: 0.7, allowedTokenIds: [1] }), top);
  assertEquals(need({ temperature: 0.7 }, { tokenized: { forcedTokenIds: [1] } }), top);
});
