import { assert, assertEquals } from "@std/assert";
import {
  advanceSearch,
  type BeamRules,
  type BeamState,
  type BeamToken,
  SEARCH_START,
} from "../../lib/sampling/beam.ts";
import { continuationsOf } from "../../lib/sampling/continuations.ts";
import type { EarlyStopping } from "../../lib/sampling/param_options.ts";
import type { ResolvedSamplingParams } from "../../lib/sampling/resolved_params.ts";
import { adjustRow, SamplingState } from "../../lib/sampling/sampler.ts";
import {
  referenceBeamSearch,
  type ReferenceHypothesis,
  type ReferenceSearch,
} from "../helpers/beam_reference.ts";
import { beamParams } from "../helpers/engine_requests.ts";
import { hashedRow, seededRandom } from "../helpers/scripted_runner.ts";

/** A search, and the row after each sequence of generated tokens. */
interface Case extends BeamRules {
  readonly rowAfter: (generated: readonly number[]) => Float32Array;
  readonly params?: Partial<ResolvedSamplingParams>;
}

function tokensOf(last: BeamToken | null): number[] {
  return last === null ? [] : [...tokensOf(last.previous), last.tokenId];
}

function stateAfter({ params = {}, endTokenIds, width }: Case, generated: readonly number[]) {
  const state = new SamplingState(
    { ...beamParams({ width }), ...params },
    0,
    [],
    [...endTokenIds],
  );
  for (const id of generated) state.accept(id);
  return state;
}

/** The states of a search, from the start to the end. */
function statesOf(search: Case): BeamState[] {
  const states = [SEARCH_START];
  while (states.at(-1)!.live.length > 0) {
    const state = states.at(-1)!;
    const continuations = state.live.map(({ sum, last }) => {
      const generated = tokensOf(last);
      const { width, endTokenIds } = search;
      return continuationsOf(
        { row: search.rowAfter(generated) },
        { sum, width, endTokenIds, state: stateAfter(search, generated) },
      );
    });
    states.push(advanceSearch(state, continuations, search));
  }
  return states;
}

function find(search: Case): Omit<ReferenceHypothesis, "sum">[] {
  return statesOf(search).at(-1)!.finished.map(({ last, score, isEnded }) => ({
    ids: tokensOf(last),
    score,
    isEnded,
  }));
}

function findByForce(
  search: Case,
  change: Partial<ReferenceSearch> = {},
): Omit<ReferenceHypothesis, "sum">[] {
  return referenceBeamSearch({
    ...search,
    endTokenIds: [...search.endTokenIds],
    rowAfter: (ids) => adjustRow(search.rowAfter(ids), stateAfter(search, ids)),
    ...change,
  }).map(({ ids, score, isEnded }) => ({ ids, score, isEnded }));
}

const MODES: readonly EarlyStopping[] = [false, true, "never"];

/** Logits that depend on the whole history; `levels` of them where many are to be equal. */
function randomRow(vocabSize: number, seed: number, levels?: number) {
  return (generated: readonly number[]) => {
    const row = new Float32Array(vocabSize);
    hashedRow([seed, ...generated], row);
    return levels === undefined ? row : row.map((logit) => Math.round(logit * levels / 8));
  };
}

function randomCase(seed: number): Case {
  const random = seededRandom(seed);
  const int = (min: number, max: number) => min + Math.floor(random() * (max - min + 1));
  const vocabSize = int(2, 40);
  const endTokenIds = new Set(Array.from({ length: int(0, 3) }, () => int(0, vocabSize + 1)));
  const levels = random() < 0.4 ? int(1, 5) : undefined;
  const maxTokens = int(1, 9);
  return {
    width: int(2, 6),
    lengthPenalty: [0, 1, -1, 4 * random() - 2, 700, -700][int(0, 5)]!,
    earlyStopping: MODES[int(0, 2)]!,
    endTokenIds,
    maxTokens,
    rowAfter: randomRow(vocabSize, seed, levels),
    params: {
      minTokens: random() < 0.2 && endTokenIds.size < vocabSize - 1 ? int(1, maxTokens) : 0,
      repetitionPenalty: random() < 0.2 ? 1.5 : 1,
    },
  };
}

function forManyCases(count: number, check: (search: Case, what: string) => void): void {
  const start = Math.floor(Math.random() * 2 ** 30);
  for (let seed = start; seed < start + count; seed++) {
    const search = randomCase(seed);
    check(search, `seed ${seed}: ${JSON.stringify({ ...search, ends: [...search.endTokenIds] })}`);
  }
}

