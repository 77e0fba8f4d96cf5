import { assert, assertEquals, assertThrows } from "@std/assert";
import { InvalidParameterError } from "../../lib/base/errors.ts";
import { SamplingParams, type SamplingParamsOptions } from "../../lib/sampling/params.ts";
import { resolveSamplingParams } from "../../lib/sampling/resolved_params.ts";

Deno.test("SamplingParams keeps what is given and nothing else", () => {
  assertEquals(Object.keys(new SamplingParams()), []);
  const params = new SamplingParams({ temperature: 0.7, maxTokens: null, stopTokenIds: [5, 2, 5] });
  assertEquals({ ...params }, { temperature: 0.7, maxTokens: null, stopTokenIds: [5, 2] });
  assertEquals(Object.keys(SamplingParams.from({ topP: null, topK: undefined as never })), []);
});

Deno.test("SamplingParams accepts the edges of every range", () => {
  const edges: SamplingParamsOptions[] = [
    { temperature: 0 },
    { temperature: 2 },
    { topP: 1e-9 },
    { topP: 1 },
    { topK: -1 },
    { topK: 0 },
    { topK: 1 },
    { minP: 0 },
    { minP: 1 },
    { repetitionPenalty: 0.01 },
    { repetitionPenalty: 5 },
    { seed: -1 },
    { seed: -(2 ** 53 - 1) },
    { maxTokens: 1, minTokens: 1 },
    { maxTokens: null, minTokens: 5 },
    { logprobs: 0 },
    { promptLogprobs: -1 },
    { stopTokenIds: [0] },
  ];
  for (const options of edges) assertEquals({ ...new SamplingParams(options) }, options);
});

Deno.test("SamplingParams names the field, the value and the range of what it refuses", () => {
  const refused: [SamplingParamsOptions, string, string][] = [
    [
      { temperature: -0.1 },
      "temperature",
      "Cannot use temperature -0.1: it must be a number from 0 to 2",
    ],
    [{ temperature: 2.1 }, "temperature", "from 0 to 2"],
    [{ temperature: NaN }, "temperature", "Cannot use temperature NaN"],
    [{ temperature: "0.5" as never }, "temperature", 'Cannot use temperature "0.5"'],
    [{ topP: 0 }, "topP", "greater than 0 and at most 1"],
    [{ topP: 1.01 }, "topP", "greater than 0 and at most 1"],
    [{ topK: -2 }, "topK", "a positive integer, or 0 or -1"],
    [{ topK: 1.5 }, "topK", "a positive integer, or 0 or -1"],
    [{ minP: -0.1 }, "minP", "from 0 to 1"],
    [{ minP: 1.1 }, "minP", "from 0 to 1"],
    [{ repetitionPenalty: 0 }, "repetitionPenalty", "greater than 0"],
    [{ repetitionPenalty: Infinity }, "repetitionPenalty", "greater than 0"],
    [{ seed: 0.5 }, "seed", "an integer"],
    [{ seed: 2 ** 53 }, "seed", "as a bigint beyond 2^53 - 1"],
    [{ seed: 2n ** 63n }, "seed", "an integer of 64 bits"],
    [{ logprobTokenIds: [1] }, "logprobTokenIds", "it needs logprobs"],
    [
      { logprobs: 1, logprobTokenIds: Array.from({ length: 129 }, (_, id) => id) },
      "logprobTokenIds",
      "at most 128",
    ],
    [{ repetitionDetection: 5 as never }, "repetitionDetection", "an object"],
    [
      { repetitionDetection: { maxPatternSize: 4, minCount: 1 } },
      "repetitionDetection.minCount",
      "at least 2",
    ],
    [
      { repetitionDetection: { maxPatternSize: 4, minPatternSize: 5, minCount: 2 } },
      "repetitionDetection.minPatternSize",
      "from 0 to 4",
    ],
    [
      { useBeamSearch: true, n: 2, logprobs: 1, logprobTokenIds: [1] },
      "logprobTokenIds",
      "cannot be used with useBeamSearch",
    ],
    [{ maxTokens: 0 }, "maxTokens", "at least 1"],
    [{ minTokens: -1 }, "minTokens", "at least 0"],
    [{ minTokens: 5, maxTokens: 4 }, "minTokens", "at most maxTokens, which is 4"],
    [{ logprobs: -1 }, "logprobs", "at least 0"],
    [{ promptLogprobs: -2 }, "promptLogprobs", "-1 for the whole vocabulary"],
    [{ stopTokenIds: [-1] }, "stopTokenIds", "Cannot use stopTokenIds -1"],
    [{ stopTokenIds: 3 as never }, "stopTokenIds", "a list of token ids"],
    [{ ignoreEos: 1 as never }, "ignoreEos", "true or false"],
    [{ temperature: null as never }, "temperature", "Cannot use temperature null"],
  ];
  for (const [options, field, words] of refused) {
    const error = assertThrows(() => new SamplingParams(options), InvalidParameterError, words);
    assertEquals(error.parameter, field);
  }
});

Deno.test("SamplingParams says of an unknown field whether it is misspelt or only not there yet", () => {
  const refuse = (options: object, words: string) =>
    assertThrows(() => new SamplingParams(options), InvalidParameterError, words);
  refuse({ structuredOutputs: {} }, '"structuredOutputs": it is not supported yet');
  refuse({ detokenize: false }, '"detokenize": it is not supported yet');
  refuse({ top_p: 0.5 }, 'write "topP"');
  assertEquals(
    refuse({ tempreature: 1 }, "the fields are n, bestOf").parameter,
    "tempreature",
  );
});

