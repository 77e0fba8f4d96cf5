import { assert, assertEquals, assertThrows } from "@std/assert";
import { InvalidLogitsError, InvalidParameterError } from "../../lib/base/errors.ts";
import {
  logSumExp,
  type RowSummary,
  SUMMARY_NEED,
  SUMMARY_TOP_COUNT,
} from "../../lib/base/row_summary.ts";
import { beamSummaryNeed, continuationsOf } from "../../lib/sampling/continuations.ts";
import { tokenLogprobs } from "../../lib/sampling/logprobs.ts";
import type { SamplingParamsOptions } from "../../lib/sampling/params.ts";
import { adjustRow, SamplingState } from "../../lib/sampling/sampler.ts";
import { topIds } from "../../lib/sampling/top_values.ts";
import { logSoftmax } from "../helpers/beam_reference.ts";
import { beamParams } from "../helpers/engine_requests.ts";
import { seededRandom } from "../helpers/scripted_runner.ts";

const SEED = Math.floor(performance.timeOrigin) % 1_000_000;

function stateOf(options: SamplingParamsOptions = {}, prompt: number[] = []): SamplingState {
  return new SamplingState(beamParams({ width: 2 }, options), 0, prompt, [2]);
}

function summaryOf(row: Float32Array): RowSummary {
  const ids = topIds(row, Math.min(SUMMARY_TOP_COUNT, row.length))
    .filter((id) => row[id]! > -Infinity);
  return {
    width: row.length,
    topIds: Int32Array.from(ids),
    topLogits: Float32Array.from(ids, (id) => row[id]!),
    hasNaN: row.some(Number.isNaN),
    logSumExp: logSumExp(row),
    sums: undefined,
  };
}

Deno.test("Continuations are the best of the whole row, with a summary or without, and report as a draw does", () => {
  const random = seededRandom(SEED);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!;
  for (let round = 0; round < 1500; round++) {
    const where = `seed ${SEED}, round ${round}`;
    const length = pick([1, 5, 60, 72, 73, 300, 2000]);
    const levels = pick([3, 40, 1e9]);
    const scale = pick([8, 1e-6]); // differences that vanish when they are added to a sum
    const hollow = pick([0, 0, 0.9]);
    const row = Float32Array.from({ length }, () => {
      if (random() < hollow) return -Infinity;
      return 4 + Math.round((random() + random() + random() - 1.5) * levels) * scale / levels;
    });
    row[Math.floor(random() * length)] = 4;
    const width = pick([2, 5, 64]);
    const endTokenIds = new Set(
      Array.from({ length: pick([0, 1, 3]) }, () => pick(topIds(row, Math.min(9, length)))),
    );
    const sum = pick([0, -1.5, -1e4]);
    const logprobs = pick([{}, { logprobs: 0 }, { logprobs: 5 }]);
    const minTokens = row.filter((logit, id) => logit > -Infinity && id !== 2).length > 0
      ? pick([0, 0, 1])
      : 0;
    const state = stateOf({ ...logprobs, minTokens, repetitionPenalty: pick([1, 1, 1.3]) }, [0, 3]);
    const extension = { sum, width, endTokenIds, state };

    const sums = logSoftmax(adjustRow(row, state)).map((logprob) => sum + logprob);
    const ranking = Array.from(sums, (value, tokenId) => ({ value, tokenId }))
      .filter(({ value }) => value > -Infinity)
      .sort((a, b) => b.value - a.value || a.tokenId - b.tokenId);
    const goingOn = ranking.filter(({ tokenId }) => !endTokenIds.has(tokenId));
    const last = ranking.indexOf(goingOn[width - 1]!);
    const expected = last < 0 ? ranking : ranking.slice(0, last + 1);

    const actual = continuationsOf({ row }, extension);
    assertEquals(
      actual.map((it) => [it.tokenId, it.sum]),
      expected.map((it) => [it.tokenId, it.value]),
      where,
    );
    assertEquals(continuationsOf({ row, summary: summaryOf(row) }, extension), actual, where);
    for (const { tokenId, report } of actual.slice(0, 9)) {
      if (report === null) assertEquals(logprobs, {}, where);
      else {
        const told = [report.chosen, ...report.top.filter((entry) => entry.tokenId !== tokenId)];
        assertEquals(told, tokenLogprobs(row, tokenId, state.params.logprobs!), where);
      }
    }
  }
});

Deno.test("Continuations hold the best that go on and the end tokens before the last of them", () => {
  const row = Float32Array.of(5, 4, 3, 2, 1, 0);
  const ids = (width: number, ends: number[]) =>
    continuationsOf({ row }, { sum: -1, width, endTokenIds: new Set(ends), state: stateOf() })
      .map(({ tokenId }) => tokenId);
  assertEquals(ids(2, []), [0, 1]);
  assertEquals(ids(2, [0, 2, 5]), [0, 1, 2, 3]);
  assertEquals(ids(9, [5]), [0, 1, 2, 3, 4, 5]);
});

Deno.test("Continuations are refused of a row that is not numbers, or that leaves nothing", () => {
  const extension = { sum: 0, width: 2, endTokenIds: new Set<number>(), state: stateOf() };
  for (const bad of [NaN, Infinity]) {
    const row = Float32Array.of(1, bad, 2);
    assertThrows(() => continuationsOf({ row }, extension), InvalidLogitsError, "token 1");
    const summary = summaryOf(row);
    assertThrows(() => continuationsOf({ row, summary }, extension), InvalidLogitsError, "token 1");
  }
  const state = stateOf({ minTokens: 1 }); // bans token 2
  const row = Float32Array.of(-Infinity, -Infinity, 1);
  assertThrows(
    () => continuationsOf({ row }, { ...extension, state }),
    InvalidParameterError,
    "none is possible with minTokens",
  );
  const empty = new Float32Array(3).fill(-Infinity);
  assertThrows(() => continuationsOf({ row: empty }, extension), InvalidLogitsError, "possible");
});

Deno.test("A search asks for a row's log-probabilities, unless the whole row is read anyway", () => {
  assertEquals(beamSummaryNeed(stateOf()), SUMMARY_NEED.logprobs);
  assertEquals(beamSummaryNeed(stateOf({ repetitionPenalty: 1.1 })), SUMMARY_NEED.nothing);
  assert(beamSummaryNeed(stateOf({ logprobs: 5 })) === SUMMARY_NEED.logprobs);
});
