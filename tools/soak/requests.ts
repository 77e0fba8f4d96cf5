/** Requests whose answers are known: each is asked alone first, then again and again in the crowd. */

import type { Random } from "./random.ts";

/** A request that may be asked whole or streamed. */
export interface Known {
  readonly path: "/v1/chat/completions" | "/v1/completions";
  readonly fields: Readonly<Record<string, unknown>>;
  /** Searches and the best of several are known only at the end: they are not streamed. */
  readonly canStream: boolean;
}

/** Texts to begin with: some share their beginnings, so that they share blocks of the cache. */
const STORY =
  "Once upon a time, in a small village between two mountains, there lived a baker who had never " +
  "left the valley. Every morning before sunrise he lit the oven, counted the loaves, and listened " +
  "to the river. One day a stranger came to his door and asked him for";
const TEXTS: readonly string[] = [
  STORY,
  `${STORY} bread. The baker`,
  `${STORY} a map of the mountains, but he`,
  "The capital of France is",
  "def fibonacci(n):",
  "Ein Gedicht über das Meer: 🌊",
  "1, 2, 3, 4,",
];
const QUESTIONS: readonly string[] = [
  "What is the highest mountain of Europe?",
  "Write a haiku about rain.",
  "Explain in one sentence what a compiler does.",
  "List three colours.",
  `Continue the story: ${STORY}`,
];

const KINDS = ["greedy", "drawn", "several", "best", "beam", "stop", "logprobs", "batch"] as const;
const COUNT = 4 * KINDS.length;

/** Requests of every kind, on both routes. */
export function makeRequests(random: Random): Known[] {
  return Array.from({ length: COUNT }, (_, at) => {
    const isChat = at % 2 === 0;
    const kind = KINDS[Math.floor(at / 2) % KINDS.length] as typeof KINDS[number];
    const fields = { max_tokens: random.integer(6, 40), ...knobs(kind, isChat, random) };
    const shared = { ...fields, return_token_ids: true };
    const canStream = !("use_beam_search" in fields || "best_of" in fields);
    if (isChat) {
      const messages = [
        ...(random.next() < 0.5 ? [{ role: "system", content: "You are a helpful guide." }] : []),
        { role: "user", content: random.pick(QUESTIONS) },
      ];
      return { path: "/v1/chat/completions", fields: { messages, ...shared }, canStream };
    }
    const prompt = kind === "batch"
      ? [random.pick(TEXTS), random.pick(TEXTS), random.pick(TEXTS)]
      : random.pick(TEXTS);
    return { path: "/v1/completions", fields: { prompt, ...shared }, canStream };
  });
}

function knobs(
  kind: typeof KINDS[number],
  isChat: boolean,
  random: Random,
): Record<string, unknown> {
  const draw = {
    seed: random.integer(0, 1e6),
    temperature: 0.5 + random.next(),
    top_p: 0.7 + 0.3 * random.next(),
    ...(random.next() < 0.5 ? { top_k: random.integer(5, 200) } : {}),
    ...(random.next() < 0.3 ? { repetition_penalty: 1.1 } : {}),
    ...(random.next() < 0.3 ? { presence_penalty: 0.5, frequency_penalty: 0.5 } : {}),
  };
  switch (kind) {
    case "greedy":
      return { temperature: 0 };
    case "drawn":
    case "batch":
      return draw;
    case "several":
      return { ...draw, n: random.integer(2, 4) };
    case "best":
      // Chats have no best_of.
      return isChat ? { ...draw, n: 2, ignore_eos: true } : { ...draw, n: 2, best_of: 3 };
    case "beam":
      return { use_beam_search: true, n: random.integer(2, 3), temperature: 0 };
    case "stop":
      return { ...draw, stop: ["e ", ".", "th"], min_tokens: 3 };
    case "logprobs":
      return { ...draw, ...(isChat ? { logprobs: true, top_logprobs: 5 } : { logprobs: 5 }) };
  }
  return kind satisfies never;
}
