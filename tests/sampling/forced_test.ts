import { assertEquals, assertThrows } from "@std/assert";
import { InvalidLogitsError, InvalidParameterError } from "../../lib/base/errors.ts";
import { checkForcedOutput } from "../../lib/sampling/forced.ts";
import type { SamplingParamsOptions } from "../../lib/sampling/params.ts";
import type { TokenizedParams } from "../../lib/sampling/resolved_params.ts";
import { sample } from "../../lib/sampling/sampler.ts";
import { checkTokenIds } from "../../lib/sampling/vocabulary.ts";
import { stateOf, summaryOf } from "../helpers/sampling.ts";

const ROW = Float32Array.of(1, 2, 3, 4, 5);

function forced(
  forcedTokenIds: number[],
  options: SamplingParamsOptions = {},
  tokenized: TokenizedParams = {},
) {
  return { options, tokenized: { forcedTokenIds, ...tokenized } };
}

Deno.test("The i-th token is forced, greedy or not, with rank and log-probability as if chosen", () => {
  for (const temperature of [0, 1]) {
    const state = stateOf(forced([3, 0, 0], { temperature, logprobs: 1, topK: 1 }));
    for (const expected of [3, 0, 0]) {
      const { tokenId, logprobs } = sample(ROW, state, { summary: summaryOf(ROW, state) });
      assertEquals(tokenId, expected);
      assertEquals(logprobs!.map((entry) => [entry.tokenId, entry.rank]), [
        [expected, 5 - expected],
        [4, 1],
      ]);
      state.accept(tokenId);
    }
  }
});

Deno.test("A forced token that is impossible when it comes fails, and names forcedOutput", () => {
  const fails = (situation: ReturnType<typeof forced>, message: string, row = ROW) => {
    const error = assertThrows(
      () => sample(row, stateOf(situation)),
      InvalidParameterError,
      message,
    );
    assertEquals(error.parameter, "forcedOutput");
  };
  fails(
    forced([2], { logitsProcessors: [(_, logits) => logits.fill(-Infinity, 2, 3)] }),
    "Cannot force token 2, number 0 of forcedOutput: it is impossible with logitsProcessors",
  );
  fails(forced([2], { allowedTokenIds: [1] }), "with allowedTokenIds");
  fails(forced([2], {}, { badTokenSequences: [[2]] }), "with badWords");
  fails(forced([2], { minTokens: 1, stopTokenIds: [2] }), "with minTokens");
  fails(forced([1]), "it is impossible", Float32Array.of(1, -Infinity));
  assertThrows(() => sample(Float32Array.of(1, NaN), stateOf(forced([0]))), InvalidLogitsError);
});

Deno.test("Penalties and bias do not stand in the way of what is forced", () => {
  const options = { logitBias: { 2: -100 }, repetitionPenalty: 2, topP: 0.01 };
  assertEquals(sample(ROW, stateOf({ ...forced([2], options), prompt: [2] })).tokenId, 2);
});

Deno.test("What is known to be impossible is refused before the first step", () => {
  const check = (situation: ReturnType<typeof forced>, endTokenIds = [4]) =>
    checkForcedOutput(stateOf(situation).params, endTokenIds);
  const refused = (situation: ReturnType<typeof forced>, message: string) => {
    const error = assertThrows(() => check(situation), InvalidParameterError, message);
    assertEquals(error.parameter, "forcedOutput");
  };
  check(forced([1, 2, 3, 4]));
  refused(
    forced([1, 2], { allowedTokenIds: [1] }),
    "Cannot use forcedOutput [1,2]: token 2, number 1 of it, is not one of allowedTokenIds",
  );
  refused(forced([1, 2, 1], {}, { badTokenSequences: [[2, 1]] }), "completes one of badWords");
  check(forced([2, 2, 1], {}, { badTokenSequences: [[1, 2, 2], [2, 2, 2]] }));
  refused(forced([1, 4, 1], { minTokens: 2 }), "would end the output before there are minTokens");
  refused(forced([1, 3, 1], { minTokens: 2, stopTokenIds: [3] }), "token 3, number 1 of it");
  check(forced([1, 1, 4], { minTokens: 2 }));
  refused(forced([1, 2], { minTokens: 3 }), "it must hold at least minTokens tokens, which is 3");
});

Deno.test("What comes after the end of the output is not looked at", () => {
  const check = (situation: ReturnType<typeof forced>) =>
    checkForcedOutput(stateOf(situation).params, [4]);
  check(forced([1, 4, 2], { allowedTokenIds: [1, 4] }));
  check(forced([1, 2], { allowedTokenIds: [1], maxTokens: 1 }));
  check(forced([1, 3, 2], { allowedTokenIds: [1, 3], stopTokenIds: [3] }));
  assertThrows(
    () => check(forced([1, 4, 2], { allowedTokenIds: [1, 4], ignoreEos: true })),
    InvalidParameterError,
    "token 2, number 2",
  );
});

Deno.test("Ids that the vocabulary does not have are refused by name where they would count", () => {
  const refused = (situation: ReturnType<typeof forced>, parameter: string) => {
    const { params } = stateOf(situation);
    checkTokenIds(params, 10);
    const error = assertThrows(() => checkTokenIds(params, 9), InvalidParameterError);
    assertEquals([error.parameter, error.value], [parameter, 9]);
    assertEquals(
      error.message,
      `Cannot use ${parameter} 9: token id 9 is out of vocabulary: ids are from 0 to 8`,
    );
  };
  refused(forced([9]), "forcedOutput");
  refused(forced([1], { allowedTokenIds: [1, 9] }), "allowedTokenIds");
  refused(forced([1], { logitBias: { 9: 1 } }), "logitBias");
  checkTokenIds(stateOf({ options: { stopTokenIds: [99] } }).params, 9);
});

Deno.test("A forced output is checked in one pass, however long it is", () => {
  const ids = new Array<number>(1_000_000).fill(1);
  const { params } = stateOf(forced([...ids, 2, 3], {}, { badTokenSequences: [[1, 2, 3]] }));
  assertThrows(() => checkForcedOutput(params, [4]), InvalidParameterError, "number 1000001 of it");
});