Deno.test("Beam search finds what ranking every continuation finds, with ties and several end tokens", () => {
  forManyCases(1500, (search, what) => assertEquals(find(search), findByForce(search), what));
});

Deno.test('Beam search that "never" stops early finds what a search without any stop finds', () => {
  forManyCases(400, (search, what) => {
    const never: Case = { ...search, earlyStopping: "never" };
    const expected = findByForce(search, { neverStops: true });
    assertEquals(find(never), expected, what);
  });
});

Deno.test("Beam search with a length penalty of at most 0 has no guess to make: false is never", () => {
  forManyCases(300, (search, what) => {
    const lengthPenalty = -Math.abs(search.lengthPenalty);
    const modes = [false, "never"] as const;
    const [a, b] = modes.map((earlyStopping) => find({ ...search, lengthPenalty, earlyStopping }));
    assertEquals(a, b, what);
  });
});

Deno.test("Beam search that stops early returns the first hypotheses that end", () => {
  forManyCases(300, (search, what) => {
    const states = statesOf({ ...search, earlyStopping: true });
    const counts = states.map(({ finished }) => finished.length);
    assert(counts.slice(0, -1).every((count) => count < search.width), what);
    if (states.at(-1)!.length < search.maxTokens) {
      const { live, finished } = states.at(-1)!;
      assert(finished.every(({ isEnded }) => isEnded) && live.length === 0, what);
    }
  });
});

Deno.test("Beam search without end tokens finds the same sequences in every mode, whatever the penalty", () => {
  forManyCases(100, (search, what) => {
    const found = MODES.flatMap((earlyStopping) =>
      [-1, 0, 1, 2].map((lengthPenalty) => {
        const rules = { lengthPenalty, earlyStopping, endTokenIds: new Set<number>() };
        return find({ ...search, ...rules }).map(({ ids }) => ids.join());
      })
    );
    assertEquals(new Set(found.map((ids) => ids.join(" "))).size, 1, what);
  });
});

Deno.test("Beam search loses nothing by finishing only what ranks within the width at the greatest length", () => {
  forManyCases(300, (search, what) => {
    assertEquals(find(search), findByForce(search, { finishesLive: true }), what);
  });
});

/** Rows by the tokens before; −∞ for what is not named. */
function scripted(vocabSize: number, rows: Record<string, Record<number, number>>) {
  return (generated: readonly number[]) => {
    const row = new Float32Array(vocabSize).fill(-Infinity);
    for (const [id, probability] of Object.entries(rows[generated.join()] ?? {})) {
      row[Number(id)] = Math.log(probability);
    }
    return row;
  };
}

const END = 9;
const plain = {
  width: 2,
  lengthPenalty: 1,
  earlyStopping: "never" as EarlyStopping,
  endTokenIds: new Set([END]),
};
const idsOf = (search: Case) => find(search).map(({ ids }) => ids);

Deno.test("Beam search loses an end token below the width, and fills up with what goes on", () => {
  const rowAfter = scripted(10, {
    "": { 1: 0.4, 2: 0.35, [END]: 0.25 }, // third of two: lost, neither finished nor live
    "1": { 3: 0.5, 4: 0.5 },
    "2": { 3: 0.9, 4: 0.1 },
  });
  assertEquals(idsOf({ ...plain, maxTokens: 2, rowAfter }), [[2, 3], [1, 3]]);
});

Deno.test("Beam search at the greatest length finishes only what ranks within the width", () => {
  const rowAfter = scripted(10, { "": { 1: 0.5, 2: 0.3, [END]: 0.2 } });
  assertEquals(
    find({ ...plain, maxTokens: 1, rowAfter }).map(({ ids, isEnded }) => [ids, isEnded]),
    [
      [[1], false],
      [[2], false],
    ],
  );
});

Deno.test("Beam search breaks ties by the rank of the live sequence, then by the token id", () => {
  const rowAfter = scripted(10, {
    "": { 5: 0.5, 2: 0.5 },
    "2": { 8: 0.5, 7: 0.5 },
    "5": { 1: 0.5, 0: 0.5 },
  });
  // All four have the same sum: those of [2] come first, as 2 is the smaller id.
  assertEquals(idsOf({ ...plain, maxTokens: 2, rowAfter }), [[2, 7], [2, 8]]);
});

