import { assert, assertEquals, assertRejects } from "@std/assert";
import { DeviceError } from "../../lib/base/errors.ts";
import { Engine, type TokenEvent } from "../../lib/engine/engine.ts";
import { loadModel } from "../../lib/loading.ts";
import { SamplingParams } from "../../lib/sampling/params.ts";
import { resolveSamplingParams } from "../../lib/sampling/resolved_params.ts";
import { goldenModel } from "../helpers/golden_models.ts";
import { ScriptedRunner } from "../helpers/scripted_runner.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

const PROMPT = Array.from({ length: 40 }, (_, i) => 5 + i % 30);

function ask(id: string, maxTokens: number) {
  const params = new SamplingParams({ temperature: 0, maxTokens, ignoreEos: true });
  return { id, promptTokenIds: PROMPT, params: resolveSamplingParams(params) };
}

const tokensOf = async (channel: AsyncIterable<TokenEvent>): Promise<number[]> =>
  (await Array.fromAsync(channel)).map((event) => event.tokenId);

Deno.test("A worker that crashes fails the requests of its step, and later ones are answered as before", async () => {
  const dir = await Deno.makeTempDir();
  try {
    writeTinyModel(dir, goldenModel("llama"));
    const { engine, model } = await loadModel(dir, { threads: 2 });
    await using device = model.device;
    const expected = await tokensOf(engine.submit(ask("before", 12)));
    for (const round of [1, 2]) {
      const inFlight = Array.from(
        { length: 3 },
        (_, i) => engine.submit(ask(`${round}.${i}`, 200)),
      );
      const failures = inFlight.map((channel, i) =>
        assertRejects(async () => {
          let seen = 0;
          for await (const _ of channel) {
            if (i === 0 && ++seen === 5) {
              (device as unknown as FaultyDevice).injectFault(round % 2, "crash");
            }
          }
        }, DeviceError)
      );
      await Promise.all(failures);
      const { runningCount, usedBlockCount, cachedBlockCount } = engine.stats();
      assertEquals([runningCount, usedBlockCount, cachedBlockCount], [0, 0, 0]);
      assertEquals(await tokensOf(engine.submit(ask(`${round} after`, 12))), expected);
    }
    await engine.close();
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("A failing device empties the prefix cache, another failure does not", async () => {
  for (const [error, cachedCount] of [[new DeviceError("x"), 0], [new Error("x"), 2]] as const) {
    let fails = false;
    const runner = new ScriptedRunner({
      onRun: () => {
        if (fails) throw error;
      },
    });
    const engine = new Engine(runner, {
      enablePrefixCaching: true,
      maxWaitingRequests: 10,
      endTokenIds: [],
    });
    await tokensOf(engine.submit(ask("fills the cache", 2)));
    assertEquals(engine.stats().cachedBlockCount, 2);
    fails = true;
    await assertRejects(() => tokensOf(engine.submit(ask("fails", 2))), Error, "x");
    assertEquals(engine.stats().cachedBlockCount, cachedCount);
    fails = false;
    assert((await tokensOf(engine.submit(ask("goes on", 2)))).length === 2);
    await engine.close();
  }
});

interface FaultyDevice {
  injectFault(peIndex: number, fault: "crash" | "stall" | "exit"): void;
}
