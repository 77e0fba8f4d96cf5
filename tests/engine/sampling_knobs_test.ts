/** What the engine adds to the sampler: how forced outputs end, and whom a mistake meets. */

import { assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { InvalidParameterError } from "../../lib/base/errors.ts";
import { Engine, type EngineRequest, type TokenEvent } from "../../lib/engine/engine.ts";
import { SamplingParams, type SamplingParamsOptions } from "../../lib/sampling/params.ts";
import { resolveSamplingParams, type TokenizedParams } from "../../lib/sampling/resolved_params.ts";
import { ScriptedRunner } from "../helpers/scripted_runner.ts";

function setUp(): Engine {
  return new Engine(new ScriptedRunner({ vocabSize: 50 }), {
    enablePrefixCaching: true,
    maxWaitingRequests: 100,
    endTokenIds: [40, 41],
  });
}

let requestCount = 0;

function ask(options: SamplingParamsOptions, tokenized: TokenizedParams = {}): EngineRequest {
  const params = new SamplingParams(options);
  return {
    id: `${requestCount++}`,
    promptTokenIds: [1, 2, 3],
    params: resolveSamplingParams(params, {}, tokenized),
  };
}

/** The tokens and how they ended. */
async function outcome(channel: AsyncIterable<TokenEvent>): Promise<unknown[]> {
  const events = await Array.fromAsync(channel);
  const last = events.at(-1);
  return [events.map((event) => event.tokenId), last?.finishReason, last?.stopReason];
}

Deno.test("Engine says what is forced and then stops, and adds no end token", async () => {
  const engine = setUp();
  const force = (forcedTokenIds: number[], options: SamplingParamsOptions = {}) =>
    outcome(engine.submit(ask({ maxTokens: 5, ...options }, { forcedTokenIds })));
  assertEquals(await force([7, 7, 9]), [[7, 7, 9], "stop", null]);
  assertEquals(await force([7, 8, 9, 10, 11, 12]), [[7, 8, 9, 10, 11], "length", null]);
  assertEquals(await force([7, 8, 9, 10, 11]), [[7, 8, 9, 10, 11], "stop", null]);
  assertEquals(await force([7, 40, 9]), [[7, 40], "stop", null]);
  assertEquals(await force([7, 41, 9]), [[7, 41], "stop", 41]);
  assertEquals(await force([7, 40, 9], { ignoreEos: true }), [[7, 40, 9], "stop", null]);
  assertEquals(await force([7, 8, 9], { stopTokenIds: [8] }), [[7, 8], "stop", 8]);
  assertEquals(await force([7, 8], { minTokens: 2 }), [[7, 8], "stop", null]);
});

Deno.test("Engine gives forced tokens the log-probabilities that the model gives them", async () => {
  const engine = setUp();
  const chosen = await Array.fromAsync(
    engine.submit(ask({ temperature: 0, maxTokens: 4, logprobs: 2 })),
  );
  const forcedTokenIds = chosen.map((event) => event.tokenId);
  const forced = await Array.fromAsync(
    engine.submit(ask({ temperature: 1, maxTokens: 9, logprobs: 2 }, { forcedTokenIds })),
  );
  assertEquals(
    forced.map(({ tokenId, logprobs }) => [tokenId, logprobs]),
    chosen.map(({ tokenId, logprobs }) => [tokenId, logprobs]),
  );
});

Deno.test("Engine refuses at once what is forced and forbidden, and ids that the model lacks", () => {
  const engine = setUp();
  const refused = (parameter: string, options: SamplingParamsOptions, ids?: number[]) => {
    const request = ask(options, ids === undefined ? {} : { forcedTokenIds: ids });
    const error = assertThrows(() => engine.submit(request), InvalidParameterError);
    assertEquals(error.parameter, parameter);
  };
  refused("forcedOutput", { allowedTokenIds: [1] }, [2]);
  refused("forcedOutput", { minTokens: 1, maxTokens: 4 }, [40]);
  refused("forcedOutput", {}, [50]);
  refused("allowedTokenIds", { allowedTokenIds: [50] });
  refused("logitBias", { logitBias: { 50: 1 } });
  assertEquals(engine.stats().waitingCount, 0);
});

Deno.test("Engine fails a request alone whose processor throws, or that leaves itself no token", async () => {
  const engine = setUp();
  const broken = new TypeError("broken");
  const throwsLater = (output: readonly number[]) => {
    if (output.length === 2) throw broken;
  };
  const neighbour = outcome(engine.submit(ask({ temperature: 0, maxTokens: 8 })));
  const failing = outcome(
    engine.submit(ask({ logitsProcessors: [throwsLater], ignoreEos: true, maxTokens: 8 })),
  );
  const empty = outcome(engine.submit(ask({ allowedTokenIds: [40], minTokens: 1, maxTokens: 8 })));
  const [first, second] = await Promise.all([
    assertRejects(() => failing),
    assertRejects(() => empty, InvalidParameterError),
  ]);
  assertStrictEquals(first, broken);
  assertEquals(
    second.message,
    "Cannot choose a token: none is possible with allowedTokenIds, minTokens",
  );
  const alone = await outcome(setUp().submit(ask({ temperature: 0, maxTokens: 8 })));
  assertEquals(await neighbour, alone);
});

Deno.test("Engine tells processors the whole output and the prompt, step by step", async () => {
  const engine = setUp();
  const seen: unknown[] = [];
  const watch = (output: readonly number[], _: Float32Array, prompt: readonly number[]) => {
    seen.push([output, prompt]);
  };
  await outcome(
    engine.submit(ask({ logitsProcessors: [watch], maxTokens: 3 }, { forcedTokenIds: [5, 6, 7] })),
  );
  assertEquals(seen, [[[], [1, 2, 3]], [[5], [1, 2, 3]], [[5, 6], [1, 2, 3]]]);
});
