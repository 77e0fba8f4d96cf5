/** Token events of several sequences → deltas and outputs, with an engine whose events the test writes. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Channel } from "../lib/base/channel.ts";
import type { EngineRequest, TokenEvent } from "../lib/engine/engine.ts";
import { foldDeltas } from "../lib/fold.ts";
import { generateDeltas, type Generation, type GenerationEngine } from "../lib/generation.ts";
import type { GenerationDelta, RequestOutput } from "../lib/outputs.ts";
import { SamplingParams, type SamplingParamsOptions } from "../lib/sampling/params.ts";
import { resolveSamplingParams } from "../lib/sampling/resolved_params.ts";
import { Tokenizer } from "../lib/text/tokenizer.ts";
import { BYTE_0, byteLevelMetadata, type Random, withRandom } from "./text/vocabularies.ts";

const tokenizer = Tokenizer.fromGguf(byteLevelMetadata(), "tiny.gguf");
const PROMPT = { text: "hello", tokenIds: [BYTE_0 + 104, BYTE_0 + 105] };
const IM_END = 2;

/** An engine that sends what it is told to, and notes what it is asked for. */
class ScriptedEngine implements GenerationEngine {
  readonly requests: EngineRequest[] = [];
  readonly aborted: string[] = [];
  leaveCount = 0;
  channel: Channel<TokenEvent> = new Channel();
  readonly #events: readonly TokenEvent[];
  readonly #keepsOpen: boolean;

  constructor(events: readonly TokenEvent[], options: { keepsOpen?: boolean } = {}) {
    this.#events = events;
    this.#keepsOpen = options.keepsOpen ?? false;
  }