Deno.test("Beam search keeps the older of two hypotheses of equal score", () => {
  const rowAfter = scripted(10, {
    "": { 1: 0.5, [END]: 0.25, 2: 0.25 }, // rank 2 is token 2: the smaller id; END is lost
    "1": { [END]: 0.5, 3: 0.5 },
    "2": { [END]: 1 },
    "1,3": { [END]: 1 },
  });
  // Without a penalty: 1,END and 2,END and 1,3,END all have probability 0.25.
  const search = { ...plain, lengthPenalty: 0, maxTokens: 3, rowAfter };
  assertEquals(idsOf({ ...search, width: 2 }), [[1, END], [1, 3, END]]);
  assertEquals(idsOf({ ...search, width: 3 }), [[END], [1, END], [2, END]]);
});

Deno.test("Beam search stops by its mode: at once, when the best live one is no better now, or can never be", () => {
  const begin = scripted(30, {
    "": { [END]: 0.5, 1: 0.3, 2: 0.2 },
    "1": { 3: 0.6, [END]: 0.4 },
    "2": { 3: 0.5, [END]: 0.5 },
  });
  // From the third token on, twenty are equally likely.
  const flat = scripted(30, {
    "": Object.fromEntries(Array.from({ length: 20 }, (_, i) => [10 + i, 0.05])),
  });
  const rowAfter = (ids: readonly number[]) => ids.length < 2 ? begin(ids) : flat([]);
  const lengthOf = (earlyStopping: EarlyStopping, lengthPenalty: number) =>
    statesOf({ ...plain, earlyStopping, lengthPenalty, maxTokens: 6, rowAfter }).at(-1)!.length;
  // Finished after two tokens, worst: log(0.12) / 2 = −1.06. The best live sum is log(0.18) = −1.71
  // then, −4.71 after three tokens and −7.71 after four.
  const modes: EarlyStopping[] = [true, false, "never"];
  assertEquals(modes.map((mode) => lengthOf(mode, 1)), [2, 3, 4]);
  assertEquals(modes.map((mode) => lengthOf(mode, -1)), [2, 3, 3]);
});

Deno.test("Beam search stops where the best live sequence is only as good as the worst that is finished", () => {
  const half = { 3: 0.5, [END]: 0.5 };
  const rowAfter = scripted(10, { "": { [END]: 0.5, 1: 0.3, 2: 0.2 }, "1": half, "2": half });
  const onAndOn = (ids: readonly number[]) => rowAfter(ids.length < 2 ? ids : [1]);
  const stopsAt = (earlyStopping: EarlyStopping, lengthPenalty: number) =>
    statesOf({ ...plain, earlyStopping, lengthPenalty, maxTokens: 6, rowAfter: onAndOn })
      .length - 1;
  // After two tokens [1, END] is finished and [1, 3] lives, with the same sum.
  assertEquals([stopsAt(false, 1), stopsAt(false, 0), stopsAt("never", 0)], [2, 2, 2]);
});

Deno.test("Beam search is over when no sequence can go on, with fewer hypotheses than it is wide", () => {
  const rowAfter = scripted(10, { "": { [END]: 1 } });
  assertEquals(find({ ...plain, width: 4, maxTokens: 5, rowAfter }), [
    { ids: [END], score: 0, isEnded: true },
  ]);
});

Deno.test("Beam search gives certainty a score of 0, even where the power of the length is none", () => {
  const rowAfter = scripted(10, { "": { 1: 1 }, "1": { [END]: 1 } });
  for (const lengthPenalty of [-2000, 2000]) {
    const [found] = find({ ...plain, lengthPenalty, maxTokens: 2, rowAfter });
    assertEquals(found, { ids: [1, END], score: 0, isEnded: true });
  }
});

Deno.test("Beam search divides by the generated length, end token included", () => {
  const rowAfter = scripted(10, { "": { [END]: 0.5, 1: 0.5 }, "1": { [END]: 1 } });
  for (const lengthPenalty of [-1, 0, 0.5, 1, 2]) {
    const found = find({ ...plain, lengthPenalty, maxTokens: 2, rowAfter });
    const scoreOf = (length: number) => found.find(({ ids }) => ids.length === length)!.score;
    const sum = Math.fround(Math.log(0.5));
    assert(Math.abs(scoreOf(1) - sum) < 1e-6); // a length of 1 weighs the same for every penalty
    assert(Math.abs(scoreOf(2) - sum / 2 ** lengthPenalty) < 1e-6);
  }
});
