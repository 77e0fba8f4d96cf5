import { assert, assertEquals } from "@std/assert";
import { Engine, type EngineRequest, type TokenEvent } from "../../lib/engine/engine.ts";
import type { WindowPool } from "../../lib/engine/runner.ts";
import { windowRoom } from "../../lib/device/kv_window.ts";
import { adjustRow, sample, SamplingState } from "../../lib/sampling/sampler.ts";
import { tokenLogprobs } from "../../lib/sampling/logprobs.ts";
import { SamplingParams } from "../../lib/sampling/params.ts";
import { SamplerScratch } from "../../lib/sampling/scratch.ts";
import {
  type ResolvedSamplingParams,
  resolveSamplingParams,
} from "../../lib/sampling/resolved_params.ts";
import { referenceBeamSearch } from "../helpers/beam_reference.ts";
import { hashedRow, ScriptedRunner, seededRandom } from "../helpers/scripted_runner.ts";

const VOCAB_SIZE = 50;
const END_TOKEN_IDS = [49, 48];
const SEED = 20260301;
/** Everybody is served long before so many steps, or somebody starves. */
const STEP_LIMIT = 60_000;

interface Life {
  readonly request: EngineRequest;
  readonly arrivalStep: number;
  readonly abortStep: number | undefined;
  /** Sequences that are ended by themselves. */
  readonly drops: readonly Drop[];
  readonly events: TokenEvent[];
  ended: boolean;
  error: unknown;
}

interface Drop {
  readonly step: number;
  readonly index: number;
  /** Events of the sequence until then; all that it may ever have. */
  toldCount: number | undefined;
}

interface World {
  readonly blockCount: number;
  readonly window?: WindowPool;
  readonly maxBatchSize: number;
  readonly maxTokensPerStep: number;
  readonly maxOutputRows?: number;
  readonly maxPromptLength?: number;
  readonly prefillChunkSize?: number;
  readonly enablePrefixCaching: boolean;
  readonly requestCount: number;
  readonly aborts: boolean;
  /** The device fails at every so many-th step. */
  readonly failEvery?: number;
  /** Most tokens of a prompt after the beginning that it shares with others. Default 30. */
  readonly tailMost?: number;
  /** Of the requests: how many are for several sequences, and how many are searches. */
  readonly severalShare?: number;
  readonly beamShare?: number;
}

Deno.test("Simulation: in every world each request gets the tokens it gets alone", async () => {
  const plain = { aborts: false, requestCount: 120 };
  const worlds: World[] = [
    { ...plain, blockCount: 12, maxBatchSize: 6, maxTokensPerStep: 40, enablePrefixCaching: true },
    { ...plain, blockCount: 12, maxBatchSize: 6, maxTokensPerStep: 40, enablePrefixCaching: false },
    { ...plain, blockCount: 64, maxBatchSize: 16, maxTokensPerStep: 7, enablePrefixCaching: true },
    {
      ...plain,
      blockCount: 20,
      maxBatchSize: 8,
      maxTokensPerStep: 64,
      prefillChunkSize: 5,
      enablePrefixCaching: true,
    },
    {
      ...plain,
      blockCount: 14,
      maxBatchSize: 5,
      maxTokensPerStep: 1,
      maxOutputRows: 1,
      enablePrefixCaching: true,
    },
    {
      ...plain,
      blockCount: 12,
      maxBatchSize: 9,
      maxTokensPerStep: 30,
      maxOutputRows: 3,
      maxPromptLength: 70,
      enablePrefixCaching: true,
    },
    {
      ...plain,
      blockCount: 300,
      maxBatchSize: 32,
      maxTokensPerStep: 512,
      enablePrefixCaching: true,
    },
  ];
  let preemptionCount = 0;
  let hitTokens = 0;
  for (const world of worlds) {
    const { lives, stats } = await simulate(world, SEED);
    for (const life of lives) assertAsAlone(life, world);
    preemptionCount += stats.preemptionCount;
    hitTokens += stats.prefixHitTokens;
  }
  assert(preemptionCount > 50, `only ${preemptionCount} preemptions: the pools are too large`);
  assert(hitTokens > 500, `only ${hitTokens} tokens were found in the prefix cache`);
});

