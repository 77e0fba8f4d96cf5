import { assert, assertEquals } from "@std/assert";
import { logSumExp, type RowSummary, SUMMARY_TOP_COUNT } from "../../lib/base/row_summary.ts";
import { SamplingParams, type SamplingParamsOptions } from "../../lib/sampling/params.ts";
import { resolveSamplingParams } from "../../lib/sampling/resolved_params.ts";
import { sample, SamplingState } from "../../lib/sampling/sampler.ts";
import { sampleSummary, summaryNeed } from "../../lib/sampling/summary.ts";
import { topIds } from "../../lib/sampling/top_values.ts";
import { seededRandom } from "../helpers/scripted_runner.ts";

const SEED = Math.floor(performance.timeOrigin) % 1_000_000;

function summaryOf(row: Float32Array): RowSummary {
  const ids = topIds(row, Math.min(SUMMARY_TOP_COUNT, row.length))
    .filter((id) => row[id]! > -Infinity);
  return {
    width: row.length,
    topIds: Int32Array.from(ids),
    topLogits: Float32Array.from(ids, (id) => row[id]!),
    hasNaN: row.some(Number.isNaN),
    logSumExp: logSumExp(row),
  };
}

function stateOf(options: SamplingParamsOptions, seed = 1): SamplingState {
  const params = resolveSamplingParams(new SamplingParams(options));
  return new SamplingState(params, seed, [0], [2]);
}

Deno.test("A summary gives the token and the log-probabilities that the whole row gives", () => {
  const random = seededRandom(SEED);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!;
  let answered = 0;
  for (let round = 0; round < 3000; round++) {
    const length = pick([1, 5, 60, 72, 73, 300, 2000]);
    const levels = pick([3, 40, 1e9]);
    const hollow = pick([0, 0, 0.9]);
    const row = Float32Array.from({ length }, () => {
      if (random() < hollow) return -Infinity;
      return Math.round((random() + random() + random() - 1.5) * levels) * 8 / levels;
    });
    row[Math.floor(random() * length)] = 4;
    const state = stateOf({
      temperature: pick([0, 0.3, 1, 1.7]),
      topK: pick([1, 2, 40, 64]),
      topP: pick([1, 0.9, 0.5]),
      minP: pick([0, 0, 0.05]),
      minTokens: pick([0, 0, 1]),
      stopTokenIds: pick([[], [0, 7], row.indexOf(4) === 2 ? [] : [row.indexOf(4)]]),
      ...pick([{}, { logprobs: 0 }, { logprobs: 5 }, { logprobs: 20 }]),
    }, round);
    const actual = sampleSummary(summaryOf(row), state);
    if (actual === undefined) continue;
    answered++;
    assertEquals(actual, sample(row, state), `seed ${SEED}, round ${round}`);
  }
  assert(answered > 1500, `seed ${SEED}: only ${answered} of 3000 were answered`);
});

Deno.test("A summary leaves to the whole row what it cannot know", () => {
  const long = Float32Array.from({ length: 200 }, (_, id) => Math.sin(id));
  const undecided = (options: SamplingParamsOptions, row: Float32Array = long) =>
    sampleSummary(summaryOf(row), stateOf(options)) === undefined;
  assert(!undecided({ temperature: 0, logprobs: 20 }));
  assert(!undecided({ temperature: 1, topK: 64 }));
  assert(undecided({ temperature: 1 }), "all tokens may be drawn");
  assert(undecided({ temperature: 1, topK: 65 }), "more than a summary is asked for");
  assert(undecided({ temperature: 0, repetitionPenalty: 1.1 }), "a penalty");
  assert(undecided({ temperature: 1, topK: 3 }, new Float32Array(200)), "ties with the third");
  assert(undecided({ temperature: 0 }, Float32Array.of(1, NaN)), "NaN");
  assert(undecided({ temperature: 0 }, Float32Array.of(1, Infinity)), "an infinite logit");
  assert(undecided({ temperature: 0 }, Float32Array.of(-Infinity)), "nothing is possible");
  assert(undecided({ temperature: 0, logprobs: 2 }, Float32Array.of(1, -Infinity)), "too few");
  const stopTokenIds = Array.from({ length: 200 }, (_, id) => id).filter((id) => id !== 11);
  assert(undecided({ temperature: 0, minTokens: 1, stopTokenIds }), "all that is known is banned");
});

Deno.test("A row's summary is asked for only where it can help", () => {
  const need = (options: SamplingParamsOptions) => summaryNeed(stateOf(options));
  assertEquals(need({ temperature: 0 }), 1);
  assertEquals(need({ temperature: 1, topK: 64 }), 1);
  assertEquals(need({ temperature: 0, logprobs: 0 }), 2);
  assertEquals(need({ temperature: 1, topK: 5, logprobs: 5 }), 2);
  assertEquals(need({ temperature: 1 }), 0);
  assertEquals(need({ temperature: 1, topK: 65 }), 0);
  assertEquals(need({ temperature: 0, repetitionPenalty: 1.2 }), 0);
});
