import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { InvalidLogitsError, InvalidParameterError } from "../../lib/base/errors.ts";
import type { LogitsProcessor, SamplingParamsOptions } from "../../lib/sampling/params.ts";
import { adjustRow, sample } from "../../lib/sampling/sampler.ts";
import { naivelyAdjusted, randomRow, type Situation, stateOf } from "../helpers/sampling.ts";
import { seededRandom } from "../helpers/scripted_runner.ts";

const SEED = Math.floor(performance.timeOrigin) % 1_000_000;

/** The row after steps 3 to 7. */
function adjusted(row: readonly number[], situation: Situation): number[] {
  return [...adjustRow(Float32Array.from(row), stateOf(situation))];
}

/** The most likely token after all steps. */
function greedy(row: readonly number[], situation: Situation): number {
  const options = { ...situation.options, temperature: 0 };
  return sample(Float32Array.from(row), stateOf({ ...situation, options })).tokenId;
}

Deno.test("Step 1: the sampler refuses a row that is not numbers, and takes impossible tokens", () => {
  for (const temperature of [0, 1]) {
    const draw = (values: number[]) =>
      sample(Float32Array.from(values), stateOf({ options: { temperature } }));
    assertThrows(() => draw([1, NaN, 2]), InvalidLogitsError, "the logit of token 1 is NaN");
    assertThrows(() => draw([1, 2, Infinity]), InvalidLogitsError, "token 2 is Infinity");
    assertThrows(() => draw([-Infinity, -Infinity]), InvalidLogitsError, "none is possible");
    assertEquals(draw([-Infinity, 3, -Infinity]).tokenId, 1);
  }
});

Deno.test("Step 3: only the allowed tokens can come", () => {
  assertEquals(adjusted([5, 4, 3, 2], { options: { allowedTokenIds: [3, 1] } }), [
    -Infinity,
    4,
    -Infinity,
    2,
  ]);
  assertEquals(greedy([5, 4, 3], { options: { allowedTokenIds: [2] } }), 2);
});

Deno.test("Step 4: a bad word bans its last token where the output ends with all before it", () => {
  const badTokenSequences = [[3], [1, 2], [1, 1, 0], [9, 9, 9]];
  const banned = (output: number[]) =>
    adjusted([7, 7, 7, 7], { tokenized: { badTokenSequences }, prompt: [1, 1], output })
      .flatMap((logit, id) => logit === -Infinity ? [id] : []);
  assertEquals(banned([]), [3], "the prompt does not count");
  assertEquals(banned([1]), [2, 3]);
  assertEquals(banned([1, 0]), [3]);
  assertEquals(banned([1, 1]), [0, 2, 3]);
  assertEquals(banned([2, 1, 1]), [0, 2, 3]);
});

Deno.test("Step 4: end and stop tokens are impossible while the output is short", () => {
  const situation = (output: number[]): Situation => ({
    options: { minTokens: 2, stopTokenIds: [1, 99] },
    endTokenIds: [0],
    output,
  });
  assertEquals(adjusted([5, 4, 3, 2], situation([])), [-Infinity, -Infinity, 3, 2]);
  assertEquals(adjusted([5, 4, 3, 2], situation([2])), [-Infinity, -Infinity, 3, 2]);
  assertEquals(adjusted([5, 4, 3, 2], situation([2, 2])), [5, 4, 3, 2]);
});

Deno.test("Step 5: a bias is added, and -100 all but bans", () => {
  assertEquals(adjusted([1, 2, 3], { options: { logitBias: { 0: 2.5, 2: -100 } } }), [3.5, 2, -97]);
  assertEquals(greedy([1, 2, 3], { options: { logitBias: { 0: 2.5 } } }), 0);
});