Deno.test("Simulation: a thousand requests with aborts and failures end, leak nothing and repeat", async () => {
  const world: World = {
    blockCount: 16,
    maxBatchSize: 8,
    maxTokensPerStep: 48,
    enablePrefixCaching: true,
    requestCount: 1000,
    aborts: true,
    failEvery: 97,
  };
  const first = await simulate(world, SEED);
  const count = (test: (life: Life) => boolean) => first.lives.filter(test).length;
  assert(count((life) => life.error !== undefined) > 20, "the device failed too rarely");
  assert(count((life) => life.abortStep !== undefined) > 50, "too few aborts");
  const isDropped = ({ drops }: Life) => drops.some(({ toldCount }) => toldCount !== undefined);
  assert(count(isDropped) > 50, "too few sequences were ended by themselves");
  assert(count((life) => life.events.at(-1)?.finishReason != null) > 500, "too few finished");
  assert(first.stats.preemptionCount > 50, "too few preemptions");
  for (const life of first.lives) {
    if (life.error === undefined && life.abortStep === undefined) assertAsAlone(life, world);
    else assertBeginsAsAlone(life, world);
  }
  const second = await simulate(world, SEED);
  assertEquals(second.trace, first.trace, `seed ${SEED}: the same seed gave another trace`);
});

Deno.test("Simulation: sequences and searches that have to share a few blocks get what they get alone", async () => {
  const start = Math.floor(Math.random() * 2 ** 31);
  let preemptionCount = 0;
  let copyCount = 0;
  for (let round = 0; round < 40; round++) {
    const seed = start + round;
    const random = seededRandom(seed);
    const int = (min: number, max: number) => min + Math.floor(random() * (max - min + 1));
    const world: World = {
      blockCount: int(3, 14),
      maxBatchSize: int(1, 9),
      maxTokensPerStep: [1, 4, 16, 64][int(0, 3)]!,
      maxOutputRows: int(1, 9),
      prefillChunkSize: int(1, 40),
      enablePrefixCaching: random() < 0.5,
      requestCount: 24,
      aborts: random() < 0.5,
      severalShare: 0.4,
      beamShare: 0.5,
    };
    const { lives, stats, trace } = await simulate(world, seed);
    for (const life of lives) {
      const where = `seed ${seed}, ${life.request.id}`;
      if (life.abortStep === undefined) assertAsAlone(life, world, where);
      else assertBeginsAsAlone(life, world, where);
    }
    preemptionCount += stats.preemptionCount;
    copyCount += trace.split("=>").length - 1;
  }
  assert(preemptionCount > 400, `seed ${start}: only ${preemptionCount} preemptions`);
  assert(copyCount > 400, `seed ${start}: only ${copyCount} blocks were copied`);
});

Deno.test("Simulation: with a second pool for windows each request gets the tokens it gets alone", async () => {
  const start = Math.floor(Math.random() * 2 ** 31);
  const seen = { preemptions: 0, copies: 0, hits: 0 };
  for (let round = 0; round < 60; round++) {
    const seed = start + round;
    const random = seededRandom(seed);
    const int = (min: number, max: number) => min + Math.floor(random() * (max - min + 1));
    const window = int(1, [4, 20, 60][int(0, 2)]!);
    const chunkSize = int(1, [3, 20, 40][int(0, 2)]!);
    const isOnly = random() < 0.3;
    const least = windowRoom(window, 1);
    const world: World = {
      blockCount: isOnly ? 200 : int(4, 16),
      window: { window, blockCount: int(least, least + 12), isOnly },
      maxBatchSize: int(1, 9),
      maxTokensPerStep: [1, 4, 16, 64][int(0, 3)]!,
      maxOutputRows: int(1, 9),
      prefillChunkSize: chunkSize,
      enablePrefixCaching: random() < 0.7,
      requestCount: 24,
      tailMost: [30, 110][int(0, 1)]!,
      aborts: random() < 0.5,
      severalShare: 0.3,
      beamShare: 0.2,
    };
    const { lives, stats, trace, windowBlocksMost } = await simulate(world, seed);
    for (const life of lives) {
      const where = `seed ${seed}, ${life.request.id}, ${JSON.stringify(world)}`;
      if (life.abortStep === undefined) assertAsAlone(life, world, where);
      else {
        assert(life.error === undefined, `${where}: ${life.error}`);
        assertBeginsAsAlone(life, world, where);
      }
    }
    const room = windowRoom(window, Math.min(chunkSize, world.maxTokensPerStep));
    assert(windowBlocksMost <= room, `seed ${seed}: ${windowBlocksMost} blocks of ${room}`);
    seen.preemptions += stats.preemptionCount;
    seen.hits += stats.prefixHitTokens;
    seen.copies += trace.split("=>").length - 1;
  }
  const { preemptions, copies, hits } = seen;
  const where = `seed ${start}: ${JSON.stringify(seen)}`;
  assert(preemptions > 300 && copies > 300 && hits > 60, where);
});