  submit(request: EngineRequest): Channel<TokenEvent> {
    this.requests.push(request);
    this.channel = new Channel(() => this.leaveCount++);
    for (const event of this.#events) this.channel.push(event);
    if (!this.#keepsOpen) this.channel.close();
    return this.channel;
  }

  abort(id: string, index?: number): void {
    this.aborted.push(index === undefined ? id : `${id}/${index}`);
  }
}

const bytesOf = (text: string) => [...new TextEncoder().encode(text)].map((byte) => BYTE_0 + byte);

/** How a scripted sequence ends: on its last token. */
interface Script {
  readonly tokenIds: readonly number[];
  readonly finishReason?: TokenEvent["finishReason"];
  readonly stopReason?: number;
  /** The same for every token. */
  readonly logprob?: number;
}

/** The events of sequences that take turns, as an engine sends them. */
function interleave(scripts: readonly Script[]): TokenEvent[] {
  const events: TokenEvent[] = [];
  const length = Math.max(...scripts.map(({ tokenIds }) => tokenIds.length));
  for (let step = 0; step < length; step++) {
    for (const [index, script] of scripts.entries()) {
      const tokenId = script.tokenIds[step];
      if (tokenId === undefined) continue;
      const isLast = step === script.tokenIds.length - 1;
      events.push({
        index,
        tokenId,
        logprobs: script.logprob === undefined
          ? null
          : [{ tokenId, logprob: script.logprob, rank: 1 }],
        finishReason: isLast ? script.finishReason ?? "length" : null,
        stopReason: isLast ? script.stopReason ?? null : null,
        ...(events.length === 0 ? { prompt: { cachedTokens: 1, logprobs: null } } : {}),
      });
    }
  }
  return events;
}

function start(
  engine: GenerationEngine,
  options: SamplingParamsOptions,
  signal?: AbortSignal,
): AsyncGenerator<GenerationDelta, void, void> {
  const params = new SamplingParams(options);
  const generation: Generation = {
    requestId: "r",
    prompt: PROMPT,
    params: resolveSamplingParams(params, {}, {
      ...(typeof params.forcedOutput === "string" && { forcedTokenIds: [1] }),
    }),
    stops: params.stop ?? [],
    includeStop: params.includeStopStrInOutput ?? false,
    priority: 0,
    signal,
  };
  return generateDeltas(engine, tokenizer, generation);
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

function generate(scripts: readonly Script[], options: SamplingParamsOptions) {
  const deltas = start(new ScriptedEngine(interleave(scripts)), options);
  return foldDeltas(deltas, options.n ?? 1);
}

const texts = (output: RequestOutput) => output.outputs.map(({ text }) => text);

Deno.test("Sequences are told apart by their index, each with an end of its own", async () => {
  const output = await generate([
    { tokenIds: bytesOf("first") },
    { tokenIds: [...bytesOf("2😀"), IM_END], finishReason: "stop" },
    { tokenIds: bytesOf("x"), finishReason: "stop", stopReason: 9 },
  ], { n: 3 });
  assertEquals(
    output.outputs.map((
      { index, text, finishReason, stopReason },
    ) => [index, text, finishReason, stopReason]),
    [
      [0, "first", "length", null],
      [1, "2😀", "stop", null],
      [2, "", "stop", 9],
    ],
  );
  assertEquals([output.finished, output.cachedTokens, output.prompt], [true, 1, "hello"]);
});

Deno.test("A stop string ends its own sequence; what the engine sends after it is dropped", async () => {
  const scripts = [
    { tokenIds: bytesOf("a END more") },
    { tokenIds: bytesOf("no end in here") },
  ];
  const engine = new ScriptedEngine(interleave(scripts));
  const deltas = await collect(start(engine, { n: 2, stop: "END" }));
  const [first, second] = [0, 1].map((index) => deltas.filter((delta) => delta.index === index));
  assertEquals(first?.map(({ text }) => text).join(""), "a ");
  assertEquals([first?.at(-1)?.finishReason, first?.at(-1)?.stopReason], ["stop", "END"]);
  assertEquals(first?.flatMap(({ tokenIds }) => tokenIds), bytesOf("a END"), "all are counted");
  assertEquals(second?.map(({ text }) => text).join(""), "no end in here");
  assertEquals(second?.at(-1)?.finishReason, "length");
});

Deno.test("When the last sequence has met its stop string the engine's work is ended", async () => {
  const scripts = [{ tokenIds: bytesOf("a.bcd") }, { tokenIds: bytesOf("ab.cd") }];
  const engine = new ScriptedEngine(interleave(scripts), { keepsOpen: true });
  const output = await foldDeltas(start(engine, { n: 2, stop: ["."] }), 2);
  assertEquals(texts(output), ["a", "ab"]);
  assertEquals(engine.aborted, ["r/0", "r/1"], "each when it had met it");
  assertEquals(engine.leaveCount, 1);
});

Deno.test("Nothing is ended by its id once the engine has ended the request: another may have it", async () => {
  const engine = new ScriptedEngine(interleave([{ tokenIds: bytesOf("a.bcd") }]));
  const controller = new AbortController();
  const deltas = start(engine, { stop: "." }, controller.signal);
  await deltas.next();
  controller.abort();
  await collect(deltas);
  assertEquals(engine.aborted, []);
});

Deno.test("A stop string wins over a simultaneous length", async () => {
  const { outputs: [output] } = await generate([{ tokenIds: bytesOf("ab!") }], { stop: "b!" });
  assertEquals([output?.text, output?.finishReason, output?.stopReason], ["a", "stop", "b!"]);
});

Deno.test("Nothing is sent that a stop string would take back, and the last delta sends the rest", async () => {
  const engine = new ScriptedEngine(interleave([{ tokenIds: bytesOf("abcST") }]));
  const deltas = await collect(start(engine, { stop: "STOP" }));
  assertEquals(deltas.map(({ text }) => text), ["", "", "", "a", "bcST"]);
});

Deno.test("What ended an answer is shown only where that was asked for", async () => {
  const script = { tokenIds: [...bytesOf("a"), IM_END], finishReason: "stop" as const };
  const show = async (options: SamplingParamsOptions) => texts(await generate([script], options));
  assertEquals(await show({}), ["a"]);
  assertEquals(await show({ skipSpecialTokens: false }), ["a"]);
  assertEquals(await show({ includeStopStrInOutput: true }), ["a"]);
  const both = { includeStopStrInOutput: true, skipSpecialTokens: false };
  assertEquals(await show(both), ["a<|im_end|>"]);
  assertEquals(await show({ ...both, stop: "<|im_" }), ["a<|im_"]);
  const stopToken = [{ tokenIds: bytesOf("ab"), finishReason: "stop" as const, stopReason: 1 }];
  assertEquals(texts(await generate(stopToken, {})), ["a"]);
  assertEquals(texts(await generate(stopToken, { includeStopStrInOutput: true })), ["ab"]);
});

Deno.test("Of a forced output every token is shown, the one that ends it too", async () => {
  const script = { tokenIds: [...bytesOf("a"), IM_END], finishReason: "stop" as const };
  const forced = { forcedOutput: "a<|im_end|>", skipSpecialTokens: false };
  assertEquals(texts(await generate([script], forced)), ["a<|im_end|>"]);
});

Deno.test("The best of several are returned, best first, numbered anew, all at the end", async () => {
  const scripts = [
    { tokenIds: bytesOf("worst"), logprob: -3 },
    { tokenIds: bytesOf("best"), logprob: -1 },
    { tokenIds: bytesOf("same"), logprob: -1 },
    { tokenIds: bytesOf("never chosen"), logprob: -Infinity },
  ];
  const engine = new ScriptedEngine(interleave(scripts));
  const deltas = await collect(start(engine, { n: 3, bestOf: 4 }));
  assertEquals(engine.requests[0]?.params.logprobs, 0, "the ranking needs them");
  assert(deltas.every(({ logprobs }) => logprobs === null), "and nobody asked to see them");
  assertEquals(deltas.map(({ index }) => index), [
    ...Array(4).fill(0),
    ...Array(4).fill(1),
    ...Array(5).fill(2),
  ]);
  assertEquals(deltas.map(({ prompt }) => prompt !== undefined), [
    true,
    ...Array(deltas.length - 1).fill(false),
  ]);
  const output = await generate(scripts, { n: 3, bestOf: 4 });
  assertEquals(texts(output), ["best", "same", "worst"]);
  assertEquals(output.outputs[0]?.cumulativeLogprob, null);
  const shown = await generate(scripts, { n: 1, bestOf: 4, logprobs: 0 });
  assertEquals([texts(shown), shown.outputs[0]?.cumulativeLogprob], [["best"], -4]);
  assertEquals(shown.outputs[0]?.logprobs?.length, 4);
});

Deno.test("A ranked sequence is judged by the tokens up to its stop string", async () => {
  const output = await generate([
    { tokenIds: bytesOf("a."), logprob: -1 }, // −2
    { tokenIds: bytesOf(".and so on"), logprob: -1.5 }, // −1.5, as it ends with its first token
  ], { n: 1, bestOf: 2, stop: "." });
  assertEquals(output.outputs[0]?.stopReason, ".");
  assertEquals(output.outputs[0]?.tokenIds, bytesOf("."));
});

Deno.test("Of a beam search n sequences come, whatever the width", async () => {
  const scripts = [{ tokenIds: bytesOf("one") }, { tokenIds: bytesOf("two") }];
  const output = await generate(scripts, { n: 2, bestOf: 5, useBeamSearch: true });
  assertEquals([texts(output), output.finished], [["one", "two"], true]);
});

Deno.test("A signal ends all sequences with its reason", async () => {
  const controller = new AbortController();
  const events = interleave([{ tokenIds: bytesOf("ab") }, { tokenIds: bytesOf("cd") }]).slice(0, 3);
  const engine = new ScriptedEngine(events, { keepsOpen: true });
  const deltas = start(engine, { n: 2 }, controller.signal);
  await deltas.next();
  controller.abort(new RangeError("enough"));
  await assertRejects(() => collect(deltas), RangeError, "enough");
  assertEquals(engine.aborted, ["r"]);
  assertThrows(() => start(engine, {}, controller.signal), RangeError, "enough");
});

Deno.test("A request is refused when it is started, not when it is read", () => {
  const engine: GenerationEngine = {
    submit() {
      throw new RangeError("full");
    },
    abort() {},
  };
  assertThrows(() => start(engine, {}), RangeError, "full");
});

function randomScripts(random: Random, count: number): Script[] {
  return Array.from({ length: count }, () => {
    const text = Array.from(
      { length: 1 + random.below(8) },
      () => random.pick(["a", "b", "ab", "😀", "한", "e\u0301", "END", "E", "<|im_end|>"]),
    ).join("");
    const tokenIds = tokenizer.encode(text, { addSpecialTokens: false });
    const finishReason = random.below(2) === 0 ? "length" : "stop";
    return { tokenIds, finishReason, logprob: -random.below(5) };
  });
}

Deno.test("Whatever the knobs, the deltas of each index add up to its text, whole characters only", async () => {
  const cases: [Script[], SamplingParamsOptions][] = [];
  withRandom((random) => {
    for (let round = 0; round < 400; round++) {
      const n = 1 + random.below(3);
      const bestOf = n + random.below(2);
      const options: SamplingParamsOptions = {
        n,
        bestOf,
        stop: random.below(3) === 0 ? [] : ["END", "ab", "😀"].slice(random.below(3)),
        includeStopStrInOutput: random.below(2) === 0,
        skipSpecialTokens: random.below(2) === 0,
        minTokens: random.below(3) * 3,
        ...(random.below(2) === 0 ? { logprobs: 0 } : {}),
      };
      cases.push([randomScripts(random, bestOf), options]);
    }
  });
  for (const [scripts, options] of cases) {
    const told = JSON.stringify({ scripts, options });
    const deltas = await collect(start(new ScriptedEngine(interleave(scripts)), options));
    const whole = await generate(scripts, options);
    assertEquals(whole.outputs.length, options.n, told);
    for (const output of whole.outputs) {
      const own = deltas.filter(({ index }) => index === output.index);
      assertEquals(own.map(({ text }) => text).join(""), output.text, told);
      assert(own.every(({ text }) => text.isWellFormed()), told);
      assertEquals(own.flatMap(({ tokenIds }) => tokenIds), output.tokenIds, told);
      assertEquals(own.filter(({ finishReason }) => finishReason !== null).length, 1, told);
      assertEquals(own.at(-1)?.stopReason, output.stopReason, told);
      if (typeof output.stopReason === "string") {
        const ends = output.text.endsWith(output.stopReason);
        assert(ends || options.includeStopStrInOutput === false, told);
      }
    }
  }
});