Deno.test("Step 6: processors see output and prompt, and what one leaves the next one gets", () => {
  const calls: unknown[] = [];
  const first: LogitsProcessor = (output, logits, prompt) => {
    calls.push([output, [...logits], prompt]);
    logits[0] = 10; // writes to what it got
  };
  const second: LogitsProcessor = (_, logits) => {
    calls.push([...logits]);
    return logits.map((value) => value + 1); // returns another row
  };
  const situation = { options: { logitsProcessors: [first, second] }, prompt: [2], output: [1, 1] };
  assertEquals(adjusted([1, 2, 3], situation), [11, 3, 4]);
  assertEquals(calls, [[[1, 1], [1, 2, 3], [2]], [10, 2, 3]]);
});

Deno.test("Step 6: a processor cannot reach the state, nor the row", () => {
  const vandal: LogitsProcessor = (output, logits, prompt) => {
    (output as number[]).length = 0;
    (prompt as number[]).length = 0;
    logits.fill(0);
  };
  const state = stateOf({ options: { logitsProcessors: [vandal] }, prompt: [1, 2], output: [2] });
  const row = Float32Array.of(1, 2, 3);
  adjustRow(row, state);
  assertEquals([...row], [1, 2, 3]);
  assertEquals([state.outputTokenIds, state.promptTokenIds], [[2], [1, 2]]);
});

Deno.test("Step 6: what is no row is refused by name; what a processor throws is thrown", () => {
  const run = (processor: unknown) => () =>
    sample(
      Float32Array.of(1, 2),
      stateOf({ options: { logitsProcessors: [processor as LogitsProcessor] } }),
    );
  for (const result of [null, 3, [1, 2], new Float64Array(2), new Float32Array(3)]) {
    const error = assertThrows(run(() => result), InvalidParameterError, "a Float32Array of 2");
    assertEquals(error.parameter, "logitsProcessors");
  }
  const broken = new TypeError("broken");
  assertStrictEquals(
    assertThrows(run(() => {
      throw broken;
    })),
    broken,
  );
  const toNaN = run((_: unknown, logits: Float32Array) => logits.fill(NaN, 1));
  assertThrows(
    toNaN,
    InvalidLogitsError,
    "the logit of token 1 is NaN after the logits processors",
  );
});

Deno.test("Step 7: the repetition penalty meets every token of prompt and output once", () => {
  const situation = { options: { repetitionPenalty: 2 }, prompt: [0, 0, 2], output: [3, 3] };
  assertEquals(adjusted([6, 5, -1, -1.5], situation), [3, 5, -2, -3]);
  const upwards = { options: { repetitionPenalty: 0.5 }, prompt: [0, 1] };
  assertEquals(adjusted([6, -2, 0], upwards), [12, -1, 0]);
});

Deno.test("Step 7: frequency counts, presence does not, and neither looks at the prompt", () => {
  const history = { prompt: [0, 0, 1], output: [1, 2, 2, 2] };
  const options = (presencePenalty: number, frequencyPenalty: number) => ({
    options: { presencePenalty, frequencyPenalty },
    ...history,
  });
  assertEquals(adjusted([1, 1, 1], options(0, 0.5)), [1, 0.5, -0.5]);
  assertEquals(adjusted([1, 1, 1], options(0.5, 0)), [1, 0.5, 0.5]);
  assertEquals(adjusted([1, 1, 1], options(-1, 0.25)), [1, 1.75, 1.25]);
});

Deno.test("Step 8: greedy takes the largest, of equals the lowest id", () => {
  assertEquals(greedy([-7, 2, 9, 9, 1], {}), 2);
  assertEquals(greedy([-7, 2, 9, 9, 1], { options: { logitBias: { 0: 16 } } }), 0);
  assertEquals(greedy([-7, 2, 9, 9, 1], { options: { logitBias: { 4: 8 } } }), 2);
});

// Each of these gives something else if the two steps change places.

