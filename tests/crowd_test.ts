/**
 * Reproducibility as a property: random requests with every knob give, all at once and however the
 * engine has to run them, what each gives alone, to the last bit.
 */

import { assert, assertEquals } from "@std/assert";
import { LLM, type LLMOptions, type RequestOutput, SamplingParams } from "../mod.ts";
import type { SamplingParamsOptions } from "../mod.ts";
import { goldenModel } from "./helpers/golden_models.ts";
import { idle } from "./helpers/tiny_llm.ts";
import { writeTinyModel } from "./helpers/tiny_model.ts";

const VOCAB_SIZE = 101;
const REQUEST_COUNT = 14;
/** Two layers, keys and values, two heads of eight, sixteen positions, bfloat16. */
const BLOCK_BYTES = 2 * 2 * 2 * 8 * 16 * 2;

/** A request of the crowd. */
interface Asked {
  readonly promptTokenIds: readonly number[];
  readonly params: SamplingParams;
}

/** Mulberry32: good enough to make up requests, and the same everywhere. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Requests that use all knobs, several of them at once, and some of them share a prefix. */
function makeUp(seed: number): Asked[] {
  const random = randomFrom(seed);
  const integer = (min: number, max: number) => min + Math.floor(random() * (max - min + 1));
  const ids = (count: number) => Array.from({ length: count }, () => integer(0, VOCAB_SIZE - 1));
  const maybe = (share: number, options: () => SamplingParamsOptions): SamplingParamsOptions =>
    random() < share ? options() : {};
  const shared = ids(40);
  return Array.from({ length: REQUEST_COUNT }, (_, i): Asked => {
    const kind = ["draw", "several", "best", "beam", "greedy", "forced"][i % 6];
    const maxTokens = integer(4, 24);
    const options: SamplingParamsOptions = {
      maxTokens,
      seed: integer(-1000, 1000),
      ...maybe(0.5, () => ({ logprobs: integer(0, 5) })),
      ...maybe(0.3, () => ({ promptLogprobs: integer(-1, 3) })),
      ...maybe(0.3, () => ({ repetitionPenalty: 0.7 + random() })),
      ...maybe(0.3, () => ({ presencePenalty: random() * 4 - 2 })),
      ...maybe(0.3, () => ({ frequencyPenalty: random() * 4 - 2 })),
      ...maybe(0.3, () => ({ minTokens: integer(0, 4) })),
      ...maybe(0.3, () => ({ stopTokenIds: ids(2) })),
      ...maybe(0.3, () => ({ ignoreEos: true })),
    };
    const banning: SamplingParamsOptions = {
      ...maybe(0.3, () => ({ logitBias: new Map(ids(3).map((id) => [id, random() * 20 - 10])) })),
      ...maybe(0.2, () => ({ allowedTokenIds: ids(30) })),
      ...maybe(0.3, () => ({ badWords: ["the", "a"] })),
      ...maybe(0.3, () => ({ stop: ["e", "th", "?"] })),
    };
    const drawing: SamplingParamsOptions = {
      temperature: 0.3 + random() * 1.7,
      ...maybe(0.4, () => ({ topP: 0.2 + random() * 0.8 })),
      ...maybe(0.4, () => ({ topK: integer(1, 90) })),
      ...maybe(0.4, () => ({ minP: random() * 0.2 })),
    };
    const of: Record<string, SamplingParamsOptions> = {
      draw: { ...banning, ...drawing },
      several: { ...banning, ...drawing, n: integer(2, 4) },
      best: { ...banning, ...drawing, n: 2, bestOf: integer(3, 4) },
      beam: {
        useBeamSearch: true,
        n: integer(2, 3),
        lengthPenalty: random() * 2 - 0.5,
        earlyStopping: ([true, false, "never"] as const)[integer(0, 2)]!,
      },
      greedy: { ...banning, temperature: 0 },
      forced: { forcedOutput: ids(integer(1, 12)), minTokens: 0 },
    };
    const prompt = random() < 0.5
      ? [...shared.slice(0, integer(10, 40)), ...ids(3)]
      : ids(integer(1, 50));
    return {
      promptTokenIds: prompt,
      params: new SamplingParams({ ...options, ...of[kind as string] }),
    };
  });
}

/** Everything that must not move, numbers to the last bit; a refusal by its words. */
async function answerOf(llm: LLM, { promptTokenIds, params }: Asked): Promise<string> {
  try {
    return bits(await llm.generate({ promptTokenIds }, params));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return error.message;
  }
}

function bits({ promptTokenIds, promptLogprobs, outputs }: RequestOutput): string {
  return JSON.stringify(
    { promptTokenIds, promptLogprobs, outputs },
    (_, value) =>
      value instanceof Map
        ? [...value].map(([id, { logprob, rank }]) => [id, `${logprob}`, rank])
        : value,
  );
}

Deno.test("Any request gives the same bits alone and in any crowd, however it has to run", async () => {
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(dir, goldenModel("llama"));
    const seed = Number(Deno.env.get("RNGD_TEST_SEED") ?? Date.now() % 2 ** 31);
    console.log(`RNGD_TEST_SEED=${seed}`);
    const requests = makeUp(seed);
    let expected: string[];
    {
      await using llm = await LLM.load(dir, { threads: 1, enablePrefixCaching: false });
      expected = [];
      for (const request of requests) expected.push(await answerOf(llm, request));
    }
    const settings: Record<string, LLMOptions> = {
      "on two threads": { threads: 2 },
      "in chunks, in small batches": { threads: 1, maxTokensPerStep: 16, maxBatchSize: 4 },
      "without prefix cache": { threads: 3, enablePrefixCaching: false },
      "with hardly any blocks": { threads: 1, maxBatchSize: 8, kvCacheBytes: 10 * BLOCK_BYTES },
    };
    for (const [what, options] of Object.entries(settings)) {
      await using llm = await LLM.load(dir, options);
      for (const round of ["first", "second"]) {
        const answers = await Promise.all(requests.map((request) => answerOf(llm, request)));
        for (const [i, answer] of answers.entries()) {
          assertEquals(
            answer,
            expected[i],
            `seed ${seed}: ${what}, ${round}, ${requests[i]!.params}`,
          );
        }
      }
      await idle(llm); // one that a stop string ended leaves at the next step
      const { usedBlockCount, runningCount, waitingCount, preemptionCount } = llm.stats().engine;
      assertEquals(
        [usedBlockCount, runningCount, waitingCount],
        [0, 0, 0],
        `seed ${seed}: ${what}`,
      );
      if (what === "with hardly any blocks") {
        assert(preemptionCount > 0, `seed ${seed}: none preempted`);
      }
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
