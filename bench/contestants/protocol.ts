/**
 * What the bench asks of an engine under test, and what it answers: one JSON object a line, over
 * standard input and output. Ours (`ours.ts`) and peers
 * (`peers/llama_cpp.ts`, `peers/wllama.ts`) are processes that speak the same lines, so neither can be asked for anything the other is not.
 */

import type { LLMOptions } from "../../lib/options.ts";

/** How keys and values are stored. */
export type KvType = "bf16" | "f32";

/** One question. */
export type Question =
  /** Loads a model; everything after is about it. */
  | {
    readonly ask: "load";
    readonly path: string;
    readonly kvType: KvType;
    /** What else the engine takes: options of `LLM.load`; of wllama its `threads`. */
    readonly options?: Pick<LLMOptions, "activationDtype" | "maxModelLength" | "threads">;
  }
  /** Runs a prompt that was never seen before, up to its first token. */
  | { readonly ask: "prefill"; readonly prompt: readonly number[]; readonly threads: number }
  /** Runs prompts, not timed, then writes tokens in all of them at once, timed. */
  | {
    readonly ask: "decode";
    readonly prompts: readonly (readonly number[])[];
    readonly tokenCount: number;
    readonly threads: number;
  }
  /** For each place from `promptLength` on: the likeliest token after all that stand before it. */
  | { readonly ask: "predict"; readonly ids: readonly number[]; readonly promptLength: number }
  /** The mean negative log-likelihood of a text's tokens. */
  | { readonly ask: "likelihood"; readonly ids: readonly number[] }
  | { readonly ask: "unload" };

/** What each question is answered with. */
export interface Answers {
  readonly load: {
    readonly engine: string;
    readonly weightBytes: number;
    /** The share of the weights that one token meets. Default: all of them. */
    readonly activeShare?: number;
    /** Thread counts that `threads` may name. */
    readonly threads: readonly number[];
    /** What the engine says about the instructions it uses. */
    readonly system?: string;
  };
  readonly prefill: { readonly ms: number };
  readonly decode: { readonly ms: number; readonly tokens: number };
  readonly predict: { readonly ids: readonly number[] };
  readonly likelihood: { readonly nll: number };
  readonly unload: Record<string, never>;
}

/** An answer, or why there is none. */
export type Reply = { readonly answer: Answers[keyof Answers] } | { readonly error: string };

/** Reads questions from standard input until it ends, and writes the answers. */
export async function answerQuestions(
  answer: (question: Question) => Promise<Answers[keyof Answers]> | Answers[keyof Answers],
): Promise<void> {
  const encoder = new TextEncoder();
  let rest = "";
  for await (const chunk of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() as string;
    for (const line of lines) {
      let reply: Reply;
      try {
        reply = { answer: await answer(JSON.parse(line) as Question) };
      } catch (error) {
        reply = { error: error instanceof Error ? error.message : String(error) };
      }
      const bytes = encoder.encode(`${JSON.stringify(reply)}\n`);
      for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
    }
  }
}