/** Steps an engine by hand until everybody is gone. */
async function simulate(world: World, seed: number) {
  const random = seededRandom(seed);
  let runCount = 0;
  const runner = new ScriptedRunner({
    ...world,
    vocabSize: VOCAB_SIZE,
    maxContextLength: 180,
    onRun: () => {
      if (++runCount % (world.failEvery ?? Infinity) === 0) throw new Error("The device failed");
    },
  });
  const engine = new Engine(runner, {
    enablePrefixCaching: world.enablePrefixCaching,
    ...(world.prefillChunkSize === undefined ? {} : { prefillChunkSize: world.prefillChunkSize }),
    maxWaitingRequests: world.requestCount,
    endTokenIds: END_TOKEN_IDS,
    selfDriven: false,
  });
  const lives = makeLives(world, random);
  const readers: Promise<void>[] = [];
  let step = 0;
  for (; lives.some((life) => !life.ended); step++) {
    assert(step < STEP_LIMIT, `seed ${seed}: somebody starves`);
    for (const life of lives) {
      if (life.arrivalStep === step) readers.push(read(engine.submit(life.request), life));
      if (life.abortStep === step) engine.abort(life.request.id);
      for (const drop of life.drops) {
        if (drop.step !== step) continue;
        engine.abort(life.request.id, drop.index);
        drop.toldCount = life.events.filter(({ index }) => index === drop.index).length;
      }
    }
    await engine.step();
    await flush();
  }
  await Promise.all(readers);
  await engine.step();
  const stats = engine.stats();
  assertEquals([stats.runningCount, stats.waitingCount, stats.usedBlockCount], [0, 0, 0]);
  assertEquals(stats.windowBlocks?.usedBlockCount ?? 0, 0);
  assert(engine.resetPrefixCache());
  const { cachedBlockCount, windowBlocks } = engine.stats();
  assertEquals([cachedBlockCount, windowBlocks?.cachedBlockCount ?? 0], [0, 0]);
  await engine.close();
  const { windowBlocksMost } = runner;
  return { lives, stats, windowBlocksMost, trace: runner.trace.join("\n") };
}

/** Lets the readers take what was pushed. */
async function flush(): Promise<void> {
  for (let turn = 0; turn < 40; turn++) await Promise.resolve();
}

async function read(channel: AsyncIterable<TokenEvent>, life: Life): Promise<void> {
  try {
    for await (const event of channel) life.events.push(event);
  } catch (error) {
    life.error = error;
  } finally {
    life.ended = true;
  }
}

