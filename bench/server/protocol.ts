/** What the bench asks of the server under test, one JSON object a line, and what it answers. */

/** The way on which requests come in. */
export type Way = "direct" | "chat" | "completions";

/** So many streams at once: asked of the model at once, or expected over HTTP. */
export interface StreamQuestion {
  readonly way: Way;
  readonly streams: number;
  readonly tokens: number;
  /** Told apart by it, so that no round finds the prompts of another in the cache. */
  readonly round: number;
}

/** Said when a question was read: from here on its streams are watched, and may be asked for. */
export interface Watching {
  readonly round: number;
}

/** What was measured while all of them wrote. */
export interface StreamAnswer {
  readonly tokens: number;
  readonly ms: number;
  /** Time that the main thread computed; undefined where the system does not tell. */
  readonly mainThreadMs: number | undefined;
}

/** In place of it: a stream was refused or failed. */
export interface StreamFailure {
  readonly error: string;
}

/** Said once, when the server listens. */
export interface Listening {
  readonly port: number;
}

/** Sampling as people ask for it, and no early end, by the names of the library. */
export const SAMPLING = { temperature: 0.8, topK: 40, seed: 1, ignoreEos: true } as const;

/** Where the requests of a way go. */
export function pathOf(way: Way): string {
  return way === "completions" ? "/v1/completions" : "/v1/chat/completions";
}

/** A question that no other stream asks, as a chat. */
export function makeQuestion(round: number, stream: number): string {
  return `${1000 * round + stream}: what is the best way to bake bread on a ship?`;
}
