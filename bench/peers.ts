/**
 * `deno run -A bench/peers.ts [ROUNDS]`: SmolLM2 on our engine and on llama.cpp's C API, side by side.
 *
 * Both run in processes of their own on the same files, in turns; each round gives a ratio, and
 * the medians of the ratios are what counts: on a shared machine single figures swing by half.
 * llama.cpp is given its better one of one and two threads, found before the first round.
 */

import { defaultCacheDir, fetchSmolLM2 } from "../tools/models/fetch.ts";
import { Contestant } from "./contestant.ts";
import { convertGguf } from "./gguf_formats.ts";
import type { Question } from "./protocol.ts";

const DECODE_TOKENS = 48;
const PROMPT_TOKENS = 16;

/** What is measured: tokens a second. */
const ROWS = [
  { name: "decode b1", sequences: 1 },
  { name: "decode b4", sequences: 4 },
  { name: "decode b16", sequences: 16 },
  { name: "prefill 512", sequences: 0 },
] as const;

const median = (values: readonly number[]) =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number;

/** Ids that make no sense, so that no prefix is shared by chance. */
const madeUp = (length: number, seed: number) =>
  Array.from({ length }, (_, i) => 100 + ((i * 7919 + seed * 104_729) % 20_000));

let seed = 0;

async function speed(engine: Contestant, sequences: number, threads: number): Promise<number> {
  seed += 100;
  if (sequences === 0) {
    const prompt = madeUp(512, seed);
    const { ms } = await engine.ask({ ask: "prefill", prompt, threads });
    return 512_000 / ms;
  }
  const prompts = Array.from({ length: sequences }, (_, i) => madeUp(PROMPT_TOKENS, seed + i));
  const question = { ask: "decode", prompts, tokenCount: DECODE_TOKENS, threads } as const;
  const { ms, tokens } = await engine.ask(question);
  return (tokens * 1000) / ms;
}

/** The likeliest tokens after a prompt, to see that both compute the same model. */
async function agreement(ours: Contestant, theirs: Contestant): Promise<string> {
  const ids = madeUp(96, 7);
  const question = { ask: "predict", ids, promptLength: 32 } as const satisfies Question;
  const [mine, other] = [await ours.ask(question), await theirs.ask(question)];
  const same = mine.ids.filter((id, i) => id === other.ids[i]).length;
  return `${same} of ${mine.ids.length} likeliest tokens agree`;
}

const rounds = Number(Deno.args[0] ?? 5);
const shipped = await fetchSmolLM2({ cacheDir: defaultCacheDir() });
const folder = await Deno.makeTempDir();
try {
  await using ours = Contestant.ours();
  await using theirs = Contestant.llamaCpp();
  for (const format of ["q4_1", "bf16", "q8_0", "q4_0"] as const) {
    const path = format === "q4_1" ? shipped : `${folder}/${format}.gguf`;
    if (format !== "q4_1") convertGguf(shipped, format, path);
    const load = { ask: "load", path, kvType: "bf16" } as const satisfies Question;
    const mine = await ours.ask(load);
    const other = await theirs.ask(load);
    const threads = mine.threads.at(-1) as number;
    console.log(
      `\n${format}: ${mine.engine} against ${other.engine}; ${await agreement(ours, theirs)}`,
    );
    for (const { name, sequences } of ROWS) {
      const trials: (readonly [number, number])[] = [];
      for (const count of other.threads) {
        trials.push([await speed(theirs, sequences, count), count]);
      }
      const [, best] = trials.reduce((a, b) => a[0] >= b[0] ? a : b);
      await speed(ours, sequences, threads); // warm
      const pairs: (readonly [number, number])[] = [];
      for (let round = 0; round < rounds; round++) {
        const first = await speed(ours, sequences, threads);
        pairs.push([first, await speed(theirs, sequences, best)]);
      }
      const ratio = median(pairs.map(([a, b]) => a / b));
      console.log(
        `  ${name.padEnd(12)} ${ratio.toFixed(2)} × (ours ${
          median(pairs.map(([a]) => a)).toFixed(0)
        }, llama.cpp ${
          median(pairs.map(([, b]) => b)).toFixed(0)
        } tokens/s on ${best} threads; ${rounds} rounds)`,
      );
    }
    await ours.ask({ ask: "unload" });
    await theirs.ask({ ask: "unload" });
  }
} finally {
  await Deno.remove(folder, { recursive: true });
}
