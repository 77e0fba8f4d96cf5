/** Speeds of a contestant in tokens a second, on prompts that were never seen before. */

import type { Contestant } from "./contestant.ts";

/** Something whose speed is measured. */
export type Task =
  | { readonly kind: "prefill"; readonly promptTokens: number }
  | {
    readonly kind: "decode";
    readonly sequences: number;
    /** Tokens of each prompt; the context grows from there. */
    readonly promptTokens: number;
    readonly tokens: number;
  };

/** Tokens that a sequence writes in a decode measurement; large batches tell as much by fewer. */
const DECODE_TOKENS = 48;
const DECODE_TOKENS_LARGE = 16;
const LARGE_BATCH = 32;
/** Prompt and written tokens together stay at 64. */
export const SHORT_PROMPT = 16;

/** Decoding of so many sequences at a context of at most 64. */
export function decodeTask(sequences: number): Task {
  const tokens = sequences < LARGE_BATCH ? DECODE_TOKENS : DECODE_TOKENS_LARGE;
  return { kind: "decode", sequences, promptTokens: SHORT_PROMPT, tokens };
}

/** A prompt of 512 tokens. */
export const PREFILL_512: Task = { kind: "prefill", promptTokens: 512 };

/** Ids that make no sense, so that no prefix is shared by chance. */
export function madeUp(length: number, seed: number): number[] {
  return Array.from({ length }, (_, i) => 100 + ((i * 7919 + seed * 104_729) % 20_000));
}

/** Draws seeds, none twice. */
export class Seeds {
  #next = 1;

  /** The first of `count` seeds. */
  take(count: number): number {
    const seed = this.#next;
    this.#next += count;
    return seed;
  }
}

/** Tokens a second. */
export async function speed(
  engine: Contestant,
  task: Task,
  { seeds, threads }: { readonly seeds: Seeds; readonly threads: number },
): Promise<number> {
  if (task.kind === "prefill") {
    const prompt = madeUp(task.promptTokens, seeds.take(1));
    const { ms } = await engine.ask({ ask: "prefill", prompt, threads });
    return 1000 * task.promptTokens / ms;
  }
  const seed = seeds.take(task.sequences);
  const prompts = Array.from(
    { length: task.sequences },
    (_, i) => madeUp(task.promptTokens, seed + i),
  );
  const question = { ask: "decode", prompts, tokenCount: task.tokens, threads } as const;
  const { ms, tokens } = await engine.ask(question);
  return 1000 * tokens / ms;
}

/** The thread count of those offered with which a task is fastest, by one try of each. */
export async function bestThreads(
  engine: Contestant,
  task: Task,
  { seeds, threads }: { readonly seeds: Seeds; readonly threads: readonly number[] },
): Promise<number> {
  let best = { speed: -Infinity, threads: 1 };
  for (const count of threads) {
    const tried = await speed(engine, task, { seeds, threads: count });
    if (tried > best.speed) best = { speed: tried, threads: count };
  }
  return best.threads;
}