function makeLives(world: World, random: () => number): Life[] {
  const int = (min: number, max: number) => min + Math.floor(random() * (max - min + 1));
  const tokens = (count: number) => Array.from({ length: count }, () => int(0, VOCAB_SIZE - 3));
  const prefixes = Array.from({ length: 4 }, () => tokens(48));
  const capacity = Math.min(180, world.blockCount * 16);
  let arrivalStep = 0;
  return Array.from({ length: world.requestCount }, (_, index): Life => {
    if (random() < 0.5) arrivalStep += int(0, 8);
    const prefix = random() < 0.6 ? prefixes[int(0, 3)]!.slice(0, int(1, 48)) : [];
    const prompt = [...prefix, ...tokens(int(1, world.tailMost ?? 30))].slice(
      0,
      world.maxPromptLength ?? capacity - 1,
    );
    const greedy = random() < 0.3;
    const room = capacity - prompt.length;
    const kind = random();
    const { severalShare = 0.12, beamShare = 0.1 } = world;
    const several = kind < severalShare ? severalSequences(int, greedy) : {};
    const beam = kind > 1 - beamShare ? beamSearch(int, random) : {};
    const isShort = "bestOf" in several || "bestOf" in beam; // or a few of them would be all there is
    const options = {
      temperature: greedy || "bestOf" in beam ? 0 : 0.5 + random(),
      maxTokens: !isShort && random() < 0.1 ? null : int(1, Math.min(isShort ? 40 : 110, room)),
      seed: index,
      ...(random() < 0.3 ? { topK: int(1, 10) } : {}),
      ...(random() < 0.3 ? { topP: 0.2 + 0.7 * random() } : {}),
      ...(random() < 0.2 ? { minP: 0.1 * random() } : {}),
      ...(random() < 0.2 ? { repetitionPenalty: 1.3 } : {}),
      ...(random() < 0.2 ? { stopTokenIds: [int(0, 47)] } : {}),
      ...(random() < 0.7 ? { ignoreEos: true } : {}),
      ...(random() < 0.3 ? { logprobs: int(0, 4) } : {}),
      ...(random() < 0.15 ? { promptLogprobs: int(-1, 2) } : {}),
    };
    const params = { ...resolveSamplingParams(new SamplingParams(options)), ...several, ...beam };
    const dropShare = world.aborts && params.beam === null ? params.bestOf > 1 ? 0.7 : 0.05 : 0;
    const mayDrop = dropShare > 0 && random() < dropShare;
    return {
      request: {
        id: `request-${index}`,
        promptTokenIds: prompt,
        params,
        priority: random() < 0.2 ? int(-1, 1) : 0,
        cacheSalt: [undefined, undefined, "a", undefined, "b"][index % 5],
      },
      arrivalStep,
      abortStep: world.aborts && random() < 0.15 ? arrivalStep + int(0, 30) : undefined,
      drops: Array.from({ length: mayDrop ? int(0, params.bestOf) : 0 }, () => ({
        step: arrivalStep + int(0, 40),
        index: int(0, params.bestOf - 1),
        toldCount: undefined,
      })),
      events: [],
      ended: false,
      error: undefined,
    };
  });
}

type Several = Partial<Pick<ResolvedSamplingParams, "n" | "bestOf" | "beam">>;

function severalSequences(int: (min: number, max: number) => number, isGreedy: boolean): Several {
  const n = isGreedy ? 1 : int(1, 4);
  return isGreedy ? {} : { n, bestOf: int(n, n + 2) };
}

function beamSearch(int: (min: number, max: number) => number, random: () => number): Several {
  const width = int(2, 5);
  const earlyStopping = ([false, true, "never"] as const)[int(0, 2)]!;
  const lengthPenalty = [1, 0, -1, 2 * random()][int(0, 3)]!;
  return { n: int(1, width), bestOf: width, beam: { width, lengthPenalty, earlyStopping } };
}

function assertAsAlone(life: Life, world: World, where: string = describe(life)): void {
  if (life.error !== undefined) throw new Error(where, { cause: life.error });
  const actual = bySequence(life.events);
  const expected = alone(life.request, world);
  const { promptLogprobs } = expected[0]![0] as Told;
  for (const { index, toldCount } of assertDrops(life, where)) {
    expected[index] = expected[index]!.slice(0, toldCount);
  }
  // What is said of the prompt comes with the first event, of whichever sequence is left.
  const [prompt, ...others] = life.events.map(({ prompt }) => prompt);
  if (life.events.length > 0) assertEquals(prompt?.logprobs, promptLogprobs, where);
  assert(others.every((other) => other === undefined), where);
  assertEquals(
    expected.map((_, index) => (actual[index] ?? []).map(ofToken)),
    expected.map((it) => it.map(ofToken)),
    where,
  );
}

/** The drops that came about: the sequence was not told of any more. */
function assertDrops({ drops, events }: Life, where: string): Drop[] {
  const done = drops.filter(({ toldCount }) => toldCount !== undefined);
  for (const { index, toldCount } of done) {
    const count = events.filter((event) => event.index === index).length;
    assertEquals(count, toldCount, `${where}: events of sequence ${index} when it was ended`);
  }
  return done;
}

function ofToken(event: unknown): unknown {
  const { promptLogprobs: _, ...token } = event as Told;
  return token;
}

/** What came before an abort or a failure is right as far as it goes. */
function assertBeginsAsAlone(life: Life, world: World, where: string = describe(life)): void {
  assertDrops(life, where);
  const actual = bySequence(life.events).map((events) => events.map(ofToken));
  const expected = alone(life.request, world)
    .map((events, index) => events.slice(0, actual[index]?.length ?? 0).map(ofToken))
    .slice(0, actual.length);
  assertEquals(actual, expected, where);
}