Deno.test("Order: log-probabilities are those of the row before everything else", () => {
  const row = Float32Array.of(1, 3, 2, 3, -Infinity);
  const everything: Situation = {
    options: {
      temperature: 0,
      logprobs: 1,
      repetitionPenalty: 10,
      minTokens: 1,
      logitBias: { 0: 1.5 },
      logitsProcessors: [(_, logits) => logits.map((value) => value - 1)],
    },
    prompt: [3],
    endTokenIds: [1],
  };
  const { tokenId, logprobs } = sample(row, stateOf(everything));
  assertEquals(tokenId, 0);
  const plain = sample(row, stateOf({ options: { temperature: 0, logprobs: 4 } })).logprobs!;
  assertEquals(logprobs, [plain.find((entry) => entry.tokenId === 0)!, plain[0]!]);
});

Deno.test("Order: bans come before processors, which may lift them", () => {
  const lift: LogitsProcessor = (_, logits) => {
    for (let id = 0; id < 3; id++) if (logits[id] === -Infinity) logits[id] = 100 + id;
  };
  const bans: Situation = {
    options: { allowedTokenIds: [1, 2, 3], minTokens: 1, logitsProcessors: [lift] },
    tokenized: { badTokenSequences: [[1]] },
    endTokenIds: [2],
  };
  assertEquals(adjusted([0, 0, 0, 0], bans), [100, 101, 102, 0]);
});

Deno.test("Order: a bias cannot lift a ban", () => {
  const options = { allowedTokenIds: [1], logitBias: { 0: 100, 1: 1 } };
  assertEquals(adjusted([0, 0], { options }), [-Infinity, 1]);
  assertEquals(
    adjusted([0, 0], { options: { logitBias: { 0: 1 } }, tokenized: { badTokenSequences: [[0]] } }),
    [-Infinity, 0],
  );
});

Deno.test("Order: bias, then processors, then penalties", () => {
  const double: LogitsProcessor = (_, logits) => logits.map((value) => 2 * value);
  const options = { logitBias: { 0: 1 }, logitsProcessors: [double], repetitionPenalty: 4 };
  // (1 + 1) · 2 / 4; with the bias last 1.5, with the processor first 0.75.
  assertEquals(adjusted([1], { options }), [1]);
  assertEquals(adjusted([-0.5], { options }), [0.25]);
  const squares: LogitsProcessor = (_, logits) => logits.map((value) => value * value);
  const penalized = { logitsProcessors: [squares], repetitionPenalty: 2 };
  assertEquals(adjusted([3], { options: penalized }), [4.5], "with the penalty first 2.25");
});

Deno.test("Order: bias before penalties, repetition before frequency and presence", () => {
  // (3 + 1) / 2 = 2, − 2 · 0.5 = 1, − 0.25 = 0.75.
  const options = {
    logitBias: { 0: 1 },
    repetitionPenalty: 2,
    frequencyPenalty: 0.5,
    presencePenalty: 0.25,
  };
  assertEquals(adjusted([3], { options, output: [0, 0] }), [0.75]);
  // The sign that the repetition penalty looks at is that of the biased logit: −1 + 1 = 0.
  assertEquals(adjusted([-1], { options, output: [0, 0] }), [-1.25]);
});

Deno.test("Steps 3 to 7 together do what one loop a step does, on any row", () => {
  const random = seededRandom(SEED);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!;
  for (let round = 0; round < 500; round++) {
    const length = 2 + Math.floor(random() * 30);
    const tokens = (count: number) =>
      Array.from({ length: count }, () => Math.floor(random() * length));
    const situation: Situation = {
      options: {
        ...(random() < 0.2 ? { allowedTokenIds: tokens(6) } : {}),
        ...(random() < 0.5 ? { logitBias: { [tokens(1)[0]!]: 3, [tokens(1)[0]!]: -4 } } : {}),
        ...(random() < 0.2 ? { logitsProcessors: [(_, logits) => logits.toReversed()] } : {}),
        repetitionPenalty: pick([1, 1.3, 0.6]),
        presencePenalty: pick([0, 0.4, -2]),
        frequencyPenalty: pick([0, 0.3, -0.1]),
        minTokens: pick([0, 4]),
        stopTokenIds: tokens(2),
      },
      tokenized: { badTokenSequences: pick([[], [tokens(1), tokens(2)]]) },
      prompt: tokens(5),
      output: tokens(pick([0, 3, 8])),
      endTokenIds: tokens(1),
    };
    const row = randomRow(random, length);
    const before = row.slice();
    const expected = naivelyAdjusted(row, situation);
    assertEquals(adjustRow(row, stateOf(situation)), expected, `seed ${SEED}, round ${round}`);
    assertEquals(row, before, "the row is never written to");
  }
});

