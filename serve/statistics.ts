/** One line every ten seconds, while there is something to tell: how much is done, and how fast. */

import type { ModelStats } from "../mod.ts";

/** Where a line is written. */
interface Writer {
  say(text: string): void;
}

/** The emulated card's first processing element, which names its group. */
const GROUP = "npu:0:0";
const INTERVAL_MS = 10_000;

/** Writes the lines until it is disposed of. It does not keep the process alive. */
export function logStatistics(model: { stats(): ModelStats }, writer: Writer): Disposable {
  const statistics = new Statistics(model.stats(), performance.now());
  const timer = setInterval(() => {
    const line = statistics.line(model.stats(), performance.now());
    if (line !== undefined) writer.say(line);
  }, INTERVAL_MS);
  Deno.unrefTimer(timer);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

/** The part of the numbers that lines are made of. */
export interface StatisticsSource {
  readonly engine: Pick<
    ModelStats["engine"],
    | "runningCount"
    | "waitingCount"
    | "usedBlockCount"
    | "blockCount"
    | "windowBlocks"
    | "prefixQueryTokens"
    | "prefixHitTokens"
    | "promptTokens"
    | "generatedTokens"
  >;
  readonly wires: Pick<ModelStats["wires"], "hitCount" | "missCount">;
}

/** Makes lines: throughput of the time since the last one, hit rates of all time. */
export class Statistics {
  #last: StatisticsSource;
  #lastMs: number;

  constructor(first: StatisticsSource, nowMs: number) {
    this.#last = first;
    this.#lastMs = nowMs;
  }

  /** What to write of the time since the last call; undefined when nothing went on in it. */
  line(now: StatisticsSource, nowMs: number): string | undefined {
    const { engine, wires } = now;
    const seconds = (nowMs - this.#lastMs) / 1000;
    const prompt = engine.promptTokens - this.#last.engine.promptTokens;
    const generated = engine.generatedTokens - this.#last.engine.generatedTokens;
    this.#last = now;
    this.#lastMs = nowMs;
    if (prompt + generated + engine.runningCount + engine.waitingCount === 0) return undefined;
    return `[${GROUP}] ` + [
      `Avg prompt throughput: ${(prompt / seconds).toFixed(1)} tokens/s`,
      `Avg generation throughput: ${(generated / seconds).toFixed(1)} tokens/s`,
      `Running: ${engine.runningCount} reqs`,
      `Waiting: ${engine.waitingCount} reqs`,
      `RNGD KV cache usage: ${percent(...fullerPool(engine))}`,
      `Prefix cache hit rate: ${percent(engine.prefixHitTokens, engine.prefixQueryTokens)}`,
      `Wire pipeline hit rate: ${percent(wires.hitCount, wires.hitCount + wires.missCount)}`,
    ].join(", ");
  }
}

/** Blocks in use and blocks in all, of the pool that is fuller. */
function fullerPool(
  { usedBlockCount, blockCount, windowBlocks }: StatisticsSource["engine"],
): [used: number, all: number] {
  const isFuller = windowBlocks !== null &&
    windowBlocks.usedBlockCount / windowBlocks.blockCount > usedBlockCount / blockCount;
  return isFuller
    ? [windowBlocks.usedBlockCount, windowBlocks.blockCount]
    : [usedBlockCount, blockCount];
}

function percent(part: number, whole: number): string {
  return `${(100 * part / Math.max(1, whole)).toFixed(1)}%`;
}
