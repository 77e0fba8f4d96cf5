import { assertEquals } from "@std/assert";
import { filterRow } from "../../lib/sampling/filters.ts";
import { KnownRow, largestLogit } from "../../lib/sampling/known_row.ts";
import type { SamplingParamsOptions } from "../../lib/sampling/params.ts";
import { SamplerScratch } from "../../lib/sampling/scratch.ts";
import { kthLargest, topIds } from "../../lib/sampling/top_values.ts";
import { exactDistribution, randomRow, stateOf, summaryOf } from "../helpers/sampling.ts";
import { seededRandom } from "../helpers/scripted_runner.ts";

const SEED = Math.floor(performance.timeOrigin) % 1_000_000;

/** The ids that the filters leave, with the row's largest logits known or not. */
function keptIds(
  row: Float32Array,
  options: SamplingParamsOptions,
  isSummarised = false,
): number[] {
  const state = stateOf({ options });
  const scratch = new SamplerScratch();
  const base = new KnownRow(row, isSummarised ? summaryOf(row, state) : undefined);
  const choice = { base, adjusted: { base: row, ids: [], logits: [], isList: false } };
  const weights = { max: largestLogit(row), scale: state.scale };
  const { cut, count } = filterRow(choice, { ...state.params, ...weights }, scratch);
  let equalsLeft = cut.equalCount;
  return [...scratch.ids.subarray(0, count)].filter((id) =>
    row[id]! > cut.value || (row[id] === cut.value && equalsLeft-- > 0)
  );
}

Deno.test("Min-p drops what is less likely than a share of the best", () => {
  const row = Float32Array.from([0, Math.log(0.5), Math.log(0.1)]);
  assertEquals(keptIds(row, { minP: 0.2 }), [0, 1]);
  assertEquals(keptIds(row, { minP: 0.05 }), [0, 1, 2]);
  assertEquals(keptIds(row, { minP: 1 }), [0]);
});

Deno.test("Top-k keeps ties with the k-th", () => {
  const row = Float32Array.of(1, 3, 2, 2, 0);
  assertEquals(keptIds(row, { topK: 1 }), [1]);
  assertEquals(keptIds(row, { topK: 2 }), [1, 2, 3]);
  assertEquals(keptIds(row, { topK: 4 }), [0, 1, 2, 3]);
  assertEquals(keptIds(row, { topK: 50 }), [0, 1, 2, 3, 4]);
});

Deno.test("Top-p keeps the fewest that reach the mass, of equals the lower ids, at least one", () => {
  const row = Float32Array.from([0.1, 0.5, 0.2, 0.2], Math.log);
  assertEquals(keptIds(row, { topP: 0.01 }), [1]);
  assertEquals(keptIds(row, { topP: 0.49 }), [1]);
  assertEquals(keptIds(row, { topP: 0.69 }), [1, 2]);
  assertEquals(keptIds(row, { topP: 0.89 }), [1, 2, 3]);
  assertEquals(keptIds(row, { topP: 0.91 }), [0, 1, 2, 3]);
  assertEquals(keptIds(Float32Array.of(1, 1, 1, 1), { topP: 0.5 }), [0, 1]);
});

// Each of these gives something else if the two steps change places.

Deno.test("Order: temperature comes before min-p and top-p", () => {
  const row = Float32Array.from([0.9, 0.1], Math.log);
  assertEquals(keptIds(row, { minP: 0.2 }), [0]);
  assertEquals(keptIds(row, { minP: 0.2, temperature: 2 }), [0, 1], "1/9 has become 1/3");
  assertEquals(keptIds(row, { topP: 0.8 }), [0]);
  assertEquals(keptIds(row, { topP: 0.8, temperature: 2 }), [0, 1], "0.9 has become 0.75");
});

Deno.test("Order: min-p and top-k come before top-p, which shares out what they leave", () => {
  const row = Float32Array.from([0.1, 0.5, 0.2, 0.2], Math.log);
  // Either leaves 0.5, 0.2 and 0.2; the first of them is 0.5556 of these, and 0.5 of all.
  for (const before of [{ topK: 2 }, { minP: 0.3 }]) {
    assertEquals(keptIds(row, { ...before, topP: 0.555 }), [1]);
    assertEquals(keptIds(row, { ...before, topP: 0.556 }), [1, 2]);
  }
  assertEquals(keptIds(row, { topP: 0.555 }), [1, 2]);
});

Deno.test("The filters keep what sorting everything keeps, on any row, summarised or not", () => {
  const random = seededRandom(SEED);
  for (let round = 0; round < 500; round++) {
    const levels = random() < 0.4 ? 12 : Infinity; // many ties
    const row = randomRow(random, 2 + Math.floor(random() * (random() < 0.1 ? 6000 : 700)), levels);
    if (random() < 0.2) row.fill(-Infinity, 1, Math.floor(row.length / 2));
    const options = {
      temperature: random() < 0.3 ? 1 : 0.05 + random() * 1.9,
      ...(random() < 0.5 ? { topK: Math.floor(random() ** 2 * row.length) } : {}),
      ...(random() < 0.6 ? { topP: Math.max(1e-3, random()) } : {}),
      ...(random() < 0.4 ? { minP: random() ** 3 } : {}),
    };
    const exact = exactDistribution(row, { options });
    // Far below the largest a weight counts as nothing: whether such a token stays, nobody can tell.
    const counts = (id: number) => row[id]! > -Infinity && exact[id] !== 0;
    const expected = [...row.keys()].filter(counts);
    for (const isSummarised of [false, true]) {
      const actual = keptIds(row, options, isSummarised);
      const where = `seed ${SEED}, round ${round}, ${JSON.stringify(options)}`;
      assertEquals(actual, expected, where);
    }
  }
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