function describe(life: Life): string {
  return `seed ${SEED}, ${life.request.id}`;
}

/** The events of each sequence, without what may depend on others: how much was cached. */
function bySequence(events: readonly TokenEvent[]): unknown[][] {
  const sequences: unknown[][] = [];
  for (const { prompt, ...event } of events) {
    while (sequences.length <= event.index) sequences.push([]);
    const promptLogprobs = prompt === undefined ? {} : { promptLogprobs: prompt.logprobs };
    sequences[event.index]!.push({ ...event, ...promptLogprobs });
  }
  return sequences;
}

/** The same request without an engine: one row after another. */
function alone(request: EngineRequest, world: World): unknown[][] {
  const { promptTokenIds, params } = request;
  const capacity = Math.min(180, world.blockCount * 16);
  const maxTokens = Math.min(params.maxTokens ?? Infinity, capacity - promptTokenIds.length);
  const promptLogprobs = params.promptLogprobs === null
    ? null
    : promptTokenIds.map((id, index) =>
      index === 0
        ? null
        : tokenLogprobs(rowAfter(promptTokenIds.slice(0, index)), id, params.promptLogprobs!)
    );
  const sequences = params.beam === null
    ? Array.from({ length: params.bestOf }, (_, index) => drawAlone(request, index, maxTokens))
    : searchAlone(request, maxTokens);
  sequences[0]![0] = { ...sequences[0]![0]!, promptLogprobs };
  return sequences;
}

type Told = Omit<TokenEvent, "prompt"> & { promptLogprobs?: unknown };

function drawAlone(
  { promptTokenIds, params }: EngineRequest,
  index: number,
  maxTokens: number,
): Told[] {
  const state = new SamplingState(
    params,
    Number(params.seed) + index,
    promptTokenIds,
    END_TOKEN_IDS,
  );
  const history = [...promptTokenIds];
  const scratch = new SamplerScratch();
  const events: Told[] = [];
  while (true) {
    const { tokenId, logprobs } = sample(rowAfter(history), state, { scratch });
    history.push(tokenId);
    state.accept(tokenId);
    let finishReason: "stop" | "length" | null = null;
    let stopReason: number | null = null;
    if (tokenId === 49 && !params.ignoreEos) finishReason = "stop";
    else if (params.stopTokenIds.includes(tokenId) || (tokenId === 48 && !params.ignoreEos)) {
      [finishReason, stopReason] = ["stop", tokenId];
    } else if (events.length + 1 === maxTokens) finishReason = "length";
    events.push({ index, tokenId, logprobs, finishReason, stopReason });
    if (finishReason !== null) return events;
  }
}

function searchAlone({ promptTokenIds, params }: EngineRequest, maxTokens: number): Told[][] {
  const stateAfter = (generated: readonly number[]) => {
    const state = new SamplingState(params, 0, promptTokenIds, END_TOKEN_IDS);
    for (const id of generated) state.accept(id);
    return state;
  };
  const hypotheses = referenceBeamSearch({
    ...params.beam!,
    endTokenIds: params.ignoreEos ? [] : [...END_TOKEN_IDS, ...params.stopTokenIds],
    maxTokens,
    rowAfter: (generated) =>
      adjustRow(rowAfter([...promptTokenIds, ...generated]), stateAfter(generated)),
  });
  return hypotheses.slice(0, params.n).map(({ ids, isEnded }, index) =>
    ids.map((tokenId, place) => {
      const row = rowAfter([...promptTokenIds, ...ids.slice(0, place)]);
      const isLast = place === ids.length - 1;
      return {
        index,
        tokenId,
        logprobs: params.logprobs === null ? null : tokenLogprobs(row, tokenId, params.logprobs),
        finishReason: isLast ? isEnded ? "stop" : "length" : null,
        stopReason: isLast && isEnded && !END_TOKEN_IDS.includes(tokenId) ? tokenId : null,
      };
    })
  );
}

function rowAfter(tokenIds: readonly number[]): Float32Array {
  const row = new Float32Array(VOCAB_SIZE);
  hashedRow(tokenIds, row);
  return row;
}