Deno.test("A row that nothing changes is returned as it is, another one is a copy", () => {
  const row = Float32Array.of(1, 2);
  assertStrictEquals(adjustRow(row, stateOf({})), row);
  assertStrictEquals(adjustRow(row, stateOf({ options: { minTokens: 1 }, output: [0] })), row);
  assert(adjustRow(row, stateOf({ options: { repetitionPenalty: 2 } })) !== row);
});

Deno.test("Where no token is left, the error names what left none", () => {
  const fails = (situation: Situation, row = [1, 2]) =>
    assertThrows(() => greedy(row, situation), InvalidParameterError);
  const allowed = fails({ options: { allowedTokenIds: [1] } }, [1, -Infinity]);
  assertEquals(allowed.parameter, "allowedTokenIds");
  const stops = fails({ options: { minTokens: 1, stopTokenIds: [0, 1] } });
  assertEquals(stops.parameter, "minTokens");
  const both = fails({
    options: { allowedTokenIds: [1] },
    tokenized: { badTokenSequences: [[1]] },
  });
  assertEquals(
    both.message,
    "Cannot choose a token: none is possible with allowedTokenIds, badWords",
  );
  const empty: LogitsProcessor = (_, logits) => logits.fill(-Infinity);
  assertEquals(fails({ options: { logitsProcessors: [empty] } }).parameter, "logitsProcessors");
});

Deno.test("A penalty that brings a logit to infinity fails, and is named", () => {
  const options = { repetitionPenalty: 1e-40 };
  const error = assertThrows(
    () => greedy([5], { options }),
    InvalidParameterError,
    "token 0 to Infinity",
  );
  assertEquals([error.parameter, error.value], ["repetitionPenalty", 1e-40]);
});

Deno.test("A fork goes on by itself", () => {
  const options = { frequencyPenalty: 1, repetitionPenalty: 2 };
  const tokenized = { badTokenSequences: [[2, 0]] };
  const state = stateOf({ options, tokenized, prompt: [1], output: [2] });
  const row = Float32Array.of(4, 4, 4);
  const before = adjustRow(row, state);
  const fork = state.fork();
  assertEquals(adjustRow(row, fork), before);
  fork.accept(0);
  assertEquals([...adjustRow(row, fork)], [1, 2, 1]);
  assertEquals(adjustRow(row, state), before);
  assertEquals([state.outputCount, fork.outputCount], [1, 2]);
});

Deno.test("A processor draws what a bias draws where it changes little, and what another row would otherwise", () => {
  const random = seededRandom(SEED);
  for (let seed = 0; seed < 60; seed++) {
    const row = randomRow(random, 3000);
    const options = { temperature: 0.5 + random(), repetitionPenalty: 1.2, frequencyPenalty: 0.3 };
    const situation = { prompt: [3, 5, 2999], output: [5, 8] };
    const draw = (of: Float32Array, more: SamplingParamsOptions) =>
      sample(of, stateOf({ ...situation, options: { ...options, ...more }, seed })).tokenId;
    const ids = [5, 17, 2998];
    const lift: LogitsProcessor = (_, logits) => ids.forEach((id) => logits[id]! += 2);
    const bias = new Map(ids.map((id) => [id, 2]));
    assertEquals(draw(row, { logitsProcessors: [lift] }), draw(row, { logitBias: bias }));
    const flatten: LogitsProcessor = (_, logits) => logits.map((logit) => logit / 2);
    const flat = row.map((logit) => logit / 2);
    assertEquals(draw(row, { logitsProcessors: [flatten] }), draw(flat, {}), `seed ${SEED}`);
  }
});