Deno.test("SamplingParams keeps a seed of 64 bits exactly, as a number where one holds it", () => {
  const seeds = [7n, 2n ** 63n - 1n, -(2n ** 63n)].map((seed) => new SamplingParams({ seed }).seed);
  assertEquals(seeds, [7, 2n ** 63n - 1n, -(2n ** 63n)]);
  assertEquals(`${new SamplingParams({ seed: 2n ** 60n })}`, `SamplingParams(seed=${2n ** 60n})`);
});

Deno.test("SamplingParams takes small temperatures for greedy or for 0.01", () => {
  assertEquals(new SamplingParams({ temperature: 9e-6 }).temperature, 0);
  assertEquals(new SamplingParams({ temperature: 1e-5 }).temperature, 0.01);
  assertEquals(new SamplingParams({ temperature: 0.02 }).temperature, 0.02);
});

Deno.test("SamplingParams reads logprobs true as 1 and false as none", () => {
  assertEquals(new SamplingParams({ logprobs: true }).logprobs, 1);
  assertEquals("logprobs" in new SamplingParams({ logprobs: false }), false);
});

Deno.test("SamplingParams can be copied, changed in the copy, and printed", () => {
  const params = new SamplingParams({ temperature: 0.5, maxTokens: 4, logprobs: 2 });
  assertEquals({ ...params.clone() }, { ...params });
  const other = params.clone({ temperature: undefined, seed: 3 });
  assertEquals({ ...other }, { maxTokens: 4, logprobs: 2, seed: 3 });
  assertEquals(`${params}`, "SamplingParams(temperature=0.5, maxTokens=4, logprobs=2)");
  assert(SamplingParams.from(params) === params);
  assertThrows(() => Object.assign(params, { temperature: 1 }), TypeError);
});

Deno.test("resolveSamplingParams takes the request, then the defaults, then the neutral values", () => {
  const defaults = { temperature: 0.6, topP: 0.9, topK: 20, repetitionPenalty: 1.1, maxTokens: 7 };
  assertEquals(resolveSamplingParams(new SamplingParams({ topP: 0.5, minTokens: 2 }), defaults), {
    n: 1,
    bestOf: 1,
    beam: null,
    temperature: 0.6,
    topP: 0.5,
    topK: 20,
    minP: 0,
    repetitionPenalty: 1.1,
    presencePenalty: 0,
    frequencyPenalty: 0,
    logitBias: new Map(),
    allowedTokenIds: null,
    badTokenSequences: [],
    logitsProcessors: [],
    forcedTokenIds: null,
    seed: null,
    stopTokenIds: [],
    ignoreEos: false,
    maxTokens: 7,
    cutMaxTokens: true,
    minTokens: 2,
    logprobs: null,
    logprobTokenIds: null,
    promptLogprobs: null,
    skipSpecialTokens: true,
    repetitionDetection: null,
  });
  const neutral = resolveSamplingParams(new SamplingParams({ topK: -1, seed: -1 }));
  assertEquals(
    [neutral.temperature, neutral.topP, neutral.topK, neutral.seed, neutral.maxTokens],
    [1, 1, 0, null, null],
  );
});

Deno.test("resolveSamplingParams tells a maxTokens that was asked for from a default", () => {
  const resolve = (options: SamplingParamsOptions) =>
    resolveSamplingParams(new SamplingParams(options), { maxTokens: 16 });
  assertEquals([resolve({ maxTokens: 3 }).maxTokens, resolve({ maxTokens: 3 }).cutMaxTokens], [
    3,
    false,
  ]);
  assertEquals(resolve({ maxTokens: null }).maxTokens, null);
  assertThrows(() => resolve({ minTokens: 17 }), InvalidParameterError, "which is 16");
});

Deno.test("resolveSamplingParams switches the filters off where the choice is greedy", () => {
  const resolved = resolveSamplingParams(new SamplingParams({ temperature: 0, topK: 5 }), {
    topP: 0.9,
    minP: 0.1,
  });
  assertEquals([resolved.topP, resolved.topK, resolved.minP], [1, 0, 0]);
});

Deno.test("SamplingParams are made of fields, and of no names that every object has", () => {
  for (const value of [null, 5, "x", true, [], new Map()]) {
    assertThrows(() => new SamplingParams(value as never), TypeError, "an object of fields");
    if (value !== null) {
      assertThrows(() => SamplingParams.from(value as never), TypeError, "an object of fields");
    }
  }
  for (const field of ["constructor", "toString", "__proto__"]) {
    const options = Object.fromEntries([[field, 1]]);
    assertThrows(() => new SamplingParams(options), InvalidParameterError, "no such field");
  }
});

Deno.test("logitBias takes decimal ids and nothing that only converts to one", () => {
  for (const key of ["", " ", "0x10", "1e2", "-0", "5 ", "1.0", true, null, 5n, -1, 0.5]) {
    const logitBias = new Map([[key, 1]]) as never;
    assertThrows(() => new SamplingParams({ logitBias }), InvalidParameterError, "a token id");
  }
  for (const logitBias of [new Set([5]), new Float32Array(3), new Date(), "5"]) {
    const options = { logitBias: logitBias as never };
    assertThrows(() => new SamplingParams(options), InvalidParameterError, "an object or a Map");
  }
});

Deno.test("A value that cannot be written as JSON is refused like any other", () => {
  const circular: unknown[] = [];
  circular.push(circular);
  for (const n of [circular, [1n], { toJSON: () => circular }]) {
    assertThrows(
      () => new SamplingParams({ n: n as never }),
      InvalidParameterError,
      "Cannot use n",
    );
  }
});
